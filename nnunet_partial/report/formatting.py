"""Format numbers, units and names of metrics for tables, captions and figures."""

from __future__ import annotations

import math
from typing import TypeAlias

from nnunet_partial.evaluation.biomarker_tables import REPORTED_BY_DATASET
from nnunet_partial.evaluation.statistics import FEW_PATIENTS, MIN_PATIENTS

METRIC_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "surface_dice": "surface Dice",
    "precision": "precision",
    "recall": "recall",
    "hausdorff": "Hausdorff distance",
    "hd95": "HD95",
    "assd": "ASSD",
    "size_difference": "size difference",
}
#: Name, unit and method; the method may be empty.
Biomarker: TypeAlias = tuple[str, str, str]

#: Mark of an interval of few patients, and its explanation below a table.
DAGGER = "\N{DAGGER}"
ABOUT_INTERVALS = (
    f"No interval below {MIN_PATIENTS} patients; {DAGGER} below {FEW_PATIENTS}, "
    "where it may cover the true value in less than 95 %."
)


def metric_name(metric: str, unit: str) -> str:
    """Return the printed name of a metric: 'HD95 (mm)', 'surface Dice (2 mm)', 'Dice'.

    Args:
        metric: a metric of per_case.csv.
        unit: its unit; empty where it has none.

    Returns:
        The name.
    """
    return METRIC_NAMES[metric] + (f" ({pretty_unit(unit)})" if unit else "")


def pretty_unit(unit: str) -> str:
    """Format a unit.

    Args:
        unit: as the tables of the evaluation write it.

    Returns:
        cm2 as cm²; other units unchanged.
    """
    return unit.replace("cm2", "cm²")


def biomarker_name(biomarker: Biomarker) -> str:
    """Return the printed name of a biomarker: 'EDV (biplane)', or the name alone without a method.

    Args:
        biomarker: name, unit and method.

    Returns:
        The name.
    """
    name, _, method = biomarker
    if method == REPORTED_BY_DATASET:
        return f"{name} (reference: {method})"
    return f"{name} ({method})" if method else name


def decimal(value: float, digits: int) -> str:
    """Format a number with a fixed number of decimals.

    Args:
        value: the number.
        digits: after the decimal point.

    Returns:
        The text; an en dash for NaN, 'inf' for infinity, no minus before zeros.
    """
    if math.isnan(value):
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(low: float, high: float, digits: int, patients: float) -> str:
    """Format an interval: '[0.901, 0.921]'.

    Args:
        low: lower end; NaN where there is no interval.
        high: upper end.
        digits: after the decimal point.
        patients: number of patients it is based on; a dagger marks few ones.

    Returns:
        The text; empty where there is no interval.
    """
    if math.isnan(low):
        return ""
    return f"[{decimal(low, digits)}, {decimal(high, digits)}]" + (DAGGER if patients < FEW_PATIENTS else "")
