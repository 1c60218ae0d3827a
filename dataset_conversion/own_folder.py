"""Anyone's own pictures: a folder of images, a folder of masks, and a table that says what was drawn in which."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, common_order
from nnunet_partial.utils.text import printable, some

from .case import Case, Note, Skipped, Source, require_identifier
from .data_set import DataSet, not_found, require_folder
from .nominal_depth import DEPTH_MM, add_depth_option, require_depth
from .own_picture import ENDINGS, read_own, renumbered, require_same_place
from .own_table import OwnCase, read_cases

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
        add_depth_option(parser, "PNG files have no pixel size")

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
            names = printable(some([path.name for path in tables]))
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
                yield Note(folder, f"{text}: {printable(some(extra))}")

    def read(self, source: Source) -> Iterator[Case | Skipped | Note]:
        assert isinstance(source, OwnCase)
        if source.problem:
            yield Skipped(source.name, source.problem)
            return
        require_identifier(source.name)
        image = read_own(self.root / IMAGES / source.image, self.volumes)
        mask = read_own(self.root / MASKS / source.mask, self.volumes)
        for text in require_same_place(image, mask):
            yield Note(source.name, text)
        if image.coloured:
            yield Note(source.name, f"{source.image} has colours; their brightness is taken")
        drawn = self._numbers(source.labels)
        labels = replace(source.labels, info={**source.labels.info, "spacing_known": image.spacing_mm is not None})
        pixel_mm = self.depth_mm / image.array.shape[0]
        case = Case(
            source.name,
            image.array,
            renumbered(mask, self.meaning(), drawn),
            image.spacing_mm or (pixel_mm, pixel_mm),
            labels,
        )
        empty = [name for name, number in drawn.items() if not (case.mask == number).any()]
        if empty:
            text = f"{', '.join(empty)} is said to be drawn and has no pixel. If nobody looked for it, it is unknown: "
            yield Note(source.name, text + "take it out of 'annotated'")
        yield case

    def _numbers(self, labels: CaseLabels) -> Mapping[str, int]:
        """The value in the data set of each class that was drawn."""
        return {name: self.classes.index(name) + 1 for name in labels.annotated}


def _files(folder: Path) -> list[str]:
    """The pictures below a folder, as the table would name them."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")
    ]
