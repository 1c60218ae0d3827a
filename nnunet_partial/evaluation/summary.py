"""summary.csv: how good each model is, per domain and structure, with what each number rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from nnunet_partial.evaluation.metrics import (
    CORRECTLY_EMPTY,
    DISTANCES,
    FALSE_POSITIVE,
    METRICS,
    MISSED,
    OUTCOMES,
    OVERLAPS,
)
from nnunet_partial.evaluation.records import ALL, Record
from nnunet_partial.evaluation.statistics import DIFFERENCE, DISTANCE, SHARE, Described, describe

COLUMNS = (
    *(
        "model",
        "domain",
        "class",
        "metric",
        "unit",
        "mean_over",
        "mean",
        "sd",
        "median",
        "q1",
        "q3",
        "iqr",
        "ci95_low",
        "ci95_high",
    ),
    *("n_values", "n_cases", "n_patients", "n_infinite", "n_known", "n_missed", "n_false_positive"),
    "n_correctly_empty",
)

#: What the means are over, in the column mean_over: of one structure, and of all of them together.
CASES, PAIRS = "cases", "pairs of case and class"

Row = dict[str, str | float | int]


def summarise(records: Sequence[Record], classes: Sequence[str]) -> list[Row]:
    """One row per model, domain, structure, metric and unit; "(all)" stands for all domains, or all structures.

    Each known (case, structure) pair that has a finite value counts once. Infinite distances (a structure missed, or
    predicted where there is none) are in no mean; n_infinite says how many there are. Values in different units are
    never mixed, nor surface Dice at different tolerances: "(all)" has a row for each. mean_over: what the mean is over;
    over all structures it is every pair, so it differs from the mean of the structures' means, which nnU-Net's
    summary.json has as foreground_mean. n_known pairs were known, of which n_missed, n_false_positive and
    n_correctly_empty came out so; n_cases and n_patients are those of the n_values numbers.
    """
    rows = []
    for model, domain, structure, chosen in groups(records, classes):
        outcomes = {outcome: sum(record.outcome == outcome for record in chosen) for outcome in OUTCOMES}
        for metric in METRICS:
            for unit in sorted({record.unit(metric) for record in chosen}):
                rows.append(
                    {
                        "model": model,
                        "domain": domain,
                        "class": structure,
                        "mean_over": PAIRS if structure == ALL else CASES,
                        **_described(chosen, metric, unit),
                        "n_known": len(chosen),
                        "n_missed": outcomes[MISSED],
                        "n_false_positive": outcomes[FALSE_POSITIVE],
                        "n_correctly_empty": outcomes[CORRECTLY_EMPTY],
                    }
                )
    return rows


def groups(records: Sequence[Record], classes: Sequence[str]) -> Iterator[tuple[str, str, str, list[Record]]]:
    """(model, domain, structure, its records), in this order, models as they come; "(all)" last each time."""
    chosen: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        for domain in (record.subject.domain, ALL):
            for structure in (record.structure, ALL):
                chosen.setdefault((record.model, domain, structure), []).append(record)
    domains = [*sorted({record.subject.domain for record in records}), ALL]
    for key in product(dict.fromkeys(record.model for record in records), domains, [*classes, ALL]):
        if key in chosen:
            yield *key, chosen[key]


def _described(records: Sequence[Record], metric: str, unit: str) -> Row:
    with_unit = [record for record in records if record.unit(metric) == unit]
    counted = [record for record in with_unit if math.isfinite(record.value(metric))]
    limits = SHARE if metric in OVERLAPS else DISTANCE if metric in DISTANCES else DIFFERENCE
    patients = [record.subject.patient for record in counted]
    numbers = describe([record.value(metric) for record in counted], patients, limits)
    return {
        "metric": metric,
        "unit": unit,
        **_numbers(numbers),
        "n_cases": len({record.subject.case for record in counted}),
        "n_infinite": sum(math.isinf(record.value(metric)) for record in with_unit),
    }


def _numbers(numbers: Described) -> Row:
    return {
        "mean": numbers.mean,
        "sd": numbers.sd,
        "median": numbers.median,
        "q1": numbers.q1,
        "q3": numbers.q3,
        "iqr": numbers.iqr,
        "ci95_low": numbers.ci_low,
        "ci95_high": numbers.ci_high,
        "n_values": numbers.n_values,
        "n_patients": numbers.n_patients,
    }
