"""Build the tables of a report: agreement, tests, ranks, biomarkers, false positives, warning signs, hardest cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nnunet_partial.evaluation.console import p_text, stars, with_unit
from nnunet_partial.evaluation.metrics import CORRECTLY_EMPTY, FALSE_POSITIVE, FOUND, MISSED, OVERLAPS
from nnunet_partial.evaluation.records import ALL
from nnunet_partial.evaluation.statistics import LEVEL
from nnunet_partial.evaluation.warning_signs import FRACTION_OF_IMAGE
from nnunet_partial.report.formatting import (
    ABOUT_INTERVALS,
    Biomarker,
    biomarker_name,
    decimal,
    interval,
    metric_name,
    pretty_unit,
)
from nnunet_partial.report.results import Results, number
from nnunet_partial.report.tables import Cell, Table, rules_between
from nnunet_partial.utils.tables import TextRow
from nnunet_partial.utils.text import format_names

#: Number of cases in the table of the hardest ones.
N_HARDEST = 5


def comparison_table(results: Results, metric: str, digits: int) -> Table:
    """Tabulate the tests between models, a row per domain, structure and pair of models.

    Args:
        results: the evaluation.
        metric: to compare.
        digits: after the decimal point.

    Returns:
        The table; without rows where nothing was compared.
    """
    chosen = [row for row in results.comparisons if row["metric"] == metric]
    units = {row["unit"] for row in chosen}

    def mean(row: TextRow, of: str) -> Cell:
        text = decimal(number(row, f"mean_{of}"), digits)
        unit = pretty_unit(row["unit"]) if len(units) > 1 else ""
        return Cell(with_unit(text, metric, unit), row["better"] == row[f"model_{of}"])

    rows: list[list[Cell | str]] = [
        [
            row["domain"],
            row["class"],
            f"{row['model_a']} \N{EN DASH} {row['model_b']}",
            mean(row, "a"),
            mean(row, "b"),
            f"{number(row, 'rank_biserial'):+.2f}",
            Cell(p_text(number(row, "p_holm")), mark=stars(number(row, "p_holm"))),
            f"{row['n_patients']} ({row['n_differ']})",
        ]
        for row in chosen
    ]
    tests = chosen[0]["n_tests"] if chosen else "0"
    name = metric_name(metric, units.pop() if len(units) == 1 else "")
    return Table(
        [
            "domain",
            "structure",
            "a \N{EN DASH} b",
            "mean a",
            "mean b",
            "effect",
            "p (Holm)",
            "patients (differ)",
        ],
        rows,
        f"{name}: models compared on the same patients",
        f"Bold: the better model, where p < {LEVEL} and both effect and means say so. p: Wilcoxon signed-rank test on "
        f"patients' means, two-sided, corrected by Holm's method for {tests} tests (* < 0.05, ** < 0.01, *** < 0.001). "
        "effect: rank-biserial correlation, above 0 where a is better; differ: patients in whom the models differ. "
        "Means are over patients' means, so they may differ from those over cases; here an infinite distance counts.",
        left=3,
        rules=rules_between(rows),
    )


def rank_table(results: Results, metric: str) -> Table:
    """Tabulate mean ranks, a column per model; bold if better than every other model (see `comparison_table`).

    Args:
        results: the evaluation.
        metric: that was ranked.

    Returns:
        The table; without rows where nothing was ranked.
    """
    cells: dict[tuple[str, str, str], dict[str, TextRow]] = {}
    for row in results.ranks:
        if row["metric"] == metric:
            cells.setdefault((row["domain"], row["class"], row["unit"]), {})[row["model"]] = row
    rows: list[list[Cell | str]] = []
    units = {unit for _, _, unit in cells}
    left = 3 if len(units) > 1 else 2
    for (domain, structure, unit), ranks in cells.items():
        n = next(iter(ranks.values()))["n_patients"]
        shown = [
            Cell(decimal(number(ranks[model], "mean_rank"), 2), results.beats_all(ranks[model], model))
            if model in ranks
            else Cell("")
            for model in results.models
        ]
        rows.append([domain, structure, *([pretty_unit(unit)] if len(units) > 1 else []), n, *shown])
    return Table(
        ["domain", "structure", *(["unit"] if len(units) > 1 else []), "patients", *results.models],
        rows,
        f"{metric_name(metric, units.pop() if len(units) == 1 else '')}: mean rank over patients (1 is best)",
        left=left,
        rules=rules_between(rows),
    )


def biomarker_tables(results: Results) -> dict[Biomarker, Table]:
    """Tabulate the agreement of biomarkers with the reference, a row per domain and model.

    Args:
        results: the evaluation.

    Returns:
        A table per biomarker, unit and method; none where no biomarker was computed.
    """
    by_biomarker: dict[Biomarker, list[TextRow]] = {}
    for row in results.agreement:
        by_biomarker.setdefault((row["biomarker"], row["unit"], row["method"]), []).append(row)
    return {key: _biomarker_table(key, rows) for key, rows in by_biomarker.items()}


def _biomarker_table(key: Biomarker, of_biomarker: Sequence[TextRow]) -> Table:
    domains = sorted({row["domain"] for row in of_biomarker} - {ALL})
    rows: list[list[Cell | str]] = [
        [
            row["domain"],
            row["model"],
            row["n"],
            row["n_no_prediction"],
            decimal(number(row, "mean_reference"), 1),
            decimal(number(row, "mean_prediction"), 1),
            _with_interval(row, "bias", 1),
            interval(number(row, "loa_low"), number(row, "loa_high"), 1, number(row, "n")),
            decimal(number(row, "mae"), 1),
            _with_interval(row, "pearson_r", 2),
        ]
        for domain in [*domains, *([ALL] if len(domains) > 1 else [])]
        for row in of_biomarker
        if row["domain"] == domain
    ]
    head = ["reference", "prediction", "bias", "limits of agreement", "MAE", "r"]
    return Table(
        ["domain", "model", "n", "lost", *head],
        rows,
        f"{biomarker_name(key)} in {pretty_unit(key[1])}: prediction against reference [95 % interval]",
        "n: patients with both values; lost: patients with a reference value but no predicted one, who are in no other "
        "number. reference, prediction: means. bias: mean of prediction minus reference; limits of agreement: "
        "bias \N{PLUS-MINUS SIGN} 1.96 SD; MAE: mean absolute error; r: Pearson's correlation. "
        f"{ABOUT_INTERVALS} The same holds for limits of agreement.",
        left=2,
        rules=rules_between(rows),
    )


def _with_interval(row: TextRow, column: str, digits: int) -> Cell:
    low, high = (number(row, f"{column}_ci95_{end}") for end in ("low", "high"))
    return Cell(decimal(number(row, column), digits), more=interval(low, high, digits, number(row, "n")))


def false_positive_table(results: Results, by_name: bool = True) -> Table:
    """Count where models predicted a structure in cases in which it is known to be absent.

    Args:
        results: the evaluation.
        by_name: whether to name these cases.

    Returns:
        The table; without rows where no structure is known to be absent.
    """
    empty: dict[tuple[str, str, str], list[TextRow]] = {}
    for row in results.per_case:
        if row["outcome"] in (FALSE_POSITIVE, CORRECTLY_EMPTY):
            empty.setdefault((row["domain"], row["class"], row["model"]), []).append(row)
    rows = []
    for key, chosen in sorted(empty.items()):
        cases = [row["case"] for row in chosen if row["outcome"] == FALSE_POSITIVE]
        rows.append([*key, str(len(chosen)), str(len(cases)), *([format_names(cases, 5)] if by_name else [])])
    return Table(
        ["domain", "structure", "model", "known absent", "predicted", *(["in"] if by_name else [])],
        rows,
        "Cases in which a structure is known to be absent, and those of them in which it is predicted",
        left=3,
        rules=rules_between(rows),
    )


def warning_table(results: Results) -> Table:
    """Tabulate predicted sizes of structures where they are not annotated, beside their reference sizes.

    Args:
        results: the evaluation.

    Returns:
        The table; without rows where all cases are fully annotated.
    """
    rows = [
        [
            row["domain"],
            row["class"],
            row["model"],
            row["n_unannotated"],
            row["n_not_predicted"],
            _size(row, "predicted_size_unannotated"),
            _size(row, "reference_size"),
            f"{row['n_reference']}" + (f" of {row['reference_source']}" if row["reference_source"] else ""),
            decimal(number(row, "size_ratio"), 2),
            row["warning"] or "\N{EN DASH}",
        ]
        for row in sorted(results.warning_signs, key=lambda row: (row["domain"], row["class"]))
    ]
    head = ["cases", "not predicted", "mean predicted", "reference size", "reference cases", "size ratio", "warning"]
    return Table(
        ["domain", "structure", "model", *head],
        rows,
        "Predicted size of structures where they are not annotated, and their size where they are",
        "Not a measure of quality: without annotation there is no reference. These cases are in no mean.",
        left=3,
        rules=rules_between(rows),
    )


def hardest_table(results: Results) -> Table:
    """List the cases with the lowest Dice per domain, structure and model.

    Args:
        results: the evaluation.

    Returns:
        The table; only structures that are in the reference have a row.
    """
    groups: dict[tuple[str, str, str], list[TextRow]] = {}
    for row in results.per_case:
        if row["outcome"] in (FOUND, MISSED):
            groups.setdefault((row["domain"], row["class"], row["model"]), []).append(row)
    rows = []
    for key, chosen in sorted(groups.items()):
        chosen.sort(key=lambda row: (number(row, "dice"), row["case"]))
        cases = ", ".join(f"{row['case']} ({decimal(number(row, 'dice'), 2)})" for row in chosen[:N_HARDEST])
        rows.append([*key, str(len(chosen)), cases])
    return Table(
        ["domain", "structure", "model", "cases", "lowest Dice"],
        rows,
        f"The {N_HARDEST} cases with the lowest Dice",
        left=3,
        rules=rules_between(rows),
    )


def _size(row: TextRow, column: str) -> str:
    value = number(row, column)
    if row["unit"] == FRACTION_OF_IMAGE:
        return f"{100 * value:.1f} %" if value == value else "\N{EN DASH}"
    return f"{decimal(value, 1)} {pretty_unit(row['unit'])}"


#: Metrics of the table of agreement, with the digits after the decimal point.
AGREEMENT_METRICS = {"dice": 3, "surface_dice": 3, "hd95": 2, "assd": 2}
#: Name of the mean over every pair of case and structure, which is not the mean of the rows above.
ALL_PAIRS = "(all pairs)"
#: One (domain, structure): by model and metric the rows of summary.csv, one for each unit.
_Cell = Mapping[str, Mapping[str, Sequence[TextRow]]]


def agreement_tables(results: Results) -> list[Table]:
    """Tabulate the metrics of all models per structure with intervals and n; the best ones are bold.

    Args:
        results: the evaluation.

    Returns:
        One table per domain, and one over all domains if there are several; a row per structure and model.
    """
    cells = _summary_cells(results)
    return [
        _domain_table(results, domain, {key[1]: cell for key, cell in cells.items() if key[0] == domain})
        for domain in dict.fromkeys(key[0] for key in cells)
    ]


def _summary_cells(results: Results) -> dict[tuple[str, str], dict[str, dict[str, list[TextRow]]]]:
    """Group summary.csv by (domain, structure); an "(all)" that equals one of its parts is left out."""
    cells: dict[tuple[str, str], dict[str, dict[str, list[TextRow]]]] = {}
    for row in results.summary:
        of_model = cells.setdefault((row["domain"], row["class"]), {}).setdefault(row["model"], {})
        of_model.setdefault(row["metric"], []).append(row)
    known = {key: {model: m["dice"][0]["n_evaluated"] for model, m in cell.items()} for key, cell in cells.items()}
    order = [*results.domains, ALL]
    kept = [key for key in cells if not _equals_a_part(key, known)]
    return {key: cells[key] for key in sorted(kept, key=lambda key: order.index(key[0]))}


def _equals_a_part(key: tuple[str, str], known: Mapping[tuple[str, str], Mapping[str, str]]) -> bool:
    domain, structure = key
    parts = [other for other in known if domain == ALL != other[0] and other[1] == structure]
    parts += [other for other in known if structure == ALL != other[1] and other[0] == domain]
    return any(known[part] == known[key] for part in parts)


def _domain_table(results: Results, domain: str, cells: Mapping[str, _Cell]) -> Table:
    rows = [_agreement_row(results, structure, model, cell) for structure, cell in cells.items() for model in cell]
    names = []
    for metric in AGREEMENT_METRICS:
        units = {row["unit"] for cell in cells.values() for of_model in cell.values() for row in of_model[metric]}
        names.append(metric_name(metric, units.pop() if len(units) == 1 else ""))
    scope = "All domains" if domain == ALL else f"Domain {domain}"
    return Table(
        ["structure", "model", "cases (patients)", *names, "missed", "false pos."],
        rows,
        f"{scope}: mean over known structures [95 % interval]",
        note(results),
        left=2,
        rules=rules_between(rows),
    )


def _agreement_row(results: Results, structure: str, model: str, cell: _Cell) -> list[Cell | str]:
    (dice,) = cell[model]["dice"]
    values: list[Cell | str] = [
        ALL_PAIRS if structure == ALL else structure,
        model,
        f"{dice['n_cases']} ({dice['n_patients']})",
    ]
    for metric, digits in AGREEMENT_METRICS.items():
        rows, has_units = cell[model][metric], len(cell[model][metric]) > 1
        units = [pretty_unit(row["unit"]) if has_units else "" for row in rows]
        means = [
            with_unit(decimal(number(row, "mean"), digits), metric, unit) for row, unit in zip(rows, units, strict=True)
        ]
        best = _best_model(cell, metric) == model and results.beats_all(rows[0], model)
        more = [_interval_and_n(row, dice, digits, "\n" if len(rows) == 1 else " ") for row in rows]
        values.append(Cell(" / ".join(means), best, more="\n".join(filter(None, more))))
    return [*values, dice["n_missed"], dice["n_false_positive"]]


def _interval_and_n(row: TextRow, dice: TextRow, digits: int, between: str) -> str:
    """Return the interval, followed by n if the mean has another number of values than Dice."""
    text = interval(number(row, "ci95_low"), number(row, "ci95_high"), digits, number(row, "n_patients"))
    return text if row["n_values"] == dice["n_values"] else f"{text}{between}(n = {row['n_values']})".strip()


def _best_model(cell: _Cell, metric: str) -> str | None:
    """Return the model with the best mean if it is the only one, else None.

    None as well for a single model, several units, different numbers of known cases, or a model without a mean: it
    correctly predicted nothing, which no mean of another model beats. A mean with an infinite value is infinite.
    """
    if len(cell) < 2 or any(len(of_model[metric]) > 1 for of_model in cell.values()):
        return None
    rows = {model: of_model[metric][0] for model, of_model in cell.items()}
    if len({row["n_evaluated"] for row in rows.values()}) > 1:
        return None
    means = {m: math.inf if row["n_infinite"] not in ("", "0") else number(row, "mean") for m, row in rows.items()}
    finite = {model: mean for model, mean in means.items() if math.isfinite(mean)}
    if not finite or any(math.isnan(mean) for mean in means.values()):
        return None
    best = (max if metric in OVERLAPS else min)(finite.values())
    best_models = [model for model, mean in finite.items() if mean == best]
    return best_models[0] if len(best_models) == 1 else None


def note(results: Results) -> str:
    """Return the note that explains how to read the tables of agreement.

    Args:
        results: the evaluation.

    Returns:
        The text.
    """
    text = (
        "A structure counts in a case where it is annotated or known to be absent. cases: with a Dice value (a "
        f"structure correctly predicted absent has none). {ALL_PAIRS}: the mean over all known pairs of case and "
        "structure, not the mean of the structures' means (foreground_mean in summary.json, as in nnU-Net). surface "
        "Dice: at the tolerance in parentheses, in pixels where the spacing is unknown. missed: cases that show the "
        "structure but nothing was predicted; false pos.: cases in which it is known absent but was predicted. "
        "Distances are infinite in both and leave them out; they have their own n where it differs. "
        f"{ABOUT_INTERVALS}"
    )
    if len(results.models) > 1:
        text += (
            f" Bold: the best mean of a model that is better than every other one, p < {LEVEL} (Wilcoxon signed-rank "
            "over patients, corrected by Holm's method), if all models have the same number of known cases (a missed "
            "structure makes a mean distance the worst)."
        )
    return text
