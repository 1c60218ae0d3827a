"""Write the workflow of a study for the Snakefile: the commands of every step, and the environment they run in."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.domains import DomainFolds
from nnunet_partial.dataset.raw import RawDataset, dataset_id, find_dataset, plain_name
from nnunet_partial.dataset.splits import nameless_warning, patient_warnings
from nnunet_partial.dataset_conversion.derived.scenario_plan import RANDOM
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.config import PLANNERS, Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.folds import domain_folds, measured_cases, tested_domains
from nnunet_partial.study.state import check_settings
from nnunet_partial.study.steps import (
    derived_datasets,
    filled_models,
    further_plans,
    models,
    reuse_step,
    reused_preprocessing,
    used_sources,
)
from nnunet_partial.study.tables import is_hidden
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.text import format_names
from nnunet_partial.utils.trainers import trainers_folder


def prepare_workflow(study: Study, file: Path, assign_devices: bool, save: bool) -> StudyFolder:
    """Write study.json, which the Snakefile reads, into the folder of the study. Start nothing.

    Args:
        study: The study.
        file: Path of study.yaml.
        assign_devices: Whether the steps choose among the GPUs and cores of this machine themselves (no scheduler
            does).
        save: Whether to save the settings of the study; False for a dry run.

    Returns:
        The folder of the study.

    Raises:
        PartialLabelError: If a dataset does not exist, or settings changed on which a training rests.
    """
    folder = StudyFolder(study.folder)
    sources = {name: find_dataset(study.datasets[name]) for name in used_sources(study)}
    check_settings(study, folder, save)
    if save:  # no dry run needs them, and Windows makes none
        for path in sources.values():
            _link(path, folder.raw / path.name)
    ids = folder.assign_ids([*derived_datasets(study), *filled_models(study)], set(study.datasets.values()))
    domains = _domain_folds(study, sources)
    notes = [f"{name}: {warning}" for name, folds in domains.items() for warning in folds.warnings]
    datasets = {name: RawDataset(path) for name, path in sources.items()}
    unlabeled = {name: measured_cases(dataset)[1] for name, dataset in datasets.items()}
    test_notes = [
        f"{name}: {len(cases)} test case(s) without a label, on which nothing is measured: {format_names(cases)}"
        for name, cases in unlabeled.items()
        if cases
    ]
    test_notes += [note for s in study.scenarios for note in _unmeasured(s, datasets[s.source], study)]
    patient_notes = [f"{name}: {note}" for name, dataset in datasets.items() for note in _patient_notes(dataset)]
    for note in [*notes, *test_notes, *patient_notes]:
        print(f"NOTE: {note}")
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
            "assign_devices": assign_devices,
            "configuration": f"{study.configuration}_small" if study.network else study.configuration,
            "domains": {name: list(folds.domains) for name, folds in domains.items()},
            "fold_notes": notes,
            "test_notes": test_notes,
            "patient_notes": patient_notes,
            **_data_steps(study, folder, sources, ids, unlabeled),
            "fills": _fills(study, folder, ids),
            "models": _models(study, folder, sources, ids, domains),
            "evaluations": [model.name for model in models(study)],
        },
    )
    return folder


def _unmeasured(scenario: Scenario, dataset: RawDataset, study: Study) -> list[str]:
    """Say which hidden structures no test case can measure where they are hidden; empty where each is measured."""
    measured = {
        name
        for labels in dataset.manifest.entries_of(measured_cases(dataset)[0]).values()
        if not labels.interpolated
        for name in labels.known
        if is_hidden(scenario, labels.domain, name, study.by_domain)
    }
    names = [n for n in (dataset.structures if RANDOM in scenario.missing else scenario.missing) if n not in measured]
    where = f" of {scenario.domain}" if scenario.domain and not study.by_domain else ""
    return [
        f"{scenario.name}: no test case{where} is annotated for {format_names(names)}, so that nothing is measured of "
        "what is hidden"
    ] * bool(names)


def _patient_notes(dataset: RawDataset) -> list[str]:
    """Say where one person may train and test, or be split, under several names, and which cases name no patient."""
    manifest, cases = dataset.manifest, (dataset.image_files(), measured_cases(dataset)[0])
    training, tested = map(manifest.entries_of, cases)
    return [*patient_warnings(manifest, [*training], [*tested]), *nameless_warning(tested)]


def _domain_folds(study: Study, sources: Mapping[str, Path]) -> dict[str, DomainFolds]:
    """Make the folds of each derived dataset that leave a domain out; empty where folds go by patient."""
    derived, preprocessed = derived_datasets(study) if study.by_domain else {}, StudyFolder(study.folder).preprocessed
    return {name: domain_folds(*given, sources[given[0].source], preprocessed) for name, given in derived.items()}


def _link(path: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(path.resolve())
    except OSError as problem:  # some shares have no links
        raise PartialLabelError(
            f"{link} cannot be made a symbolic link to {path} ({problem.strerror}). Give the study a 'folder' on a "
            "disk that has such links."
        ) from problem


def _exports(study: Study, folder: StudyFolder) -> str:
    """Return the environment as typed in a shell, so that a step can be repeated by hand from its log."""
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
    commands = [  # what the study does not set must not come from the shell it is started in
        f"unset {name}; " if value is None else f"export {name}={shlex.quote(str(value))}; "
        for name, value in variables.items()
    ]
    # on CPUs, processes beside a training slow it down many times
    few_processes = "export nnUNet_def_n_proc=1 OMP_WAIT_POLICY=PASSIVE; " if study.device == "cpu" else ""
    return "".join([*commands, f'export PATH={programs}:"$PATH"; ', few_processes])


def _models(
    study: Study,
    folder: StudyFolder,
    sources: Mapping[str, Path],
    ids: Mapping[str, int],
    domains: Mapping[str, DomainFolds],
) -> dict[str, dict[str, Any]]:
    """Return what trains each scenario, loss and network; of filled datasets each seed, too.

    `after`: the step that makes its data and plans. `fold_numbers`: number of each fold in the dataset, where it is
    another. `measured`: where folds go by domain, those whose domain has test cases. `raw`: what it is trained on.
    """
    tested = {name: tested_domains(path) for name, path in sources.items()} if study.by_domain else {}
    reused = set(reused_preprocessing(study))
    result: dict[str, dict[str, Any]] = {}
    for model in models(study):
        dataset, plans = model.dataset, model.architecture.plans
        key = model.name if model.method.filled_by else model.name.rpartition("/")[0]
        result[key] = {
            "dataset": dataset,
            "after": reuse_step(dataset, plans) if (dataset, plans) in reused else f"scenario/{dataset}",
            "id": ids[dataset],
            "raw": shlex.quote(str(_raw_folder(folder, ids[dataset], dataset))),
            "folds": list(range(len(domains[dataset].folds))) if study.by_domain else list(study.folds),
            "measured": [
                fold
                for fold, domain in enumerate(domains[dataset].domains if study.by_domain else ())
                if domain in tested[model.scenario.source]
            ],
            "fold_numbers": {},
            "arguments": f"-tr {model.trainer} -p {plans} -device {study.device}",
        }
        if model.method.filled_by:
            result[key]["after"] = f"fill/{dataset}"
            if len(study.folds) == 1:  # a clean fold is the only one of its dataset
                result[key]["fold_numbers"] = {str(study.folds[0]): 0}
    return result


def _fills(study: Study, folder: StudyFolder, ids: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return what fills each dataset of pseudo-labels: after which trainings, of which seed, and the command."""
    configuration = f"{study.configuration}_small" if study.network else study.configuration
    result = {}
    for name, model in filled_models(study).items():
        by = model.filled_by
        assert by is not None
        source, plans = str(ids[by.dataset]), by.architecture.plans
        fill = ["nnunet_partial", "fill", "-i", source, "-d", str(ids[name]), "--name", plain_name(name)]
        fill += ["--overwrite", "-tr", by.trainer, "-c", configuration, "-p", plans, "-device", study.device]
        # other folds may lie there, of the study's file before it was changed
        fill += ["--fold" if len(study.folds) == 1 else "-f", *map(str, study.folds)]
        result[name] = {
            "trained": [f"done/{by.train_step(fold)}" for fold in study.folds],
            "seed": model.seed,
            "commands": f"{shlex.join(fill)}; {_preprocess_like(study, source, ids[name], [plans])}",
        }
    return result


