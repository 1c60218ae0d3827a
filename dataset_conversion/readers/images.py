"""Read medical image files (NIfTI, MetaImage, PNG) into arrays with their spacing, and write NIfTI.

An MHD image is two files, a header and the pixels; both are checked before reading.
"""

from __future__ import annotations

import functools
import gzip
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import Geometry, itk_name, last_line, require_whole_nifti, simpleitk
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.utils.text import format_values, printable

#: MHD headers are text; no more than this is read.
_MAX_MHD_HEADER_BYTES = 1 << 16
_BYTES_PER_PIXEL = {"MET_UCHAR": 1, "MET_CHAR": 1, "MET_USHORT": 2, "MET_SHORT": 2, "MET_FLOAT": 4, "MET_DOUBLE": 8}
#: Length of a NIfTI-1 header (https://nifti.nimh.nih.gov/nifti-1) with the four bytes that tell of extensions.
_NIFTI_HEADER_BYTES = 352


def read_image(path: Path) -> tuple[NDArray[Any], tuple[float, float]]:
    """Read an image or mask of one number per pixel.

    The third spacing of a sequence is no length and is left out.

    Args:
        path: NIfTI or MetaImage file.

    Returns:
        Array of shape (rows, cols), or (t, rows, cols) for a sequence; and the spacing (height, width) in mm. A single
        frame that is stored as a sequence of one has shape (rows, cols).

    Raises:
        ConversionError: If the file is missing, cut off, or no image.
    """
    if not path.exists():
        raise ConversionError(f"{path.name} does not exist")
    if path.suffix == ".mhd":
        require_whole_mhd(path)
    sitk = simpleitk()
    try:
        require_whole_nifti(path)  # ITK silently fills a file that is cut off with zeros
        image = sitk.ReadImage(itk_name(path))
    except (OSError, EOFError, ValueError, ArithmeticError, RuntimeError, zlib.error) as problem:
        raise ConversionError(f"{path.name} cannot be read: {last_line(problem)}") from problem
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


def write_image(path: Path, array: NDArray[Any], spacing_mm: tuple[float, ...]) -> None:
    """Write a 2-D image or a volume as .nii.gz, byte by byte as SimpleITK would.

    For the hidden folder of a dataset that is being built: a killed process may leave half a file, which the next start
    finds, and nothing is synced to disk before the end. Equal images give equal files.

    Args:
        path: File to write.
        array: Array of shape (rows, cols), or (slices, rows, cols).
        spacing_mm: One number per axis of `array`, in its order.

    Raises:
        DatasetError: If the disk is full or not writable.
    """
    pixels = np.ascontiguousarray(array)
    try:
        header = _nifti_header(path.parent, pixels.shape, pixels.dtype.str, spacing_mm)
        path.write_bytes(gzip.compress(header + pixels.tobytes(), compresslevel=6, mtime=0))
    except (OSError, RuntimeError) as problem:
        path.unlink(missing_ok=True)
        raise DatasetError(
            f"Cannot write {path}: {last_line(problem)}. Is the disk full or write-protected? "
            "The same command goes on where it stopped."
        ) from problem


@functools.lru_cache(maxsize=64)
def _nifti_header(folder: Path, shape: tuple[int, ...], kind: str, spacing_mm: tuple[float, ...]) -> bytes:
    """Return what SimpleITK writes before the pixels of such an image; it depends on nothing else.

    Written once and kept, since writing each small image through SimpleITK takes three times as long. `folder`: where a
    temporary file may lie.
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
    if length < _NIFTI_HEADER_BYTES:
        raise OSError("the file is shorter than it should be")  # ITK may not notice that the disk is full
    return content[:length]


def to_smallest_dtype(image: NDArray[Any]) -> NDArray[Any]:
    """Convert gray values to the smallest type that holds them exactly.

    Args:
        image: Array of any shape.

    Returns:
        uint8 if all values are integers from 0 to 255, else float32.
    """
    if image.dtype == np.uint8:
        return image
    whole = image.astype(np.uint8) if image.min() >= 0 and image.max() <= 255 else None
    return whole if whole is not None and np.array_equal(whole, image) else image.astype(np.float32)


#: Files of `read_own_image`.
IMAGE_ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".png")

_LAYERS = ". Layers of segments that overlap? From 3D Slicer export them as labelmap"

#: Weights of red, green and blue in the luma (ITU-R BT.601, https://www.itu.int/rec/R-REC-BT.601).
LUMA_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class OwnImage:
    """Hold an image of the user.

    Attributes:
        array: Array of shape (rows, cols), or (slices, rows, cols).
        geometry: Size, spacing, origin and direction; None for PNG, which has no spacing.
        is_color: Whether the file held colors, of which the luma was taken.
        components: Numbers per pixel in the file.
    """

    array: NDArray[Any]
    geometry: Geometry | None
    is_color: bool
    components: int = 1

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Return one number per axis of `array` in mm, in its order; None where the file has no spacing."""
        return self.geometry.spacing_mm[: self.array.ndim][::-1] if self.geometry else None


