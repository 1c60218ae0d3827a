"""Which model is called better, and how p is printed beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_partial.evaluation.console import format_comparisons, p_text, stars
from nnunet_partial.evaluation.metrics import Counts, StructureMetrics
from nnunet_partial.evaluation.records import Record, Row, Subject
from nnunet_partial.evaluation.tables import compare_models
from nnunet_partial.utils.masks import Scale


def compared(a: Sequence[float], b: Sequence[float], metric: str = "dice") -> Row:
    """Two models on one structure, one number of the metric per patient."""
    records = []
    for model, values in (("a", a), ("b", b)):
        for patient, value in enumerate(values):
            dice, distance = (value, 1.0) if metric == "dice" else (1.0, value)
            measured = StructureMetrics(Counts(1, 0, 0, 9), dice, 1, 1, 1, 1, distance, distance, distance, 1, 1)
            subject = Subject(f"p{patient}", "x", f"p{patient}")
            records.append(Record(model, subject, "LV", "annotated", measured, Scale.from_spacing((1.0, 1.0)), 2))
    (row,) = [row for row in compare_models(records, ["LV"]) if row["metric"] == metric]
    return row


@pytest.mark.slow
def test_six_of_six_patients_are_enough() -> None:
    """p = 2 / 2^6 = 0.031, a single test."""
    row = compared([0.9] * 6, [0.8, 0.81, 0.82, 0.83, 0.84, 0.85])
    assert (row["better"], row["p_holm"], row["rank_biserial"]) == ("a", 2 / 64, 1)
    assert compared([0.8] * 6, [0.9] * 6)["better"] == "b"


@pytest.mark.slow
def test_the_lower_mean_is_not_called_better_for_its_ranks() -> None:
    """Differences 0.01, 0.02, 0.03, -0.5: W+ = 6, W- = 4, effect 0.2; 7 of 16 signs give at most 4: p = 0.875."""
    row = compared([0.81, 0.82, 0.83, 0.3], [0.8] * 4)
    assert (row["rank_biserial"], row["p_holm"]) == (pytest.approx(0.2), 14 / 16)
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((0.69, 0.8))
    assert row["better"] == ""
    line = format_comparisons([row]).splitlines()[-1].split()
    assert line == ["a", "-", "b", "x", "LV", "0.690", "0.800", "-", "+0.20", "0.875", "4"]


@pytest.mark.slow
def test_five_of_five_patients_are_not_enough() -> None:
    assert (compared([0.9] * 5, [0.8] * 5)["p_holm"], compared([0.9] * 5, [0.8] * 5)["better"]) == (2 / 32, "")


@pytest.mark.slow
def test_nobody_is_better_where_ranks_and_means_contradict_each_other() -> None:
    """a is better by 0.01 in 19 of 20 patients (W- = 20 of 210, p = 0.0003), and by 0.04 worse on average."""
    row = compared([0.51] * 19 + [0.0], [0.5] * 19 + [1.0])
    assert row["p_holm"] < 0.001  # type: ignore[operator]
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((0.4845, 0.525))
    assert row["better"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("missed_by_a", [1.0, math.inf])
def test_a_distance_is_better_where_it_is_smaller(missed_by_a: float) -> None:
    """Seven patients; b misses one, and so does a or not: where both means are infinite the effect decides."""
    row = compared([2.0] * 6 + [missed_by_a], [3.0, 4, 5, 6, 7, 8, math.inf], "hd95")
    assert (row["better"], row["mean_b"]) == ("a", math.inf)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0496, "0.0496"),
        (0.04996, "0.04996"),
        (0.05, "0.050"),
        (0.0504, "0.050"),
        (0.0096, "0.0096"),
        (0.04, "0.040"),
        (0.001, "0.001"),
        (0.00099, "< 0.001"),
        (1.0, "1.000"),
    ],
)
def test_p_is_printed_on_its_side_of_the_levels(p: float, text: str) -> None:
    assert p_text(p) == text


@given(st.floats(0.001, 1))
def test_the_printed_p_earns_the_stars_of_p(p: float) -> None:
    assert stars(float(p_text(p))) == stars(p)
