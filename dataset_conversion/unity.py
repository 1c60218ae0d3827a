"""Unity: stills of many views with expert curves, each of which says whether it is drawn, off, or blurred.

Howard et al., "Automated Left Ventricular Dimension Assessment Using Artificial Intelligence Developed and Validated by
a UK-Wide Collaborative", Circulation: Cardiovascular Imaging 2021, https://doi.org/10.1161/CIRCIMAGING.120.011951

From the few points of an open outline to the pixels of a chamber: a smooth curve, closed by a straight line.

Where a copy of Unity keeps its labels, pictures, views and spacings, and which pictures are for what.

What the label files of Unity say about each picture: curves, points, what is off, and what is blurred.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.out_of_view import OFF, OUT_OF_VIEW
from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.tables import parse_number, read_table
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
)
from .readers import polygon
from .readers.images import read_own_image
from .readers.polygon import Points

#: Neighbours share the line of the valve between them; sharing more of the smaller one than this is a contradiction.
MAX_OVERLAP = 0.1


def smooth(points: Points) -> Points:
    """The curve through control points (n, 2), n > 2, no two neighbours alike, in steps of at most a pixel: (m, 2).

    A natural cubic spline over the distance along the points, as in the authors' own code
    (https://github.com/UnityImaging/scantensus-echo, Scantensus/utils/heatmaps.py).
    """
    from scipy.interpolate import CubicSpline

    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    steps = np.linspace(0, along[-1], max(len(points), math.ceil(1.5 * along[-1])))
    curve: Points = CubicSpline(along, points, bc_type="natural")(steps)
    return curve


def chambers(curves: Mapping[str, Points], shape: tuple[int, int]) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    """The pixels of each chamber, none in two of them, and doubts; masks are bool of `shape` (rows, cols).

    The ends of a curve (the hinges of the valve) are joined by a straight line. A pixel of two chambers, on the valve
    between them, goes to the first. A chamber without a pixel, and two that share more than a border, are left out
    and named in the doubts.
    """
    drawn = {name: polygon.fill_polygon(smooth(points), shape) for name, points in curves.items()}
    doubts = [
        f"the outline of {name} encloses no pixel; it counts as unknown" for name in drawn if not drawn[name].any()
    ]
    drawn = {name: mask for name, mask in drawn.items() if mask.any()}
    contradicting = {
        name
        for name, mask in drawn.items()
        for other, theirs in drawn.items()
        if other != name and (mask & theirs).sum() > MAX_OVERLAP * min(mask.sum(), theirs.sum())
    }
    if contradicting:
        doubts.append(f"the contours of {', '.join(sorted(contradicting))} overlap; they count as unknown")
    taken = np.zeros(shape, bool)
    found = {}
    for name, mask in drawn.items():
        if name not in contradicting:
            found[name] = mask & ~taken
            taken |= mask
    return found, doubts


#: The inner outline of each chamber.
CURVES = {"LV": "curve-lv-endo", "LA": "curve-la-endo", "RV": "curve-rv-endo", "RA": "curve-ra-endo"}
#: How labels begin that show a chamber, or a valve at its border, to be in the picture.
_SHOWS = {"LV": ("lv-", "mv-"), "LA": ("la-", "mv-"), "RV": ("rv-", "tv-"), "RA": ("ra-", "tv-")}

#: 01-<64 hexadecimal digits>-0023: source, video, frame. Names that were uploaded again end in _(1), _(2), _(3).
CODE = re.compile(r"([0-9A-Za-z]{2})-([0-9A-Fa-f]{64})-(\d{4})")
_AGAIN = re.compile(r"_\(\d\)$")
#: A number beyond this is no place in a picture.
_FAR = 1e5


@dataclass(frozen=True)
class Labels:
    """One picture's labels by chamber. `curves`: control points (n, 2) as x, y; `off`: the curve is off, and no other
    label shows the chamber; `shown`: a label that shows it to be in the picture (drawn, or blurred).

    `doubts`: why a label that looks like more counts as unknown.
    """

    curves: Mapping[str, Points] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


def code_of(name: str) -> str:
    """The name without folder, ending and the mark of a second upload."""
    return _AGAIN.sub("", name.rsplit("/", 1)[-1].removesuffix(".png"))


def read_labels(path: Path) -> dict[str, Labels]:
    """The labels of each picture, by its name in the file. Raises ConversionError where it is no label file."""
    content = read_json(path, ConversionError)
    if not isinstance(content, dict):
        raise ConversionError(f"{printable(str(path))} must hold an object with an entry per picture.")
    return {name: labels_of(entry) for name, entry in content.items()}


def labels_of(entry: Any) -> Labels:
    """The labels of one entry, {"labels": {name: {"type": ..., "x": ..., "y": ...}}}; what is no such thing is
    unknown."""
    given = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(given, dict):
        return Labels(doubts=("its entry has no labels",))
    curves: dict[str, Points] = {}
    off: list[str] = []
    shown = {chamber: label for chamber in CURVES if (label := _shows(chamber, given)) is not None}
    doubts: list[str] = []
    for chamber, label in CURVES.items():
        try:
            kind, points = _state(given.get(label))
            if kind == "off":
                if chamber in shown:
                    raise ConversionError(f"is off, but {shown[chamber]} is in the picture")
                off.append(chamber)
            elif points is not None:
                curves[chamber] = points
        except ConversionError as problem:
            doubts.append(f"{label} {problem}, so {chamber} counts as unknown")
    return Labels(curves, tuple(off), shown, tuple(doubts))


def _shows(chamber: str, given: Mapping[str, Any]) -> str | None:
    """The first label by name that shows the chamber to be in the picture; None where there is none."""
    found = [
        label
        for label, value in given.items()
        if label.removeprefix("curve-").startswith(_SHOWS[chamber])
        and any(_type(one) in ("point", "curve", "blurred") for one in (value if isinstance(value, list) else [value]))
    ]
    return printable(min(found)) if found else None


def _state(value: Any) -> tuple[str | None, Points | None]:
    """The type of a curve's label, and its points. Raises ConversionError, to follow the name of the label."""
    if isinstance(value, list) and len(value) > 1:
        raise ConversionError(f"is there {len(value)} times")
    label = _only(value)
    kind = _type(label)
    if kind in (None, "off", "blurred"):
        return kind, None
    if kind != "curve":
        raise ConversionError(f"has the type {printable(str(kind))[:20]!r}, expected curve, off or blurred")
    return kind, _points(label.get("x"), label.get("y"))


def _only(value: Any) -> Any:
    """Some releases put each label into a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _type(label: Any) -> str | None:
    kind = label.get("type") if isinstance(label, dict) else None
    return kind if isinstance(kind, str) and kind else None


def _points(x: Any, y: Any) -> Points:
    numbers = []
    for text in (x, y):
        try:
            numbers.append([float(word) for word in str(text).split()])
        except ValueError:
            raise ConversionError("has coordinates that are no numbers") from None
    if len(numbers[0]) != len(numbers[1]):
        raise ConversionError(f"has {len(numbers[0])} numbers for x and {len(numbers[1])} for y")
    if not all(math.isfinite(number) and abs(number) < _FAR for number in (*numbers[0], *numbers[1])):
        raise ConversionError("has coordinates far from any picture")
    points = np.array(numbers).T.reshape(-1, 2)
    if len(points):
        points = points[np.any(np.diff(points, axis=0, prepend=points[:1] - 1) != 0, axis=1)]  # one after itself
    if len(points) < 3:
        raise ConversionError(f"has {len(points)} point(s), expected 3 or more")
    return points


LABELS, PICTURES = "labels", "png-cache"
VIEWS, SIZES = "view_index_20220705.csv", "01_database_physical.csv"
#: ival was held out by the authors. A later one wins for a video that is in several.
SPLITS = {"train": "train", "tune": "val", "ival": "test"}
#: As every dataset here calls the views.
VIEW_NAMES = {"a4c": "4CH", "a2c": "2CH", "a3c": "3CH", "plax": "PLAX"}
#: DICOM's PhysicalDelta is in cm; a size in mm outside of these is none.
SIZES_MM = (0.05, 1.5)


@dataclass(frozen=True)
class UnityImage:
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
class UnityFolder:
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
    def entries(self) -> list[UnityImage]:
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
            found.append(UnityImage(name, labels, sides.get(code[:-5]), problem))
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
                f"{printable(str(self.root / LABELS))}: {printable(format_names(both, 3))}. Leave each in one."
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
        for name, what in ((VIEWS, "the view"), (SIZES, "the spacing")):
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
            yield Note("split", f"{text}: {printable(format_names(several, 3))}")
        unlisted = [entry.name for entry in self.entries if entry.split is None and entry.problem is None]
        if unlisted:
            text = f"{len(unlisted)} picture(s) are in no list and go to the training part, also those held out (ival)"
            yield Note("split", f"{text}: {format_names(unlisted, 3)}")


def _size(x: str, y: str) -> tuple[float, float] | None:
    """(height, width) in mm of two numbers in cm; None for what cannot be."""
    width, height = parse_number(x), parse_number(y)
    if width is None or height is None:
        return None
    low, high = SIZES_MM
    return (10 * height, 10 * width) if low <= 10 * height <= high and low <= 10 * width <= high else None


def find_unity_folder(root: Path) -> UnityFolder:
    """The copy in `root`, in a folder of it, or above it (where `root` is labels). Raises ConversionError for none."""
    require_folder(root)
    above = [root.absolute().parent] if root.absolute().name == LABELS else []
    for place in (root, *above, *sorted(path for path in root.iterdir() if path.is_dir())):
        if (place / LABELS).is_dir() and (place / PICTURES).is_dir():
            return UnityFolder(place)
    raise not_found(root, f"the folders {LABELS} and {PICTURES} of Unity")


#: The order in which masks are numbered; the wall has no outline of its own.
STRUCTURES = tuple(name for name in COMMON_CLASSES if name in CURVES)

#: What a label that is off may be taken for.
OFF_IS = ("unknown", "absent")


@dataclass(frozen=True)
class Still(SourceItem):
    """One labelled picture. `problem`: why it cannot be converted; `known_defect`: the release has this fault."""

    entry: UnityImage
    picture: Path | None = None
    spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    problem: str | None = None
    known_defect: bool = False


@dataclass(frozen=True)
class Unity(DataSet):
    """Unity Imaging. `structures`: which chambers' outlines to convert; the others are unknown where they are drawn.

    By default LV, whose outline the authors close with a straight line between the hinges. `depth_mm`: from the top to
    the bottom row of a picture without a spacing; a guess, and such a case says so. `off`: what a chamber counts as
    whose outline is off. The authors write that also where nobody was asked for the outline, so it is unknown unless
    somebody has checked.
    """

    structures: tuple[str, ...] = ("LV",)
    depth_mm: float = DEPTH_MM
    off: str = "unknown"

    name: ClassVar[str] = "unity"
    title: ClassVar[str] = "Unity: LV (and LA, RV, RA where outlined) in many views"
    description: ClassVar[str] = (
        "Unity Imaging (Howard et al. 2021): stills of many views with expert curves. Ask for it at "
        "https://data.unityimaging.net; CC BY-NC-SA 4.0 as shown there, non-commercial, as a precaution not to be "
        "passed on. Give the folder with labels/ and png-cache/ and, where you have them, view_index_20220705.csv and "
        "01_database_physical.csv."
    )
    default_name: ClassVar[str] = "Unity"
    classes: ClassVar[tuple[str, ...]] = ("LV",)  # of an instance: its `structures`
    reference: ClassVar[str] = "Howard et al. 2021, https://doi.org/10.1161/CIRCIMAGING.120.011951"
    license: ClassVar[str] = "CC BY-NC-SA 4.0 as shown, non-commercial; as a precaution not to be passed on"

    def __post_init__(self) -> None:
        if not self.structures or not set(self.structures) <= set(STRUCTURES):
            raise ConversionError(f"structures is {self.structures!r}, expected one or more of {', '.join(STRUCTURES)}")
        if self.off not in OFF_IS:
            raise ConversionError(f"off is {self.off!r}, expected {' or '.join(OFF_IS)}")
        chosen = tuple(name for name in STRUCTURES if name in self.structures)
        object.__setattr__(self, "structures", chosen)
        object.__setattr__(self, "classes", chosen)
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--structures",
            nargs="+",
            choices=STRUCTURES,
            default=["LV"],
            help="which chambers to convert where they are outlined; the report counts what is there (default: LV)",
        )
        add_depth_option(parser, "pictures of which nothing tells the spacing")
        parser.add_argument(
            "--off",
            choices=OFF_IS,
            default="unknown",
            help="what a chamber counts as whose outline is off: the release says off also where nobody was asked for "
            "the outline, so that the chamber may be in the picture; absent only if you have checked that it never is "
            "(default: %(default)s)",
        )

    def sources(self) -> Sequence[Still]:
        stills = self._stills(find_unity_folder(self.root))
        outlined = {chamber for still in stills for chamber in still.entry.labels.curves}
        if not outlined.issuperset(self.structures):
            none = [name for name in self.structures if name not in outlined]
            raise ConversionError(
                f"No picture has an outline of {', '.join(none)}; there are contours of "
                f"{format_names(outlined)}. Choose among "
                "them with --structures."
            )
        return [still for still in stills if self._says_something(still)]

    def _stills(self, copy: UnityFolder) -> list[Still]:
        entries, pictures = copy.entries, copy.pictures
        views, sizes = copy.views(), copy.spacings_mm()
        missing = [entry for entry in entries if entry.problem is None and entry.code not in pictures]
        # one training picture is missing in the official release
        known_defect = len(missing) == 1 and missing[0].split in (None, "train")
        return [
            Still(
                printable(entry.name),
                entry,
                pictures.get(entry.code),
                sizes.get(entry.video),
                views.get(entry.code),
                entry.problem or (None if entry.code in pictures else f"its picture is not in {PICTURES}"),
                known_defect and entry.problem is None and entry.code not in pictures,
            )
            for entry in entries
        ]

    def _says_something(self, still: Still) -> bool:
        """Whether a chamber to be converted is outlined in the picture, or off: then `read` says why it is no case."""
        return bool(still.problem or {*self.structures} & {*still.entry.labels.curves, *still.entry.labels.off})

    def _absent(self, still: Still) -> tuple[str, ...]:
        """The chambers known not to be in the picture: by its view, unless a label shows them, or because they are off
        and somebody has checked what that means."""
        labels = still.entry.labels
        unseen = {name for name in OUT_OF_VIEW.get(still.view or "", ()) if name not in labels.shown}
        checked = labels.off if self.off == "absent" else ()
        return tuple(name for name in STRUCTURES if name in unseen or name in checked)

    def remarks(self) -> Iterator[Note]:
        copy = find_unity_folder(self.root)
        yield from copy.remarks()
        stills = [still for still in self._stills(copy) if still.problem is None]
        for chamber, label in CURVES.items():
            outlined = sum(chamber in still.entry.labels.curves for still in stills)
            off = sum(chamber in still.entry.labels.off for still in stills)
            absent = sum(chamber in self._absent(still) for still in stills)
            way = (
                f"; not converted, --structures {chamber} would" if chamber not in self.structures and outlined else ""
            )
            yield Note(label, f"outlined in {outlined} picture(s), off in {off}; absent in {absent}, else unknown{way}")
        useless = sum(not self._says_something(still) for still in stills)
        if useless:
            yield Note(
                "labels", f"{useless} picture(s) say nothing about {', '.join(self.structures)} and are left out"
            )
        yield from self._doubts(stills)

    def _doubts(self, stills: Sequence[Still]) -> Iterator[Note]:
        """Pictures that have the same doubt, as one note."""
        doubts: dict[str, list[str]] = {}
        for still in stills:
            for text in (*still.entry.labels.doubts, *_against_the_view(still)):
                doubts.setdefault(text, []).append(still.name)
        for text, names in sorted(doubts.items()):
            yield Note("labels", f"{len(names)} picture(s): {text}: {format_names(names, 3)}")

    def tables(self) -> Sequence[Path]:
        return find_unity_folder(self.root).tables()

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, Still)
        identifier = f"unity_{source.entry.code}"
        if source.problem or source.picture is None:
            yield Skipped(source.name, source.problem or "there is no picture", source.known_defect)
            return
        wanted = {name: points for name, points in source.entry.labels.curves.items() if name in self.structures}
        if not wanted:
            off = ", ".join(name for name in self.structures if name in source.entry.labels.off)
            yield Skipped(identifier, f"nothing that is to be converted is outlined; off: {off}", known_defect=True)
            return
        image = read_own_image(source.picture).array
        shape = (image.shape[0], image.shape[1])
        masks, doubts = chambers(wanted, shape)
        yield from (Note(identifier, text) for text in doubts)
        if not masks:
            yield Skipped(identifier, "none of its outlines can be used")
            return
        yield self._case(identifier, source, image, masks)

    def _case(
        self, identifier: str, source: Still, image: NDArray[Any], masks: dict[str, NDArray[np.bool_]]
    ) -> ConvertedCase:
        mask = np.zeros(image.shape, np.uint8)
        for name, pixels in masks.items():
            mask[pixels] = self.classes.index(name) + 1
        entry = {
            "split": source.entry.split,
            "view": source.view,
            "frame": source.entry.frame,
            "interpolated": False,
            "spacing_known": source.spacing_mm is not None,
            OFF: self.off,
        }
        labels = CaseLabels.from_fields(
            annotated=tuple(name for name in self.classes if name in masks),
            absent=self._absent(source),
            domain="unity",
            patient=f"unity_{source.entry.video}",
            info=entry,
        )
        pixel_mm = self.depth_mm / image.shape[0]
        return ConvertedCase(identifier, image, mask, source.spacing_mm or (pixel_mm, pixel_mm), labels)


def _against_the_view(still: Still) -> Iterator[str]:
    """Labels of chambers that the view does not show."""
    for chamber in OUT_OF_VIEW.get(still.view or "", ()):
        if chamber in still.entry.labels.shown:
            label = still.entry.labels.shown[chamber]
            yield f"the view is {still.view}, but {label} is in the picture, so {chamber} does not count as absent"
