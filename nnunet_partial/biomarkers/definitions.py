"""Define the biomarkers of the left heart: name, unit, the images and structures each needs, and its formula.

Volumes are computed by the method of discs. For ventricle and atrium ASE and EACVI recommend its biplane form, the
modified Simpson's rule (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003). The apical images of a patient
are collected by view and phase.
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
    OUTER,
    STRUCTURES_OF,
    ImageMeasurements,
    view_and_phase_of,
)
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import NO_DOMAIN

#: Density of heart muscle (Lang et al. 2015).
MYOCARDIAL_DENSITY_G_PER_ML = 1.05


def disc_volume(views: Sequence[Discs]) -> float:
    """Compute the volume of a structure by the method of discs.

    Two views (biplane): the sum of pi/4 a b h over elliptic discs, a and b the diameters of the same disc in the two
    views, h a 20th of the longer axis. One view (single-plane): round discs, b = a.

    Args:
        views: The discs in one or two views, in mm.

    Returns:
        The volume in mm3.

    References:
        Schiller et al. 1989, https://doi.org/10.1016/S0894-7317(89)80014-8
        Lang et al. 2005, https://doi.org/10.1016/j.echo.2005.10.005
    """
    first, second = views[0], views[-1]
    height = max(view.length for view in views) / len(first.diameters)
    return math.pi / 4 * height * sum(a * b for a, b in zip(first.diameters, second.diameters, strict=True))


def ejection_fraction(edv: float, esv: float) -> float:
    """Compute the ejection fraction, 100 (EDV - ESV) / EDV.

    Args:
        edv: End-diastolic volume, in any unit.
        esv: End-systolic volume, in the same unit.

    Returns:
        The ejection fraction in percent; NaN for an EDV of 0.
    """
    return 100 * (edv - esv) / edv if edv else math.nan


def wall_mass(outer_ml: float, cavity_ml: float) -> float:
    """Compute the mass of the wall: (volume within its outer border - volume of the cavity) x density of muscle.

    Subtracting the cavity from all that the outer border encloses is what every recommended formula of LV mass does
    (Lang et al. 2015); these take the thickness of the wall from a short-axis view. Here both volumes are computed by
    discs in apical views, where the side walls have poor resolution: fit to compare masks with masks, not with normal
    values.

    Args:
        outer_ml: Volume of cavity and wall together, in mL.
        cavity_ml: Volume of the cavity, in mL.

    Returns:
        The mass in g.
    """
    return MYOCARDIAL_DENSITY_G_PER_ML * (outer_ml - cavity_ml)


#: The images of one patient in one or two views, by phase; views in the same order.
ImagesByPhase = Mapping[str, Sequence[ImageMeasurements]]


@dataclass(frozen=True)
class Biomarker:
    """Define a biomarker.

    `parts`: the measurements it needs of the image of each phase. `formula`: its value in `unit`; areas and discs are
    already measured. `one_view`: it has a value in each view by itself. `ratio`: it needs no spacing.
    """

    name: str
    unit: str
    parts: Mapping[str, tuple[str, ...]]
    formula: Callable[[ImagesByPhase], float]
    one_view: bool = False
    ratio: bool = False

    @property
    def structures(self) -> frozenset[str]:
        """The classes that must be annotated."""
        return frozenset(name for parts in self.parts.values() for part in parts for name in STRUCTURES_OF[part])


def _ml(images: Sequence[ImageMeasurements], part: str) -> float:
    """Return the volume in mL of a part whose discs are in mm."""
    return disc_volume([image.discs[part] for image in images]) / 1000


EF = "EF"

BIOMARKERS = (
    Biomarker("EDV", "mL", {"ED": (CAVITY,)}, lambda images: _ml(images["ED"], CAVITY)),
    Biomarker("ESV", "mL", {"ES": (CAVITY,)}, lambda images: _ml(images["ES"], CAVITY)),
    Biomarker(
        EF,
        "%",
        {"ED": (CAVITY,), "ES": (CAVITY,)},
        lambda images: ejection_fraction(_ml(images["ED"], CAVITY), _ml(images["ES"], CAVITY)),
        ratio=True,
    ),
    *(
        Biomarker(
            f"LV length {phase}",
            "mm",
            {phase: (CAVITY,)},
            lambda images, phase=phase: images[phase][0].discs[CAVITY].length,  # type: ignore[misc]
            one_view=True,
        )
        for phase in ("ED", "ES")
    ),
    Biomarker("LA area", "cm2", {"ES": (LA_AREA,)}, lambda images: images["ES"][0].areas[LA_AREA], one_view=True),
    Biomarker("LA volume", "mL", {"ES": (ATRIUM,)}, lambda images: _ml(images["ES"], ATRIUM)),
    Biomarker("MYO area", "cm2", {"ED": (MYO_AREA,)}, lambda images: images["ED"][0].areas[MYO_AREA], one_view=True),
    Biomarker(
        "LV mass",
        "g",
        {"ED": (CAVITY, OUTER)},
        lambda images: wall_mass(_ml(images["ED"], OUTER), _ml(images["ED"], CAVITY)),
    ),
)


#: The order of views: where a single one is used, it is the four-chamber view.
VIEW_ORDER = ("4CH", "2CH")


@dataclass
class Patient:
    """Collect the apical images of a patient at ED and ES.

    `cases_at`: cases by view and phase. `labels`: the manifest's entry of each case.
    """

    domain: str
    name: str
    cases_at: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    labels: dict[str, CaseLabels] = field(default_factory=dict)

    def cases(self, biomarker: Biomarker, views: Sequence[str]) -> list[str]:
        """List the cases that the biomarker needs in these views.

        Args:
            biomarker: What is to be computed.
            views: Of VIEW_ORDER.

        Returns:
            Case identifiers; empty where there is none.
        """
        return [case for view in views for phase in biomarker.parts for case in self.cases_at.get((view, phase), [])]

    def views(self, biomarker: Biomarker) -> list[str]:
        """List the views in which every phase has an image that may show the structures.

        Args:
            biomarker: What is to be computed.

        Returns:
            The views, in VIEW_ORDER; empty where there is none.
        """
        return [
            view
            for view in VIEW_ORDER
            if all((view, phase) in self.cases_at for phase in biomarker.parts)
            and not any(biomarker.structures & set(self.labels[c].absent) for c in self.cases(biomarker, [view]))
        ]

    def annotated(self, biomarker: Biomarker, views: Sequence[str]) -> bool:
        """Check whether all these images were annotated for all structures that the biomarker needs.

        Args:
            biomarker: What is to be computed.
            views: Of VIEW_ORDER.

        Returns:
            True where they were, and where there is no image.
        """
        return all(biomarker.structures <= set(self.labels[case].annotated) for case in self.cases(biomarker, views))


def patient_key(case: str, labels: CaseLabels) -> tuple[str, str]:
    """Identify the patient of a case.

    Args:
        case: Its identifier.
        labels: Its entry of the manifest.

    Returns:
        Domain and name; a case without a patient is a patient by itself.
    """
    return labels.domain or NO_DOMAIN, labels.patient or case


def patients_of(labels: Mapping[str, CaseLabels]) -> list[Patient]:
    """Collect the patients with an apical view at ED or ES.

    Args:
        labels: The manifest's entry of each case.

    Returns:
        Patients, sorted by domain and name; empty where no case is such a view.
    """
    patients: dict[tuple[str, str], Patient] = {}
    for case, entry in labels.items():
        view_phase = view_and_phase_of(entry)
        if view_phase is not None:
            key = patient_key(case, entry)
            patient = patients.setdefault(key, Patient(*key))
            patient.cases_at.setdefault(view_phase, []).append(case)
            patient.labels[case] = entry
    return [patients[key] for key in sorted(patients)]
