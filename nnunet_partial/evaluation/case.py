"""Evaluate one case: its reference is read once and compared with the prediction of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.biomarkers.measure import CaseMeasurements
from nnunet_partial.dataset.images import Geometry, ImageInfo, read_array, spacing_is_known
from nnunet_partial.dataset.label_check import label_file_problem
from nnunet_partial.dataset_json import stored_values
from nnunet_partial.evaluation.calibration import Bins, CaseCalibration, read_probabilities, structure_probability
from nnunet_partial.evaluation.metrics import measure, without_thin_axes
from nnunet_partial.evaluation.records import PredictedSize, Record, Subject
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.masks import Scale
from nnunet_partial.utils.text import NO_DOMAIN, format_values


@dataclass(frozen=True)
class Task:
    """Describe the evaluation of one case: its files, what it is annotated for, and the settings.

    `predictions`: file by model, may be empty. `tolerance`: of the surface Dice, in mm (in pixels where the spacing is
    not known). `regions`: stored values of each class where these are regions; else empty. `probabilities`: what those
    beside the predictions are, by model; models without them are left out. `region_order`: dataset.json's
    `regions_class_order`, empty without regions.
    """

    case: str
    reference: Path
    predictions: Mapping[str, Path]
    labels: CaseLabels
    classes: tuple[str, ...]
    ignore_label: int | None
    tolerance: float
    regions: tuple[tuple[int, ...], ...] = ()
    probabilities: Mapping[str, str] = field(default_factory=dict)
    region_order: tuple[int, ...] = ()

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """Return the stored values of each class or region."""
        return stored_values(self.classes, self.regions)


@dataclass
class CaseResult:
    """Hold what was measured in a case.

    `findings`: problems, a sentence each; what is named there was not evaluated. `heart`: what biomarkers are computed
    from, None where the case is no apical view at ED or ES.
    """

    records: list[Record] = field(default_factory=list)
    sizes: list[PredictedSize] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    heart: CaseMeasurements | None = None
    calibration: list[CaseCalibration] = field(default_factory=list)


@dataclass(frozen=True)
class _Truth:
    """Hold label values (*S), the voxels to evaluate (None: all), and the scale."""

    values: NDArray[Any]
    counted: NDArray[np.bool_] | None
    scale: Scale


def subject_of(case: str, labels: CaseLabels) -> Subject:
    """Describe a case for the tables.

    Args:
        case: Its identifier.
        labels: Its entry of the manifest.

    Returns:
        The description; a case without a patient is a patient by itself.
    """
    view, phase = (str(labels.info.get(key) or "") for key in ("view", "phase"))
    return Subject(case, labels.domain or NO_DOMAIN, labels.patient or case, view, phase)


def evaluate_case(task: Task) -> CaseResult:
    """Measure every annotated class in each prediction of a case. Problems with files become findings, not exceptions.

    Args:
        task: The case.

    Returns:
        What was measured; without records where the reference cannot be used.
    """
    result = CaseResult()
    try:
        geometry, array = read_array(task.reference)
    except OSError as problem:
        result.findings.append(f"{task.case}: the reference cannot be read: {problem}")
        return result
    info = ImageInfo(geometry, problem=geometry.several_values)
    if not info.problem:
        info = ImageInfo(geometry, _values(array))
    problem_with_it = label_file_problem(task.case, info, task.labels, task.classes, task.ignore_label, task.regions)
    if problem_with_it:
        result.findings.append(problem_with_it)
        return result
    truth = _truth(task, geometry, array)
    ignored = None if truth.counted is None else ~truth.counted
    if not task.regions:  # biomarkers want the structures themselves
        result.heart = CaseMeasurements.from_reference(
            task.case, task.labels, task.classes, truth.values, truth.scale, ignored
        )
    for model, path in task.predictions.items():
        values = _readable(task, path, geometry)
        if isinstance(values, str):
            result.findings.append(f"{task.case}: the prediction of {model} {values}")
        else:
            _compare(task, model, values.reshape(truth.values.shape), truth, result)
            if model in task.probabilities:
                _calibrate(task, model, values.reshape(truth.values.shape), truth, result)
    return result


def _truth(task: Task, geometry: Geometry, array: NDArray[Any]) -> _Truth:
    values, spacing_mm = without_thin_axes(array, geometry.spacing_mm[::-1])
    counted = None if task.ignore_label is None else values != task.ignore_label
    return _Truth(values, counted, Scale.from_spacing(spacing_mm, spacing_is_known(task.labels, geometry)))


def _readable(task: Task, path: Path, reference: Geometry) -> NDArray[Any] | str:
    """Return the values of a prediction, or its problem, worded to follow 'the prediction of ...'."""
    try:
        geometry, array = read_array(path)
    except OSError as problem:
        return f"cannot be read: {problem}"
    if geometry.several_values:
        return geometry.several_values
    differences = geometry.with_axes_of(reference).differences(reference.with_axes_of(geometry))
    if differences:
        return f"does not lie on the reference: {'; '.join(differences)} (the reference)"
    defined = {0, *(value for values in task.values.values() for value in values)}
    unexpected = [value for value in _values(array) if value not in defined]
    if unexpected:
        return f"holds {format_values(unexpected)}; expected 0 to {max(defined)}"
    return array


def _values(array: NDArray[Any]) -> tuple[float, ...]:
    """Return the distinct values of a label file; fast for the small integers that it should hold."""
    if array.dtype == np.uint8:
        return tuple(np.flatnonzero(np.bincount(array.ravel(), minlength=256)).tolist())
    return tuple(np.unique(array).tolist())


def _mask(array: NDArray[Any], values: Sequence[int]) -> NDArray[np.bool_]:
    return array == values[0] if len(values) == 1 else np.isin(array, values)


def _compare(task: Task, model: str, predicted: NDArray[Any], truth: _Truth, result: CaseResult) -> None:
    subject, scale = subject_of(task.case, task.labels), truth.scale
    if result.heart is not None:
        result.heart.add_prediction(model, predicted)
    voxels = predicted.size if truth.counted is None else max(1, int(np.count_nonzero(truth.counted)))
    for structure, values in task.values.items():
        mask = _mask(predicted, values)
        if structure in task.labels.known:
            state = "annotated" if structure in task.labels.annotated else "absent"
            measured = measure(mask, _mask(truth.values, values), scale, task.tolerance, truth.counted)
            result.records.append(Record(model, subject, structure, state, measured, scale, task.tolerance))
            size, reference = measured.predicted_size, measured.reference_size
        else:
            counted = mask if truth.counted is None else mask & truth.counted
            size, reference = int(np.count_nonzero(counted)) * scale.voxel_size, None
        result.sizes.append(
            PredictedSize(
                model,
                subject,
                structure,
                size,
                size / scale.voxel_size / voxels,
                scale.size_unit,
                reference,
                None if reference is None else reference / scale.voxel_size / voxels,
            )
        )


def _calibrate(task: Task, model: str, predicted: NDArray[Any], truth: _Truth, result: CaseResult) -> None:
    """Count the voxels of each annotated structure by their predicted probability."""
    file = task.predictions[model].with_name(f"{task.case}.npz")
    probabilities = read_probabilities(file, predicted, len(task.classes), task.region_order)
    if isinstance(probabilities, str):
        result.findings.append(f"{task.case}: the probabilities of {model} {probabilities}")
        return
    subject = subject_of(task.case, task.labels)
    counted = np.ones(predicted.shape, bool) if truth.counted is None else truth.counted
    for index, (structure, values) in enumerate(task.values.items()):
        if structure in task.labels.known:
            probability = (
                probabilities[index]
                if task.regions
                else structure_probability(probabilities, index + 1, task.probabilities[model])
            )
            bins = Bins.count(probability[counted], _mask(truth.values[counted], values))
            result.calibration.append(CaseCalibration(model, subject, structure, bins))
