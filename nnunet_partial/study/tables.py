"""The tables of a study: per scenario and network, losses against structures, with intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_partial.evaluation.statistics import LEVEL, holm
from nnunet_partial.report.formatting import ABOUT_INTERVALS, interval
from nnunet_partial.report.tables import Cell, Table
from nnunet_partial.study.config import METHODS, Scenario, Study
from nnunet_partial.study.results import Value, compare, described, seed_means

NOTE = (
    f"*: worse than the highest mean of the column, p < {LEVEL}; bold: the highest, where all others are. "
    f"(hidden): labels hidden from training. {ABOUT_INTERVALS}"
)
#: What holds for every table.
TABLE_NOTE = (
    "Each number is the mean Dice over test cases and seeds, with its 95 % interval (over patients) and, in round "
    "brackets, the lowest and the highest mean of a seed. All test labels are complete. *: worse than the loss with "
    f"the highest mean of its column, p < {LEVEL}; bold: the highest mean, where every other loss is worse by this "
    "test. There is no test where two share the highest mean, or where one rightly predicted nothing at all (-). The "
    "test is Wilcoxon's signed-rank test on patients' means over the seeds that both losses have, with Holm's "
    "correction for all tests of a table. It speaks about patients; the luck of a training is seen in the seeds."
)


@dataclass(frozen=True)
class _Column:
    """A structure in the test cases of a domain. `hidden`: in training, some or all cases of the domain lacked it."""

    domain: str
    structure: str
    hidden: bool

    @property
    def title(self) -> str:
        return f"{self.domain} {self.structure}{' (hidden)' if self.hidden else ''}"


def scenario_tables(study: Study, values: Sequence[Value], classes: Sequence[str]) -> list[Table]:
    """One table for each scenario and network with a finished model; every column is a structure of a domain."""
    tables = []
    for scenario in study.scenarios:
        for architecture in study.architectures:
            chosen = [v for v in values if v.model.scenario == scenario and v.model.architecture_name == architecture]
            if chosen:
                tables.append(_table(study, scenario, architecture, chosen, classes))
    return tables


def hidden_in(scenario: Scenario, domain: str, structure: str) -> bool:
    """Whether training cases of this domain lacked the structure."""
    return scenario.domain in (None, domain) and (structure in scenario.missing or "random" in scenario.missing)


def in_words(scenario: Scenario) -> str:
    """'LA missing in half of the patients of scannerA'."""
    share = "all" if scenario.fraction == 1 else f"{100 * scenario.fraction:g} % of the"
    where = f"{scenario.source}, domain {scenario.domain}" if scenario.domain else scenario.source
    return f"{' and '.join(scenario.missing)} missing in {share} training patients of {where}"


def _table(
    study: Study, scenario: Scenario, architecture: str, values: Sequence[Value], classes: Sequence[str]
) -> Table:
    columns = [
        _Column(domain, name, hidden_in(scenario, domain, name))
        for domain in sorted({value.domain for value in values})
        for name in classes
        if any(value.domain == domain and value.structure == name for value in values)
    ]
    methods = [name for name in study.losses if any(value.model.method_name == name for value in values)]
    of = {
        (method, column): [
            v
            for v in values
            if v.model.method_name == method and (v.domain, v.structure) == (column.domain, column.structure)
        ]
        for method in methods
        for column in columns
    }
    best = {c: _best({method: of[method, c] for method in methods if of[method, c]}) for c in columns}
    worse, tests = _worse(of, best)
    clear = {c for c in columns if all(m == best[c] or (m, c) in worse for m in methods if of[m, c])}
    rows: list[list[Cell | str]] = []
    for method in methods:
        cells = [_cell(of[method, c], method == best[c] and c in clear, (method, c) in worse) for c in columns]
        seeds = {value.model.seed for column in columns for value in of[method, column]}
        rows.append([METHODS[method].title, str(len(seeds)), *cells])
    patients = len({value.patient for value in values})
    return Table(
        ["loss", "seeds", *(column.title for column in columns)],
        rows,
        caption=f"{in_words(scenario)} ({architecture}): Dice on {patients} test patients",
        note=f"{tests} tests. {NOTE}",
    )


def _worse(
    of: Mapping[tuple[str, _Column], Sequence[Value]], best: Mapping[_Column, str | None]
) -> tuple[set[tuple[str, _Column]], int]:
    """The (method, column) that are significantly worse than the best of their column, and the number of tests.

    A column without a best one has no tests. A method that beats it on most patients is not called worse, however
    small p is.
    """
    better = {column: of[name, column] for column, name in best.items() if name is not None}
    pairs = [(m, column) for m, column in of if column in better and m != best[column] and of[m, column]]
    tests = [compare(better[column], of[method, column]) for method, column in pairs]
    corrected = holm([test.p for test in tests])
    worse = zip(pairs, tests, corrected, strict=True)
    return {pair for pair, test, p in worse if p < LEVEL and test.rank_biserial > 0}, len(pairs)


def _best(of: Mapping[str, Sequence[Value]]) -> str | None:
    """The method with the highest mean, alone; None with one method, and where another one has values but no mean: it
    rightly predicted nothing, which no mean beats (as in `report.agreement_tables`)."""
    means = {method: described(values).mean for method, values in of.items()}
    if len(means) < 2 or any(math.isnan(mean) for mean in means.values()):
        return None
    with_it = [method for method, mean in means.items() if mean == max(means.values())]
    return with_it[0] if len(with_it) == 1 else None


def _cell(values: Sequence[Value], best: bool, worse: bool) -> Cell:
    numbers, seeds = described(values), seed_means(values)
    if not numbers.n_values:
        return Cell("-")
    more = [interval(numbers.ci_low, numbers.ci_high, 3, numbers.n_patients)]
    if len(seeds) > 1:
        more.append(f"({min(seeds.values()):.3f}-{max(seeds.values()):.3f})")
    return Cell(f"{numbers.mean:.3f}", best=best, mark="*" if worse else "", more=" ".join(filter(None, more)))
