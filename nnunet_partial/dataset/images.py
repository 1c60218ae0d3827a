"""What an image or label file on disk holds: size, position in space, values, and whether all of it is there.

Is it known how many millimetres a pixel measures? What the file, nnU-Net's CASE.json and the manifest say of it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import TIFF
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.files import read_json

#: File endings that nnU-Net reads without a pixel size: it takes every pixel as 1 x 1.
WITHOUT_SPACING = (".png", ".bmp", *TIFF)


def spacing_is_known(labels: CaseLabels, geometry: Geometry | None) -> bool:
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


#: Relative difference up to which two spacings, origins or directions count as the same (headers store float32).
TOLERANCE = 1e-3

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Geometry:
    """Size in voxels, spacing and origin in mm, direction cosines: one number per axis, in the order x, y(, z).

    `sized`: whether the spacing is one that nnU-Net goes by; PNG, BMP and TIFF have none, but for TIFF volumes with a
    CASE.json beside them.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    components: int = 1
    sized: bool = True

    def differences(self, other: Geometry) -> list[str]:
        """What differs, in words: 'size 4 x 5 against 4 x 6'; empty where the two lie on each other.

        Spacings are compared where both files have one.
        """
        if self.size != other.size:
            return [f"size {_by(self.size)} against {_by(other.size)}"]
        smallest = min(self.spacing_mm)
        found = []
        if self.sized and other.sized and not _close(self.spacing_mm, other.spacing_mm, TOLERANCE * smallest):
            found.append(f"spacing {_by(self.spacing_mm)} mm against {_by(other.spacing_mm)} mm")
        if not _close(self.origin_mm, other.origin_mm, 0.01 * smallest):
            found.append(f"origin {_by(self.origin_mm)} mm against {_by(other.origin_mm)} mm")
        if not _close(self.direction, other.direction, TOLERANCE):
            found.append(f"direction {_by(self.direction)} against {_by(other.direction)}")
        return found


@dataclass(frozen=True)
class ImageInfo:
    """What `look` saw: geometry and, where asked for, the distinct values; or else `problem`, why it is of no use."""

    geometry: Geometry | None = None
    values: tuple[float, ...] = ()
    problem: str | None = None


def simpleitk() -> Any:
    """SimpleITK, imported where it is needed: it takes a third of a second."""
    import SimpleITK

    return SimpleITK


def itk_name(path: Path) -> str:
    """The path as ITK wants it. Raises OSError where it holds bytes that are no UTF-8: they would end the program."""
    try:
        path.as_posix().encode("utf-8")
    except UnicodeEncodeError:
        raise OSError("its name, or that of a folder above it, is not UTF-8. Rename it") from None
    return str(path)


def header(path: Path) -> Geometry:
    """The geometry, from the header alone. Raises OSError, worded for the user, where it cannot be read."""
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as problem:
        raise OSError(_reason(problem)) from None
    return _geometry(path, reader, reader.GetNumberOfComponents())


def inspect_image(path: Path, with_values: bool = False) -> ImageInfo:
    """Reads the whole file once; never raises for what is wrong with it.

    NaN and infinite pixels are a problem, of a label file a value as any other. nnU-Net's planning stops at NaN without
    naming a file, and lets infinite pixels pass, which become NaN when it normalises.
    """
    try:
        geometry, array = read_array(path)
    except OSError as problem:
        return ImageInfo(problem=f"cannot be read: {problem}")
    if with_values:
        return ImageInfo(geometry, _values(array))
    broken = _not_finite(array)
    return ImageInfo(problem=f"holds {broken} pixel(s) that are NaN or infinite") if broken else ImageInfo(geometry)


