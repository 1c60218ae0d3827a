"""The drawn heart: where its chambers and walls lie in an apical view, at any moment of the beat.

Nothing here comes from a patient. All lengths are fractions of the image depth: the top row is 0, the bottom row 1,
x runs to the right from the middle column. The apex of the heart is at the top, the atria at the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nnunet_partial.errors import PartialLabelError

View = Literal["2CH", "4CH"]
Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Line = tuple[tuple[float, float], tuple[float, float]]

WIDEST = 0.6  # where on the long axis the ventricle is widest (0 apex, 1 valve)
THIN_WALL = 0.016  # thickness of the wall of an atrium


@dataclass(frozen=True)
class HeartModel:
    """The anatomy of one patient: lengths in fractions of the image depth, at end-diastole."""

    x: float  # of the apex, 0 is the middle column
    apex_depth: float  # of the tip of the cavity
    length: float  # of the left ventricular cavity, apex to valve
    half_width: float  # of the cavity, where it is widest
    tilt_deg: float  # of the long axis; positive turns the valve to the right
    bend: float  # sideways bow of the long axis
    wall: float  # thickness of the muscle
    atrium_length: float
    atrium_half_width: float
    shortening: float  # fraction of the length lost at end-systole
    narrowing: float  # fraction of the width lost at end-systole

    @classmethod
    def random(cls, rng: np.random.Generator) -> HeartModel:
        """Another patient: ejection fractions from about 30 % to 65 %, small and large, thin and thick."""
        half_width = rng.uniform(0.105, 0.155)
        return cls(
            x=rng.uniform(-0.02, 0.02),
            apex_depth=rng.uniform(0.155, 0.19),
            length=rng.uniform(0.37, 0.45),
            half_width=half_width,
            tilt_deg=rng.uniform(-9.0, 9.0),
            bend=rng.uniform(-0.02, 0.02),
            wall=rng.uniform(0.038, 0.058),
            atrium_length=rng.uniform(0.20, 0.27),
            atrium_half_width=half_width * rng.uniform(0.75, 1.1),
            shortening=rng.uniform(0.06, 0.18),
            narrowing=rng.uniform(0.12, 0.36),
        )


def long_axis(anatomy: HeartModel, view: View, contraction: float, shape: tuple[int, int]) -> Line:
    """Apex and middle of the valve plane of the LV, as (x, y) in pixels, counted from the first pixel's centre."""
    apex, along = _axis(anatomy, view)
    base = apex + _now(anatomy, contraction).length * along
    return _to_pixels(apex, shape), _to_pixels(base, shape)


def _to_pixels(point: Floats, shape: tuple[int, int]) -> tuple[float, float]:
    """(x, y) in fractions of the depth to (x, y) in pixels: the inverse of `pixel_grid`."""
    rows, cols = shape
    return float(point[0] * rows + cols / 2 - 0.5), float(point[1] * rows - 0.5)


