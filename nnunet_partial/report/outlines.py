"""Lines along the inner side of a structure's border: where two structures touch, both lines are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HATCH = "/////"
RIM = 0.7  # points of black, half of them on either side of a line, so that it shows on white and on black


@dataclass(frozen=True)
class Line:
    """How a structure is drawn. `width` in points; `point`: the height of a point in rows of the picture; `aspect`:
    height of a pixel / its width."""

    colour: str
    width: float
    point: float
    aspect: float


def outline(axes: Axes, mask: NDArray[np.bool_], line: Line, stroke: str) -> None:
    """Draws the line (`stroke`: "solid", "dashed") wholly inside the mask (rows, cols), its edge on the mask's border.

    An empty mask has none.
    """
    from matplotlib.patheffects import Normal, Stroke

    if mask.any():
        cols, rows, cut = _cut_out(mask)
        inner = depth_beyond(cut, (line.width + RIM) / 2 * line.point, line.aspect)
        look: dict[str, Any] = {"colors": [line.colour], "linewidths": line.width, "linestyles": stroke}
        lines = axes.contour(cols, rows, inner, levels=[0], **look)
        lines.set_path_effects([Stroke(linewidth=line.width + RIM, foreground="black"), Normal()])


def hatch(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    """Hatches the mask (rows, cols)."""
    if mask.any():
        cols, rows, cut = _cut_out(mask)
        area = axes.contourf(cols, rows, cut.astype(np.float64), levels=[0.5, 1.5], colors="none", hatches=[HATCH])
        area.set_edgecolor(colour)
        area.set_linewidth(0)


def depth_beyond(mask: NDArray[np.bool_], inset: float, aspect: float = 1.0) -> NDArray[np.float64]:
    """How much deeper than `inset` each pixel's centre lies inside the mask's border, below 0 nearer to it or outside.

    Lengths are in rows, the mask (rows, cols) has a rim that is False. In a part that is too thin for the inset, the
    line of 0 lies half way to its middle, so that no part is lost.
    """
    from scipy import ndimage

    pixel = (1.0, 1.0 / aspect)  # in rows
    half = min(pixel) / 2  # from the border to the first centres
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(mask, pixel) - half
    outside = ndimage.distance_transform_edt(~mask, pixel) - half
    parts, count = ndimage.label(mask)
    deepest = ndimage.maximum(depth, parts, np.arange(count + 1))
    return np.where(mask, depth - np.minimum(inset, deepest / 2)[parts], -outside - inset)


def _cut_out(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Columns, rows and what lies there of a mask that is not empty: all of it with a rim that is False, also where
    the picture ends."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    cut = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return np.arange(cols[0] - 1, cols[-1] + 2), np.arange(rows[0] - 1, rows[-1] + 2), np.pad(cut, 1)
