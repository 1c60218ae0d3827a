"""Statistics on examples small enough to compute by hand.

Equal patients are equal, and equal differences tied, whatever the rounding of the numbers they come from.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnunet_partial.evaluation.metrics import Counts, StructureMetrics
from nnunet_partial.evaluation.records import Record, Subject
from nnunet_partial.evaluation.statistics import (
    DIFFERENCE,
    DISTANCE,
    SHARE,
    Paired,
    describe,
    differences,
    holm,
    mean_interval,
    mean_ranks,
    signed_rank,
)
from nnunet_partial.evaluation.tables import compare_models, rank_models
from nnunet_partial.utils.masks import Scale


def test_described_by_hand() -> None:
    """1, 2, 3, 4, 10: mean 4, squared deviations 9 + 4 + 1 + 0 + 36 = 50, SD sqrt(50 / 4)."""
    found = describe([10, 1, 2, 4, 3], list("aabbc"), DISTANCE)
    assert (found.mean, found.median, found.q1, found.q3, found.iqr) == (4, 3, 2, 4, 2)
    assert found.sd == pytest.approx(math.sqrt(12.5))
    assert (found.n_values, found.n_patients) == (5, 3)


def test_nothing_and_a_single_number() -> None:
    nothing, single = describe([], [], SHARE), describe([0.5], ["a"], SHARE)
    assert (nothing.n_values, nothing.n_patients, math.isnan(nothing.mean), math.isnan(nothing.ci_low)) == (
        0,
        0,
        True,
        True,
    )
    assert (single.mean, single.median, math.isnan(single.sd), math.isnan(single.ci_low)) == (0.5, 0.5, True, True)


def test_the_interval_by_hand() -> None:
    """Patient a has 1 and 1, the others 2, 3, 4, 7: mean 3, sums of deviations -4, -1, 0, 1, 4 (squares 34).

    Standard error sqrt(5 / 4 x 34) / 6 = 1.08653; t of 4 degrees of freedom at 97.5 %: 2.77645.
    """
    found = mean_interval(np.array([1.0, 1, 2, 3, 4, 7]), list("aabcde"), DIFFERENCE)
    assert found == pytest.approx((3 - 3.01669, 3 + 3.01669), abs=1e-4)


def test_the_interval_of_shares_and_distances_by_hand() -> None:
    """0.5 to 0.9: mean 0.7, standard error sqrt(5 / 4 x 0.1) / 5 = 0.07071; logit 0.84730 -+ 2.77645 x 0.07071 / 0.21.

    1 to 5: mean 3, standard error 0.70711; 3 times or divided by exp(2.77645 x 0.70711 / 3) = 1.92402.
    """
    share = mean_interval(np.array([0.5, 0.6, 0.7, 0.8, 0.9]), list("abcde"), SHARE)
    assert share == pytest.approx([1 / (1 + math.exp(-(0.84730 + side * 0.93488))) for side in (-1, 1)], abs=1e-4)
    distance = mean_interval(np.array([1.0, 2, 3, 4, 5]), list("abcde"), DISTANCE)
    assert distance == pytest.approx((3 / 1.92402, 3 * 1.92402), abs=1e-3)


def test_the_interval_of_a_share_stays_below_1() -> None:
    """A mean Dice of 0.84 beside 1: untransformed it would end at 0.84 + 2.78 x 0.16 = 1.28."""
    low, high = mean_interval(np.array([1, 1, 1, 1, 0.2]), list("abcde"), SHARE)
    assert 0 < low < 0.84 < high < 1


def test_frames_of_one_patient_add_no_certainty() -> None:
    rng = np.random.default_rng(3)
    each = rng.normal(0.8, 0.1, 20)
    names = [f"p{n}" for n in range(20)]
    once = mean_interval(each, names, SHARE)
    repeated = mean_interval(np.repeat(each, 10), [name for name in names for _ in range(10)], SHARE)
    assert repeated == pytest.approx(once)
    apart = mean_interval(np.repeat(each, 10), [str(n) for n in range(200)], SHARE)
    assert apart[1] - apart[0] < 0.5 * (once[1] - once[0])


def test_of_one_value_each_the_interval_is_that_of_a_t_test() -> None:
    values = np.random.default_rng(0).normal(10, 2, 12)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert mean_interval(values, [str(n) for n in range(12)], DIFFERENCE) == pytest.approx(tuple(expected))


def test_below_five_patients_there_is_no_interval() -> None:
    values = np.linspace(0.5, 0.9, 40)
    assert all(math.isnan(bound) for bound in mean_interval(values, list("abcd") * 10, SHARE))
    assert not any(math.isnan(bound) for bound in mean_interval(values, list("abcde") * 8, SHARE))


@pytest.mark.parametrize(("limits", "value"), [(SHARE, 0.0), (SHARE, 1.0), (DISTANCE, 0.0), (DIFFERENCE, -2.0)])
def test_equal_values_give_an_interval_without_width(limits: tuple[float, float], value: float) -> None:
    assert mean_interval(np.full(5, value), list("abcde"), limits) == (value, value)


@pytest.mark.no_cover
@pytest.mark.parametrize(("n", "at_least"), [(5, 0.9), (10, 0.92), (20, 0.92)])
def test_about_95_of_100_intervals_hold_the_true_mean(n: int, at_least: float) -> None:
    """Patients' Dice from a Beta distribution of mean 0.85, SD 0.13; the percentile bootstrap: 0.78, 0.87, 0.90."""
    rng, names, held = np.random.default_rng(0), [str(patient) for patient in range(n)], 0
    for _ in range(1000):
        low, high = mean_interval(rng.beta(0.85 * 6, 0.15 * 6, n), names, SHARE)
        held += low <= 0.85 <= high
    assert held / 1000 >= at_least


