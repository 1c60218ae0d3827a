"""The final validation's summary.json, in nnU-Net's format, counting only what each case was annotated for."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.labels import Manifest


def mask_unknown(
    summary: dict[str, Any], manifest: Manifest, classes: Sequence[str], file_ending: str, cases: Collection[str]
) -> None:
    """Sets every metric of a class that a case does not know to NaN and computes the means again without them.

    So is every metric of a case whose mask nobody drew (interpolated).

    `summary`: what nnU-Net's `compute_metrics_on_folder` returns, label values as keys; changed in place. Cases outside
    `cases` (left in the folder by another split) are dropped. A mean over nothing is NaN; the foreground mean is the
    mean over the classes that have one.
    """
    kept = []
    for entry in summary["metric_per_case"]:
        case = Path(entry["prediction_file"]).name[: -len(file_ending)]
        if case not in cases:
            continue
        known = manifest.known(case, classes) & (not manifest.labels_of(case).interpolated)
        for label, metrics in entry["metrics"].items():
            if not known[int(label)]:
                entry["metrics"][label] = dict.fromkeys(metrics, math.nan)
        kept.append(entry)
    summary["metric_per_case"] = kept
    for label, metrics in summary["mean"].items():
        for name in metrics:
            metrics[name] = _mean([entry["metrics"][label][name] for entry in kept])
    for name in summary["foreground_mean"]:
        summary["foreground_mean"][name] = _mean([metrics[name] for metrics in summary["mean"].values()])


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan
