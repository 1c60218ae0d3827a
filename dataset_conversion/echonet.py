"""EchoNet-Dynamic: 10,030 four-chamber videos of as many patients, with the left ventricle traced in two frames each.

A tracing is a long axis, then chords across it from the apex to the base. Two tables say which videos there are, and
where the left ventricle is traced in them.

References:
    Ouyang et al., "Video-based AI for beat-to-beat assessment of cardiac function", Nature 2020,
    https://doi.org/10.1038/s41586-020-2145-8
"""

from __future__ import annotations

import argparse
from collections.abc import Container, Iterable, Iterator, Mapping
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
    SourceScan,
    add_depth_option,
    nominal_spacing_mm,
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
VIDEOS = "Videos"

#: Split by the entry of the column Split.
SPLIT_BY_ENTRY = {"TRAIN": "train", "VAL": "val", "TEST": "test"}
VIDEO_ENDINGS = (".avi", ".mp4", ".mov", ".mkv", ".webm")

#: Choices of `EchoNetDynamic.apex`.
APEX_CHOICES = ("official", "capped")

#: Videos of the official release without a tracing, and its tracing without a video.
WITHOUT_TRACING = (
    "0X234005774F4CB5CD",
    "0X2DC68261CBCC04AE",
    "0X35291BE9AB90FB89",
    "0X5515B0BD077BE68A",
    "0X6C435C1B417FDE8A",
    "0X5DD5283AC43CCDD1",
)
WITHOUT_VIDEO = ("0X4F8859C8AB4DA9CB",)

#: Smallest plausible area of a ventricle in pixels; most are twenty times as large.
MIN_AREA_PIXELS = 50

