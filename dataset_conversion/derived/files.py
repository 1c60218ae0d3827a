"""Bringing one image or label file along into another data set: as a link, or with other numbers in it.

Giving the structures in a label file their numbers in another data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_partial.dataset.images import simpleitk
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.files import atomic_path, link_or_copy


def relabel(source: Path, target: Path, new_values: Mapping[int, int]) -> None:
    """Writes `source` to `target` with each value replaced by `new_values[value]`; geometry stays.

    `target` is replaced as a whole, never written into: it may be a hard link to somebody's data. Raises DatasetError
    for a value that `new_values` does not name.
    """
    sitk = simpleitk()
    image = sitk.ReadImage(str(source))
    old = sitk.GetArrayViewFromImage(image)
    values = np.unique(old).tolist()
    strange = [value for value in values if value not in new_values]
    if strange:
        raise DatasetError(f"{source} holds the label value(s) {strange}; expected {sorted(new_values)}.")
    smallest = np.uint8 if max(new_values.values()) < 256 else np.uint16
    new = np.zeros(old.shape, smallest)
    for value in values:
        new[old == value] = new_values[value]
    result = sitk.GetImageFromArray(new)
    result.CopyInformation(image)
    with atomic_path(target) as temporary:
        sitk.WriteImage(result, str(temporary), True)


@dataclass(frozen=True)
class File:
    """One file to bring along; `new_values` (new label value by old) is None where it stays as it is."""

    source: Path
    target: Path
    new_values: Mapping[int, int] | None = None


def bring(file: File) -> None:
    """Links (or copies) the file, or rewrites it where its numbers change.

    A target that is there already stays: what an interrupted run left is whole, and `staged_dataset` made sure that it
    comes from these very sources. Raises DatasetError for a label value without a new one.
    """
    if file.target.exists():
        return
    if file.new_values is None:
        link_or_copy(file.source, file.target)
    else:
        relabel(file.source, file.target, file.new_values)
