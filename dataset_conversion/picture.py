"""Reading a medical image file into an array with its pixel size, and writing one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.files import atomic_path
from nnunet_partial.image_file import look, simpleitk


def read_picture(path: Path) -> tuple[NDArray[Any], tuple[float, float]]:
    """An image or mask: array (rows, cols), for a sequence (t, rows, cols), and (height, width) of a pixel in mm.

    A single frame that is stored as a sequence of one comes back as (rows, cols). The third spacing of a sequence is
    no length and is left out. Raises ConversionError where the file is missing, cut off or no image.
    """
    if not path.exists():
        raise ConversionError(f"{path.name} does not exist")
    facts = look(path)  # ITK fills a file that is cut off with zeros, without a word
    if facts.problem or facts.geometry is None:
        raise ConversionError(f"{path.name} {facts.problem}")
    if facts.geometry.components != 1:
        raise ConversionError(f"{path.name} has {facts.geometry.components} numbers per pixel, expected grey values")
    sitk = simpleitk()
    image = sitk.ReadImage(str(path))
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise ConversionError(f"{path.name} has shape {array.shape}, expected (rows, cols) or (t, rows, cols)")
    width, height = image.GetSpacing()[:2]
    return array, (float(height), float(width))


def write_picture(path: Path, array: NDArray[Any], spacing_mm: tuple[float, float]) -> None:
    """Writes (rows, cols) as 2-D NIfTI with pixels of (height, width) mm, whole or not at all.

    Equal pictures give equal files, byte by byte.
    Raises DatasetError where the disk does not take it (full, not writable).
    """
    sitk = simpleitk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing((spacing_mm[1], spacing_mm[0]))
    try:
        with atomic_path(path) as temporary:
            sitk.WriteImage(image, str(temporary))
            problem = look(temporary).problem  # ITK may not notice that the disk is full
            if problem:
                raise OSError(f"the file written {problem}")
    except (OSError, RuntimeError) as problem:
        reason = str(problem).strip().splitlines()[-1] if str(problem).strip() else type(problem).__name__
        raise DatasetError(
            f"Cannot write {path}: {reason}. Is the disk full or write-protected? "
            "The same command goes on where it stopped."
        ) from problem


def compact(image: NDArray[Any]) -> NDArray[Any]:
    """The same grey values as uint8 where all are whole numbers from 0 to 255, else as float32."""
    if image.dtype == np.uint8:
        return image
    whole = image.astype(np.uint8) if image.min() >= 0 and image.max() <= 255 else None
    return whole if whole is not None and np.array_equal(whole, image) else image.astype(np.float32)
