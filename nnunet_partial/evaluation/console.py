"""The evaluation as text for the screen: tables, false positives and warning signs in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from nnunet_partial.evaluation.metrics import CORRECTLY_EMPTY, FALSE_POSITIVE, OVERLAPS
from nnunet_partial.evaluation.records import ALL, Record, Row
from nnunet_partial.evaluation.statistics import FEW, FEWEST, LEVEL
from nnunet_partial.utils.text import format_names, text_table

#: The usual levels of significance, and their stars.
LEVELS = ((0.001, "***"), (0.01, "**"), (LEVEL, "*"))


def agreement_table(summary: Sequence[Row]) -> str:
    """A line per model, domain and structure: means, the interval of Dice, and how many cases they rest on.

    "(all)" is left out where it says the same as one of its parts.
    """
    cells: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in summary:
        key = (str(row["model"]), str(row["domain"]), str(row["class"]))
        cells.setdefault(key, {}).setdefault(str(row["metric"]), []).append(row)
    known = {key: int(of_metric["dice"][0]["n_evaluated"]) for key, of_metric in cells.items()}
    head = ["model", "domain", "class", "Dice [95 % CI]", "surface Dice", "HD95", "ASSD", "cases", "patients"]
    rows = []
    for (model, domain, structure), of_metric in cells.items():
        parts = [key for key in cells if key[0] == model and domain == ALL != key[1] and key[2] == structure]
        parts += [key for key in cells if key[:2] == (model, domain) and structure == ALL != key[2]]
        if any(known[part] == known[model, domain, structure] for part in parts):
            continue
        (dice,) = of_metric["dice"]
        rows.append(
            [
                *(model, domain, structure),
                _with_interval(dice),
                *(" / ".join(map(_mean, of_metric[metric])) for metric in ("surface_dice", "hd95", "assd")),
                str(dice["n_cases"]),
                str(dice["n_patients"]),
                str(dice["n_missed"]),
                str(dice["n_false_positive"]),
            ]
        )
    return text_table([*head, "missed", "false positive"], rows)


def comparison_table(comparisons: Sequence[Row], metric: str = "dice") -> str:
    """A line per pair of models, domain and structure, for one metric; "-" where neither is called better."""
    head = ["models", "domain", "class", "mean a", "mean b", "better", "effect", "p (Holm)", "patients"]
    return text_table(
        head,
        [
            [
                f"{row['model_a']} - {row['model_b']}",
                *(str(row["domain"]), str(row["class"])),
                *(f"{float(row['mean_' + side]):.3f}" for side in "ab"),
                str(row["better"]) or "-",
                f"{float(row['rank_biserial']):+.2f}",
                p_text(float(row["p_holm"])),
                str(row["n_patients"]),
            ]
            for row in comparisons
            if row["metric"] == metric
        ],
    )


def biomarker_table(agreement: Sequence[Row]) -> str:
    """A line per model, domain, biomarker and method; "(all)" is left out where it is a single domain.

    Lengths and areas are left out where there is anything else.
    """
    head = ["model", "domain", "biomarker", "method", "patients", "reference", "prediction", "unit"]
    domains = Counter(tuple(row[key] for key in _SAME) for row in agreement if row["domain"] != ALL)
    return text_table(
        [*head, "bias [95 % limits]", "MAE", "r", "no prediction"],
        [
            [
                *(str(row[key]) for key in ("model", "domain", "biomarker", "method", "n")),
                *(_plain(row["mean_" + side]) for side in ("reference", "prediction")),
                str(row["unit"]),
                _plain(row["bias"]) + _between(_plain(row["loa_low"]), _plain(row["loa_high"])),
                _plain(row["mae"]),
                _plain(row["pearson_r"], 2),
                str(row["n_no_prediction"]),
            ]
            for row in [row for row in agreement if row["unit"] in _SHORT] or agreement
            if row["domain"] != ALL or domains[tuple(row[key] for key in _SAME)] > 1
        ],
    )


_SAME, _SHORT = ("model", "biomarker", "unit", "method"), ("mL", "%", "g")


def _plain(value: str | float, digits: int = 1) -> str:
    return "-" if math.isnan(float(value)) else f"{round(float(value), digits) + 0.0:.{digits}f}"  # no "-0.0"


def p_text(p: float) -> str:
    """p as papers print it: three digits, never 0.000, and more where these would lie about its stars (0.0496)."""
    if p < 0.001:
        return "< 0.001"
    texts = (f"{p:.{digits}f}" for digits in range(3, 20))
    return next((text for text in texts if stars(float(text)) == stars(p)), str(p))


def stars(p: float) -> str:
    """'*' where p < 0.05, '**' below 0.01, '***' below 0.001, else (also for NaN) nothing."""
    return next((text for level, text in LEVELS if p < level), "")


def about_intervals(summary: Sequence[Row]) -> str:
    """A line where intervals rest on few patients, or are left out for it; else empty."""
    patients = [int(row["n_patients"]) for row in summary if row["metric"] == "dice" and row["n_values"]]
    if min(patients, default=FEW) >= FEW:
        return ""
    return (
        f"Below {FEWEST} patients there is no interval; below {FEW} it may hold the true mean less often than 95 %.\n"
    )


def with_unit(text: str, metric: str, unit: str) -> str:
    """A number and its unit; of an overlap what it is measured at ("0.912 (2 mm)")."""
    return f"{text} ({unit})" if unit and metric in OVERLAPS else f"{text} {unit}".rstrip()


def false_positives(records: Sequence[Record]) -> list[str]:
    """A sentence per model, domain and structure that was predicted in cases known not to show it."""
    empty: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.outcome in (FALSE_POSITIVE, CORRECTLY_EMPTY):
            empty.setdefault((record.model, record.subject.domain, record.structure), []).append(record)
    lines = []
    for (model, domain, structure), chosen in empty.items():
        cases = [record.subject.case for record in chosen if record.outcome == FALSE_POSITIVE]
        if cases:
            lines.append(
                f"{model}: {structure} is predicted in {len(cases)} of {len(chosen)} case(s) of {domain} that are "
                f"known not to show it: {format_names(cases, 5)}"
            )
    return lines


def _with_interval(row: Row) -> str:
    return _mean(row) + _between(*(_plain(row["ci95_" + end], 3) for end in ("low", "high")))


def _between(low: str, high: str) -> str:
    return "" if low == "-" else f" [{low}, {high}]"


def _mean(row: Row) -> str:
    metric = str(row["metric"])
    return with_unit(_plain(row["mean"], 3 if metric in OVERLAPS else 2), metric, str(row["unit"]))