def pixel_grid(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """x (1, cols) and y (rows, 1) of the pixel centres, in fractions of the depth."""
    rows, cols = shape
    return (np.arange(cols)[None, :] + 0.5 - cols / 2) / rows, (np.arange(rows)[:, None] + 0.5) / rows


def _axis(heart: HeartModel, view: View) -> tuple[Floats, Floats]:
    """Apex and unit direction of the long axis; in the 4CH view the right heart pushes it to the right."""
    if view not in ("2CH", "4CH"):
        raise PartialLabelError(f"view is {view!r}, expected '2CH' or '4CH'")
    four = view == "4CH"
    tilt = np.deg2rad(heart.tilt_deg + (8.0 if four else -2.0))
    apex = np.array([heart.x + (0.01 if four else 0.0), heart.apex_depth])
    return apex, np.array([np.sin(tilt), np.cos(tilt)])


@dataclass(frozen=True)
class _Now:
    """The heart's sizes at one moment of the beat."""

    length: float
    half_width: float
    wall: float
    atrium_length: float
    atrium_half_width: float


def _now(heart: HeartModel, contraction: float) -> _Now:
    """The valve moves towards the apex, the muscle thickens, the atrium fills."""
    if not 0.0 <= contraction <= 1.0:
        raise PartialLabelError(f"contraction is {contraction}, expected 0 (end-diastole) to 1 (end-systole)")
    drop = heart.length * heart.shortening * contraction
    return _Now(
        length=heart.length - drop,
        half_width=heart.half_width * (1.0 - heart.narrowing * contraction),
        wall=heart.wall * (1.0 + heart.narrowing * contraction),
        atrium_length=heart.atrium_length + 0.8 * drop,
        atrium_half_width=heart.atrium_half_width * (1.0 + 0.15 * contraction),
    )


def _bullet(q: Floats) -> Floats:
    """Half width of a ventricle along its axis (q: 0 apex, 1 valve), 1 where it is widest; 0 outside."""
    above = np.sqrt(np.clip(1.0 - ((WIDEST - q) / WIDEST) ** 2, 0.0, None))
    below = 1.0 - 0.3 * ((q - WIDEST) / (1.0 - WIDEST)) ** 2
    return np.where(q < WIDEST, above, below) * ((q >= 0.0) & (q <= 1.0))


def _bag(v: Floats) -> Floats:
    """Half width of an atrium from the valve (v = 0) to its roof (v = 1), 1 where it is widest; 0 outside."""
    above = 1.0 - 0.25 * ((0.45 - v) / 0.45) ** 2
    below = np.sqrt(np.clip(1.0 - ((v - 0.45) / 0.55) ** 2, 0.0, None))
    return np.where(v < 0.45, above, below) * ((v > 0.0) & (v <= 1.0))


def parts_of_heart(x: Floats, y: Floats, heart: HeartModel, view: View, contraction: float) -> dict[str, Mask]:
    """Masks (rows, cols) of all that is in the picture, by name; x and y as `pixel_grid` gives them.

    lv, myo, la; la_wall, sac (pericardium) and valve (mitral); in the 4CH view also rv, rv_wall, ra and ra_wall.
    Computed in coordinates of the heart: s along the axis from the apex, u across it.
    """
    (apex, along), now = _axis(heart, view), _now(heart, contraction)
    s = (x - apex[0]) * along[0] + (y - apex[1]) * along[1]
    u = (x - apex[0]) * along[1] - (y - apex[1]) * along[0]
    u = u - heart.bend * np.sin(np.pi * np.clip(s / now.length, 0.0, 1.0))
    outer = (now.half_width + now.wall) * _bullet((s + now.wall) / (now.length + now.wall))
    lv = np.abs(u) < now.half_width * _bullet(s / now.length)
    v = (s - now.length) / now.atrium_length
    la = np.abs(u) < now.atrium_half_width * _bag(v)
    la_outer = (now.atrium_half_width + THIN_WALL) * _bag((s - now.length) / (now.atrium_length + THIN_WALL))
    left = {
        "lv": lv,
        "myo": (np.abs(u) < outer) & ~lv,
        "la": la,
        "la_wall": (np.abs(u) < la_outer) & ~la,
        "sac": (np.abs(u) >= outer) & (np.abs(u) < outer + 0.012 * (outer > 0)),
        "valve": (np.abs(s - now.length + 0.15 * np.abs(u)) < 0.006) & (np.abs(u) < now.half_width),
    }
    return left | (_right_heart(s, u, outer, now) if view == "4CH" else {})


def _right_heart(s: Floats, u: Floats, outer: Floats, now: _Now) -> dict[str, Mask]:
    """The neighbours on the left of a 4CH picture: as dark as the left heart, never labelled."""
    q = s / now.length
    reach = 1.3 * now.half_width * np.clip((q - 0.2) / 0.8, 0.0, 1.0) ** 0.6 * (q <= 1.0)
    septum = -outer - u  # distance to the left of the septum
    rv, rv_wall = (septum > 0) & (septum < reach), (septum > 0) & (septum < reach + 0.022 * (reach > 0))
    size = now.atrium_half_width * 0.9
    centre = -now.atrium_half_width - 0.03 - size
    across, down = (u - centre) / size, (s - now.length) / now.atrium_length - 0.45
    far = np.hypot(across, down / 0.48)
    below = s > now.length + 0.008
    return {"rv": rv, "rv_wall": rv_wall & ~rv, "ra": (far < 1.0) & below, "ra_wall": (far >= 1.0) & (far < 1.15)}
