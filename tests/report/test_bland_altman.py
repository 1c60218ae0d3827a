"""How many patients a Bland-Altman plot says it shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from nnunet_partial.report.bland_altman import draw_agreement
from nnunet_partial.report.results import Results

KEY = ("EDV", "mL", "biplane")


def seen(patients: Sequence[tuple[str, str]]) -> Results:
    what = dict(zip(("biomarker", "unit", "method"), KEY, strict=True))
    rows = [
        {"model": "m", "domain": domain, "patient": patient, **what, "reference": "50", "prediction": "52"}
        for domain, patient in patients
    ]
    where, none = {"m": Path("m")}, ((),) * 5
    return Results(Path(), Path(), Path(), ".nii.gz", where, ["LV"], [], {}, *none, biomarkers=rows, agreement=())


@pytest.mark.parametrize(
    ("patients", "n", "said"),
    [
        ([("a", "1"), ("a", "2"), ("b", "3")], 3, r"per patient\. .*: mean difference;"),
        ([("a", "1"), ("a", "2"), ("b", "1")], 2, r"per patient and domain\. .*: mean difference over"),
    ],
)
def test_a_patient_of_two_domains_is_two_points_and_one_patient(
    patients: list[tuple[str, str]], n: int, said: str
) -> None:
    picture = draw_agreement(seen(patients), KEY)
    assert picture is not None
    axes = picture.figure.axes[0]
    assert axes.get_title() == f"m (n = {n})"
    assert sum(len(points.get_offsets()) for points in axes.collections) == 3
    assert re.search(said, picture.caption)
