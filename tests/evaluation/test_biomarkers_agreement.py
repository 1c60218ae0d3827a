"""Bland-Altman, mean error and correlations, by hand."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from nnunet_partial.evaluation.biomarker_agreement import agreement, agreement_rows
from nnunet_partial.evaluation.records import Row


def test_by_hand() -> None:
    """Differences 2, -1, 3, 0, 1: mean 1, squares of deviations 1 + 4 + 4 + 1 + 0 = 10, SD sqrt(10 / 4) = 1.5811.

    t of 4 degrees of freedom at 97.5 %: 2.7764. Bias: 1 -+ 2.7764 x 1.5811 / sqrt(5). Limits: 1 -+ 1.96 x 1.5811, each
    -+ 2.7764 x 1.5811 x sqrt(1 / 5 + 1.96^2 / 8) = 3.6205.
    """
    found = agreement([50, 60, 70, 80, 65], [52, 59, 73, 80, 66])
    assert (found.n, found.mean_reference, found.mean_prediction, found.bias, found.mae) == (5, 65, 66, 1, 1.4)
    assert found.sd == pytest.approx(1.5811, abs=1e-4)
    assert (found.bias_ci95_low, found.bias_ci95_high) == pytest.approx((1 - 1.9632, 1 + 1.9632), abs=1e-3)
    assert (found.loa_low, found.loa_high) == pytest.approx((1 - 3.0990, 1 + 3.0990), abs=1e-3)
    assert found.loa_low_ci95_low == pytest.approx(1 - 3.0990 - 3.6205, abs=2e-3)
    assert found.loa_low_ci95_high == pytest.approx(1 - 3.0990 + 3.6205, abs=2e-3)
    assert found.loa_high_ci95_low == pytest.approx(1 + 3.0990 - 3.6205, abs=2e-3)
    assert found.loa_high_ci95_high == pytest.approx(1 + 3.0990 + 3.6205, abs=2e-3)


def test_correlation_and_concordance_by_hand() -> None:
    """x deviates by -15, -5, 5, 15, 0 (squares 500), y by -14, -7, 7, 14, 0 (490), products 210 + 35 + 35 + 210 = 490.

    r = 490 / sqrt(500 x 490); Lin: 2 x 490 / 5 / (500 / 5 + 490 / 5 + 1^2). Fisher: tanh(atanh(r) -+ 1.96 / sqrt(2)).
    """
    found = agreement([50, 60, 70, 80, 65], [52, 59, 73, 80, 66])
    r = 490 / math.sqrt(500 * 490)
    assert found.pearson_r == pytest.approx(r)
    assert found.pearson_r_ci95_low == pytest.approx(math.tanh(math.atanh(r) - 1.96 / math.sqrt(2)), abs=1e-3)
    assert found.pearson_r_ci95_high == pytest.approx(math.tanh(math.atanh(r) + 1.96 / math.sqrt(2)), abs=1e-3)
    assert found.ccc == pytest.approx(196 / (100 + 98 + 1))


def test_of_four_patients_no_interval_and_no_limits() -> None:
    found = asdict(agreement([50, 60, 70, 80], [52, 59, 73, 80]))
    assert (found["n"], found["bias"], found["mae"]) == (4, 1, 1.5)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        *(name for name in found if "loa" in name or "ci95" in name),
    }
    assert found["pearson_r"] == pytest.approx(490 / math.sqrt(500 * 490))


def test_a_constant_offset_correlates_but_does_not_agree() -> None:
    found = agreement([40, 50, 60], [50, 60, 70])
    assert (found.bias, found.sd, found.pearson_r) == (10, 0, pytest.approx(1))
    assert found.ccc == pytest.approx(2 * 200 / 3 / (200 / 3 + 200 / 3 + 100))


def test_few_or_equal_numbers() -> None:
    nothing = asdict(agreement([], []))
    assert nothing.pop("n") == 0
    assert all(math.isnan(value) for value in nothing.values())
    one = agreement([50], [55])
    assert (one.n, one.bias, one.mae) == (1, 5, 5)
    assert all(math.isnan(value) for value in (one.sd, one.loa_low, one.bias_ci95_low, one.pearson_r, one.ccc))
    two = agreement([50, 60], [50, 62])
    assert (two.bias, two.sd) == (1, pytest.approx(math.sqrt(2)))
    assert math.isnan(two.pearson_r)
    flat = agreement([50, 50, 50], [49, 50, 51])
    assert math.isnan(flat.pearson_r)
    assert math.isnan(flat.ccc)


def row(domain: str, patient: str, reference: float, prediction: float, **other: str) -> Row:
    what: Row = {"model": "m", "biomarker": "EF", "unit": "%", "method": "biplane", **other}
    return {**what, "domain": domain, "patient": patient, "reference": reference, "prediction": prediction}


def test_rows_by_domain_and_method_and_who_is_left_out() -> None:
    nan = math.nan
    rows = agreement_rows(
        [
            row("a", "1", 50, 52),
            row("a", "2", 60, nan),  # no prediction: counted as such
            row("a", "3", nan, 70),  # no reference: nowhere
            row("b", "4", 40, 40),
            row("b", "4", 44, 40, method="reported by dataset"),
            row("b", "4", 90, 95, biomarker="EDV", unit="mL"),
        ]
    )
    shown = [(r["domain"], r["biomarker"], r["method"], r["n"], r["n_reference"], r["n_no_prediction"]) for r in rows]
    assert shown == [
        ("a", "EF", "biplane", 1, 2, 1),
        ("b", "EDV", "biplane", 1, 1, 0),
        ("b", "EF", "biplane", 1, 1, 0),
        ("b", "EF", "reported by dataset", 1, 1, 0),
        ("(all)", "EDV", "biplane", 1, 1, 0),
        ("(all)", "EF", "biplane", 2, 3, 1),
        ("(all)", "EF", "reported by dataset", 1, 1, 0),
    ]
    assert (rows[5]["mean_reference"], rows[5]["bias"]) == (45, 1)


def test_in_all_domains_a_patient_counts_once() -> None:
    """Patient 1: 50 / 54 and 60 / 60, so 55 / 57; 2: 40 / 40 and no prediction, so 40 / 40; 3: none at all."""
    rows = agreement_rows(
        [
            *(row("a", "1", 50, 54), row("b", "1", 60, 60), row("a", "2", 40, 40), row("b", "2", 44, math.nan)),
            *(row("a", "3", 30, math.nan), row("b", "3", 32, math.nan)),
        ]
    )
    every = {str(r["domain"]): (r["n"], r["n_reference"], r["n_no_prediction"]) for r in rows}
    assert every == {"a": (2, 3, 1), "b": (1, 3, 2), "(all)": (2, 3, 1)}
    whole = rows[-1]
    assert (whole["mean_reference"], whole["mean_prediction"], whole["bias"]) == (47.5, 48.5, 1)
