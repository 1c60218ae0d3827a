"""Make the tables of a study: per scenario and network, losses against structures, with intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_partial.dataset_conversion.derived.scenario_plan import RANDOM
from nnunet_partial.evaluation.metrics import CORRECTLY_EMPTY, FALSE_POSITIVE
from nnunet_partial.evaluation.statistics import LEVEL, holm
from nnunet_partial.report.formatting import ABOUT_INTERVALS, interval
from nnunet_partial.report.tables import Cell, Table
from nnunet_partial.study.config import METHODS, Scenario, Study
from nnunet_partial.study.results import Value, compare, describe_dice, seed_means

_NUMBERS = (
    "Each number is the mean Dice over test cases and seeds, with its 95 % interval (over patients) and, in round "
    "brackets, the lowest and the highest mean of a seed."
)
_TESTS = (
    f"*: worse than the loss with the highest mean of its column, p < {LEVEL}; bold: the highest mean, where every "
    "other loss is worse by this test. There is no test where two share the highest mean, or where one rightly "
    "predicted nothing at all (-). The test is Wilcoxon's signed-rank test on patients' means over the seeds that both "
    "losses have, with Holm's correction for all tests of a table. It speaks about patients; the luck of a training is "
    "seen in the seeds."
)
_SHORT_NOTE = (
    f"*: worse than the highest mean of the column, p < {LEVEL}; bold: the highest, where all others are. "
    f"(hidden): labels hidden from training. {ABOUT_INTERVALS}"
)


def table_note(n_complete: int, n_cases: int) -> str:
    """Tell how to read the tables; stands once before them.

    Args:
        n_complete: Number of test cases in which every structure is known: annotated, or declared absent.
        n_cases: Number of test cases whose labels could be looked up.

    Returns:
        The note.
    """
    known = "Only structures that are known in a test case (annotated, or declared absent) count"
    how_many = f"; all are known in {n_complete} of {n_cases} test cases" if n_cases else ""
    return f"{_NUMBERS} {known}{how_many}. {_TESTS}"


def scenario_tables(study: Study, values: Sequence[Value], classes: Sequence[str]) -> list[Table]:
    """Make a table for each scenario and network with a finished model; each column is a structure of a domain.

    Args:
        study: The study.
        values: The values of its finished models.
        classes: Names of the structures, in the order of the columns.

    Returns:
        The tables in the order of the study; empty without values.
    """
    tables = []
    for scenario in study.scenarios:
        for architecture in study.architectures:
            selected = [v for v in values if v.model.scenario == scenario and v.model.architecture_name == architecture]
            if selected:
                tables.append(_table(study, scenario, architecture, selected, classes))
    return tables


def false_positives_by_method(study: Study, values: Sequence[Value]) -> Table | None:
    """Count the test cases in which a structure is predicted though it is known not to be there.

    Args:
        study: The study.
        values: The values of its finished models.

    Returns:
        A row per scenario, network and loss, seeds together; None where every structure is in every test case.
    """
    rows = []
    for scenario in study.scenarios:
        for architecture in study.architectures:
            for loss in study.losses:
                outcomes = [
                    value.outcome
                    for value in values
                    if value.model.scenario == scenario
                    and (value.model.architecture_name, value.model.method_name) == (architecture, loss)
                    and value.outcome in (FALSE_POSITIVE, CORRECTLY_EMPTY)
                ]
                if outcomes:
                    wrong = outcomes.count(FALSE_POSITIVE)
                    share = f"{100 * wrong / len(outcomes):.0f} %"
                    rows.append(
                        [scenario.name, architecture, METHODS[loss].title, str(wrong), str(len(outcomes)), share]
                    )
    if not rows:
        return None
    return Table(
        ["scenario", "network", "loss", "false positive", "known empty", "share"],
        rows,
        left=3,
        caption="False positives: pairs of test case and structure, over all seeds",
        note="known empty: the structure is known not to be in the image. Read it beside the Dice.",
    )


def is_hidden(scenario: Scenario, domain: str, structure: str, by_domain: bool = False) -> bool:
    """Return whether training cases of the domain lacked the structure; by domain, those of other domains.

    Args:
        scenario: The scenario.
        domain: Name of the domain.
        structure: Name of the structure.
        by_domain: Whether what predicts a domain was trained on all others.
    """
    there = scenario.domain is None or (scenario.domain == domain) != by_domain
    return there and (structure in scenario.missing or RANDOM in scenario.missing)


@dataclass(frozen=True)
class _Column:
    """Name a structure in test cases of a domain. `hidden`: in training, some or all cases of the domain lacked it."""

    domain: str
    structure: str
    hidden: bool

    @property
    def title(self) -> str:
        return f"{self.domain} {self.structure}{' (hidden)' if self.hidden else ''}"


#: The values of a method (its name) in a column.
_Groups = Mapping[tuple[str, _Column], Sequence[Value]]


def _describe_scenario(scenario: Scenario) -> str:
    """Return a text as in 'LA missing in 50 % of the training patients of scannerA'."""
    share = "all" if scenario.fraction == 1 else f"{100 * scenario.fraction:g} % of the"
    source = f"{scenario.source}, domain {scenario.domain}" if scenario.domain else scenario.source
    return f"{' and '.join(scenario.missing)} missing in {share} training patients of {source}"


def _table(
    study: Study, scenario: Scenario, architecture: str, values: Sequence[Value], classes: Sequence[str]
) -> Table:
    columns = [
        _Column(domain, name, is_hidden(scenario, domain, name, study.by_domain))
        for domain in sorted({value.domain for value in values})
        for name in classes
        if any(value.domain == domain and value.structure == name for value in values)
    ]
    methods = [name for name in study.losses if any(value.model.method_name == name for value in values)]
    groups = {
        (method, column): [
            v
            for v in values
            if v.model.method_name == method and (v.domain, v.structure) == (column.domain, column.structure)
        ]
        for method in methods
        for column in columns
    }
    best = {c: _best_method({m: groups[m, c] for m in methods if groups[m, c]}) for c in columns}
    worse, n_tests = _significantly_worse(groups, best)
    clear = {c for c in columns if all(m == best[c] or (m, c) in worse for m in methods if groups[m, c])}
    rows: list[list[Cell | str]] = []
    for method in methods:
        cells = [_cell(groups[method, c], method == best[c] and c in clear, (method, c) in worse) for c in columns]
        seeds = {value.model.seed for column in columns for value in groups[method, column]}
        rows.append([METHODS[method].title, str(len(seeds)), *cells])
    n_patients = len({value.patient for value in values})
    return Table(
        ["loss", "seeds", *(column.title for column in columns)],
        rows,
        caption=f"{_describe_scenario(scenario)} ({architecture}): Dice on {n_patients} test patients",
        note=f"{n_tests} tests. {_SHORT_NOTE}",
    )


def _significantly_worse(groups: _Groups, best: Mapping[_Column, str | None]) -> tuple[set[tuple[str, _Column]], int]:
    """Find the (method, column) that are worse than the best of their column; also return the number of tests.

    A column without a best method has no tests. A method that is higher than the best one in most patients is not
    called worse, however small p is.
    """
    reference = {column: groups[name, column] for column, name in best.items() if name is not None}
    pairs = [(m, column) for m, column in groups if column in reference and m != best[column] and groups[m, column]]
    tests = [compare(reference[column], groups[method, column]) for method, column in pairs]
    corrected = holm([test.p for test in tests])
    worse = zip(pairs, tests, corrected, strict=True)
    return {pair for pair, test, p in worse if p < LEVEL and test.rank_biserial > 0}, len(pairs)


def _best_method(groups: Mapping[str, Sequence[Value]]) -> str | None:
    """Find the method with the highest mean; None for a tie, for one method, and where one has values but no mean.

    The last rightly predicted nothing, which no mean exceeds (as in `report.evaluation_tables`).
    """
    means = {method: describe_dice(values).mean for method, values in groups.items()}
    if len(means) < 2 or any(math.isnan(mean) for mean in means.values()):
        return None
    highest = [method for method, mean in means.items() if mean == max(means.values())]
    return highest[0] if len(highest) == 1 else None


def _cell(values: Sequence[Value], best: bool, worse: bool) -> Cell:
    mean, seeds = describe_dice(values), seed_means(values)
    if not mean.n_values:
        return Cell("-")
    more = [interval(mean.ci_low, mean.ci_high, 3, mean.n_patients)]
    if len(seeds) > 1:
        more.append(f"({min(seeds.values()):.3f}-{max(seeds.values()):.3f})")
    return Cell(f"{mean.mean:.3f}", best=best, mark="*" if worse else "", more=" ".join(filter(None, more)))
