"""Biomarkers of the left heart from masks of the apical views: per patient, and how well predictions agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.evaluation import biomarkers_agreement, biomarkers_rows
from nnunet_partial.evaluation.biomarkers_patients import patients_of
from nnunet_partial.evaluation.biomarkers_picture import STRUCTURES
from nnunet_partial.evaluation.folders import Evaluation
from nnunet_partial.evaluation.records import write_csv
from nnunet_partial.evaluation.summary import Row


@dataclass(frozen=True)
class Biomarkers:
    """The rows of biomarkers.csv and biomarker_agreement.csv; `why_none`: a sentence where there are none."""

    rows: Sequence[Row]
    agreement: Sequence[Row]
    why_none: str = ""

    @classmethod
    def of(cls, evaluation: Evaluation) -> Biomarkers:
        rows = biomarkers_rows.biomarker_rows(
            evaluation.labels, evaluation.hearts, evaluation.models, evaluation.classes
        )
        return cls(rows, biomarkers_agreement.agreement_rows(rows), "" if rows else _why_none(evaluation))

    def write(self, folder: Path) -> None:
        """Writes both tables; where there is nothing to write, removes those of an earlier evaluation."""
        for name, rows, columns in (
            ("biomarkers.csv", self.rows, biomarkers_rows.COLUMNS),
            ("biomarker_agreement.csv", self.agreement, biomarkers_agreement.COLUMNS),
        ):
            if self.rows:
                write_csv(folder / name, rows, columns)
            else:
                (folder / name).unlink(missing_ok=True)


def _why_none(evaluation: Evaluation) -> str:
    if not set(STRUCTURES) & set(evaluation.classes):
        return f"none of the classes {', '.join(evaluation.classes)} is called LV, MYO or LA"
    if not patients_of(evaluation.labels):
        return "by the manifest, no case of the reference has 'view' 2CH or 4CH and 'phase' ED or ES"
    if not evaluation.hearts:
        return "no picture of an apical view at ED or ES could be evaluated (volumes are not measured)"
    return "no patient has the pictures and structures that one of them needs"
