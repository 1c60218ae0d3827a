"""The long axis of a ventricle, found from its outline, and its diameters across that axis (method of discs).

Points are (row, col) times the spacing, in mm, or in pixels where the pixel size is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.utils.masks import Floats, Mask, surface_points

#: Number of discs (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003).
DISCS = 20
#: Below this ratio of the spread along and across, no direction is the long one.
ELONGATED = 1.05
#: With LV alone, up to each of these ratios: by what part of the area its mirror images about the longer axis must
#: overlap more than those about the shorter one (less than 0: may overlap less). From the last on the longer axis is
#: the long one: no ventricle is 1.7 times as wide as it is long.
NEEDED = ((1.2, 0.02), (1.4, -0.02), (1.7, -0.04))
#: An axis of symmetry is sought this far from each of the two (degrees): a slanting base turns them.
TURNS = range(-20, 21, 5)
#: From this difference of the overlaps on, the shape shows which of the two axes is the long one.
SHOWN = 0.02
#: An axis runs from base to apex where the cosine of its angle with that direction is larger (60 degrees).
UPRIGHT = 0.5
#: What is this near to the largest distance from the base, as a part of it, is the apex.
APEX = 0.02


class NotMeasurableError(ValueError):
    """Why there is no value, worded to follow the name of the structure: 'is empty'."""


@dataclass(frozen=True)
class Axis:
    """From the middle of the base (mitral annulus) to the apex; both (2,).

    `assumed`: that it is the long axis, and not the one across it, is not seen in the shape.
    """

    base: Floats
    apex: Floats
    assumed: bool = False

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

    It begins as the principal axis of the pixels. The base is the end towards which `downwards` points; without it, the
    blunter end (the area tapers towards the other: third moment). The two corners of the base are the outline's points
    farthest towards the base and to the left, and towards the base and to the right (45 degrees). The axis runs from
    the middle between them to the most distant part of the outline, the apex, as ASE and EACVI define the length (Lang
    et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003: from the bisector of the mitral line to the apical point
    most distant to it); a few rounds make the corners those of this axis. It ends where it leaves the structure.

    Where the ventricle is about as wide as it is long, or wider, its flanks may be more distant than the apex. Then the
    axis is the line through the center of the area, within 20 degrees of `downwards`, about which the ventricle is most
    nearly its own mirror image.

    Without `downwards` the principal axis of a ventricle wider than long would lie across it. The shape tells: it is
    nearly its own mirror image about the long axis, and is not about the other one, which has the base on one side and
    the apex on the other.

    Args:
        region: The ventricle.
        downwards: From apex to base (2,), of any length above 0; None where nothing tells it.

    Returns:
        The axis. `assumed` is true where the shape does not show that it is the long one (a closed ellipse does not),
        and the longer one was taken.

    Raises:
        NotMeasurableError: `downwards` is missing, and the structure is about as wide as it is long or its mirror
            images show that it is wider; or nothing far from the base is an apex.
    """
    start = _start(region, downwards)
    points, along = region.outline, start.along
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
        apex = points[distance >= (1 - APEX) * distance.max()].mean(axis=0)
        length = float(np.hypot(*(apex - base)))
        if length < distance.max() / 2:
            raise NotMeasurableError("is much wider than it is long")
        along = (apex - base) / length
    return Axis(*region.ends(base, along), start.assumed)


@dataclass(frozen=True)
class _Start:
    """Where the search for the long axis begins: `along` (2,), a unit vector from base to apex, `through` (2,).

    `wide`: the ventricle is about as wide as it is long, or wider. `assumed`: as in `Axis`.
    """

    through: Floats
    along: Floats
    wide: bool = False
    assumed: bool = False


def _start(region: Region, downwards: Floats | None) -> _Start:
    """Finds the principal axis of the pixels, and which way along it the apex lies; see `long_axis`."""
    middle, covariance = moments(region.soft, region.spacing)
    spread, directions = np.linalg.eigh(covariance)
    along = directions[:, 1]
    ratio = float(np.sqrt(spread[1] / spread[0]))
    if downwards is not None and downwards.any():
        upwards = -downwards / np.hypot(*downwards)
        tilt = float(upwards @ along)
        if ratio >= ELONGATED and abs(tilt) > UPRIGHT:
            return _Start(middle, np.copysign(1.0, tilt) * along)
        return _Start(middle, _mirror(region, middle, upwards)[1], wide=True)
    assumed = False
    for up_to, needed in NEEDED:
        if ratio < up_to:
            shown = _mirror(region, middle, along)[0] - _mirror(region, middle, directions[:, 0])[0]
            if ratio < ELONGATED or shown < needed:
                raise NotMeasurableError(
                    "is about as wide as it is long, or wider: without LA or MYO its long axis cannot be told"
                )
            assumed = shown < SHOWN
            break
    reach = (region.outline - middle) @ along
    widths = discs(region, Axis(middle + reach.min() * along, middle + reach.max() * along)).diameters
    share = np.array(widths) / sum(widths)
    levels = np.arange(DISCS) - share @ np.arange(DISCS)
    return _Start(middle, along if share @ levels**3 >= 0 else -along, assumed=assumed)


def _mirror(region: Region, middle: Floats, along: Floats) -> tuple[float, Floats]:
    """Finds the line through `middle` (2,) about which the structure is most nearly its own mirror image.

    Returns:
        How much of the structure the image covers, from 0 to 1, and the direction (2,), within 20 degrees of `along`.
    """
    points = np.argwhere(region.mask) * np.asarray(region.spacing) - middle
    found = []
    for turn in np.radians(TURNS):
        line = np.cos(turn) * along + np.sin(turn) * np.array([-along[1], along[0]])
        mirrored = 2 * (points @ line)[:, None] * line - points
        found.append((float(region.covered(middle + mirrored).mean()), line))
    return max(found, key=lambda one: one[0])


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
