"""Describe binary masks: their scale, surface points, bounding box and nearest distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Hold the physical size of a voxel. Without known spacing, sizes are counted in pixels (2-D) or voxels (3-D).

    Attributes:
        spacing: One number per array axis, in `distance_unit`.
        distance_unit: mm, pixels or voxels.
        voxel_size: Area or volume of a voxel, in `size_unit`.
        size_unit: cm2, mL, pixels or voxels.
    """

    spacing: tuple[float, ...]
    distance_unit: str
    voxel_size: float
    size_unit: str

    @property
    def known(self) -> bool:
        """Return whether the spacing is known."""
        return self.distance_unit == "mm"

    @classmethod
    def from_spacing(cls, spacing_mm: Sequence[float], known: bool = True) -> Scale:
        """Build the scale of an image.

        Args:
            spacing_mm: Spacing along each array axis, in mm.
            known: Whether the spacing is known.

        Returns:
            The scale: areas in cm2 (2-D) or volumes in mL (3-D); counts where the spacing is not known.
        """
        flat = len(spacing_mm) < 3
        if not known:
            unit = "pixels" if flat else "voxels"
            return cls((1.0,) * len(spacing_mm), unit, 1.0, unit)
        spacing = tuple(float(step) for step in spacing_mm)
        return cls(spacing, "mm", math.prod(spacing) / (100.0 if flat else 1000.0), "cm2" if flat else "mL")


def surface_points(mask: Mask, spacing: Sequence[float]) -> Floats:
    """Find the centers of the voxels on the surface of a mask.

    A voxel of the structure is on its surface where a face neighbor (4 in 2-D, 6 in 3-D) is not part of the structure.
    Nothing beyond the border of the image is part of it: where the border cuts the structure, the cut is surface. So
    every structure has a closed surface, and one that ends a pixel before the border is a pixel away from one that ends
    at it.

    Args:
        mask: Mask of shape (*S).
        spacing: One number per axis.

    Returns:
        Points of shape (n, axes), in the unit of `spacing`; n is 0 for an empty mask.
    """
    box = bounding_box(mask)
    if box is None:
        return np.zeros((0, mask.ndim))
    inside = mask[box]
    framed = padded(inside, 1)
    interior = inside.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):  # the neighbor before and the one after
            part = [slice(1, -1)] * mask.ndim
            part[axis] = slice(start, start + inside.shape[axis])
            interior &= framed[tuple(part)]
    corner = [side.start for side in box]
    points: Floats = (np.argwhere(inside & ~interior) + corner) * np.asarray(spacing, dtype=np.float64)
    return points


def padded(mask: Mask, width: int) -> Mask:
    """Put background around a mask: `np.pad` takes ten times as long for a small one.

    Args:
        mask: Mask of shape (*S).
        width: Voxels on each side, above 0.

    Returns:
        A larger mask, by twice the width along each axis.
    """
    framed = np.zeros([size + 2 * width for size in mask.shape], mask.dtype)
    framed[(slice(width, -width),) * mask.ndim] = mask
    return framed


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """Find the smallest box that holds a mask.

    Args:
        mask: Mask of shape (*S).

    Returns:
        One slice per axis; None where the mask is empty.
    """
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def nearest(points: Floats, others: Floats) -> Floats:
    """Compute the exact Euclidean distance of each point to the nearest of other points, by SciPy's k-d tree.

    The tree splits just above a coordinate. Above 0 that is a denormal number, and SciPy crashes where the processor
    takes those for 0, as it does after PyTorch has compiled for the CPU. So all points are moved by 1.

    Args:
        points: Points of shape (n, axes), coordinates not below 0; at least one.
        others: Points of shape (m, axes), coordinates not below 0; at least one.

    Returns:
        Distances of shape (n,).

    References:
        https://doi.org/10.1038/s41592-019-0686-2
    """
    from scipy.spatial import KDTree

    tree: Any = KDTree(others + 1.0)
    distances: Floats = tree.query(points + 1.0)[0]
    return distances
