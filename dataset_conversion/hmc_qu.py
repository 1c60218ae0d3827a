"""HMC-QU: four-chamber videos of patients with and without heart attack; the wall of the left ventricle over a cycle.

Degerli et al., "Early Detection of Myocardial Infarction in Low-Quality Echocardiography", IEEE Access 2021,
https://arxiv.org/abs/2010.02281
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import printable, some

from .case import Case, Note, Skipped, Source, require_identifier
from .data_set import DataSet, not_found, require_folder
from .hmc_tables import Clip, enlarged, key, read_masks, read_workbook, unique_by_key
from .nominal_depth import DEPTH_MM, add_depth_option, require_depth
from .video import read_frames

MASKS = "LV Ground-truth Segmentation Masks"
SLUG = "https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset"


@dataclass(frozen=True)
class Shape:
    """One way in which the data set was packed."""

    title: str
    workbook: str


#: As they were published one after the other. The present one has the newer workbooks and no videos.
SHAPES = (Shape("newer package", "A4C.xlsx"), Shape("older package", "HMC_QU.xlsx"))
#: Where the videos are, in the newer and in the older package; who adds older cines to newer tables may have both.
VIDEOS = ("HMC-QU/A4C", "HMC-QU Echos")

#: ES and the digits behind it are the patient; ES0001 and ES00010 are two people.
_PATIENT = re.compile(r"ES\d+", re.IGNORECASE)


@dataclass(frozen=True)
class MaskedClip(Source):
    """A clip with a mask or a tick in the workbook. `problem`: why it cannot be converted."""

    clip: Clip | None
    mask: Path | None
    video: Path | None
    remark: str | None = None
    problem: str | None = None

    @property
    def stem(self) -> str:
        """The name without spaces, unique in the data set."""
        return "".join(self.name.split())


@dataclass(frozen=True)
class Package:
    """A copy of the data set on disk, whichever way it was packed."""

    root: Path
    shape: Shape

    @property
    def workbook(self) -> Path:
        return self.root / self.shape.workbook

    @cached_property
    def videos(self) -> list[Path]:
        files = [path for folder in VIDEOS for path in sorted((self.root / folder).rglob("*"))]
        return [path for path in files if path.suffix.lower() == ".avi" and not path.name.startswith(".")]

    @cached_property
    def masks(self) -> dict[str, Path]:
        """Mask files by the name of their clip: ES0001 _4CH_1 for Mask_ES0001 _4CH_1.mat."""
        files = sorted((self.root / MASKS).rglob("*.mat"))
        return {path.stem.removeprefix("Mask_"): path for path in files if path.stem.startswith("Mask_")}


@dataclass(frozen=True)
class HmcQu(DataSet):
    """HMC-QU, the clips with masks. `depth_mm`: from the top to the bottom row; the set has no pixel size."""

    depth_mm: float = DEPTH_MM

    name: ClassVar[str] = "hmc-qu"
    title: ClassVar[str] = "HMC-QU: MYO in 4CH"
    description: ClassVar[str] = (
        "HMC-QU (Degerli et al. 2021): 109 four-chamber clips of patients with and without myocardial infarction, the "
        f"wall of the left ventricle drawn in every frame of one cycle. Ask for it at {SLUG}; non-commercial "
        "(CC BY-NC-SA 3.0 IGO as shown there). The present package may lack the videos: they must be asked for. Give "
        f"the unpacked folder with A4C.xlsx (or HMC_QU.xlsx), the videos and '{MASKS}'."
    )
    default_name: ClassVar[str] = "HMCQU"
    classes: ClassVar[tuple[str, ...]] = ("MYO",)
    reference: ClassVar[str] = "Degerli et al. 2021, https://arxiv.org/abs/2010.02281"
    license: ClassVar[str] = (
        "CC BY-NC-SA 3.0 IGO as shown on Kaggle, non-commercial; as a precaution not to be passed on"
    )

    def __post_init__(self) -> None:
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add_depth_option(parser)

    def sources(self) -> Sequence[MaskedClip]:
        package = find_package(self.root)
        if not package.videos:
            raise ConversionError(
                f"{printable(str(package.root))} holds {package.shape.workbook} and masks, but no video (*.avi) in "
                f"{VIDEOS[0]}/ or {VIDEOS[1]}/. The present package at {SLUG} comes without; obtain the cines from "
                "an older copy or from the authors, and put them there."
            )
        if not package.masks:
            raise not_found(package.root, f"masks such as {MASKS}/Mask_ES0001 _4CH_1.mat")
        return list(_sources(package, read_workbook(package.workbook)))

    def remarks(self) -> Iterator[Note]:
        package = find_package(self.root)
        yield Note(
            package.shape.title,
            f"read {package.shape.workbook}, {len(package.videos)} video(s), {len(package.masks)} mask file(s)",
        )

    def tables(self) -> Sequence[Path]:
        return [find_package(self.root).workbook]

    def read(self, source: Source) -> Iterator[Case | Skipped | Note]:
        assert isinstance(source, MaskedClip)
        if source.problem or source.clip is None or source.mask is None or source.video is None:
            raise ConversionError(source.problem or "has no mask, no video, or no row in the workbook")
        patient = _PATIENT.match(source.name)
        if patient is None:
            raise ConversionError("its name does not begin with ES and the patient's number, such as ES0001 _4CH_1")
        require_identifier(f"hmcqu_{source.stem}_F000")
        if source.remark:
            yield Note(source.name, source.remark)
        masks = read_masks(source.mask)
        cycle = source.clip.last - source.clip.first + 1
        number = min(len(masks), cycle)
        if len(masks) != cycle:
            text = (
                f"{len(masks)} masks for the {cycle} frames from {source.clip.first} to {source.clip.last}; "
                f"the first {number} of both are taken, aligned at frame {source.clip.first}"
            )
            yield Note(source.name, text)
        person = f"hmcqu_{patient[0].upper()}"
        yield from self._cases(source, source.video, person, masks[:number], source.clip.first - 1)

    def _cases(
        self, source: MaskedClip, video: Path, patient: str, masks: NDArray[np.bool_], first: int
    ) -> Iterator[Case | Skipped]:
        """`first`: the video's frame, from 0, to which the first mask belongs."""
        frames = read_frames(video, range(first, first + len(masks)))
        for frame, mask in enumerate(masks, start=first):
            identifier = f"hmcqu_{source.stem}_F{frame:03d}"
            if frame in frames.why_missing:
                yield Skipped(identifier, frames.why_missing[frame])
                continue
            if not mask.any():
                yield Skipped(identifier, f"nothing is drawn in its mask (frame {frame})")
                continue
            image = frames.found[frame]
            info = {"view": "4CH", "frame": frame, "interpolated": False, "spacing_known": False}
            labels = CaseLabels(annotated=self.classes, domain="hmcqu", patient=patient, info=info)
            pixel_mm = self.depth_mm / image.shape[0]
            drawn = enlarged(mask, (image.shape[0], image.shape[1]))
            yield Case(identifier, image, drawn, (pixel_mm, pixel_mm), labels)


