"""Anyone's own pictures: a folder of images, a folder of masks, and a table that says what was drawn in which.

The table that comes with one's own pictures: which image, which mask, whose heart it is, and what was drawn.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, common_order
from nnunet_partial.utils.tables import Row, read_table
from nnunet_partial.utils.text import format_names, printable

from .base import (
    DEPTH_MM,
    ConvertedCase,
    DataSet,
    Note,
    Skipped,
    SourceItem,
    add_depth_option,
    not_found,
    require_depth,
    require_folder,
    require_identifier,
)
from .readers.images import IMAGE_ENDINGS, compare_geometry, read_own_image, relabel_mask

COLUMNS = ("case", "image", "mask", "annotated", "absent", "domain", "patient")
#: Kept where the table has them.
ALSO = ("view", "phase")
SPLITS = ("train", "val", "test")

_BETWEEN_NAMES = re.compile(r"[\s,;|+/]+")


@dataclass(frozen=True)
class OwnCase(SourceItem):
    """One row. `image`, `mask`: below the folders of that name. `problem`: why the case cannot be converted."""

    image: str = ""
    mask: str = ""
    labels: CaseLabels = field(default_factory=lambda: CaseLabels(()))
    problem: str | None = None


def read_cases(path: Path, classes: Sequence[str]) -> list[OwnCase]:
    """The rows of the table in its order; what is wrong with a row stands in its `problem`.

    Raises ConversionError where the table cannot be read, lacks a column, names no case, or puts one patient on
    different sides of the split.
    """
    found: dict[str, OwnCase] = {}
    for line, row in read_table(path, COLUMNS, (*ALSO, "split")):
        case = _case(line, row, path.name, classes)
        if case.name in found:
            case = replace(case, problem=f"stands more than once in {path.name}")
        found[case.name] = case
    if not found:
        raise ConversionError(f"{printable(str(path))} names no case.")
    _require_one_side(path, found.values())
    shared = _shared_images(found.values())
    return [replace(case, problem=case.problem or shared.get(case.name)) for case in found.values()]


def _case(line: int, row: Row, table: str, classes: Sequence[str]) -> OwnCase:
    name = row["case"] or f"(line {line} of {table})"
    try:
        _require_cells(row)
        labels = CaseLabels(
            annotated=_drawn(row["annotated"], classes),
            absent=_names(row["absent"], "absent", {*classes, *COMMON_CLASSES}),
            domain=row["domain"],
            patient=row["patient"],
            info=_info(row),
        )
        return OwnCase(name, _below(row["image"], "image"), _below(row["mask"], "mask"), labels)
    except ValueError as problem:  # ours, and that of CaseLabels for a class both drawn and absent
        return OwnCase(printable(name), row["image"], row["mask"], problem=f"line {line} of {table}: {problem}")


def _require_cells(row: Row) -> None:
    for column in ("case", "image", "mask", "patient"):
        if not row[column]:
            way = ": whose pictures must stay together? Where every case is somebody else, repeat the name of the case"
            raise ConversionError(f"{column} is empty{way if column == 'patient' else ''}")
    for column in ("domain", "patient", *(name for name in ALSO if name in row)):
        if row[column] != printable(row[column]):
            raise ConversionError(f"{column} is {printable(row[column])!r}; save the table as UTF-8")


def _drawn(text: str, classes: Sequence[str]) -> tuple[str, ...]:
    names = _names(text, "annotated", set(classes))
    if not names:
        raise ConversionError("annotated is empty: name what was drawn, or leave the row out")
    return tuple(name for name in classes if name in names)


def _names(text: str, column: str, allowed: set[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in _BETWEEN_NAMES.split(text) if name))
    strange = set(names) - allowed
    if strange:
        raise ConversionError(
            f"{column} names {printable(format_names(strange))}; expected one or more of {format_names(allowed)}"
        )
    return names


def _below(text: str, column: str) -> str:
    """A path from the table, if it stays in its folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise ConversionError(f"{column} is {printable(text)!r}; expected a file below the folder of the {column}s")
    return text


def _info(row: Row) -> dict[str, str]:
    """The split and what else is kept."""
    found = {name: row[name] for name in ALSO if row.get(name)}
    split = row.get("split", "").lower()
    if split and split not in SPLITS:
        raise ConversionError(f"split is {printable(row['split'])!r}; expected {', '.join(SPLITS)} or nothing")
    return {**({"split": split} if split else {}), **found}


def _require_one_side(path: Path, cases: Collection[OwnCase]) -> None:
    sides: dict[str, set[str]] = {}
    for case in cases:
        if case.problem is None:
            sides.setdefault(case.labels.patient or case.name, set()).add(case.labels.split or "none")
    both = {patient for patient, splits in sides.items() if len(splits) > 1}
    if both:
        raise ConversionError(
            f"{printable(str(path))}: {len(both)} patient(s) have cases with different entries in split: "
            f"{format_names(both)}. "
            "All pictures of a patient belong on one side."
        )


def _shared_images(cases: Collection[OwnCase]) -> dict[str, str]:
    """By case, why it cannot be used: its picture is also that of another patient."""
    owners: dict[str, list[OwnCase]] = {}
    for case in cases:
        if case.problem is None:
            owners.setdefault(str(PurePosixPath(case.image)), []).append(case)
    found = {}
    for image, sharing in owners.items():
        if len({case.labels.patient for case in sharing}) > 1:
            who = format_names([f"{case.name} of {case.labels.patient}" for case in sharing], 4)
            found.update({case.name: f"its image {image} belongs to different patients: {who}" for case in sharing})
    return found


