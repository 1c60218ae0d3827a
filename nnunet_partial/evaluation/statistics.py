"""Compute descriptive statistics, intervals that respect patients, paired tests, effect sizes and ranks.

The computing is done by SciPy and statsmodels. Images of one patient resemble each other, so every statement about
uncertainty is about patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_partial.utils.masks import Floats

#: A difference is significant where its corrected p is below this.
LEVEL = 0.05

#: Below MIN_PATIENTS patients a mean has no interval; below FEW_PATIENTS the interval holds the true mean less often
#: than it says (`benchmarks/interval_coverage.py` measures how often).
MIN_PATIENTS, FEW_PATIENTS = 5, 20

Limits = tuple[float, float]
#: The limits of a mean: of overlaps, of distances, of differences.
SHARE, DISTANCE, DIFFERENCE = (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)

#: Numbers are equal where they differ by less than RELATIVE times the largest finite one that is compared, or by less
#: than SMALLEST: the mean of the same numbers in another order differs in the 16th digit.
RELATIVE, SMALLEST = 1e-9, 1e-15

#: Up to this many pairs the signed-rank test is exact.
EXACT = 50


@dataclass(frozen=True)
class Described:
    """Describe `n_values` numbers: mean, sample SD (n - 1), quartiles (linear interpolation), 95 % interval of mean."""

    n_values: int
    n_patients: int
    mean: float
    sd: float
    median: float
    q1: float
    q3: float
    ci_low: float
    ci_high: float

    @property
    def iqr(self) -> float:
        """Interquartile range, q3 - q1."""
        return self.q3 - self.q1


@dataclass(frozen=True)
class Paired:
    """Hold the result of a Wilcoxon signed-rank test on `n_pairs` pairs, of which `n_differ` differ."""

    n_pairs: int
    n_differ: int
    p: float
    rank_biserial: float


def describe(values: Sequence[float], patients: Sequence[str], limits: Limits) -> Described:
    """Describe finite numbers.

    Args:
        values: (n,).
        patients: (n,), the patient of each number; a patient may have several.
        limits: SHARE, DISTANCE or DIFFERENCE (see `mean_interval`).

    Returns:
        The description: all NaN without numbers; SD NaN for one number; interval NaN below MIN_PATIENTS patients.
    """
    if not values:
        return Described(0, 0, *[math.nan] * 7)
    numbers = np.asarray(values, dtype=np.float64)
    q1, median, q3 = (float(q) for q in np.percentile(numbers, [25, 50, 75]))
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    low, high = mean_interval(numbers, patients, limits)
    return Described(len(numbers), len(set(patients)), float(numbers.mean()), sd, median, q1, q3, low, high)


def mean_interval(values: Floats, patients: Sequence[str], limits: Limits) -> tuple[float, float]:
    """Compute the 95 % confidence interval of a mean whose values are clustered by patient.

    The mean is the sum of all values over their number, a ratio of two sums over patients; its standard error follows
    from the patients' residuals (linearization). Student's t with one degree of freedom less than there are patients is
    applied to the logit of a share and to the logarithm of a distance, then transformed back, so that the interval is
    asymmetric near the limits and never leaves them. No random numbers are used. Where all values are 0, or all are 1,
    the interval has no width.

    Args:
        values: (n,), within the limits.
        patients: (n,), the patient of each value.
        limits: SHARE, DISTANCE or DIFFERENCE.

    Returns:
        The lower and the upper end; NaN, NaN below MIN_PATIENTS patients.

    References:
        Ratio of sums over clusters: Cochran 1977, Sampling Techniques, 3rd edition, chapter 6. Logit of the mean, as
        method "xlogit" of R's survey: https://rdrr.io/cran/survey/man/svyciprop.html
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    n, mean = len(names), float(np.mean(values)) if len(values) else math.nan
    if n < MIN_PATIENTS:
        return math.nan, math.nan
    if mean in limits:
        return mean, mean
    residuals = np.bincount(cluster, weights=values - mean)  # (patients,)
    error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / len(values)
    half = float(t.ppf(0.975, n - 1)) * error
    if limits == SHARE:
        half /= mean * (1 - mean)
        return float(expit(logit(mean) - half)), float(expit(logit(mean) + half))
    if limits == DISTANCE:
        return mean * math.exp(-half / mean), mean * math.exp(half / mean)
    return mean - half, mean + half


