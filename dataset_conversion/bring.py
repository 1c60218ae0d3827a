"""Bringing one image or label file along into another data set: as a link, or with other numbers in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.utils.files import link_or_copy

from .relabel import relabel


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
