"""EchoNet-Dynamic's way of tracing a left ventricle: a long axis, then chords across it from the apex to the base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError

from .polygon import Points

#: Rows of one tracing: the long axis and 20 chords.
BLOCK = 21
FEWEST_CHORDS = 8
#: Pixels; no frame is that large.
FARTHEST = 1e5

APEX = ("official", "capped")


@dataclass(frozen=True)
class Outline:
    """The outline of the LV in one frame: points (n, 2), x and y in pixels, and what was odd about the tracing.

    `irregular`: it did not have the 21 rows of a tracing, nor a multiple of them.
    """

    points: Points
    irregular: bool = False
    remarks: tuple[str, ...] = ()


def outline(rows: NDArray[np.float64], apex: str = "official") -> Outline:
    """The outline from the rows (n, 4) of one frame: x1, y1, x2, y2; row 1 is the long axis, the others are chords.

    `official` is the polygon of EchoNet-Dynamic's own code: the first ends of the chords in order, then the second ends
    in reverse; it cuts off what lies beyond the first chord. `capped` adds the apex, the end of the long axis. Of more
    than one tracing in a frame (42, 63, 84 rows) the first counts. Raises ConversionError where too little is left.
    """
    remarks = []
    irregular = len(rows) % BLOCK != 0
    if len(rows) < 3:
        raise ConversionError(f"its tracing has fewer than three points: {max(0, 2 * (len(rows) - 1))}")
    if irregular:
        remarks.append(f"its tracing has {len(rows)} rows, not {BLOCK}")
    if len(rows) > BLOCK:
        remarks.append(f"of its {len(rows)} rows the first {BLOCK} are taken as the tracing")
        rows = rows[:BLOCK]
    if len(rows) - 1 < FEWEST_CHORDS:
        raise ConversionError(f"its tracing has {len(rows) - 1} chords; expected 20, at least {FEWEST_CHORDS}")
    if np.abs(rows).max() > FARTHEST:
        raise ConversionError(f"its tracing has a coordinate of {np.abs(rows).max():g} pixels")
    axis, chords = rows[0], rows[1:]
    if not is_long_axis(axis, chords):
        remarks.append("row 1 of its tracing does not look like the long axis")
    points = np.concatenate([chords[:, :2], chords[::-1, 2:]])
    if apex == "capped":
        points = np.concatenate([points, _apex(axis, chords)[None]])
    return Outline(points, irregular, tuple(remarks))


def is_long_axis(axis: NDArray[np.float64], chords: NDArray[np.float64]) -> bool:
    """Whether a row runs across the chords (60 to 120 degrees) and is about as long (half to twice) as their spread."""
    middles = (chords[:, :2] + chords[:, 2:]) / 2
    spread = float(np.linalg.norm(middles[-1] - middles[0]))
    along = axis[2:] - axis[:2]
    across = (chords[:, 2:] - chords[:, :2]).sum(axis=0)
    lengths = float(np.linalg.norm(along)), float(np.linalg.norm(across))
    if min(*lengths, spread) == 0:
        return False
    return bool(abs(np.dot(along, across)) / (lengths[0] * lengths[1]) <= 0.5 and 0.5 <= lengths[0] / spread <= 2)


def _apex(axis: NDArray[np.float64], chords: NDArray[np.float64]) -> NDArray[np.float64]:
    """The end of the long axis that lies at the first chord: (2,)."""
    start = (chords[0, :2] + chords[0, 2:]) / 2
    ends = axis.reshape(2, 2)
    return ends[np.argmin(np.linalg.norm(ends - start, axis=1))]
