"""Write small ultrasound DICOM files, with names in the header that must never come out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

#: What names a person; none of it may be in an output or a message.
IDENTITY = {
    "PatientName": "Hubermann^Zoe",
    "PatientID": "ID4711",
    "PatientBirthDate": "19310203",
    "StudyDate": "20190807",
    "InstitutionName": "Saint Nowhere",
    "SOPInstanceUID": "1.2.3.4711",
    "StudyInstanceUID": "1.2.3.8922",
}


def region(rows: tuple[int, int], cols: tuple[int, int], cm: tuple[float, float], **changes: Any) -> Dataset:
    """A region of tissue from the first to the last row and column; `cm`: height and width of a pixel."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinY0, item.RegionLocationMaxY1 = rows
    item.RegionLocationMinX0, item.RegionLocationMaxX1 = cols
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaY, item.PhysicalDeltaX = cm
    for name, value in changes.items():
        setattr(item, name, value)
    return item


def write_dicom(
    path: Path,
    frames: NDArray[Any],
    regions: Sequence[Dataset] = (),
    kind: str = "MONOCHROME2",
    syntax: UID = uid.ExplicitVRLittleEndian,
    **elements: Any,
) -> Path:
    """`frames`: (t, rows, cols) or (t, rows, cols, 3), uint8; `elements` replace those of the header."""
    header = FileMetaDataset()
    header.TransferSyntaxUID = uid.ExplicitVRLittleEndian if syntax == uid.RLELossless else syntax
    header.MediaStorageSOPClassUID = uid.UltrasoundMultiFrameImageStorage
    header.MediaStorageSOPInstanceUID = UID(IDENTITY["SOPInstanceUID"])
    file = FileDataset(str(path), {}, file_meta=header, preamble=b"\0" * 128)
    file.SOPClassUID, file.Modality = uid.UltrasoundMultiFrameImageStorage, "US"
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape[:3]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3 if frames.ndim == 4 else 1), kind
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    if frames.ndim == 4:
        file.PlanarConfiguration = 0
    if regions:
        file.SequenceOfUltrasoundRegions = list(regions)
    encode = ENCODERS.get(syntax, np.ndarray.tobytes)
    file.PixelData = (
        encapsulate([encode(f) for f in frames]) if header.TransferSyntaxUID.is_compressed else frames.tobytes()
    )
    file["PixelData"].VR = "OB"
    add(file, IDENTITY)
    if syntax == uid.RLELossless:
        file.compress(syntax, generate_instance_uid=False)
    add(file, elements)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path)
    return path


def add(file: Dataset, elements: Mapping[str, Any]) -> None:
    for name, value in elements.items():
        setattr(file, name, value)


def jpeg(frame: NDArray[np.uint8]) -> bytes:
    """Encode as baseline JPEG, colors as YCbCr, of which half the columns remain (4:2:2)."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=95, subsampling=1)
    return file.getvalue()


def jpeg_2000(frame: NDArray[np.uint8]) -> bytes:
    """Encode as a lossless codestream of JPEG 2000."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG2000", no_jp2=True, irreversible=False)
    return file.getvalue()


#: By transfer syntax; of others the frames are written as they are, so that they say what they are not.
ENCODERS = {uid.JPEGBaseline8Bit: jpeg, uid.JPEG2000Lossless: jpeg_2000}
