"""Writes what the Snakefile reads: the commands of every step, and the environment they run in."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.study import commands
from nnunet_partial.study.definition import Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.settings import keep_settings
from nnunet_partial.study.steps import derived_datasets, further_plans, models, takeovers, used_sources
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.versions import trainers_folder


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
        "sources": {name: commands.prepare(study, path, prepared) for name, path in sources.items()},
        "plans": {
            f"{name}/{plans}": commands.further_plans(study, path, plans)
            for plans in further_plans(study)
            for name, path in sources.items()
        },
        "datasets": {name: _dataset(study, folder, ids[name], name, *what) for name, what in made.items()},
        "takeovers": {
            f"{name}/{plans}": commands.take_over(study, made[name][0], ids[name], plans)
            for name, plans in takeovers(study)
        },
    }


def _dataset(
    study: Study, folder: StudyFolder, number: int, name: str, scenario: Scenario, complete: bool
) -> dict[str, Any]:
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return {
        "id": number,
        "source": scenario.source,
        "commands": commands.make_scenario(study, scenario, complete, number, plain, folder.prepared_plans()),
        "images": shlex.quote(str(folder.raw / f"Dataset{number:03d}_{plain}" / "imagesTs")),
    }


def _models(study: Study, ids: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """By scenario, loss and network. `after`: the step that a training needs, with the plans of its own network."""
    further = set(takeovers(study))
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
