"""Where a copy of Unity keeps its labels, pictures, views and pixel sizes, and which pictures are for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.tables import number, read_table
from nnunet_partial.utils.text import printable, some

from .case import Note
from .data_set import not_found, require_folder
from .unity_labels import CODE, Labels, code_of, read_labels

LABELS, PICTURES = "labels", "png-cache"
VIEWS, SIZES = "view_index_20220705.csv", "01_database_physical.csv"
#: ival was held out by the authors. A later one wins for a video that is in several.
SPLITS = {"train": "train", "tune": "val", "ival": "test"}
#: As every data set here calls the views.
VIEW_NAMES = {"a4c": "4CH", "a2c": "2CH", "a3c": "3CH", "plax": "PLAX"}
#: DICOM's PhysicalDelta is in cm; a size in mm outside of these is none.
SIZES_MM = (0.05, 1.5)


@dataclass(frozen=True)
class Entry:
    """A picture that a label file names: 01-<hash>-0023.png. `problem`: why the entry cannot be used."""

    name: str
    labels: Labels
    split: str | None = None
    problem: str | None = None

    @property
    def code(self) -> str:
        return code_of(self.name)

    @property
    def video(self) -> str:
        """The code without the frame; several videos of one patient cannot be told apart."""
        return self.code[:-5]

    @property
    def frame(self) -> int:
        return int(self.code[-4:])


@dataclass(frozen=True)
class Copy:
    """A copy of Unity on disk."""

    root: Path

    def label_files(self) -> dict[str, Path]:
        """The label files by official part: train, tune, ival; where none of them is there, "all".

        Raises ConversionError where there is no label file.
        """
        files = {part: self.root / LABELS / f"labels-{part}.json" for part in (*SPLITS, "all")}
        here = {part: path for part, path in files.items() if path.is_file()}
        if not here:
            raise not_found(self.root / LABELS, "labels-train.json, labels-tune.json, ... of Unity")
        return {part: path for part, path in here.items() if part != "all" or len(here) == 1}

    def lists(self) -> dict[str, Path]:
        """The lists of names by part, which tell the split of labels-all.json; empty where the parts tell it."""
        if "all" not in self.label_files():
            return {}
        lists = {part: self.root / LABELS / f"labels-{part}.txt" for part in SPLITS}
        return {part: path for part, path in lists.items() if path.is_file()}

    def tables(self) -> list[Path]:
        optional = [self.root / name for name in (VIEWS, SIZES)]
        found = [*self.label_files().values(), *self.lists().values(), *(path for path in optional if path.is_file())]
        return sorted(found)

    @cached_property
    def _named(self) -> dict[str, dict[str, Labels]]:
        """Labels by part and name."""
        return {part: read_labels(path) for part, path in self.label_files().items()}

    @cached_property
    def entries(self) -> list[Entry]:
        """Every labelled picture, sorted by name. Raises ConversionError for one in two parts."""
        sides = self._sides()
        named = [(code_of(name), name, labels) for part in self._named.values() for name, labels in part.items()]
        first: dict[str, str] = {}
        found = []
        for code, name, labels in sorted(named, key=lambda entry: entry[:2]):
            problem = None if CODE.fullmatch(code) else "its name is not 01-<64 hexadecimal digits>-<frame>.png"
            if problem is None and code in first:
                problem = f"the same picture is labelled as {first[code]} too"
            first.setdefault(code, name)
            found.append(Entry(name, labels, sides.get(code[:-5]), problem))
        return found

    def _parts(self) -> dict[str, set[str]]:
        """Codes by official part. Raises ConversionError for a picture in two of them."""
        parts = {part: {code_of(name) for name in names} for part, names in self._named.items() if part != "all"}
        for part, path in self.lists().items():
            text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
            parts[part] = {code_of(line.strip()) for line in text.splitlines() if line.strip()}
        times = Counter(code for codes in parts.values() for code in codes)
        both = {code for code, number in times.items() if number > 1}
        if both:
            raise ConversionError(
                f"{len(both)} picture(s) stand in more than one of the parts {', '.join(parts)} in "
                f"{printable(str(self.root / LABELS))}: {printable(some(both, 3))}. Leave each in one."
            )
        return parts

    def _sides(self) -> dict[str, str]:
        """train, val or test by video; one whose frames are in several parts goes as a whole to the last of them."""
        parts = self._parts()
        return {code[:-5]: split for part, split in SPLITS.items() for code in parts.get(part, ())}

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The picture of each entry by code: where its name says it lies, else wherever below png-cache it is."""
        folder = self.root / PICTURES
        codes = {entry.code for entry in self.entries if entry.problem is None}
        found = {}
        for code in codes:
            path = folder / code[:2] / code[3:5] / code[5:7] / f"{code}.png"
            if path.is_file():
                found[code] = path
        if len(found) < len(codes):
            elsewhere = {path.stem: path for path in sorted(folder.rglob("*.png"))}
            found.update({code: elsewhere[code] for code in codes - set(found) if code in elsewhere})
        return found

    def views(self) -> dict[str, str]:
        """The view of each picture by code, as far as the table tells."""
        if not (self.root / VIEWS).is_file():
            return {}
        rows = read_table(self.root / VIEWS, ("file", "view"))
        named = {code_of(row["file"]): printable(row["view"]) for _, row in rows if row["view"]}
        return {code: VIEW_NAMES.get(view.casefold(), view) for code, view in named.items()}

    def spacings_mm(self) -> dict[str, tuple[float, float]]:
        """(height, width) of a pixel by video, where the table tells one and the same that can be."""
        if not (self.root / SIZES).is_file():
            return {}
        found: dict[str, set[tuple[float, float] | None]] = {}
        for _, row in read_table(self.root / SIZES, ("FileHash", "PhysicalDeltaX", "PhysicalDeltaY")):
            found.setdefault(row["FileHash"], set()).add(_size(row["PhysicalDeltaX"], row["PhysicalDeltaY"]))
        return {video: size for video, sizes in found.items() for size in sizes if size is not None and len(sizes) == 1}

    def remarks(self) -> Iterator[Note]:
        for name, what in ((VIEWS, "the view"), (SIZES, "the pixel size")):
            if not (self.root / name).is_file():
                yield Note(name, f"is not there: {what} of the pictures is not known")
        parts = self._parts()
        sides: dict[str, set[str]] = {}
        for part, codes in parts.items():
            for code in codes:
                sides.setdefault(code[:-5], set()).add(part)
        several = {video for video, theirs in sides.items() if len(theirs) > 1}
        if several:
            text = f"{len(several)} video(s) have frames in several parts and go as a whole to ival, else to tune"
            yield Note("split", f"{text}: {printable(some(several, 3))}")
        unlisted = [entry.name for entry in self.entries if entry.split is None and entry.problem is None]
        if unlisted:
            text = f"{len(unlisted)} picture(s) are in no list and go to the training part, also those held out (ival)"
            yield Note("split", f"{text}: {some(unlisted, 3)}")


def _size(x: str, y: str) -> tuple[float, float] | None:
    """(height, width) in mm of two numbers in cm; None for what cannot be."""
    width, height = number(x), number(y)
    if width is None or height is None:
        return None
    low, high = SIZES_MM
    return (10 * height, 10 * width) if low <= 10 * height <= high and low <= 10 * width <= high else None


def find_copy(root: Path) -> Copy:
    """The copy in `root`, in a folder of it, or above it (where `root` is labels). Raises ConversionError for none."""
    require_folder(root)
    above = [root.absolute().parent] if root.absolute().name == LABELS else []
    for place in (root, *above, *sorted(path for path in root.iterdir() if path.is_dir())):
        if (place / LABELS).is_dir() and (place / PICTURES).is_dir():
            return Copy(place)
    raise not_found(root, f"the folders {LABELS} and {PICTURES} of Unity")
