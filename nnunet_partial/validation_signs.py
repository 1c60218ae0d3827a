"""After the final validation: how large is a structure predicted where nobody drew it, beside its usual size?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.dataset.images import header, size_known
from nnunet_partial.evaluation.case import subject_of
from nnunet_partial.evaluation.metrics import without_thin_axes
from nnunet_partial.evaluation.records import PredictedSize
from nnunet_partial.evaluation.warning_signs import Row, warning_signs
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.masks import Scale
from nnunet_partial.utils.text import text_table


def signs_text(
    summary: Mapping[str, Any],
    manifest: Manifest,
    classes: Sequence[str],
    file_ending: str,
    cases: Collection[str],
    model: str,
) -> str:
    """A table and a sentence for each warning sign; empty where every case knows every class.

    `summary`: what nnU-Net's `compute_metrics_on_folder` returns, not masked yet; cases outside `cases`, and those
    whose masks nobody drew, are left out. `model`: what the sentences call it. See `evaluation.warning_signs`.
    """
    rows = warning_signs(list(_sizes(summary, manifest, classes, file_ending, cases, model)), classes)
    if not rows:
        return ""
    unit = rows[0]["unit"]
    return (
        f"Mean predicted size ({unit}) where nobody drew the structure, beside its true size where it was drawn\n"
        + _table(rows)
        + "".join(f"WARNING SIGN: {row['words']}\n" for row in rows if row["sign"])
    )


def _table(rows: Sequence[Row]) -> str:
    head = ["domain", "class", "cases", "not predicted", "predicted", "usual", "times usual", "usual from"]
    return text_table(
        [*head, "predicted there"],
        [
            [
                *(str(row[key]) for key in ("domain", "class", "n_unknown", "n_not_predicted")),
                *(_number(row[key]) for key in ("predicted_unknown", "usual", "times_usual")),
                str(row["usual_from"]) or "-",
                _number(row["predicted_where_known"]),
            ]
            for row in rows
        ],
    )


def _number(value: str | float | int) -> str:
    return "-" if math.isnan(float(value)) else f"{float(value):.3g}"


def _sizes(
    summary: Mapping[str, Any],
    manifest: Manifest,
    classes: Sequence[str],
    file_ending: str,
    cases: Collection[str],
    model: str,
) -> Iterator[PredictedSize]:
    """The size of every class in every case, from nnU-Net's own counts of voxels."""
    for entry in summary["metric_per_case"]:
        case = Path(entry["prediction_file"]).name.removesuffix(file_ending)
        labels = manifest.find(case) if case in cases else None
        if labels is None or labels.interpolated:
            continue
        scale = _scale(Path(entry["reference_file"]), labels)
        for value, name in enumerate(classes, start=1):
            counts = entry["metrics"][value]
            voxels = max(1, sum(counts[key] for key in ("TP", "FP", "FN", "TN")))
            true = counts["n_ref"] if name in labels.known else None
            yield PredictedSize(
                model,
                subject_of(case, labels),
                name,
                counts["n_pred"] * scale.voxel_size,
                counts["n_pred"] / voxels,
                scale.size_unit,
                None if true is None else true * scale.voxel_size,
                None if true is None else true / voxels,
            )


def _scale(reference: Path, labels: CaseLabels) -> Scale:
    """What a voxel of the case measures; a header that only nnU-Net can read counts as unknown."""
    try:
        geometry = header(reference)
    except OSError:
        return Scale.of((1.0, 1.0), known=False)
    shape = np.broadcast_to(np.uint8(0), geometry.size[::-1])
    _, spacing_mm = without_thin_axes(shape, geometry.spacing_mm[::-1])
    return Scale.of(spacing_mm, size_known(labels, geometry))
