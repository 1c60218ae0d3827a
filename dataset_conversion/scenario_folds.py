"""The folds of a scenario: those of the data set it was made from, so that all its scenarios compare on the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_partial.errors import SplitError
from nnunet_partial.labels import Manifest
from nnunet_partial.raw_dataset import nnunet_folder
from nnunet_partial.splits import SPLITS_NAME, Split, check_splits, make_splits
from nnunet_partial.utils.files import read_json


def folds_of(source: Path, manifest: Manifest, cases: Sequence[str]) -> list[Split]:
    """The folds of the data set in the raw folder `source`, with its `manifest` and its training `cases`.

    Read from the preprocessed folder, which trainings go by, else from the raw one; made from the manifest where
    neither has any. Raises SplitError where they leak a patient or do not fit the cases.
    """
    places = [source / SPLITS_NAME]
    if os.environ.get("nnUNet_preprocessed"):
        places.insert(0, nnunet_folder("nnUNet_preprocessed") / source.name / SPLITS_NAME)
    for place in places:
        if place.exists():
            splits: list[Split] = read_json(place, SplitError)
            try:
                check_splits(splits, manifest, cases)
            except SplitError as problem:
                raise SplitError(f"{place.parent}: {problem}") from None
            return splits
    return make_splits(manifest, cases)[0]


def restricted(splits: Sequence[Split], kept: Sequence[str], manifest: Manifest) -> tuple[list[Split], list[str]]:
    """The same folds with the cases that were kept, and warnings.

    Where a fold would have nothing left on one side, new folds are made by patient; the warning says so.
    """
    here = set(kept)
    folds = [{side: [case for case in split[side] if case in here] for side in ("train", "val")} for split in splits]
    empty = [str(index) for index, fold in enumerate(folds) if not fold["train"] or not fold["val"]]
    if not empty:
        return folds, []
    made, warnings = make_splits(manifest, kept)
    return made, [f"fold {', '.join(empty)} of the source has no case left on one side: new folds were made", *warnings]


def untaught(splits: Sequence[Split], manifest: Manifest, classes: Sequence[str]) -> list[str]:
    """A warning for each fold in whose training part no case is annotated for a class that others are annotated for."""
    annotated: Mapping[str, frozenset[str]] = {
        case: frozenset(manifest.labels_of(case).annotated)
        for split in splits
        for case in (*split["train"], *split["val"])
    }
    somewhere = frozenset().union(*annotated.values())
    found = []
    for index, split in enumerate(splits):
        taught = frozenset().union(*(annotated[case] for case in split["train"]))
        found += [
            f"in fold {index} no training case is annotated for {name}: it cannot be learned there"
            for name in classes
            if name in somewhere - taught
        ]
    return found
