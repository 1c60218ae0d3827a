"""Does a study fit its data sets? Everything that speaks against it, by the lines of the file, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset, find_dataset
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions, preview_scenario
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.study.config import Problem, Scenario, Study
from nnunet_partial.study.steps import derived_datasets, used_sources


def data_problems(study: Study) -> list[Problem]:
    """Data sets that are not there or have no test cases, and scenarios that cannot be made; reads no label file."""
    found: list[Problem] = []
    folders: dict[str, Path] = {}
    for name in used_sources(study):
        try:
            folders[name] = find_dataset(study.datasets[name])
            _require_test_cases(RawDataset(folders[name]))
        except PartialLabelError as problem:
            found.append((study.dataset_lines[name], f"{name}: {problem}"))
    for scenario, complete in derived_datasets(study).values():
        if scenario.source in folders:
            found += _scenario_problems(scenario, complete, folders[scenario.source], study.folds)
    return found


def options_of(scenario: Scenario, complete: bool) -> ScenarioOptions:
    """What the scenario command is asked for. The hidden patients are the same in all seeds of training."""
    return ScenarioOptions(scenario.missing, scenario.fraction, domain=scenario.domain, keep_only_complete=complete)


def _require_test_cases(dataset: RawDataset) -> None:
    if not (dataset.image_files("Ts") and dataset.label_files("Ts")):
        raise DatasetError(
            f"{dataset.folder.name} has no test cases with labels (imagesTs, labelsTs); a study measures on patients "
            "that no network saw."
        )


def _scenario_problems(scenario: Scenario, complete: bool, folder: Path, folds: Sequence[int]) -> list[Problem]:
    name = f"{scenario.name}{', complete cases' if complete else ''}"
    try:
        plan = preview_scenario(folder, options_of(scenario, complete))
    except PartialLabelError as problem:
        return [(scenario.line, f"{name}: {problem}")]
    if plan.removed:
        return [(scenario.line, f"{name}: no case is left that is annotated for {', '.join(plan.removed)}")]
    # nnU-Net would make one by lot, patients on both sides
    strange = [str(fold) for fold in folds if fold >= len(plan.splits)]
    if strange:
        has = f"has {len(plan.splits)} fold(s), counted from 0; 'folds' asks for {', '.join(strange)} too"
        return [(scenario.line, f"{name}: {has}")]
    return []
