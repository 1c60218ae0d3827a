"""Compute how well predicted biomarkers agree with those of the reference: the rows of biomarker_agreement.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean

import numpy as np

from nnunet_partial.biomarkers.definitions import BIOMARKERS
from nnunet_partial.evaluation.records import ALL, Row
from nnunet_partial.evaluation.statistics import MIN_PATIENTS
from nnunet_partial.utils.masks import Floats

#: The limits of agreement are this many SD from the bias.
LIMITS_IN_SD = 1.96


@dataclass(frozen=True)
class Agreement:
    """Describe the agreement of `n` pairs of numbers.

    Differences are prediction minus reference, ci95 are 95 % intervals.

    bias, sd, loa_low, loa_high: mean and SD (n - 1) of the differences, and limits of agreement, bias -+ 1.96 SD (Bland
    & Altman 1986). Intervals by Student's t with n - 1 degrees of freedom; the standard error is SD / sqrt(n) for the
    bias, SD sqrt(1 / n + 1.96^2 / (2 (n - 1))) for each limit (Bland & Altman 1999). mae: mean absolute difference.
    pearson_r: with Fisher's interval. ccc: Lin's concordance correlation (1989), which is also lowered by bias and by
    another slope.

    References:
        Bland & Altman 1986, https://doi.org/10.1016/S0140-6736(86)90837-8
        Bland & Altman 1999, https://doi.org/10.1177/096228029900800204
        Lin 1989, https://doi.org/10.2307/2532051
    """

    n: int
    mean_reference: float
    mean_prediction: float
    bias: float
    bias_ci95_low: float
    bias_ci95_high: float
    sd: float
    loa_low: float
    loa_low_ci95_low: float
    loa_low_ci95_high: float
    loa_high: float
    loa_high_ci95_low: float
    loa_high_ci95_high: float
    mae: float
    pearson_r: float
    pearson_r_ci95_low: float
    pearson_r_ci95_high: float
    ccc: float


COLUMNS = (
    *("model", "domain", "biomarker", "unit", "method"),
    *(column.name for column in fields(Agreement)),
    *("n_reference", "n_no_prediction"),
)


def agreement(reference: Sequence[float], prediction: Sequence[float]) -> Agreement:
    """Compute the agreement of n finite pairs.

    Args:
        reference: (n,).
        prediction: (n,), of the same patients in the same order.

    Returns:
        The agreement. No pair: all NaN; one: no SD. Below MIN_PATIENTS pairs no limits and no intervals. Correlations
        need three pairs, and two different values on both sides; else they are NaN.
    """
    if not len(reference):
        return Agreement(0, *[math.nan] * 17)
    x, y = np.asarray(reference, np.float64), np.asarray(prediction, np.float64)
    difference = y - x
    n, bias = len(x), float(difference.mean())
    sd = float(difference.std(ddof=1)) if n > 1 else math.nan
    low, high = (bias + side * LIMITS_IN_SD * sd if n >= MIN_PATIENTS else math.nan for side in (-1, 1))
    of_bias, of_limit = (_half_width(n, sd, share) for share in (1 / n, 1 / n + LIMITS_IN_SD**2 / (2 * max(n - 1, 1))))
    return Agreement(
        n,
        *(float(x.mean()), float(y.mean())),
        *(bias, bias - of_bias, bias + of_bias, sd),
        *(low, low - of_limit, low + of_limit),
        *(high, high - of_limit, high + of_limit),
        float(np.abs(difference).mean()),
        *_correlation(x, y),
        _concordance(x, y),
    )


def _half_width(n: int, sd: float, share: float) -> float:
    """Return the half-width of a 95 % interval whose squared standard error is `share` times the variance."""
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1)) * sd * math.sqrt(share) if n >= MIN_PATIENTS else math.nan


def _correlation(x: Floats, y: Floats) -> tuple[float, float, float]:
    from scipy.stats import pearsonr

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan, math.nan
    result = pearsonr(x, y)
    interval = result.confidence_interval(0.95) if len(x) >= MIN_PATIENTS else (math.nan, math.nan)
    return float(result.statistic), float(interval[0]), float(interval[1])


def _concordance(x: Floats, y: Floats) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def agreement_rows(rows: Sequence[Row]) -> list[Row]:
    """Compute the agreement per model, domain, biomarker, unit and method.

    n_reference: patients for whom the reference has a value; n_no_prediction: those of them without a predicted one,
    who are in no other number. In the domain "(all)" a patient of several domains counts once, by the means of the
    references and of the predictions of the rows that have both.

    Args:
        rows: Of biomarkers.csv.

    Returns:
        The rows of biomarker_agreement.csv; none where the reference has no value.
    """
    with_reference = [row for row in rows if not math.isnan(float(row["reference"]))]
    result: list[Row] = []
    for model in dict.fromkeys(row["model"] for row in with_reference):
        of_model = [row for row in with_reference if row["model"] == model]
        for domain in [*sorted({str(row["domain"]) for row in of_model}), ALL]:
            groups: dict[tuple[str, str, str], list[Row]] = {}
            for row in of_model:
                if domain in (row["domain"], ALL):
                    groups.setdefault((str(row["biomarker"]), str(row["unit"]), str(row["method"])), []).append(row)
            for key in sorted(groups, key=_order):
                result.append(_row((str(model), domain, *key), groups[key]))
    return result


def _order(key: tuple[str, str, str]) -> tuple[int, str]:
    return [biomarker.name for biomarker in BIOMARKERS].index(key[0]), key[2]


def _row(key: tuple[str, ...], rows: Sequence[Row]) -> Row:
    of_patient: dict[str, list[Row]] = {}
    for row in rows:
        of_patient.setdefault(str(row["patient"]), []).append(row)
    pairs = [pair for chosen in of_patient.values() if (pair := _mean_pair(chosen))]
    result = agreement([x for x, _ in pairs], [y for _, y in pairs])
    names = dict(zip(COLUMNS, key, strict=False))
    return {
        **names,
        **asdict(result),
        "n_reference": len(of_patient),
        "n_no_prediction": len(of_patient) - len(pairs),
    }


def _mean_pair(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return mean reference and prediction of one patient over the rows that have a prediction; None without any."""
    pairs = [(float(row["reference"]), float(row["prediction"])) for row in rows]
    complete = [pair for pair in pairs if not math.isnan(pair[1])]
    return (fmean(x for x, _ in complete), fmean(y for _, y in complete)) if complete else None
