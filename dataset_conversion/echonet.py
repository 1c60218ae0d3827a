"""EchoNet-Dynamic: 10,030 four-chamber videos of as many patients, with the left ventricle traced in two frames each.

Ouyang et al., "Video-based AI for beat-to-beat assessment of cardiac function", Nature 2020,
https://doi.org/10.1038/s41586-020-2145-8

EchoNet-Dynamic's two tables: which videos there are, and where the left ventricle was traced in them.

EchoNet-Dynamic's way of tracing a left ventricle: a long axis, then chords across it from the apex to the base.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.tables import parse_int, parse_number, read_table
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
from .readers import polygon
from .readers.polygon import Points
from .readers.video import read_frames

FILE_LIST = "FileList.csv"
TRACINGS = "VolumeTracings.csv"
SPLITS = {"TRAIN": "train", "VAL": "val", "TEST": "test"}
VIDEO_ENDINGS = (".avi", ".mp4", ".mov", ".mkv", ".webm")
_ENDS = ("X1", "Y1", "X2", "Y2")

#: Frames by number (from 0); per frame the rows (n, 4): x1, y1, x2, y2.
Tracing = Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True)
class ListedVideo:
    """A row of FileList.csv. `problem` says what is wrong with it."""

    split: str | None
    ef: float | None
    problem: str | None = None


@dataclass
class TracedVideo:
    """The tracings of one video; `problems` by frame (None: the frame itself cannot be read)."""

    frames: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    problems: dict[int | None, str] = field(default_factory=dict)


def stem(file_name: str) -> str:
    """The name of a video without its ending: FileList.csv writes it without, VolumeTracings.csv with."""
    for ending in VIDEO_ENDINGS:
        if file_name.lower().endswith(ending):
            return file_name[: -len(ending)]
    return file_name


def read_file_list(path: Path) -> tuple[dict[str, ListedVideo], bool]:
    """FileList.csv by stem, in its order, and whether it has a Split column."""
    found: dict[str, ListedVideo] = {}
    has_split = False
    for line, row in read_table(path, ("FileName",)):
        columns = {name.casefold(): value for name, value in row.items()}
        has_split = "split" in columns
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        listed = _listed(columns, has_split)
        if name in found and found[name] != listed:
            listed = ListedVideo(None, None, f"stands more than once in {path.name}, with different entries")
        found[name] = listed
    if not found:
        raise ConversionError(f"{printable(str(path))} names no video.")
    return found, has_split


def _listed(columns: Mapping[str, str], has_split: bool) -> ListedVideo:
    ef = parse_number(columns.get("ef", ""))
    if not has_split:
        return ListedVideo(None, ef)
    text = columns["split"]
    split = SPLITS.get(text.upper())
    problem = None if split else f"has Split {text!r} in {FILE_LIST}, expected TRAIN, VAL or TEST"
    return ListedVideo(split, ef, problem)


def read_tracings(path: Path) -> dict[str, TracedVideo]:
    """VolumeTracings.csv by stem, in its order; the rows of a frame keep theirs."""
    found: dict[str, TracedVideo] = {}
    rows: dict[str, dict[int, list[float]]] = {}
    for line, row in read_table(path, ("FileName", *_ENDS, "Frame")):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        traced = found.setdefault(name, TracedVideo())
        frame = parse_int(row["Frame"])
        if frame is None or frame < 0:
            traced.problems.setdefault(
                None, f"line {line} of {path.name}: Frame is {row['Frame']!r}, expected an integer from 0"
            )
            continue
        ends = [parse_number(row[end]) for end in _ENDS]
        if None in ends:
            wrong = next(end for end, value in zip(_ENDS, ends, strict=True) if value is None)
            traced.problems.setdefault(frame, f"line {line} of {path.name}: {wrong} is {row[wrong]!r}, not a number")
            continue
        flat = rows.setdefault(name, {}).setdefault(frame, [])
        flat.extend(value for value in ends if value is not None)
    for name, frames in rows.items():
        usable = {frame: flat for frame, flat in frames.items() if frame not in found[name].problems}
        found[name].frames = {frame: np.array(flat).reshape(-1, 4) for frame, flat in usable.items()}
    return found


def videos(folder: Path) -> dict[str, Path]:
    """The videos of a folder by stem; of two with one stem the AVI. Names come from the disk, never from a table."""
    here = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    ordered = sorted(
        (path for path in here if path.suffix.lower() in VIDEO_ENDINGS),
        key=lambda path: -VIDEO_ENDINGS.index(path.suffix.lower()),
    )
    return {stem(path.name): path for path in ordered}


#: Rows of one tracing: the long axis and 20 chords.
BLOCK = 21
MIN_CHORDS = 8
#: Pixels; no frame is that large.
MAX_COORDINATE_PIXELS = 1e5

APEX = ("official", "capped")


@dataclass(frozen=True)
class Contour:
    """The outline of the LV in one frame: points (n, 2), x and y in pixels, and what was odd about the tracing.

    `irregular`: it did not have the 21 rows of a tracing, nor a multiple of them.
    """

    points: Points
    irregular: bool = False
    remarks: tuple[str, ...] = ()


def contour_from_chords(rows: NDArray[np.float64], apex: str = "official") -> Contour:
    """The outline from the rows (n, 4) of one frame: x1, y1, x2, y2; row 1 is the long axis, the others are chords.

    `official` is the polygon of EchoNet-Dynamic's own code: the first ends of the chords in order, then the second ends
    in reverse; it cuts off what lies beyond the first chord. `capped` adds the apex, the end of the long axis. Of more
    than one tracing in a frame (42, 63, 84 rows) the first counts. Raises ConversionError where too little is left.
    """
    remarks = []
    irregular = len(rows) % BLOCK != 0
    if len(rows) < 3:
        raise ConversionError(f"its tracing has fewer than three points: {max(0, 2 * (len(rows) - 1))}")
    if irregular:
        remarks.append(f"its tracing has {len(rows)} rows, not {BLOCK}")
    if len(rows) > BLOCK:
        remarks.append(f"of its {len(rows)} rows the first {BLOCK} are taken as the tracing")
        rows = rows[:BLOCK]
    if len(rows) - 1 < MIN_CHORDS:
        raise ConversionError(f"its tracing has {len(rows) - 1} chords; expected 20, at least {MIN_CHORDS}")
    if np.abs(rows).max() > MAX_COORDINATE_PIXELS:
        raise ConversionError(f"its tracing has a coordinate of {np.abs(rows).max():g} pixels")
    axis, chords = rows[0], rows[1:]
    if not is_long_axis(axis, chords):
        remarks.append("row 1 of its tracing does not look like the long axis")
    points = np.concatenate([chords[:, :2], chords[::-1, 2:]])
    if apex == "capped":
        points = np.concatenate([points, _apex(axis, chords)[None]])
    return Contour(points, irregular, tuple(remarks))


def is_long_axis(axis: NDArray[np.float64], chords: NDArray[np.float64]) -> bool:
    """Whether a row runs across the chords (60 to 120 degrees) and is about as long (half to twice) as their spread."""
    middles = (chords[:, :2] + chords[:, 2:]) / 2
    spread = float(np.linalg.norm(middles[-1] - middles[0]))
    along = axis[2:] - axis[:2]
    across = (chords[:, 2:] - chords[:, :2]).sum(axis=0)
    lengths = float(np.linalg.norm(along)), float(np.linalg.norm(across))
    if min(*lengths, spread) == 0:
        return False
    return bool(abs(np.dot(along, across)) / (lengths[0] * lengths[1]) <= 0.5 and 0.5 <= lengths[0] / spread <= 2)


def _apex(axis: NDArray[np.float64], chords: NDArray[np.float64]) -> NDArray[np.float64]:
    """The end of the long axis that lies at the first chord: (2,)."""
    start = (chords[0, :2] + chords[0, 2:]) / 2
    ends = axis.reshape(2, 2)
    return ends[np.argmin(np.linalg.norm(ends - start, axis=1))]


VIDEOS = "Videos"

#: Videos of the official release that nobody traced, and the tracing of it that has no video.
WITHOUT_TRACING = (
    "0X234005774F4CB5CD",
    "0X2DC68261CBCC04AE",
    "0X35291BE9AB90FB89",
    "0X5515B0BD077BE68A",
    "0X6C435C1B417FDE8A",
    "0X5DD5283AC43CCDD1",
)
WITHOUT_VIDEO = ("0X4F8859C8AB4DA9CB",)

#: Square pixels; a ventricle is twenty times as large.
MIN_AREA_PIXELS = 50


@dataclass(frozen=True)
class EchoVideo(SourceItem):
    """One video with its tracings. `problem`: why none of it can be converted."""

    stem: str
    video: Path | None = None
    split: str | None = None
    ef: float | None = None
    frames: Tracing = field(default_factory=dict)
    frame_problems: Mapping[int | None, str] = field(default_factory=dict)
    problem: str | None = None
    known_defect: bool = False

    @property
    def patient(self) -> str:
        """There is one video per patient."""
        return f"echonet_{self.stem}"


@dataclass(frozen=True)
class EchoNetDynamic(DataSet):
    """EchoNet-Dynamic. `apex`: see `chords.outline`. `depth_mm`: from the top to the bottom row; the set has no pixel
    size, so it is a guess, and every case says so."""

    apex: str = "official"
    depth_mm: float = DEPTH_MM

    name: ClassVar[str] = "echonet-dynamic"
    title: ClassVar[str] = "EchoNet-Dynamic: LV in 4CH"
    description: ClassVar[str] = (
        "EchoNet-Dynamic (Ouyang et al. 2020): 10,030 four-chamber videos, left ventricle traced in two frames each. "
        "Ask for it at https://echonet.github.io/dynamic; for personal, non-commercial research, neither data nor "
        f"derivatives to be passed on. Give the unpacked folder with {FILE_LIST}, {TRACINGS} and {VIDEOS}/."
    )
    default_name: ClassVar[str] = "EchoNetDynamic"
    classes: ClassVar[tuple[str, ...]] = ("LV",)
    reference: ClassVar[str] = "Ouyang et al. 2020, https://doi.org/10.1038/s41586-020-2145-8"
    license: ClassVar[str] = "Stanford research use agreement; neither data nor derivatives to be passed on"

    def __post_init__(self) -> None:
        if self.apex not in APEX:
            raise ConversionError(f"apex is {self.apex!r}, expected one of {', '.join(APEX)}")
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--apex",
            choices=APEX,
            default="official",
            help="official: the polygon of EchoNet's own code, which cuts the apex off at the first chord; capped: up "
            "to the end of the long axis (default: %(default)s)",
        )
        add_depth_option(parser)

    def sources(self) -> Sequence[EchoVideo]:
        self._require_layout()
        listed, _ = read_file_list(self.root / FILE_LIST)
        traced = read_tracings(self.root / TRACINGS)
        here = videos(self.root / VIDEOS)
        names = [*listed, *(name for name in traced if name not in listed)]
        return [_source(name, listed.get(name), traced.get(name), here.get(name)) for name in names]

    def remarks(self) -> Iterator[Note]:
        listed, has_split = read_file_list(self.root / FILE_LIST)
        if not has_split:
            yield Note(FILE_LIST, "there is no column Split: every video goes to the training part")
        extra = {printable(name) for name in videos(self.root / VIDEOS) if name not in listed}
        if extra:
            yield Note(VIDEOS, f"{len(extra)} video(s) are not in {FILE_LIST} and are left out: {format_names(extra)}")

    def tables(self) -> Sequence[Path]:
        return [self.root / FILE_LIST, self.root / TRACINGS]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, EchoVideo)
        if source.problem:
            yield Skipped(source.patient, source.problem, source.known_defect)
            return
        require_identifier(source.patient)
        for frame, problem in source.frame_problems.items():
            yield Skipped(source.patient if frame is None else f"{source.patient} frame {frame}", problem)
        outlines: dict[int, Contour] = {}
        for frame, rows in source.frames.items():
            try:
                outlines[frame] = contour_from_chords(rows, self.apex)
            except ConversionError as problem:
                yield Skipped(f"{source.patient} frame {frame}", str(problem))
        if outlines:
            yield from self._cases(source, outlines)

    def _cases(self, source: EchoVideo, outlines: Mapping[int, Contour]) -> Iterator[ConvertedCase | Skipped | Note]:
        assert source.video is not None
        phases = phases_by_area({frame: polygon.polygon_area(traced.points) for frame, traced in outlines.items()})
        if None in phases.values():
            text = f"{len(outlines)} traced frame(s): ED and ES are the largest and the smallest of two or more"
            yield Note(source.patient, text)
        frames = read_frames(source.video, set(outlines))
        for frame, traced in outlines.items():
            moment = phases[frame] or f"F{frame:03d}"
            identifier = f"{source.patient}_4CH_{moment}"
            if frame in frames.why_missing:
                yield Skipped(identifier, frames.why_missing[frame])
                continue
            image = frames.images[frame]
            mask = polygon.fill_polygon(traced.points, (image.shape[0], image.shape[1]))
            pixels = int(mask.sum())
            if pixels == 0:
                yield Skipped(identifier, f"its tracing (frame {frame}) encloses no pixel of the picture")
                continue
            for remark in (
                *traced.remarks,
                *([f"the ventricle has only {pixels} pixels"] if pixels < MIN_AREA_PIXELS else []),
            ):
                yield Note(identifier, remark)
            yield self._case(source, identifier, frame, phases[frame], image, mask, traced.irregular)

    def _case(
        self,
        source: EchoVideo,
        identifier: str,
        frame: int,
        phase: str | None,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        irregular: bool,
    ) -> ConvertedCase:
        entry = {
            "split": source.split,
            "view": "4CH",
            "phase": phase,
            "frame": frame,
            "interpolated": False,
            "spacing_known": False,
            "ef": source.ef,
            "irregular": irregular or None,
        }
        labels = CaseLabels.from_fields(
            annotated=self.classes,
            domain="echonet",
            patient=source.patient,
            info=entry,
        )
        pixel_mm = self.depth_mm / image.shape[0]
        return ConvertedCase(identifier, image, mask.astype(np.uint8), (pixel_mm, pixel_mm), labels)

    def _require_layout(self) -> None:
        require_folder(self.root)
        for needed in (FILE_LIST, TRACINGS):
            if not (self.root / needed).is_file():
                raise not_found(self.root, f"{needed} of EchoNet-Dynamic")
        if not (self.root / VIDEOS).is_dir():
            raise not_found(self.root, f"the folder {VIDEOS} of EchoNet-Dynamic")


def phases_by_area(areas: Mapping[int, float]) -> dict[int, str | None]:
    """ED or ES for each traced frame: the largest ventricle is diastolic, the smallest systolic, others have None.

    The order of frames says nothing (public readers contradict each other). A single frame has None. Of equal areas the
    earlier frame counts as the larger.
    """
    ordered = sorted(areas, key=lambda frame: (-areas[frame], frame))
    phases: dict[int, str | None] = dict.fromkeys(areas)
    if len(ordered) > 1:
        phases[ordered[0]], phases[ordered[-1]] = "ED", "ES"
    return phases


def _source(name: str, listed: ListedVideo | None, traced: TracedVideo | None, video: Path | None) -> EchoVideo:
    """What the tables and the folder say about one video, and whether it can be converted."""
    shown, patient = printable(name), printable(f"echonet_{name}")
    if listed is None:
        text = f"is traced in {TRACINGS} but not in {FILE_LIST}"
        known = name in WITHOUT_VIDEO and video is None
        return EchoVideo(patient, shown, problem=text, known_defect=known)
    if listed.problem:
        return EchoVideo(patient, shown, problem=listed.problem)
    if traced is None:
        known = name in WITHOUT_TRACING
        return EchoVideo(patient, shown, problem=f"has no tracing in {TRACINGS}", known_defect=known)
    if video is None:
        return EchoVideo(patient, shown, problem=f"there is no video {shown}.avi in {VIDEOS}")
    return EchoVideo(patient, name, video, listed.split, listed.ef, traced.frames, traced.problems)
