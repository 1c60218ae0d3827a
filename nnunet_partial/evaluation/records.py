"""Hold what was measured per case, structure and model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from nnunet_partial.evaluation.metrics import DISTANCES, METRICS, StructureMetrics
from nnunet_partial.utils.masks import Scale
from nnunet_partial.utils.text import ALL as ALL

#: A line of a table, by column.
Row = dict[str, str | float | int]


@dataclass(frozen=True)
class Subject:
    """Describe a case as the manifest does; what the manifest does not give is an empty string."""

    case: str
    domain: str
    patient: str
    view: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Record:
    """Hold one structure of one case that is annotated for it, in the prediction of one model.

    `state`: "annotated" or "absent", as the manifest says. `tolerance`: of the surface Dice, in `scale.distance_unit`.
    """

    model: str
    subject: Subject
    structure: str
    state: str
    measured: StructureMetrics
    scale: Scale
    tolerance: float

    @property
    def outcome(self) -> str:
        """One of `metrics.OUTCOMES`."""
        return self.measured.counts.outcome

    def value(self, metric: str) -> float:
        """Return a metric.

        Args:
            metric: One of METRICS.

        Returns:
            Its value, in the unit that `unit` gives; NaN where it is undefined.
        """
        return float(getattr(self.measured, metric))

    def unit(self, metric: str) -> str:
        """Return the unit of a metric.

        Args:
            metric: One of METRICS.

        Returns:
            "mm", "cm2", "mL", "pixels" or "voxels"; of the surface Dice its tolerance ("2 mm"); empty for the other
            overlaps.
        """
        if metric == "surface_dice":
            return f"{self.tolerance:g} {self.scale.distance_unit}"
        if metric in DISTANCES:
            return self.scale.distance_unit
        return self.scale.size_unit if metric == "size_difference" else ""

    def row(self) -> dict[str, str | float]:
        """Return the row of per_case.csv."""
        return {
            "model": self.model,
            "case": self.subject.case,
            "domain": self.subject.domain,
            "patient": self.subject.patient,
            "view": self.subject.view,
            "phase": self.subject.phase,
            "class": self.structure,
            "state": self.state,
            "outcome": self.outcome,
            **{metric: self.value(metric) for metric in METRICS},
            "predicted_size": self.measured.predicted_size,
            "reference_size": self.measured.reference_size,
            "size_unit": self.scale.size_unit,
            "distance_unit": self.scale.distance_unit,
            "tolerance": self.tolerance,
        }


@dataclass(frozen=True)
class PredictedSize:
    """Hold the predicted size of a structure, whether or not the case is annotated for it.

    `size` and `reference` are in `unit`; `share` and `reference_share` are fractions of the image, from 0 to 1. The
    references are None where the case is not annotated for the structure.
    """

    model: str
    subject: Subject
    structure: str
    size: float
    share: float
    unit: str
    reference: float | None
    reference_share: float | None


def mean(values: Iterable[float]) -> float:
    """Average the finite numbers.

    Args:
        values: Numbers, NaN and infinite ones among them.

    Returns:
        Their arithmetic mean; NaN if none is finite.
    """
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