def read_array(path: Path) -> tuple[Geometry, Any]:
    """The geometry (x first) and the values (x last) of a whole file. Raises OSError, worded for the user."""
    sitk = simpleitk()
    try:
        require_whole_nifti(path)
        image = sitk.ReadImage(itk_name(path))
    except (OSError, EOFError, ValueError, ArithmeticError, zlib.error) as problem:
        raise OSError(str(problem)) from None
    except RuntimeError as problem:
        raise OSError(_reason(problem)) from None
    geometry = _geometry(path, image, image.GetNumberOfComponentsPerPixel())
    return geometry, sitk.GetArrayFromImage(image)  # a copy: a view would outlive the image that holds its memory


def _geometry(path: Path, source: Any, components: int) -> Geometry:
    """`source`: SimpleITK's image, or a reader of its header. Raises OSError for a broken CASE.json."""
    beside = volume_spacing_mm(path, len(source.GetSize()))
    return Geometry(
        source.GetSize(),
        beside or source.GetSpacing(),
        source.GetOrigin(),
        source.GetDirection(),
        int(components),
        sized=beside is not None or not path.name.lower().endswith(WITHOUT_SPACING),
    )


def _values(array: Any) -> tuple[float, ...]:
    """The distinct values, sorted, NaN last; plane by plane, so that a large volume needs no large copy."""
    import numpy as np

    found: set[float] = set()
    for plane in array if array.ndim > 2 else [array]:
        found.update(np.unique(plane).tolist())
    numbers = sorted(value for value in found if not math.isnan(value))
    return (*numbers, math.nan) if len(numbers) < len(found) else tuple(numbers)


def _not_finite(array: Any) -> int:
    """How many values are NaN or infinite."""
    import numpy as np

    return 0 if array.dtype.kind in "iub" else int(array.size - np.count_nonzero(np.isfinite(array)))


def require_whole_nifti(path: Path) -> None:
    """Raises where a NIfTI file is shorter than its header says, its compression is broken, or a pixel is no number.

    ITK reads such a file without a word: what is missing, NaN or infinite becomes zero, i.e. background.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        return
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        start = file.read(348)
        expected, offset, floats = _nifti_form(start)
        length, broken = len(start), 0
        while block := file.read(min(max(offset - length, 0), _BLOCK) or _BLOCK):
            if floats and length >= offset:
                broken += _not_finite(_numbers(block[: max(expected - length, 0)], floats))
            length += len(block)
    if length < expected:
        raise OSError(f"it is cut off: {length} bytes where its header asks for {expected}")
    if broken:
        raise OSError(f"it holds {broken} pixel(s) that are NaN or infinite, which would be taken for 0")


def _numbers(block: bytes, dtype: str) -> Any:
    import numpy as np

    size = np.dtype(dtype).itemsize
    return np.frombuffer(block[: len(block) // size * size], dtype)


def _nifti_form(start: bytes) -> tuple[int, int, str]:
    """Bytes that a NIfTI-1 file must have by its header, where its pixels begin, and their type where they are floats.

    Source: https://nifti.nimh.nih.gov/nifti-1. (0, 0, "") for other kinds.
    """
    if len(start) < 348:
        raise OSError("it is cut off: its header is not complete")
    for order in "<>":
        if struct.unpack_from(order + "i", start)[0] == 348:
            dimensions = struct.unpack_from(order + "8h", start, 40)
            bits = int(struct.unpack_from(order + "h", start, 72)[0])
            offset = int(struct.unpack_from(order + "f", start, 108)[0])
            voxels = math.prod(max(int(n), 1) for n in dimensions[1 : 1 + max(dimensions[0], 0)])
            floats = {16: "f4", 64: "f8"}.get(struct.unpack_from(order + "h", start, 70)[0])
            return offset + voxels * bits // 8, offset, order + floats if floats else ""
    return 0, 0, ""


def _reason(problem: RuntimeError) -> str:
    """The last line of an ITK error, which is the one that says something."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1].removeprefix("sitk::ERROR: ") if lines else "unknown error"


def _close(left: tuple[float, ...], right: tuple[float, ...], tolerance: float) -> bool:
    return len(left) == len(right) and all(abs(a - b) <= tolerance for a, b in zip(left, right, strict=True))


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
