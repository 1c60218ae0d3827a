"""Read image and label files: geometry, values, and whether all of the file is there.

Spacing is read from the file or, for TIFF volumes, from nnU-Net's CASE.json beside it; the manifest may say that it is
not known.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import statistics
import struct
import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import TIFF
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.files import read_json

#: File endings that nnU-Net reads without spacing: it takes every pixel as 1 x 1.
WITHOUT_SPACING = (".png", ".bmp", *TIFF)
_IMAGE_ENDINGS = (".nii", ".gz", ".nrrd", ".mha", ".gipl", *WITHOUT_SPACING)

#: Relative difference up to which two spacings, origins or directions count as the same (headers store float32).
TOLERANCE = 1e-3

NIFTI_HEADER_BYTES = 348
#: File endings of NIfTI.
NIFTI_ENDINGS = (".nii", ".nii.gz")

_BLOCK_BYTES = 1 << 20
#: Of BMP: the longest header, of 14 + 124 bytes, and 256 colors of four.
_BMP_PALETTE_END = 14 + 124 + 4 * 256
_VOLUME_AXES = 3
_SEGMENT = re.compile(r"Segment\d+_Name")


@dataclass(frozen=True)
class Geometry:
    """Hold the position of an image in space; one number per axis, in the order x, y(, z).

    Attributes:
        size: Size in voxels.
        spacing_mm: Spacing in mm.
        origin_mm: Origin in mm.
        direction: Direction cosines.
        components: Values per pixel.
        sized: Whether nnU-Net goes by the spacing. PNG, BMP and TIFF have none, but for TIFF volumes with a CASE.json.
        segments: Names of the segments in a segmentation of 3D Slicer.
        skewed: Whether the axes of a NIfTI file are not exactly at right angles, so that ITK refuses it.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    components: int = 1
    sized: bool = True
    segments: tuple[str, ...] = ()
    skewed: bool = False

    @property
    def several_values(self) -> str | None:
        """Say why a label file cannot be used that holds several values per pixel; None where it holds one."""
        if self.segments and (self.components != 1 or len(self.size) > _VOLUME_AXES):
            return (
                f"has layers, as 3D Slicer saves segments that overlap ({', '.join(self.segments)}). Export the "
                "segmentation as a labelmap there, which has one value per pixel"
            )
        return None if self.components == 1 else f"has {self.components} values per pixel (a color image?), not one"

    def with_axes_of(self, other: Geometry) -> Geometry:
        """Drop the third axis of a single slice where the other image has only two.

        Args:
            other: Geometry of the other image.

        Returns:
            The geometry in the plane; this one itself unless the two differ in that way.
        """
        if len(other.size) != 2 or len(self.size) != 3 or self.size[2] != 1:
            return self
        plane = self.direction[:2] + self.direction[3:5]
        return replace(
            self, size=self.size[:2], spacing_mm=self.spacing_mm[:2], origin_mm=self.origin_mm[:2], direction=plane
        )

    def differences(self, other: Geometry) -> list[str]:
        """Compare with another image. Spacings are compared where both files have one.

        Args:
            other: Geometry of the other image.

        Returns:
            What differs, such as 'size 4 x 5 against 4 x 6'; empty where both lie on each other.
        """
        if self.size != other.size:
            return [f"size {_by(self.size)} against {_by(other.size)}"]
        smallest = min(self.spacing_mm)
        lines = []
        if self.sized and other.sized and not _close(self.spacing_mm, other.spacing_mm, TOLERANCE * smallest):
            lines.append(f"spacing {_by(self.spacing_mm)} mm against {_by(other.spacing_mm)} mm")
        if not _close(self.origin_mm, other.origin_mm, 0.01 * smallest):
            lines.append(f"origin {_by(self.origin_mm)} mm against {_by(other.origin_mm)} mm")
        if not _close(self.direction, other.direction, TOLERANCE):
            lines.append(f"direction {_by(self.direction)} against {_by(other.direction)}")
        return lines


@dataclass(frozen=True)
class ImageInfo:
    """Hold what was read from a file.

    Attributes:
        geometry: Its geometry; None where it cannot be read.
        values: The distinct values, where they were asked for.
        problem: Why the file cannot be used; None where it can.
        digest: Hash of an image's pixels; empty for label files and for images of one gray value.
    """

    geometry: Geometry | None = None
    values: tuple[float, ...] = ()
    problem: str | None = None
    digest: str = ""


