"""The tables of a study: per scenario and network, losses against structures, with intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_partial.evaluation.statistics import holm
from nnunet_partial.report.tables import Cell, Table
from nnunet_partial.study.definition import Scenario, Study
from nnunet_partial.study.methods import METHODS
from nnunet_partial.study.results import Value, compare, described, seed_means

SIGNIFICANT = 0.05
NOTE = f"*: worse than the best of the column, p < {SIGNIFICANT}. (hidden): labels hidden from training."
#: What holds for every table.
READING = (
    "Each number is the mean Dice over test cases and seeds, with its 95 % interval (bootstrap of patients) and, in "
    "round brackets, the lowest and the highest mean of a seed. All test labels are complete. Bold: the best of its "
    "column. The test is Wilcoxon's signed-rank test on patients' means over the seeds that both losses have, with "
    "Holm's correction for all tests of a table. It speaks about patients; the luck of a training is seen "
    "in the seeds."
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
    best = {c: max(methods, key=lambda m: _mean_or_worst(of[m, c])) for c in columns}
    worse, tests = _worse(of, best)
    rows: list[list[Cell | str]] = []
    for method in methods:
        cells = [_cell(of[method, c], method == best[c], (method, c) in worse) for c in columns]
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
    of: Mapping[tuple[str, _Column], Sequence[Value]], best: Mapping[_Column, str]
) -> tuple[set[tuple[str, _Column]], int]:
    """The (method, column) that are significantly worse than the best of their column, and the number of tests.

    The best has the highest mean. A method that beats it on most patients is not called worse, however small p is.
    """
    pairs = [(method, column) for method, column in of if method != best[column] and of[method, column]]
    tests = [compare(of[best[column], column], of[method, column]) for method, column in pairs]
    corrected = holm([test.p for test in tests])
    worse = zip(pairs, tests, corrected, strict=True)
    return {pair for pair, test, p in worse if p < SIGNIFICANT and test.rank_biserial > 0}, len(pairs)


def _mean_or_worst(values: Sequence[Value]) -> float:
    numbers = described(values)
    return numbers.mean if numbers.n_values else -1.0


def _cell(values: Sequence[Value], best: bool, worse: bool) -> Cell:
    numbers, seeds = described(values), seed_means(values)
    if not numbers.n_values:
        return Cell("-")
    more = f"[{numbers.ci_low:.3f}, {numbers.ci_high:.3f}]"
    if len(seeds) > 1:
        more += f" ({min(seeds.values()):.3f}-{max(seeds.values()):.3f})"
    return Cell(f"{numbers.mean:.3f}", best=best, mark="*" if worse else "", more=more)
