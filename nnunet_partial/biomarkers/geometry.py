"""Find the long axis of a ventricle from its contour, and its diameters across that axis (method of discs).

Points are (row, column) times the spacing, in mm, or in pixels where the spacing is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.utils.masks import Floats, Mask, surface_points

#: Number of discs (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003).
N_DISCS = 20
#: Below this ratio of the spread along and across, neither direction is the long one.
MIN_ELONGATION = 1.05
#: With LV alone, pairs of a ratio of the spreads and the fraction of the area by which, up to that ratio, the mirror
#: image about the longer axis must overlap more than that about the shorter one (below 0: may overlap less). From the
#: last ratio on the longer axis is the long one: no ventricle is 1.7 times as wide as it is long.
MIN_SYMMETRY_GAIN = ((1.2, 0.02), (1.4, -0.02), (1.7, -0.04))
#: Turns, in degrees, at which an axis of symmetry is searched about each of the two: a slanting base turns them.
TURNS_DEG = range(-20, 21, 5)
#: From this difference of the overlaps on, the shape shows which of the two axes is the long one.
CLEAR_SYMMETRY_GAIN = 0.02
#: An axis runs from base to apex where the cosine of its angle with that direction is larger (60 degrees).
MIN_AXIS_COSINE = 0.5
#: The apex: points whose distance from the base is within this fraction of the largest distance.
APEX_FRACTION = 0.02


class NotMeasurableError(ValueError):
    """Say why there is no value, worded to follow the name of the structure: 'is empty'."""


@dataclass(frozen=True)
class Axis:
    """Describe an axis from the middle of the base (mitral annulus) to the apex; both points (2,).

    `assumed`: the shape does not show that it is the long axis, and not the one across it.
    """

    base: Floats
    apex: Floats
    assumed: bool = False

    @property
    def length(self) -> float:
        """Distance from base to apex."""
        return float(np.hypot(*(self.apex - self.base)))

    @property
    def along(self) -> Floats:
        """Unit vector (2,) from base to apex."""
        return (self.apex - self.base) / self.length

    @property
    def across(self) -> Floats:
        """Unit vector (2,) at right angles to the axis."""
        return np.array([-self.along[1], self.along[0]])


@dataclass(frozen=True)
class Discs:
    """Hold the `length` of the axis and the `diameters` of discs of equal height along it, from base to apex."""

    length: float
    diameters: tuple[float, ...]


@dataclass(frozen=True)
class Region:
    """Hold one structure.

    `mask` (rows, columns): without holes, not touching the border. `spacing`: of rows and columns.
    """

    mask: Mask
    spacing: tuple[float, float]

    @cached_property
    def contour(self) -> Floats:
        """Centers (n, 2) of the pixels on the contour."""
        return surface_points(self.mask, self.spacing)

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """The mask as numbers, for interpolation."""
        return self.mask.astype(np.float32)

    @property
    def step(self) -> float:
        """Half a pixel, so that no pixel is missed."""
        return 0.5 * min(self.spacing)

    def coverage(self, points: Floats) -> Any:
        """Compute how much each point lies inside the structure, interpolated between pixel centers.

        Args:
            points: (..., 2).

        Returns:
            From 0 to 1, (...).
        """
        from scipy.ndimage import map_coordinates

        return map_coordinates(self.weights, np.moveaxis(points / np.asarray(self.spacing), -1, 0), order=1)

    def ends(self, point: Floats, along: Floats) -> tuple[Floats, Floats]:
        """Find where a line enters and leaves the structure.

        Args:
            point: On the line (2,).
            along: Its direction, a unit vector (2,).

        Returns:
            The first and the last point inside, both (2,).

        Raises:
            NotMeasurableError: The line misses the structure.
        """
        reach = (self.contour - point) @ along
        steps = np.arange(reach.min() - self.step * 4, reach.max() + self.step * 4, self.step / 5)
        inside = steps[self.coverage(point + steps[:, None] * along) >= 0.5]
        if not len(inside):
            raise NotMeasurableError("is too curved: its long axis leaves the mask")
        return point + inside[0] * along, point + inside[-1] * along


def long_axis(region: Region, downwards: Floats | None = None) -> Axis:
    """Find the long axis of a left ventricle in an apical view, at any tilt.

    The search begins with the principal axis of the pixels. The base is the end towards which `downwards` points;
    without it, the blunter end (the area tapers towards the other: third moment). The two corners of the base are the
    points of the contour farthest towards the base and to the left, and towards the base and to the right (45 degrees).
    The axis runs from the middle between them to the most distant part of the contour, the apex, as ASE and EACVI
    define the length (Lang et al. 2015: from the bisector of the mitral line to the apical point most distant to it); a
    few rounds make the corners those of this axis. It ends where it leaves the structure.

    Where the ventricle is about as wide as it is long, or wider, its flanks may be more distant than the apex. Then the
    axis is the line through the center of the area, within 20 degrees of `downwards`, about which the ventricle is most
    nearly its own mirror image.

    Without `downwards` the principal axis of a ventricle wider than long would lie across it. The shape tells: it is
    nearly its own mirror image about the long axis, and is not about the other one, which has the base on one side and
    the apex on the other.

    Args:
        region: The ventricle.
        downwards: From apex to base (2,), of any length above 0; None where it is not known.

    Returns:
        The axis. `assumed` is true where the shape does not show that it is the long one (a closed ellipse does not),
        and the longer one was taken.

    Raises:
        NotMeasurableError: `downwards` is missing, and the structure is about as wide as it is long or its mirror
            images show that it is wider; or no point far from the base is an apex; or the axis misses the structure.

    References:
        Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003
    """
    start = _start(region, downwards)
    points, along = region.contour, start.along
    if start.wide:
        base, apex = region.ends(start.through, along)
        if np.hypot(*(apex - base)) < np.hypot(*(points - base).T).max() / 2:
            raise NotMeasurableError("is much wider than it is long")
        return Axis(base, apex)
    base = points.mean(axis=0)
    for _ in range(4):
        across = np.array([-along[1], along[0]])
        down, side = -(points @ along), points @ across
        base = (points[np.argmax(down + side)] + points[np.argmax(down - side)]) / 2
        distance = np.hypot(*(points - base).T)
        apex = points[distance >= (1 - APEX_FRACTION) * distance.max()].mean(axis=0)
        length = float(np.hypot(*(apex - base)))
        if length < distance.max() / 2:
            raise NotMeasurableError("is much wider than it is long")
        along = (apex - base) / length
    return Axis(*region.ends(base, along), start.assumed)


@dataclass(frozen=True)
class _Start:
    """Hold where the search for the long axis begins: `through` (2,) and `along` (2,), a unit vector from base to apex.

    `wide`: the ventricle is about as wide as it is long, or wider. `assumed`: as in `Axis`.
    """

    through: Floats
    along: Floats
    wide: bool = False
    assumed: bool = False


def _start(region: Region, downwards: Floats | None) -> _Start:
    """Return the principal axis of the pixels, directed towards the apex; see `long_axis`.

    Raises:
        NotMeasurableError: As `long_axis`.
    """
    center, covariance = moments(region.weights, region.spacing)
    spread, directions = np.linalg.eigh(covariance)
    along = directions[:, 1]
    ratio = float(np.sqrt(spread[1] / spread[0]))
    if downwards is not None and downwards.any():
        upwards = -downwards / np.hypot(*downwards)
        tilt = float(upwards @ along)
        if ratio >= MIN_ELONGATION and abs(tilt) > MIN_AXIS_COSINE:
            return _Start(center, np.copysign(1.0, tilt) * along)
        return _Start(center, _symmetry_axis(region, center, upwards)[1], wide=True)
    assumed = False
    for max_ratio, min_gain in MIN_SYMMETRY_GAIN:
        if ratio < max_ratio:
            gain = _symmetry_axis(region, center, along)[0] - _symmetry_axis(region, center, directions[:, 0])[0]
            if ratio < MIN_ELONGATION or gain < min_gain:
                raise NotMeasurableError(
                    "is about as wide as it is long, or wider: without LA or MYO its long axis cannot be told"
                )
            assumed = gain < CLEAR_SYMMETRY_GAIN
            break
    reach = (region.contour - center) @ along
    widths = discs(region, Axis(center + reach.min() * along, center + reach.max() * along)).diameters
    share = np.array(widths) / sum(widths)
    levels = np.arange(N_DISCS) - share @ np.arange(N_DISCS)
    return _Start(center, along if share @ levels**3 >= 0 else -along, assumed=assumed)


def _symmetry_axis(region: Region, center: Floats, along: Floats) -> tuple[float, Floats]:
    """Return the overlap with its mirror image, from 0 to 1, and the line (2,) about which it is largest.

    The line goes through `center` (2,), within 20 degrees of `along`.
    """
    points = np.argwhere(region.mask) * np.asarray(region.spacing) - center
    candidates = []
    for turn in np.radians(TURNS_DEG):
        line = np.cos(turn) * along + np.sin(turn) * np.array([-along[1], along[0]])
        mirrored = 2 * (points @ line)[:, None] * line - points
        candidates.append((float(region.coverage(center + mirrored).mean()), line))
    return max(candidates, key=lambda candidate: candidate[0])


def moments(mask: NDArray[Any], spacing: tuple[float, float]) -> tuple[Floats, Floats]:
    """Compute the moments of the area of a structure.

    Args:
        mask: (rows, columns) of bool, or of 0 and 1; not empty.
        spacing: Of rows and columns.

    Returns:
        Center (2,) and covariance (2, 2).
    """
    weights = mask.astype(np.float64)
    rows, cols = (np.arange(length) * step for length, step in zip(mask.shape, spacing, strict=True))
    by_row, by_col, total = weights.sum(axis=1), weights.sum(axis=0), weights.sum()
    center = np.array([by_row @ rows, by_col @ cols]) / total
    r, c = rows - center[0], cols - center[1]
    both = r @ weights @ c
    second = np.array([[by_row @ r**2, both], [both, by_col @ c**2]]) / total
    return center, second + np.diag(np.square(spacing)) / 12  # 1 / 12: the spread inside a pixel


def discs(region: Region, axis: Axis) -> Discs:
    """Measure the diameters of a structure across an axis.

    A diameter is the length of the line across the axis in the middle of a disc that lies inside the structure,
    interpolated between pixels.

    Args:
        region: The structure.
        axis: From base to apex.

    Returns:
        N_DISCS discs of equal height, from the base.
    """
    reach = float(np.abs((region.contour - axis.base) @ axis.across).max()) + 4 * region.step
    sideways = np.arange(-reach, reach + region.step, region.step)
    levels = (np.arange(N_DISCS) + 0.5) / N_DISCS * axis.length
    centers = axis.base + levels[:, None] * axis.along  # (N_DISCS, 2)
    lines = centers[:, None, :] + sideways[:, None] * axis.across  # (N_DISCS, n, 2)
    return Discs(axis.length, tuple((region.coverage(lines).sum(axis=1) * region.step).tolist()))
