"""The apical pictures of each patient put together: which views there are at ED and ES, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_partial.dataset.summary import NO_DOMAIN
from nnunet_partial.evaluation.biomarkers_case import place_of
from nnunet_partial.evaluation.biomarkers_list import Biomarker
from nnunet_partial.labels import CaseLabels

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
        place = place_of(entry)
        if place is not None:
            key = patient_key(case, entry)
            patient = found.setdefault(key, Patient(*key))
            patient.places.setdefault(place, []).append(case)
            patient.labels[case] = entry
    return [found[key] for key in sorted(found)]
