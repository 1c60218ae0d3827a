"""Volumes by the method of discs, ejection fraction and wall mass: the formulas, their units and their sources.

ASE and EACVI recommend the biplane method of discs (modified Simpson's rule) for ventricle and atrium: Lang et al.
2015, https://doi.org/10.1016/j.echo.2014.10.003.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunet_partial.evaluation.biomarkers_axis import Discs

#: Of heart muscle, in g/mL (Lang et al. 2015).
DENSITY = 1.05


def disc_volume(views: Sequence[Discs]) -> float:
    """Volume of one or two views, in mm3 for discs in mm.

    Two views (biplane): the sum of pi/4 a b h over elliptic discs, a and b the diameters of the same disc in the two
    views, h a 20th of the longer axis (Schiller et al. 1989, https://doi.org/10.1016/S0894-7317(89)80014-8; Lang et al.
    2005, https://doi.org/10.1016/j.echo.2005.10.005). One view: round discs, b = a.
    """
    first, second = views[0], views[-1]
    height = max(view.length for view in views) / len(first.diameters)
    return math.pi / 4 * height * sum(a * b for a, b in zip(first.diameters, second.diameters, strict=True))


def ejection_fraction(edv: float, esv: float) -> float:
    """100 (EDV - ESV) / EDV, in percent; the unit of the volumes does not matter. NaN for an EDV of 0."""
    return 100 * (edv - esv) / edv if edv else math.nan


def wall_mass(outer_ml: float, cavity_ml: float) -> float:
    """Mass of the wall in g: the volume within its outer border less that of the cavity (both mL), times its density.

    Subtracting the cavity from all that the outer border holds is what every recommended formula of LV mass does (Lang
    et al. 2015); theirs take the wall's thickness from a short-axis view. Here both volumes are by discs in apical
    views, where the side walls are seen with poor resolution: fit to compare masks with masks, not with normal values.
    """
    return DENSITY * (outer_ml - cavity_ml)
