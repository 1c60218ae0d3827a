"""EchoNet-Pediatric: children's hearts in four-chamber and short-axis view, the left ventricle traced in two frames.

Reddy et al., "Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection Fraction in Pediatric
Patients", JASE 2023, https://doi.org/10.1016/j.echo.2023.01.015

EchoNet-Pediatric's two tables per view: which clips there are, and the contours of the left ventricle in them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.tables import Row, parse_int, parse_number, read_table
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
from .echonet import FILE_LIST, MAX_COORDINATE_PIXELS, MIN_AREA_PIXELS, TRACINGS, VIDEOS, phases_by_area, stem, videos
from .readers import polygon
from .readers.polygon import Points
from .readers.video import frame_count, read_frames

FOLDS = range(10)

#: patient-study-clip, such as CR32a7555-CR32a7582-000039
_NAME = re.compile(r"([^-]+)-[^-]+-[^-]+")
#: What stands in Frame where the video shows no such moment.
_NOTHING = re.compile(r"no (systolic|diastolic)", re.IGNORECASE)


@dataclass(frozen=True)
class Clip:
    """A row of FileList.csv. `fold`: 0 to 9, from the column Split; `problem` says what is wrong with the row."""

    patient: str
    fold: int | None
    ef: float | None
    problem: str | None = None
    remark: str | None = None


@dataclass
class Outlines:
    """The contours of one clip: vertices (n, 2), x and y, by frame as the table counts.

    `problems` by frame (None: the frame itself cannot be read); `nothing`: "No Systolic", as the table says.
    """

    frames: dict[int, Points] = field(default_factory=dict)
    problems: dict[int | None, str] = field(default_factory=dict)
    nothing: list[str] = field(default_factory=list)


def read_clips(path: Path) -> dict[str, Clip]:
    """FileList.csv by stem, in its order. Raises ConversionError where it cannot be read or names no clip."""
    found: dict[str, Clip] = {}
    for line, row in read_table(path, ("FileName",)):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        clip = _clip(name, {column.casefold(): value for column, value in row.items()})
        if name in found and found[name] != clip:
            clip = Clip("", None, None, f"stands more than once in {path.name}, with different entries")
        found[name] = clip
    if not found:
        raise ConversionError(f"{printable(str(path))} names no video.")
    return found


def _clip(name: str, row: Mapping[str, str]) -> Clip:
    match = _NAME.fullmatch(name)
    if match is None:
        problem = "its name is not patient-study-clip (CR32a7555-CR32a7582-000039), so nobody knows whose it is"
        return Clip("", None, None, problem)
    fold = parse_int(row.get("split", ""))
    if fold not in FOLDS:
        text = f"its Split in {FILE_LIST} is {row.get('split', '')!r}, no fold from 0 to 9"
        return Clip(match[1], None, parse_number(row.get("ef", "")), remark=text)
    return Clip(match[1], fold, parse_number(row.get("ef", "")))


def read_outlines(path: Path) -> dict[str, Outlines]:
    """VolumeTracings.csv by stem, in its order: each row is a vertex, and the vertices of a frame keep theirs.

    A frame with a vertex that cannot be read is given up: an outline with a gap is another outline.
    """
    found: dict[str, Outlines] = {}
    vertices: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for line, row in read_table(path, ("FileName", "X", "Y", "Frame")):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        outlines = found.setdefault(name, Outlines())
        frame = parse_int(row["Frame"])
        problem = _problem(row, frame)
        if problem is not None:
            outlines.problems.setdefault(frame, f"line {line} of {path.name}: {problem}")
        elif frame is None:
            outlines.nothing.append(row["Frame"])
        else:
            x, y = parse_number(row["X"]), parse_number(row["Y"])
            assert x is not None
            assert y is not None
            vertices.setdefault(name, {}).setdefault(frame, []).append((x, y))
    for name, frames in vertices.items():
        problems = found[name].problems
        for frame, points in frames.items():
            if frame not in problems:
                _keep(found[name], frame, np.array(points))
    return found


def _problem(row: Row, frame: int | None) -> str | None:
    """What is wrong with a row; None for a vertex, and for a row that says that there is nothing to trace."""
    if frame is None:
        if not _NOTHING.fullmatch(row["Frame"]):
            return f"Frame is {row['Frame']!r}, expected an integer, 'No Systolic' or 'No Diastolic'"
        return f"Frame is {row['Frame']!r}, yet there is a vertex" if row["X"] or row["Y"] else None
    if frame < 0:
        return f"Frame is {row['Frame']!r}, expected a number from 0"
    for name in ("X", "Y"):
        if parse_number(row[name]) is None:
            return f"{name} is {row[name]!r}, not a number"
    return None


def _keep(outlines: Outlines, frame: int, points: Points) -> None:
    """Adds an outline, or says why it is none."""
    corners = without_repeats(points)
    if np.abs(points).max() > MAX_COORDINATE_PIXELS:
        outlines.problems[frame] = f"its tracing has a coordinate of {np.abs(points).max():g} pixels"
    elif len(corners) < 3:
        outlines.problems[frame] = f"its tracing has fewer than three points: {len(corners)}"
    else:
        outlines.frames[frame] = corners


def without_repeats(points: Points) -> Points:
    """Vertices (n, 2) without those that repeat the one before, nor a last one that repeats the first."""
    changed = np.any(points != np.roll(points, 1, axis=0), axis=1)
    return points[changed] if changed.any() else points[:1]


#: The folders of the dataset, and the view as every dataset here calls it.
VIEWS = {"A4C": "4CH", "PSAX": "PSAX"}

#: No atrium is in the short axis of the ventricle; the right ventricle is, and nobody drew it.
ABSENT = {"4CH": (), "PSAX": ("LA", "RA")}

#: Notes of this name are evidence of how frames are counted; `summarise_notes` counts them.
NUMBERS = "frame numbers"
FROM_0, FROM_1 = "frame 0 is traced", "the traced frame is the number of frames"

#: How far below the given folder the views are looked for: the archive unpacks into doubled folders.
_LEVELS = 3


@dataclass(frozen=True)
class PediatricClip(SourceItem):
    """One clip with its outlines (by frame as the table counts). `problem`: why none of it can be converted."""

    stem: str
    view: str
    clip: Clip | None = None
    video: Path | None = None
    split: str | None = None
    outlines: Outlines = field(default_factory=Outlines)
    problem: str | None = None

    @property
    def identifier(self) -> str:
        return f"pediatric_{self.stem}_{self.view}"


@dataclass(frozen=True)
class EchoNetPediatric(DataSet):
    """EchoNet-Pediatric. `frame_base`: the number of the first frame in the table of tracings, 0 or 1.

    `val_folds`, `test_folds`: which of the ten folds validate and test; none by default. `depth_mm`: from the top to
    the bottom row; the set has no spacing, so it is a guess, and every case says so.
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
        for name in ("val_folds", "test_folds"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        if self.frame_base not in (0, 1):
            raise ConversionError(f"frame_base is {self.frame_base!r}, expected 0 or 1")
        if not {*self.val_folds, *self.test_folds} <= set(FOLDS) or set(self.val_folds) & set(self.test_folds):
            raise ConversionError(
                f"the folds are {self.val_folds} for validation and {self.test_folds} for testing; expected numbers "
                "from 0 to 9, none of them twice"
            )
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--frame-base",
            type=int,
            choices=(0, 1),
            default=0,
            help="the number of a video's first frame in the table of tracings; readers disagree, and the report "
            "counts what speaks for either (default: %(default)s)",
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

    def sources(self) -> Sequence[PediatricClip]:
        folders = find_views(self.root)
        listed = {view: read_clips(folder / FILE_LIST) for view, folder in folders.items()}
        splits = self._splits(listed)
        found = []
        for view, folder in folders.items():
            traced, here = read_outlines(folder / TRACINGS), videos(folder / VIDEOS)
            for name in [*listed[view], *(name for name in traced if name not in listed[view])]:
                clip = listed[view].get(name)
                split = splits.get(clip.patient) if clip else None
                found.append(_source(name, view, clip, split, traced.get(name), here.get(name)))
        return found

    def remarks(self) -> Iterator[Note]:
        folders = find_views(self.root)
        for view in sorted(set(VIEWS) - set(folders)):
            yield Note(view, f"there is no folder {view} with a {FILE_LIST}: this view is left out")
        listed = {view: read_clips(folder / FILE_LIST) for view, folder in folders.items()}
        for view, folder in folders.items():
            extra = {printable(name) for name in videos(folder / VIDEOS) if name not in listed[view]}
            if extra:
                yield Note(
                    view, f"{len(extra)} video(s) are not in {FILE_LIST} and are left out: {format_names(extra)}"
                )
        yield from _about_folds(_folds_of_patients(listed), bool(self.val_folds or self.test_folds))

    def summarise_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """What speaks for counting frames from 0 or from 1, as one note instead of one per video."""
        texts = [note.text for note in notes if note.about == NUMBERS]
        zero, one = texts.count(FROM_0), texts.count(FROM_1)
        text = (
            f"taken as counted from {self.frame_base}. In {zero} video(s) frame 0 is traced, which is possible only "
            f"when counting from 0; in {one} a traced frame is the number of frames, possible only when counting from 1"
        )
        if (zero, one)[1 - self.frame_base] > (zero, one)[self.frame_base]:
            text += f". Convert again with --frame-base {1 - self.frame_base}?"
        return [Note(NUMBERS, text), *(note for note in notes if note.about != NUMBERS)]

    def tables(self) -> Sequence[Path]:
        return [folder / table for folder in find_views(self.root).values() for table in (FILE_LIST, TRACINGS)]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, PediatricClip)
        if source.problem or source.video is None or source.clip is None:
            yield Skipped(source.identifier, source.problem or "there is no video")
            return
        require_identifier(source.identifier)
        if source.clip.remark:
            yield Note(source.identifier, source.clip.remark)
        for text in source.outlines.nothing:
            yield Skipped(source.identifier, f"one frame less: the table says {text!r}", known_defect=True)
        for number, problem in source.outlines.problems.items():
            name = source.identifier if number is None else f"{source.identifier} frame {number}"
            yield Skipped(name, problem)
        if source.outlines.frames:
            yield from _evidence(source.video, source.outlines.frames)
            yield from self._cases(source, source.clip, source.video)

    def _cases(self, source: PediatricClip, clip: Clip, video: Path) -> Iterator[ConvertedCase | Skipped | Note]:
        outlines = {number - self.frame_base: points for number, points in source.outlines.frames.items()}
        if -1 in outlines:
            yield Skipped(f"{source.identifier} frame 0", "counted from 1 (--frame-base 1) there is no frame 0")
            del outlines[-1]
        phases = phases_by_area({frame: polygon.polygon_area(points) for frame, points in outlines.items()})
        if None in phases.values():
            text = f"{len(outlines)} traced frame(s): ED and ES are the largest and the smallest of two or more"
            yield Note(source.identifier, text)
        frames = read_frames(video, set(outlines))
        for frame, points in outlines.items():
            identifier = f"{source.identifier}_{phases[frame] or f'F{frame:03d}'}"
            if frame in frames.why_missing:
                yield Skipped(identifier, frames.why_missing[frame])
                continue
            image = frames.images[frame]
            mask = polygon.fill_polygon(points, (image.shape[0], image.shape[1]))
            pixels = int(mask.sum())
            if pixels == 0:
                yield Skipped(identifier, f"its tracing (frame {frame}) encloses no pixel of the picture")
                continue
            if pixels < MIN_AREA_PIXELS:
                yield Note(identifier, f"the ventricle has only {pixels} pixels")
            yield self._case(identifier, source, clip, frame, phases[frame], image, mask)

    def _case(
        self,
        identifier: str,
        source: PediatricClip,
        clip: Clip,
        frame: int,
        phase: str | None,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_],
    ) -> ConvertedCase:
        entry = {
            "split": source.split,
            "view": source.view,
            "phase": phase,
            "frame": frame,
            "interpolated": False,
            "spacing_known": False,
            "ef": clip.ef,
            "fold": clip.fold,
        }
        labels = CaseLabels.from_fields(
            annotated=self.classes,
            absent=ABSENT[source.view],
            domain="pediatric",
            patient=f"pediatric_{clip.patient}",
            info=entry,
        )
        pixel_mm = self.depth_mm / image.shape[0]
        return ConvertedCase(identifier, image, mask.astype(np.uint8), (pixel_mm, pixel_mm), labels)

    def _splits(self, listed: Mapping[str, Mapping[str, Clip]]) -> dict[str, str]:
        """train, val or test per patient; nobody is on two sides: one clip in a test fold takes all of the patient."""
        if not self.val_folds and not self.test_folds:
            return {}
        return {
            patient: "test" if folds & set(self.test_folds) else "val" if folds & set(self.val_folds) else "train"
            for patient, folds in _folds_of_patients(listed).items()
        }