# The steps that make data


def _data_steps(
    study: Study,
    folder: StudyFolder,
    sources: Mapping[str, Path],
    ids: Mapping[str, int],
    unlabeled: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Any]]:
    """Return the commands of prepare, plans, scenario and reuse_preprocessing, by the rest of the step's name.

    `unlabeled` of a derived dataset: some of its test images have no label.
    """
    derived, prepared = derived_datasets(study), folder.prepared_plans()
    return {
        "sources": {name: _prepare_command(study, path, prepared) for name, path in sources.items()},
        "plans": {
            f"{name}/{plans}": _plan_command(study, path, plans)
            for plans in further_plans(study)
            for name, path in sources.items()
        },
        "datasets": {
            name: {
                **_dataset(study, folder, ids[name], name, scenario, complete),
                "unlabeled": bool(unlabeled[scenario.source]),
            }
            for name, (scenario, complete) in derived.items()
        },
        "reused": {
            f"{name}/{plans}": _reuse_command(study, derived[name][0], ids[name], plans)
            for name, plans in reused_preprocessing(study)
        },
    }


def _dataset(
    study: Study, folder: StudyFolder, number: int, name: str, scenario: Scenario, complete: bool
) -> dict[str, Any]:
    """Return the commands that make a derived dataset, and its test images."""
    raw = _raw_folder(folder, number, name)
    return {
        "id": number,
        "source": scenario.source,
        "commands": _scenario_command(study, scenario, complete, number, plain_name(name), folder.prepared_plans()),
        "raw": shlex.quote(str(raw)),
        "images": shlex.quote(str(raw / "imagesTs")),
    }


