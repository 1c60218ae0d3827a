"""HMC-QU: four-chamber videos of patients with and without heart attack; the wall of the left ventricle over a cycle.

Degerli et al., "Early Detection of Myocardial Infarction in Low-Quality Echocardiography", IEEE Access 2021,
https://arxiv.org/abs/2010.02281

What comes with the videos of HMC-QU: the workbook that says which frames are a cycle, and the masks of the wall.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
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
from .readers.isolated import Crashed, run_isolated
from .readers.video import read_frames

#: A tick of the font Wingdings, as it stands in the workbook.
TICK = "ü"
#: Masks were squashed to this size, whatever the video's.
MASK_SIZE = 224

_NAME, _FIRST, _LAST, _MASK = "echo", "referenceframe", "endofcycle", "groundtruth"
#: The headers stand in the first rows.
_HEADER_ROWS = 10


@dataclass(frozen=True)
class Clip:
    """A row of the workbook: `first` and `last` frame of the cycle, from 1, both included; `ticked`: has a mask.

    `ticked` is None where the workbook has no such column.
    """

    name: str
    first: int
    last: int
    ticked: bool | None


def key(name: str) -> str:
    """The name without spaces and case, as workbook, masks and videos spell it differently."""
    return "".join(name.split()).casefold()


def read_workbook(path: Path) -> list[Clip]:
    """The clips of all sheets, in order; rows whose frames are no numbers (second header, footnote) are no clips.

    Raises ConversionError where the file is no workbook, or no sheet has the columns.
    """
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and the like, which nobody reads here
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            sheets = [[tuple(row) for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]
            book.close()
    except Exception as problem:  # its parsers raise whatever they met: zip, XML, keys
        raise ConversionError(f"{printable(path.name)} cannot be read as a workbook: {problem}") from problem
    found = [_clips(rows, columns) for rows in sheets if (columns := _columns(rows))]
    if not found:
        raise ConversionError(
            f"{printable(path.name)} has no sheet with the columns ECHO, Reference Frame and End of Cycle"
        )
    return [clip for clips in found for clip in clips]


def _columns(rows: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Where the columns are, by what their headers contain; empty where one of the first three is missing."""
    found: dict[str, int] = {}
    for row in rows[:_HEADER_ROWS]:
        for index, cell in enumerate(row):
            text = re.sub(r"[^a-z]", "", cell.casefold()) if isinstance(cell, str) else ""
            if text == _NAME:
                found.setdefault(_NAME, index)
            for wanted in (_FIRST, _LAST, _MASK):
                if wanted in text:
                    found.setdefault(wanted, index)
    return found if {_NAME, _FIRST, _LAST} <= set(found) else {}


def _clips(rows: Sequence[Sequence[Any]], columns: dict[str, int]) -> list[Clip]:
    clips = []
    for row in rows:
        cells = {what: row[index] if index < len(row) else None for what, index in columns.items()}
        first, last, name = _frame(cells[_FIRST]), _frame(cells[_LAST]), cells[_NAME]
        if first is not None and last is not None and isinstance(name, str) and name.strip():
            ticked = str(cells[_MASK] or "").strip() == TICK if _MASK in cells else None
            clips.append(Clip(name.strip(), first, last, ticked))
    return clips


def _frame(cell: Any) -> int | None:
    """The integer in a cell, also one that is stored as text."""
    try:
        value = float(cell)
        return int(value) if value.is_integer() else None
    except (TypeError, ValueError, OverflowError):
        return None


def read_masks(path: Path) -> NDArray[np.bool_]:
    """The wall in each frame of a cycle: (frames, 224, 224). Raises ConversionError for anything else.

    The array is the variable "predicted", or the only one that the file holds. Read in a process of its own: SciPy's
    reader crashes on some damaged headers.
    """
    try:
        return run_isolated(decoded_masks, path)
    except Crashed as problem:
        raise ConversionError(
            f"{printable(path.name)} cannot be read as a MATLAB file: SciPy's reader crashes on it. Is it damaged?"
        ) from problem