def inspect_image(path: Path, with_values: bool = False) -> ImageInfo:
    """Read a whole file once. A file that cannot be used raises nothing; `problem` says why.

    NaN and infinite pixels are a problem of an image; of a label file (`with_values`) they are values as any other.
    nnU-Net's planning stops at NaN without naming a file, and accepts infinite pixels, which become NaN when it
    normalizes.

    Args:
        path: The file.
        with_values: Whether to collect the distinct values.

    Returns:
        What was read.
    """
    try:
        geometry, array = read_array(path)
    except OSError as problem:
        return ImageInfo(problem=f"cannot be read: {problem}")
    if with_values:
        if geometry.several_values:
            return ImageInfo(geometry, problem=geometry.several_values)
        return ImageInfo(geometry, _values(array))
    n_invalid = _count_not_finite(array)
    if n_invalid:
        return ImageInfo(problem=f"holds {n_invalid} pixel(s) that are NaN or infinite")
    return ImageInfo(geometry, digest=_digest(array))


def without_endings(name: str) -> str:
    """Return a name without the file endings of images at its end.

    Args:
        name: Such as CASE.nii.gz, in capitals or not.

    Returns:
        The name; itself where it has no such ending.
    """
    ending = next((ending for ending in _IMAGE_ENDINGS if name.lower().endswith(ending)), "")
    return without_endings(name[: -len(ending)]) if ending else name


def flat_volumes(geometry: Mapping[str, Geometry]) -> list[str]:
    """Find a dataset of one-slice volumes whose slices nnU-Net would not train on, but on lines through them.

    nnU-Net plans its 2-D configuration across the axis of the largest median spacing (the first in the order z, y, x
    where several are equal). Where a slice is thinner than a pixel is wide, that is an axis in the image.

    Args:
        geometry: Geometry of the image by training case.

    Returns:
        A sentence; empty where nnU-Net sees the slices, or there are other images than volumes.
    """
    volumes = [one for one in geometry.values() if len(one.size) == _VOLUME_AXES]
    if not volumes or len(volumes) < len(geometry):
        return []
    spacing = [statistics.median(one.spacing_mm[axis] for one in volumes) for axis in range(_VOLUME_AXES)]
    size = [statistics.median(one.size[axis] for one in volumes) for axis in range(_VOLUME_AXES)]
    across = max(
        reversed(range(_VOLUME_AXES)), key=spacing.__getitem__
    )  # of several, nnU-Net takes the first of z, y, x
    flat = [axis for axis in range(_VOLUME_AXES) if axis != across and size[axis] <= 1]
    if not flat:
        return []
    return [
        f"the images are volumes of one slice along {'xyz'[flat[0]]}, but their spacing of {_by(tuple(spacing))} mm is "
        f"largest along {'xyz'[across]}: nnU-Net would plan 2-D patches of one pixel width and see no image. Set the "
        f"spacing along {'xyz'[flat[0]]} to more than {max(spacing):g} mm in images and labels (the thickness of a "
        "slice does not matter there), or save them as 2-D images, and plan again"
    ]


def header(path: Path) -> Geometry:
    """Read the geometry from the header alone.

    Args:
        path: The file.

    Returns:
        The geometry.

    Raises:
        OSError: The header cannot be read; worded for the user.
    """
    _require_no_twin(path)
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as problem:
        if is_skewed(path, problem):
            return _skewed_geometry(load_skewed(path))
        raise OSError(last_line(problem)) from None
    return _geometry(path, reader, reader.GetNumberOfComponents())


def read_array(path: Path) -> tuple[Geometry, Any]:
    """Read a whole file.

    Args:
        path: The file.

    Returns:
        The geometry (x first) and the values, an array with x last.

    Raises:
        OSError: The file cannot be read or is cut off; worded for the user.
    """
    import numpy as np

    sitk = simpleitk()
    try:
        require_whole_nifti(path)
        image = sitk.ReadImage(itk_name(path))
    except (OSError, EOFError, ValueError, ArithmeticError, zlib.error) as problem:
        raise OSError(str(problem)) from None
    except RuntimeError as problem:
        if is_skewed(path, problem):
            skewed = load_skewed(path)
            return _skewed_geometry(skewed), np.ascontiguousarray(np.asarray(skewed.dataobj).T)
        raise OSError(last_line(problem)) from None
    geometry = _geometry(path, image, image.GetNumberOfComponentsPerPixel())
    array = sitk.GetArrayFromImage(image)  # a copy: a view would outlive the image that holds its memory
    return geometry, array if geometry.components == image.GetNumberOfComponentsPerPixel() else array[..., 0].copy()


