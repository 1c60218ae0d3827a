"""Which fold validated which case, read from a split; a case must count once."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_partial.dataset.splits import Split
from nnunet_partial.errors import SplitError
from nnunet_partial.utils.text import some


def cross_validation(splits: Sequence[Split]) -> list[int]:
    """The folds that validate each case once: the first ones, up to a fold that validates one of their cases again (the
    official validation part comes as an extra last fold)."""
    seen: set[str] = set()
    for index, split in enumerate(splits):
        if seen & set(split["val"]):
            return list(range(index))
        seen |= set(split["val"])
    return list(range(len(splits)))


def fold_of_cases(splits: Sequence[Split], folds: Sequence[int]) -> dict[str, int]:
    """The fold that validates each case, sorted by case. Raises SplitError for a fold that the split does not have, and
    for a case that two of the folds validate."""
    strange = [str(fold) for fold in folds if not 0 <= fold < len(splits)]
    if strange:
        raise SplitError(f"The split has the folds 0 to {len(splits) - 1}; asked for: {some(strange)}.")
    fold_of: dict[str, int] = {}
    twice = []
    for fold in dict.fromkeys(folds):
        for case in splits[fold]["val"]:
            if case in fold_of:
                twice.append(f"{case} (folds {fold_of[case]} and {fold})")
            fold_of.setdefault(case, fold)
    if twice:
        apart = " ".join(map(str, cross_validation(splits)))
        raise SplitError(
            f"{len(twice)} case(s) are validated by two of the folds, and would count twice: {some(twice)}. Choose "
            f"folds that share none with -f; the cross-validation is -f {apart}."
        )
    return dict(sorted(fold_of.items()))
