"""EchoNet-Pediatric: children in four-chamber and short-axis view, with the left ventricle traced in two frames.

Two tables per view say which clips there are, and give the contours of the left ventricle in them.

References:
    Reddy et al., "Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection Fraction in Pediatric
    Patients", JASE 2023, https://doi.org/10.1016/j.echo.2023.01.015
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.tables import TextRow, parse_int, parse_number, read_table
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
    require_identifier,
)
from .echonet import (
    FILE_LIST,
    MAX_COORDINATE_PIXELS,
    TRACINGS,
    VIDEOS,
    FilledFrame,
    fill_contours,
    find_videos,
    stem,
    unlisted_videos,
)
from .readers.polygon import Points
from .readers.video import read_video_header

PEDIATRIC_FOLDS = range(10)

#: View by folder, under the names that all datasets share.
VIEW_BY_FOLDER = {"A4C": "4CH", "PSAX": "PSAX"}

#: The short axis of the ventricle shows no atrium; it shows the right ventricle, which is not annotated.
ABSENT_BY_VIEW = {"4CH": (), "PSAX": ("LA", "RA")}

#: Subject of the notes about how frames are counted; `summarize_notes` counts them.
_NUMBERS_NOTE = "frame numbers"
_FROM_0, _FROM_1 = "frame 0 is traced", "the traced frame is the number of frames"

#: Levels below the given folder in which views are searched: the archive unpacks into nested folders.
_LEVELS = 3


@dataclass(frozen=True)
class EchoNetPediatric(DataSet):
    """Convert EchoNet-Pediatric.

    Attributes:
        frame_base: Number of the first frame in the table of tracings, 0 or 1.
        val_folds: Folds, of 0 to 9, for validation; none by default.
        test_folds: Folds, of 0 to 9, for testing; none by default.
        depth_mm: Nominal depth in mm, from the top to the bottom row. The dataset has no spacing, and every case says
            so.
    """

    frame_base: int = 0
    val_folds: tuple[int, ...] = ()
    test_folds: tuple[int, ...] = ()
    depth_mm: float = DEPTH_MM

    name: ClassVar[str] = "echonet-pediatric"
    title: ClassVar[str] = "EchoNet-Pediatric: LV in 4CH and PSAX"
    description: ClassVar[str] = (
        "EchoNet-Pediatric (Reddy et al. 2023): children, four-chamber and short-axis view, left ventricle traced in "
        "up to two frames each. Ask for it at https://echonet.github.io/pediatric; for personal, non-commercial "
        f"research, not to be passed on. Give the unpacked folder; A4C/{FILE_LIST} and PSAX/{FILE_LIST} are found "
        "below it."
    )
    default_name: ClassVar[str] = "EchoNetPediatric"
    classes: ClassVar[tuple[str, ...]] = ("LV",)
    reference: ClassVar[str] = "Reddy et al. 2023, https://doi.org/10.1016/j.echo.2023.01.015"
    license: ClassVar[str] = "Stanford research use agreement; neither data nor derivatives to be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.frame_base not in (0, 1):
            raise ConversionError(f"frame_base is {self.frame_base!r}, expected 0 or 1")
        if not {*self.val_folds, *self.test_folds} <= set(PEDIATRIC_FOLDS) or set(self.val_folds) & set(
            self.test_folds
        ):
            raise ConversionError(
                f"the folds are {self.val_folds} for validation and {self.test_folds} for testing; expected "
                "numbers from 0 to 9, each once"
            )
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --frame-base, --val-folds, --test-folds and --depth-mm; see `DataSet.add_options`."""
        parser.add_argument(
            "--frame-base",
            type=int,
            choices=(0, 1),
            default=0,
            help="the number of a video's first frame in the table of tracings; readers disagree, and the report "
            "counts the evidence for either (default: %(default)s)",
        )
        for part, default in (("val", "validation"), ("test", "testing")):
            parser.add_argument(
                f"--{part}-folds",
                type=int,
                nargs="+",
                default=[],
                metavar="N",
                help=f"which of the folds 0 to 9 are for {default} (default: none)",
            )
        add_depth_option(parser)

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`."""
        folders = find_views(self.root)
        listed = {view: read_clips(folder / FILE_LIST) for view, folder in folders.items()}
        folds = _folds_of_patients(listed)
        splits = self._splits(folds)
        items: list[PediatricClip] = []
        notes = [
            Note(view, f"there is no folder {view} with a {FILE_LIST}: this view is left out")
            for view in sorted(set(VIEW_BY_FOLDER) - set(folders))
        ]
        for view, folder in folders.items():
            clips, traced, videos = listed[view], read_contours(folder / TRACINGS), find_videos(folder / VIDEOS)
            for name in [*clips, *(name for name in traced if name not in clips)]:
                split = splits.get(clips[name].patient) if name in clips else None
                items.append(_source(name, view, clips.get(name), split, traced.get(name), videos.get(name)))
            notes += unlisted_videos(view, videos, clips)
        notes += _fold_notes(folds, bool(self.val_folds or self.test_folds))
        tables = [folder / table for folder in folders.values() for table in (FILE_LIST, TRACINGS)]
        return SourceScan(items, notes, tables)

    def summarize_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """Summarize the evidence for counting frames from 0 or 1 as one note; see `DataSet.summarize_notes`."""
        texts = [note.text for note in notes if note.about == _NUMBERS_NOTE]
        zero, one = texts.count(_FROM_0), texts.count(_FROM_1)
        text = (
            f"taken as counted from {self.frame_base}. In {zero} video(s) frame 0 is traced, which is possible only "
            f"when counting from 0; in {one} a traced frame is the number of frames, possible only when counting from 1"
        )
        if (zero, one)[1 - self.frame_base] > (zero, one)[self.frame_base]:
            text += f". Convert again with --frame-base {1 - self.frame_base}?"
        return [Note(_NUMBERS_NOTE, text), *(note for note in notes if note.about != _NUMBERS_NOTE)]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read the traced frames of one clip; see `DataSet.read`."""
        assert isinstance(source, PediatricClip)
        if source.problem or source.video is None or source.clip is None:
            yield Skipped(source.identifier, source.problem or "there is no video")
            return
        require_identifier(source.identifier)
        if source.clip.remark:
            yield Note(source.identifier, source.clip.remark)
        for text in source.contours.without_frame:
            yield Skipped(source.identifier, f"one frame less: the table says {text!r}", known_defect=True)
        for number, problem in source.contours.problems.items():
            name = source.identifier if number is None else f"{source.identifier} frame {number}"
            yield Skipped(name, problem)
        if source.contours.frames:
            yield from _numbering_evidence(source.video, source.contours.frames)
            yield from self._cases(source, source.clip, source.video)

    def _cases(self, source: PediatricClip, clip: ListedClip, video: Path) -> Iterator[ConvertedCase | Skipped | Note]:
        contours = {number - self.frame_base: points for number, points in source.contours.frames.items()}
        if -1 in contours:
            yield Skipped(f"{source.identifier} frame 0", "counted from 1 (--frame-base 1) there is no frame 0")
            del contours[-1]
        for item in fill_contours(source.identifier, source.identifier, video, contours):
            yield self._case(source, clip, item) if isinstance(item, FilledFrame) else item

    def _case(self, source: PediatricClip, clip: ListedClip, filled: FilledFrame) -> ConvertedCase:
        entry = {
            "split": source.split,
            "view": source.view,
            "phase": filled.phase,
            "frame": filled.frame,
            "interpolated": False,
            "spacing_known": False,
            "ef": clip.ef,
            "fold": clip.fold,
        }
        labels = CaseLabels.from_fields(
            annotated=self.classes,
            absent=ABSENT_BY_VIEW[source.view],
            domain="pediatric",
            patient=f"pediatric_{clip.patient}",
            info=entry,
        )
        spacing_mm = nominal_spacing_mm(self.depth_mm, filled.image.shape[0], filled.aspect)
        return ConvertedCase(filled.identifier, filled.image, filled.mask, spacing_mm, labels)

    def _splits(self, folds: Mapping[str, set[int | None]]) -> dict[str, str]:
        """Return the split by patient: one clip in a test fold takes all clips of the patient there."""
        if not self.val_folds and not self.test_folds:
            return {}
        return {
            patient: "test" if own & set(self.test_folds) else "val" if own & set(self.val_folds) else "train"
            for patient, own in folds.items()
        }


@dataclass
class TracedClip:
    """Hold the contours of one clip.

    Attributes:
        frames: Vertices (n, 2), x and y in pixels, by frame as the table counts.
        problems: Why a frame cannot be used, by number; None for a row without a frame number.
        without_frame: "No Systolic" or "No Diastolic", as the table says.
    """

    frames: dict[int, Points] = field(default_factory=dict)
    problems: dict[int | None, str] = field(default_factory=dict)
    without_frame: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PediatricClip(SourceItem):
    """Represent one clip with its contours.

    Attributes:
        stem: File name without ending.
        view: 4CH or PSAX.
        clip: Row of FileList.csv; None where there is none.
        video: The file; None where there is none.
        split: Split by the chosen folds; None if none are chosen.
        contours: Contours by frame, as the table counts.
        problem: Why nothing of the clip can be converted; None if it can.
    """

    stem: str
    view: str
    clip: ListedClip | None = None
    video: Path | None = None
    split: str | None = None
    contours: TracedClip = field(default_factory=TracedClip)
    problem: str | None = None

    @property
    def identifier(self) -> str:
        """Return the beginning of the identifiers of the clip's cases."""
        return f"pediatric_{self.stem}_{self.view}"


def find_views(root: Path) -> dict[str, Path]:
    """Find the folders A4C and PSAX, the nearest ones below a folder, which may be one of them.

    Args:
        root: Folder that the user names.

    Returns:
        Path by folder name.

    Raises:
        ConversionError: If there is none, one occurs more than once, or one lacks a table or its videos.
    """
    require_folder(root)
    if root.absolute().name in VIEW_BY_FOLDER and (root / FILE_LIST).is_file():
        found = [root]
    else:
        levels = (sorted(root.glob("*/" * level + "*")) for level in range(_LEVELS + 1))
        views = ([p for p in level if p.name in VIEW_BY_FOLDER and (p / FILE_LIST).is_file()] for level in levels)
        found = next((level for level in views if level), [])
    if not found:
        raise not_found(root, f"A4C/{FILE_LIST} or PSAX/{FILE_LIST} of EchoNet-Pediatric, up to {_LEVELS} levels down")
    if len({path.absolute().name for path in found}) < len(found):
        places = format_names([printable(str(path)) for path in found])
        raise ConversionError(f"{printable(str(root))} holds more than one copy of a view: {places}. Give one of them.")
    for folder in found:
        if not (folder / TRACINGS).is_file() or not (folder / VIDEOS).is_dir():
            raise not_found(folder, f"{TRACINGS} and the folder {VIDEOS} of EchoNet-Pediatric")
    return {path.absolute().name: path for path in found}


def _source(
    name: str, folder: str, clip: ListedClip | None, split: str | None, traced: TracedClip | None, video: Path | None
) -> PediatricClip:
    """Combine what the tables and the folder say about one clip."""
    shown, view = printable(name), VIEW_BY_FOLDER[folder]
    problem = clip.problem if clip else f"is traced in {TRACINGS} but not in {FILE_LIST}"
    if problem is None and traced is None:
        problem = f"has no tracing in {TRACINGS}"
    if problem is None and video is None:
        problem = f"there is no video {shown}.avi in {folder}/{VIDEOS}"
    return PediatricClip(
        f"{folder} {shown}", shown if problem else name, view, clip, video, split, traced or TracedClip(), problem
    )


def _numbering_evidence(video: Path, contours: Mapping[int, Points]) -> Iterator[Note]:
    if 0 in contours:
        yield Note(_NUMBERS_NOTE, _FROM_0)
    header = read_video_header(video)
    if not header.lost and header.length in contours:
        yield Note(_NUMBERS_NOTE, _FROM_1)


def _folds_of_patients(listed: Mapping[str, Mapping[str, ListedClip]]) -> dict[str, set[int | None]]:
    folds: dict[str, set[int | None]] = {}
    for clips in listed.values():
        for clip in clips.values():
            if clip.problem is None:
                folds.setdefault(clip.patient, set()).add(clip.fold)
    return folds


def _fold_notes(folds: Mapping[str, set[int | None]], used: bool) -> Iterator[Note]:
    """Yield notes about patients whose clips are in different folds: they must not be separated."""
    several = {printable(patient) for patient, own in folds.items() if len(own) > 1}
    if several:
        text = f"{len(several)} of {len(folds)} patient(s) have clips in different folds: {format_names(several)}"
        rule = ". All clips of such a patient go to the first of test, val, train that has one" if used else ""
        yield Note("folds of the release", text + rule)
    if not used:
        yield Note("folds of the release", "none is used for testing; choose with --val-folds and --test-folds")


#: patient-study-clip, such as CR32a7555-CR32a7582-000039
_NAME = re.compile(r"([^-]+)-[^-]+-[^-]+")

#: Entry of Frame where the video shows no such moment.
_NO_FRAME = re.compile(r"no (systolic|diastolic)", re.IGNORECASE)


@dataclass(frozen=True)
class ListedClip:
    """Hold a row of FileList.csv.

    Attributes:
        patient: First part of the file name.
        fold: 0 to 9, from the column Split; None where it does not say.
        ef: Ejection fraction in percent; None where the row does not say.
        problem: What is wrong with the row; None if nothing is.
        remark: What is unusual about the row; None if nothing is.
    """

    patient: str
    fold: int | None
    ef: float | None
    problem: str | None = None
    remark: str | None = None


def read_clips(path: Path) -> dict[str, ListedClip]:
    """Read FileList.csv.

    Args:
        path: The table.

    Returns:
        Rows by stem, in the order of the table.

    Raises:
        ConversionError: If the table cannot be read, or names no clip.
    """
    listed: dict[str, ListedClip] = {}
    for line, row in read_table(path, ("FileName",)):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        clip = _clip(name, {column.casefold(): value for column, value in row.items()})
        if name in listed and listed[name] != clip:
            clip = ListedClip("", None, None, f"is listed more than once in {path.name}, with different entries")
        listed[name] = clip
    if not listed:
        raise ConversionError(f"{printable(str(path))} names no video.")
    return listed


def _clip(name: str, row: Mapping[str, str]) -> ListedClip:
    match = _NAME.fullmatch(name)
    if match is None:
        problem = "its name is not patient-study-clip (CR32a7555-CR32a7582-000039), so that its patient is unknown"
        return ListedClip("", None, None, problem)
    fold = parse_int(row.get("split", ""))
    if fold not in PEDIATRIC_FOLDS:
        text = f"its Split in {FILE_LIST} is {row.get('split', '')!r}, no fold from 0 to 9"
        return ListedClip(match[1], None, parse_number(row.get("ef", "")), remark=text)
    return ListedClip(match[1], fold, parse_number(row.get("ef", "")))


def read_contours(path: Path) -> dict[str, TracedClip]:
    """Read VolumeTracings.csv, in which each row is a vertex.

    A frame with a vertex that cannot be read is given up: a contour with a gap is another contour.

    Args:
        path: The table.

    Returns:
        Contours by stem, in the order of the table, and so are the vertices of a frame.

    Raises:
        ConversionError: If the table cannot be read.
    """
    tracings: dict[str, TracedClip] = {}
    vertices: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for line, row in read_table(path, ("FileName", "X", "Y", "Frame")):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        traced = tracings.setdefault(name, TracedClip())
        frame = parse_int(row["Frame"])
        problem = _problem(row, frame)
        if problem is not None:
            traced.problems.setdefault(frame, f"line {line} of {path.name}: {problem}")
        elif frame is None:
            traced.without_frame.append(row["Frame"])
        else:
            x, y = parse_number(row["X"]), parse_number(row["Y"])
            assert x is not None
            assert y is not None
            vertices.setdefault(name, {}).setdefault(frame, []).append((x, y))
    for name, frames in vertices.items():
        problems = tracings[name].problems
        for frame, points in frames.items():
            if frame not in problems:
                _add_contour(tracings[name], frame, np.array(points))
    return tracings


def _problem(row: TextRow, frame: int | None) -> str | None:
    """Check a row; None for a vertex, and for a row that says that there is nothing to trace."""
    if frame is None:
        if not _NO_FRAME.fullmatch(row["Frame"]):
            return f"Frame is {row['Frame']!r}, expected an integer, 'No Systolic' or 'No Diastolic'"
        return f"Frame is {row['Frame']!r}, yet there is a vertex" if row["X"] or row["Y"] else None
    if frame < 0:
        return f"Frame is {row['Frame']!r}, expected a number from 0"
    for name in ("X", "Y"):
        if parse_number(row[name]) is None:
            return f"{name} is {row[name]!r}, not a number"
    return None


def _add_contour(traced: TracedClip, frame: int, points: Points) -> None:
    """Add a contour, or why it cannot be used."""
    corners = without_repeats(points)
    if np.abs(points).max() > MAX_COORDINATE_PIXELS:
        traced.problems[frame] = f"its tracing has a coordinate of {np.abs(points).max():g} pixels"
    elif len(corners) < 3:
        traced.problems[frame] = f"its tracing has fewer than three points: {len(corners)}"
    else:
        traced.frames[frame] = corners


def without_repeats(points: Points) -> Points:
    """Remove vertices that repeat the one before, and a last one that repeats the first.

    Args:
        points: Vertices (n, 2).

    Returns:
        At least one vertex.
    """
    changed = np.any(points != np.roll(points, 1, axis=0), axis=1)
    return points[changed] if changed.any() else points[:1]