def write_itk(image: Any, path: Path, compressed: bool = False) -> None:
    """Write a SimpleITK image, and read it again: in some formats ITK does not notice that the disk is full.

    Args:
        image: The image.
        path: The file; its ending decides the format.
        compressed: Whether to compress it.

    Raises:
        DatasetError: If the disk is full or not writable; nothing is left of the file.
    """
    import numpy as np

    sitk = simpleitk()
    try:
        sitk.WriteImage(image, itk_name(path), compressed)
        # GIPL and TIFF come back with an axis of one slice more or less
        whole = np.array_equal(read_array(path)[1].ravel(), sitk.GetArrayViewFromImage(image).ravel())
        reason = "it was cut off"
    except (OSError, RuntimeError) as problem:
        whole, reason = False, last_line(problem)
    if not whole:
        path.unlink(missing_ok=True)
        raise DatasetError(f"Cannot write {path}: {reason}. Is the disk full or write-protected?")


def spacing_is_known(labels: CaseLabels, geometry: Geometry | None) -> bool:
    """Tell whether the spacing of a case is known: by its entry (`spacing_known`), else by its file.

    Args:
        labels: The case's entry in the manifest.
        geometry: Geometry of its image or label file; None where it was not read.

    Returns:
        Whether results may be given in mm; True where neither says otherwise.
    """
    declared = labels.info.get("spacing_known")
    return declared if isinstance(declared, bool) else geometry is None or geometry.sized


def volume_spacing_mm(path: Path, axes: int) -> tuple[float, ...] | None:
    """Read the spacing of a TIFF volume from the CASE.json beside it.

    nnU-Net keeps it there, z first, for CASE.tif (labels) as for CASE_0000.tif (images).

    Args:
        path: The image or label file.
        axes: Its number of axes.

    Returns:
        The spacing in mm, x first; None for other files, or without a CASE.json.

    Raises:
        OSError: The CASE.json does not hold three numbers above 0; worded for the user.
    """
    if axes != 3 or path.suffix.lower() not in TIFF:
        return None
    image_of = path.stem[:-5] if path.stem[-5:-4] == "_" and path.stem[-4:].isdecimal() else path.stem
    file = next((f for stem in (path.stem, image_of) if (f := path.with_name(f"{stem}.json")).is_file()), None)
    if file is None:
        return None
    try:
        content = read_json(file)
    except PartialLabelError as problem:
        raise OSError(str(problem)) from None
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not isinstance(spacing, list) or len(spacing) != axes or not all(map(_is_length, spacing)):
        raise OSError(f"{file.name} beside it has the spacing {spacing}; expected three numbers above 0, as [z, y, x]")
    return tuple(float(step) for step in reversed(spacing))


@dataclass(frozen=True)
class NiftiHeader:
    """Hold the fields of a NIfTI-1 header that tell where and how the pixels are stored, as they are in the file.

    Attributes:
        byte_order: "<" (little-endian) or ">".
        axes: Number of axes.
        size: Pixels along each of the seven possible axes, x first.
        datatype: Code of the data type.
        bits: Bits per pixel.
        spacing: Spacing along x and y, in the unit of `units`.
        offset: Byte at which the pixels begin.
        slope: Factor of the stored values.
        intercept: Added to the stored values.
        single_file: Whether the pixels follow in the same file.
        step: Spacing along the fourth axis, which is time, in the unit of `units`.
        units: Code of the units of space and time.

    References:
        https://nifti.nimh.nih.gov/nifti-1
    """

    byte_order: str
    axes: int
    size: tuple[int, ...]
    datatype: int
    bits: int
    spacing: tuple[float, float]
    offset: float
    slope: float
    intercept: float
    single_file: bool
    step: float = 0.0
    units: int = 0


