"""Draws ventricles, walls and atria whose volumes are known in closed form, at any tilt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("LV", "MYO", "LA")


@dataclass(frozen=True)
class Bullet:
    """An ellipsoid of revolution cut off at its base; the apex points up at tilt 0, the tilt turns it clockwise.

    `long`, `wide`: half axes in mm. `base`: how far below the center it is cut, None: not at all. `wall`: thickness of
    the ellipsoid around it. `atrium`: half axes of half an ellipsoid that hangs on the base, None: none.
    """

    long: float
    wide: float
    base: float | None = None
    wall: float = 0.0
    atrium: tuple[float, float] | None = None
    tilt_deg: float = 0.0

    def labels(
        self, shape: tuple[int, int], spacing_mm: tuple[float, float], center_mm: tuple[float, float]
    ) -> NDArray:
        """Label values (rows, cols): 1 LV, 2 MYO, 3 LA."""
        rows, cols = np.indices(shape)
        y, x = rows * spacing_mm[0] - center_mm[0], cols * spacing_mm[1] - center_mm[1]
        tilt = math.radians(self.tilt_deg)
        down = y * math.cos(tilt) - x * math.sin(tilt)  # 0 at the center of the ellipsoid, growing towards the base
        side = y * math.sin(tilt) + x * math.cos(tilt)
        base = self.long + self.wall if self.base is None else self.base
        values = np.zeros(shape, np.uint8)
        if self.atrium is not None:
            deep, broad = self.atrium
            values[(down > base) & (((down - base) / deep) ** 2 + (side / broad) ** 2 <= 1)] = 3
        above = down <= base
        values[above & (_radius(down, side, self.long + self.wall, self.wide + self.wall) <= 1)] = 2 if self.wall else 0
        values[above & (_radius(down, side, self.long, self.wide) <= 1)] = 1
        return values

    @property
    def length_mm(self) -> float:
        return self.long + (self.long if self.base is None else self.base)

    @property
    def cavity_ml(self) -> float:
        return cut_ellipsoid_ml(self.long, self.wide, self.base)

    @property
    def outer_ml(self) -> float:
        return cut_ellipsoid_ml(self.long + self.wall, self.wide + self.wall, self.base)


def _radius(down: NDArray, side: NDArray, long: float, wide: float) -> NDArray:
    return np.sqrt((down / long) ** 2 + (side / wide) ** 2)


def cut_ellipsoid_ml(long: float, wide: float, base: float | None) -> float:
    """Of an ellipsoid of revolution from its tip to `base` beyond its center.

    The integral of pi wide^2 (1 - z^2 / long^2) from -long to base.
    """
    end = long if base is None else base
    return math.pi * wide**2 * ((end + long) - (end**3 + long**3) / (3 * long**2)) / 1000