def find_package(root: Path) -> Package:
    """Which package lies in `root`. Raises ConversionError where none does."""
    require_folder(root)
    for shape in SHAPES:
        if (root / shape.workbook).is_file():
            return Package(root, shape)
    raise not_found(root, "A4C.xlsx or HMC_QU.xlsx of HMC-QU")


def _sources(package: Package, clips: Sequence[Clip]) -> Iterator[MaskedClip]:
    """Every clip that has a tick or a mask, in the order of the workbook, then masks without a row."""
    videos = unique_by_key((path.stem, path) for path in package.videos)
    masks = unique_by_key(iter(package.masks.items()))
    rows: dict[str, list[Clip]] = {}
    for clip in clips:
        rows.setdefault(key(clip.name), []).append(clip)
    claimed: set[Path] = set()
    for clip_key, same in rows.items():
        clip = same[0]
        alike = masks[1].get(clip_key, [])
        if not alike and not any(c.ticked for c in same):
            continue
        mask, mask_problem = _match(clip.name, masks, "mask file")
        video, video_problem = _match(clip.name, videos, "video")
        several = f"{len(same)} rows of the workbook have this name" if len(same) > 1 else None
        claimed.update([mask] if mask and not several else alike)
        remark = None if clip.ticked in (True, None) else "has a mask file, though the workbook has no tick for it"
        problem = several or mask_problem or video_problem or _impossible(clip)
        yield MaskedClip(printable(clip.name), clip, mask, video, remark, problem)
    for name, path in package.masks.items():
        if path not in claimed:
            problem = f"there is no row of this name in {package.shape.workbook}"
            yield MaskedClip(f"Mask_{printable(name)}", None, path, None, problem=problem)


def _match(
    name: str, files: tuple[dict[str, Path], dict[str, list[Path]]], what: str
) -> tuple[Path | None, str | None]:
    """The file of this very name, else the only one alike but for spaces and case; or why there is none."""
    exact, alike = files
    if name in exact:
        return exact[name], None
    found = alike.get(key(name), [])
    if len(found) == 1:
        return found[0], None
    if not found:
        return None, f"there is no {what}"
    return None, f"several files could be its {what}: {some([printable(path.name) for path in found])}"


def _impossible(clip: Clip) -> str | None:
    if 1 <= clip.first <= clip.last:
        return None
    return f"its cycle goes from frame {clip.first} to {clip.last}; expected numbers from 1 on, in order"
