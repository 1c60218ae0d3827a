"""Format an evaluation for the terminal: tables, false positives and p values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from nnunet_partial.evaluation.metrics import CORRECTLY_EMPTY, FALSE_POSITIVE, OVERLAPS
from nnunet_partial.evaluation.records import ALL, Record, Row
from nnunet_partial.evaluation.statistics import FEW_PATIENTS, LEVEL, MIN_PATIENTS
from nnunet_partial.utils.text import format_names, text_table

#: Levels of significance and their stars.
LEVELS = ((0.001, "***"), (0.01, "**"), (LEVEL, "*"))


def agreement_table(summary: Sequence[Row]) -> str:
    """Format means, the interval of Dice and the number of cases, a line per model, domain and class.

    "(all)" is left out where it holds the same as one of its parts.

    Args:
        summary: The rows of summary.csv.

    Returns:
        The table.
    """
    cells: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in summary:
        key = (str(row["model"]), str(row["domain"]), str(row["class"]))
        cells.setdefault(key, {}).setdefault(str(row["metric"]), []).append(row)
    evaluated = {key: int(of_metric["dice"][0]["n_evaluated"]) for key, of_metric in cells.items()}
    head = ["model", "domain", "class", "Dice [95 % CI]", "surface Dice", "HD95", "ASSD", "cases", "patients"]
    rows = []
    for (model, domain, structure), of_metric in cells.items():
        parts = [key for key in cells if key[0] == model and domain == ALL != key[1] and key[2] == structure]
        parts += [key for key in cells if key[:2] == (model, domain) and structure == ALL != key[2]]
        if any(evaluated[part] == evaluated[model, domain, structure] for part in parts):
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


def calibration_table(rows: Sequence[Row]) -> str:
    """Format the calibration, a line per model, domain and class.

    Args:
        rows: The rows of calibration.csv.

    Returns:
        The table.
    """
    head = ["model", "domain", "class", "ECE", "mean probability", "frequency", "cases", "patients"]
    return text_table(
        head,
        [
            [
                *(str(row[key]) for key in ("model", "domain", "class")),
                *(f"{float(row[key]):.4f}" for key in ("ece", "mean_probability", "frequency")),
                *(str(row[key]) for key in ("n_cases", "n_patients")),
            ]
            for row in rows
        ],
    )


def format_comparisons(comparisons: Sequence[Row], metric: str = "dice") -> str:
    """Format comparisons of models for one metric, a line per pair of models, domain and class.

    Args:
        comparisons: The rows of comparisons.csv.
        metric: One of METRICS.

    Returns:
        The table; "-" where neither model is better.
    """
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
    """Format the agreement of biomarkers, a line per model, domain, biomarker and method.

    Lengths and areas are left out where there is any other biomarker; "(all)" where it is a single domain.

    Args:
        agreement: The rows of biomarker_agreement.csv.

    Returns:
        The table.
    """
    head = ["model", "domain", "biomarker", "method", "patients", "reference", "prediction", "unit"]
    domains = Counter(tuple(row[key] for key in _SAME_KEYS) for row in agreement if row["domain"] != ALL)
    return text_table(
        [*head, "bias [95 % limits]", "MAE", "r", "no prediction"],
        [
            [
                *(str(row[key]) for key in ("model", "domain", "biomarker", "method", "n")),
                *(number_text(row["mean_" + side]) for side in ("reference", "prediction")),
                str(row["unit"]),
                number_text(row["bias"]) + _between(number_text(row["loa_low"]), number_text(row["loa_high"])),
                number_text(row["mae"]),
                number_text(row["pearson_r"], 2),
                str(row["n_no_prediction"]),
            ]
            for row in [row for row in agreement if row["unit"] in _MAIN_UNITS] or agreement
            if row["domain"] != ALL or domains[tuple(row[key] for key in _SAME_KEYS)] > 1
        ],
    )


#: What the rows of one table line have in common; and the units of biomarkers that are no length or area.
_SAME_KEYS, _MAIN_UNITS = ("model", "biomarker", "unit", "method"), ("mL", "%", "g")


def number_text(value: str | float, digits: int = 1) -> str:
    """Format a number for the terminal.

    Args:
        value: The number, perhaps as text.
        digits: Decimals.

    Returns:
        The number, never "-0.0"; "-" for NaN.
    """
    return "-" if math.isnan(float(value)) else f"{round(float(value), digits) + 0.0:.{digits}f}"


def p_text(p: float) -> str:
    """Format p as papers print it: three digits, never 0.000, and more where these would contradict its stars (0.0496).

    Args:
        p: From 0 to 1, or NaN.

    Returns:
        Such as "0.012" or "< 0.001"; "nan" for NaN.
    """
    if p < 0.001:
        return "< 0.001"
    texts = (f"{p:.{digits}f}" for digits in range(3, 20))
    return next((text for text in texts if stars(float(text)) == stars(p)), str(p))


def stars(p: float) -> str:
    """Return the stars of a p value.

    Args:
        p: From 0 to 1, or NaN.

    Returns:
        "*" where p < 0.05, "**" below 0.01, "***" below 0.001, else (also for NaN) an empty string.
    """
    return next((text for level, text in LEVELS if p < level), "")


def interval_note(summary: Sequence[Row]) -> str:
    """Explain missing and uncertain intervals.

    Args:
        summary: The rows of summary.csv.

    Returns:
        A line where intervals rest on few patients, or are left out for that reason; else an empty string.
    """
    patients = [int(row["n_patients"]) for row in summary if row["metric"] == "dice" and row["n_values"]]
    if min(patients, default=FEW_PATIENTS) >= FEW_PATIENTS:
        return ""
    return (
        f"Below {MIN_PATIENTS} patients there is no interval; "
        f"below {FEW_PATIENTS} it may hold the true mean less often than 95 %.\n"
    )


def with_unit(text: str, metric: str, unit: str) -> str:
    """Append the unit to a number.

    Args:
        text: The number.
        metric: One of METRICS.
        unit: May be empty; of the surface Dice its tolerance.

    Returns:
        "4.20 mm"; of an overlap with the tolerance in parentheses, "0.912 (2 mm)"; without a unit the text as it is.
    """
    return f"{text} ({unit})" if unit and metric in OVERLAPS else f"{text} {unit}".rstrip()


def false_positives(records: Sequence[Record]) -> list[str]:
    """Describe false positives: classes predicted in cases known not to show them.

    Args:
        records: Of all models.

    Returns:
        A sentence per model, domain and class; none without false positives.
    """
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
    return _mean(row) + _between(*(number_text(row["ci95_" + end], 3) for end in ("low", "high")))


def _between(low: str, high: str) -> str:
    return "" if low == "-" else f" [{low}, {high}]"


def _mean(row: Row) -> str:
    metric = str(row["metric"])
    return with_unit(number_text(row["mean"], 3 if metric in OVERLAPS else 2), metric, str(row["unit"]))
