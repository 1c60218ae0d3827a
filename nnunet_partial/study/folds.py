"""Make the folds of a study that leave a domain out each, and link the test cases that are predicted.

    python -m nnunet_partial.study.folds TESTED OUTPUT [TRAINED]

links the test cases of the raw dataset TESTED that have images and a label into OUTPUT: the labels into labelsTs, the
images into imagesTs or, with TRAINED, those of each domain into foldK, where K is the fold of the raw dataset TRAINED
that leaves the domain out. Test cases of other domains, which every fold was trained on, are then left out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.domains import DomainFolds, leave_domain_out
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME, Split, check_splits, read_splits, require_unfilled
from nnunet_partial.dataset_conversion.derived.scenario_plan import (
    ScenarioOptions,
    ScenarioPlan,
    preview_scenario,
    source_splits,
)
from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.study.config import Scenario
from nnunet_partial.utils.files import link_or_copy
from nnunet_partial.utils.text import NO_DOMAIN, format_names


def planned_scenario(scenario: Scenario, complete: bool, source: Path, preprocessed: Path) -> ScenarioPlan:
    """Plan a derived dataset of a study; reads no label file.

    Args:
        scenario: What is hidden.
        complete: Whether only the complete cases are kept.
        source: Raw folder of the dataset that it is made from.
        preprocessed: nnUNet_preprocessed of the study, where its steps look for the folds.

    Returns:
        The plan.
    """
    options = ScenarioOptions(scenario.missing, scenario.fraction, domain=scenario.domain, keep_only_complete=complete)
    return preview_scenario(source, options, preprocessed)


def folds_hash(source: Path, preprocessed: Path) -> str:
    """Hash the folds of a dataset, which those of its scenarios are made from.

    Args:
        source: Raw folder of the dataset.
        preprocessed: nnUNet_preprocessed of the study.

    Returns:
        16 hexadecimal digits.

    Raises:
        SplitError: The folds do not fit the dataset.
    """
    dataset = RawDataset(source)
    folds = source_splits(source, dataset.manifest, list(dataset.image_files("Tr")), preprocessed)
    cases = [{side: sorted(fold[side]) for side in ("train", "val")} for fold in folds]
    return hashlib.sha256(json.dumps(cases).encode()).hexdigest()[:16]


def domain_folds(scenario: Scenario, complete: bool, source: Path, preprocessed: Path) -> DomainFolds:
    """Make the folds of a derived dataset that leave a domain out each.

    Args:
        scenario: What is hidden.
        complete: Whether only the complete cases are kept.
        source: Raw folder of the dataset that it is made from.
        preprocessed: nnUNet_preprocessed of the study.

    Returns:
        The folds.

    Raises:
        SplitError: No fold can be made, or `splits` would refuse those that can.
    """
    return _domain_folds(scenario, complete, source, preprocessed, (source / MANIFEST_NAME).stat().st_mtime_ns)


@lru_cache
def _domain_folds(scenario: Scenario, complete: bool, source: Path, preprocessed: Path, changed: int) -> DomainFolds:
    plan = planned_scenario(scenario, complete, source, preprocessed)
    require_unfilled(plan.manifest, source.name)
    made = leave_domain_out(plan.manifest, plan.training, plan.classes)
    check_splits(list(made.folds), plan.manifest, plan.training)
    return made


def tested_domains(source: Path) -> list[str]:
    """List the domains that a dataset has test cases of, with images and label; sorted.

    Args:
        source: Raw folder of the dataset.
    """
    dataset = RawDataset(source)
    return sorted({dataset.manifest.labels_of(case).domain for case in measured_cases(dataset)[0]})


def measured_cases(dataset: RawDataset) -> tuple[list[str], list[str]]:
    """List the test cases on which a study measures.

    Args:
        dataset: The dataset.

    Returns:
        Those with images and a label, and those that have no label; sorted.
    """
    images, labels = dataset.image_files("Ts").keys(), dataset.label_files("Ts").keys()
    return sorted(images & labels), sorted(images - labels)


def link_test_cases(tested: Path, output: Path, trained: Path | None = None) -> None:
    """Link the test cases on which a study measures. See the module.

    Args:
        tested: Raw folder of the dataset with the test cases.
        output: Folder for the links; what is there is replaced.
        trained: Raw folder of the dataset whose folds were trained, where each predicts the domain that it leaves out.

    Raises:
        SplitError: A fold of `trained` does not leave a domain out.
    """
    folders = None if trained is None else _folders_of_domains(trained)
    dataset = RawDataset(tested)
    images, labels = dataset.image_files("Ts"), dataset.label_files("Ts")
    shutil.rmtree(output, ignore_errors=True)
    for case in measured_cases(dataset)[0]:
        folder = "imagesTs" if folders is None else folders.get(dataset.manifest.labels_of(case).domain)
        if folder:
            for file, target in [*((path, folder) for path in images[case]), (labels[case], "labelsTs")]:
                link_or_copy(file, output / target / file.name)


def _folders_of_domains(trained: Path) -> dict[str, str]:
    manifest = RawDataset(trained).manifest
    return {
        _left_out_domain(split, index, manifest): f"fold{index}" for index, split in enumerate(read_splits(trained))
    }


def _left_out_domain(split: Split, index: int, manifest: Manifest) -> str:
    """Return the domain of a fold's validation cases. Raises SplitError unless it trains on none of it."""
    training, validation = ({manifest.labels_of(case).domain for case in split[side]} for side in ("train", "val"))
    if len(validation) != 1 or training & validation:
        raise SplitError(
            f"fold {index} validates {format_names({d or NO_DOMAIN for d in validation})} and trains on "
            f"{format_names({d or NO_DOMAIN for d in training})}; expected a domain that it does not train on. Was "
            f"{SPLITS_NAME} changed? Delete done/scenario in the folder of the study, and run it again."
        )
    return validation.pop()


def main(arguments: Sequence[str]) -> Any:
    """Run the command line that the module's docstring shows.

    Args:
        arguments: TESTED, OUTPUT and, where folds go by domain, TRAINED.

    Returns:
        0, or the text of what is wrong.
    """
    try:
        link_test_cases(*map(Path, arguments))
    except PartialLabelError as problem:
        return str(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
