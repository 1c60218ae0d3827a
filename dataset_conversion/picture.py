"""Reading a medical image file into an array with its pixel size, and writing one."""

from __future__ import annotations

import functools
import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.image_file import itk_name, require_whole_nifti, simpleitk

from .mhd_file import require_whole_mhd

#: Of NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1), with the four bytes that say whether more follows.
_HEADER_BYTES = 352


def read_picture(path: Path) -> tuple[NDArray[Any], tuple[float, float]]:
    """An image or mask: array (rows, cols), for a sequence (t, rows, cols), and (height, width) of a pixel in mm.

    A single frame that is stored as a sequence of one comes back as (rows, cols). The third spacing of a sequence is
    no length and is left out. Raises ConversionError where the file is missing, cut off or no image.
    """
    if not path.exists():
        raise ConversionError(f"{path.name} does not exist")
    if path.suffix == ".mhd":
        require_whole_mhd(path)
    sitk = simpleitk()
    try:
        require_whole_nifti(path)  # ITK fills a file that is cut off with zeros, without a word
        image = sitk.ReadImage(itk_name(path))
    except (OSError, EOFError, ValueError, ArithmeticError, RuntimeError, zlib.error) as problem:
        raise ConversionError(f"{path.name} cannot be read: {_last_line(problem)}") from problem
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ConversionError(
            f"{path.name} has {image.GetNumberOfComponentsPerPixel()} numbers per pixel, expected one"
        )
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise ConversionError(f"{path.name} has shape {array.shape}, expected (rows, cols) or (t, rows, cols)")
    width, height = image.GetSpacing()[:2]
    return array, (float(height), float(width))


def write_picture(path: Path, array: NDArray[Any], spacing_mm: tuple[float, ...]) -> None:
    """Writes (rows, cols) as 2-D .nii.gz with pixels of (height, width) mm, a volume as 3-D, as SimpleITK would.

    For the hidden folder of a data set that is being built: a kill may leave half a file, which the next start finds,
    and nothing is synced to disk before the end. Equal pictures give equal files, byte by byte. Raises DatasetError
    where the disk does not take it (full, not writable).
    """
    pixels = np.ascontiguousarray(array)
    try:
        header = _nifti_header(path.parent, pixels.shape, pixels.dtype.str, spacing_mm)
        path.write_bytes(gzip.compress(header + pixels.tobytes(), compresslevel=6, mtime=0))
    except (OSError, RuntimeError) as problem:
        path.unlink(missing_ok=True)
        raise DatasetError(
            f"Cannot write {path}: {_last_line(problem)}. Is the disk full or write-protected? "
            "The same command goes on where it stopped."
        ) from problem


@functools.lru_cache(maxsize=64)
def _nifti_header(folder: Path, shape: tuple[int, ...], kind: str, spacing_mm: tuple[float, ...]) -> bytes:
    """What SimpleITK writes before the pixels of such a picture: it depends on nothing else.

    Written once and kept, since writing each small picture through SimpleITK takes three times as long. `folder`: where
    a file may be for a moment.
    """
    sitk = simpleitk()
    image = sitk.GetImageFromArray(np.zeros(shape, np.dtype(kind)))
    image.SetSpacing(spacing_mm[::-1])
    sample = folder / f".tmp_header_{os.getpid()}.nii"
    try:
        sitk.WriteImage(image, itk_name(sample))
        content = sample.read_bytes()
    finally:
        sample.unlink(missing_ok=True)
    length = len(content) - math.prod(shape) * np.dtype(kind).itemsize
    if length < _HEADER_BYTES:
        raise OSError("the file is shorter than it should be")  # ITK may not notice that the disk is full
    return content[:length]


def _last_line(problem: Exception) -> str:
    """Of an ITK error the last line says what happened."""
    lines = str(problem).strip().splitlines()
    return lines[-1].strip().removeprefix("sitk::ERROR: ") if lines else type(problem).__name__


def compact(image: NDArray[Any]) -> NDArray[Any]:
    """The same grey values as uint8 where all are whole numbers from 0 to 255, else as float32."""
    if image.dtype == np.uint8:
        return image
    whole = image.astype(np.uint8) if image.min() >= 0 and image.max() <= 255 else None
    return whole if whole is not None and np.array_equal(whole, image) else image.astype(np.float32)