def parse_nifti_header(start: bytes) -> NiftiHeader | None:
    """Parse the header of a NIfTI-1 file.

    Args:
        start: The first bytes of the file, uncompressed; `NIFTI_HEADER_BYTES` or more.

    Returns:
        The header; None where the bytes are not a NIfTI-1 header.
    """
    order = next((order for order in "<>" if struct.unpack_from(order + "i", start)[0] == NIFTI_HEADER_BYTES), None)
    if order is None:
        return None
    axes, *size = struct.unpack_from(order + "8h", start, 40)
    datatype, bits = struct.unpack_from(order + "2h", start, 70)
    width, height, _, step = struct.unpack_from(order + "4f", start, 80)
    offset, slope, intercept = struct.unpack_from(order + "3f", start, 108)
    return NiftiHeader(
        order,
        axes,
        tuple(size),
        datatype,
        bits,
        (float(width), float(height)),
        offset,
        slope,
        intercept,
        single_file=start[344:347] == b"n+1",
        step=float(step),
        units=start[123],
    )


def require_whole_nifti(path: Path) -> None:
    """Require that a NIfTI file is complete and holds finite values only; other files pass.

    ITK reads a broken file without an error: what is missing, NaN or infinite becomes zero, i.e. background.

    Args:
        path: The file.

    Raises:
        OSError: The file is shorter than its header says, holds NaN or infinite values, or ITK would read another one
            in its place. Broken compression raises what gzip and zlib raise.
    """
    name = path.name.lower()
    if not name.endswith(NIFTI_ENDINGS):
        return
    _require_no_twin(path)
    with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file:
        start = file.read(NIFTI_HEADER_BYTES)
        expected, offset, dtype = _pixel_range(start)
        length, n_invalid = len(start), 0
        while block := file.read(min(max(offset - length, 0), _BLOCK_BYTES) or _BLOCK_BYTES):
            if dtype and length >= offset:
                n_invalid += _count_not_finite(_numbers(block[: max(expected - length, 0)], dtype))
            length += len(block)
    if length < expected:
        raise OSError(f"it is cut off: {length} bytes where its header asks for {expected}")
    if n_invalid:
        raise OSError(f"it holds {n_invalid} pixel(s) that are NaN or infinite, which would be taken for 0")


def has_twin(name: str, others: Container[str]) -> bool:
    """Tell whether a NIfTI file stands beside one of the same name that is not compressed.

    Of CASE.nii.gz, ITK reads the header and then, where CASE.nii is there, the pixels of that one. So does nnU-Net.

    Args:
        name: Name of the file.
        others: Names of the files in its folder.

    Returns:
        Whether it does; False for files that are not compressed.
    """
    return name.lower().endswith(".nii.gz") and name[: -len(".gz")] in others


def _require_no_twin(path: Path) -> None:
    twin = path.with_suffix("")
    if has_twin(path.name, (twin.name,)) and twin.exists():
        raise OSError(
            f"{twin.name} lies beside it, and ITK would take its pixels in place of these. Leave one of the two"
        )


def simpleitk() -> Any:
    """Return SimpleITK, imported where it is needed: it takes a third of a second."""
    import SimpleITK

    return SimpleITK


def is_skewed(path: Path, problem: RuntimeError) -> bool:
    """Tell whether ITK refuses a NIfTI file only since its axes are not exactly at right angles.

    nnU-Net's NibabelIO reads such files.

    Args:
        path: The file.
        problem: What ITK raised.

    Returns:
        Whether this is the reason.
    """
    return path.name.lower().endswith(NIFTI_ENDINGS) and "orthonormal" in str(problem)


