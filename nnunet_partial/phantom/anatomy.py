"""Define the synthetic heart: chambers and walls in an apical view, at any moment of the cardiac cycle.

No value comes from a patient. All lengths are fractions of the image depth: the top row is 0, the bottom row 1, and x
runs to the right from the middle column. The apex of the heart is at the top, the atria are at the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from nnunet_partial.errors import PartialLabelError

View = Literal["2CH", "4CH"]
Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Line = tuple[tuple[float, float], tuple[float, float]]

WIDEST_POSITION = 0.6  # where on the long axis the ventricle is widest (0 apex, 1 valve)
ATRIUM_WALL_THICKNESS = 0.016  # thickness of the wall of an atrium


@dataclass(frozen=True)
class HeartModel:
    """Describe the anatomy of one patient: lengths as fractions of the image depth, at end-diastole."""

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
        """Sample a patient: ejection fractions from about 30 % to 65 %, small and large hearts, thin and thick walls.

        Args:
            rng: source of all random numbers.

        Returns:
            The anatomy.
        """
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

    def with_ef(self, ef_percent: float) -> HeartModel:
        """Change how far the ventricle contracts, and nothing else.

        Its volume by discs follows length x width^2; so 1 - EF = (1 - shortening) (1 - narrowing)^2. The shortening
        stays, unless it alone would be more than its share.

        Args:
            ef_percent: ejection fraction, from 0 to below 100.

        Returns:
            The same heart at end-diastole, with this ejection fraction.

        Raises:
            PartialLabelError: for another ejection fraction.
        """
        if not 0.0 <= ef_percent < 100.0:
            raise PartialLabelError(f"ef_percent is {ef_percent}, expected a number from 0 to below 100")
        left = 1.0 - ef_percent / 100.0
        shortening = min(self.shortening, 1.0 - left ** (1 / 3))
        return replace(self, shortening=shortening, narrowing=1.0 - (left / (1.0 - shortening)) ** 0.5)

    @property
    def ef_percent(self) -> float:
        """Return the ejection fraction in percent, of the volume by discs."""
        return 100.0 * (1.0 - (1.0 - self.shortening) * (1.0 - self.narrowing) ** 2)


def lv_long_axis(anatomy: HeartModel, view: View, contraction: float, shape: tuple[int, int]) -> Line:
    """Compute the long axis of the LV: the apex and the center of the mitral valve plane.

    Args:
        anatomy: the patient.
        view: "2CH" or "4CH".
        contraction: 0 at end-diastole, 1 at end-systole.
        shape: of the image, (rows, cols).

    Returns:
        Apex and base, each (x, y) in pixels from the center of the first pixel.

    Raises:
        PartialLabelError: for another view, or a contraction outside [0, 1].
    """
    apex, along = _axis(anatomy, view)
    base = apex + _state_at(anatomy, contraction).length * along
    return _to_pixels(apex, shape), _to_pixels(base, shape)


def _to_pixels(point: Floats, shape: tuple[int, int]) -> tuple[float, float]:
    """Convert (x, y) from fractions of the depth to pixels; the inverse of `pixel_grid`."""
    rows, cols = shape
    return float(point[0] * rows + cols / 2 - 0.5), float(point[1] * rows - 0.5)


def pixel_grid(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the coordinates of the pixel centers as fractions of the depth.

    Args:
        shape: of the image, (rows, cols).

    Returns:
        x, shape (1, cols), and y, shape (rows, 1).
    """
    rows, cols = shape
    return (np.arange(cols)[None, :] + 0.5 - cols / 2) / rows, (np.arange(rows)[:, None] + 0.5) / rows


def _axis(heart: HeartModel, view: View) -> tuple[Floats, Floats]:
    """Return apex and unit direction of the long axis; in the 4CH view the right heart shifts it to the right."""
    if view not in ("2CH", "4CH"):
        raise PartialLabelError(f"view is {view!r}, expected '2CH' or '4CH'")
    four = view == "4CH"
    tilt = np.deg2rad(heart.tilt_deg + (8.0 if four else -2.0))
    apex = np.array([heart.x + (0.01 if four else 0.0), heart.apex_depth])
    return apex, np.array([np.sin(tilt), np.cos(tilt)])


@dataclass(frozen=True)
class _HeartState:
    """Hold the sizes of the heart at one moment of the cardiac cycle."""

    length: float
    half_width: float
    wall: float
    atrium_length: float
    atrium_half_width: float


