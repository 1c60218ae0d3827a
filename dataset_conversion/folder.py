"""The user's own data: a folder of images, a folder of masks, and a table of what is annotated in which.

The table (CSV) has a row per case: which image, which mask, which patient, and what is annotated.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from nnunet_partial.dataset.images import Geometry
from nnunet_partial.dataset.splits import similar_patients
from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, common_order
from nnunet_partial.utils.tables import TextRow, read_table
from nnunet_partial.utils.text import format_names, printable

from .base import (
    DEPTH_MM,
    ULTRASOUND,
    ConvertedCase,
    DataSet,
    Note,
    Skipped,
    SourceItem,
    SourceScan,
    add_depth_option,
    nominal_spacing_mm,
    not_found,
    require_depth,
    require_folder,
    require_identifier,
)
from .readers.dicom import DICOM_ENDINGS, TissueRegion, is_dicom, read_dicom_still
from .readers.images import IMAGE_ENDINGS, OwnImage, compare_geometry, read_own_image, relabel_mask
from .readers.isolated import Crashed, run_isolated
from .readers.nifti_video import PLACEHOLDER_MM

#: Columns that the table must have, and what to write into them.
REQUIRED_COLUMNS = {
    "case": "the name of the case",
    "image": "its file below images/",
    "mask": "its file below masks/",
    "annotated": "the classes that were annotated in it, such as LV LA",
}
OPTIONAL_COLUMNS = ("absent", "domain", "patient", "split", "frame")

#: Copied to the manifest where the table has them.
INFO_COLUMNS = ("view", "phase")
SPLITS = ("train", "val", "test")
IMAGE_FOLDER, MASK_FOLDER = "images", "masks"
_BETWEEN_NAMES = re.compile(r"[\s,;|+/]+")
_CLASS = re.compile(r"([^\W\d][\w.-]*)(?:=(\d{1,5}))?")
_RESERVED = ("background", "ignore")


@dataclass(frozen=True)
class OwnFolder(DataSet):
    """Convert own data.

    Attributes:
        class_values: Meaning of the mask values, each "LV" (by position, from 1) or "LV=255".
        volumes: Whether the files are volumes instead of 2-D images.
        channel: Name of the channel, by which nnU-Net chooses how to normalize.
        depth_mm: Nominal depth in mm, from the top to the bottom row, of a PNG, which has no spacing; every such case
            says so.
        keep_whole_frame: Whether nothing is cut from a DICOM image, and one in which names may be written is taken too.
    """

    class_values: tuple[str, ...] = COMMON_CLASSES
    volumes: bool = False
    depth_mm: float = DEPTH_MM
    channel: str = ULTRASOUND
    keep_whole_frame: bool = False

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "your own images and masks, with a table"
    description: ClassVar[str] = (
        f"Your own data. Give a folder with {IMAGE_FOLDER}/, {MASK_FOLDER}/ and one table (CSV) with a row per case "
        "and the columns case, image, mask, annotated; where you have them also patient, absent, domain, split. Files "
        "are NIfTI, MetaImage (MHA, MHD) or PNG; images may also be ultrasound in DICOM (extra `dicom`), whose column "
        "frame, from 0, says which frame of a clip is annotated."
    )
    default_name: ClassVar[str] = "Own"
    classes: ClassVar[tuple[str, ...]] = COMMON_CLASSES
    reference: ClassVar[str] = "own data"
    license: ClassVar[str] = "own data; who owns it decides whether it may be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        self.meaning()
        require_depth(self.depth_mm)
        if not self.channel.strip() or self.channel != printable(self.channel):
            raise ConversionError(f"The channel is {printable(self.channel)!r}; expected a name, such as CT or MRI.")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --classes, --volumes, --channel, --depth-mm and --keep-whole-frame; see `DataSet.add_options`."""
        parser.add_argument(
            "--classes",
            dest="class_values",
            nargs="+",
            required=True,
            metavar="NAME",
            help="what the values 1, 2, ... of your masks mean, in this order: --classes LV MYO LA; other values are "
            "written out: --classes LV=255, or --classes LV=1 LA=2 RV=4. Common names: " + ", ".join(COMMON_CLASSES),
        )
        parser.add_argument(
            "--volumes", action="store_true", help="the files are volumes (slices, rows, cols), not 2-D images"
        )
        parser.add_argument(
            "--channel",
            default=ULTRASOUND,
            metavar="NAME",
            help="what the images are; nnU-Net normalizes CT by the intensities of the whole dataset, noNorm not at "
            "all, rescale_to_0_1 by minimum and maximum, any other name image by image (default: %(default)s)",
        )
        add_depth_option(parser, "PNG, DICOM without a region, and ultrasound of exactly 1 x 1 mm have no spacing")
        parser.add_argument(
            "--keep-whole-frame",
            action="store_true",
            help="of DICOM, cut nothing, and take files whose header does not say where the image is, or says that "
            "names are written in it; without it such files are refused. Look at the files first",
        )

    def meaning(self) -> dict[int, str]:
        """Parse `class_values`.

        Returns:
            Class by value of the masks.

        Raises:
            ConversionError: If a class or value is invalid or repeated, or there is none.
        """
        meaning: dict[int, str] = {}
        for position, text in enumerate(self.class_values, start=1):
            match = _CLASS.fullmatch(text)
            if match is None or match[1].lower() in _RESERVED:
                raise ConversionError(f"{printable(text)!r} is not a class; expected a name (LV), or LV=255")
            value = int(match[2]) if match[2] else position
            if value == 0 or value in meaning or match[1] in meaning.values():
                raise ConversionError(
                    f"the classes are {' '.join(self.class_values)}; expected each name and each value once, none of 0"
                )
            meaning[value] = match[1]
        if not meaning:
            raise ConversionError("no class is named; expected what the values 1, 2, ... mean, such as LV MYO LA")
        return meaning

    @property
    def converted_classes(self) -> tuple[str, ...]:
        """Return the classes of `class_values` in the common order."""
        return common_order(self.meaning().values())

    @property
    def channel_name(self) -> str:
        """Return `channel`."""
        return self.channel

    def table(self) -> Path:
        """Find the table.

        Returns:
            The one CSV of the folder.

        Raises:
            ConversionError: If the folder lacks images, masks or the table, or has several tables.
        """
        require_folder(self.root)
        for folder in (IMAGE_FOLDER, MASK_FOLDER):
            if not (self.root / folder).is_dir():
                raise not_found(self.root, f"the folder {folder}")
        tables = sorted(p for p in self.root.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
        if not tables:
            raise not_found(self.root, "a table (CSV) with a row per case")
        if len(tables) > 1:
            names = printable(format_names([path.name for path in tables]))
            raise ConversionError(f"{printable(str(self.root))} holds {len(tables)} tables: {names}. Leave one.")
        return tables[0]

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`."""
        table = self.table()
        cases = read_cases(table, self.converted_classes)
        notes = []
        patients = [case.labels.patient for case in cases if case.problem is None]
        if patients and not any(patients):
            text = "has no column patient: every case counts as another patient, and may be in training where one of "
            notes.append(Note(table.name, text + "the same person is tested. Add it if a patient has several images"))
        notes += [
            Note(table.name, text)
            for text in similar_patients(case.labels.patient or case.name for case in cases if case.problem is None)
        ]
        for folder, named in (
            (IMAGE_FOLDER, {str(PurePosixPath(case.image)) for case in cases}),
            (MASK_FOLDER, {str(PurePosixPath(case.mask)) for case in cases}),
        ):
            unused = {name for name in _image_files(self.root / folder) if name not in named}
            if unused:
                text = f"{len(unused)} file(s) are in no row of {table.name} and are left out"
                notes.append(Note(folder, f"{text}: {printable(format_names(unused))}"))
        return SourceScan(cases, notes, [table])

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read one case; see `DataSet.read`."""
        assert isinstance(source, OwnCase)
        if source.problem:
            yield Skipped(source.name, source.problem)
            return
        require_identifier(source.name)
        mask = read_own_image(self.root / MASK_FOLDER / source.mask, self.volumes)
        if source.same_mask and mask.array.any():  # an empty mask may serve many
            text = f"its mask {source.mask} is that of several images: {source.same_mask}"
            if not source.same_patient:
                raise ConversionError(
                    f"{text}, which are of different patients by the table. Correct it: name the right mask or, where "
                    "they are one person, say so in the column patient"
                )
            yield Note(source.name, f"{text}; right only where they show the same")
        if is_dicom(self.root / IMAGE_FOLDER / source.image):
            image, mask, doubts = self._read_dicom(source, mask)
        elif source.frame is not None:
            raise ConversionError(f"frame is {source.frame}, but {source.image} is no DICOM clip; leave it empty")
        else:
            image, doubts = read_own_image(self.root / IMAGE_FOLDER / source.image, self.volumes), []
        for text in [*doubts, *compare_geometry(image, mask)]:
            yield Note(source.name, text)
        if image.is_color:
            yield Note(source.name, f"{source.image} is in color; its luma is used")
        spacing_mm = image.spacing_mm
        if self.channel == ULTRASOUND and spacing_mm == PLACEHOLDER_MM:
            text = f"{source.image} has pixels of 1 x 1 mm, which most programs write where they know none: "
            size = f"the size counts as unknown, the image as {self.depth_mm:g} mm deep"
            yield Note(source.name, f"{text}{size}. If it is true, store it as 1.0001 x 1.0001 mm")
            spacing_mm = None
        classes = self.converted_classes
        values = {name: classes.index(name) + 1 for name in source.labels.annotated}
        labels = replace(source.labels, info={**source.labels.info, "spacing_known": spacing_mm is not None})
        case = ConvertedCase(
            source.name,
            image.array,
            relabel_mask(mask, self.meaning(), values),
            spacing_mm or nominal_spacing_mm(self.depth_mm, image.array.shape[0]),
            labels,
        )
        empty = [name for name, value in values.items() if not (case.mask == value).any()]
        if empty:
            text = (
                f"{', '.join(empty)} is declared annotated and has no pixel. If it was not looked for, it is unknown: "
            )
            yield Note(source.name, text + "remove it from 'annotated'")
        yield case

    def files(self, source: SourceItem) -> Sequence[Path]:
        """List image and mask, and the pixels of MHD headers; see `DataSet.files`."""
        assert isinstance(source, OwnCase)
        paths = [self.root / IMAGE_FOLDER / source.image, self.root / MASK_FOLDER / source.mask]
        pixels = [
            path.with_suffix(ending) for path in paths if path.suffix.lower() == ".mhd" for ending in (".raw", ".zraw")
        ]
        return [*paths, *pixels]

    def _read_dicom(self, source: OwnCase, mask: OwnImage) -> tuple[OwnImage, OwnImage, list[str]]:
        """Return the image, its mask, which is cut as the image is, and what is doubtful."""
        if self.volumes:
            raise ConversionError(f"{source.image} is DICOM, which holds no volume here; convert it without --volumes")
        path = self.root / IMAGE_FOLDER / source.image
        try:  # decoders of JPEG 2000 are C code
            clip, array = run_isolated(read_dicom_still, path, source.frame, self.keep_whole_frame)
        except Crashed as problem:
            raise ConversionError(f"{source.image} cannot be decoded: {problem}") from problem
        doubts = []
        if clip.region is None:
            doubts.append(f"{source.image}: {clip.region_problem}; its spacing is unknown, and nothing was cut")
        elif not self.keep_whole_frame and mask.array.shape == clip.shape:
            mask = _cut_mask(mask, clip.region)
        if clip.burned_in:
            doubts.append(f"{source.image} says that names are burned into its pixels, and they remain")
        geometry = None
        if clip.region is not None:
            geometry = Geometry(array.shape[::-1], clip.region.spacing_mm[::-1], (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
        return OwnImage(array, geometry, False), mask, doubts


def _cut_mask(mask: OwnImage, region: TissueRegion) -> OwnImage:
    """Cut the region out of a mask of whole frames. Raises ConversionError where it has pixels outside."""
    array = region.cut(mask.array)
    lost = int((mask.array != 0).sum() - (array != 0).sum())
    if lost:
        raise ConversionError(
            f"the mask has {lost} pixel(s) outside of the ultrasound region, which is all that is kept"
        )
    if mask.geometry is None:
        return replace(mask, array=array)
    size = (*array.shape[::-1], *mask.geometry.size[2:])
    return replace(mask, array=array, geometry=replace(mask.geometry, size=size))


def _image_files(folder: Path) -> list[str]:
    """List the images below a folder, as the table would name them."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.lower().endswith((*IMAGE_ENDINGS, *DICOM_ENDINGS)) and not path.name.startswith(".")
    ]


@dataclass(frozen=True)
class OwnCase(SourceItem):
    """Represent one row of the table.

    Attributes:
        image: Path below the folder of images.
        mask: Path below the folder of masks.
        labels: Manifest entry.
        problem: Why the case cannot be converted; None if it can.
        frame: Number of the frame in a DICOM clip, from 0; None where the table does not say.
        same_mask: Names of the cases that have the same mask, but other images; empty where there are none.
        same_patient: Whether these are of one patient.
    """

    image: str = ""
    mask: str = ""
    labels: CaseLabels = field(default_factory=lambda: CaseLabels(()))
    problem: str | None = None
    frame: int | None = None
    same_mask: str = ""
    same_patient: bool = True


def read_cases(path: Path, classes: Sequence[str]) -> list[OwnCase]:
    """Read the table.

    Args:
        path: The table.
        classes: Classes that may be annotated.

    Returns:
        Rows in the order of the table; a row that cannot be used has a `problem`.

    Raises:
        ConversionError: If the table cannot be read, lacks a column, names no case, or puts one patient into different
            splits.
    """
    cases: dict[str, OwnCase] = {}
    columns = "; ".join(f"{name}: {meaning}" for name, meaning in REQUIRED_COLUMNS.items())
    advice = f"Add it. Needed are {columns}. {', '.join(OPTIONAL_COLUMNS)} may be left out."
    for line, row in read_table(path, tuple(REQUIRED_COLUMNS), (*OPTIONAL_COLUMNS, *INFO_COLUMNS), advice):
        case = _case(line, row, path.name, classes)
        first = cases.get(case.name.casefold())  # one name for the disks of Windows and macOS
        if first is not None:
            as_what = "" if first.name == case.name else f", as {first.name} and {case.name}"
            case = replace(first, problem=f"is listed more than once in {path.name}{as_what}")
        cases[case.name.casefold()] = case
    if not cases:
        raise ConversionError(f"{printable(str(path))} names no case.")
    _require_one_split(path, cases.values())
    shared, same_mask = _shared_images(cases.values()), _shared_masks(cases.values())
    result = []
    for case in cases.values():
        names, of_one_patient = same_mask.get(case.name, ("", True))
        problem = case.problem or shared.get(case.name)
        result.append(replace(case, problem=problem, same_mask=names, same_patient=of_one_patient))
    return result


def _case(line: int, row: TextRow, table: str, classes: Sequence[str]) -> OwnCase:
    name = row["case"] or f"(line {line} of {table})"
    try:
        _require_cells(row)
        labels = CaseLabels(
            annotated=_annotated(row["annotated"], classes),
            absent=_names(row.get("absent", ""), "absent", {*classes, *COMMON_CLASSES}),
            domain=row.get("domain", ""),
            patient=row.get("patient"),
            info=_info(row),
        )
        image, mask = _relative_path(row["image"], "image"), _relative_path(row["mask"], "mask")
        return OwnCase(name, image, mask, labels, frame=_frame(row.get("frame", "")))
    except ValueError as problem:  # a ConversionError, or that of CaseLabels for a class both annotated and absent
        return OwnCase(printable(name), row["image"], row["mask"], problem=f"line {line} of {table}: {problem}")


def _require_cells(row: TextRow) -> None:
    for column in ("case", "image", "mask", "patient"):
        if row.get(column) == "":
            advice = ": which images must stay together? If every case is another patient, repeat the case name"
            raise ConversionError(f"{column} is empty{advice if column == 'patient' else ''}")
    for column in [name for name in ("domain", "patient", *INFO_COLUMNS) if name in row]:
        if row[column] != printable(row[column]):
            raise ConversionError(f"{column} is {printable(row[column])!r}; save the table as UTF-8")


def _annotated(text: str, classes: Sequence[str]) -> tuple[str, ...]:
    names = _names(text, "annotated", set(classes))
    if not names:
        raise ConversionError("annotated is empty: name what was annotated, or leave the row out")
    return tuple(name for name in classes if name in names)


def _names(text: str, column: str, allowed: set[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in _BETWEEN_NAMES.split(text) if name))
    unexpected = set(names) - allowed
    if unexpected:
        raise ConversionError(
            f"{column} names {printable(format_names(unexpected))}; expected one or more of {format_names(allowed)}"
        )
    return names


def _relative_path(text: str, column: str) -> str:
    """Return a path of the table, if it stays in its folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise ConversionError(f"{column} is {printable(text)!r}; expected a file below the folder of the {column}s")
    return text


def _frame(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ConversionError(f"frame is {printable(text)!r}; expected its number, from 0")
    return int(text)


def _info(row: TextRow) -> dict[str, str]:
    """Return the split and the columns that are copied."""
    info = {name: row[name] for name in INFO_COLUMNS if row.get(name)}
    split = row.get("split", "").lower()
    if split and split not in SPLITS:
        raise ConversionError(f"split is {printable(row['split'])!r}; expected {', '.join(SPLITS)} or nothing")
    return {**({"split": split} if split else {}), **info}


def _require_one_split(path: Path, cases: Collection[OwnCase]) -> None:
    splits: dict[str, set[str]] = {}
    for case in cases:
        if case.problem is None:
            splits.setdefault(case.labels.patient or case.name, set()).add(case.labels.split or "none")
    several = {patient for patient, own in splits.items() if len(own) > 1}
    if several:
        raise ConversionError(
            f"{printable(str(path))}: {len(several)} patient(s) have cases with different entries in split: "
            f"{format_names(several)}. "
            "All images of a patient belong to one split."
        )


def _by_file(cases: Collection[OwnCase], kind: str) -> dict[str, list[OwnCase]]:
    """Group the cases without a problem by their "image" or "mask"."""
    owners: dict[str, list[OwnCase]] = {}
    for case in cases:
        if case.problem is None:
            owners.setdefault(str(PurePosixPath(getattr(case, kind))), []).append(case)
    return owners


def _shared_masks(cases: Collection[OwnCase]) -> dict[str, tuple[str, bool]]:
    """Return by case the names of those with the same mask for other images or frames, and whether of one patient."""
    found = {}
    for sharing in _by_file(cases, "mask").values():
        if len({(str(PurePosixPath(case.image)), case.frame) for case in sharing}) > 1:
            names = format_names([case.name for case in sharing], 4)
            patients = {case.labels.patient or case.name for case in sharing}
            found.update({case.name: (names, len(patients) < 2) for case in sharing})
    return found


def _shared_images(cases: Collection[OwnCase]) -> dict[str, str]:
    """Return a reason by case, for images that belong to more than one patient."""
    problems = {}
    for image, sharing in _by_file(cases, "image").items():
        if len({case.labels.patient or case.name for case in sharing}) > 1:
            names = format_names([f"{case.name} of {case.labels.patient or 'no patient'}" for case in sharing], 4)
            problems.update(
                {case.name: f"its image {image} belongs to different patients: {names}" for case in sharing}
            )
    return problems
