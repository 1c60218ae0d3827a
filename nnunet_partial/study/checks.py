"""Check a study against its datasets before anything runs: every problem, by its line of study.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset, find_dataset
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions, preview_scenario
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.study.config import Problem, Scenario, Study
from nnunet_partial.study.steps import derived_datasets, used_sources


def data_problems(study: Study) -> list[Problem]:
    """Find datasets that are missing or have no test cases, and scenarios that cannot be made.

    Reads no label file.

    Args:
        study: The study.

    Returns:
        Line and text of each problem; empty if the study can run.
    """
    problems: list[Problem] = []
    folders: dict[str, Path] = {}
    for name in used_sources(study):
        try:
            folders[name] = find_dataset(study.datasets[name])
            _require_test_cases(RawDataset(folders[name]))
        except PartialLabelError as problem:
            problems.append((study.dataset_lines[name], f"{name}: {problem}"))
    for scenario, complete in derived_datasets(study).values():
        if scenario.source in folders:
            problems += _scenario_problems(scenario, complete, folders[scenario.source], study.folds)
    return problems


def _require_test_cases(dataset: RawDataset) -> None:
    if not (dataset.image_files("Ts") and dataset.label_files("Ts")):
        raise DatasetError(
            f"{dataset.folder.name} has no test cases with labels (imagesTs, labelsTs); a study measures on patients "
            "that no network was trained on."
        )


def _scenario_problems(scenario: Scenario, complete: bool, folder: Path, folds: Sequence[int]) -> list[Problem]:
    name = f"{scenario.name}{', complete cases' if complete else ''}"
    options = ScenarioOptions(scenario.missing, scenario.fraction, domain=scenario.domain, keep_only_complete=complete)
    try:
        plan = preview_scenario(folder, options)
    except PartialLabelError as problem:
        return [(scenario.line, f"{name}: {problem}")]
    if plan.removed:
        return [(scenario.line, f"{name}: no case is left that is annotated for {', '.join(plan.removed)}")]
    # for a fold that the splits lack, nnU-Net would draw one at random, with patients on both sides
    absent = [str(fold) for fold in folds if fold >= len(plan.splits)]
    if absent:
        text = f"has {len(plan.splits)} fold(s), counted from 0; 'folds' asks for {', '.join(absent)} too"
        return [(scenario.line, f"{name}: {text}")]
    return []
