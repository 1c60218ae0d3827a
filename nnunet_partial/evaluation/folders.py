"""All cases of a reference folder against the folders of one or several models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.biomarkers_case import HeartCase, place_of
from nnunet_partial.evaluation.biomarkers_patients import patient_key
from nnunet_partial.evaluation.case import Task, evaluate_case
from nnunet_partial.evaluation.records import PredictedSize, Record
from nnunet_partial.evaluation.reference import Reference
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.parallel import in_parallel
from nnunet_partial.utils.text import some

Predictions = Mapping[str, Mapping[str, Path]]


@dataclass
class Evaluation:
    """Everything that was measured, and everything that was wrong (a sentence each).

    `labels`: what the manifest says of each case of the reference, also of those without a prediction; `hearts`: those
    that biomarkers are computed from.
    """

    models: tuple[str, ...]
    classes: tuple[str, ...]
    records: list[Record] = field(default_factory=list)
    sizes: list[PredictedSize] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    hearts: list[HeartCase] = field(default_factory=list)
    labels: Mapping[str, CaseLabels] = field(default_factory=dict)


def evaluate_folders(
    reference: Reference,
    predictions: Predictions,
    tolerance: float,
    processes: int = 1,
    strict: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Measures every known structure of every case in the predictions of every model.

    `predictions`: file by model and case; `tolerance`: of the surface Dice, in mm (in pixels where the pixel size is
    not known). What cannot be evaluated is named in `findings` and left out; with `strict` the first raises
    PartialLabelError instead, as does a tolerance below 0 and a folder in which nothing at all can be evaluated.
    """
    if not 0 <= tolerance < float("inf"):
        raise PartialLabelError(f"The tolerance is {tolerance} mm; expected a number from 0.")
    named = {case: labels for case in reference.files if (labels := reference.manifest.find(case)) is not None}
    done = Evaluation(tuple(predictions), reference.classes, labels=named)
    for finding in _pairing(reference, predictions):
        _note(done, finding, strict)
    tasks = _tasks(reference, predictions, tolerance)
    for result in in_parallel(evaluate_case, tasks, processes, "evaluating" if progress else None):
        for finding in result.findings:
            _note(done, finding, strict)
        done.records += result.records
        done.sizes += result.sizes
        done.hearts += [] if result.heart is None else [result.heart]
    if not done.records:
        reasons = [_nothing_known(reference)] if done.sizes else []
        raise PartialLabelError("Nothing can be evaluated.\n" + "\n".join([*reasons, *done.findings[:20]]))
    return done


def _note(done: Evaluation, finding: str, strict: bool) -> None:
    if strict:
        raise PartialLabelError(f"{finding} (--strict: stopped)")
    done.findings.append(finding)


def _nothing_known(reference: Reference) -> str:
    return (
        f"No case that was predicted knows any of {', '.join(reference.classes)}: {reference.manifest_file} declares "
        "them neither annotated nor absent there, so predictions can be compared with nothing. If somebody drew them, "
        "say so in that file, under 'annotated'."
    )


def _tasks(reference: Reference, predictions: Predictions, tolerance: float) -> list[Task]:
    """A task per case with a prediction, and per apical view without one of a patient of whom another one has one:
    biomarkers need all views of a reference."""
    tasks = {}
    for case, path in reference.files.items():
        labels = reference.manifest.find(case)
        here = {model: files[case] for model, files in predictions.items() if case in files}
        if labels is not None and (here or place_of(labels)):
            tasks[case] = Task(case, path, here, labels, reference.classes, reference.ignore_label, tolerance)
    seen = {patient_key(case, t.labels) for case, t in tasks.items() if t.predictions and place_of(t.labels)}
    return [task for case, task in tasks.items() if task.predictions or patient_key(case, task.labels) in seen]


def _pairing(reference: Reference, predictions: Predictions) -> list[str]:
    """Predictions without a reference, references without a prediction, and cases that no manifest entry names."""
    found = []
    cases = set(reference.files)
    unnamed = {case for case in cases if reference.manifest.find(case) is None}
    if unnamed:
        found.append(f"{len(unnamed)} case(s) have no entry in {reference.manifest_file.name}: {some(unnamed)}")
    strange = {name for case in cases - unnamed for name in reference.manifest.labels_of(case).annotated}
    strange -= set(reference.classes)
    if strange:
        raise PartialLabelError(
            f"{reference.manifest_file} declares {some(strange)} annotated; dataset.json has "
            f"{', '.join(reference.classes)}. `nnunet_partial check` tells where."
        )
    for model, files in predictions.items():
        missing, extra = cases - set(files), set(files) - cases - reference.interpolated
        if missing:
            found.append(f"{model}: {len(missing)} of {len(cases)} predictions are missing: {some(missing)}")
        if extra:
            found.append(f"{model}: {len(extra)} prediction(s) without a reference: {some(extra)}")
    return found
