"""Check a study against its datasets before anything runs: every problem, by its line of study.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.dataset.raw import MAX_NAME_LENGTH, SUBSETS, RawDataset, find_dataset
from nnunet_partial.dataset.splits import left_out_cases, patients_on_both_sides
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.study.config import METHODS, Problem, Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.folds import domain_folds, measured_cases, planned_scenario, tested_domains
from nnunet_partial.study.steps import derived_datasets, filled_models, used_sources
from nnunet_partial.utils.text import NO_DOMAIN, format_names


def data_problems(study: Study) -> list[Problem]:
    """Find missing datasets, test cases that are missing or trained on, losses that cannot learn, wrong scenarios.

    Reads no label file.

    Args:
        study: The study.

    Returns:
        Line and text of each problem; empty if the study can run.
    """
    problems = _long_names(study)
    folders: dict[str, Path] = {}
    for name in used_sources(study):
        try:
            folders[name] = find_dataset(study.datasets[name])
            _require_test_cases(RawDataset(folders[name]))
            _require_other_patients(RawDataset(folders[name]))
            _require_losses_for_regions(RawDataset(folders[name]), study.losses)
        except PartialLabelError as problem:
            problems.append((study.dataset_lines[name], f"{name}: {problem}"))
    for scenario, complete in derived_datasets(study).values():
        if scenario.source in folders:
            problems += _scenario_problems(study, scenario, complete, folders[scenario.source])
    return problems


def _long_names(study: Study) -> list[Problem]:
    """Find scenarios whose datasets would have too long a name; `fill` would say so after the trainings."""
    names = [(name, scenario) for name, (scenario, _) in derived_datasets(study).items()]
    names += [(name, model.scenario) for name, model in filled_models(study).items()]
    longest = {scenario: name for name, scenario in sorted(names, key=lambda named: len(named[0]))}
    return [
        (
            scenario.line,
            f"{scenario.name}: the name of its dataset {name} has {len(name)} characters; expected at most "
            f"{MAX_NAME_LENGTH}. Give the dataset a shorter name under 'datasets', or rename structures",
        )
        for scenario, name in longest.items()
        if len(name) > MAX_NAME_LENGTH
    ]


def _require_test_cases(dataset: RawDataset) -> None:
    if not measured_cases(dataset)[0]:
        raise DatasetError(
            f"{dataset.folder.name} has no test cases with labels (imagesTs, labelsTs); a study measures on patients "
            "that no network was trained on."
        )


def _require_other_patients(dataset: RawDataset) -> None:
    """Raise DatasetError where a patient is on both sides; who has no entry in the manifest is told elsewhere."""
    manifest = dataset.manifest
    trained, tested = ([*dataset.image_files(part)] for part in SUBSETS)
    both = patients_on_both_sides(manifest, {*trained} - {*left_out_cases(manifest, trained)}, tested)
    if both:
        raise DatasetError(
            f"{len(both)} patient(s) have cases in imagesTr and in imagesTs: {format_names(both)}; a study measures on "
            "patients that no network was trained on. Move their cases to one side; if they are different people, give "
            "them different 'patient' entries in the manifest."
        )


def _require_losses_for_regions(dataset: RawDataset, losses: Sequence[str]) -> None:
    others = [name for name in losses if not METHODS[name].takes_regions]
    if dataset.regions and others:
        can = [name for name, method in METHODS.items() if method.takes_regions and method.mirrored]
        raise DatasetError(
            f"{dataset.folder.name} is region-based (a label in dataset.json is a list of values), so structures may "
            f"overlap, which {format_names(others)} cannot learn. Take abce (nnUNetTrainerABCE): of 'losses', "
            f"{', '.join(can)} and their forms without mirroring take regions."
        )


def _scenario_problems(study: Study, scenario: Scenario, complete: bool, folder: Path) -> list[Problem]:
    name = f"{scenario.name}{', complete cases' if complete else ''}"
    try:
        plan = planned_scenario(scenario, complete, folder, StudyFolder(study.folder).preprocessed)
    except PartialLabelError as problem:
        return [(scenario.line, f"{name}: {problem}")]
    if plan.removed:
        return [(scenario.line, f"{name}: no case is left that is annotated for {', '.join(plan.removed)}")]
    if study.by_domain:
        return [(scenario.line, f"{name}: {text}") for text in _domain_problems(study, scenario, complete, folder)]
    # for a fold that the splits lack, nnU-Net would draw one at random, with patients on both sides
    absent = [str(fold) for fold in study.folds if fold >= len(plan.splits)]
    if absent:
        text = f"has {len(plan.splits)} fold(s), counted from 0; 'folds' asks for {', '.join(absent)} too"
        return [(scenario.line, f"{name}: {text}")]
    without = {
        fold: plan.manifest.classes_without_annotation(plan.splits[fold]["train"], plan.classes, with_pseudo=True)
        for fold in study.folds
    }
    return [
        (
            scenario.line,
            f"{name}: no training case of fold {fold} is annotated for {format_names(names)}, so that it cannot be "
            "trained. Take other 'folds' or a smaller 'fraction'",
        )
        for fold, names in without.items()
        if names
    ]


def _domain_problems(study: Study, scenario: Scenario, complete: bool, folder: Path) -> list[str]:
    """Find out why no fold could leave a domain out, or be measured."""
    try:
        folds = domain_folds(scenario, complete, folder, StudyFolder(study.folder).preprocessed)
    except PartialLabelError as problem:
        return [str(problem)]
    tested = tested_domains(folder)
    if {*tested} & {*folds.domains}:
        return []
    names = [format_names([domain or NO_DOMAIN for domain in domains]) for domains in (folds.domains, tested)]
    return [
        f"nothing could be measured: folds leave out {names[0]}, and the test cases are of {names[1]}. "
        + "; ".join(folds.warnings)
    ]
