"""The long axis of a ventricle, found from its outline, and its diameters across that axis (method of discs).

Points are (row, col) times the spacing, in mm, or in pixels where the pixel size is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.evaluation.surfaces import Floats, Mask, surface_points

#: Number of discs (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003).
DISCS = 20
#: Below this ratio of the spread along and across, no direction is the long one.
ELONGATED = 1.05
#: An axis runs from base to apex where the cosine of its angle with that direction is larger (60 degrees).
UPRIGHT = 0.5
#: What is this near to the largest distance from the base, as a part of it, is the apex.
APEX = 0.02


class NotMeasurableError(ValueError):
    """Why there is no value, worded to follow the name of the structure: 'is empty'."""


@dataclass(frozen=True)
class Axis:
    """From the middle of the base (mitral annulus) to the apex; both (2,)."""

    base: Floats
    apex: Floats

    @property
    def length(self) -> float:
        return float(np.hypot(*(self.apex - self.base)))

    @property
    def along(self) -> Floats:
        """Unit vector from base to apex."""
        return (self.apex - self.base) / self.length

    @property
    def across(self) -> Floats:
        return np.array([-self.along[1], self.along[0]])


@dataclass(frozen=True)
class Discs:
    """`length` of the axis and `diameters` of the discs of equal height along it, from base to apex."""

    length: float
    diameters: tuple[float, ...]


@dataclass(frozen=True)
class Region:
    """One structure, `mask` (rows, cols) without holes and off the border; `spacing` of rows and cols."""

    mask: Mask
    spacing: tuple[float, float]

    @cached_property
    def outline(self) -> Floats:
        """Centres of the outline's pixels (n, 2)."""
        return surface_points(self.mask, self.spacing)

    @cached_property
    def soft(self) -> NDArray[np.float32]:
        return self.mask.astype(np.float32)

    @property
    def fine(self) -> float:
        """A step that misses no pixel."""
        return 0.5 * min(self.spacing)

    def covered(self, points: Floats) -> Any:
        """How much each of `points` (..., 2) lies inside, from 0 to 1: interpolated between pixel centres."""
        from scipy.ndimage import map_coordinates

        return map_coordinates(self.soft, np.moveaxis(points / np.asarray(self.spacing), -1, 0), order=1)

    def ends(self, point: Floats, along: Floats) -> tuple[Floats, Floats]:
        """Where the line through `point` enters and leaves the structure. Raises NotMeasurableError if it misses."""
        reach = (self.outline - point) @ along
        steps = np.arange(reach.min() - self.fine * 4, reach.max() + self.fine * 4, self.fine / 5)
        inside = steps[self.covered(point + steps[:, None] * along) >= 0.5]
        if not len(inside):
            raise NotMeasurableError("is so bent that its long axis does not run inside it")
        return point + inside[0] * along, point + inside[-1] * along


def long_axis(region: Region, downwards: Floats | None = None) -> Axis:
    """The long axis of a left ventricle in an apical view, at any tilt.

    It begins as the principal axis of the pixels. The base is the end towards which `downwards` (2,) points; without
    it, the blunter end (the area tapers towards the other: third moment). Where the ventricle is as wide as it is long,
    or wider, `downwards` itself is the beginning. The two corners of the base are the outline's points farthest towards
    the base and to the left, and towards the base and to the right (45 degrees). The axis runs from the middle between
    them to the most distant part of the outline, the apex, as ASE and EACVI define the length (Lang et al. 2015,
    https://doi.org/10.1016/j.echo.2014.10.003: from the bisector of the mitral line to the apical point most distant to
    it); a few rounds make the corners those of this axis. It ends where it leaves the structure.

    Raises NotMeasurableError where the structure is about as wide as it is long and `downwards` is missing, and where
    nothing far from the base is an apex.
    """
    points, along = region.outline, _towards_apex(region, downwards)
    base = points.mean(axis=0)
    for _ in range(4):
        across = np.array([-along[1], along[0]])
        down, side = -(points @ along), points @ across
        base = (points[np.argmax(down + side)] + points[np.argmax(down - side)]) / 2
        distance = np.hypot(*(points - base).T)
        apex = points[distance >= (1 - APEX) * distance.max()].mean(axis=0)
        length = float(np.hypot(*(apex - base)))
        if length < distance.max() / 2:
            raise NotMeasurableError("is much wider than it is long")
        along = (apex - base) / length
    return Axis(*region.ends(base, along))


def _towards_apex(region: Region, downwards: Floats | None) -> Floats:
    """The principal axis of the pixels, a unit vector; see `long_axis`."""
    middle, covariance = moments(region.soft, region.spacing)
    spread, directions = np.linalg.eigh(covariance)
    along = directions[:, 1]
    elongated = spread[1] >= ELONGATED**2 * spread[0]
    if downwards is not None and downwards.any():
        upwards = -downwards / np.hypot(*downwards)
        tilt = float(upwards @ along)
        return np.copysign(1.0, tilt) * along if elongated and abs(tilt) > UPRIGHT else upwards
    if not elongated:
        raise NotMeasurableError("is about as wide as it is long: its long axis cannot be told")
    reach = (region.outline - middle) @ along
    widths = discs(region, Axis(middle + reach.min() * along, middle + reach.max() * along)).diameters
    share = np.array(widths) / sum(widths)
    levels = np.arange(DISCS) - share @ np.arange(DISCS)
    return along if share @ levels**3 >= 0 else -along


def moments(mask: NDArray[Any], spacing: tuple[float, float]) -> tuple[Floats, Floats]:
    """Centre (2,) and covariance (2, 2) of a structure's area; `mask` (rows, cols) of bool or 0 and 1, not empty."""
    weights = mask.astype(np.float64)
    rows, cols = (np.arange(length) * step for length, step in zip(mask.shape, spacing, strict=True))
    by_row, by_col, total = weights.sum(axis=1), weights.sum(axis=0), weights.sum()
    middle = np.array([by_row @ rows, by_col @ cols]) / total
    r, c = rows - middle[0], cols - middle[1]
    both = r @ weights @ c
    second = np.array([[by_row @ r**2, both], [both, by_col @ c**2]]) / total
    return middle, second + np.diag(np.square(spacing)) / 12  # 1 / 12: the spread inside a pixel


def discs(region: Region, axis: Axis) -> Discs:
    """Diameters (DISCS,) of the structure across `axis`, each in the middle of its disc, from the base.

    A diameter is the length of that line inside the structure, interpolated between pixels.
    """
    reach = float(np.abs((region.outline - axis.base) @ axis.across).max()) + 4 * region.fine
    sideways = np.arange(-reach, reach + region.fine, region.fine)
    levels = (np.arange(DISCS) + 0.5) / DISCS * axis.length
    centres = axis.base + levels[:, None] * axis.along  # (DISCS, 2)
    lines = centres[:, None, :] + sideways[:, None] * axis.across  # (DISCS, n, 2)
    return Discs(axis.length, tuple((region.covered(lines).sum(axis=1) * region.fine).tolist()))
