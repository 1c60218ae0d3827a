"""Equal patients are equal, and equal differences tied, whatever the rounding of the numbers they come from."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnunet_partial.evaluation.metrics import Counts, Measured
from nnunet_partial.evaluation.records import Record, Subject
from nnunet_partial.evaluation.statistics import Paired, differences, mean_ranks, signed_rank
from nnunet_partial.evaluation.tables import compare_models, rank_models
from nnunet_partial.utils.masks import Scale

#: A pixel of 0.308 mm: 3 x 0.308 - 2 x 0.308 is not 0.308 in the computer.
PIXEL = 0.308

whole_numbers = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=9)


def enumerated(ours: list[int], theirs: list[int]) -> tuple[float, float]:
    """p and effect by trying all signs of the ranks of whole numbers."""
    found = [a - b for a, b in zip(ours, theirs, strict=True) if a != b]
    if not found:
        return 1.0, 0.0
    ranks = [float(rank) for rank in stats.rankdata(np.abs(found))]
    w_plus = sum(rank for rank, one in zip(ranks, found, strict=True) if one > 0)
    smaller = min(w_plus, sum(ranks) - w_plus)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return min(1.0, 2 * sum(one <= smaller for one in sums) / len(sums)), 2 * w_plus / sum(ranks) - 1


@given(whole_numbers)
def test_millimetres_are_tested_as_the_pixels_they_come_from(pairs: list[tuple[int, int]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    p, effect = enumerated(ours, theirs)
    for scale in (1.0, PIXEL, 1e6 / 3):
        found = signed_rank([scale * a for a in ours], [scale * b for b in theirs])
        assert found.n_differ == sum(a != b for a, b in pairs)
        assert found.p == pytest.approx(p, abs=1e-12)
        assert found.rank_biserial == pytest.approx(effect, abs=1e-12)


def test_without_ties_it_is_scipys_exact_test_up_to_50_patients() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 7, 20, 50):
        ours, theirs = rng.normal(0.1, 1, n), rng.normal(0, 1, n)
        assert signed_rank(ours, theirs).p == pytest.approx(stats.wilcoxon(ours, theirs, method="exact").pvalue)
    ours, theirs = rng.integers(0, 9, 80), rng.integers(0, 9, 80)
    found = signed_rank(ours * PIXEL, theirs * PIXEL)
    assert found.n_differ > 50
    assert found.p == pytest.approx(stats.wilcoxon(ours, theirs, method="asymptotic").pvalue)


def test_fifty_ties_all_of_one_sign_are_still_counted_exactly() -> None:
    assert signed_rank([PIXEL] * 50, [0.0] * 50) == Paired(50, 50, 2 / 2**50, 1.0)


def test_what_differs_by_rounding_alone_is_equal() -> None:
    """0.1 + 0.2 is not 0.3 in the computer; 0.3000001 is another number."""
    ours, theirs = [0.1 + 0.2, 0.3000001, 5.0, math.inf, math.inf], [0.3, 0.3, 7.0, math.inf, 1.0]
    assert 0.1 + 0.2 != 0.3
    assert differences(ours, theirs).tolist() == pytest.approx([0.0, 1e-7, -2.0, 0.0, math.inf])
    assert differences(ours, theirs)[0] == 0
    assert signed_rank(ours, theirs).n_differ == 3
    assert differences([], []).tolist() == []
    ranks = mean_ranks({"a": [0.1 + 0.2, 1.0], "b": [0.3, 1.0], "c": [math.inf, 1.1]}, more_is_better=False)
    assert ranks == {"a": 1.5, "b": 1.5, "c": 3.0}


def records(model: str, hd95: dict[str, list[float]]) -> list[Record]:
    """One structure in each case; `hd95` by patient."""
    found = []
    for patient, values in hd95.items():
        for number, value in enumerate(values):
            measured = Measured(Counts(1, 0, 0, 9), 1, 1, 1, 1, 1, value, value, value, 1, 1)
            subject = Subject(f"{patient}_{number}", "a", patient)
            found.append(Record(model, subject, "LV", "annotated", measured, Scale.from_spacing((1.0, 1.0)), 1))
    return found


def test_models_that_err_alike_in_other_cases_of_a_patient_do_not_differ() -> None:
    """Both are off by the same numbers in each patient, in another order: the mean of each patient is the same."""
    rng = np.random.default_rng(1)
    off = {f"p{patient}": (rng.integers(0, 5, 7) * PIXEL).tolist() for patient in range(10)}
    other = {patient: rng.permutation(values).tolist() for patient, values in off.items()}
    assert any(sum(off[p]) != sum(other[p]) for p in off)  # as the computer adds them
    rows = compare_models([*records("a", off), *records("b", other)], ["LV"])
    (row,) = [row for row in rows if row["metric"] == "hd95"]
    assert (row["n_patients"], row["n_differ"], row["p"], row["rank_biserial"], row["better"]) == (10, 0, 1, 0, "")
    assert row["median_difference"] == 0
    ranks = rank_models([*records("a", off), *records("b", other)], ["LV"])
    assert {(row["mean_rank"], row["rank"]) for row in ranks if row["metric"] == "hd95"} == {(1.5, 1)}


four_cases = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=4)


@given(st.lists(four_cases, min_size=1, max_size=7), st.data())
def test_the_order_of_cases_within_a_patient_changes_nothing(
    patients: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    def tested(cases_of: list[list[tuple[int, int]]]) -> tuple[Paired, dict[str, float]]:
        means = [[sum(PIXEL * case[model] for case in cases) / 4 for cases in cases_of] for model in (0, 1)]
        return signed_rank(*means), mean_ranks({"a": means[0], "b": means[1]}, more_is_better=True)

    assert tested(patients) == tested([data.draw(st.permutations(cases)) for cases in patients])