def find_views(root: Path) -> dict[str, Path]:
    """The folders A4C and PSAX, the nearest ones below `root`; `root` may be one of them.

    Raises ConversionError where there is none, where one is found twice, or where one lacks a table or its videos.
    """
    require_folder(root)
    if root.absolute().name in VIEWS and (root / FILE_LIST).is_file():
        found = [root]
    else:
        levels = (sorted(root.glob("*/" * level + "*")) for level in range(_LEVELS + 1))
        views = ([p for p in level if p.name in VIEWS and (p / FILE_LIST).is_file()] for level in levels)
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
    name: str, folder: str, clip: Clip | None, split: str | None, traced: Outlines | None, video: Path | None
) -> PediatricClip:
    """What tables and folder say about one clip, and whether it can be converted."""
    shown, view = printable(name), VIEWS[folder]
    problem = clip.problem if clip else f"is traced in {TRACINGS} but not in {FILE_LIST}"
    if problem is None and traced is None:
        problem = f"has no tracing in {TRACINGS}"
    if problem is None and video is None:
        problem = f"there is no video {shown}.avi in {folder}/{VIDEOS}"
    return PediatricClip(
        f"{folder} {shown}", shown if problem else name, view, clip, video, split, traced or Outlines(), problem
    )


def _evidence(video: Path, outlines: Mapping[int, Points]) -> Iterator[Note]:
    if 0 in outlines:
        yield Note(NUMBERS, FROM_0)
    if frame_count(video) in outlines:
        yield Note(NUMBERS, FROM_1)


def _folds_of_patients(listed: Mapping[str, Mapping[str, Clip]]) -> dict[str, set[int | None]]:
    folds: dict[str, set[int | None]] = {}
    for clips in listed.values():
        for clip in clips.values():
            if clip.problem is None:
                folds.setdefault(clip.patient, set()).add(clip.fold)
    return folds


def _about_folds(folds: Mapping[str, set[int | None]], used: bool) -> Iterator[Note]:
    """Patients, the first part of the file names, whose clips are in different folds: they must not be separated."""
    several = {printable(patient) for patient, theirs in folds.items() if len(theirs) > 1}
    if several:
        text = f"{len(several)} of {len(folds)} patient(s) have clips in different folds: {format_names(several)}"
        way = ". All clips of such a patient go where the first of test, val, train takes one of them" if used else ""
        yield Note("folds of the release", text + way)
    if not used:
        yield Note("folds of the release", "none is taken for testing; choose with --val-folds and --test-folds")