#: Frames by number (from 0); per frame the rows (n, 4): x1, y1, x2, y2.
Tracing = Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True)
class EchoNetDynamic(DataSet):
    """Convert EchoNet-Dynamic.

    Attributes:
        apex: "official" or "capped"; see `contour_from_chords`.
        depth_mm: Nominal depth in mm, from the top to the bottom row. The dataset has no spacing, and every case says
            so.
    """

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
        """Check the options."""
        if self.apex not in APEX_CHOICES:
            raise ConversionError(f"apex is {self.apex!r}, expected one of {', '.join(APEX_CHOICES)}")
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --apex and --depth-mm; see `DataSet.add_options`."""
        parser.add_argument(
            "--apex",
            choices=APEX_CHOICES,
            default="official",
            help="official: the polygon of EchoNet's own code, which cuts the apex off at the first chord; capped: up "
            "to the end of the long axis (default: %(default)s)",
        )
        add_depth_option(parser)

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`."""
        self._require_layout()
        tables = [self.root / FILE_LIST, self.root / TRACINGS]
        listed, has_split = read_file_list(tables[0])
        traced = read_tracings(tables[1])
        videos = find_videos(self.root / VIDEOS)
        names = [*listed, *(name for name in traced if name not in listed)]
        items = [_source(name, listed.get(name), traced.get(name), videos.get(name)) for name in names]
        notes = []
        if not has_split:
            notes.append(Note(FILE_LIST, "there is no column Split: every video goes to the training part"))
        return SourceScan(items, [*notes, *unlisted_videos(VIDEOS, videos, listed)], tables)

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read the traced frames of one video; see `DataSet.read`."""
        assert isinstance(source, EchoVideo)
        if source.problem:
            yield Skipped(source.patient, source.problem, source.known_defect)
            return
        require_identifier(source.patient)
        for frame, problem in source.frame_problems.items():
            yield Skipped(source.patient if frame is None else f"{source.patient} frame {frame}", problem)
        contours: dict[int, Contour] = {}
        for frame, rows in source.frames.items():
            try:
                contours[frame] = contour_from_chords(rows, self.apex)
            except ConversionError as problem:
                yield Skipped(f"{source.patient} frame {frame}", str(problem))
        if contours:
            yield from self._cases(source, contours)

    def _cases(self, source: EchoVideo, contours: Mapping[int, Contour]) -> Iterator[ConvertedCase | Skipped | Note]:
        assert source.video is not None
        points = {frame: contour.points for frame, contour in contours.items()}
        for item in fill_contours(source.patient, f"{source.patient}_4CH", source.video, points):
            if isinstance(item, FilledFrame):
                contour = contours[item.frame]
                yield from (Note(item.identifier, remark) for remark in contour.remarks)
                yield self._case(source, item, contour.irregular)
            else:
                yield item

    def _case(self, source: EchoVideo, filled: FilledFrame, irregular: bool) -> ConvertedCase:
        entry = {
            "split": source.split,
            "view": "4CH",
            "phase": filled.phase,
            "frame": filled.frame,
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
        spacing_mm = nominal_spacing_mm(self.depth_mm, filled.image.shape[0], filled.aspect)
        return ConvertedCase(filled.identifier, filled.image, filled.mask, spacing_mm, labels)

    def _require_layout(self) -> None:
        require_folder(self.root)
        for needed in (FILE_LIST, TRACINGS):
            if not (self.root / needed).is_file():
                raise not_found(self.root, f"{needed} of EchoNet-Dynamic")
        if not (self.root / VIDEOS).is_dir():
            raise not_found(self.root, f"the folder {VIDEOS} of EchoNet-Dynamic")


@dataclass(frozen=True)
class EchoVideo(SourceItem):
    """Represent one video with its tracings.

    Attributes:
        stem: File name without ending.
        video: The file; None where there is none.
        split: Official split; None where there is none.
        ef: Ejection fraction in percent; None where the table does not say.
        frames: Tracings by frame number, from 0.
        frame_problems: Why a frame cannot be converted, by number; None for a row without a frame number.
        problem: Why nothing of the video can be converted; None if it can.
        known_defect: Whether the official release has this problem.
    """

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
        """Return the patient for the manifest; there is one video per patient."""
        return f"echonet_{self.stem}"


def _source(name: str, listed: ListedVideo | None, traced: TracedVideo | None, video: Path | None) -> EchoVideo:
    """Combine what the tables and the folder say about one video."""
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


@dataclass(frozen=True)
class ListedVideo:
    """Hold a row of FileList.csv.

    Attributes:
        split: Official split; None where there is none.
        ef: Ejection fraction in percent; None where the row does not say.
        problem: What is wrong with the row; None if nothing is.
    """

    split: str | None
    ef: float | None
    problem: str | None = None


def read_file_list(path: Path) -> tuple[dict[str, ListedVideo], bool]:
    """Read FileList.csv.

    Args:
        path: The table.

    Returns:
        Rows by stem, in the order of the table; and whether there is a column Split.

    Raises:
        ConversionError: If the table cannot be read, or names no video.
    """
    listed: dict[str, ListedVideo] = {}
    has_split = False
    for line, row in read_table(path, ("FileName",)):
        columns = {name.casefold(): value for name, value in row.items()}
        has_split = "split" in columns
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        video = _listed(columns, has_split)
        if name in listed and listed[name] != video:
            video = ListedVideo(None, None, f"is listed more than once in {path.name}, with different entries")
        listed[name] = video
    if not listed:
        raise ConversionError(f"{printable(str(path))} names no video.")
    return listed, has_split


def _listed(columns: Mapping[str, str], has_split: bool) -> ListedVideo:
    ef = parse_number(columns.get("ef", ""))
    if not has_split:
        return ListedVideo(None, ef)
    text = columns["split"]
    split = SPLIT_BY_ENTRY.get(text.upper())
    problem = None if split else f"has Split {text!r} in {FILE_LIST}, expected TRAIN, VAL or TEST"
    return ListedVideo(split, ef, problem)


_CHORD_COLUMNS = ("X1", "Y1", "X2", "Y2")


@dataclass
class TracedVideo:
    """Hold the tracings of one video.

    Attributes:
        frames: Rows (n, 4) by frame number, from 0: x1, y1, x2, y2 in pixels.
        problems: Why a frame cannot be used, by number; None for a row without a frame number.
    """

    frames: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    problems: dict[int | None, str] = field(default_factory=dict)


def read_tracings(path: Path) -> dict[str, TracedVideo]:
    """Read VolumeTracings.csv.

    Args:
        path: The table.

    Returns:
        Tracings by stem, in the order of the table, and so are the rows of a frame.

    Raises:
        ConversionError: If the table cannot be read.
    """
    tracings: dict[str, TracedVideo] = {}
    rows: dict[str, dict[int, list[float]]] = {}
    for line, row in read_table(path, ("FileName", *_CHORD_COLUMNS, "Frame")):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        traced = tracings.setdefault(name, TracedVideo())
        frame = parse_int(row["Frame"])
        if frame is None or frame < 0:
            traced.problems.setdefault(
                None, f"line {line} of {path.name}: Frame is {row['Frame']!r}, expected an integer from 0"
            )
            continue
        values = [parse_number(row[column]) for column in _CHORD_COLUMNS]
        if None in values:
            column = _CHORD_COLUMNS[values.index(None)]
            traced.problems.setdefault(frame, f"line {line} of {path.name}: {column} is {row[column]!r}, not a number")
            continue
        flat = rows.setdefault(name, {}).setdefault(frame, [])
        flat.extend(value for value in values if value is not None)
    for name, frames in rows.items():
        usable = {frame: flat for frame, flat in frames.items() if frame not in tracings[name].problems}
        tracings[name].frames = {frame: np.array(flat).reshape(-1, 4) for frame, flat in usable.items()}
    return tracings


def stem(file_name: str) -> str:
    """Remove the ending of a video: FileList.csv names videos without, VolumeTracings.csv with it.

    Args:
        file_name: Name with or without ending.

    Returns:
        The name without ending.
    """
    for ending in VIDEO_ENDINGS:
        if file_name.lower().endswith(ending):
            return file_name[: -len(ending)]
    return file_name


def find_videos(folder: Path) -> dict[str, Path]:
    """Find the videos of a folder. Names come from the disk, never from a table.

    Args:
        folder: Folder of videos.

    Returns:
        Path by stem; of two videos with one stem the AVI.
    """
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    ordered = sorted(
        (path for path in visible if path.suffix.lower() in VIDEO_ENDINGS),
        key=lambda path: -VIDEO_ENDINGS.index(path.suffix.lower()),
    )
    return {stem(path.name): path for path in ordered}


def unlisted_videos(about: str, videos: Iterable[str], listed: Container[str]) -> list[Note]:
    """Note the videos that the table does not name.

    Args:
        about: Subject of the note.
        videos: Stems of the videos on disk.
        listed: Stems that the table names.

    Returns:
        One note; empty if all videos are named.
    """
    extra = {printable(name) for name in videos if name not in listed}
    text = f"{len(extra)} video(s) are not in {FILE_LIST} and are left out: {format_names(extra)}"
    return [Note(about, text)] if extra else []


@dataclass(frozen=True)
class FilledFrame:
    """Hold a traced frame with its mask.

    Attributes:
        identifier: Identifier of the case.
        frame: Number, from 0.
        phase: "ED", "ES" or None.
        image: Gray values (rows, cols).
        mask: 1 inside the contour, of the same shape.
        aspect: Width of a pixel, in multiples of its height.
    """

    identifier: str
    frame: int
    phase: str | None
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    aspect: float


def fill_contours(
    about: str, prefix: str, video: Path, contours: Mapping[int, Points]
) -> Iterator[FilledFrame | Skipped | Note]:
    """Read the traced frames of a video and fill their contours.

    Args:
        about: Subject of notes about the video.
        prefix: Identifier of the cases without phase or frame.
        video: Video file.
        contours: Vertices (n, 2) by frame number, from 0: x, y in pixels.

    Yields:
        A frame with its mask, a skip for one that cannot be used, or a note.
    """
    phases = phases_by_area({frame: polygon.polygon_area(points) for frame, points in contours.items()})
    if None in phases.values():
        text = f"{len(contours)} traced frame(s): ED and ES are the largest and the smallest of two or more"
        yield Note(about, text)
    frames = read_frames(video, set(contours))
    for frame, points in contours.items():
        identifier = f"{prefix}_{phases[frame] or f'F{frame:03d}'}"
        if frame in frames.why_missing:
            yield Skipped(identifier, frames.why_missing[frame])
            continue
        image = frames.images[frame]
        mask = polygon.fill_polygon(points, (image.shape[0], image.shape[1]))
        pixels = int(mask.sum())
        if pixels == 0:
            yield Skipped(identifier, f"its tracing (frame {frame}) encloses no pixel of the image")
            continue
        if polygon.crosses_itself(points):
            yield Note(identifier, "its contour crosses itself; look at its mask")
        if pixels < MIN_AREA_PIXELS:
            yield Note(identifier, f"the ventricle has only {pixels} pixels")
        yield FilledFrame(identifier, frame, phases[frame], image, mask.astype(np.uint8), frames.aspect)


def phases_by_area(areas: Mapping[int, float]) -> dict[int, str | None]:
    """Assign ED and ES: the largest ventricle is diastolic, the smallest systolic.

    The order of frames says nothing, as public readers contradict each other. Of equal areas the earlier frame counts
    as the larger.

    Args:
        areas: Area of the ventricle by frame.

    Returns:
        "ED", "ES" or None by frame; None for a single frame.
    """
    ordered = sorted(areas, key=lambda frame: (-areas[frame], frame))
    phases: dict[int, str | None] = dict.fromkeys(areas)
    if len(ordered) > 1:
        phases[ordered[0]], phases[ordered[-1]] = "ED", "ES"
    return phases


#: Rows of one tracing: the long axis and 20 chords.
ROWS_PER_TRACING = 21
MIN_CHORDS = 8

#: Larger than any frame, in pixels.
MAX_COORDINATE_PIXELS = 1e5


@dataclass(frozen=True)
class Contour:
    """Hold the contour of the left ventricle in one frame.

    Attributes:
        points: Vertices (n, 2): x, y in pixels.
        irregular: Whether the tracing does not have 21 rows or a multiple of them.
        remarks: What is unusual about the tracing.
    """

    points: Points
    irregular: bool = False
    remarks: tuple[str, ...] = ()


def contour_from_chords(rows: NDArray[np.float64], apex: str = "official") -> Contour:
    """Build the contour from the tracing of one frame.

    "official" is the polygon of EchoNet-Dynamic's own code: the first ends of the chords in order, then the second ends
    in reverse; it cuts off what lies beyond the first chord. "capped" adds the apex, the end of the long axis. Of more
    than one tracing in a frame (42, 63, 84 rows) the first counts.

    Args:
        rows: Array of shape (n, 4): x1, y1, x2, y2 in pixels. Row 1 is the long axis, the others are chords.
        apex: "official" or "capped".

    Returns:
        The contour.

    Raises:
        ConversionError: If there are too few chords, or a coordinate is implausible.
    """
    remarks = []
    is_irregular = len(rows) % ROWS_PER_TRACING != 0
    if len(rows) < 3:
        raise ConversionError(f"its tracing has fewer than three points: {max(0, 2 * (len(rows) - 1))}")
    if is_irregular:
        remarks.append(f"its tracing has {len(rows)} rows, not {ROWS_PER_TRACING}")
    if len(rows) > ROWS_PER_TRACING:
        remarks.append(f"of its {len(rows)} rows the first {ROWS_PER_TRACING} are used")
        rows = rows[:ROWS_PER_TRACING]
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
    return Contour(points, is_irregular, tuple(remarks))


def is_long_axis(axis: NDArray[np.float64], chords: NDArray[np.float64]) -> bool:
    """Check whether a row can be the long axis.

    It runs across the chords (60 to 120 degrees) and is about as long (half to twice) as their spread.

    Args:
        axis: Row of shape (4,): x1, y1, x2, y2 in pixels.
        chords: Rows of shape (n, 4).

    Returns:
        Whether it does; False where a length is 0.
    """
    middles = (chords[:, :2] + chords[:, 2:]) / 2
    spread = float(np.linalg.norm(middles[-1] - middles[0]))
    along = axis[2:] - axis[:2]
    across = (chords[:, 2:] - chords[:, :2]).sum(axis=0)
    lengths = float(np.linalg.norm(along)), float(np.linalg.norm(across))
    if min(*lengths, spread) == 0:
        return False
    return bool(abs(np.dot(along, across)) / (lengths[0] * lengths[1]) <= 0.5 and 0.5 <= lengths[0] / spread <= 2)


def _apex(axis: NDArray[np.float64], chords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the end (2,) of the long axis that lies at the first chord."""
    start = (chords[0, :2] + chords[0, 2:]) / 2
    ends = axis.reshape(2, 2)
    return ends[np.argmin(np.linalg.norm(ends - start, axis=1))]
