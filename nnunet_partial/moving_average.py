"""The moving average of the pseudo Dice, by which nnU-Net chooses its best checkpoint, in epochs that know nothing."""

from __future__ import annotations

import math
from typing import Any

#: What nnU-Net logs of the pseudo Dice.
DICE_KEYS = ("dice_per_class_or_region", "mean_fg_dice", "ema_fg_dice")


def mend_moving_average(logger: Any) -> None:
    """Makes nnU-Net's logger skip epochs without a pseudo Dice when it averages; call once, before the first epoch.

    An epoch in which nothing was known has no pseudo Dice (NaN): the moving average stays as it was, where nnU-Net
    would carry the NaN on for ever. Before the first epoch that knows something there is no average (NaN). The value is
    mended on its way in, so that every logger (Weights & Biases too) gets the same one.

    Dice values become Python's own numbers: counted in float64, where nnU-Net counts in float32, they would otherwise
    take more room than its own in every checkpoint, which holds the log.
    """
    log = logger.log

    def mended(key: str, value: Any, step: int) -> None:
        if key == "ema_fg_dice":
            value = _average(logger, value, step)
        log(key, _plain(value) if key in DICE_KEYS else value, step)

    # nnU-Net's logger computes the average itself, once it is given a mean, and logs it by this name
    logger.log = mended


def _average(logger: Any, value: float, step: int) -> float:
    before = [average for average in logger.get_value("ema_fg_dice", None)[:step] if not math.isnan(average)]
    mean = float(logger.get_value("mean_fg_dice", step))
    if math.isnan(mean):
        return before[-1] if before else mean
    return value if before else mean


def _plain(value: Any) -> Any:
    return [float(one) for one in value] if isinstance(value, list) else float(value)
