"""Put one image or label file into a derived dataset: as a link, or with other label values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.dataset.images import load_skewed, read_array, simpleitk, write_itk
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.files import atomic_path, link_or_copy
from nnunet_partial.utils.parallel import parallel_map


def relabel(source: Path, target: Path, new_values: Mapping[int, int]) -> None:
    """Write a label file with other label values and the same geometry.

    The values are stored as uint8, or as uint16 where a new value is 256 or more.

    Args:
        source: Label file to read.
        target: File to write. It is replaced as a whole, never written into, because it may be a hard link to a file of
            another dataset.
        new_values: New label value by old label value.

    Raises:
        DatasetError: The file holds a value that `new_values` does not have, or the disk is full or not writable.
        OSError: The file cannot be read.
    """
    geometry, old = read_array(source)
    values = np.unique(old).tolist()
    unexpected = [value for value in values if value not in new_values]
    if unexpected:
        raise DatasetError(f"{source} holds the label value(s) {unexpected}; expected {sorted(new_values)}.")
    smallest = np.uint8 if max(new_values.values()) < 256 else np.uint16
    new = np.zeros(old.shape, smallest)
    for value in values:
        new[old == value] = new_values[value]
    write_values(source, target, new, geometry.skewed)


def write_values(source: Path, target: Path, values: Any, skewed: bool = False) -> None:
    """Write a label file with the geometry of another one.

    Args:
        source: File with the geometry.
        target: File to write. It is replaced as a whole, never written into.
        values: Label values, (z, y, x) or (y, x).
        skewed: Whether the file has axes that ITK refuses.

    Raises:
        DatasetError: The disk is full or not writable.
    """
    with atomic_path(target) as temporary:
        if skewed:
            _write_skewed(source, temporary, values)
        else:
            image = simpleitk().GetImageFromArray(values)
            image.CopyInformation(simpleitk().ReadImage(str(source)))
            write_itk(image, temporary, compressed=True)


def _write_skewed(source: Path, target: Path, values: Any) -> None:
    """Write values (z, y, x) with the header of a NIfTI file that ITK refuses."""
    import nibabel

    image = load_skewed(source)
    image.header.set_data_dtype(values.dtype)
    try:
        nibabel.save(nibabel.Nifti1Image(values.T, image.affine, image.header), target)
        whole, reason = np.array_equal(read_array(target)[1], values), "it was cut off"
    except OSError as problem:
        whole, reason = False, str(problem)
    if not whole:
        raise DatasetError(f"Cannot write {target}: {reason}. Is the disk full or write-protected?")


def changes(values: Iterable[float], new_values: Mapping[int, int]) -> bool:
    """Tell whether a label file with these values looks different with the new ones."""
    return any(new_values[int(value)] != value for value in values)


@dataclass(frozen=True)
class FileToWrite:
    """Describe one file of a derived dataset and where it comes from.

    Attributes:
        source: File in the source dataset.
        target: File in the derived dataset.
        new_values: New label value by old label value; None where the file stays as it is.
    """

    source: Path
    target: Path
    new_values: Mapping[int, int] | None = None


def write_files(files: Sequence[FileToWrite], processes: int = 1, progress: bool = False) -> None:
    """Link (or copy) files, and rewrite those whose label values change.

    A target that exists stays: files left by an interrupted run are complete, and `staged_dataset` has checked that
    they were made from the same sources.

    Args:
        files: The files, their targets and new label values.
        processes: Number of processes that write files.
        progress: Whether to print the progress.

    Raises:
        DatasetError: As of `relabel`.
    """
    for _ in parallel_map(_link_or_relabel, files, processes, "linking and relabeling" if progress else None):
        pass


def _link_or_relabel(file: FileToWrite) -> None:
    if file.target.exists():
        return
    if file.new_values is None:
        link_or_copy(file.source, file.target)
    else:
        relabel(file.source, file.target, file.new_values)
