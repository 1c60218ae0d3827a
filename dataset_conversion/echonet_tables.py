"""EchoNet-Dynamic's two tables: which videos there are, and where the left ventricle was traced in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.tables import number, read_table, whole_number
from nnunet_partial.utils.text import printable

FILE_LIST = "FileList.csv"
TRACINGS = "VolumeTracings.csv"
SPLITS = {"TRAIN": "train", "VAL": "val", "TEST": "test"}
VIDEO_ENDINGS = (".avi", ".mp4", ".mov", ".mkv", ".webm")
_ENDS = ("X1", "Y1", "X2", "Y2")

#: Frames by number (from 0); per frame the rows (n, 4): x1, y1, x2, y2.
Tracing = Mapping[int, NDArray[np.float64]]


@dataclass(frozen=True)
class Listed:
    """A row of FileList.csv. `problem` says what is wrong with it."""

    split: str | None
    ef: float | None
    problem: str | None = None


@dataclass
class Traced:
    """The tracings of one video; `problems` by frame (None: the frame itself cannot be read)."""

    frames: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    problems: dict[int | None, str] = field(default_factory=dict)


def stem(file_name: str) -> str:
    """The name of a video without its ending: FileList.csv writes it without, VolumeTracings.csv with."""
    for ending in VIDEO_ENDINGS:
        if file_name.lower().endswith(ending):
            return file_name[: -len(ending)]
    return file_name


def read_file_list(path: Path) -> tuple[dict[str, Listed], bool]:
    """FileList.csv by stem, in its order, and whether it has a Split column."""
    found: dict[str, Listed] = {}
    has_split = False
    for line, row in read_table(path, ("FileName",)):
        columns = {name.casefold(): value for name, value in row.items()}
        has_split = "split" in columns
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        listed = _listed(columns, has_split)
        if name in found and found[name] != listed:
            listed = Listed(None, None, f"stands more than once in {path.name}, with different entries")
        found[name] = listed
    if not found:
        raise ConversionError(f"{printable(str(path))} names no video.")
    return found, has_split


def _listed(columns: Mapping[str, str], has_split: bool) -> Listed:
    ef = number(columns.get("ef", ""))
    if not has_split:
        return Listed(None, ef)
    text = columns["split"]
    split = SPLITS.get(text.upper())
    problem = None if split else f"has Split {text!r} in {FILE_LIST}, expected TRAIN, VAL or TEST"
    return Listed(split, ef, problem)


def read_tracings(path: Path) -> dict[str, Traced]:
    """VolumeTracings.csv by stem, in its order; the rows of a frame keep theirs."""
    found: dict[str, Traced] = {}
    rows: dict[str, dict[int, list[float]]] = {}
    for line, row in read_table(path, ("FileName", *_ENDS, "Frame")):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        traced = found.setdefault(name, Traced())
        frame = whole_number(row["Frame"])
        if frame is None or frame < 0:
            traced.problems.setdefault(
                None, f"line {line} of {path.name}: Frame is {row['Frame']!r}, expected a whole number from 0"
            )
            continue
        ends = [number(row[end]) for end in _ENDS]
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
