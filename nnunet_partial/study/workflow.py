"""Writes what the Snakefile reads: the commands of every step, and the environment they run in."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_partial.files import write_json
from nnunet_partial.raw_dataset import find_dataset
from nnunet_partial.study.definition import Scenario, Study
from nnunet_partial.study.folder import StudyFolder, files_stamp, stamp
from nnunet_partial.study.methods import ARCHITECTURES
from nnunet_partial.study.steps import Model, derived_datasets, models, used_sources
from nnunet_partial.trainer_search import trainers_folder


def prepare_workflow(study: Study, file: Path, hands_out: bool, begin: bool) -> StudyFolder:
    """Writes study.json, which the Snakefile reads, into the study's folder. Starts nothing.

    `hands_out`: whether the steps choose among this machine's cards and cores themselves (no scheduler does).
    `begin`: whether the study begins with this, so that its settings are noted; a look ahead binds nobody.
    Raises PartialLabelError for a data set that is not there, and for changed settings.
    """
    folder = StudyFolder(study.folder)
    sources = {name: find_dataset(study.datasets[name]) for name in used_sources(study)}
    folder.require_unchanged(_settings(study, sources), begin)
    for path in sources.values():
        _link(path, folder.raw / path.name)
    ids = folder.ids(derived_datasets(study), set(study.datasets.values()))
    datasets = {name: _dataset(study, folder, ids[name], name, *made) for name, made in derived_datasets(study).items()}
    write_json(
        folder.workflow,
        {
            "file": str(file.resolve()),
            "root": str(folder.root),
            "python": sys.executable,
            "exports": _exports(study, folder),
            "device": study.device,
            "gpus_per_training": study.gpus_per_training,
            "cpus_per_training": study.cpus_per_training,
            "hands_out": hands_out,
            "configuration": configuration(study),
            "folds": list(study.folds),
            "sources": {name: _prepare_commands(study, path) for name, path in sources.items()},
            "datasets": datasets,
            "models": {model.name.rpartition("/")[0]: _model(study, ids, model) for model in models(study)},
            "evaluations": [model.name for model in models(study)],
        },
    )
    return folder


def configuration(study: Study) -> str:
    """nnU-Net's configuration that is trained."""
    return f"{study.configuration}_small" if study.network else study.configuration


def _settings(study: Study, sources: Mapping[str, Path]) -> dict[str, Any]:
    """What every result rests on; what may be added to (scenarios, losses, seeds, ...) is not among it."""
    network = study.network
    return {
        "epochs": study.epochs,
        "iterations": study.iterations,
        "val_iterations": study.val_iterations,
        "configuration": study.configuration,
        # made once, before anything is trained
        "plans": sorted({ARCHITECTURES[name].plans for name in study.architectures}),
        "network": network
        and {"features": list(network.features), "patch": list(network.patch), "batch": network.batch},
        **{f"data set {name}": f"{path.name}, labels {stamp(path)}" for name, path in sources.items()},
        **{f"files of data set {name}": files_stamp(path) for name, path in sources.items()},
    }


def _link(path: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())


def _exports(study: Study, folder: StudyFolder) -> str:
    """As typed in a shell, so that a step can be repeated by hand from its log."""
    variables = {
        "nnUNet_raw": folder.raw,
        "nnUNet_preprocessed": folder.preprocessed,
        "nnUNet_results": folder.root / "results",
        "nnUNet_extTrainer": trainers_folder(),
        "nnUNet_partial_epochs": study.epochs,
        "nnUNet_partial_iterations": study.iterations,
        "nnUNet_partial_val_iterations": study.val_iterations,
    }
    programs = shlex.quote(str(Path(sys.executable).parent))
    typed = [  # what the study does not set must not come from the shell it is started in
        f"unset {name}; " if value is None else f"export {name}={shlex.quote(str(value))}; "
        for name, value in variables.items()
    ]
    return "".join([*typed, f'export PATH={programs}:"$PATH"; ', *_few_processes(study)])


def _few_processes(study: Study) -> list[str]:
    """On CPUs, processes beside a training slow it down many times."""
    return ["export nnUNet_def_n_proc=1 OMP_WAIT_POLICY=PASSIVE; "] if study.device == "cpu" else []


def _prepare_commands(study: Study, source: Path) -> str:
    """The plans of every network, nnU-Net's preprocessing, and the smaller network where one is wanted."""
    number = str(_number(source))
    plans = {ARCHITECTURES[name].plans: ARCHITECTURES[name].planner for name in study.architectures}
    commands = [["nnUNetv2_extract_fingerprint", "-d", number]]
    commands += [["nnUNetv2_plan_experiment", "-d", number, "-pl", planner] for planner in plans.values()]
    # for these two nnU-Net's residual plans use the preprocessed data of its default ones
    shared = study.configuration in ("2d", "3d_fullres")
    commands += [
        ["nnUNetv2_preprocess", "-d", number, "-plans_name", name, "-c", study.configuration, "-np", _processes(study)]
        for name in list(plans)[: 1 if shared else None]
    ]
    if study.network:
        commands += [["nnunet_partial", "shrink", "-d", source.name, "-p", name, *_shrink(study)] for name in plans]
    return "; ".join(["unset nnUNet_n_proc_DA", *map(shlex.join, commands)])


def _processes(study: Study) -> str:
    return "1" if study.device == "cpu" else "4"


def _shrink(study: Study) -> list[str]:
    assert study.network is not None
    sizes = {"--features": study.network.features, "--patch": study.network.patch, "--batch": (study.network.batch,)}
    options = [word for option, numbers in sizes.items() for word in (option, *map(str, numbers))]
    return ["-c", study.configuration, *options]


def _number(source: Path) -> int:
    return int(re.match(r"Dataset(\d{3})_", source.name)[1])  # type: ignore[index]


def _dataset(
    study: Study, folder: StudyFolder, number: int, name: str, scenario: Scenario, complete: bool
) -> dict[str, Any]:
    source = study.datasets[scenario.source]
    hide = ["nnunet_partial", "scenario", "-i", str(source), "-d", str(number), "--name", _safe(name), "--overwrite"]
    hide += ["--missing", *scenario.missing, "--fraction", str(scenario.fraction)]
    hide += ["--domain", scenario.domain] if scenario.domain else []
    hide += ["--keep-only-complete"] if complete else []
    plans = dict.fromkeys(ARCHITECTURES[architecture].plans for architecture in study.architectures)
    like = ["nnunet_partial", "preprocess", "-d", str(number), "--like", str(source), "-c", study.configuration]
    return {
        "id": number,
        "source": scenario.source,
        "commands": f"{shlex.join(hide)}; {shlex.join([*like, '-p', *plans])}",
        "images": shlex.quote(str(folder.raw / f"Dataset{number:03d}_{_safe(name)}" / "imagesTs")),
    }


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _model(study: Study, ids: Mapping[str, int], model: Model) -> dict[str, Any]:
    return {
        "dataset": model.dataset,
        "id": ids[model.dataset],
        "arguments": f"-tr {model.trainer} -p {model.architecture.plans} -device {study.device}",
    }
