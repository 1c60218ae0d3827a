"""The biomarkers: what each is called, which pictures and structures it needs, and how it is computed from them.

Volumes by the method of discs, ejection fraction and wall mass: the formulas, their units and their sources.

ASE and EACVI recommend the biplane method of discs (modified Simpson's rule) for ventricle and atrium: Lang et al.
2015, https://doi.org/10.1016/j.echo.2014.10.003.

The apical pictures of each patient put together: which views there are at ED and ES, and what is known of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_partial.biomarkers.geometry import Discs
from nnunet_partial.biomarkers.measure import (
    ATRIUM,
    CAVITY,
    LA_AREA,
    MYO_AREA,
    NEEDS,
    OUTER,
    ImageMeasurements,
    view_and_phase_of,
)
from nnunet_partial.dataset.summary import NO_DOMAIN
from nnunet_partial.labels import CaseLabels

#: Of heart muscle, in g/mL (Lang et al. 2015).
MYOCARDIAL_DENSITY_G_PER_ML = 1.05


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
    return MYOCARDIAL_DENSITY_G_PER_ML * (outer_ml - cavity_ml)


#: The pictures of one patient and one or two views, by phase; views in the same order.
Pictures = Mapping[str, Sequence[ImageMeasurements]]


@dataclass(frozen=True)
class Biomarker:
    """`parts`: what it needs of the picture of each phase. `one_view`: it has a value in each view by itself.

    `formula`: its value in `unit`; areas and discs are measured already. `ratio`: needs no pixel size.
    """

    name: str
    unit: str
    parts: Mapping[str, tuple[str, ...]]
    formula: Callable[[Pictures], float]
    one_view: bool = False
    ratio: bool = False

    @property
    def structures(self) -> frozenset[str]:
        """The classes that must be drawn."""
        return frozenset(name for parts in self.parts.values() for part in parts for name in NEEDS[part])


def _ml(pictures: Sequence[ImageMeasurements], part: str) -> float:
    """Volume in mL of a part whose discs are in mm."""
    return disc_volume([picture.discs[part] for picture in pictures]) / 1000


EF = "EF"

BIOMARKERS = (
    Biomarker("EDV", "mL", {"ED": (CAVITY,)}, lambda pictures: _ml(pictures["ED"], CAVITY)),
    Biomarker("ESV", "mL", {"ES": (CAVITY,)}, lambda pictures: _ml(pictures["ES"], CAVITY)),
    Biomarker(
        EF,
        "%",
        {"ED": (CAVITY,), "ES": (CAVITY,)},
        lambda pictures: ejection_fraction(_ml(pictures["ED"], CAVITY), _ml(pictures["ES"], CAVITY)),
        ratio=True,
    ),
    *(
        Biomarker(
            f"LV length {phase}",
            "mm",
            {phase: (CAVITY,)},
            lambda pictures, phase=phase: pictures[phase][0].discs[CAVITY].length,  # type: ignore[misc]
            one_view=True,
        )
        for phase in ("ED", "ES")
    ),
    Biomarker("LA area", "cm2", {"ES": (LA_AREA,)}, lambda pictures: pictures["ES"][0].areas[LA_AREA], one_view=True),
    Biomarker("LA volume", "mL", {"ES": (ATRIUM,)}, lambda pictures: _ml(pictures["ES"], ATRIUM)),
    Biomarker(
        "MYO area", "cm2", {"ED": (MYO_AREA,)}, lambda pictures: pictures["ED"][0].areas[MYO_AREA], one_view=True
    ),
    Biomarker(
        "LV mass",
        "g",
        {"ED": (CAVITY, OUTER)},
        lambda pictures: wall_mass(_ml(pictures["ED"], OUTER), _ml(pictures["ED"], CAVITY)),
    ),
)


#: The order in which views are asked: where a single one must do, the four-chamber view.
VIEWS = ("4CH", "2CH")


@dataclass
class Patient:
    """The apical pictures of a patient at ED and ES: cases by view and phase, and what is known of each case."""

    domain: str
    name: str
    places: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    labels: dict[str, CaseLabels] = field(default_factory=dict)

    def cases(self, biomarker: Biomarker, views: Sequence[str]) -> list[str]:
        """All cases that are what the biomarker needs in these views."""
        return [case for view in views for phase in biomarker.parts for case in self.places.get((view, phase), [])]

    def views(self, biomarker: Biomarker) -> list[str]:
        """The views in which every phase has a picture that may show the structures."""
        return [
            view
            for view in VIEWS
            if all((view, phase) in self.places for phase in biomarker.parts)
            and not any(biomarker.structures & set(self.labels[c].absent) for c in self.cases(biomarker, [view]))
        ]

    def annotated(self, biomarker: Biomarker, views: Sequence[str]) -> bool:
        """Whether all these pictures were annotated for all structures that the biomarker needs."""
        return all(biomarker.structures <= set(self.labels[case].annotated) for case in self.cases(biomarker, views))


def patient_key(case: str, labels: CaseLabels) -> tuple[str, str]:
    """Domain and name of the patient of a case."""
    return labels.domain or NO_DOMAIN, labels.patient or case


def patients_of(labels: Mapping[str, CaseLabels]) -> list[Patient]:
    """Patients with an apical view at ED or ES, domain by domain; of cases by name."""
    found: dict[tuple[str, str], Patient] = {}
    for case, entry in labels.items():
        place = view_and_phase_of(entry)
        if place is not None:
            key = patient_key(case, entry)
            patient = found.setdefault(key, Patient(*key))
            patient.places.setdefault(place, []).append(case)
            patient.labels[case] = entry
    return [found[key] for key in sorted(found)]