def _raw_folder(folder: StudyFolder, number: int, name: str) -> Path:
    return folder.raw / f"Dataset{number:03d}_{plain_name(name)}"


def _prepare_command(study: Study, source: Path, plans: Sequence[str]) -> str:
    """Extract the fingerprint of the raw dataset `source`, make these plans and preprocess, with all its labels."""
    fingerprint = ["nnUNetv2_extract_fingerprint", "-d", str(dataset_id(source))]
    return _plan(study, source, plans, plans[:1] if _shares_data(study) else plans, fingerprint)


def _plan_command(study: Study, source: Path, plans: str) -> str:
    """Add plans to a prepared dataset. Leave existing files alone, as trainings may be using them."""
    return _plan(study, source, [plans], [] if _shares_data(study) else [plans])


def _scenario_command(
    study: Study, scenario: Scenario, complete: bool, number: int, name: str, plans: Sequence[str]
) -> str:
    """Hide labels, and take over plans and preprocessed data. Must not run while the dataset is trained on.

    `complete`: keep only the cases from which nothing would be hidden. `number`, `name`: of the new dataset.
    """
    source = str(study.datasets[scenario.source])
    hide = ["nnunet_partial", "scenario", "-i", source, "-d", str(number), "--name", name, "--overwrite"]
    hide += ["--missing", *scenario.missing, "--fraction", str(scenario.fraction)]
    hide += ["--domain", scenario.domain] if scenario.domain else []
    hide += ["--keep-only-complete"] if complete else []
    splits = ["nnunet_partial", "splits", "-d", str(number), "--leave-domain-out"]
    commands = [shlex.join(hide), *([shlex.join(splits)] if study.by_domain else [])]
    return "; ".join([*commands, _preprocess_like(study, source, number, plans)])


def _reuse_command(study: Study, scenario: Scenario, number: int, plans: str) -> str:
    """Take over further plans for a scenario; preprocessed data only where these plans have their own."""
    source = str(study.datasets[scenario.source])
    if not _shares_data(study):
        return _preprocess_like(study, source, number, [plans])
    return shlex.join(["nnUNetv2_move_plans_between_datasets", "-s", source, "-t", str(number), "-sp", plans])


def _plan(study: Study, source: Path, plans: Sequence[str], preprocessed: Sequence[str], *before: Sequence[str]) -> str:
    """Make plans, and the data of those in `preprocessed`; `before`: further commands that come first."""
    number, options = str(dataset_id(source)), ["-c", study.configuration, "-np", "1" if study.device == "cpu" else "4"]
    commands = [["unset", "nnUNet_n_proc_DA"], *before]  # planning fails if it is 0
    commands += [["nnUNetv2_plan_experiment", "-d", number, "-pl", PLANNERS[name]] for name in plans]
    commands += [["nnUNetv2_preprocess", "-d", number, "-plans_name", name, *options] for name in preprocessed]
    if study.network:
        commands += [["nnunet_partial", "shrink", "-d", source.name, "-p", name, *_shrink(study)] for name in plans]
    return "; ".join(map(shlex.join, commands))


def _shares_data(study: Study) -> bool:
    """Return whether nnU-Net's residual plans use the preprocessed data of its default ones."""
    return study.configuration in ("2d", "3d_fullres")


def _shrink(study: Study) -> list[str]:
    assert study.network is not None
    sizes = {"--features": study.network.features, "--patch": study.network.patch, "--batch": (study.network.batch,)}
    options = [word for option, numbers in sizes.items() for word in (option, *map(str, numbers))]
    return ["-c", study.configuration, *options]


def _preprocess_like(study: Study, source: str, number: int, plans: Sequence[str]) -> str:
    like = ["nnunet_partial", "preprocess", "-d", str(number), "--like", source, "-c", study.configuration]
    return shlex.join([*like, "-p", *plans])
