"""EchoNet-Dynamic: 10,030 four-chamber videos of as many patients, with the left ventricle traced in two frames each.

Ouyang et al., "Video-based AI for beat-to-beat assessment of cardiac function", Nature 2020,
https://doi.org/10.1038/s41586-020-2145-8
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
from nnunet_partial.utils.text import printable, some

from . import polygon
from .case import Case, Note, Skipped, Source, require_identifier
from .chords import APEX, Outline, outline
from .data_set import DataSet, not_found, require_folder
from .echonet_tables import FILE_LIST, TRACINGS, Listed, Traced, Tracing, read_file_list, read_tracings, videos
from .nominal_depth import DEPTH_MM, add_depth_option, require_depth
from .video import read_frames

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
TINY = 50


@dataclass(frozen=True)
class EchoVideo(Source):
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
            yield Note(VIDEOS, f"{len(extra)} video(s) are not in {FILE_LIST} and are left out: {some(extra)}")

    def tables(self) -> Sequence[Path]:
        return [self.root / FILE_LIST, self.root / TRACINGS]

    def read(self, source: Source) -> Iterator[Case | Skipped | Note]:
        assert isinstance(source, EchoVideo)
        if source.problem:
            yield Skipped(source.patient, source.problem, source.known_defect)
            return
        require_identifier(source.patient)
        for frame, problem in source.frame_problems.items():
            yield Skipped(source.patient if frame is None else f"{source.patient} frame {frame}", problem)
        outlines: dict[int, Outline] = {}
        for frame, rows in source.frames.items():
            try:
                outlines[frame] = outline(rows, self.apex)
            except ConversionError as problem:
                yield Skipped(f"{source.patient} frame {frame}", str(problem))
        if outlines:
            yield from self._cases(source, outlines)

    def _cases(self, source: EchoVideo, outlines: Mapping[int, Outline]) -> Iterator[Case | Skipped | Note]:
        assert source.video is not None
        phases = phases_by_area({frame: polygon.area(traced.points) for frame, traced in outlines.items()})
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
            image = frames.found[frame]
            mask = polygon.filled(traced.points, (image.shape[0], image.shape[1]))
            pixels = int(mask.sum())
            if pixels == 0:
                yield Skipped(identifier, f"its tracing (frame {frame}) encloses no pixel of the picture")
                continue
            for remark in (*traced.remarks, *([f"the ventricle has only {pixels} pixels"] if pixels < TINY else [])):
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
    ) -> Case:
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
        labels = CaseLabels(
            annotated=self.classes,
            domain="echonet",
            patient=source.patient,
            info={key: value for key, value in entry.items() if value is not None},
        )
        pixel_mm = self.depth_mm / image.shape[0]
        return Case(identifier, image, mask.astype(np.uint8), (pixel_mm, pixel_mm), labels)

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


def _source(name: str, listed: Listed | None, traced: Traced | None, video: Path | None) -> EchoVideo:
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
