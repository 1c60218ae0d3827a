"""What every public data set must be able to tell: where its pictures are, who drew what, and in which units."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable, some

from .case import Case, Note, Skipped, Source


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
    def sources(self) -> Sequence[Source]:
        """Everything to open, in a fixed order; quick, opens no picture. Raises ConversionError for a wrong folder."""

    @abstractmethod
    def read(self, source: Source) -> Iterator[Case | Skipped | Note]:
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
    way = f" Unpack {some(zipped, 3)} first." if zipped else " Is it the right folder, and the right data set?"
    found = some(there, 8) if there else "nothing, the folder is empty"
    return ConversionError(f"{printable(str(folder))}: looked for {looked_for}; found: {found}.{way}")
