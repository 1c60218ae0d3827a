"""Is it known how many millimetres a pixel measures? What the file, nnU-Net's CASE.json and the manifest say of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.raw_dataset import TIFF
from nnunet_partial.utils.files import read_json

if TYPE_CHECKING:
    from nnunet_partial.image_file import Geometry

#: File endings that nnU-Net reads without a pixel size: it takes every pixel as 1 x 1.
WITHOUT_SIZE = (".png", ".bmp", *TIFF)


def size_known(labels: CaseLabels, geometry: Geometry | None) -> bool:
    """Whether millimetres may be said of a case: as its manifest says (`spacing_known`), else as its file does.

    `geometry`: of its image or label file; None, where it was not read: then the manifest alone tells.
    """
    said = labels.info.get("spacing_known")
    return said if isinstance(said, bool) else geometry is None or geometry.sized


def volume_spacing_mm(path: Path, axes: int) -> tuple[float, ...] | None:
    """The spacing of a TIFF volume, x first, from the CASE.json beside it; None for other files, or without one.

    nnU-Net keeps it there, z first, for CASE.tif (labels) as for CASE_0000.tif (images). Raises OSError, worded for
    the user, where that file holds no three numbers above 0.
    """
    if axes != 3 or path.suffix.lower() not in TIFF:
        return None
    image_of = path.stem[:-5] if path.stem[-5:-4] == "_" and path.stem[-4:].isdecimal() else path.stem
    file = next((f for stem in (path.stem, image_of) if (f := path.with_name(f"{stem}.json")).is_file()), None)
    if file is None:
        return None
    try:
        content = read_json(file)
    except PartialLabelError as problem:
        raise OSError(str(problem)) from None
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not isinstance(spacing, list) or len(spacing) != axes or not all(map(_is_length, spacing)):
        raise OSError(f"{file.name} beside it has the spacing {spacing}; expected three numbers above 0, as [z, y, x]")
    return tuple(float(step) for step in reversed(spacing))


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