def test_signed_rank_by_hand() -> None:
    """Differences 1, 2, 3, -4, 5: W+ = 11, W- = 4. Of the 32 signs 7 give a sum of at most 4 (none, 1, 2, 3, 4, 1 + 2,
    1 + 3): p = 2 * 7 / 32. Effect (11 - 4) / 15."""
    found = signed_rank([1, 2, 3, 0, 5], [0, 0, 0, 4, 0])
    assert (found.n_pairs, found.n_differ) == (5, 5)
    assert found.p == pytest.approx(14 / 32)
    assert found.rank_biserial == pytest.approx(7 / 15)


def test_six_of_six_is_the_smallest_p_of_six_pairs() -> None:
    found = signed_rank([1, 2, 3, 4, 5, 6], [0] * 6)
    assert found.p == pytest.approx(2 / 64)
    assert found.rank_biserial == 1
    assert signed_rank([0] * 6, [1, 2, 3, 4, 5, 6]).rank_biserial == -1


def test_infinite_is_the_largest_of_all() -> None:
    """inf - 1, 2 - 5, 1 - 0: ranks 3, 2, 1; W+ = 3 + 1, W- = 2. Two infinite ones do not differ."""
    found = signed_rank([math.inf, 2, 1, math.inf], [1, 5, 0, math.inf])
    assert (found.n_pairs, found.n_differ) == (4, 3)
    assert found.rank_biserial == pytest.approx((4 - 2) / 6)


def test_no_difference_and_no_pair() -> None:
    assert signed_rank([1, 2], [1, 2]) == Paired(2, 0, 1.0, 0.0)
    nothing = signed_rank([], [])
    assert (nothing.n_pairs, math.isnan(nothing.p), math.isnan(nothing.rank_biserial)) == (0, True, True)


@pytest.mark.slow
def test_holm_by_hand() -> None:
    """Sorted 0.01 x 3, 0.03 x 2, 0.04 x 1, never below the one before: 0.03, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, math.nan, 0.5]) == pytest.approx([0.04, math.nan, 0.5], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_mean_ranks_by_hand() -> None:
    """First patient a 1, b 2; second both 1.5; third a 1, b 2."""
    values = {"a": [0.9, 0.8, 0.7], "b": [0.8, 0.8, 0.6]}
    assert mean_ranks(values, more_is_better=True) == pytest.approx({"a": 3.5 / 3, "b": 5.5 / 3})
    assert mean_ranks(values, more_is_better=False) == pytest.approx({"a": 5.5 / 3, "b": 3.5 / 3})
    assert mean_ranks({"a": [math.inf], "b": [3.0]}, more_is_better=False) == {"a": 2, "b": 1}
    assert math.isnan(mean_ranks({"a": [], "b": []}, more_is_better=True)["a"])


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
            measured = StructureMetrics(Counts(1, 0, 0, 9), 1, 1, 1, 1, 1, value, value, value, 1, 1)
            subject = Subject(f"{patient}_{number}", "a", patient)
            found.append(Record(model, subject, "LV", "annotated", measured, Scale.from_spacing((1.0, 1.0)), 1))
    return found


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.no_cover
@given(st.lists(four_cases, min_size=1, max_size=7), st.data())
def test_the_order_of_cases_within_a_patient_changes_nothing(
    patients: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    def tested(cases_of: list[list[tuple[int, int]]]) -> tuple[Paired, dict[str, float]]:
        means = [[sum(PIXEL * case[model] for case in cases) / 4 for cases in cases_of] for model in (0, 1)]
        return signed_rank(*means), mean_ranks({"a": means[0], "b": means[1]}, more_is_better=True)

    assert tested(patients) == tested([data.draw(st.permutations(cases)) for cases in patients])
