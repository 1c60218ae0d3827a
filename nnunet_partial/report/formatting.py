"""How numbers, units and metrics are written in tables, captions and pictures."""

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
#: What it is, its unit, and the method, which may be empty.
Biomarker: TypeAlias = tuple[str, str, str]

#: Behind an interval of few patients, and what is said about it below a table.
DAGGER = "\N{DAGGER}"
ABOUT_INTERVALS = (
    f"No interval below {MIN_PATIENTS} patients; {DAGGER} below {FEW_PATIENTS}, "
    "where it may hold the true value less often than 95 %."
)


def metric_name(metric: str, unit: str) -> str:
    """'HD95 (mm)', 'surface Dice (2 mm)', 'Dice'."""
    return METRIC_NAMES[metric] + (f" ({pretty_unit(unit)})" if unit else "")


def pretty_unit(unit: str) -> str:
    """cm2 as cm²; others as they are."""
    return unit.replace("cm2", "cm²")


def biomarker_name(biomarker: Biomarker) -> str:
    """'EDV (biplane)', 'EF (reference: reported by dataset)'; without a method the name alone."""
    name, _, method = biomarker
    if method == REPORTED_BY_DATASET:
        return f"{name} (reference: {method})"
    return f"{name} ({method})" if method else name


def decimal(value: float, digits: int) -> str:
    """With so many digits after the point; an en dash for NaN, no minus before zeros, 'inf' for infinity."""
    if math.isnan(value):
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(low: float, high: float, digits: int, patients: float) -> str:
    """'[0.901, 0.921]', with a dagger behind it where it rests on few patients; nothing where there is none (NaN)."""
    if math.isnan(low):
        return ""
    return f"[{decimal(low, digits)}, {decimal(high, digits)}]" + (DAGGER if patients < FEW_PATIENTS else "")