def differences(first: Sequence[float], second: Sequence[float]) -> Floats:
    """Subtract numbers pair by pair; what differs by rounding alone is equal.

    Args:
        first: (n,).
        second: (n,).

    Returns:
        First minus second (n,); 0 where the two are equal but for rounding (see RELATIVE), or both infinite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        result = a - b
    result[(a == b) | (np.abs(result) <= _tolerance(a, b))] = 0.0
    return result


def _tolerance(*numbers: Floats) -> float:
    """Return by how much two of these numbers may differ and still be equal but for rounding."""
    return max([SMALLEST, *(RELATIVE * float(np.abs(n[np.isfinite(n)]).max(initial=0.0)) for n in numbers)])


def _ranks(numbers: Floats, tolerance: float) -> Floats:
    """Return ranks (n,) of `numbers` (n,), the smallest first; those within `tolerance` share their mean rank."""
    from scipy.stats import rankdata

    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    with np.errstate(invalid="ignore"):  # inf - inf is NaN: no step
        level = np.cumsum(np.diff(ordered, prepend=ordered[:1]) > tolerance)
    levels = np.empty(len(numbers))
    levels[order] = level
    ranks: Floats = rankdata(levels)
    return ranks


def signed_rank(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Test pairs of numbers by the two-sided Wilcoxon signed-rank test.

    Infinite numbers are larger than all others, and equal. Pairs that do not differ are left out (Wilcoxon's own way).
    What differs by rounding alone (see RELATIVE) is equal, also where differences are ranked; equal differences share
    the mean of their ranks. Up to EXACT pairs that differ, p is exact, ties or not: the fraction of all 2^n ways to
    give the ranks their signs. Beyond it is SciPy's normal approximation, corrected for ties.

    Effect size: the matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-), where W+ is the sum of the ranks of
    pairs in which the first number is larger: 1 where the first always is, -1 where the second always is, 0 where
    neither.

    Args:
        first: (n,).
        second: (n,), of the same patients in the same order.

    Returns:
        The test. No pair differs: p 1 and effect 0; no pairs: both NaN.

    References:
        Effect size: Kerby 2014, https://doi.org/10.2466/11.IT.3.1
    """
    if not len(first):
        return Paired(0, 0, math.nan, math.nan)
    every = differences(first, second)
    nonzero = every[every != 0]
    if not len(nonzero):
        return Paired(len(every), 0, 1.0, 0.0)
    ranks = _ranks(np.abs(nonzero), _tolerance(np.asarray(first, np.float64), np.asarray(second, np.float64)))
    w_plus, w_minus = float(ranks[nonzero > 0].sum()), float(ranks[nonzero < 0].sum())
    p = _exact_p(ranks, min(w_plus, w_minus)) if len(nonzero) <= EXACT else _normal_p(np.sign(nonzero) * ranks)
    return Paired(len(every), len(nonzero), p, (w_plus - w_minus) / (w_plus + w_minus))


def _exact_p(ranks: Floats, smaller: float) -> float:
    """Return the two-sided p of the `smaller` of W+ and W-, for `ranks` (n,), of which shared ones may end in .5.

    Counts, for each sum, how many of the 2^n choices of ranks have it, rank by rank; twice the ranks are integers.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)
    ways = np.zeros(int(doubled.sum()) + 1, dtype=np.int64)  # at most 2^EXACT: no overflow
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    return min(1.0, 2 * int(ways[: round(2 * smaller) + 1].sum()) / 2 ** len(ranks))


def _normal_p(signed: Floats) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(signed, method="asymptotic").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number by Holm's step-down method.

    Args:
        p_values: (n,); NaN does not count as a test.

    Returns:
        The corrected values in the same order; NaN stays NaN.
    """
    from statsmodels.stats.multitest import multipletests

    corrected = [math.nan] * len(p_values)
    tested = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    if tested:
        adjusted = multipletests([p_values[index] for index in tested], method="holm")[1]
        for index, p in zip(tested, adjusted, strict=True):
            corrected[index] = float(p)
    return corrected


def mean_ranks(values: Mapping[str, Sequence[float]], more_is_better: bool) -> dict[str, float]:
    """Rank the models in each patient and average the ranks.

    Rank 1 is the best of a patient; equal numbers (see RELATIVE) share the mean of their ranks.

    Args:
        values: By model one number per patient, the same patients in the same order for all models.
        more_is_better: Whether the largest number is the best.

    Returns:
        The mean rank of each model; NaN without patients.

    References:
        Rank, then average, as in challengeR: Wiesenfarth et al. 2021, https://doi.org/10.1038/s41598-021-82017-6
    """
    table = np.array([list(numbers) for numbers in values.values()], dtype=np.float64)  # (models, patients)
    if not table.size:
        return dict.fromkeys(values, math.nan)
    tolerance = _tolerance(table)
    ranks = np.stack([_ranks(-numbers if more_is_better else numbers, tolerance) for numbers in table.T], axis=1)
    return {model: float(mean) for model, mean in zip(values, ranks.mean(axis=1), strict=True)}
