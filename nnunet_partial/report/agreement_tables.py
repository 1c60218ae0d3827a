"""The table of a paper, one per domain: each model's metrics per structure with intervals and n, the best ones bold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nnunet_partial.evaluation.console import with_unit
from nnunet_partial.evaluation.metrics import OVERLAPS
from nnunet_partial.evaluation.records import ALL
from nnunet_partial.evaluation.statistics import LEVEL
from nnunet_partial.report.results_folder import Results, Row, number
from nnunet_partial.report.tables import Cell, Table, rules_between
from nnunet_partial.report.wording import ABOUT_INTERVALS, decimal, interval, metric_name, pretty_unit

#: Metrics of the table, and digits after the point.
SHOWN = {"dice": 3, "surface_dice": 3, "hd95": 2, "assd": 2}
#: Over all structures: the mean is over every pair of case and structure, and is not the mean of the rows above.
ALL_PAIRS = "(all pairs)"

#: One (domain, structure): by model and metric the rows of summary.csv, one for each unit.
_Cell = Mapping[str, Mapping[str, Sequence[Row]]]


def agreement_tables(results: Results) -> list[Table]:
    """One table for each domain, and one for all where there are several; rows: structure and model."""
    cells = _cells(results)
    return [
        _table(results, domain, {key[1]: cell for key, cell in cells.items() if key[0] == domain})
        for domain in dict.fromkeys(key[0] for key in cells)
    ]


def _cells(results: Results) -> dict[tuple[str, str], dict[str, dict[str, list[Row]]]]:
    """By (domain, structure), as in summary.csv; an "(all)" that is the same as one of its parts is left out."""
    cells: dict[tuple[str, str], dict[str, dict[str, list[Row]]]] = {}
    for row in results.summary:
        of_model = cells.setdefault((row["domain"], row["class"]), {}).setdefault(row["model"], {})
        of_model.setdefault(row["metric"], []).append(row)
    known = {key: {model: m["dice"][0]["n_known"] for model, m in cell.items()} for key, cell in cells.items()}
    order = [*results.domains, ALL]
    kept = [key for key in cells if not _same_as_a_part(key, known)]
    return {key: cells[key] for key in sorted(kept, key=lambda key: order.index(key[0]))}


def _same_as_a_part(key: tuple[str, str], known: Mapping[tuple[str, str], Mapping[str, str]]) -> bool:
    domain, structure = key
    parts = [other for other in known if domain == ALL != other[0] and other[1] == structure]
    parts += [other for other in known if structure == ALL != other[1] and other[0] == domain]
    return any(known[part] == known[key] for part in parts)


def _table(results: Results, domain: str, cells: Mapping[str, _Cell]) -> Table:
    rows = [_row(results, structure, model, cell) for structure, cell in cells.items() for model in cell]
    units = {m: {row["unit"] for cell in cells.values() for of in cell.values() for row in of[m]} for m in SHOWN}
    names = [metric_name(metric, found.pop() if len(found) == 1 else "") for metric, found in units.items()]
    where = "All domains" if domain == ALL else f"Domain {domain}"
    return Table(
        ["structure", "model", "cases (patients)", *names, "missed", "false pos."],
        rows,
        f"{where}: mean over what is known [95 % interval]",
        note(results),
        left=2,
        rules=rules_between(rows),
    )


def _row(results: Results, structure: str, model: str, cell: _Cell) -> list[Cell | str]:
    (dice,) = cell[model]["dice"]
    values: list[Cell | str] = [
        ALL_PAIRS if structure == ALL else structure,
        model,
        f"{dice['n_cases']} ({dice['n_patients']})",
    ]
    for metric, digits in SHOWN.items():
        rows, several = cell[model][metric], len(cell[model][metric]) > 1
        units = [pretty_unit(row["unit"]) if several else "" for row in rows]
        means = [
            with_unit(decimal(number(row, "mean"), digits), metric, unit) for row, unit in zip(rows, units, strict=True)
        ]
        best = _best(cell, metric) == model and results.beats_all(rows[0], model)
        more = [_more(row, dice, digits, "\n" if len(rows) == 1 else " ") for row in rows]
        values.append(Cell(" / ".join(means), best, more="\n".join(filter(None, more))))
    return [*values, dice["n_missed"], dice["n_false_positive"]]


def _more(row: Row, dice: Row, digits: int, between: str) -> str:
    """The interval, and behind or below it n where the mean rests on another number of values than Dice."""
    text = interval(number(row, "ci95_low"), number(row, "ci95_high"), digits, number(row, "n_patients"))
    return text if row["n_values"] == dice["n_values"] else f"{text}{between}(n = {row['n_values']})".strip()


def _best(cell: _Cell, metric: str) -> str | None:
    """The model with the best mean, alone; None with one model, with several units, on different numbers of known
    cases, or where it is not clear: a model without a mean rightly found nothing, which no mean of another one beats.
    A mean with an infinite value in it is infinite."""
    if len(cell) < 2 or any(len(of_model[metric]) > 1 for of_model in cell.values()):
        return None
    rows = {model: of_model[metric][0] for model, of_model in cell.items()}
    if len({row["n_known"] for row in rows.values()}) > 1:
        return None
    means = {m: math.inf if row["n_infinite"] not in ("", "0") else number(row, "mean") for m, row in rows.items()}
    finite = {model: mean for model, mean in means.items() if math.isfinite(mean)}
    if not finite or any(math.isnan(mean) for mean in means.values()):
        return None
    best = (max if metric in OVERLAPS else min)(finite.values())
    with_it = [model for model, mean in finite.items() if mean == best]
    return with_it[0] if len(with_it) == 1 else None


def note(results: Results) -> str:
    """How the tables are to be read."""
    text = (
        "Only structures that a case knows count: annotated in it, or known not to be there. cases: with a value of "
        f"Dice (a structure rightly found absent has none). {ALL_PAIRS}: the mean over every known structure of every "
        "case, each once; the mean of the structures' means (foreground_mean in summary.json, as nnU-Net has it) is "
        "another number. surface Dice: at the tolerance in brackets, in pixels where their size is unknown. missed: "
        "cases that show the structure, of which nothing was predicted; false pos.: cases known not to show it, in "
        "which it was predicted. Distances are infinite in both kinds of cases and leave these out; they have an n of "
        f"their own where it differs. {ABOUT_INTERVALS}"
    )
    if len(results.models) > 1:
        text += (
            f" Bold: the best mean, and better than every other model, p < {LEVEL} (Wilcoxon signed-rank over "
            "patients, corrected by Holm's method), where all were measured on the same number of known cases (a "
            "missed structure makes a mean distance the worst)."
        )
    return text
