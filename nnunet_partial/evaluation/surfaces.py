"""The outline of a structure, and how far two outlines lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def surface_points(mask: Mask, spacing: Sequence[float]) -> Floats:
    """Centres of the voxels on the outline of `mask` (*S), in the unit of `spacing` (one number per axis): (n, axes).

    On the outline is a voxel of the structure with a face neighbour (4 in 2-D, 6 in 3-D) that is not of it. Beyond the
    border of the image nothing is of the structure: where the border cuts it, the cut is outline. So every structure
    has a closed outline, and one that ends a pixel before the border is a pixel away from one that ends at it. Without
    any voxel n is 0.
    """
    box = bounding_box(mask)
    if box is None:
        return np.zeros((0, mask.ndim))
    inside = mask[box]
    padded = np.pad(inside, 1)
    interior = inside.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):  # the neighbour before and the one after
            part = [slice(1, -1)] * mask.ndim
            part[axis] = slice(start, start + inside.shape[axis])
            interior &= padded[tuple(part)]
    corner = [side.start for side in box]
    points: Floats = (np.argwhere(inside & ~interior) + corner) * np.asarray(spacing, dtype=np.float64)
    return points


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box that holds all of `mask` (*S), one slice per axis; None where it is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def nearest(points: Floats, others: Floats) -> Floats:
    """Distance of each of `points` (n, axes) to the nearest of `others` (m, axes): (n,). Both must have points.

    Exact Euclidean distances by SciPy's k-d tree (https://doi.org/10.1038/s41592-019-0686-2).
    """
    from scipy.spatial import KDTree

    tree: Any = KDTree(others)
    distances: Floats = tree.query(points)[0]
    return distances
