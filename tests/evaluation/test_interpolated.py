"""Masks that were computed from those of other frames are nobody's annotation: nothing is evaluated on them."""

from __future__ import annotations

import math

import pytest

from nnunet_partial.cli import main
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.training.validation import mask_unknown

from .conftest import POOR, TRUTH, Place, change_manifest


def test_they_are_no_reference_and_their_predictions_are_no_finding(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    change_manifest(place.dataset, "a_p1_ES", interpolated=True)
    change_manifest(place.dataset, "a_p1_ED", interpolated=False)
    words = ["evaluate", "-d", "510", "--pred", str(place.predict("p", POOR)), "-o", str(place.out), "-np", "1"]
    assert main(words) == 0
    text = (place.out / "per_case.csv").read_text()
    assert [case for case in TRUTH if f",{case}," not in text] == ["a_p1_ES"]
    assert "1 case(s) with interpolated masks" in capsys.readouterr().out


def test_they_leave_the_means_of_the_final_validation() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",)), "b": CaseLabels(("LV",), info={"interpolated": True})})
    summary = {
        "metric_per_case": [
            {"prediction_file": f"/p/{case}.nii.gz", "reference_file": "", "metrics": {1: {"Dice": dice}}}
            for case, dice in (("a", 0.5), ("b", 0.9))
        ],
        "mean": {1: {"Dice": -1.0}},
        "foreground_mean": {"Dice": -1.0},
    }
    mask_unknown(summary, manifest, ("LV",), ".nii.gz", {"a", "b"})
    assert summary["mean"][1]["Dice"] == summary["foreground_mean"]["Dice"] == 0.5  # type: ignore[index]
    assert math.isnan(summary["metric_per_case"][1]["metrics"][1]["Dice"])  # type: ignore[index]
