"""Means over what is known: small summaries whose numbers can be checked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.training.validation import mask_unknown

CLASSES = ("LV", "MYO")
MANIFEST = Manifest(
    {"a": CaseLabels(("LV", "MYO")), "b": CaseLabels(("LV",)), "c": CaseLabels(("LV",), absent=("MYO",))}
)


def summary(**dice: tuple[float, float]) -> dict[str, Any]:
    """As nnU-Net's compute_metrics_on_folder returns it, with the means it would have computed left wrong."""
    return {
        "metric_per_case": [
            {
                "prediction_file": f"/somewhere/{case}.nii.gz",
                "reference_file": f"/elsewhere/{case}.nii.gz",
                "metrics": {1: {"Dice": values[0], "FP": 4}, 2: {"Dice": values[1], "FP": 8}},
            }
            for case, values in dice.items()
        ],
        "mean": {1: {"Dice": -1.0, "FP": -1.0}, 2: {"Dice": -1.0, "FP": -1.0}},
        "foreground_mean": {"Dice": -1.0, "FP": -1.0},
    }


def test_unknown_pairs_leave_the_means() -> None:
    result = summary(a=(0.9, 0.5), b=(0.7, 0.0), c=(0.8, 0.0))
    mask_unknown(result, MANIFEST, CLASSES, ".nii.gz", {"a", "b", "c"})
    a, b, c = (entry["metrics"] for entry in result["metric_per_case"])
    assert a[2] == {"Dice": 0.5, "FP": 8}
    assert math.isnan(b[2]["Dice"])
    assert math.isnan(b[2]["FP"])
    assert c[2]["Dice"] == 0.0  # known to be absent, predicted all the same: counts
    assert result["mean"][1]["Dice"] == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert result["mean"][2] == {"Dice": pytest.approx((0.5 + 0.0) / 2), "FP": pytest.approx((8 + 8) / 2)}
    assert result["foreground_mean"]["Dice"] == pytest.approx((0.8 + 0.25) / 2)


def test_empty_in_both_stays_nan_and_is_left_out() -> None:
    result = summary(a=(0.9, math.nan), c=(0.7, 0.0))
    mask_unknown(result, MANIFEST, CLASSES, ".nii.gz", {"a", "c"})
    assert result["mean"][2]["Dice"] == 0.0


def test_a_class_that_no_case_knows_has_no_mean_and_leaves_the_foreground_mean() -> None:
    result = summary(b=(0.6, 0.0))
    mask_unknown(result, MANIFEST, CLASSES, ".nii.gz", {"b"})
    assert math.isnan(result["mean"][2]["Dice"])
    assert result["foreground_mean"]["Dice"] == 0.6


def test_predictions_left_by_another_split_do_not_count() -> None:
    result = summary(a=(0.9, 0.5), b=(0.1, 0.0))
    mask_unknown(result, MANIFEST, CLASSES, ".nii.gz", {"a"})
    assert [entry["prediction_file"] for entry in result["metric_per_case"]] == ["/somewhere/a.nii.gz"]
    assert result["mean"][1]["Dice"] == 0.9