def read_own_image(path: Path, volumes: bool = False) -> OwnImage:
    """Read an image of the user, which may be a volume or in color.

    A single slice that is stored as a volume is a 2-D image.

    Args:
        path: NIfTI, MetaImage or PNG file.
        volumes: Expect a volume instead of a 2-D image.

    Returns:
        The image.

    Raises:
        ConversionError: If the file is missing, cut off, of another format, or has another number of dimensions.
    """
    if not path.name.lower().endswith(IMAGE_ENDINGS):
        slicer = path.suffix.lower() == ".nrrd"
        advice = ". From 3D Slicer export it as NIfTI, a segmentation as labelmap, not with layers" if slicer else ""
        raise ConversionError(
            f"{path.name} has an ending that is not supported; expected {', '.join(IMAGE_ENDINGS)}{advice}"
        )
    if not path.is_file():
        raise ConversionError(f"there is no file {path.name} in {path.parent.name}")
    if path.suffix.lower() == ".mhd":
        require_whole_mhd(path)
    image = _read_itk(path)
    components = image.GetNumberOfComponentsPerPixel()
    array, is_color = _to_gray(path, simpleitk().GetArrayFromImage(image), components)
    while array.ndim > (3 if volumes else 2) and array.shape[0] == 1:
        array = array[0]
    _require_dimensions(path, array, volumes)
    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return OwnImage(array, None if path.name.lower().endswith(".png") else geometry, is_color, components)


def _read_itk(path: Path) -> Any:
    try:
        require_whole_nifti(path)
        return simpleitk().ReadImage(itk_name(path))
    except (OSError, EOFError, ValueError, ArithmeticError, RuntimeError, zlib.error) as problem:
        reason = "" if isinstance(problem, RuntimeError) else f" ({problem})"  # ITK's own last lines mislead
        raise ConversionError(f"{path.name} cannot be read: no image, damaged or cut off{reason}") from problem


def _to_gray(path: Path, array: NDArray[Any], channels: int) -> tuple[NDArray[Any], bool]:
    """Return gray values, and whether there were colors. A fourth channel (opacity) is ignored."""
    if channels == 1:
        return array, False
    if channels not in (3, 4):
        raise ConversionError(f"{path.name} has {channels} numbers per pixel, expected one{_LAYERS}")
    red = array[..., 0]
    if np.array_equal(red, array[..., 1]) and np.array_equal(red, array[..., 2]):
        return red, False
    return np.rint(array[..., :3] @ np.array(LUMA_WEIGHTS)).astype(array.dtype), True


def _require_dimensions(path: Path, array: NDArray[Any], volumes: bool) -> None:
    if volumes and array.ndim != 3:
        layers = _LAYERS if array.ndim > 3 else ""
        raise ConversionError(f"{path.name} has shape {array.shape}; --volumes expects (slices, rows, cols){layers}")
    if not volumes and array.ndim != 2:
        raise ConversionError(
            f"{path.name} has shape {array.shape}, expected (rows, cols). Volumes need --volumes; sequences must be "
            "cut into single frames"
        )


