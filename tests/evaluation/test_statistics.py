"""Statistics on examples small enough to compute by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_partial.evaluation.statistics import Paired, describe, holm, mean_interval, mean_ranks, signed_rank


def test_described_by_hand() -> None:
    """1, 2, 3, 4, 10: mean 4, squared deviations 9 + 4 + 1 + 0 + 36 = 50, SD sqrt(50 / 4)."""
    found = describe([10, 1, 2, 4, 3], list("aabbc"))
    assert (found.mean, found.median, found.q1, found.q3, found.iqr) == (4, 3, 2, 4, 2)
    assert found.sd == pytest.approx(math.sqrt(12.5))
    assert (found.n_values, found.n_patients) == (5, 3)


def test_nothing_and_a_single_number() -> None:
    nothing, single = describe([], []), describe([0.5], ["a"])
    assert (nothing.n_values, nothing.n_patients, math.isnan(nothing.mean), math.isnan(nothing.ci_low)) == (
        0,
        0,
        True,
        True,
    )
    assert (single.mean, single.median, math.isnan(single.sd), math.isnan(single.ci_low)) == (0.5, 0.5, True, True)


def test_the_interval_draws_patients() -> None:
    """Patients a: 0 and 0; b: 1; c: 4. Of 27 equally likely draws one is a, a, a (mean 0), one c, c, c (mean 4): each
    1 / 27 = 3.7 %, more than 2.5 %, so the interval is 0 to 4. Drawing values, four times 4 comes in 1 of 256."""
    assert mean_interval(np.array([0.0, 0, 1, 4]), list("aabc")) == (0, 4)


def test_frames_of_one_patient_add_no_certainty() -> None:
    rng = np.random.default_rng(3)
    each = rng.normal(0.8, 0.1, 20)
    names = [f"p{n}" for n in range(20)]
    once = mean_interval(each, names)
    assert mean_interval(np.repeat(each, 10), [name for name in names for _ in range(10)]) == pytest.approx(once)
    apart = mean_interval(np.repeat(each, 10), [str(n) for n in range(200)])
    assert apart[1] - apart[0] < 0.5 * (once[1] - once[0])


def test_the_interval_is_about_that_of_a_t_test_and_the_same_each_time() -> None:
    values = np.random.default_rng(0).normal(10, 2, 100)
    names = [str(n) for n in range(100)]
    low, high = mean_interval(values, names)
    half = 1.984 * values.std(ddof=1) / 10
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.08)
    assert mean_interval(values, names) == (low, high)
    assert mean_interval(values, names, seed=1) != (low, high)


def test_one_patient_gives_no_interval() -> None:
    assert all(math.isnan(bound) for bound in mean_interval(np.array([0.1, 0.9]), ["a", "a"]))


def test_equal_values_give_an_interval_without_width() -> None:
    assert mean_interval(np.ones(4), list("abcd")) == (1, 1)


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
