"""Describe binary masks: their scale, surface points, bounding box and nearest distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scale:
    """What one voxel measures. `spacing`: one number per array axis, in `distance_unit`; a voxel has `voxel_size`
    `size_unit`. Where the pixel size is not known, both are counted in pixels (2-D) or voxels (3-D)."""

    spacing: tuple[float, ...]
    distance_unit: str
    voxel_size: float
    size_unit: str

    @property
    def known(self) -> bool:
        """Whether it measures, and does not count."""
        return self.distance_unit == "mm"

    @classmethod
    def of(cls, spacing_mm: Sequence[float], known: bool = True) -> Scale:
        """From the spacing along each axis in mm. 2-D: areas in cm2; 3-D: volumes in mL; not known: counts."""
        flat = len(spacing_mm) < 3
        if not known:
            unit = "pixels" if flat else "voxels"
            return cls((1.0,) * len(spacing_mm), unit, 1.0, unit)
        spacing = tuple(float(step) for step in spacing_mm)
        return cls(spacing, "mm", math.prod(spacing) / (100.0 if flat else 1000.0), "cm2" if flat else "mL")


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
