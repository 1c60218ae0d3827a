"""Reading a medical image file into an array with its pixel size, and writing one."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.files import atomic_path
from nnunet_partial.image_file import itk_name, require_whole_nifti, simpleitk

from .mhd_file import require_whole_mhd


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
    """Writes (rows, cols) as 2-D NIfTI with pixels of (height, width) mm, a volume as 3-D, whole or not at all.

    Equal pictures give equal files, byte by byte.
    Raises DatasetError where the disk does not take it (full, not writable).
    """
    sitk = simpleitk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing_mm[::-1])
    try:
        with atomic_path(path) as temporary:
            sitk.WriteImage(image, itk_name(temporary))
            require_whole_nifti(temporary)  # ITK may not notice that the disk is full
    except (OSError, EOFError, RuntimeError, zlib.error) as problem:
        raise DatasetError(
            f"Cannot write {path}: {_last_line(problem)}. Is the disk full or write-protected? "
            "The same command goes on where it stopped."
        ) from problem


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
