"""What one apical picture gives: discs of the ventricle with and without its wall, of the atrium, and areas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.evaluation.biomarkers_axis import Discs, NotMeasurableError
from nnunet_partial.evaluation.biomarkers_heart import LA, LV, MYO, WALLED, Heart
from nnunet_partial.utils.masks import Mask, Scale, bounding_box

STRUCTURES = (LV, MYO, LA)

#: Parts of a picture: the cavity, cavity and wall together, the atrium (discs); and areas.
CAVITY, OUTER, ATRIUM, LA_AREA, MYO_AREA = "cavity", "cavity and wall", "atrium", "LA area", "MYO area"
#: The structures that each part is made of.
NEEDS = {CAVITY: (LV,), OUTER: (LV, MYO), ATRIUM: (LV, LA), LA_AREA: (LA,), MYO_AREA: (MYO,)}
#: What is measured at end-diastole and at end-systole: the wall at the former, the atrium, then largest, at the latter
#: (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003).
PARTS = {"ED": (CAVITY, OUTER, MYO_AREA), "ES": (CAVITY, ATRIUM, LA_AREA)}
VIEWS = {"2CH": "2CH", "A2C": "2CH", "4CH": "4CH", "A4C": "4CH"}

CUT_OFF = "touches the border of the image and may be cut off"


@dataclass
class Picture:
    """What was measured, by part: discs in mm, areas in cm2 (both in pixels where their size is not known).

    `why_not`: by part, why there is no value; `notes`: by structure, what to know about it.
    """

    discs: dict[str, Discs] = field(default_factory=dict)
    areas: dict[str, float] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def remarks(self, part: str) -> list[str]:
        """Why the part has no value, or what to know about those it is made of."""
        if part in self.why_not:
            return [self.why_not[part]]
        names = (*NEEDS[part], WALLED) if part == OUTER else NEEDS[part]
        return [self.notes[name] for name in names if name in self.notes]


def view_and_phase(view: str, phase: str) -> tuple[str, str] | None:
    """2CH or 4CH, and ED or ES, as the manifest's words are meant; None for all others."""
    known, moment = VIEWS.get(view.strip().upper()), phase.strip().upper()
    return (known, moment) if known and moment in PARTS else None


def measure_picture(
    values: NDArray[Any],
    classes: Sequence[str],
    drawn: Sequence[str],
    phase: str,
    scale: Scale,
    guides: Sequence[str] | None = None,
) -> Picture:
    """Measures the parts of `phase` (ED or ES) whose structures are all among `drawn`.

    `values` (rows, cols): 0 background, 1, 2, ... `classes`. `guides`: structures that may tell the ventricle's base
    from its apex (without it, those drawn). What cannot be measured is named in `why_not`.
    """
    named = {name: value for value, name in enumerate(classes, start=1) if name in STRUCTURES and name in drawn}
    masks = {name: values == value for name, value in named.items()}
    picture = Picture(notes={name: f"{name} {CUT_OFF}" for name, mask in masks.items() if _touches_border(mask)})
    box = bounding_box(np.logical_or.reduce([*masks.values()])) if masks else None
    masks = {name: np.pad(mask[box or (slice(0, 1),) * 2], 2) for name, mask in masks.items()}
    heart = Heart(masks, scale, picture.notes, drawn if guides is None else guides)
    for what in PARTS[phase]:
        if all(name in named for name in NEEDS[what]):
            _measure(what, heart, picture)
    return picture


def _measure(what: str, heart: Heart, picture: Picture) -> None:
    measures: dict[str, Callable[[], Discs]] = {
        CAVITY: heart.cavity_discs,
        OUTER: heart.outer_discs,
        ATRIUM: heart.atrium_discs,
    }
    try:
        if what in measures:
            picture.discs[what] = measures[what]()
        else:
            picture.areas[what] = heart.area(NEEDS[what][0])
    except NotMeasurableError as problem:
        picture.why_not[what] = str(problem)


def _touches_border(mask: Mask) -> bool:
    return any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
