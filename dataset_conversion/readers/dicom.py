"""Read ultrasound images and clips in DICOM: gray frames, pixel size, frame times, and nothing that names a person.

Only the elements of `_ELEMENTS` are read (`read_identity` reads three more, for keyed hashes), and no message repeats a
value that may name somebody. Needs the extra `dicom`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError, install_hint
from nnunet_partial.utils.text import printable

from .images import LUMA_WEIGHTS

DICOM_ENDINGS = (".dcm", ".dicom")

#: What is read of a header (https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.8.5.5.html).
_ELEMENTS = (
    "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "BurnedInAnnotation", "SequenceOfUltrasoundRegions", "FrameTime",
    "FrameTimeVector", "CineRate", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
)  # fmt: skip

_MODALITIES = ("US", "IVUS")
_GRAY, _PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
_COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

#: Codes of a region: its axes are two lengths, its pixels show tissue, its pixel size is in cm.
_2D, _TISSUE, _CM = 1, 1, 3
#: What a region may measure; anything else is a fault of its units.
_REGION_MM = (1.0, 1000.0)

#: No echo clip is larger; a broken header may say so.
_MAX_PIXELS, _MAX_FRAMES = 1 << 24, 100_000


@dataclass(frozen=True)
class TissueRegion:
    """Locate the 2-D tissue image in a frame.

    Attributes:
        top: First row.
        bottom: Row behind the last one.
        left: First column.
        right: Column behind the last one.
        spacing_mm: Height and width of a pixel in mm.
    """

    top: int
    bottom: int
    left: int
    right: int
    spacing_mm: tuple[float, float]

    def cut(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Cut the region out of a frame.

        Args:
            frame: Array of shape (rows, cols).

        Returns:
            Array of shape (bottom - top, right - left).
        """
        return frame[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class DicomClip:
    """Describe a clip, or an image as a clip of one frame, by its header.

    Attributes:
        path: The file.
        length: Number of frames.
        shape: Rows and columns of a whole frame.
        region: Where the tissue is; None where the header does not say, or cannot be right.
        region_problem: Why there is no region; empty if there is one.
        burned_in: Whether the header says that a name is written into the pixels.
        frame_times_ms: Time of each frame after the first one, in ms; None where the header does not say.
        frame_times_from: Which element they are from: FrameTimeVector, FrameTime or CineRate; None without times.
    """

    path: Path
    length: int
    shape: tuple[int, int]
    region: TissueRegion | None
    region_problem: str
    burned_in: bool
    frame_times_ms: tuple[float, ...] | None
    frame_times_from: str | None

    def require_no_names(self) -> None:
        """Check that what lies outside the region can be cut, and that nothing is known to be written inside.

        Raises:
            ConversionError: If there is no region that can be used, or a name is burned in.
        """
        advice = "Look at it; where no frame shows a name or a date, add --keep-whole-frame"
        if self.burned_in:
            raise ConversionError(f"{_shown(self.path)} says that names are burned into its pixels. {advice}")
        if self.region is None:
            text = f"{_shown(self.path)}: {self.region_problem}, so that names beside the image cannot be cut off"
            raise ConversionError(f"{text}. {advice}")

    def frames(
        self, numbers: Sequence[int] | None = None, keep_whole_frame: bool = False
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield frames one by one; only one is held in memory.

        Args:
            numbers: Which frames, from 0; None for all.
            keep_whole_frame: Yield whole frames instead of the region, also where a name may be written in them.

        Yields:
            Gray values of shape (rows, cols), of the region or of the whole frame.

        Raises:
            ConversionError: If names could remain (`require_no_names`), a frame does not exist, or cannot be decoded;
                after all frames, if the file holds more.
        """
        if not keep_whole_frame:
            self.require_no_names()
        wanted = range(self.length) if numbers is None else numbers
        for number in wanted:
            if not 0 <= number < self.length:
                raise ConversionError(
                    f"there is no frame {number}: {_shown(self.path)} has {self.length}, numbered from 0"
                )
        with _only_our_errors(self.path):
            header = _read_header(self.path)
            decoded = _import_pydicom().pixels.iter_pixels(
                self.path, indices=None if numbers is None else list(numbers)
            )
        for number in wanted:
            with _only_our_errors(self.path, f"frame {number}"):
                frame = _to_gray(next(decoded), header)
                if frame.shape != self.shape:
                    raise ValueError
            yield frame if keep_whole_frame or self.region is None else self.region.cut(frame)
        if numbers is None:
            with _only_our_errors(self.path, f"what follows frame {self.length - 1}"):
                if next(decoded, None) is not None or _stored_frames(self.path, header) > self.length:
                    raise ConversionError(f"{_shown(self.path)} holds more frames than the {self.length} of its header")


def read_dicom_still(path: Path, number: int | None, keep_whole_frame: bool) -> tuple[DicomClip, NDArray[np.uint8]]:
    """Read one frame.

    Args:
        path: DICOM file.
        number: Which frame, from 0; None for the only one.
        keep_whole_frame: See `DicomClip.frames`.

    Returns:
        The header, and gray values of shape (rows, cols).

    Raises:
        ConversionError: As by `read_dicom_header` and `DicomClip.frames`, or if one of several frames must be chosen.
    """
    clip = read_dicom_header(path)
    if number is None and clip.length > 1:
        raise ConversionError(f"{_shown(path)} has {clip.length} frames; say which in a column frame, from 0")
    return clip, next(clip.frames([number or 0], keep_whole_frame))


def is_dicom(path: Path) -> bool:
    """Check whether a file is DICOM by its ending, or else by its content: often it has no ending.

    Args:
        path: The file.

    Returns:
        Whether it is, or should be; False for a file of another ending that is missing or cannot be read.
    """
    if path.name.lower().endswith(DICOM_ENDINGS):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dicom_header(path: Path) -> DicomClip:
    """Read the header of an ultrasound image or clip.

    Args:
        path: DICOM file.

    Returns:
        The clip; its pixels are not read yet.

    Raises:
        ConversionError: If the extra is not installed, the file is missing, broken or no ultrasound, or its pixels
            cannot be decoded.
    """
    with _only_our_errors(path):
        clip = _describe(path, _read_header(path))
    return clip


def read_identity(path: Path) -> tuple[str, str, str]:
    """Read what keyed hashes are made of. The values name a person and an examination: never show or store them.

    Args:
        path: DICOM file.

    Returns:
        PatientID, StudyInstanceUID and SOPInstanceUID; empty where the header does not have them.

    Raises:
        ConversionError: If the extra is not installed, or the file is missing or broken.
    """
    tags = ["PatientID", "StudyInstanceUID", "SOPInstanceUID"]
    with _only_our_errors(path):
        header = _import_pydicom().dcmread(path, stop_before_pixels=True, specific_tags=tags)
        patient, study, clip = (str(header.get(tag) or "").strip() for tag in tags)
    return patient, study, clip


def _describe(path: Path, header: Any) -> DicomClip:
    _require_ultrasound(path, header)
    _require_decoder(path, header)
    shape = int(header.Rows), int(header.Columns)
    length = int(header.get("NumberOfFrames") or 1)
    if min(shape) < 1 or math.prod(shape) > _MAX_PIXELS or not 1 <= length <= _MAX_FRAMES:
        raise ConversionError(f"{_shown(path)} has {length} frames of {shape[0]} x {shape[1]} pixels")
    region, problem = _find_region(header, shape)
    burned_in = "YES" in str(header.get("BurnedInAnnotation", "")).upper()
    return DicomClip(path, length, shape, region, problem, burned_in, *_frame_times_ms(header, length))


def _import_pydicom() -> Any:
    try:
        import pydicom.pixels
    except ModuleNotFoundError as error:
        raise ConversionError(f"DICOM needs {error.name!r}, which is missing: {install_hint('dicom')}.") from error
    return pydicom


def _shown(path: Path) -> str:
    return printable(path.name)


@contextlib.contextmanager
def _only_our_errors(path: Path, part: str = "") -> Iterator[None]:
    """Turn any error into one of ours, and drop what pydicom says: it quotes values of the file."""
    name = f"{part} of {_shown(path)}" if part else _shown(path)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ConversionError:
        raise
    except FileNotFoundError:
        raise ConversionError(f"{_shown(path)} does not exist") from None
    except Exception:  # whatever a decoder raises, without what it quotes
        raise ConversionError(f"{name} cannot be read: no DICOM image, damaged or cut off") from None
    finally:
        logging.disable(before)


def _read_header(path: Path) -> Any:
    return _import_pydicom().dcmread(path, stop_before_pixels=True, specific_tags=list(_ELEMENTS))


def _stored_frames(path: Path, header: Any) -> int:
    """Return how many frames the pixels of a file that is not compressed have room for; 0 where it is compressed.

    Other elements may follow the pixels, and a length that is not said (2^32 - 1) counts as too many.
    """
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_compressed or syntax.is_deflated:
        return 0
    is_implicit, is_little_endian = header.original_encoding
    with path.open("rb") as file:
        _import_pydicom().dcmread(file, stop_before_pixels=True, specific_tags=["Rows"])
        start = file.read(8 if is_implicit else 12)  # tag, type, length
    length = int.from_bytes(start[-4:], "little" if is_little_endian else "big")
    pixels = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
    samples = 2 if header.PhotometricInterpretation == "YBR_FULL_422" else int(header.SamplesPerPixel)
    return length // (pixels * samples)


def _require_ultrasound(path: Path, header: Any) -> None:
    modality = str(header.get("Modality", ""))
    if modality not in _MODALITIES:
        shown = modality if re.fullmatch("[A-Z]{2,16}", modality) else "unknown"
        raise ConversionError(f"{_shown(path)} has modality {shown}, expected ultrasound (US). Save others as NIfTI")
    photometric = str(header.get("PhotometricInterpretation", ""))
    kinds = {**dict.fromkeys((*_GRAY, _PALETTE), 1), **dict.fromkeys(_COLORS, 3)}
    samples = int(header.get("SamplesPerPixel", 0))
    if kinds.get(photometric) != samples:
        shown = photometric if re.fullmatch("[A-Z0-9_ ]{1,16}", photometric) else "unknown"
        raise ConversionError(f"{_shown(path)} has {samples} numbers per pixel of color space {shown}")
    bits = int(header.get("BitsAllocated", 0))
    if int(header.get("PixelRepresentation", 0)) != 0 or (bits != 8 and (bits, photometric) != (16, _PALETTE)):
        raise ConversionError(f"{_shown(path)} has {bits} bits per number, expected 8 without a sign")


def _require_decoder(path: Path, header: Any) -> None:
    """Raise ConversionError with the name of a transfer syntax that cannot be decoded."""
    pydicom = _import_pydicom()
    syntax = header.file_meta.TransferSyntaxUID
    try:
        available = pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        uid = str(syntax) if re.fullmatch(r"[0-9.]{1,64}", str(syntax)) else "unknown"
        name = syntax.name if syntax.is_transfer_syntax and not syntax.is_private else uid
        raise ConversionError(
            f"{_shown(path)} is compressed as {name}, for which no decoder is installed. The extra "
            "'dicom' decodes JPEG (baseline), JPEG 2000 and RLE; convert others to one of them"
        )


def _to_gray(frame: NDArray[Any], header: Any) -> NDArray[np.uint8]:
    """Return gray values: the luma of colors, which `iter_pixels` has turned into RGB."""
    photometric = str(header.PhotometricInterpretation)
    if photometric == _PALETTE:
        frame = _import_pydicom().pixels.apply_color_lut(frame, header)
    elif frame.dtype != np.uint8:
        raise ValueError
    if photometric == "MONOCHROME1":  # 0 is white
        return ((1 << int(header.BitsStored)) - 1 - frame).astype(np.uint8)
    if photometric == "MONOCHROME2":
        return frame
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError
    return np.rint(frame @ (np.array(LUMA_WEIGHTS) * 255 / np.iinfo(frame.dtype).max)).astype(np.uint8)


def _find_region(header: Any, shape: tuple[int, int]) -> tuple[TissueRegion | None, str]:
    """Return the region of tissue, or None and the reason."""
    regions = set()
    for item in header.get("SequenceOfUltrasoundRegions") or ():
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) == (_2D, _TISSUE):
            try:
                regions.add(_read_region(item))
            except (AttributeError, TypeError, ValueError):
                return None, "its ultrasound region is incomplete"
    if len(regions) != 1:
        return None, f"it has {len(regions) or 'no'} ultrasound region{'s' if regions else ''} of tissue in 2-D"
    (region,) = regions
    if region is None:
        return None, "the pixel size of its ultrasound region is not in cm"
    size = region.bottom - region.top, region.right - region.left
    if not (0 <= region.top < region.bottom <= shape[0] and 0 <= region.left < region.right <= shape[1]):
        text = f"rows {region.top} to {region.bottom - 1} and columns {region.left} to {region.right - 1}"
        return None, f"its ultrasound region is {text}, outside of the {shape[0]} x {shape[1]} pixels"
    for pixels, mm in zip(size, region.spacing_mm, strict=True):
        if not _REGION_MM[0] <= pixels * mm <= _REGION_MM[1]:
            return None, f"its ultrasound region is {pixels * mm:g} mm large"
    return region, ""


def _read_region(item: Any) -> TissueRegion | None:
    """Read an item of the sequence; None if its pixel size is in other units than cm."""
    if (item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection) != (_CM, _CM):
        return None
    return TissueRegion(
        int(item.RegionLocationMinY0),
        int(item.RegionLocationMaxY1) + 1,
        int(item.RegionLocationMinX0),
        int(item.RegionLocationMaxX1) + 1,
        (abs(float(item.PhysicalDeltaY)) * 10, abs(float(item.PhysicalDeltaX)) * 10),
    )


def _frame_times_ms(header: Any, length: int) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the times by FrameTimeVector, FrameTime or CineRate, the first that makes sense, and its name.

    0 means missing.
    """
    steps = _numbers(header.get("FrameTimeVector"))[1:]  # the first one stands before the first frame
    if length > 1 and len(steps) == length - 1 and min(steps) > 0:
        return (0.0, *np.cumsum(steps).tolist()), "FrameTimeVector"
    frame_time_ms, frames_per_s = _positive(header.get("FrameTime")), _positive(header.get("CineRate"))
    step = frame_time_ms or (1000 / frames_per_s if frames_per_s else None)
    if step is None:
        return None, None
    return tuple(number * step for number in range(length)), "FrameTime" if frame_time_ms else "CineRate"


def _positive(value: Any) -> float | None:
    numbers = _numbers(value)
    return numbers[0] if len(numbers) == 1 and numbers[0] > 0 else None


def _numbers(value: Any) -> list[float]:
    """Return finite numbers; empty where one is not."""
    try:
        numbers = [float(number) for number in np.atleast_1d([] if value is None else value)]
    except (TypeError, ValueError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
