"""The statistics: descriptive numbers, intervals that respect patients, paired tests, effect sizes, ranks.

SciPy and statsmodels do the computing. Frames of one patient resemble each other: whatever is said about uncertainty is
said about patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Resamples and seed of the bootstrap.
RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True)
class Described:
    """Mean, sample SD (n - 1), quartiles (linear interpolation) and 95 % interval of the mean of `n_values` numbers."""

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
        return self.q3 - self.q1


@dataclass(frozen=True)
class Paired:
    """A Wilcoxon signed-rank test on n pairs, of which `n_differ` differ."""

    n_pairs: int
    n_differ: int
    p: float
    rank_biserial: float


def describe(values: Sequence[float], patients: Sequence[str]) -> Described:
    """Describes finite numbers, one patient each (a patient may have several). Nothing: NaN; one number: SD NaN."""
    if not values:
        return Described(0, 0, *[math.nan] * 7)
    numbers = np.asarray(values, dtype=np.float64)
    q1, median, q3 = (float(q) for q in np.percentile(numbers, [25, 50, 75]))
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    low, high = mean_interval(numbers, patients)
    return Described(len(numbers), len(set(patients)), float(numbers.mean()), sd, median, q1, q3, low, high)


def mean_interval(
    values: Floats, patients: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """95 % interval of the mean of `values` (n,) by a bootstrap that draws patients, not values.

    Each resample draws as many patients as there are, with replacement, with all their values; its mean is over those
    values. The interval holds the middle 95 % of the means (percentile bootstrap of clusters, Davison & Hinkley 1997,
    Bootstrap Methods and their Application, section 3.8; https://doi.org/10.1017/CBO9780511802843). The same seed gives
    the same interval. Fewer than two patients: NaN, NaN.
    """
    from scipy.stats import bootstrap

    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2:
        return math.nan, math.nan
    counts = np.bincount(cluster).astype(np.float64)
    sums = np.bincount(cluster, weights=values)
    interval = bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(names)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def signed_rank(better: Sequence[float], worse: Sequence[float]) -> Paired:
    """Two-sided Wilcoxon signed-rank test on pairs of numbers; infinite ones are larger than all others, and equal.

    Pairs that do not differ are left out (Wilcoxon's own way); with none left p is 1 and the effect 0, without pairs
    both are NaN. Effect size: the matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-), where W+ is the sum of
    the ranks of pairs in which the first number is larger (Kerby 2014, https://doi.org/10.2466/11.IT.3.1): 1 where the
    first always is, -1 where the second always is, 0 where neither.
    """
    from scipy.stats import wilcoxon

    pairs = [(a, b) for a, b in zip(better, worse, strict=True) if a != b]
    if not better:
        return Paired(0, 0, math.nan, math.nan)
    if not pairs:
        return Paired(len(better), 0, 1.0, 0.0)
    differences = np.array([a - b for a, b in pairs])
    p = float(wilcoxon(differences).pvalue)
    w_plus = float(wilcoxon(differences, alternative="greater").statistic)
    all_ranks = len(pairs) * (len(pairs) + 1) / 2
    return Paired(len(better), len(pairs), p, 2 * w_plus / all_ranks - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's step-down method; NaN stays NaN and does not count as a test."""
    from statsmodels.stats.multitest import multipletests

    corrected = [math.nan] * len(p_values)
    tested = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    if tested:
        found = multipletests([p_values[index] for index in tested], method="holm")[1]
        for index, p in zip(tested, found, strict=True):
            corrected[index] = float(p)
    return corrected


def mean_ranks(values: Mapping[str, Sequence[float]], more_is_better: bool) -> dict[str, float]:
    """Mean rank of each model; `values`: one number per patient, the same patients in the same order for all.

    Rank 1 is the best of a patient; equal ones share the mean of their ranks. Ranks first, then their mean, as in
    challengeR (Wiesenfarth et al. 2021, https://doi.org/10.1038/s41598-021-82017-6). No patient: NaN.
    """
    from scipy.stats import rankdata

    table = np.array([list(numbers) for numbers in values.values()], dtype=np.float64)  # (models, patients)
    if not table.size:
        return dict.fromkeys(values, math.nan)
    ranks = rankdata(-table if more_is_better else table, axis=0)
    return {model: float(mean) for model, mean in zip(values, ranks.mean(axis=1), strict=True)}