IMAGES, MASKS = "images", "masks"

_CLASS = re.compile(r"([^\W\d][\w.-]*)(?:=(\d{1,5}))?")
_RESERVED = ("background", "ignore")


@dataclass(frozen=True)
class OwnFolder(DataSet):
    """Own data. `class_values`: what the values of the masks mean, "LV" (by position, from 1) or "LV=255" each.

    `volumes`: files are volumes, not pictures. `depth_mm`: from the top to the bottom row of a PNG, which has no pixel
    size; a guess, and every such case says so.
    """

    class_values: tuple[str, ...] = COMMON_CLASSES
    volumes: bool = False
    depth_mm: float = DEPTH_MM

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "your own images and masks, with a table"
    description: ClassVar[str] = (
        f"Your own data. Give a folder with {IMAGES}/, {MASKS}/ and one table (CSV) with a row per case and the "
        "columns case, image, mask, annotated, absent, domain, patient and, where you have one, split. Files are "
        "NIfTI, MetaImage (MHA, MHD) or PNG."
    )
    default_name: ClassVar[str] = "Own"
    classes: ClassVar[tuple[str, ...]] = COMMON_CLASSES  # of an instance: those of `class_values`
    reference: ClassVar[str] = "own data"
    license: ClassVar[str] = "own data; who owns it decides whether it may be passed on"

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_values", tuple(self.class_values))
        object.__setattr__(self, "classes", common_order(self.meaning().values()))
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
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
            "--volumes", action="store_true", help="the files are volumes (slices, rows, cols), not flat pictures"
        )
        add_depth_option(parser, "PNG files have no spacing")

    def meaning(self) -> dict[int, str]:
        """Class by value of the masks. Raises ConversionError where `class_values` cannot be understood."""
        found: dict[int, str] = {}
        for position, text in enumerate(self.class_values, start=1):
            match = _CLASS.fullmatch(text)
            if match is None or match[1].lower() in _RESERVED:
                raise ConversionError(f"the class {printable(text)!r} is none; expected a name (LV), or LV=255")
            value = int(match[2]) if match[2] else position
            if value == 0 or value in found or match[1] in found.values():
                raise ConversionError(
                    f"the classes are {' '.join(self.class_values)}; expected each name and each value once, none of 0"
                )
            found[value] = match[1]
        if not found:
            raise ConversionError("no class is named; expected what the values 1, 2, ... mean, such as LV MYO LA")
        return found

    def table(self) -> Path:
        """The one CSV of the folder. Raises ConversionError for a wrong folder."""
        require_folder(self.root)
        for folder in (IMAGES, MASKS):
            if not (self.root / folder).is_dir():
                raise not_found(self.root, f"the folder {folder}")
        tables = sorted(p for p in self.root.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
        if not tables:
            raise not_found(self.root, "a table (CSV) with a row per case")
        if len(tables) > 1:
            names = printable(format_names([path.name for path in tables]))
            raise ConversionError(f"{printable(str(self.root))} holds {len(tables)} tables: {names}. Leave one.")
        return tables[0]

    def tables(self) -> Sequence[Path]:
        return [self.table()]

    def sources(self) -> Sequence[OwnCase]:
        return read_cases(self.table(), self.classes)

    def remarks(self) -> Iterator[Note]:
        cases = self.sources()
        for folder, named in ((IMAGES, [c.image for c in cases]), (MASKS, [c.mask for c in cases])):
            used = {str(PurePosixPath(name)) for name in named}
            extra = {name for name in _files(self.root / folder) if name not in used}
            if extra:
                text = f"{len(extra)} file(s) stand in no row of {self.table().name} and are left out"
                yield Note(folder, f"{text}: {printable(format_names(extra))}")

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, OwnCase)
        if source.problem:
            yield Skipped(source.name, source.problem)
            return
        require_identifier(source.name)
        image = read_own_image(self.root / IMAGES / source.image, self.volumes)
        mask = read_own_image(self.root / MASKS / source.mask, self.volumes)
        for text in compare_geometry(image, mask):
            yield Note(source.name, text)
        if image.is_color:
            yield Note(source.name, f"{source.image} has colors; their brightness is taken")
        drawn = self._numbers(source.labels)
        labels = replace(source.labels, info={**source.labels.info, "spacing_known": image.spacing_mm is not None})
        pixel_mm = self.depth_mm / image.array.shape[0]
        case = ConvertedCase(
            source.name,
            image.array,
            relabel_mask(mask, self.meaning(), drawn),
            image.spacing_mm or (pixel_mm, pixel_mm),
            labels,
        )
        empty = [name for name, number in drawn.items() if not (case.mask == number).any()]
        if empty:
            text = f"{', '.join(empty)} is said to be drawn and has no pixel. If nobody looked for it, it is unknown: "
            yield Note(source.name, text + "take it out of 'annotated'")
        yield case

    def _numbers(self, labels: CaseLabels) -> Mapping[str, int]:
        """The value in the dataset of each class that was drawn."""
        return {name: self.classes.index(name) + 1 for name in labels.annotated}


def _files(folder: Path) -> list[str]:
    """The pictures below a folder, as the table would name them."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")
    ]
