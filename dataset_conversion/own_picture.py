"""Reading one's own pictures: NIfTI, MetaImage or PNG, flat or volumes, grey or grey stored as colour."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.image_file import Geometry, itk_name, require_whole_nifti, simpleitk

from .mhd_file import require_whole_mhd

ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".png")

#: Brightness of red, green and blue (ITU-R BT.601, https://www.itu.int/rec/R-REC-BT.601).
BRIGHTNESS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class OwnPicture:
    """`array`: (rows, cols) or (slices, rows, cols). `geometry` is None for PNG, which has no size in mm.

    `coloured`: it held colours, of which the brightness was taken.
    """

    array: NDArray[Any]
    geometry: Geometry | None
    coloured: bool

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """One number per axis of `array`, in its order; None where the file does not say."""
        return self.geometry.spacing_mm[: self.array.ndim][::-1] if self.geometry else None


def read_own(path: Path, volumes: bool = False) -> OwnPicture:
    """Reads a file as a picture or, with `volumes`, as a volume. Raises ConversionError for anything else.

    A single slice that is stored as a volume is a picture.
    """
    if not path.name.lower().endswith(ENDINGS):
        raise ConversionError(f"{path.name} is of a kind that is not read here; expected {', '.join(ENDINGS)}")
    if not path.is_file():
        raise ConversionError(f"there is no file {path.name} in {path.parent.name}")
    if path.suffix.lower() == ".mhd":
        require_whole_mhd(path)
    image = _read(path)
    array, coloured = _one_channel(path, simpleitk().GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel())
    while array.ndim > (3 if volumes else 2) and array.shape[0] == 1:
        array = array[0]
    _require_dimensions(path, array, volumes)
    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return OwnPicture(array, None if path.name.lower().endswith(".png") else geometry, coloured)


def _read(path: Path) -> Any:
    try:
        require_whole_nifti(path)
        return simpleitk().ReadImage(itk_name(path))
    except (OSError, EOFError, ValueError, ArithmeticError, RuntimeError, zlib.error) as problem:
        reason = "" if isinstance(problem, RuntimeError) else f" ({problem})"  # ITK's own last lines mislead
        raise ConversionError(f"{path.name} cannot be read: no image, damaged or cut off{reason}") from problem


def _one_channel(path: Path, array: NDArray[Any], channels: int) -> tuple[NDArray[Any], bool]:
    """Grey values, and whether there were colours. A fourth channel (how opaque a pixel is) does not count."""
    if channels == 1:
        return array, False
    if channels not in (3, 4):
        raise ConversionError(f"{path.name} has {channels} numbers per pixel, expected one")
    red = array[..., 0]
    if np.array_equal(red, array[..., 1]) and np.array_equal(red, array[..., 2]):
        return red, False
    return np.rint(array[..., :3] @ np.array(BRIGHTNESS)).astype(array.dtype), True


def _require_dimensions(path: Path, array: NDArray[Any], volumes: bool) -> None:
    if volumes and array.ndim != 3:
        raise ConversionError(f"{path.name} has shape {array.shape}; --volumes expects (slices, rows, cols)")
    if not volumes and array.ndim != 2:
        raise ConversionError(
            f"{path.name} has shape {array.shape}, expected (rows, cols). Volumes need --volumes; sequences must be "
            "cut into single frames"
        )


def require_same_place(image: OwnPicture, mask: OwnPicture) -> list[str]:
    """Differences between the headers of image and mask that are odd but harmless.

    Raises ConversionError where the axes point elsewhere: the mask is then mirrored or turned against the image.
    """
    if image.geometry is None or mask.geometry is None or image.geometry.size != mask.geometry.size:
        return []
    differences = image.geometry.differences(mask.geometry)
    turned = [text for text in differences if text.startswith("direction")]
    if turned:
        raise ConversionError(f"image and mask do not lie on each other: {turned[0]}. Save both in one orientation")
    return [f"image and mask differ in their headers: {text}; that of the image counts" for text in differences]


def renumbered(mask: OwnPicture, meaning: Mapping[int, str], numbers: Mapping[str, int]) -> NDArray[np.uint8]:
    """The mask with the numbers of the data set. `meaning`: class by value of the file; `numbers`: value by class,
    as far as the class was drawn in this case. Raises ConversionError for any other value."""
    if mask.coloured:
        raise ConversionError("the mask is a colour picture (or one with a palette); expected one number per pixel")
    out = np.zeros(mask.array.shape, np.uint8)
    strange = []
    for value in np.unique(mask.array).tolist():
        name = meaning.get(value)
        if name is not None and name in numbers:
            out[mask.array == value] = numbers[name]
        elif value != 0:
            strange.append(f"{value:g}" + (f" ({name}, which 'annotated' does not name)" if name else ""))
    if strange:
        expected = ", ".join(f"{value} {name}" for value, name in meaning.items())
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise ConversionError(f"the mask holds {', '.join(strange[:5])}{more}; expected 0 background, {expected}")
    return out
