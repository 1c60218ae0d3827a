"""EchoNet-Pediatric's two tables per view: which clips there are, and the outlines of the left ventricle in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.tables import Row, number, read_table, whole_number
from nnunet_partial.utils.text import printable

from .chords import FARTHEST
from .echonet_tables import FILE_LIST, stem
from .polygon import Points

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
    """The outlines of one clip: vertices (n, 2), x and y, by frame as the table counts.

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
    fold = whole_number(row.get("split", ""))
    if fold not in FOLDS:
        text = f"its Split in {FILE_LIST} is {row.get('split', '')!r}, no fold from 0 to 9"
        return Clip(match[1], None, number(row.get("ef", "")), remark=text)
    return Clip(match[1], fold, number(row.get("ef", "")))


def read_outlines(path: Path) -> dict[str, Outlines]:
    """VolumeTracings.csv by stem, in its order: each row is a vertex, and the vertices of a frame keep theirs.

    A frame with a vertex that cannot be read is given up: an outline with a gap is another outline.
    """
    found: dict[str, Outlines] = {}
    vertices: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for line, row in read_table(path, ("FileName", "X", "Y", "Frame")):
        name = stem(row["FileName"]) or f"(line {line} of {path.name})"
        outlines = found.setdefault(name, Outlines())
        frame = whole_number(row["Frame"])
        problem = _problem(row, frame)
        if problem is not None:
            outlines.problems.setdefault(frame, f"line {line} of {path.name}: {problem}")
        elif frame is None:
            outlines.nothing.append(row["Frame"])
        else:
            x, y = number(row["X"]), number(row["Y"])
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
            return f"Frame is {row['Frame']!r}, expected a whole number, 'No Systolic' or 'No Diastolic'"
        return f"Frame is {row['Frame']!r}, yet there is a vertex" if row["X"] or row["Y"] else None
    if frame < 0:
        return f"Frame is {row['Frame']!r}, expected a number from 0"
    for name in ("X", "Y"):
        if number(row[name]) is None:
            return f"{name} is {row[name]!r}, not a number"
    return None


def _keep(outlines: Outlines, frame: int, points: Points) -> None:
    """Adds an outline, or says why it is none."""
    corners = without_repeats(points)
    if np.abs(points).max() > FARTHEST:
        outlines.problems[frame] = f"its tracing has a coordinate of {np.abs(points).max():g} pixels"
    elif len(corners) < 3:
        outlines.problems[frame] = f"its tracing has fewer than three points: {len(corners)}"
    else:
        outlines.frames[frame] = corners


def without_repeats(points: Points) -> Points:
    """Vertices (n, 2) without those that repeat the one before, nor a last one that repeats the first."""
    changed = np.any(points != np.roll(points, 1, axis=0), axis=1)
    return points[changed] if changed.any() else points[:1]
