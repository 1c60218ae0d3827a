"""Hold what was measured per case, structure and model, and write tables as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.evaluation.metrics import DISTANCES, METRICS, Measured
from nnunet_partial.utils.files import write_text
from nnunet_partial.utils.masks import Scale

#: In the columns domain and class: all of them together.
ALL = "(all)"

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
    measured: Measured
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


def write_csv(path: Path, rows: Iterable[Mapping[str, str | float | int]], columns: Sequence[str]) -> None:
    """Write a table, completely or not at all. NaN becomes an empty field, infinity 'inf'.

    Args:
        path: The file, replaced if it exists.
        rows: Values by column.
        columns: The columns, in their order.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _field(value: str | float | int) -> str | int:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def mean(values: Iterable[float]) -> float:
    """Average the finite numbers.

    Args:
        values: Numbers, NaN and infinite ones among them.

    Returns:
        Their arithmetic mean; NaN if none is finite.
    """
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
