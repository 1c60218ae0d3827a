"""What every public data set must be able to tell: where its pictures are, who drew what, and in which units.

What a data set hands to the writer: pictures with their outlines, and what had to be left out, and why.

A made-up image depth for pictures without a pixel size, so that nnU-Net brings all data sets to about one scale.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import format_names, format_values, printable

_IDENTIFIER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,118}[A-Za-z0-9])?")


def require_identifier(name: str) -> str:
    """`name`, if it may become a file name as it is. Raises ConversionError for anything but letters, digits, _ and -.

    Nothing is mapped: two names must never become one, and none may lead out of the target folder (../, /etc).
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ConversionError(
            f"{printable(name)!r} cannot name a case: expected at most 120 letters, digits, '_' and '-', the first and "
            "the last a letter or digit. Rename it in the source."
        )
    return name


@dataclass(frozen=True)
class SourceItem:
    """One thing to open: a video, a patient's view. `name` shows it to the user and is unique in the data set."""

    name: str


@dataclass(frozen=True)
class ConvertedCase:
    """One picture with its outlines, in memory.

    `image`, `mask`: (rows, cols), or (slices, rows, cols) for a volume; mask 0 background, 1, 2, ... the classes of the
    data set. `spacing_mm`: one number per axis, in that order. `labels.info["split"]` "test" sends the case to
    imagesTs.
    """

    identifier: str
    image: NDArray[Any]
    mask: NDArray[Any]
    spacing_mm: tuple[float, ...]
    labels: CaseLabels

    @property
    def part(self) -> str:
        """Where the case goes: "Ts" (official test part) or "Tr"."""
        return "Ts" if self.labels.split == "test" else "Tr"

    def require_sound(self, classes: Sequence[str]) -> None:
        """Raises ConversionError where image, mask, spacing and declaration do not fit together.

        `classes`: what the mask values 1, 2, ... mean.
        """
        require_identifier(self.identifier)
        axes = ("rows", "cols") if len(self.spacing_mm) == 2 else ("slices", "rows", "cols")
        if not self.image.ndim == len(self.spacing_mm) == len(axes) or self.image.size == 0:
            raise ConversionError(f"the image has shape {self.image.shape}, expected ({', '.join(axes)})")
        if self.image.shape != self.mask.shape:
            raise ConversionError(f"image and mask differ in shape: {self.image.shape} and {self.mask.shape}")
        if not np.isfinite(self.image).all():
            raise ConversionError("the image holds NaN or infinite values")
        if not all(np.isfinite(mm) and mm > 0 for mm in self.spacing_mm):
            count = "two" if len(axes) == 2 else "three"
            raise ConversionError(f"the pixel size is {self.spacing_mm} mm, expected {count} numbers above 0")
        allowed = {0, *(classes.index(name) + 1 for name in self.labels.annotated)}
        strange = sorted({float(value) for value in np.unique(self.mask)} - allowed)
        if strange:
            meaning = ", ".join(f"{value} {name}" for value, name in enumerate(["background", *classes]))
            raise ConversionError(f"the mask holds the value(s) {format_values(strange)}; expected only {meaning}")


@dataclass(frozen=True)
class Skipped:
    """A case that cannot be converted. `known_defect`: the official release has this fault, nobody needs to act."""

    case: str
    reason: str
    known_defect: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "case", printable(self.case))
        object.__setattr__(self, "reason", printable(self.reason))


@dataclass(frozen=True)
class Note:
    """Something odd that did not stop the conversion."""

    about: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "about", printable(self.about))
        object.__setattr__(self, "text", printable(self.text))


