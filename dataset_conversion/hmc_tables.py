"""What comes with the videos of HMC-QU: the workbook that says which frames are a cycle, and the masks of the wall."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable, some

from .apart import Crashed, call_apart

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
    """The whole number in a cell, also one that is stored as text."""
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
        return call_apart(decoded_masks, path)
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
        raise ConversionError(f"{shown} holds the variables {some(names)}; expected 'predicted', or only one")
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
