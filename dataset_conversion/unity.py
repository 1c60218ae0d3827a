"""Unity: stills of many views with expert curves, each of which says whether it is annotated, off, or blurred.

A curve is a few points of an open contour; a smooth curve through them is closed by a straight line.

References:
    Howard et al., "Automated Left Ventricular Dimension Assessment Using Artificial Intelligence Developed and
    Validated by a UK-Wide Collaborative", Circulation: Cardiovascular Imaging 2021,
    https://doi.org/10.1161/CIRCIMAGING.120.011951
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    SourceScan,
    add_depth_option,
    nominal_spacing_mm,
    not_found,
    require_depth,
    require_folder,
)
from .readers import polygon
from .readers.images import read_own_image
from .readers.polygon import Points

LABEL_FOLDER, IMAGE_FOLDER = "labels", "png-cache"
VIEW_TABLE, SPACING_TABLE = "view_index_20220705.csv", "01_database_physical.csv"

#: Split by official part; ival was held out by the authors. The last one decides for a video that is in several.
SPLIT_BY_PART = {"train": "train", "tune": "val", "ival": "test"}

#: View under the names that all datasets share.
VIEW_NAMES = {"a4c": "4CH", "a2c": "2CH", "a3c": "3CH", "plax": "PLAX"}

#: Plausible spacings; DICOM's PhysicalDelta is in cm.
SPACING_RANGE_MM = (0.05, 1.5)

#: Label of the inner contour of each chamber.
CURVES = {"LV": "curve-lv-endo", "LA": "curve-la-endo", "RV": "curve-rv-endo", "RA": "curve-ra-endo"}

#: Classes in the order of their values; the myocardium has no contour of its own.
STRUCTURES = tuple(name for name in COMMON_CLASSES if name in CURVES)

#: What a chamber whose contour is off may count as.
OFF_CHOICES = ("unknown", "absent")


@dataclass(frozen=True)
class Unity(DataSet):
    """Convert Unity Imaging.

    Attributes:
        structures: Chambers to convert; the others are unknown where they have a contour. By default LV, whose contour
            the authors close with a straight line between the hinges.
        depth_mm: Nominal depth in mm, from the top to the bottom row, of an image without a spacing; such a case says
            so.
        off: What a chamber counts as whose contour is off. The authors write that also where annotators were not asked
            for the contour, so it is unknown unless somebody has checked.
    """

    structures: tuple[str, ...] = ("LV",)
    depth_mm: float = DEPTH_MM
    off: str = "unknown"

    name: ClassVar[str] = "unity"
    title: ClassVar[str] = "Unity: LV (and LA, RV, RA where annotated) in many views"
    description: ClassVar[str] = (
        "Unity Imaging (Howard et al. 2021): stills of many views with expert curves. Ask for it at "
        "https://data.unityimaging.net; CC BY-NC-SA 4.0 as shown there, non-commercial, as a precaution not to be "
        "passed on. Give the folder with labels/ and png-cache/ and, where you have them, view_index_20220705.csv and "
        "01_database_physical.csv."
    )
    default_name: ClassVar[str] = "Unity"
    classes: ClassVar[tuple[str, ...]] = STRUCTURES
    reference: ClassVar[str] = "Howard et al. 2021, https://doi.org/10.1161/CIRCIMAGING.120.011951"
    license: ClassVar[str] = "CC BY-NC-SA 4.0 as shown, non-commercial; as a precaution not to be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        if not self.structures or not set(self.structures) <= set(STRUCTURES):
            raise ConversionError(f"structures is {self.structures!r}, expected one or more of {', '.join(STRUCTURES)}")
        if self.off not in OFF_CHOICES:
            raise ConversionError(f"off is {self.off!r}, expected {' or '.join(OFF_CHOICES)}")
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --structures, --depth-mm and --off; see `DataSet.add_options`."""
        parser.add_argument(
            "--structures",
            nargs="+",
            choices=STRUCTURES,
            default=["LV"],
            help="which chambers to convert where they have a contour; the report counts them (default: LV)",
        )
        add_depth_option(parser, "images without a known spacing")
        parser.add_argument(
            "--off",
            choices=OFF_CHOICES,
            default="unknown",
            help="what a chamber counts as whose contour is off: the release says off also where annotators were not "
            "asked for it, so that the chamber may be in the image; absent only if you have checked that it never is "
            "(default: %(default)s)",
        )

    @property
    def converted_classes(self) -> tuple[str, ...]:
        """Return `structures` in the common order."""
        return tuple(name for name in STRUCTURES if name in self.structures)

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`."""
        folder = find_unity_folder(self.root)
        labels = {part: read_unity_labels(path) for part, path in folder.label_files.items()}
        parts = folder.read_parts(labels)
        entries = list_labeled_images(labels, parts)
        stills = self._stills(folder, entries)
        annotated = {chamber for still in stills for chamber in still.entry.labels.curves}
        missing = [name for name in self.converted_classes if name not in annotated]
        if missing:
            raise ConversionError(
                f"No image has a contour of {', '.join(missing)}; there are contours of {format_names(annotated)}. "
                "Choose among them with --structures."
            )
        notes = [*folder.remarks(parts, entries), *self._remarks([still for still in stills if still.problem is None])]
        return SourceScan([still for still in stills if self._is_relevant(still)], notes, folder.tables())

    def _stills(self, folder: UnityFolder, entries: Sequence[UnityImage]) -> list[LabeledImage]:
        images = folder.find_images({entry.code for entry in entries if entry.problem is None})
        views, spacings = folder.views(), folder.spacings_mm()
        missing = [entry for entry in entries if entry.problem is None and entry.code not in images]
        # one training image is missing in the official release
        known_defect = len(missing) == 1 and missing[0].split in (None, "train")
        return [
            LabeledImage(
                printable(entry.name),
                entry,
                images.get(entry.code),
                spacings.get(entry.video),
                views.get(entry.code),
                entry.problem or (None if entry.code in images else f"its image is not in {IMAGE_FOLDER}"),
                known_defect and entry.problem is None and entry.code not in images,
            )
            for entry in entries
        ]

    def _is_relevant(self, still: LabeledImage) -> bool:
        """Check whether a chamber to be converted has a contour, or is off: then `read` says why there is no case."""
        return bool(still.problem or {*self.structures} & {*still.entry.labels.curves, *still.entry.labels.off})

    def _absent(self, still: LabeledImage) -> tuple[str, ...]:
        """Return the chambers known not to be in the image.

        By its view, unless a label shows them, or because they are off and somebody has checked what that means.
        """
        labels = still.entry.labels
        unseen = {name for name in OUT_OF_VIEW.get(still.view or "", ()) if name not in labels.shown}
        checked = labels.off if self.off == "absent" else ()
        return tuple(name for name in STRUCTURES if name in unseen or name in checked)

    def _remarks(self, stills: Sequence[LabeledImage]) -> Iterator[Note]:
        """Count contours, and list doubts, of the images that can be converted."""
        for chamber, label in CURVES.items():
            annotated = sum(chamber in still.entry.labels.curves for still in stills)
            off = sum(chamber in still.entry.labels.off for still in stills)
            absent = sum(chamber in self._absent(still) for still in stills)
            text = f"annotated in {annotated} image(s), off in {off}; absent in {absent}, else unknown"
            if chamber not in self.structures and annotated:
                text += f"; not converted, --structures {chamber} would"
            yield Note(label, text)
        irrelevant = sum(not self._is_relevant(still) for still in stills)
        if irrelevant:
            names = ", ".join(self.converted_classes)
            yield Note("labels", f"{irrelevant} image(s) say nothing about {names} and are left out")
        yield from self._doubts(stills)

    def _doubts(self, stills: Sequence[LabeledImage]) -> Iterator[Note]:
        """Yield one note for all images that have the same doubt."""
        doubts: dict[str, list[str]] = {}
        for still in stills:
            for text in (*still.entry.labels.doubts, *_view_contradictions(still)):
                doubts.setdefault(text, []).append(still.name)
        for text, names in sorted(doubts.items()):
            yield Note("labels", f"{len(names)} image(s): {text}: {format_names(names, 3)}")

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read one image; see `DataSet.read`."""
        assert isinstance(source, LabeledImage)
        identifier = f"unity_{source.entry.code}"
        if source.problem or source.image is None:
            yield Skipped(source.name, source.problem or "there is no image", source.known_defect)
            return
        wanted = {name: points for name, points in source.entry.labels.curves.items() if name in self.structures}
        if not wanted:
            off = ", ".join(name for name in self.converted_classes if name in source.entry.labels.off)
            yield Skipped(identifier, f"no chamber to be converted has a contour; off: {off}", known_defect=True)
            return
        image = read_own_image(source.image).array
        shape = (image.shape[0], image.shape[1])
        masks, doubts = chambers(wanted, shape)
        yield from (Note(identifier, text) for text in doubts)
        if not masks:
            yield Skipped(identifier, "none of its contours can be used")
            return
        yield self._case(identifier, source, image, masks)

    def _case(
        self, identifier: str, source: LabeledImage, image: NDArray[Any], masks: dict[str, NDArray[np.bool_]]
    ) -> ConvertedCase:
        mask = np.zeros(image.shape, np.uint8)
        for name, pixels in masks.items():
            mask[pixels] = self.converted_classes.index(name) + 1
        entry = {
            "split": source.entry.split,
            "view": source.view,
            "frame": source.entry.frame,
            "interpolated": False,
            "spacing_known": source.spacing_mm is not None,
            OFF: self.off,
        }
        labels = CaseLabels.from_fields(
            annotated=tuple(name for name in self.converted_classes if name in masks),
            absent=self._absent(source),
            domain="unity",
            patient=f"unity_{source.entry.video}",
            info=entry,
        )
        spacing_mm = source.spacing_mm or nominal_spacing_mm(self.depth_mm, image.shape[0])
        return ConvertedCase(identifier, image, mask, spacing_mm, labels)


@dataclass(frozen=True)
class LabeledImage(SourceItem):
    """Represent one labeled image.

    Attributes:
        entry: Its labels.
        image: The file; None where it is missing.
        spacing_mm: Height and width of a pixel in mm; None where it is unknown.
        view: View; None where it is unknown.
        problem: Why it cannot be converted; None if it can.
        known_defect: Whether the official release has this problem.
    """

    entry: UnityImage
    image: Path | None = None
    spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    problem: str | None = None
    known_defect: bool = False


def _view_contradictions(still: LabeledImage) -> Iterator[str]:
    """Yield the labels of chambers that the view does not show."""
    for chamber in OUT_OF_VIEW.get(still.view or "", ()):
        if chamber in still.entry.labels.shown:
            label = still.entry.labels.shown[chamber]
            yield f"the view is {still.view}, but {label} is in the image, so {chamber} does not count as absent"


def find_unity_folder(root: Path) -> UnityFolder:
    """Find the copy of Unity in a folder, in a folder below it, or above it (where the user names labels).

    Args:
        root: Folder that the user names.

    Returns:
        Its label files and lists.

    Raises:
        ConversionError: If there is none, or it has no label file.
    """
    require_folder(root)
    above = [root.absolute().parent] if root.absolute().name == LABEL_FOLDER else []
    below = sorted(path for path in root.iterdir() if path.is_dir())
    for place in (root, *above, *below):
        if (place / LABEL_FOLDER).is_dir() and (place / IMAGE_FOLDER).is_dir():
            return _list_label_files(place)
    raise not_found(root, f"the folders {LABEL_FOLDER} and {IMAGE_FOLDER} of Unity")


def _list_label_files(root: Path) -> UnityFolder:
    """List the label files, and the lists where only labels-all.json exists."""
    folder = root / LABEL_FOLDER
    files = {part: folder / f"labels-{part}.json" for part in (*SPLIT_BY_PART, "all")}
    files = {part: path for part, path in files.items() if path.is_file()}
    if not files:
        raise not_found(folder, "labels-train.json, labels-tune.json, ... of Unity")
    missing = set(SPLIT_BY_PART) - set(files)
    if "all" in files and 0 < len(missing) < len(SPLIT_BY_PART):
        raise ConversionError(
            f"{printable(str(folder))} holds labels-all.json and some of its parts, but not those of "
            f"{format_names(missing)}, whose images would be left out. Add labels-{min(missing)}.json, or move the "
            "parts away: the split of labels-all.json then comes from the lists labels-train.txt, ..."
        )
    if set(files) != {"all"}:
        return UnityFolder(root, {part: path for part, path in files.items() if part != "all"}, {})
    lists = {part: folder / f"labels-{part}.txt" for part in SPLIT_BY_PART}
    return UnityFolder(root, files, {part: path for part, path in lists.items() if path.is_file()})


@dataclass(frozen=True)
class UnityFolder:
    """List the files of a copy of Unity.

    Attributes:
        root: Folder with labels and images.
        label_files: Label files by official part (train, tune, ival); where none of them exists, "all".
        lists: Lists of names by part, which give the split of labels-all.json; empty where the parts give it.
    """

    root: Path
    label_files: Mapping[str, Path]
    lists: Mapping[str, Path]

    def tables(self) -> list[Path]:
        """Return all files that decide the result, sorted."""
        optional = [self.root / name for name in (VIEW_TABLE, SPACING_TABLE)]
        return sorted(
            [*self.label_files.values(), *self.lists.values(), *(path for path in optional if path.is_file())]
        )

    def read_parts(self, labels: Mapping[str, Mapping[str, UnityLabels]]) -> dict[str, set[str]]:
        """Read which images belong to which official part.

        Args:
            labels: Labels by part and name.

        Returns:
            Codes by part.

        Raises:
            ConversionError: If an image is in more than one part.
        """
        parts = {part: {code_of(name) for name in named} for part, named in labels.items() if part != "all"}
        for part, path in self.lists.items():
            text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
            parts[part] = {code_of(line.strip()) for line in text.splitlines() if line.strip()}
        counts = Counter(code for codes in parts.values() for code in codes)
        repeated = {code for code, count in counts.items() if count > 1}
        if repeated:
            names = printable(format_names(repeated, 3))
            raise ConversionError(
                f"{len(repeated)} image(s) are in more than one of the parts {', '.join(parts)} in "
                f"{printable(str(self.root / LABEL_FOLDER))}: {names}. Leave each in one."
            )
        return parts

    def find_images(self, codes: set[str]) -> dict[str, Path]:
        """Find images: where the name says, else anywhere below png-cache.

        Args:
            codes: Codes of the images.

        Returns:
            Path by code; missing images are left out.
        """
        folder = self.root / IMAGE_FOLDER
        expected = {code: folder / code[:2] / code[3:5] / code[5:7] / f"{code}.png" for code in codes}
        images = {code: path for code, path in expected.items() if path.is_file()}
        if len(images) < len(codes):
            elsewhere = {path.stem: path for path in sorted(folder.rglob("*.png"))}
            images.update({code: elsewhere[code] for code in codes - set(images) if code in elsewhere})
        return images

    def views(self) -> dict[str, str]:
        """Read the view of each image.

        Returns:
            View by code, as far as the table tells; empty without a table.
        """
        if not (self.root / VIEW_TABLE).is_file():
            return {}
        rows = read_table(self.root / VIEW_TABLE, ("file", "view"))
        named = {code_of(row["file"]): printable(row["view"]) for _, row in rows if row["view"]}
        return {code: VIEW_NAMES.get(view.casefold(), view) for code, view in named.items()}

    def spacings_mm(self) -> dict[str, tuple[float, float]]:
        """Read the spacing of each video.

        Returns:
            Height and width of a pixel in mm by video, where the table holds one plausible value; empty without a
            table.
        """
        if not (self.root / SPACING_TABLE).is_file():
            return {}
        spacings: dict[str, set[tuple[float, float] | None]] = {}
        for _, row in read_table(self.root / SPACING_TABLE, ("FileHash", "PhysicalDeltaX", "PhysicalDeltaY")):
            spacings.setdefault(row["FileHash"], set()).add(_spacing_mm(row["PhysicalDeltaX"], row["PhysicalDeltaY"]))
        return {video: mm for video, own in spacings.items() for mm in own if mm is not None and len(own) == 1}

    def remarks(self, parts: Mapping[str, set[str]], entries: Sequence[UnityImage]) -> Iterator[Note]:
        """Yield notes about missing tables and the official split.

        Args:
            parts: Codes by official part.
            entries: All labeled images.

        Yields:
            A note.
        """
        for name, what in ((VIEW_TABLE, "the view"), (SPACING_TABLE, "the spacing")):
            if not (self.root / name).is_file():
                yield Note(name, f"is missing: {what} of the images is unknown")
        parts_by_video: dict[str, set[str]] = {}
        for part, codes in parts.items():
            for code in codes:
                parts_by_video.setdefault(code[:-5], set()).add(part)
        several = {video for video, own in parts_by_video.items() if len(own) > 1}
        if several:
            text = f"{len(several)} video(s) have frames in several parts and go as a whole to ival, else to tune"
            yield Note("split", f"{text}: {printable(format_names(several, 3))}")
        unlisted = [entry.name for entry in entries if entry.split is None and entry.problem is None]
        if unlisted:
            text = f"{len(unlisted)} image(s) are in no list and go to the training part, also those held out (ival)"
            yield Note("split", f"{text}: {format_names(unlisted, 3)}")


@dataclass(frozen=True)
class UnityImage:
    """Hold an image that a label file names.

    Attributes:
        name: Such as 01-<hash>-0023.png.
        labels: Its labels.
        split: Official split of its video; None where there is none.
        problem: Why the entry cannot be used; None if it can.
    """

    name: str
    labels: UnityLabels
    split: str | None = None
    problem: str | None = None

    @property
    def code(self) -> str:
        """Return the name without folder, ending and upload mark."""
        return code_of(self.name)

    @property
    def video(self) -> str:
        """Return the code without the frame; several videos of one patient cannot be told apart."""
        return self.code[:-5]

    @property
    def frame(self) -> int:
        """Return the number of the frame."""
        return int(self.code[-4:])


def list_labeled_images(
    labels: Mapping[str, Mapping[str, UnityLabels]], parts: Mapping[str, set[str]]
) -> list[UnityImage]:
    """List all labeled images.

    Args:
        labels: Labels by part and name.
        parts: Codes by official part.

    Returns:
        Images sorted by name; one whose name is invalid or repeated has a `problem`.
    """
    splits = {code[:-5]: split for part, split in SPLIT_BY_PART.items() for code in parts.get(part, ())}
    named = [(code_of(name), name, own) for part in labels.values() for name, own in part.items()]
    first: dict[str, str] = {}
    images = []
    for code, name, own in sorted(named, key=lambda entry: entry[:2]):
        problem = None if CODE.fullmatch(code) else "its name is not 01-<64 hexadecimal digits>-<frame>.png"
        if problem is None and code in first:
            problem = f"the same image is labeled as {first[code]} too"
        first.setdefault(code, name)
        images.append(UnityImage(name, own, splits.get(code[:-5]), problem))
    return images


def _spacing_mm(x: str, y: str) -> tuple[float, float] | None:
    """Convert two numbers in cm to (height, width) in mm; None for what is not plausible."""
    width, height = parse_number(x), parse_number(y)
    if width is None or height is None:
        return None
    low, high = SPACING_RANGE_MM
    return (10 * height, 10 * width) if low <= 10 * height <= high and low <= 10 * width <= high else None


#: Neighbors share the line of the valve between them; a larger share of the smaller one is a contradiction.
MAX_OVERLAP = 0.1


def smooth(points: Points) -> Points:
    """Interpolate control points, in steps of at most a pixel.

    A natural cubic spline over the distance along the points, as in the authors' own code.

    Args:
        points: Control points (n, 2), n > 2, x and y in pixels; no two neighbors are equal.

    Returns:
        Curve (m, 2).

    References:
        https://github.com/UnityImaging/scantensus-echo, Scantensus/utils/heatmaps.py
    """
    from scipy.interpolate import CubicSpline

    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    steps = np.linspace(0, along[-1], max(len(points), math.ceil(1.5 * along[-1])))
    curve: Points = CubicSpline(along, points, bc_type="natural")(steps)
    return curve


def chambers(curves: Mapping[str, Points], shape: tuple[int, int]) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    """Fill the contours of the chambers.

    The ends of a curve (the hinges of the valve) are joined by a straight line. A pixel of two chambers, on the valve
    between them, goes to the first. A chamber without a pixel, and two that share more than a border, are left out and
    named in the doubts.

    Args:
        curves: Control points (n, 2) by chamber, x and y in pixels.
        shape: Rows and columns of the image.

    Returns:
        Boolean mask of `shape` by chamber, no pixel in two of them; and doubts, empty if there are none.
    """
    masks = {name: polygon.fill_polygon(smooth(points), shape) for name, points in curves.items()}
    doubts = [
        f"the contour of {name} encloses no pixel; it counts as unknown" for name in masks if not masks[name].any()
    ]
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    contradicting = {
        name
        for name, mask in masks.items()
        for other, other_mask in masks.items()
        if other != name and (mask & other_mask).sum() > MAX_OVERLAP * min(mask.sum(), other_mask.sum())
    }
    if contradicting:
        doubts.append(f"the contours of {', '.join(sorted(contradicting))} overlap; they count as unknown")
    occupied = np.zeros(shape, bool)
    result = {}
    for name, mask in masks.items():
        if name not in contradicting:
            result[name] = mask & ~occupied
            occupied |= mask
    return result, doubts


#: Beginning of labels that show a chamber, or a valve at its border, to be in the image.
_SHOWN_BY = {"LV": ("lv-", "mv-"), "LA": ("la-", "mv-"), "RV": ("rv-", "tv-"), "RA": ("ra-", "tv-")}

#: 01-<64 hexadecimal digits>-0023: source, video, frame. Names that were uploaded again end in _(1), _(2), _(3).
CODE = re.compile(r"([0-9A-Za-z]{2})-([0-9A-Fa-f]{64})-(\d{4})")
_UPLOAD_MARK = re.compile(r"_\(\d\)$")

#: Larger than any image, in pixels.
_MAX_COORDINATE_PIXELS = 1e5


@dataclass(frozen=True)
class UnityLabels:
    """Hold the labels of one image by chamber.

    Attributes:
        curves: Control points (n, 2), x and y in pixels.
        off: Chambers whose curve is off and that no other label shows.
        shown: Label that shows the chamber to be in the image (annotated, or blurred).
        doubts: Why a label that looks like more counts as unknown.
    """

    curves: Mapping[str, Points] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


def code_of(name: str) -> str:
    """Remove folder, ending and the mark of a second upload from a name.

    Args:
        name: Name in a table or label file.

    Returns:
        The code.
    """
    return _UPLOAD_MARK.sub("", name.rsplit("/", 1)[-1].removesuffix(".png"))


def read_unity_labels(path: Path) -> dict[str, UnityLabels]:
    """Read a label file.

    Args:
        path: JSON file.

    Returns:
        Labels by name of the image in the file.

    Raises:
        ConversionError: If it is not a label file.
    """
    content = read_json(path, ConversionError)
    if not isinstance(content, dict):
        raise ConversionError(f"{printable(str(path))} must hold an object with an entry per image.")
    return {name: labels_of(entry) for name, entry in content.items()}


def labels_of(entry: Any) -> UnityLabels:
    """Parse one entry; what is invalid is unknown.

    Args:
        entry: {"labels": {name: {"type": ..., "x": ..., "y": ...}}}.

    Returns:
        The labels; without labels, a doubt.
    """
    given = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(given, dict):
        return UnityLabels(doubts=("its entry has no labels",))
    curves: dict[str, Points] = {}
    off: list[str] = []
    shown = {chamber: label for chamber in CURVES if (label := _shows(chamber, given)) is not None}
    doubts: list[str] = []
    for chamber, label in CURVES.items():
        try:
            kind, points = _state(given.get(label))
            if kind == "off":
                if chamber in shown:
                    raise ConversionError(f"is off, but {shown[chamber]} is in the image")
                off.append(chamber)
            elif points is not None:
                curves[chamber] = points
        except ConversionError as problem:
            doubts.append(f"{label} {problem}, so {chamber} counts as unknown")
    return UnityLabels(curves, tuple(off), shown, tuple(doubts))


def _shows(chamber: str, given: Mapping[str, Any]) -> str | None:
    """Return the first label by name that shows the chamber to be in the image; None where there is none."""
    found = [
        label
        for label, value in given.items()
        if label.removeprefix("curve-").startswith(_SHOWN_BY[chamber])
        and any(
            _type(item) in ("point", "curve", "blurred") for item in (value if isinstance(value, list) else [value])
        )
    ]
    return printable(min(found)) if found else None


def _state(value: Any) -> tuple[str | None, Points | None]:
    """Return the type of a curve's label, and its points. Raises ConversionError, to follow the name of the label."""
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
    """Unpack a label; some releases put each into a list."""
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
            raise ConversionError("has coordinates that are not numbers") from None
    if len(numbers[0]) != len(numbers[1]):
        raise ConversionError(f"has {len(numbers[0])} numbers for x and {len(numbers[1])} for y")
    if not all(math.isfinite(number) and abs(number) < _MAX_COORDINATE_PIXELS for number in (*numbers[0], *numbers[1])):
        raise ConversionError("has coordinates far from any image")
    points = np.array(numbers).T.reshape(-1, 2)
    if len(points):
        points = points[np.any(np.diff(points, axis=0, prepend=points[:1] - 1) != 0, axis=1)]  # no vertex after itself
    if len(points) < 3:
        raise ConversionError(f"has {len(points)} point(s), expected 3 or more")
    return points