def _state_at(heart: HeartModel, contraction: float) -> _HeartState:
    """Return the sizes at a moment: the valve moves towards the apex, the wall thickens, the atrium fills."""
    if not 0.0 <= contraction <= 1.0:
        raise PartialLabelError(f"contraction is {contraction}, expected 0 (end-diastole) to 1 (end-systole)")
    drop = heart.length * heart.shortening * contraction
    return _HeartState(
        length=heart.length - drop,
        half_width=heart.half_width * (1.0 - heart.narrowing * contraction),
        wall=heart.wall * (1.0 + heart.narrowing * contraction),
        atrium_length=heart.atrium_length + 0.8 * drop,
        atrium_half_width=heart.atrium_half_width * (1.0 + 0.15 * contraction),
    )


def _ventricle_profile(q: Floats) -> Floats:
    """Return the half width of a ventricle along its axis (q: 0 apex, 1 valve), 1 at its maximum and 0 outside."""
    above = np.sqrt(np.clip(1.0 - ((WIDEST_POSITION - q) / WIDEST_POSITION) ** 2, 0.0, None))
    below = 1.0 - 0.3 * ((q - WIDEST_POSITION) / (1.0 - WIDEST_POSITION)) ** 2
    return np.where(q < WIDEST_POSITION, above, below) * ((q >= 0.0) & (q <= 1.0))


def _atrium_profile(v: Floats) -> Floats:
    """Return the half width of an atrium from the valve (v = 0) to its roof (v = 1), 1 at its maximum and 0 outside."""
    above = 1.0 - 0.25 * ((0.45 - v) / 0.45) ** 2
    below = np.sqrt(np.clip(1.0 - ((v - 0.45) / 0.55) ** 2, 0.0, None))
    return np.where(v < 0.45, above, below) * ((v > 0.0) & (v <= 1.0))


def heart_masks(x: Floats, y: Floats, heart: HeartModel, view: View, contraction: float) -> dict[str, Mask]:
    """Compute the masks of all visible structures.

    They are computed in coordinates of the heart: s along the axis from the apex, u across it.

    Args:
        x: coordinates of the columns, as `pixel_grid` returns them.
        y: coordinates of the rows.
        heart: the patient.
        view: "2CH" or "4CH".
        contraction: 0 at end-diastole, 1 at end-systole.

    Returns:
        Masks (rows, cols) by name: lv, myo, la, la_wall, sac (pericardium) and valve (mitral); in the 4CH view also rv,
        rv_wall, ra and ra_wall.

    Raises:
        PartialLabelError: for another view, or a contraction outside [0, 1].
    """
    (apex, along), state = _axis(heart, view), _state_at(heart, contraction)
    s = (x - apex[0]) * along[0] + (y - apex[1]) * along[1]
    u = (x - apex[0]) * along[1] - (y - apex[1]) * along[0]
    u = u - heart.bend * np.sin(np.pi * np.clip(s / state.length, 0.0, 1.0))
    outer = (state.half_width + state.wall) * _ventricle_profile((s + state.wall) / (state.length + state.wall))
    lv = np.abs(u) < state.half_width * _ventricle_profile(s / state.length)
    v = (s - state.length) / state.atrium_length
    la = np.abs(u) < state.atrium_half_width * _atrium_profile(v)
    la_outer = (state.atrium_half_width + ATRIUM_WALL_THICKNESS) * _atrium_profile(
        (s - state.length) / (state.atrium_length + ATRIUM_WALL_THICKNESS)
    )
    left = {
        "lv": lv,
        "myo": (np.abs(u) < outer) & ~lv,
        "la": la,
        "la_wall": (np.abs(u) < la_outer) & ~la,
        "sac": (np.abs(u) >= outer) & (np.abs(u) < outer + 0.012 * (outer > 0)),
        "valve": (np.abs(s - state.length + 0.15 * np.abs(u)) < 0.006) & (np.abs(u) < state.half_width),
    }
    return left | (_right_heart(s, u, outer, state) if view == "4CH" else {})


def _right_heart(s: Floats, u: Floats, outer: Floats, state: _HeartState) -> dict[str, Mask]:
    """Return the masks of the right heart, left in a 4CH image: as dark as the left heart, never annotated."""
    q = s / state.length
    reach = 1.3 * state.half_width * np.clip((q - 0.2) / 0.8, 0.0, 1.0) ** 0.6 * (q <= 1.0)
    septum = -outer - u  # distance to the left of the septum
    rv, rv_wall = (septum > 0) & (septum < reach), (septum > 0) & (septum < reach + 0.022 * (reach > 0))
    size = state.atrium_half_width * 0.9
    center = -state.atrium_half_width - 0.03 - size
    across, down = (u - center) / size, (s - state.length) / state.atrium_length - 0.45
    far = np.hypot(across, down / 0.48)
    below = s > state.length + 0.008
    return {"rv": rv, "rv_wall": rv_wall & ~rv, "ra": (far < 1.0) & below, "ra_wall": (far >= 1.0) & (far < 1.15)}
