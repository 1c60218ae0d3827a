"""HMC-QU: four-chamber videos of patients with and without heart attack; the wall of the left ventricle over a cycle.

A workbook says which frames are a cycle; a MATLAB file per clip holds the masks of the wall.

References:
    Degerli et al., "Early Detection of Myocardial Infarction in Low-Quality Echocardiography", IEEE Access 2021,
    https://arxiv.org/abs/2010.02281
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.files import files_below
from nnunet_partial.utils.text import format_names, format_values, printable

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
from .readers.isolated import Crashed, run_isolated
from .readers.video import read_frames

#: A tick of the font Wingdings, as stored in the workbook.
TICK = "ü"

#: Rows and columns of the masks, whatever the size of the video.
MASK_PIXELS = 224
MASK_FOLDER = "LV Ground-truth Segmentation Masks"

#: Where the dataset is published.
URL = "https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset"

#: Of the newer and of the older package; a user who adds older videos to newer tables may have both.
VIDEO_FOLDERS = ("HMC-QU/A4C", "HMC-QU Echos")

#: ES and the digits after it are the patient; ES0001 and ES00010 are two patients.
_PATIENT = re.compile(r"ES\d+", re.IGNORECASE)


@dataclass(frozen=True)
class HmcQu(DataSet):
    """Convert the clips of HMC-QU that have masks.

    Attributes:
        depth_mm: Nominal depth in mm, from the top to the bottom row; the dataset has no spacing.
    """

    depth_mm: float = DEPTH_MM

    name: ClassVar[str] = "hmc-qu"
    title: ClassVar[str] = "HMC-QU: MYO in 4CH"
    description: ClassVar[str] = (
        "HMC-QU (Degerli et al. 2021): 109 four-chamber clips of patients with and without myocardial infarction, the "
        f"wall of the left ventricle annotated in every frame of one cycle. Ask for it at {URL}; non-commercial "
        "(CC BY-NC-SA 3.0 IGO as shown there). The present package may lack the videos: they must be asked for. Give "
        f"the unpacked folder with A4C.xlsx (or HMC_QU.xlsx), the videos and '{MASK_FOLDER}'."
    )
    default_name: ClassVar[str] = "HMCQU"
    classes: ClassVar[tuple[str, ...]] = ("MYO",)
    reference: ClassVar[str] = "Degerli et al. 2021, https://arxiv.org/abs/2010.02281"
    license: ClassVar[str] = (
        "CC BY-NC-SA 3.0 IGO as shown on Kaggle, non-commercial; as a precaution not to be passed on"
    )

    def __post_init__(self) -> None:
        """Check the options."""
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --depth-mm; see `DataSet.add_options`."""
        add_depth_option(parser)

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`."""
        package = find_package(self.root)
        workbook = package.layout.workbook
        if not package.videos:
            raise ConversionError(
                f"{printable(str(package.root))} holds {workbook} and masks, but no video (*.avi) in "
                f"{VIDEO_FOLDERS[0]}/ or {VIDEO_FOLDERS[1]}/. The present package at {URL} comes without; obtain the "
                "videos from an older copy or from the authors, and put them there."
            )
        if not package.masks:
            raise not_found(package.root, f"masks such as {MASK_FOLDER}/Mask_ES0001 _4CH_1.mat")
        items = list(_sources(package, read_workbook(package.workbook)))
        text = f"read {workbook}, {len(package.videos)} video(s), {len(package.masks)} mask file(s)"
        notes = [Note(printable(name), f"not looked into: {reason}") for name, reason in package.left_out.items()]
        return SourceScan(items, [Note(package.layout.title, text), *notes], [package.workbook])

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read the cycle of one clip; see `DataSet.read`."""
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
                f"the first {number} of both are used, aligned at frame {source.clip.first}"
            )
            yield Note(source.name, text)
        patient_id = f"hmcqu_{patient[0].upper()}"
        yield from self._cases(source, source.video, patient_id, masks[:number], source.clip.first - 1)

    def _cases(
        self, source: MaskedClip, video: Path, patient: str, masks: NDArray[np.bool_], first: int
    ) -> Iterator[ConvertedCase | Skipped]:
        """Yield the cases; `first`: frame of the video, from 0, of the first mask."""
        frames = read_frames(video, range(first, first + len(masks)))
        for frame, mask in enumerate(masks, start=first):
            identifier = f"hmcqu_{source.stem}_F{frame:03d}"
            if frame in frames.why_missing:
                yield Skipped(identifier, frames.why_missing[frame])
                continue
            if not mask.any():
                yield Skipped(identifier, f"nothing is annotated in its mask (frame {frame})")
                continue
            image = frames.images[frame]
            info = {"view": "4CH", "frame": frame, "interpolated": False, "spacing_known": False}
            labels = CaseLabels(annotated=self.classes, domain="hmcqu", patient=patient, info=info)
            resized = enlarge(mask, (image.shape[0], image.shape[1]))
            spacing_mm = nominal_spacing_mm(self.depth_mm, image.shape[0], frames.aspect)
            yield ConvertedCase(identifier, image, resized, spacing_mm, labels)


@dataclass(frozen=True)
class MaskedClip(SourceItem):
    """Represent a clip with a mask or a tick in the workbook.

    Attributes:
        clip: Row of the workbook; None where there is none.
        mask: Mask file; None where there is none.
        video: Video file; None where there is none.
        remark: What is unusual about the clip; None if nothing is.
        problem: Why it cannot be converted; None if it can.
    """

    clip: WorkbookClip | None
    mask: Path | None
    video: Path | None
    remark: str | None = None
    problem: str | None = None

    @property
    def stem(self) -> str:
        """Return the name without spaces, unique in the dataset."""
        return "".join(self.name.split())


@dataclass(frozen=True)
class HmcLayout:
    """Describe how a package of the dataset names its workbook.

    Attributes:
        title: Name of the package for notes.
        workbook: File name.
    """

    title: str
    workbook: str


#: In the order of publication, latest first. The latest has the newer workbooks and no videos.
HMC_LAYOUTS = (HmcLayout("newer package", "A4C.xlsx"), HmcLayout("older package", "HMC_QU.xlsx"))


@dataclass(frozen=True)
class HmcPart:
    """Hold the files of a copy of the dataset.

    Attributes:
        root: Folder that the user names.
        layout: How it was packed.
        videos: Video files.
        masks: Names of clips, ES0001 _4CH_1 for Mask_ES0001 _4CH_1.mat, and their mask files.
        left_out: Why a folder was not looked into, by its path below `root`.
    """

    root: Path
    layout: HmcLayout
    videos: tuple[Path, ...]
    masks: tuple[tuple[str, Path], ...]
    left_out: Mapping[str, str]

    @property
    def workbook(self) -> Path:
        """Return the path of the workbook."""
        return self.root / self.layout.workbook


def find_package(root: Path) -> HmcPart:
    """Find the package in a folder and list its files.

    Args:
        root: Folder that the user names.

    Returns:
        The files.

    Raises:
        ConversionError: If there is no workbook.
    """
    require_folder(root)
    layout = next((layout for layout in HMC_LAYOUTS if (root / layout.workbook).is_file()), None)
    if layout is None:
        raise not_found(root, "A4C.xlsx or HMC_QU.xlsx of HMC-QU")
    found = [files_below(root / folder) for folder in (*VIDEO_FOLDERS, MASK_FOLDER) if (root / folder).is_dir()]
    files = [path for paths, _ in found for path in paths if not path.name.startswith(".")]
    masks = [path for path in files if path.suffix == ".mat" and path.stem.startswith("Mask_")]
    return HmcPart(
        root,
        layout,
        tuple(path for path in files if path.suffix.lower() == ".avi"),
        tuple((path.stem.removeprefix("Mask_"), path) for path in masks),
        {path.relative_to(root).as_posix(): reason for _, left_out in found for path, reason in left_out},
    )


def _sources(package: HmcPart, clips: Sequence[WorkbookClip]) -> Iterator[MaskedClip]:
    """Yield every clip that has a tick or a mask, in the order of the workbook, then masks without a row."""
    videos = index_files((path.stem, path) for path in package.videos)
    masks = index_files(package.masks)
    rows: dict[str, list[WorkbookClip]] = {}
    for clip in clips:
        rows.setdefault(clip_key(clip.name), []).append(clip)
    claimed: set[Path] = set()
    for name_key, same in rows.items():
        clip = same[0]
        alike = masks.by_key.get(name_key, [])
        if not alike and not any(c.is_ticked for c in same):
            continue
        mask, mask_problem = masks.find(clip.name, "mask file")
        video, video_problem = videos.find(clip.name, "video")
        several = f"{len(same)} rows of the workbook have this name" if len(same) > 1 else None
        claimed.update([mask] if mask and not several else alike)
        remark = None if clip.is_ticked in (True, None) else "has a mask file, though the workbook has no tick for it"
        problem = several or mask_problem or video_problem or _cycle_problem(clip)
        yield MaskedClip(printable(clip.name), clip, mask, video, remark, problem)
    for name, path in package.masks:
        if path not in claimed:
            problem = f"there is no row of this name in {package.layout.workbook}"
            yield MaskedClip(f"Mask_{printable(name)}", None, path, None, problem=problem)


def _cycle_problem(clip: WorkbookClip) -> str | None:
    if 1 <= clip.first <= clip.last:
        return None
    return f"its cycle goes from frame {clip.first} to {clip.last}; expected numbers from 1 on, in order"


def clip_key(name: str) -> str:
    """Remove spaces and case from a name, which workbook, masks and videos spell differently.

    Args:
        name: Name of a clip.

    Returns:
        The key.
    """
    return "".join(name.split()).casefold()


@dataclass(frozen=True)
class FileIndex:
    """Index files by name.

    Attributes:
        exact: Files by exact name, which lie in several folders where there is more than one.
        by_key: Files by `clip_key`, which several names may share.
    """

    exact: Mapping[str, Sequence[Path]]
    by_key: Mapping[str, Sequence[Path]]

    def find(self, name: str, what: str) -> tuple[Path | None, str | None]:
        """Find the file of a clip: that of the same name, else the only one with the same key.

        Args:
            name: Name of the clip in the workbook.
            what: What the file is, for the reason.

        Returns:
            The file and None, or None and why there is none.
        """
        files = self.exact.get(name) or self.by_key.get(clip_key(name), [])
        if len(files) == 1:
            return files[0], None
        if not files:
            return None, f"there is no {what}"
        names = [printable(f"{path.parent.name}/{path.name}") for path in files]
        return None, f"several files could be its {what}: {format_names(names)}"


def index_files(named: Iterable[tuple[str, Path]]) -> FileIndex:
    """Index files by name.

    Args:
        named: Pairs of name and file.

    Returns:
        The index.
    """
    exact: dict[str, list[Path]] = {}
    by_key: dict[str, list[Path]] = {}
    for name, path in named:
        exact.setdefault(name, []).append(path)
        by_key.setdefault(clip_key(name), []).append(path)
    return FileIndex(exact, by_key)


#: The headers stand in the first rows.
_HEADER_ROWS = 10
_NAME, _FIRST, _LAST, _MASK = "echo", "referenceframe", "endofcycle", "groundtruth"


@dataclass(frozen=True)
class WorkbookClip:
    """Hold a row of the workbook.

    Attributes:
        name: Name of the clip.
        first: First frame of the cycle, from 1.
        last: Last frame of the cycle, included.
        is_ticked: Whether the workbook says that there is a mask; None where it has no such column.
    """

    name: str
    first: int
    last: int
    is_ticked: bool | None


def read_workbook(path: Path) -> list[WorkbookClip]:
    """Read the clips of all sheets. Rows whose frames are not numbers (a second header, a footnote) are left out.

    Args:
        path: Excel file.

    Returns:
        Clips in the order of the sheets and rows.

    Raises:
        ConversionError: If the file is no workbook, or no sheet has the columns.
    """
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and the like, which do not matter here
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            sheets = [[tuple(row) for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]
            book.close()
    except Exception as problem:  # its parsers raise whatever they met: zip, XML, keys
        raise ConversionError(f"{printable(path.name)} cannot be read as a workbook: {problem}") from problem
    clips = [_clips(rows, columns) for rows in sheets if (columns := _columns(rows))]
    if not clips:
        raise ConversionError(
            f"{printable(path.name)} has no sheet with the columns ECHO, Reference Frame and End of Cycle"
        )
    return [clip for sheet in clips for clip in sheet]


def _columns(rows: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Find the columns by their headers; empty where one of the first three is missing."""
    columns: dict[str, int] = {}
    for row in rows[:_HEADER_ROWS]:
        for index, cell in enumerate(row):
            text = re.sub(r"[^a-z]", "", cell.casefold()) if isinstance(cell, str) else ""
            if text == _NAME:
                columns.setdefault(_NAME, index)
            for wanted in (_FIRST, _LAST, _MASK):
                if wanted in text:
                    columns.setdefault(wanted, index)
    return columns if {_NAME, _FIRST, _LAST} <= set(columns) else {}


def _clips(rows: Sequence[Sequence[Any]], columns: dict[str, int]) -> list[WorkbookClip]:
    clips = []
    for row in rows:
        cells = {what: row[index] if index < len(row) else None for what, index in columns.items()}
        first, last, name = _frame(cells[_FIRST]), _frame(cells[_LAST]), cells[_NAME]
        if first is not None and last is not None and isinstance(name, str) and name.strip():
            is_ticked = str(cells[_MASK] or "").strip() == TICK if _MASK in cells else None
            clips.append(WorkbookClip(name.strip(), first, last, is_ticked))
    return clips


def _frame(cell: Any) -> int | None:
    """Return the integer in a cell, also if it is stored as text; None for anything else."""
    try:
        value = float(cell)
        return int(value) if value.is_integer() else None
    except (TypeError, ValueError, OverflowError):
        return None


def read_masks(path: Path) -> NDArray[np.bool_]:
    """Read the masks of a clip in a subprocess, because SciPy's reader crashes on some damaged headers.

    Args:
        path: MATLAB file with the variable "predicted", or only one variable.

    Returns:
        The wall in each frame of a cycle, boolean array (frames, 224, 224).

    Raises:
        ConversionError: If the file holds anything else.
    """
    try:
        return run_isolated(decode_masks, path)
    except Crashed as problem:
        raise ConversionError(
            f"{printable(path.name)} cannot be read as a MATLAB file: SciPy's reader crashes on it. Is it damaged?"
        ) from problem


def decode_masks(path: Path) -> NDArray[np.bool_]:
    """Read the masks of a clip in this process; see `read_masks`.

    Args:
        path: MATLAB file.

    Returns:
        Boolean array (frames, 224, 224).

    Raises:
        ConversionError: If the file holds anything else.
    """
    shown = printable(path.name)
    try:
        from scipy.io import loadmat

        content = loadmat(path)
    except NotImplementedError as problem:
        raise ConversionError(f"{shown} is a MATLAB 7.3 file; expected version 5 or 7 (save with -v7)") from problem
    except Exception as problem:  # scipy's reader raises whatever its parser met
        raise ConversionError(f"{shown} cannot be read as a MATLAB file: {problem}") from problem
    masks = _variable(shown, content)
    if masks.ndim != 3 or masks.shape[1:] != (MASK_PIXELS, MASK_PIXELS) or masks.dtype.kind not in "buif":
        raise ConversionError(
            f"{shown} has an array of shape {masks.shape} and type {masks.dtype}; expected numbers, "
            f"(frames, {MASK_PIXELS}, {MASK_PIXELS})"
        )
    values = np.unique(masks)
    if len(values) > 2 or not set(values.tolist()) <= {0, 1, 255} or set(values.tolist()) >= {1, 255}:
        raise ConversionError(
            f"{shown} holds the values {format_values(values.tolist())}; expected 0 and 1, or 0 and 255"
        )
    return np.asarray(masks != 0)


def _variable(shown: str, content: dict[str, Any]) -> NDArray[Any]:
    names = [name for name in content if not name.startswith("__")]
    name = "predicted" if "predicted" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ConversionError(f"{shown} holds the variables {format_names(names)}; expected 'predicted', or only one")
    return np.asarray(content[name])


def enlarge(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a mask to the size of the image, with the value of the nearest pixel.

    Args:
        mask: Boolean mask (rows, cols).
        shape: Rows and columns of the image.

    Returns:
        Mask of `shape`, 0 or 1.
    """
    rows, cols = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, cols)].astype(np.uint8)