def compare_geometry(image: OwnImage, mask: OwnImage) -> list[str]:
    """Compare the headers of image and mask.

    Args:
        image: Image of the user.
        mask: Its mask.

    Returns:
        Differences that are unusual but harmless; empty if there are none, or one of the two has no header.

    Raises:
        ConversionError: If the directions differ: the mask is then mirrored or rotated against the image.
    """
    if image.geometry is None or mask.geometry is None:
        return []
    first, second = image.geometry.with_axes_of(mask.geometry), mask.geometry.with_axes_of(image.geometry)
    if first.size != second.size:
        return []
    differences = first.differences(second)
    direction = [text for text in differences if text.startswith("direction")]
    if direction:
        raise ConversionError(f"image and mask do not overlap: {direction[0]}. Save both in one orientation")
    return [f"image and mask differ in their headers: {text}; the image header is used" for text in differences]


def relabel_mask(mask: OwnImage, meaning: Mapping[int, str], new_values: Mapping[str, int]) -> NDArray[np.uint8]:
    """Replace the values of a mask by those of the nnU-Net dataset.

    Args:
        mask: Mask as read.
        meaning: Class by value of the file.
        new_values: New value by class, for the classes that are annotated in this case.

    Returns:
        Mask of the same shape.

    Raises:
        ConversionError: If the mask has another value, is a color image or has layers.
    """
    if mask.components > 1 and mask.geometry is not None:  # a PNG may hold gray values as equal colors
        raise ConversionError(f"the mask has {mask.components} numbers per pixel, expected one{_LAYERS}")
    if mask.is_color:
        raise ConversionError("the mask is a color image (or has a palette); expected one number per pixel")
    result = np.zeros(mask.array.shape, np.uint8)
    unexpected = []
    for value in np.unique(mask.array).tolist():
        name = meaning.get(value)
        if name is not None and name in new_values:
            result[mask.array == value] = new_values[name]
        elif value != 0:
            unexpected.append(f"{value:g}" + (f" ({name}, which 'annotated' does not name)" if name else ""))
    if unexpected:
        expected = ", ".join(f"{value} {name}" for value, name in meaning.items())
        raise ConversionError(f"the mask holds {format_values(unexpected, 5)}; expected 0 background, {expected}")
    return result


def require_whole_mhd(path: Path) -> None:
    """Check that an MHD header is readable and its pixel file is complete.

    The pixel file must lie beside its header: a name that leads elsewhere would show another patient. The size of
    compressed pixels is not checked.

    Args:
        path: The header.

    Raises:
        ConversionError: If the header is broken, or the pixel file is missing, elsewhere, or of another size.
    """
    if not path.is_file():
        raise ConversionError(f"{path.name} does not exist")
    values = _mhd_header(path)
    name = values.get("elementdatafile", "")
    if name.upper() == "LOCAL":
        return
    if not name or name != PurePosixPath(name).name or name.upper().startswith("LIST") or "\0" in name:
        raise ConversionError(f"{path.name} has ElementDataFile {printable(name)!r}; expected one file beside it")
    pixels = path.with_name(name)
    if not pixels.is_file():
        beside = path.with_suffix(".raw")
        advice = f"; {beside.name} is there: if that is it, correct the line" if beside.is_file() else ""
        raise ConversionError(f"{path.name} says ElementDataFile = {printable(name)}, which does not exist{advice}")
    expected = _mhd_pixel_bytes(values)
    if values.get("compresseddata", "false").lower() != "true" and expected and pixels.stat().st_size != expected:
        raise ConversionError(f"{printable(name)} has {pixels.stat().st_size} bytes; {path.name} asks for {expected}")


def _mhd_header(path: Path) -> dict[str, str]:
    """Read the `Key = value` lines up to the one that names the pixel file."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_MHD_HEADER_BYTES).decode("utf-8", "surrogateescape")
    except OSError as problem:
        raise ConversionError(f"{path.name} cannot be read: {problem}") from problem
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            break
    return values


def _mhd_pixel_bytes(values: dict[str, str]) -> int | None:
    """Compute the size of the pixel file by the header; None where the header does not say."""
    size = values.get("dimsize", "").split()
    width = _BYTES_PER_PIXEL.get(values.get("elementtype", ""))
    if width is None or not size or not all(n.isascii() and n.isdigit() and len(n) < 7 for n in size):
        return None
    channels = values.get("elementnumberofchannels", "1")
    return math.prod(map(int, size)) * width if channels == "1" and values.get("headersize", "0") == "0" else None
