"""Write the results folder: every table of an evaluation, each written completely or not at all.

summary.json has nnU-Net's layout and counts only what each case was annotated for.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation import calibration, warning_signs
from nnunet_partial.evaluation.biomarker_tables import Biomarkers
from nnunet_partial.evaluation.evaluate import Evaluation, Predictions, Reference, is_plain
from nnunet_partial.evaluation.metrics import METRICS
from nnunet_partial.evaluation.records import Record, Row, mean
from nnunet_partial.evaluation.statistics import MIN_PATIENTS
from nnunet_partial.evaluation.tables import (
    COMPARISON_COLUMNS,
    RANK_COLUMNS,
    SUMMARY_COLUMNS,
    compare_models,
    rank_models,
    summarize,
)
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.tables import write_csv
from nnunet_partial.utils.versions import __version__, versions

#: Which overall mean the file has; nnU-Net's tools read the other keys.
HOW_AVERAGED = (
    "foreground_mean is the mean of the classes' means, as nnU-Net computes it. (all) in summary.csv is another "
    "number: the mean over all case-class pairs."
)
#: Key of the validation's summary.json, beside nnU-Net's: the file of the checkpoint that predicted.
CHECKPOINT_KEY = "checkpoint"
#: nnU-Net's checkpoints that can be validated and predicted with.
FINAL_CHECKPOINT, BEST_CHECKPOINT = "checkpoint_final.pth", "checkpoint_best.pth"
_METRICS = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")

PER_CASE_COLUMNS = (
    *("model", "case", "domain", "patient", "view", "phase", "class", "state", "outcome", *METRICS),
    *("predicted_size", "reference_size", "size_unit", "distance_unit", "tolerance"),
)


def nnunet_summary(
    records: Sequence[Record],
    classes: Sequence[str],
    references: Mapping[str, Path],
    predictions: Mapping[str, Path],
    keys: Sequence[str],
) -> dict[str, Any]:
    """Build the content of summary.json for one model.

    A class that a case is not annotated for is NaN throughout. A mean leaves NaN out, and is NaN over nothing; the
    foreground mean is over the classes that have one, as how_averaged says.

    Args:
        records: Of this model.
        classes: Names, in the order of `keys`.
        references: Label file by case.
        predictions: Predicted file by case.
        keys: Of the classes, as `metric_keys` gives them.

    Returns:
        The content, as nnU-Net writes it.
    """
    of_case: dict[str, dict[str, Record]] = {}
    for record in records:
        of_case.setdefault(record.subject.case, {})[record.structure] = record
    cases: list[dict[str, Any]] = [
        {
            "metrics": {key: _metrics(of_class.get(name)) for name, key in zip(classes, keys, strict=True)},
            "prediction_file": str(predictions[case]),
            "reference_file": str(references[case]),
        }
        for case, of_class in of_case.items()
    ]
    means = {key: {metric: mean(case["metrics"][key][metric] for case in cases) for metric in _METRICS} for key in keys}
    foreground = {metric: mean(of_class[metric] for of_class in means.values()) for metric in _METRICS}
    return {
        "foreground_mean": foreground,
        "mean": means,
        "metric_per_case": cases,
        "how_averaged": HOW_AVERAGED,
    }


@dataclass(frozen=True)
class Tables:
    """Hold the rows of all tables of an evaluation.

    They are described by `tables.summarize`, `tables.compare_models`, `tables.rank_models`,
    `warning_signs.warning_signs`, `calibration.calibration_rows` and `biomarker_tables.Biomarkers`.
    """

    summary: Sequence[Row]
    comparisons: Sequence[Row]
    ranks: Sequence[Row]
    warning_signs: Sequence[Row]
    calibration: Sequence[Row]
    biomarkers: Biomarkers

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation) -> Tables:
        """Compute all tables.

        Args:
            evaluation: Of one or several models.

        Returns:
            The tables; comparisons and ranks have no rows for a single model.
        """
        several = len(evaluation.models) > 1
        records, classes = evaluation.records, evaluation.classes
        return cls(
            summarize(records, classes),
            compare_models(records, classes) if several else [],
            rank_models(records, classes) if several else [],
            warning_signs.warning_signs(evaluation.sizes, classes),
            calibration.calibration_rows(evaluation.calibration, classes),
            Biomarkers.from_evaluation(evaluation),
        )


def write_results(
    folder: Path, evaluation: Evaluation, tables: Tables, reference: Reference, predictions: Predictions
) -> None:
    """Write the results folder, in place of those of an earlier evaluation.

    Writes per_case.csv, summary.csv, warning_signs.csv, evaluation.json, MODEL/summary.json, with several models
    comparisons.csv and ranks.csv, with probabilities calibration.csv, and where the data give biomarkers biomarkers.csv
    and biomarker_agreement.csv. Of these files, those of an earlier evaluation that this one does not have are removed,
    as is MODEL/summary.json of models that only the earlier one had.

    Args:
        folder: The results folder.
        evaluation: What was measured.
        tables: Made of the same evaluation.
        reference: What it was compared with.
        predictions: Predicted file by model and case.

    Raises:
        OSError: A file cannot be written.
    """
    _remove_other_models(folder, evaluation.models)
    # written last: until then tables of two evaluations may lie here
    (folder / "evaluation.json").unlink(missing_ok=True)
    write_csv(folder / "per_case.csv", [record.row() for record in evaluation.records], PER_CASE_COLUMNS)
    write_csv(folder / "summary.csv", tables.summary, SUMMARY_COLUMNS)
    write_csv(folder / "warning_signs.csv", tables.warning_signs, warning_signs.COLUMNS)
    several = len(evaluation.models) > 1
    for name, rows, columns, is_made in (
        ("comparisons.csv", tables.comparisons, COMPARISON_COLUMNS, several),
        ("ranks.csv", tables.ranks, RANK_COLUMNS, several),
        ("calibration.csv", tables.calibration, calibration.COLUMNS, bool(tables.calibration)),
    ):
        if is_made:
            write_csv(folder / name, rows, columns)
        else:
            (folder / name).unlink(missing_ok=True)
    tables.biomarkers.write(folder)
    for model in evaluation.models:
        of_model = [record for record in evaluation.records if record.model == model]
        files = reference.files, predictions[model]
        content = nnunet_summary(of_model, evaluation.classes, *files, reference.keys)
        if model in evaluation.not_independent:
            content["not_independent"] = evaluation.not_independent[model]
        write_json(folder / model / "summary.json", content)
    write_json(folder / "evaluation.json", _settings(evaluation, reference, predictions))


def _metrics(record: Record | None) -> dict[str, float]:
    if record is None:
        return dict.fromkeys(_METRICS, math.nan)
    counts = record.measured.counts
    return {
        "Dice": record.measured.dice,
        "FN": counts.fn,
        "FP": counts.fp,
        "IoU": record.measured.iou,
        "TN": counts.tn,
        "TP": counts.tp,
        "n_pred": counts.tp + counts.fp,
        "n_ref": counts.tp + counts.fn,
    }


def _remove_other_models(folder: Path, models: Sequence[str]) -> None:
    """Remove what an earlier evaluation wrote into folders of models that are not among these."""
    try:
        content = read_json(folder / "evaluation.json")
    except PartialLabelError:  # there is none
        return
    earlier = content.get("models") if isinstance(content, dict) else None
    for model in earlier if isinstance(earlier, dict) else ():
        if model not in models and is_plain(model):
            with contextlib.suppress(OSError):  # it is gone already, or the folder holds something else
                (folder / model / "summary.json").unlink(missing_ok=True)
                (folder / model).rmdir()


def _settings(evaluation: Evaluation, reference: Reference, predictions: Predictions) -> dict[str, object]:
    """Return what was compared with what, and how: enough to repeat it."""
    return {
        "nnunet_partial": __version__,
        "reference": str(reference.folder.absolute()),
        "manifest": str(reference.manifest_file.absolute()),
        "file_ending": reference.file_ending,
        "models": {model: str(next(iter(files.values())).parent.absolute()) for model, files in predictions.items()},
        "classes": list(evaluation.classes),
        **({"regions": [list(values) for values in reference.regions]} if reference.regions else {}),
        "surface_dice_tolerance": next((record.tolerance for record in evaluation.records), None),
        "interval": f"95 %, Student's t over patients (overlaps by logit, distances by log), none below {MIN_PATIENTS}",
        "findings": evaluation.findings,
        **({"not_independent": dict(evaluation.not_independent)} if evaluation.not_independent else {}),
        **({"cautions": evaluation.cautions} if evaluation.cautions else {}),
        "versions": versions(),
    }
