"""Base class of the dataset converters, and the items that a converter hands to the writer.

A converter is a subclass of `DataSet`: it knows the names, labels and units of one public dataset, and yields
`ConvertedCase`, `Skipped` and `Note`. `writer.convert` writes them. docs/how-to/extend.md shows how to add one.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from nnunet_partial.utils.files import file_hash
from nnunet_partial.utils.text import format_names, format_values, printable

#: Nominal image depth from the top to the bottom row, for images without a spacing, so that nnU-Net brings all datasets
#: to about one scale; docs/how-to/convert-datasets.md says why, and how to check it on a copy of the data.
DEPTH_MM = 150.0

#: Key of dataset.json, which goes with every trained model: the nominal depth of its images without a spacing.
DEPTH_KEY = "nominal_depth_mm"

#: Name of the only channel of a public dataset; nnU-Net normalizes it by z-score, image by image.
ULTRASOUND = "ultrasound"

_IDENTIFIER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,118}[A-Za-z0-9])?")
_ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".7z")


@dataclass(frozen=True)
class SourceItem:
    """Represent one thing to open, such as a video or one view of a patient.

    Attributes:
        name: Name shown to the user, unique in the dataset.
    """

    name: str


@dataclass(frozen=True)
class ConvertedCase:
    """Hold one image with its mask, in memory.

    Attributes:
        identifier: Case name, as in the file names of the nnU-Net dataset.
        image: Gray values of shape (rows, cols), or (slices, rows, cols) for a volume.
        mask: Label values of the same shape: 0 background, 1, 2, ... the converted classes of the dataset.
        spacing_mm: One number per axis of `image` in mm, in the order of the axes.
        labels: Manifest entry. `labels.info["split"]` "test" sends the case to imagesTs.
    """

    identifier: str
    image: NDArray[Any]
    mask: NDArray[Any]
    spacing_mm: tuple[float, ...]
    labels: CaseLabels

    def validate(self, classes: Sequence[str]) -> None:
        """Check that identifier, image, mask, spacing and manifest entry fit together.

        Args:
            classes: Names of the mask values 1, 2, ...

        Raises:
            ConversionError: If one of them does not fit; the message says which, and what was expected.
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
            raise ConversionError(f"the spacing is {self.spacing_mm} mm, expected {count} numbers above 0")
        allowed = {0, *(classes.index(name) + 1 for name in self.labels.annotated)}
        unexpected = sorted({float(value) for value in np.unique(self.mask)} - allowed)
        if unexpected:
            meaning = ", ".join(f"{value} {name}" for value, name in enumerate(["background", *classes]))
            raise ConversionError(f"the mask holds the value(s) {format_values(unexpected)}; expected only {meaning}")


@dataclass(frozen=True)
class Skipped:
    """Report a case that cannot be converted.

    Attributes:
        case: Name of the case or of its source.
        reason: Why it cannot be converted.
        known_defect: Whether the official release has this fault, so that the user need not act.
    """

    case: str
    reason: str
    known_defect: bool = False


@dataclass(frozen=True)
class Note:
    """Report something unusual that did not stop the conversion.

    Attributes:
        about: Case, source, file or subject that the note is about.
        text: What is unusual.
    """

    about: str
    text: str


@dataclass(frozen=True)
class SourceScan:
    """Hold what one scan of the source folder found.

    Attributes:
        items: Everything to open, in a fixed order.
        notes: What is unusual about the folder as a whole.
        tables: Small files whose content decides the result. When one of them changes, an interrupted conversion
            starts again.
    """

    items: Sequence[SourceItem]
    notes: Sequence[Note] = ()
    tables: Sequence[Path] = ()


@dataclass(frozen=True)
class DataSet(ABC):
    """Base class of a converter: a public dataset on disk, of which cases are yielded and nothing is written.

    Every field of a subclass beside `root` is an option with a default; `add_options` offers it on the command line
    under the same name. Instances are sent to worker processes, so they hold options and no data.

    Attributes:
        root: Folder that the user names.
        name: What the user types: `nnunet_partial convert NAME`.
        title: One line for the list of datasets.
        description: Where to ask for the dataset, under which terms, and which folder to give.
        default_name: Default of `--name`.
        classes: Classes that the dataset annotates, in the common order.
        reference: Publication, for dataset.json.
        license: Terms of use, for dataset.json.
    """

    root: Path

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    default_name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    reference: ClassVar[str]
    license: ClassVar[str]

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this dataset to its subcommand; none by default.

        Args:
            parser: Parser of `nnunet_partial convert NAME`.
        """
        return None

    @classmethod
    def from_options(cls, root: Path, options: argparse.Namespace) -> DataSet:
        """Build the converter from parsed options.

        Args:
            root: Folder that the user names.
            options: Values of the options that `add_options` added; lists become tuples.

        Returns:
            The converter.
        """
        values = {f.name: getattr(options, f.name) for f in dataclasses.fields(cls) if f.name != "root"}
        return cls(root, **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    @property
    def converted_classes(self) -> tuple[str, ...]:
        """Return the classes of the nnU-Net dataset, the names of the mask values 1, 2, ...; `classes` by default."""
        return self.classes

    @property
    def channel_name(self) -> str:
        """Return the name of the only channel, by which nnU-Net chooses how to normalize."""
        return ULTRASOUND

    @abstractmethod
    def scan(self) -> SourceScan:
        """Scan the source folder once; opens images only where pixels tell which are of one patient.

        Returns:
            What there is to open, notes about the folder, and the tables that decide the result.

        Raises:
            ConversionError: If the folder is not one of this dataset, or a table cannot be read.
        """

    @abstractmethod
    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read one source; called in a worker process.

        Args:
            source: One of the items of `scan`.

        Returns:
            An iterator over the cases of the source, what is skipped, and what is unusual.

        Raises:
            ConversionError: If the rest of the source cannot be converted. The writer names the source.
        """

    def files(self, source: SourceItem) -> Sequence[Path]:
        """List the files that decide what `read` yields, beside the tables; the paths in the item, by default.

        When one of them changes, an interrupted conversion reads the source again.

        Args:
            source: One of the items of `scan`.

        Returns:
            The files, which may be missing; of a folder the files in it.
        """
        values = [getattr(source, f.name) for f in dataclasses.fields(source)]
        paths = [value for value in values if isinstance(value, Path)]
        return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]

    def summarize_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """Summarize the notes of all sources for the report, where many are alike; unchanged by default.

        Args:
            notes: Notes in the order of the sources.

        Returns:
            Notes for the report; empty if there is nothing to say.
        """
        return notes

    def options_record(self, tables: Sequence[Path]) -> dict[str, Any]:
        """Describe source, options and tables, so that the same record means the same result.

        Args:
            tables: The tables that `scan` found.

        Returns:
            JSON values; of each table the SHA-256 hash.
        """
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "root"}
        return {
            "dataset": self.name,
            "source": printable(str(self.root.resolve())),
            **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
            "tables": {printable(path.name): file_hash(path) for path in tables},
        }


