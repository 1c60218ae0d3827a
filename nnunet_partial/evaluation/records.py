"""One line per case, structure and model: what was measured, and the units it was measured in."""

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
    """A case as the manifest describes it; what it does not say is empty."""

    case: str
    domain: str
    patient: str
    view: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Record:
    """One structure of one case that knows it, by one model. `state`: "annotated" or "absent", as the manifest says."""

    model: str
    subject: Subject
    structure: str
    state: str
    measured: Measured
    scale: Scale
    tolerance: float

    @property
    def outcome(self) -> str:
        return self.measured.counts.outcome

    def value(self, metric: str) -> float:
        """One of METRICS; units: see `unit`."""
        return float(getattr(self.measured, metric))

    def unit(self, metric: str) -> str:
        """The unit of a metric; of the surface Dice its tolerance ("2 mm"); empty for the others from 0 to 1."""
        if metric == "surface_dice":
            return f"{self.tolerance:g} {self.scale.distance_unit}"
        if metric in DISTANCES:
            return self.scale.distance_unit
        return self.scale.size_unit if metric == "size_difference" else ""

    def row(self) -> dict[str, str | float]:
        """The line of per_case.csv."""
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
    """How large a structure is in one prediction, whether or not the case knows it; `reference` is None where not.

    `share` and `reference_share`: of the picture, from 0 to 1.
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
    """Writes a table, whole or not at all. NaN stands as an empty field, infinity as 'inf'."""
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
    """The plain mean of the numbers that are finite; NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
