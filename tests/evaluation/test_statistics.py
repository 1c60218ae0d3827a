"""Statistics on examples small enough to compute by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nnunet_partial.evaluation.statistics import (
    DIFFERENCE,
    DISTANCE,
    SHARE,
    Paired,
    describe,
    holm,
    mean_interval,
    mean_ranks,
    signed_rank,
)


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
