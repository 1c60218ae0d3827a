"""summary.json as nnU-Net writes it, counting only what each case was annotated for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.evaluation.records import Record, mean

#: Says which overall mean the file has; nnU-Net's tools read the other keys.
HOW_AVERAGED = (
    "foreground_mean is the mean of the classes' means, as nnU-Net computes it. (all) in summary.csv is another "
    "number: the mean over all pairs of case and class."
)
_METRICS = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")


def nnunet_summary(
    records: Sequence[Record], classes: Sequence[str], references: Mapping[str, Path], predictions: Mapping[str, Path]
) -> dict[str, Any]:
    """The content of summary.json for the records of one model; label values as keys.

    A structure that a case does not know is NaN throughout. A mean leaves NaN out, and is NaN over nothing; the
    foreground mean is over the structures that have one, as how_averaged says. Files by case.
    """
    of_case: dict[str, dict[str, Record]] = {}
    for record in records:
        of_case.setdefault(record.subject.case, {})[record.structure] = record
    cases: list[dict[str, Any]] = [
        {
            "metrics": {str(value): _metrics(known.get(name)) for value, name in enumerate(classes, start=1)},
            "prediction_file": str(predictions[case]),
            "reference_file": str(references[case]),
        }
        for case, known in of_case.items()
    ]
    means = {
        str(value): {metric: mean(case["metrics"][str(value)][metric] for case in cases) for metric in _METRICS}
        for value in range(1, len(classes) + 1)
    }
    foreground = {metric: mean(of_class[metric] for of_class in means.values()) for metric in _METRICS}
    return {
        "foreground_mean": foreground,
        "mean": means,
        "metric_per_case": cases,
        "how_averaged": HOW_AVERAGED,
    }


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