def decoded_masks(path: Path) -> NDArray[np.bool_]:
    """`read_masks`, in this process."""
    shown = printable(path.name)
    try:
        from scipy.io import loadmat

        content = loadmat(path)
    except NotImplementedError as problem:
        raise ConversionError(f"{shown} is a MATLAB 7.3 file; expected version 5 or 7 (save with -v7)") from problem
    except Exception as problem:  # scipy's reader raises whatever its parser met
        raise ConversionError(f"{shown} cannot be read as a MATLAB file: {problem}") from problem
    masks = _variable(shown, content)
    if masks.ndim != 3 or masks.shape[1:] != (MASK_SIZE, MASK_SIZE) or masks.dtype.kind not in "buif":
        raise ConversionError(
            f"{shown} has an array of shape {masks.shape} and type {masks.dtype}; expected numbers, "
            f"(frames, {MASK_SIZE}, {MASK_SIZE})"
        )
    values = np.unique(masks)
    if len(values) > 2 or not set(values.tolist()) <= {0, 1, 255} or set(values.tolist()) >= {1, 255}:
        listed = ", ".join(f"{value:g}" for value in values[:10].tolist())
        raise ConversionError(f"{shown} holds the values {listed}; expected 0 and 1, or 0 and 255")
    return np.asarray(masks != 0)


def _variable(shown: str, content: dict[str, Any]) -> NDArray[Any]:
    names = [name for name in content if not name.startswith("__")]
    name = "predicted" if "predicted" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ConversionError(f"{shown} holds the variables {format_names(names)}; expected 'predicted', or only one")
    return np.asarray(content[name])


def enlarged(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A squashed mask (rows, cols) at the size of the picture, each pixel with the value of the nearest."""
    rows, cols = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, cols)].astype(np.uint8)


def unique_by_key(names: Iterator[tuple[str, Path]]) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Files by exact name, and lists of files by key (several names may share one)."""
    exact: dict[str, Path] = {}
    alike: dict[str, list[Path]] = {}
    for name, path in names:
        exact[name] = path
        alike.setdefault(key(name), []).append(path)
    return exact, alike


MASKS = "LV Ground-truth Segmentation Masks"
SLUG = "https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset"


@dataclass(frozen=True)
class HmcLayout:
    """One way in which the dataset was packed."""

    title: str
    workbook: str


#: As they were published one after the other. The present one has the newer workbooks and no videos.
SHAPES = (HmcLayout("newer package", "A4C.xlsx"), HmcLayout("older package", "HMC_QU.xlsx"))
#: Where the videos are, in the newer and in the older package; who adds older cines to newer tables may have both.
VIDEOS = ("HMC-QU/A4C", "HMC-QU Echos")

#: ES and the digits behind it are the patient; ES0001 and ES00010 are two people.
_PATIENT = re.compile(r"ES\d+", re.IGNORECASE)


@dataclass(frozen=True)
class MaskedClip(SourceItem):
    """A clip with a mask or a tick in the workbook. `problem`: why it cannot be converted."""

    clip: Clip | None
    mask: Path | None
    video: Path | None
    remark: str | None = None
    problem: str | None = None

    @property
    def stem(self) -> str:
        """The name without spaces, unique in the dataset."""
        return "".join(self.name.split())


@dataclass(frozen=True)
class HmcPart:
    """A copy of the dataset on disk, whichever way it was packed."""

    root: Path
    shape: HmcLayout

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
    """HMC-QU, the clips with masks. `depth_mm`: from the top to the bottom row; the set has no spacing."""

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

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
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
    ) -> Iterator[ConvertedCase | Skipped]:
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
            image = frames.images[frame]
            info = {"view": "4CH", "frame": frame, "interpolated": False, "spacing_known": False}
            labels = CaseLabels(annotated=self.classes, domain="hmcqu", patient=patient, info=info)
            pixel_mm = self.depth_mm / image.shape[0]
            drawn = enlarged(mask, (image.shape[0], image.shape[1]))
            yield ConvertedCase(identifier, image, drawn, (pixel_mm, pixel_mm), labels)


def find_package(root: Path) -> HmcPart:
    """Which package lies in `root`. Raises ConversionError where none does."""
    require_folder(root)
    for shape in SHAPES:
        if (root / shape.workbook).is_file():
            return HmcPart(root, shape)
    raise not_found(root, "A4C.xlsx or HMC_QU.xlsx of HMC-QU")


def _sources(package: HmcPart, clips: Sequence[Clip]) -> Iterator[MaskedClip]:
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
    return None, f"several files could be its {what}: {format_names([printable(path.name) for path in found])}"


def _impossible(clip: Clip) -> str | None:
    if 1 <= clip.first <= clip.last:
        return None
    return f"its cycle goes from frame {clip.first} to {clip.last}; expected numbers from 1 on, in order"
