"""Compute the biomarkers of each patient from reference and prediction: the rows of biomarkers.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.biomarkers.definitions import BIOMARKERS, EF, Biomarker, Patient, patients_of
from nnunet_partial.biomarkers.measure import STRUCTURES, CaseMeasurements, ImageMeasurements
from nnunet_partial.dataset.images import spacing_is_known
from nnunet_partial.evaluation import biomarker_agreement
from nnunet_partial.evaluation.evaluate import Evaluation
from nnunet_partial.evaluation.records import Row
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.tables import write_csv
from nnunet_partial.utils.text import format_names

COLUMNS = ("model", "domain", "patient", "biomarker", "unit", "method", "reference", "prediction", "problem")
#: The method of the rows that compare with the EF that came with the dataset.
REPORTED_BY_DATASET = "reported by dataset"

#: A value (NaN where there is none), and why there is none or what to know about it.
_Value = tuple[float, list[str]]


def biomarker_rows(
    labels: Mapping[str, CaseLabels], hearts: Sequence[CaseMeasurements], models: Sequence[str], classes: Sequence[str]
) -> list[Row]:
    """Compute a row per model, patient, biomarker and method.

    reference: only where all images that the biomarker needs are annotated for all structures it needs. prediction:
    also elsewhere. Both by the same method. NaN where there is no value; problem then says why, else what to know about
    the value.

    Args:
        labels: The manifest's entry of every case of the reference.
        hearts: The cases that were measured.
        models: In the order of the rows.
        classes: Of the dataset; biomarkers of other structures are left out.

    Returns:
        The rows of biomarkers.csv; none for a patient of whom a model predicted nothing.
    """
    measured = {heart.case: heart for heart in hearts}
    biomarkers = [biomarker for biomarker in BIOMARKERS if biomarker.structures <= set(classes)]
    rows: list[Row] = []
    for model in models:
        for patient in patients_of(labels):
            if any(case in measured and model in measured[case].predictions for case in patient.labels):
                for row in _Rows(model, patient, measured).all(biomarkers):
                    rows.append({"model": model, "domain": patient.domain, "patient": patient.name, **row})
    return rows


@dataclass(frozen=True)
class _Rows:
    """Compute the rows of one model and patient."""

    model: str
    patient: Patient
    measured: Mapping[str, CaseMeasurements]

    def all(self, biomarkers: Sequence[Biomarker]) -> Iterator[Row]:
        for biomarker in biomarkers:
            rows = [self._row(biomarker, views) for views in self._groups(biomarker)]
            yield from (row for row, annotated in rows if annotated or not math.isnan(float(row["prediction"])))
            if biomarker.name == EF:
                yield from self._reported_ef(rows[0][0] if rows else None)

    def _groups(self, biomarker: Biomarker) -> list[list[str]]:
        """Return the views that are measured together: the annotated ones, all where none is annotated."""
        views = self.patient.views(biomarker)
        if biomarker.one_view:
            return [[view] for view in views]
        annotated = [view for view in views if self.patient.annotated(biomarker, [view])]
        return [annotated or views] if views else []

    def _row(self, biomarker: Biomarker, views: Sequence[str]) -> tuple[Row, bool]:
        """Return the row, and whether all that it needs is annotated."""
        known = {view: self._spacing_known(biomarker, view) for view in views}
        sized, unsized = ([view for view in views if known[view] == {is_known}] for is_known in (True, False))
        used = sized or ((unsized or views)[:1] if biomarker.ratio else views)
        annotated = self.patient.annotated(biomarker, used)
        reference: _Value = (math.nan, [])
        missing = "the spacing is known of one image alone" if biomarker.ratio else "the spacing is not known"
        predicted: _Value = (math.nan, [missing])
        if sized or (biomarker.ratio and unsized):
            predicted = self._value(biomarker, used, "prediction")
            reference = self._value(biomarker, used, "reference") if annotated else reference
        row: Row = {
            "biomarker": biomarker.name,
            "unit": biomarker.unit,
            "method": _method(biomarker, used),
            "reference": reference[0],
            "prediction": predicted[0],
            "problem": "; ".join(dict.fromkeys([*reference[1], *predicted[1]])),
        }
        return row, annotated

    def _spacing_known(self, biomarker: Biomarker, view: str) -> set[bool]:
        """Return whether the spacing of its images in this view is known; without a file by the manifest alone.

        Both where it is known of some of them: in mm and in pixels, their volumes have no ratio.
        """
        return {
            heart.scale.known
            if (heart := self.measured.get(case))
            else spacing_is_known(self.patient.labels[case], None)
            for case in self.patient.cases(biomarker, [view])
        }

    def _value(self, biomarker: Biomarker, views: Sequence[str], side: str) -> _Value:
        """Return the value and what to know about it, or NaN and why there is none."""
        images: dict[str, list[ImageMeasurements]] = {phase: [] for phase in biomarker.parts}
        missing, remarks = [], []
        for phase, parts in biomarker.parts.items():
            for view in views:
                image = self._image(view, phase, side)
                if isinstance(image, str):
                    missing.append(image)
                    continue
                images[phase].append(image)
                missing += [f"{side} {view} {phase}: {image.why_not[part]}" for part in parts if part in image.why_not]
                remarks += [f"{side} {view} {phase}: {text}" for part in parts for text in image.remarks(part)]
        if missing:
            return math.nan, missing
        value = biomarker.formula(images)
        if biomarker.name == EF and value < 0:
            remarks.append(f"{side}: ESV is larger than EDV; are ED and ES exchanged?")
        return value, remarks

    def _image(self, view: str, phase: str, side: str) -> ImageMeasurements | str:
        cases = self.patient.cases_at[view, phase]
        if len(cases) > 1:
            return f"{len(cases)} images are {view} {phase}: {format_names(cases)}"
        heart = self.measured.get(cases[0])
        if side == "reference":
            return heart.reference if heart else f"reference {view} {phase}: it could not be evaluated"
        predicted = heart.predictions.get(self.model) if heart else None
        return predicted or f"prediction {view} {phase}: there is none that can be evaluated"

    def _reported_ef(self, row: Row | None) -> Iterator[Row]:
        """Yield the EF of the manifest beside the predicted one of `row`, by whichever method that is."""
        given = [entry.info["ef"] for entry in self.patient.labels.values() if entry.info.get("ef") is not None]
        if not given:
            return
        value, problems = _single_ef(given)
        problems.append(str(row["problem"]) if row else "no view has an image of both ED and ES")
        yield {
            "biomarker": EF,
            "unit": "%",
            "method": REPORTED_BY_DATASET,
            "reference": value,
            "prediction": row["prediction"] if row else math.nan,
            "problem": "; ".join(filter(None, problems)),
        }


def _method(biomarker: Biomarker, views: Sequence[str]) -> str:
    if biomarker.one_view:
        return views[0]
    return "biplane" if len(views) == 2 else f"single-plane {views[0]}"


def _single_ef(given: Sequence[object]) -> _Value:
    """Return the one number from 0 to 100 that all images of a patient give; else NaN and why."""
    numbers = {float(ef) for ef in given if isinstance(ef, (int, float)) and not isinstance(ef, bool)}
    if len(numbers) == 1 and all(0 <= number <= 100 for number in numbers):
        return numbers.pop(), []
    shown = format_names([f"{ef}" for ef in dict.fromkeys(map(str, given))])
    return math.nan, [f"'ef' in the manifest is {shown}; expected one number from 0 to 100"]


@dataclass(frozen=True)
class Biomarkers:
    """Hold the rows of biomarkers.csv and biomarker_agreement.csv; `why_none`: the reason where there are none."""

    rows: Sequence[Row]
    agreement: Sequence[Row]
    why_none: str = ""

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation) -> Biomarkers:
        """Compute the biomarkers of all patients and models.

        Args:
            evaluation: Of one or several models.

        Returns:
            Both tables; without rows where nothing can be measured, which `why_none` explains.
        """
        rows = biomarker_rows(evaluation.labels, evaluation.hearts, evaluation.models, evaluation.classes)
        return cls(rows, biomarker_agreement.agreement_rows(rows), "" if rows else _why_none(evaluation))

    def write(self, folder: Path) -> None:
        """Write both tables; where there are no rows, remove those of an earlier evaluation.

        Args:
            folder: The results folder.

        Raises:
            OSError: A file cannot be written.
        """
        for name, rows, columns in (
            ("biomarkers.csv", self.rows, COLUMNS),
            ("biomarker_agreement.csv", self.agreement, biomarker_agreement.COLUMNS),
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
        return "no image of an apical view at ED or ES could be evaluated (3-D images and regions are not measured)"
    return "no patient has the images and annotations that one of them needs"
