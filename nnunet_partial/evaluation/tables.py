"""Summarize and compare models: the rows of summary.csv, comparisons.csv and ranks.csv."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.evaluation.metrics import (
    CORRECTLY_EMPTY,
    DISTANCES,
    FALSE_POSITIVE,
    METRICS,
    MISSED,
    OUTCOMES,
    OVERLAPS,
)
from nnunet_partial.evaluation.records import ALL, Record, Row
from nnunet_partial.evaluation.statistics import (
    DIFFERENCE,
    DISTANCE,
    LEVEL,
    SHARE,
    Described,
    describe,
    differences,
    holm,
    mean_ranks,
    signed_rank,
)
from nnunet_partial.utils.masks import Floats

SUMMARY_COLUMNS = (
    *("model", "domain", "class", "metric", "unit", "mean_over", "mean", "sd", "median", "q1", "q3", "iqr"),
    *("ci95_low", "ci95_high", "n_values", "n_cases", "n_patients", "n_infinite"),
    *("n_evaluated", "n_missed", "n_false_positive", "n_correctly_empty"),
)

#: In the column mean_over: what the means are over, of one class and of all classes together.
CASES, PAIRS = "cases", "case-class pairs"

COMPARISON_COLUMNS = (
    *("metric", "unit", "domain", "class", "model_a", "model_b", "mean_a", "mean_b", "median_difference", "better"),
    *("p", "p_holm", "n_tests", "rank_biserial", "n_patients", "n_differ", "n_cases"),
)
RANK_COLUMNS = ("metric", "unit", "domain", "class", "model", "mean_rank", "rank", "n_models", "n_patients")

#: One (domain, class): the records of each (case, class) pair by model, in the order of the cases.
_Cell = list[dict[str, Record]]


def summarize(records: Sequence[Record], classes: Sequence[str]) -> list[Row]:
    """Summarize each metric per model, domain, class and unit; "(all)" stands for all domains, or all classes.

    Each (case, class) pair that is annotated and has a finite value counts once. Infinite distances (a structure
    missed, or predicted where there is none) are in no mean; n_infinite says how many there are. Values in different
    units are never mixed, nor surface Dice at different tolerances: "(all)" has a row for each. mean_over: what the
    mean is over; over all classes it is every pair, so it differs from the mean of the classes' means, which nnU-Net's
    summary.json has as foreground_mean. n_evaluated pairs were evaluated, of which n_missed, n_false_positive and
    n_correctly_empty had that outcome; n_cases and n_patients are those of the n_values numbers.

    Args:
        records: Of all models.
        classes: In the order of the rows.

    Returns:
        The rows of summary.csv; none without records.
    """
    rows = []
    for model, domain, structure, chosen in rows_by_group(records, classes):
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
                        "n_evaluated": len(chosen),
                        "n_missed": outcomes[MISSED],
                        "n_false_positive": outcomes[FALSE_POSITIVE],
                        "n_correctly_empty": outcomes[CORRECTLY_EMPTY],
                    }
                )
    return rows


def rows_by_group(records: Sequence[Record], classes: Sequence[str]) -> Iterator[tuple[str, str, str, list[Record]]]:
    """Group records by model, domain and class.

    Args:
        records: Of all models.
        classes: In the order of the groups.

    Yields:
        Model, domain, class and their records, in this order; models as they come, "(all)" last each time.
    """
    chosen: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        for domain in (record.subject.domain, ALL):
            for structure in (record.structure, ALL):
                chosen.setdefault((record.model, domain, structure), []).append(record)
    domains = [*sorted({record.subject.domain for record in records}), ALL]
    for key in product(dict.fromkeys(record.model for record in records), domains, [*classes, ALL]):
        if key in chosen:
            yield *key, chosen[key]


def compare_models(records: Sequence[Record], classes: Sequence[str]) -> list[Row]:
    """Compare each pair of models, per metric, domain and class, on patients that both have.

    Per patient the mean over the (case, class) pairs for which both models have a value, then a Wilcoxon signed-rank
    test and the rank-biserial effect (see `statistics.signed_rank`), positive where model_a is better. p_holm:
    corrected over the n_tests tests of the metric. better: the model that both the effect and the means favor, where
    p_holm < LEVEL; else empty. An infinite distance (missed, or predicted where nothing is) is the worst. A correctly
    empty prediction has no value of its own; where the other model predicts something there it gets the best one
    (overlap 1, distance and difference 0), so that a false positive counts against the other. Of the size difference
    the absolute value is compared. mean_a and mean_b: means over the patients (inf where one is). "(all)" is left out
    where it is a single domain or class, which is tested already.

    Args:
        records: Of all models.
        classes: In the order of the rows.

    Returns:
        The rows of comparisons.csv; none for a single model.
    """
    cells, models = _cells(records, classes), tuple(dict.fromkeys(record.model for record in records))
    rows: list[Row] = []
    for metric in METRICS:
        of_metric: list[Row] = []
        for where, table in _tables(cells, metric, models):
            for a, b in combinations(range(len(models)), 2):
                means, n_cases = table.patient_means([a, b])
                if n_cases:
                    names: Row = {"model_a": models[a], "model_b": models[b], "n_cases": n_cases}
                    of_metric.append({**where, **names, **_compared(means, metric in OVERLAPS)})
        for row, p in zip(of_metric, holm([float(row["p"]) for row in of_metric]), strict=True):
            better = _better(row, metric in OVERLAPS) if p < LEVEL else ""
            rows.append({**row, "better": better, "p_holm": p, "n_tests": len(of_metric)})
    return rows


def rank_models(records: Sequence[Record], classes: Sequence[str]) -> list[Row]:
    """Rank the models per metric, domain and class over the patients that all models have.

    Args:
        records: Of all models.
        classes: In the order of the rows.

    Returns:
        The rows of ranks.csv. mean_rank: 1 is best; patients' means are made as in `compare_models`. rank: the order of
        the mean ranks, equal ones alike. No row without a patient that all models have.
    """
    cells, models = _cells(records, classes), tuple(dict.fromkeys(record.model for record in records))
    rows: list[Row] = []
    for metric in METRICS:
        for where, table in _tables(cells, metric, models):
            means, n_cases = table.patient_means(range(len(models)))
            if n_cases:
                of_model = {model: list(column) for model, column in zip(models, means.T, strict=True)}
                ranks = mean_ranks(of_model, metric in OVERLAPS)
                rows += [{**where, **_rank(model, ranks), "n_patients": len(means)} for model in models]
    return rows


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


@dataclass(frozen=True)
class _Table:
    """Hold a metric on n (case, class) pairs.

    `values` (n, models): NaN where a model has none. `empty` (n, models): whether the prediction is correctly empty.
    `patients`, `cases` (n,). `best`: the best possible value of the metric.
    """

    values: Floats
    empty: NDArray[np.bool_]
    patients: NDArray[np.str_]
    cases: NDArray[np.str_]
    best: float

    def patient_means(self, columns: Sequence[int]) -> tuple[Floats, int]:
        """Return means (patients, columns) over the pairs that all these models have, and the number of cases.

        A correctly empty prediction has the best value where that of another one of these models is not empty.
        """
        values, empty = self.values[:, columns], self.empty[:, columns]
        against = np.asarray(empty.any(axis=1) & ~empty.all(axis=1))
        values = np.where(empty & against[:, None], self.best, values)
        whole = ~np.isnan(values).any(axis=1)
        _, patient = np.unique(self.patients[whole], return_inverse=True)
        counts = np.bincount(patient)
        means = [np.bincount(patient, weights=column) / counts for column in values[whole].T]
        return np.stack(means, axis=1), len(np.unique(self.cases[whole]))


def _cells(records: Sequence[Record], classes: Sequence[str]) -> dict[tuple[str, str], _Cell]:
    """Return all (domain, class) with records; "(all)" only where it is more than one of them."""
    pairs: dict[tuple[str, str], dict[str, Record]] = {}
    for record in sorted(records, key=lambda record: record.subject.case):
        pairs.setdefault((record.subject.case, record.structure), {})[record.model] = record
    domains = sorted({record.subject.domain for record in records})
    cells: dict[tuple[str, str], _Cell] = {key: [] for key in product([*domains, ALL], [*classes, ALL])}
    for pair in pairs.values():
        record = next(iter(pair.values()))
        for key in product((record.subject.domain, ALL), (record.structure, ALL)):
            cells[key].append(pair)
    return {key: cell for key, cell in cells.items() if cell and not _is_one_of_its_parts(key, cells)}


def _is_one_of_its_parts(key: tuple[str, str], cells: Mapping[tuple[str, str], _Cell]) -> bool:
    """Return whether an "(all)" holds the records of a single domain, or class, alone."""
    domain, structure = key
    parts = [other for other in cells if domain == ALL != other[0] and structure == other[1]]
    parts += [other for other in cells if structure == ALL != other[1] and domain == other[0]]
    return any(len(cells[part]) == len(cells[key]) for part in parts)


def _tables(cells: Mapping[tuple[str, str], _Cell], metric: str, models: Sequence[str]) -> Iterator[tuple[Row, _Table]]:
    """Yield the columns that say where a row belongs, and its table; values in different units are never mixed."""
    for (domain, structure), cell in cells.items():
        by_unit: dict[str, _Cell] = {}
        for pair in cell:
            by_unit.setdefault(next(iter(pair.values())).unit(metric), []).append(pair)
        for unit, chosen in sorted(by_unit.items()):
            where: Row = {"metric": metric, "unit": unit, "domain": domain, "class": structure}
            yield where, _table(chosen, metric, models)


def _table(cell: _Cell, metric: str, models: Sequence[str]) -> _Table:
    values = np.array([[pair[m].value(metric) if m in pair else math.nan for m in models] for pair in cell])
    subjects = [next(iter(pair.values())).subject for pair in cell]
    return _Table(
        np.abs(values) if metric == "size_difference" else values,
        np.array([[m in pair and pair[m].outcome == CORRECTLY_EMPTY for m in models] for pair in cell]),
        np.array([subject.patient for subject in subjects]),
        np.array([subject.case for subject in subjects]),
        best=1.0 if metric in OVERLAPS else 0.0,
    )


def _compared(means: Floats, more_is_better: bool) -> Row:
    """Return the test of two models; `means`: (patients, 2)."""
    of_a, of_b = means.T.tolist()
    tested = signed_rank(of_a, of_b)
    return {
        "mean_a": statistics.fmean(of_a),
        "mean_b": statistics.fmean(of_b),
        "median_difference": statistics.median(differences(of_a, of_b).tolist()),
        "p": tested.p,
        "rank_biserial": tested.rank_biserial if more_is_better else 0.0 - tested.rank_biserial,
        "n_patients": tested.n_pairs,
        "n_differ": tested.n_differ,
    }


def _better(row: Row, more_is_better: bool) -> str:
    """Return the model that both effect and means favor; the effect alone decides where both means are infinite."""
    effect, means = float(row["rank_biserial"]), (float(row["mean_a"]), float(row["mean_b"]))
    gap = float(differences(means[:1], means[1:])[0]) * (1 if more_is_better else -1)
    clear = effect * gap > 0 or (effect != 0 and math.isinf(min(means)))
    return str(row["model_a"] if effect > 0 else row["model_b"]) if clear else ""


def _rank(model: str, ranks: Mapping[str, float]) -> Row:
    rank = 1 + sum(other < ranks[model] for other in ranks.values())
    return {"model": model, "mean_rank": ranks[model], "rank": rank, "n_models": len(ranks)}