def load_skewed(path: Path) -> Any:
    """Open a NIfTI volume as nnU-Net's NibabelIO does.

    Args:
        path: The file.

    Returns:
        nibabel's image.

    Raises:
        OSError: The file cannot be read, or is no volume.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, ValueError) as problem:
        raise OSError(str(problem)) from None
    if image.ndim != _VOLUME_AXES:
        raise OSError(f"it has {image.ndim} axes that are not at right angles; expected {_VOLUME_AXES} axes")
    return image


def _skewed_geometry(image: Any) -> Geometry:
    """Read the geometry off nibabel's image, whose x and y axes point the other way than ITK's."""
    spacing = [float(step) for step in image.header.get_zooms()]
    rows = [[float(value) * sign for value in row] for row, sign in zip(image.affine[:3], (-1, -1, 1), strict=True)]
    direction = tuple(row[axis] / spacing[axis] for row in rows for axis in range(_VOLUME_AXES))
    return Geometry(image.shape, tuple(spacing), tuple(row[3] for row in rows), direction, skewed=True)


def itk_name(path: Path) -> str:
    """Return the path for ITK.

    Args:
        path: The file.

    Returns:
        The path as text.

    Raises:
        OSError: The path is not UTF-8, which crashes ITK.
    """
    try:
        path.as_posix().encode("utf-8")
    except UnicodeEncodeError:
        raise OSError("its name, or that of a folder above it, is not UTF-8. Rename it") from None
    return str(path)


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _geometry(path: Path, source: Any, components: int) -> Geometry:
    """Read the geometry off SimpleITK's image, or a reader of its header."""
    volume_spacing = volume_spacing_mm(path, len(source.GetSize()))
    if _is_gray_bmp(path):
        components = 1
    return Geometry(
        source.GetSize(),
        volume_spacing or source.GetSpacing(),
        source.GetOrigin(),
        source.GetDirection(),
        int(components),
        sized=volume_spacing is not None or not path.name.lower().endswith(WITHOUT_SPACING),
        segments=tuple(source.GetMetaData(key) for key in sorted(source.GetMetaDataKeys()) if _SEGMENT.fullmatch(key)),
    )


def _is_gray_bmp(path: Path) -> bool:
    """Tell whether the colors of a BMP file are the gray values 0, 1, 2, ...; ITK makes red, green and blue of them."""
    if not path.name.lower().endswith(".bmp"):
        return False
    with path.open("rb") as file:
        start = file.read(_BMP_PALETTE_END)
    info, bits, colors = (int.from_bytes(start[at:end], "little") for at, end in ((14, 18), (28, 30), (46, 50)))
    palette = start[14 + info :]
    return bits == 8 and all(palette[4 * n : 4 * n + 3] == bytes([n] * 3) for n in range(min(colors or 256, 256)))


def _values(array: Any) -> tuple[float, ...]:
    """Return the distinct values, sorted, NaN last; plane by plane, so that a large volume needs no large copy."""
    import numpy as np

    distinct: set[float] = set()
    for plane in array if array.ndim > 2 else [array]:
        distinct.update(np.unique(plane).tolist())
    numbers = sorted(value for value in distinct if not math.isnan(value))
    return (*numbers, math.nan) if len(numbers) < len(distinct) else tuple(numbers)


def _digest(array: Any) -> str:
    """Hash pixels, so that equal images are found; empty for a blank one, which links nobody."""
    import numpy as np

    if array.size == 0 or array.min() == array.max():
        return ""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _count_not_finite(array: Any) -> int:
    import numpy as np

    return 0 if array.dtype.kind in "iub" else int(array.size - np.count_nonzero(np.isfinite(array)))


def _numbers(block: bytes, dtype: str) -> Any:
    import numpy as np

    size = np.dtype(dtype).itemsize
    return np.frombuffer(block[: len(block) // size * size], dtype)


def _pixel_range(start: bytes) -> tuple[int, int, str]:
    """Return how many bytes a NIfTI-1 file must have, where its pixels begin, and their dtype where it is a float.

    (0, 0, "") for other kinds of NIfTI.

    Raises:
        OSError: The header is not complete.
    """
    if len(start) < NIFTI_HEADER_BYTES:
        raise OSError("it is cut off: its header is not complete")
    info = parse_nifti_header(start)
    if info is None:
        return 0, 0, ""
    offset = int(info.offset)
    voxels = math.prod(max(n, 1) for n in info.size[: max(info.axes, 0)])
    floats = {16: "f4", 64: "f8"}.get(info.datatype)
    return offset + voxels * info.bits // 8, offset, info.byte_order + floats if floats else ""


def last_line(problem: Exception) -> str:
    """Return the last line of an ITK error, the only one that says what happened.

    Args:
        problem: The error.

    Returns:
        The line; the class of an error without text.
    """
    lines = str(problem).strip().splitlines()
    return lines[-1].strip().removeprefix("sitk::ERROR: ") if lines else type(problem).__name__


def _close(left: tuple[float, ...], right: tuple[float, ...], tolerance: float) -> bool:
    return len(left) == len(right) and all(abs(a - b) <= tolerance for a, b in zip(left, right, strict=True))


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
