"""Tell the state of a study: whether its settings still hold, the state of each step, and which models are unfinished.

Results rest on settings; these may change only as long as no training was made with them. The state of a step is told
from the files that it leaves.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder, contents_hash, files_hash, images_hash, labels_hash
from nnunet_partial.study.folds import folds_hash
from nnunet_partial.study.locks import is_held
from nnunet_partial.study.results import finished_models, is_outdated
from nnunet_partial.study.steps import Model, folds_of, models, steps, used_sources
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.text import format_names, text_table

#: The settings that only trainings read. Plans and preprocessed data rest on all others.
TRAINING_LENGTH = ("epochs", "iterations", "val_iterations")

STEP_STATES = ("done", "running", "stopped", "waiting")


def check_settings(study: Study, folder: StudyFolder, save: bool) -> None:
    """Compare the settings with those that the study was begun with.

    Args:
        study: The study.
        folder: Its folder.
        save: Whether to save the settings, and delete what was made with others; False for a dry run.

    Raises:
        PartialLabelError: If settings changed although a training rests on them (its results could not be compared
            with those to come), or while a step is running with the earlier ones.
    """
    settings = _current_settings(study, save)
    changes = _accepted_changes(folder, settings)
    if save:
        if changes:
            _delete_outdated(folder, data=_concern_data(changes))
        write_json(folder.settings_file, {**folder.saved_settings(), **settings, "plans": folder.prepared_plans()})


def check_results(study: Study) -> list[str]:
    """Compare the settings with those that the results of a study rest on, its datasets as its own steps read them.

    Args:
        study: The study.

    Returns:
        Names of the datasets that are no longer there, so that their labels and files were not compared.

    Raises:
        PartialLabelError: If settings changed although a training rests on them, or while a step is running.
    """
    folder, linked = StudyFolder(study.folder), linked_sources(study)
    sources = {name: path for name, path in linked.items() if path is not None}
    gone = {f"dataset {name}": f"Dataset{study.datasets[name]:03d}" for name in linked if name not in sources}
    saved = folder.saved_settings()
    other_ids = {key: full_id for key, full_id in gone.items() if not saved.get(key, full_id).startswith(full_id)}
    _accepted_changes(folder, {**_settings(study, sources), **other_ids})
    return [name for name in linked if name not in sources]


def linked_sources(study: Study) -> dict[str, Path | None]:
    """Find the datasets of a study as its own steps read them, by the links in its folder.

    Args:
        study: The study.

    Returns:
        The raw folder by the name of the dataset; None where it is no longer there.
    """
    raw = StudyFolder(study.folder).raw
    links = {name: sorted(raw.glob(f"Dataset{study.datasets[name]:03d}_*")) for name in used_sources(study)}
    return {name: next((path for path in paths if path.is_dir()), None) for name, paths in links.items()}


def data_are_outdated(study: Study, folder: StudyFolder) -> bool:
    """Return whether existing plans and preprocessed data have other settings, so that `run` recreates all of them.

    Args:
        study: The study.
        folder: Its folder.
    """
    return _concern_data(_changes(folder, _current_settings(study)))


def step_state(folder: StudyFolder, step: str) -> str:
    """Tell the state of a step.

    Args:
        folder: Folder of the study.
        step: Name of the step.

    Returns:
        One of STEP_STATES. "stopped": it was begun and is neither done nor running, so it failed or was interrupted.
    """
    if folder.done(step).exists():
        return "done"
    if is_held(folder.lock(step)):
        return "running"
    return "stopped" if folder.log(step).exists() else "waiting"


def step_states(study: Study) -> dict[str, str]:
    """Tell the state of every step of a study.

    Args:
        study: The study.

    Returns:
        One of STEP_STATES by step, in the order of the study.
    """
    folder = StudyFolder(study.folder)
    outdated = {
        step
        for model in models(study)
        if is_outdated(study, model)
        for step in (model.predict_step, model.evaluate_step)
        if folder.done(step).exists()
    }
    return {step: "waiting" if step in outdated else step_state(folder, step) for step in steps(study)}


def status_table(study: Study) -> str:
    """Count the steps of each kind in each state, and list those that are running or stopped.

    Args:
        study: The study.

    Returns:
        Text for the terminal, which ends with a line break.
    """
    folder, states = StudyFolder(study.folder), step_states(study)
    kinds = list(dict.fromkeys(step.partition("/")[0] for step in states))
    counts = Counter((step.partition("/")[0], state) for step, state in states.items())
    rows = [[kind, *(str(counts[kind, state]) for state in STEP_STATES)] for kind in kinds]
    text = text_table(["step", *STEP_STATES], rows)
    for listed, meaning in (("running", "running now"), ("stopped", "failed or interrupted")):
        names = [step for step, state in states.items() if state == listed]
        if names:
            text += f"\n{meaning}:\n" + "".join(f"  {step}\n    {folder.log(step)}\n" for step in names)
    return text


def unfinished_models(study: Study) -> list[Model]:
    """List the models that are not evaluated with all their folds.

    Args:
        study: The study.

    Returns:
        The models in the order of the study; empty if all are finished.
    """
    finished = set(finished_models(study))
    return [model for model in models(study) if model not in finished]


def describe_unfinished(study: Study, unfinished: Iterable[Model]) -> list[str]:
    """Describe unfinished models in as few lines as name all of them.

    Args:
        study: The study.
        unfinished: The models.

    Returns:
        A line for each scenario, network and state of the trainings, with the losses and their unfinished seeds.
    """
    folder = StudyFolder(study.folder)
    seeds: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for model in unfinished:
        folds = folds_of(study, model.dataset)
        states = ", ".join(step_state(folder, model.train_step(fold)) for fold in folds)
        others = sorted(folder.predicted_folds(model.predict_step) - {*folds})
        beyond = f"; predicted with fold {', '.join(map(str, others))} too" if others else ""
        group = f"{model.scenario.name}, {model.architecture_name} (training: {states}{beyond})"
        seeds[group][model.method_name].append(model.seed)
    return [f"{group}: {_methods_by_seeds(methods)}" for group, methods in seeds.items()]


def _methods_by_seeds(seeds: dict[str, list[int]]) -> str:
    methods: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for method, unfinished in seeds.items():
        methods[tuple(unfinished)].append(method)
    return "; ".join(
        f"{', '.join(names)} (seed{'s' if len(unfinished) > 1 else ''} {', '.join(map(str, unfinished))})"
        for unfinished, names in methods.items()
    )


def _current_settings(study: Study, save: bool = False) -> dict[str, Any]:
    """Return what every result rests on; not what may be added to (scenarios, losses, seeds, ...)."""
    return _settings(study, {name: find_dataset(study.datasets[name]) for name in used_sources(study)}, save)


def _settings(study: Study, sources: Mapping[str, Path], save: bool = False) -> dict[str, Any]:
    network, folder = study.network, StudyFolder(study.folder)
    saved = folder.saved_settings()
    images = {f"content of the image files of dataset {name}": name for name in sources}
    return {
        **{key: getattr(study, key) for key in TRAINING_LENGTH},
        "configuration": study.configuration,
        "folds go": "by domain" if study.by_domain else "by patient",
        "network": network
        and {"features": list(network.features), "patch": list(network.patch), "batch": network.batch},
        **{f"dataset {name}": f"{path.name}, labels {labels_hash(path)}" for name, path in sources.items()},
        **{f"files of dataset {name}": files_hash(path) for name, path in sources.items()},
        **{f"content of the label files of dataset {name}": contents_hash(path) for name, path in sources.items()},
        **{
            key: images_hash(sources[name], folder.image_hashes(name), save)
            for key, name in images.items()
            if save or key in saved  # else there is nothing to compare with, and reading takes long
        },
        **{
            f"splits of dataset {name}": folds_hash(path, folder.preprocessed)
            for name, path in sources.items()
            if not study.by_domain
        },
    }


def _accepted_changes(folder: StudyFolder, settings: dict[str, Any]) -> dict[str, str]:
    """Return and show what changed; raise PartialLabelError where a training rests on it, or a step is running."""
    changes = _changes(folder, settings)
    if changes:
        _require_nothing_rests(folder, changes)
        print(f"NOTE: changed since the study was begun:\n{_indented(changes.values())}")
        print("No training has started yet; data made with the earlier settings will be recreated.")
    return changes


def _changes(folder: StudyFolder, settings: dict[str, Any]) -> dict[str, str]:
    """Return a line for each setting that differs from the saved one, by its name."""
    saved = folder.saved_settings()
    return {
        key: f"{key}: {json.dumps(saved[key])} when it was begun, {json.dumps(value)} now"
        for key, value in settings.items()
        if key in saved and saved[key] != value
    }


def _concern_data(settings: Iterable[str]) -> bool:
    return any(key not in TRAINING_LENGTH for key in settings)


def _require_nothing_rests(folder: StudyFolder, changes: dict[str, str]) -> None:
    if _has_trained(folder):
        raise PartialLabelError(
            f"The study in {folder.root} was begun with other settings, on which its results rest:\n"
            f"{_indented(changes.values())}\n"
            "Set them back, or give the study another name (scenarios, losses, seeds, folds and networks can "
            "be added at any time)."
        )
    locks = folder.lock("").parent
    running = [path for path in locks.rglob("*.lock") if is_held(path)]
    if running:
        names = format_names([str(path.relative_to(locks).with_suffix("")) for path in running])
        raise PartialLabelError(
            f"Settings of the study in {folder.root} changed:\n{_indented(changes.values())}\n"
            f"A step is still running with the earlier ones: {names}. Wait for it, or end it."
        )


def _has_trained(folder: StudyFolder) -> bool:
    """Return whether a training left something. One that failed before its first checkpoint starts over anyway."""
    finished = (path for kind in ("train", "predict", "evaluate") for path in folder.done(kind).rglob("*"))
    checkpoints = folder.root.glob("results/seed*/Dataset*/*/fold_*/checkpoint_*.pth")
    return any(path.is_file() for path in finished) or any(checkpoints)


def _delete_outdated(folder: StudyFolder, data: bool) -> None:
    """Delete preprocessed data too where `data`: nnU-Net would keep an old fingerprint, and with it the old plans."""
    outdated = ("done", "logs", folder.preprocessed.name) if data else ("logs/train",)
    for name in outdated:
        shutil.rmtree(folder.root / name, ignore_errors=True)


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
