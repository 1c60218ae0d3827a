"""From an outline to the pixels inside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def fill_polygon(points: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels inside a polygon: bool of `shape` (rows, cols). Points are (n, 2): x, y in pixels.

    Points are rounded to whole pixels and may lie outside; the result, not the points, is clipped to the frame. So does
    EchoNet-Dynamic's own code (https://github.com/echonet/dynamic, echonet/datasets/echo.py).
    """
    from skimage.draw import polygon

    corners = np.rint(points).astype(int)
    inside = polygon(corners[:, 1], corners[:, 0], shape)  # type: ignore[no-untyped-call]
    mask = np.zeros(shape, dtype=bool)
    mask[inside] = True
    return mask


def polygon_area(points: Points) -> float:
    """The area inside a polygon that does not cross itself, in square pixels; points (n, 2), fewer than 3 give 0."""
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
