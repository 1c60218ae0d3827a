"""The drawn frames of a four-chamber video: which there are, whether their numbers make sense, and small mends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError

from .nifti_video import NiftiVideo

#: The four chambers in the common order; written as 1, 2, 3, 4.
CLASSES = ("LV", "LA", "RV", "RA")
#: What the source files mean: 1 LV, 2 LA, 3 RA, 4 RV (https://github.com/xmed-lab/GraphEcho, datasets/cardiac_uda.py).
MEANING = {1: "LV", 2: "LA", 3: "RA", 4: "RV"}

#: The authors ignore frames with fewer drawn pixels than this.
FEWEST_PIXELS = 100

#: An outline that encloses nothing is this thin: two rounds of erosion leave no pixel.
_THIN = 2


@dataclass
class Drawn:
    """The frames of a label file that are not empty, by number from 0, as stored; `cut_off`: why it ends early."""

    frames: dict[int, NDArray[Any]] = field(default_factory=dict)
    cut_off: str | None = None


def drawn_frames(video: NiftiVideo) -> Drawn:
    """In these videos a frame without any drawn pixel is a frame that nobody annotated, not an empty heart."""
    found = Drawn()
    try:
        for number, frame in enumerate(video.frames()):
            if frame.any():
                found.frames[number] = frame
    except ConversionError as problem:
        found.cut_off = str(problem)
    return found


def common_numbers(frame: NDArray[Any], also: Mapping[int, str] | None = None) -> NDArray[np.uint8]:
    """A drawn frame (rows, cols) in the numbers of CLASSES.

    `also`: further source numbers and what they mean. Raises ConversionError for a number that nobody knows.
    """
    meaning = {**MEANING, **(also or {})}
    strange = [value for value in np.unique(frame).tolist() if value not in {0, *meaning}]
    if strange:
        listed = ", ".join(f"{value:g}" for value in strange[:10])
        known = ", ".join(f"{value} {name}" for value, name in MEANING.items())
        raise ConversionError(f"the label holds the value(s) {listed}; expected only 0 background, {known}")
    common = np.zeros(frame.shape, np.uint8)
    for value, name in meaning.items():
        common[frame == value] = CLASSES.index(name) + 1
    return common


def without_holes(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """The mask with the holes of each chamber filled, and how many pixels each gained.

    Only background is filled: what is drawn inside another chamber stays.
    """
    from scipy.ndimage import binary_fill_holes

    filled, gained = mask.copy(), {}
    for value, name in enumerate(CLASSES, start=1):
        hole = binary_fill_holes(mask == value) & (filled == 0)
        if hole.any():
            filled[hole] = value
            gained[name] = int(hole.sum())
    return filled, gained


def open_outlines(mask: NDArray[np.uint8]) -> Iterator[str]:
    """The chambers that are nothing but a thin line: an outline with a gap, which no filling makes an area."""
    from scipy.ndimage import binary_erosion

    for value, name in enumerate(CLASSES, start=1):
        here = mask == value
        if here.any() and not binary_erosion(here, iterations=_THIN, border_value=1).any():
            yield name
