"""Read a NIfTI video frame by frame, with constant memory, and the complete frames of a file that is cut off."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import NIFTI_HEADER_BYTES, NiftiHeader, parse_nifti_header
from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable

#: NIfTI-1 data types with one number per pixel (https://nifti.nimh.nih.gov/nifti-1).
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
#: No echo frame is larger; a broken header may say so.
_MAX_PIXELS = 1 << 26

#: Millimeters per unit of length, and seconds per unit of time, by code (https://nifti.nimh.nih.gov/nifti-1). Most
#: programs that name no unit mean mm; ITK, too, takes it so.
_MILLIMETERS = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
#: Time between frames in s that an ultrasound scanner may have; ITK writes 1 s where none is stored.
_STEP_S = (0.0005, 0.5)
#: Height and width of a pixel in mm that an ultrasound image may have.
_PIXEL_MM = (0.005, 10.0)
#: What programs write where they know no spacing; no ultrasound has it.
PLACEHOLDER_MM = (1.0, 1.0)

_READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class NiftiVideo:
    """Describe a video by its header. Frames lie as SimpleITK gives them, (t, rows, cols).

    Attributes:
        path: NIfTI-1 file, compressed or not.
        length: Number of frames.
        shape: Rows and columns of a frame.
        spacing_mm: Height and width of a pixel in mm; None where the header holds a placeholder or cannot be right.
        is_image: Whether the file holds a single image.
        dtype: NumPy type of the stored numbers, with byte order.
        offset: First byte of the pixels.
        slope: Factor of the stored numbers.
        intercept: Summand of the stored numbers.
        step_s: Time between two frames in s; None where the header does not say, as where time is the third axis.
    """

    path: Path
    length: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    is_image: bool
    dtype: str
    offset: int
    slope: float
    intercept: float
    step_s: float | None = None

    def frames(self) -> Iterator[NDArray[Any]]:
        """Yield the frames in turn.

        Yields:
            Array of shape (rows, cols).

        Raises:
            ConversionError: At the first frame that is not complete.
        """
        size = np.dtype(self.dtype).itemsize * math.prod(self.shape)
        complete = 0
        try:
            with _open(self.path) as file:
                _require(file.read(self.offset), self.offset)
                while complete < self.length:
                    frame = np.frombuffer(_require(file.read(size), size), self.dtype).reshape(self.shape)
                    complete += 1
                    yield frame if (self.slope, self.intercept) == (1, 0) else frame * self.slope + self.intercept
                file.read(1)  # the end of a compressed file holds its checksum
        except _READ_ERRORS as problem:
            raise ConversionError(
                f"{printable(self.path.name)} is cut off or broken after {complete} of {self.length} frames: {problem}"
            ) from problem


def read_nifti_header(path: Path) -> NiftiVideo:
    """Read the header of a NIfTI-1 file, compressed or not.

    Args:
        path: The file.

    Returns:
        The video; its pixels are not read yet.

    Raises:
        ConversionError: If the file is missing, broken, or not a video with one number per pixel.
    """
    shown = printable(path.name)
    try:
        with _open(path) as file:
            start = _require(file.read(NIFTI_HEADER_BYTES), NIFTI_HEADER_BYTES)
    except FileNotFoundError:
        raise ConversionError(f"{shown} does not exist") from None
    except _READ_ERRORS as problem:
        raise ConversionError(f"{shown} cannot be read: {problem}") from problem
    header = parse_nifti_header(start)
    if header is None or not header.single_file:
        raise ConversionError(f"{shown} is no NIfTI-1 file")
    axes, size = header.axes, header.size
    frames_axes = size[2:axes]
    length = math.prod(frames_axes)
    if (
        not 2 <= axes <= 7
        or min(size[:axes]) < 1
        or length != max(frames_axes, default=1)
        or size[0] * size[1] > _MAX_PIXELS
    ):
        raise ConversionError(
            f"{shown} has the size {' x '.join(map(str, size[: max(axes, 0)]))}, expected columns x rows x frames"
        )
    if header.datatype not in _DTYPES:
        raise ConversionError(f"{shown} has NIfTI data type {header.datatype}, expected one number per pixel")
    if not NIFTI_HEADER_BYTES <= header.offset < 1 << 24:  # also if it is NaN
        raise ConversionError(
            f"{shown} says that its pixels begin at byte {header.offset:g}, expected 352 or a little more"
        )
    scaled = math.isfinite(header.slope) and math.isfinite(header.intercept) and header.slope != 0
    return NiftiVideo(
        path,
        length,
        (size[1], size[0]),
        _spacing_mm(header),
        length == 1,
        header.byte_order + _DTYPES[header.datatype],
        int(header.offset),
        header.slope if scaled else 1.0,
        header.intercept if scaled else 0.0,
        _step_s(header) if axes > 3 and size[3] == length else None,
    )


def _spacing_mm(header: NiftiHeader) -> tuple[float, float] | None:
    unit = _MILLIMETERS.get(header.units & 0b111, math.nan)
    width, height = (size * unit for size in header.spacing)
    is_known = header.spacing != PLACEHOLDER_MM and all(_PIXEL_MM[0] <= mm <= _PIXEL_MM[1] for mm in (width, height))
    return (height, width) if is_known else None


def _step_s(header: NiftiHeader) -> float | None:
    step = header.step * _SECONDS.get(header.units & 0b111000, math.nan)
    return step if _STEP_S[0] <= step <= _STEP_S[1] else None


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open the file; it is decompressed if its first bytes say so, whatever its name."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _require(content: bytes, length: int) -> bytes:
    if len(content) < length:
        raise EOFError("the file ends there")
    return content