@dataclass(frozen=True)
class DataSet(ABC):
    """A public data set on disk. A subclass knows names, labels and units, yields cases, and writes nothing.

    `root` is the folder that the user names; every further field of a subclass is an option with a default, and
    `add_options` offers it on the command line under the same name. Instances are sent to worker processes, so they
    hold options, not data.
    """

    root: Path

    #: what the user types: `nnunet_partial convert NAME`
    name: ClassVar[str]
    #: one line for the list of data sets
    title: ClassVar[str]
    #: where to ask for it, under which terms, which folder to give
    description: ClassVar[str]
    #: the default of --name
    default_name: ClassVar[str]
    #: the classes it has drawn, in the common order; mask values are 1, 2, ...
    classes: ClassVar[tuple[str, ...]]
    #: for dataset.json
    reference: ClassVar[str]
    license: ClassVar[str]

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Adds the options of this data set to its own subcommand; none by default."""
        return None

    @classmethod
    def from_options(cls, root: Path, options: argparse.Namespace) -> DataSet:
        """The data set with the options that `add_options` offered."""
        own = [field.name for field in dataclasses.fields(cls) if field.name != "root"]
        return cls(root, **{name: getattr(options, name) for name in own})

    @abstractmethod
    def sources(self) -> Sequence[SourceItem]:
        """Everything to open, in a fixed order; quick, opens no picture. Raises ConversionError for a wrong folder."""

    @abstractmethod
    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """The cases of one source, and what was left out or looked odd.

        A ConversionError from here means that the rest of the source cannot be converted; the writer names it.
        """

    def remarks(self) -> Iterator[Note]:
        """What is odd about the folder as a whole; nothing by default."""
        yield from ()

    def gathered(self, notes: Sequence[Note]) -> Sequence[Note]:
        """The notes of all sources as the report shows them; here one may be made of many that are alike."""
        return notes

    def tables(self) -> Sequence[Path]:
        """Small files whose content decides the result: when one changes, interrupted work is not taken up again."""
        return ()

    def made_with(self) -> dict[str, Any]:
        """Source, options and tables as JSON values: the same means the same result."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "root"}
        return {
            "data_set": self.name,
            "source": printable(str(self.root.resolve())),
            **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
            "tables": {printable(path.name): hashlib.sha256(path.read_bytes()).hexdigest() for path in self.tables()},
        }


def require_folder(folder: Path) -> None:
    """Raises ConversionError where `folder` is not a folder; knows the archive that was not unpacked."""
    if folder.is_file():
        way = "Unpack it and give the folder." if folder.suffix.lower() in (".zip", ".tar", ".gz", ".7z") else ""
        raise ConversionError(f"{printable(str(folder))} is a file; expected the folder of the data set. {way}".strip())
    if not folder.is_dir():
        raise ConversionError(f"{printable(str(folder))} does not exist; expected the folder of the data set.")


def not_found(folder: Path, looked_for: str) -> ConversionError:
    """The error for a wrong folder: what was looked for, what is there, what to do."""
    there = sorted(printable(path.name) for path in folder.iterdir())
    zipped = [name for name in there if name.lower().endswith((".zip", ".tar", ".tar.gz", ".7z"))]
    way = f" Unpack {format_names(zipped, 3)} first." if zipped else " Is it the right folder, and the right data set?"
    found = format_names(there, 8) if there else "nothing, the folder is empty"
    return ConversionError(f"{printable(str(folder))}: looked for {looked_for}; found: {found}.{way}")


#: From the top to the bottom row; docs/how-to/convert-datasets.md says why, and how to check it on a copy of the data.
DEPTH_MM = 150.0


def add_depth_option(parser: argparse.ArgumentParser, when: str = "the data set has no pixel size") -> None:
    """Adds --depth-mm."""
    parser.add_argument(
        "--depth-mm",
        type=float,
        default=DEPTH_MM,
        metavar="MM",
        help=f"{when}: take images as this deep, top to bottom; marked in the manifest as not known "
        "(default: %(default)s)",
    )


def require_depth(depth_mm: float) -> None:
    """Raises ConversionError for a depth that is no number above 0."""
    if not (math.isfinite(depth_mm) and depth_mm > 0):
        raise ConversionError(f"the image depth is {depth_mm} mm, expected a number above 0, such as 150")
