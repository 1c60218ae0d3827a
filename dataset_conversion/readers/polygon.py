"""Fill a contour, compute its area, and check whether it crosses itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def fill_polygon(points: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill a polygon.

    Vertices are rounded to integers and may lie outside; the result, not the vertices, is clipped to the image.
    EchoNet-Dynamic's own code does the same.

    Args:
        points: Vertices of shape (n, 2): x, y in pixels.
        shape: Rows and columns of the image.

    Returns:
        Boolean mask of `shape`.

    References:
        https://github.com/echonet/dynamic, echonet/datasets/echo.py
    """
    from skimage.draw import polygon

    corners = np.rint(points).astype(int)
    inside = polygon(corners[:, 1], corners[:, 0], shape)  # type: ignore[no-untyped-call]
    mask = np.zeros(shape, dtype=bool)
    mask[inside] = True
    return mask


def crosses_itself(points: Points) -> bool:
    """Check whether two sides of a polygon cross, so that a part of what it encloses is not filled.

    Args:
        points: Vertices of shape (n, 2): x, y in pixels.

    Returns:
        Whether they do; False where they only touch.
    """
    start, end = points[:, None], np.roll(points, -1, axis=0)[:, None]
    side = np.sign([_turn(start, end, corner) for corner in (start[:, 0], end[:, 0])])  # of line i, vertex j
    parted = side[0] * side[1] < 0
    return bool((parted & parted.T).any())


def _turn(start: Points, end: Points, corner: Points) -> Points:
    """Return above 0 where the corner lies on one side of a line, below 0 on the other, 0 on it."""
    along, to_corner = end - start, corner - start
    return np.asarray(along[..., 0] * to_corner[..., 1] - along[..., 1] * to_corner[..., 0])


def polygon_area(points: Points) -> float:
    """Compute the area of a polygon that does not cross itself.

    Args:
        points: Vertices of shape (n, 2): x, y in pixels.

    Returns:
        Area in square pixels; 0 for fewer than 3 vertices.
    """
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
