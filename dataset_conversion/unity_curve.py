"""From the few points of an open outline to the pixels of a chamber: a smooth curve, closed by a straight line."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from . import polygon
from .polygon import Points

#: Neighbours share the line of the valve between them; sharing more of the smaller one than this is a contradiction.
SHARED = 0.1


def smooth(points: Points) -> Points:
    """The curve through control points (n, 2), n > 2, no two neighbours alike, in steps of at most a pixel: (m, 2).

    A natural cubic spline over the distance along the points, as in the authors' own code
    (https://github.com/UnityImaging/scantensus-echo, Scantensus/utils/heatmaps.py).
    """
    from scipy.interpolate import CubicSpline

    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    steps = np.linspace(0, along[-1], max(len(points), math.ceil(1.5 * along[-1])))
    curve: Points = CubicSpline(along, points, bc_type="natural")(steps)
    return curve


def chambers(curves: Mapping[str, Points], shape: tuple[int, int]) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    """The pixels of each chamber, none in two of them, and doubts; masks are bool of `shape` (rows, cols).

    The ends of a curve (the hinges of the valve) are joined by a straight line. A pixel of two chambers, on the valve
    between them, goes to the first. A chamber without a pixel, and two that share more than a border, are left out
    and named in the doubts.
    """
    drawn = {name: polygon.filled(smooth(points), shape) for name, points in curves.items()}
    doubts = [
        f"the outline of {name} encloses no pixel; it counts as unknown" for name in drawn if not drawn[name].any()
    ]
    drawn = {name: mask for name, mask in drawn.items() if mask.any()}
    contradicting = {
        name
        for name, mask in drawn.items()
        for other, theirs in drawn.items()
        if other != name and (mask & theirs).sum() > SHARED * min(mask.sum(), theirs.sum())
    }
    if contradicting:
        doubts.append(f"the outlines of {', '.join(sorted(contradicting))} overlap; they count as unknown")
    taken = np.zeros(shape, bool)
    found = {}
    for name, mask in drawn.items():
        if name not in contradicting:
            found[name] = mask & ~taken
            taken |= mask
    return found, doubts