def require_identifier(name: str) -> str:
    """Check that a name can be a file name as it is.

    Nothing is replaced: two names must never become one, and none may lead out of the target folder (../, /etc).

    Args:
        name: Proposed identifier of a case.

    Returns:
        The same name.

    Raises:
        ConversionError: If it holds anything but letters, digits, _ and -, is too long, or ends in _seg.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ConversionError(
            f"{printable(name)!r} cannot name a case: expected at most 120 letters, digits, '_' and '-', the first and "
            "the last a letter or digit. Rename it in the source."
        )
    if name.endswith("_seg"):
        raise ConversionError(f"{name} cannot name a case: nnU-Net takes what ends in _seg for labels. Rename it.")
    return name


def require_folder(folder: Path) -> None:
    """Check that the source folder exists.

    Args:
        folder: Folder that the user names.

    Raises:
        ConversionError: If it does not exist, or is a file, such as an archive that was not unpacked.
    """
    if folder.is_file():
        advice = " Unpack it and give the folder." if folder.name.lower().endswith(_ARCHIVE_ENDINGS) else ""
        raise ConversionError(f"{printable(str(folder))} is a file; expected the folder of the dataset.{advice}")
    if not folder.is_dir():
        raise ConversionError(f"{printable(str(folder))} does not exist; expected the folder of the dataset.")


def not_found(folder: Path, looked_for: str) -> ConversionError:
    """Build the error for a wrong folder: what was looked for, what is there, what to do.

    Args:
        folder: Existing folder.
        looked_for: What was expected in it.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(printable(path.name) for path in folder.iterdir())
    archives = [name for name in names if name.lower().endswith(_ARCHIVE_ENDINGS)]
    question = " Is it the right folder, and the right dataset?"
    advice = f" Unpack {format_names(archives, 3)} first." if archives else question
    content = format_names(names, 8) if names else "nothing, the folder is empty"
    return ConversionError(f"{printable(str(folder))}: looked for {looked_for}; found: {content}.{advice}")


def add_depth_option(parser: argparse.ArgumentParser, when: str = "the dataset has no spacing") -> None:
    """Add the option --depth-mm.

    Args:
        parser: Parser of the dataset's subcommand.
        when: When the nominal depth is used, for the help text.
    """
    parser.add_argument(
        "--depth-mm",
        type=float,
        default=DEPTH_MM,
        metavar="MM",
        help=f"{when}: image depth in mm, from the top to the bottom row; marked as nominal in the manifest "
        "(default: %(default)s)",
    )


def require_depth(depth_mm: float) -> None:
    """Check a nominal image depth.

    Args:
        depth_mm: Depth in mm, from the top to the bottom row.

    Raises:
        ConversionError: If it is not a finite number above 0.
    """
    if not (math.isfinite(depth_mm) and depth_mm > 0):
        raise ConversionError(f"the image depth is {depth_mm} mm, expected a number above 0, such as 150")


def nominal_spacing_mm(depth_mm: float, rows: int, aspect: float = 1.0) -> tuple[float, float]:
    """Compute the spacing of an image of nominal depth.

    Args:
        depth_mm: Depth in mm, from the top to the bottom row.
        rows: Number of rows of the image.
        aspect: Width of a pixel, in multiples of its height.

    Returns:
        Height and width of a pixel in mm.
    """
    return depth_mm / rows, aspect * depth_mm / rows


def classes_in_mask(mask: NDArray[Any], classes: Sequence[str]) -> tuple[str, ...]:
    """List the classes that have a pixel in a mask.

    Args:
        mask: Label values of any shape.
        classes: Names of the values 1, 2, ...

    Returns:
        Names in the order of `classes`; empty if there is only background.
    """
    return tuple(name for value, name in enumerate(classes, start=1) if (mask == value).any())
