"""Reading a NIfTI video frame by frame: flat memory for long videos, and what is whole of one that is cut off."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable

#: NIfTI-1 data types with one number per pixel (https://nifti.nimh.nih.gov/nifti-1).
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_HEADER = 348
#: No echo machine has such frames; a broken header may ask for them.
_MOST_PIXELS = 1 << 26

_READING = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class NiftiVideo:
    """A video by its header: `length` frames of `shape` (rows, cols); `spacing_mm` height and width of a pixel.

    Frames lie as SimpleITK gives them, (t, rows, cols). A single picture is a video of one frame with `flat` True.
    """

    path: Path
    length: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    flat: bool
    dtype: str
    offset: int
    slope: float
    intercept: float

    def frames(self) -> Iterator[NDArray[Any]]:
        """Each frame (rows, cols) in turn. Raises ConversionError at the first that is not all there."""
        size = np.dtype(self.dtype).itemsize * math.prod(self.shape)
        whole = 0
        try:
            with _opened(self.path) as file:
                _require(file.read(self.offset), self.offset)
                while whole < self.length:
                    frame = np.frombuffer(_require(file.read(size), size), self.dtype).reshape(self.shape)
                    whole += 1
                    yield frame if (self.slope, self.intercept) == (1, 0) else frame * self.slope + self.intercept
                file.read(1)  # the end of a compressed file holds its check sum
        except _READING as problem:
            raise ConversionError(
                f"{printable(self.path.name)} is cut off or broken after {whole} of {self.length} frames: {problem}"
            ) from problem


def nifti_video(path: Path) -> NiftiVideo:
    """What the header of a NIfTI file, compressed or not, says. Raises ConversionError where it is no grey video."""
    shown = printable(path.name)
    try:
        with _opened(path) as file:
            start = _require(file.read(_HEADER), _HEADER)
    except FileNotFoundError:
        raise ConversionError(f"{shown} does not exist") from None
    except _READING as problem:
        raise ConversionError(f"{shown} cannot be read: {problem}") from problem
    order = next((order for order in "<>" if struct.unpack_from(order + "i", start)[0] == _HEADER), None)
    if order is None or start[344:347] != b"n+1":
        raise ConversionError(f"{shown} is no NIfTI-1 file")
    dimensions = struct.unpack_from(order + "8h", start, 40)
    axes, size = dimensions[0], dimensions[1:]
    if not 2 <= axes <= 7 or min(size[:axes]) < 1 or math.prod(size[3:axes]) != 1 or size[0] * size[1] > _MOST_PIXELS:
        raise ConversionError(
            f"{shown} has the size {' x '.join(map(str, size[: max(axes, 0)]))}, expected columns x rows x frames"
        )
    kind = struct.unpack_from(order + "h", start, 70)[0]
    if kind not in _TYPES:
        raise ConversionError(f"{shown} has NIfTI data type {kind}, expected one number per pixel")
    width, height = struct.unpack_from(order + "2f", start, 80)
    offset, slope, intercept = struct.unpack_from(order + "3f", start, 108)
    if not _HEADER <= offset < 1 << 24:  # also where it is no number
        raise ConversionError(f"{shown} says that its pixels begin at byte {offset:g}, expected 352 or a little more")
    scaled = math.isfinite(slope) and math.isfinite(intercept) and slope != 0
    return NiftiVideo(
        path,
        size[2] if axes > 2 else 1,
        (size[1], size[0]),
        (float(height), float(width)),
        axes == 2 or size[2] == 1,
        order + _TYPES[kind],
        int(offset),
        slope if scaled else 1.0,
        intercept if scaled else 0.0,
    )


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file's content; compressed is what begins so, whatever its name says."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _require(content: bytes, length: int) -> bytes:
    if len(content) < length:
        raise EOFError("the file ends there")
    return content
