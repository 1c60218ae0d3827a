"""Writes what the Snakefile reads: the commands of every step, and the environment they run in.

The commands of the steps that make data, as typed in a shell: plans and preprocessing, and the scenarios.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import dataset_id, find_dataset
from nnunet_partial.study.config import PLANNERS, Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.state import keep_settings
from nnunet_partial.study.steps import derived_datasets, further_plans, models, reused_preprocessing, used_sources
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.versions import trainers_folder


def preprocess_command(study: Study, source: Path, plans: Sequence[str]) -> str:
    """nnU-Net's fingerprint, these plans and the preprocessing of the raw data set `source`, all its labels known."""
    fingerprint = ["nnUNetv2_extract_fingerprint", "-d", str(dataset_id(source))]
    return _plan(study, source, plans, plans[:1] if _shares_data(study) else plans, fingerprint)


def plan_command(study: Study, source: Path, plans: str) -> str:
    """Other plans of a data set that is prepared. What is there, trainings may be using: it is left alone."""
    return _plan(study, source, [plans], [] if _shares_data(study) else [plans])


def scenario_command(
    study: Study, scenario: Scenario, complete: bool, number: int, name: str, plans: Sequence[str]
) -> str:
    """Hides the labels, and takes over plans and preprocessed data. Never to be run beneath trainings.

    `complete`: keeps only the cases from which nothing would be hidden. `number`, `name`: of the new data set.
    """
    source = str(study.datasets[scenario.source])
    hide = ["nnunet_partial", "scenario", "-i", source, "-d", str(number), "--name", name, "--overwrite"]
    hide += ["--missing", *scenario.missing, "--fraction", str(scenario.fraction)]
    hide += ["--domain", scenario.domain] if scenario.domain else []
    hide += ["--keep-only-complete"] if complete else []
    return f"{shlex.join(hide)}; {_preprocess_like(study, scenario, number, plans)}"


def reuse_command(study: Study, scenario: Scenario, number: int, plans: str) -> str:
    """Further plans for a scenario that is made; preprocessed data only where these plans have their own."""
    if not _shares_data(study):
        return _preprocess_like(study, scenario, number, [plans])
    source = str(study.datasets[scenario.source])
    return shlex.join(["nnUNetv2_move_plans_between_datasets", "-s", source, "-t", str(number), "-sp", plans])


def _plan(study: Study, source: Path, plans: Sequence[str], preprocessed: Sequence[str], *before: Sequence[str]) -> str:
    """`preprocessed`: the plans whose data are made. Planning dies of a setting that trainings may have."""
    number, more = str(dataset_id(source)), ["-c", study.configuration, "-np", "1" if study.device == "cpu" else "4"]
    commands = [["unset", "nnUNet_n_proc_DA"], *before]
    commands += [["nnUNetv2_plan_experiment", "-d", number, "-pl", PLANNERS[name]] for name in plans]
    commands += [["nnUNetv2_preprocess", "-d", number, "-plans_name", name, *more] for name in preprocessed]
    if study.network:
        commands += [["nnunet_partial", "shrink", "-d", source.name, "-p", name, *_shrink(study)] for name in plans]
    return "; ".join(map(shlex.join, commands))


def _shares_data(study: Study) -> bool:
    """Whether nnU-Net's residual plans use the preprocessed data of its default ones."""
    return study.configuration in ("2d", "3d_fullres")


def _shrink(study: Study) -> list[str]:
    assert study.network is not None
    sizes = {"--features": study.network.features, "--patch": study.network.patch, "--batch": (study.network.batch,)}
    options = [word for option, numbers in sizes.items() for word in (option, *map(str, numbers))]
    return ["-c", study.configuration, *options]


def _preprocess_like(study: Study, scenario: Scenario, number: int, plans: Sequence[str]) -> str:
    source = str(study.datasets[scenario.source])
    like = ["nnunet_partial", "preprocess", "-d", str(number), "--like", source, "-c", study.configuration]
    return shlex.join([*like, "-p", *plans])


def prepare_workflow(study: Study, file: Path, hands_out: bool, begin: bool) -> StudyFolder:
    """Writes study.json, which the Snakefile reads, into the study's folder. Starts nothing.

    `hands_out`: whether the steps choose among this machine's cards and cores themselves (no scheduler does).
    `begin`: whether the study begins with this, so that its settings are noted; a look ahead binds nobody.
    Raises PartialLabelError for a data set that is not there, and for changed settings on which something rests.
    """
    folder = StudyFolder(study.folder)
    sources = {name: find_dataset(study.datasets[name]) for name in used_sources(study)}
    keep_settings(study, folder, begin)
    for path in sources.values():
        _link(path, folder.raw / path.name)
    ids = folder.ids(derived_datasets(study), set(study.datasets.values()))
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
            **_data_steps(study, folder, sources, ids),
            "models": _models(study, ids),
            "evaluations": [model.name for model in models(study)],
        },
    )
    return folder


def configuration(study: Study) -> str:
    """nnU-Net's configuration that is trained."""
    return f"{study.configuration}_small" if study.network else study.configuration


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


def _data_steps(
    study: Study, folder: StudyFolder, sources: Mapping[str, Path], ids: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """The commands of prepare, plans, scenario and takeover, by what stands after the name of the step."""
    made, prepared = derived_datasets(study), folder.prepared_plans()
    return {
        "sources": {name: preprocess_command(study, path, prepared) for name, path in sources.items()},
        "plans": {
            f"{name}/{plans}": plan_command(study, path, plans)
            for plans in further_plans(study)
            for name, path in sources.items()
        },
        "datasets": {name: _dataset(study, folder, ids[name], name, *what) for name, what in made.items()},
        "takeovers": {
            f"{name}/{plans}": reuse_command(study, made[name][0], ids[name], plans)
            for name, plans in reused_preprocessing(study)
        },
    }


def _dataset(
    study: Study, folder: StudyFolder, number: int, name: str, scenario: Scenario, complete: bool
) -> dict[str, Any]:
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return {
        "id": number,
        "source": scenario.source,
        "commands": scenario_command(study, scenario, complete, number, plain, folder.prepared_plans()),
        "images": shlex.quote(str(folder.raw / f"Dataset{number:03d}_{plain}" / "imagesTs")),
    }


def _models(study: Study, ids: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """By scenario, loss and network. `after`: the step that a training needs, with the plans of its own network."""
    further = set(reused_preprocessing(study))
    found = {}
    for model in models(study):
        dataset, plans = model.dataset, model.architecture.plans
        found[model.name.rpartition("/")[0]] = {
            "dataset": dataset,
            "after": f"takeover/{dataset}/{plans}" if (dataset, plans) in further else f"scenario/{dataset}",
            "id": ids[dataset],
            "arguments": f"-tr {model.trainer} -p {plans} -device {study.device}",
        }
    return found
