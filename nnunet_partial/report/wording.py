"""How numbers, units and metrics are written in tables, captions and pictures."""

from __future__ import annotations

import math
from typing import TypeAlias

from nnunet_partial.evaluation.biomarkers_rows import OWN

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

#: The usual levels of significance, and their stars.
LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def stars(p: float) -> str:
    """'*' where p < 0.05, '**' below 0.01, '***' below 0.001, else (also for NaN) nothing."""
    return next((text for level, text in LEVELS if p < level), "")


def pretty_unit(unit: str) -> str:
    """cm2 as cm²; others as they are."""
    return unit.replace("cm2", "cm²")


def biomarker_name(biomarker: Biomarker) -> str:
    """'EDV (biplane)', 'EF (reference: the data set's own)'; without a method the name alone."""
    name, _, method = biomarker
    if method == OWN:
        return f"{name} (reference: the {method})"
    return f"{name} ({method})" if method else name


def decimal(value: float, digits: int) -> str:
    """With so many digits after the point; an en dash for NaN, no minus before zeros, 'inf' for infinity."""
    if math.isnan(value):
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(low: float, high: float, digits: int) -> str:
    """'[0.901, 0.921]'; nothing where there is none (NaN)."""
    return "" if math.isnan(low) else f"[{decimal(low, digits)}, {decimal(high, digits)}]"
