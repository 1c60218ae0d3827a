"""The settings that every result of a study rests on: they may change only as long as no training rests on them.

How far a study is: each step done, running, failed or waiting, told from the files that the steps leave.

What of a study has not finished, in as few lines as name all of it.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder, files_stamp, stamp
from nnunet_partial.study.locks import is_held
from nnunet_partial.study.results import finished_models
from nnunet_partial.study.steps import Model, models, steps, used_sources
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.text import format_names, text_table

#: Of the settings those that a training alone reads; plans and preprocessed data rest on all others.
LENGTH = ("epochs", "iterations", "val_iterations")


def settings_of(study: Study) -> dict[str, Any]:
    """What every result rests on; what may be added to (scenarios, losses, seeds, ...) is not among it."""
    network, sources = study.network, {name: find_dataset(study.datasets[name]) for name in used_sources(study)}
    return {
        **{key: getattr(study, key) for key in LENGTH},
        "configuration": study.configuration,
        "network": network
        and {"features": list(network.features), "patch": list(network.patch), "batch": network.batch},
        **{f"data set {name}": f"{path.name}, labels {stamp(path)}" for name, path in sources.items()},
        **{f"files of data set {name}": files_stamp(path) for name, path in sources.items()},
    }


def keep_settings(study: Study, folder: StudyFolder, begin: bool) -> None:
    """Compares the settings with those the study was begun with; with `begin` notes them, and forgets what was made
    with others.

    Raises PartialLabelError where they differ and a training rests on them, as half of the results would then be of
    another kind than the rest, and where a step is running with the earlier ones.
    """
    now = settings_of(study)
    different = _different(folder, now)
    if different:
        _require_nothing_rests(folder, different.values())
        print(f"NOTE: changed since the study was begun:\n{_listed(different.values())}")
        print("No training rests on it yet. What was made with the earlier settings is made anew.")
    if begin:
        if different:
            _forget(folder, data=_concern_data(different))
        write_json(folder.begun_file, {**folder.begun(), **now, "plans": folder.prepared_plans()})


def data_are_outdated(study: Study, folder: StudyFolder) -> bool:
    """Whether plans and preprocessed data that are there are of other settings, so that `run` makes all of it anew."""
    return _concern_data(_different(folder, settings_of(study)))


def _different(folder: StudyFolder, now: dict[str, Any]) -> dict[str, str]:
    """A line for each setting that is another one than when the study was begun, by its name."""
    before = folder.begun()
    return {
        key: f"{key}: {json.dumps(before[key])} when it was begun, {json.dumps(value)} now"
        for key, value in now.items()
        if key in before and before[key] != value
    }


def _concern_data(settings: Iterable[str]) -> bool:
    return any(key not in LENGTH for key in settings)


def _require_nothing_rests(folder: StudyFolder, different: Iterable[str]) -> None:
    if _something_is_trained(folder):
        raise PartialLabelError(
            f"The study in {folder.root} was begun with other settings, on which its results rest:\n"
            f"{_listed(different)}\n"
            "Set them back, or give the study another name (scenarios, losses, seeds, folds and networks can "
            "be added at any time)."
        )
    locks = folder.lock("").parent
    running = [path for path in locks.rglob("*.lock") if is_held(path)]
    if running:
        raise PartialLabelError(
            f"Settings of the study in {folder.root} changed:\n{_listed(different)}\nA step is still running with the "
            "earlier ones: "
            f"{format_names([str(path.relative_to(locks).with_suffix('')) for path in running])}. Wait for it, "
            "or end it."
        )


def _something_is_trained(folder: StudyFolder) -> bool:
    """A training that left no checkpoint, as one that was refused at its start, begins from nothing the next time."""
    finished = (path for kind in ("train", "predict", "evaluate") for path in folder.done(kind).rglob("*"))
    checkpoints = folder.root.glob("results/seed*/Dataset*/*/fold_*/checkpoint_*.pth")
    return any(path.is_file() for path in finished) or any(checkpoints)


def _forget(folder: StudyFolder, data: bool) -> None:
    """nnU-Net would keep the fingerprint of a data set that is there, and with it the earlier plans."""
    outdated = ("done", "logs", folder.preprocessed.name) if data else ("logs/train",)
    for name in outdated:
        shutil.rmtree(folder.root / name, ignore_errors=True)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


STATES = ("done", "running", "stopped", "waiting")


def state(folder: StudyFolder, step: str) -> str:
    """One of STATES. "stopped": it was begun and is neither done nor running, so it failed or was interrupted."""
    if folder.done(step).exists():
        return "done"
    if is_held(folder.lock(step)):
        return "running"
    return "stopped" if folder.log(step).exists() else "waiting"


def ended_badly(folder: StudyFolder, step: str) -> bool:
    return state(folder, step) == "stopped"


def status_table(study: Study) -> str:
    """Per kind of step how many are in each state; then what runs and what stopped, by name."""
    folder = StudyFolder(study.folder)
    states = {step: state(folder, step) for step in steps(study)}
    kinds = list(dict.fromkeys(step.partition("/")[0] for step in states))
    counts = Counter((step.partition("/")[0], found) for step, found in states.items())
    rows = [[kind, *(str(counts[kind, found]) for found in STATES)] for kind in kinds]
    text = text_table(["step", *STATES], rows)
    for found, meaning in (("running", "running now"), ("stopped", "failed or interrupted")):
        named = [step for step, here in states.items() if here == found]
        if named:
            text += f"\n{meaning}:\n" + "".join(f"  {step}\n    {folder.log(step)}\n" for step in named)
    return text


def unfinished_models(study: Study) -> list[Model]:
    done = set(finished_models(study))
    return [model for model in models(study) if model not in done]


def unfinished_lines(study: Study, unfinished: Iterable[Model]) -> list[str]:
    """A line per scenario, network and state of the trainings: the losses, with the seeds that are wanting."""
    folder = StudyFolder(study.folder)
    seeds: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for model in unfinished:
        states = ", ".join(state(folder, model.train_step(fold)) for fold in study.folds)
        place = f"{model.scenario.name}, {model.architecture_name} (training: {states})"
        seeds[place][model.method_name].append(model.seed)
    return [f"{place}: {_by_seeds(methods)}" for place, methods in seeds.items()]


def _by_seeds(seeds: dict[str, list[int]]) -> str:
    methods: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for method, wanting in seeds.items():
        methods[tuple(wanting)].append(method)
    return "; ".join(
        f"{', '.join(names)} (seed{'s' if len(wanting) > 1 else ''} {', '.join(map(str, wanting))})"
        for wanting, names in methods.items()
    )
