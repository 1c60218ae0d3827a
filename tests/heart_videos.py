"""Tiny four-chamber videos in the layouts of CardiacUDA, EchoCP and CardiacNet: every number known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from source_folders import write_nifti

ROWS, COLS = 40, 48
#: Where the chambers are, as the files number them: 1 LV, 2 LA, 3 RA, 4 RV; 6 x 8 = 48 pixels each.
PLACES = {
    1: (slice(14, 20), slice(26, 34)),
    2: (slice(28, 34), slice(26, 34)),
    3: (slice(28, 34), slice(14, 22)),
    4: (slice(14, 20), slice(14, 22)),
}


def sector(grey: int) -> NDArray[np.uint8]:
    """(40, 48): a sector with its tip at the top, `grey`, and a white mark in row 30, column 38; black around it."""
    rows, cols = np.indices((ROWS, COLS))
    image = np.where(np.abs(cols - 24) <= rows / 2, grey, 0).astype(np.uint8)
    image[30, 38] = 255
    return image


def chambers(values: Sequence[int] = (1, 2, 3, 4)) -> NDArray[np.int8]:
    """(40, 48), signed as in the real files."""
    mask = np.zeros((ROWS, COLS), np.int8)
    for value in values:
        mask[PLACES[value]] = value
    return mask


def video(start: int = 60, frames: int = 5) -> NDArray[np.uint8]:
    """(frames, 40, 48): frame i has the grey start + i."""
    return np.stack([sector(start + index) for index in range(frames)])


def sparse(drawn: dict[int, NDArray[np.int8]], frames: int = 5) -> NDArray[np.int8]:
    """(frames, 40, 48): what is drawn in some frames, zero in the others."""
    return np.stack([drawn.get(index, np.zeros((ROWS, COLS), np.int8)) for index in range(frames)])


def write_pair(
    folder: Path,
    stem: str,
    image: NDArray[Any] | None = None,
    label: NDArray[np.int8] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    ending: str = ".nii.gz",
) -> None:
    """By default a video of five frames, of which 1 and 3 are drawn, with the dummy pixel size of the real files."""
    write_nifti(folder / f"{stem}_image{ending}", video() if image is None else image, spacing_mm)
    drawn = sparse({1: chambers(), 3: chambers()}) if label is None else label
    write_nifti(folder / f"{stem}_label{ending}", drawn, spacing_mm)
