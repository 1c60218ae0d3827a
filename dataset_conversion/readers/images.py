"""Reading a medical image file into an array with its pixel size, and writing one.

Reading one's own pictures: NIfTI, MetaImage or PNG, flat or volumes, grey or grey stored as colour.

MHD images are two files, a header and the pixels: do they belong together, and is all of it there?
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

from nnunet_partial.dataset.images import Geometry, itk_name, require_whole_nifti, simpleitk
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.utils.text import format_values, printable

_LARGEST_HEADER = 1 << 16
_BYTES = {"MET_UCHAR": 1, "MET_CHAR": 1, "MET_USHORT": 2, "MET_SHORT": 2, "MET_FLOAT": 4, "MET_DOUBLE": 8}


def require_whole_mhd(path: Path) -> None:
    """Raises ConversionError where the header is broken, the file of pixels is missing, elsewhere, or too short.

    The file of pixels must lie beside its header: a name that leads elsewhere would show another patient's heart.
    Compressed pixels are not counted.
    """
    if not path.is_file():
        raise ConversionError(f"{path.name} does not exist")
    values = _header(path)
    name = values.get("elementdatafile", "")
    if name.upper() == "LOCAL":
        return
    if not name or name != PurePosixPath(name).name or name.upper().startswith("LIST") or "\0" in name:
        raise ConversionError(f"{path.name} has ElementDataFile {printable(name)!r}; expected one file beside it")
    pixels = path.with_name(name)
    if not pixels.is_file():
        beside = path.with_suffix(".raw")
        way = f"; {beside.name} is there: if that is it, correct the line" if beside.is_file() else ""
        raise ConversionError(f"{path.name} says ElementDataFile = {printable(name)}, which does not exist{way}")
    expected = _expected_bytes(values)
    if values.get("compresseddata", "false").lower() != "true" and expected and pixels.stat().st_size != expected:
        raise ConversionError(f"{printable(name)} has {pixels.stat().st_size} bytes; {path.name} asks for {expected}")


def _header(path: Path) -> dict[str, str]:
    """`Key = value` lines up to the one that names the pixels."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_HEADER).decode("utf-8", "surrogateescape")
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


def _expected_bytes(values: dict[str, str]) -> int | None:
    """Size of the pixels by the header; None where it cannot be told."""
    size = values.get("dimsize", "").split()
    width = _BYTES.get(values.get("elementtype", ""))
    if width is None or not size or not all(n.isascii() and n.isdigit() and len(n) < 7 for n in size):
        return None
    channels = values.get("elementnumberofchannels", "1")
    return math.prod(map(int, size)) * width if channels == "1" and values.get("headersize", "0") == "0" else None


#: Of NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1), with the four bytes that say whether more follows.
_HEADER_BYTES = 352


def read_camus_image(path: Path) -> tuple[NDArray[Any], tuple[float, float]]:
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


def write_image(path: Path, array: NDArray[Any], spacing_mm: tuple[float, ...]) -> None:
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


def to_smallest_dtype(image: NDArray[Any]) -> NDArray[Any]:
    """The same grey values as uint8 where all are whole numbers from 0 to 255, else as float32."""
    if image.dtype == np.uint8:
        return image
    whole = image.astype(np.uint8) if image.min() >= 0 and image.max() <= 255 else None
    return whole if whole is not None and np.array_equal(whole, image) else image.astype(np.float32)


ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".png")

#: Brightness of red, green and blue (ITU-R BT.601, https://www.itu.int/rec/R-REC-BT.601).
BRIGHTNESS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class OwnImage:
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


def read_own_image(path: Path, volumes: bool = False) -> OwnImage:
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
    return OwnImage(array, None if path.name.lower().endswith(".png") else geometry, coloured)


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


def require_same_place(image: OwnImage, mask: OwnImage) -> list[str]:
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


def renumbered(mask: OwnImage, meaning: Mapping[int, str], numbers: Mapping[str, int]) -> NDArray[np.uint8]:
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
        raise ConversionError(f"the mask holds {format_values(strange, 5)}; expected 0 background, {expected}")
    return out
