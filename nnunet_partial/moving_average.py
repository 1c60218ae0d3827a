"""The moving average of the pseudo Dice, by which nnU-Net chooses its best checkpoint, in epochs that know nothing."""

from __future__ import annotations

import math
from typing import Any


def mend_moving_average(logger: Any) -> None:
    """Makes nnU-Net's logger skip epochs without a pseudo Dice when it averages; call once, before the first epoch.

    An epoch in which nothing was known has no pseudo Dice (NaN): the moving average stays as it was, where nnU-Net
    would carry the NaN on for ever. Before the first epoch that knows something there is no average (NaN). The value is
    mended on its way in, so that every logger (Weights & Biases too) gets the same one.
    """
    log = logger.log

    def mended(key: str, value: Any, step: int) -> None:
        log(key, _average(logger, value, step) if key == "ema_fg_dice" else value, step)

    # nnU-Net's logger computes the average itself, once it is given a mean, and logs it by this name
    logger.log = mended


def _average(logger: Any, value: float, step: int) -> float:
    before = [average for average in logger.get_value("ema_fg_dice", None)[:step] if not math.isnan(average)]
    mean = float(logger.get_value("mean_fg_dice", step))
    if math.isnan(mean):
        return before[-1] if before else mean
    return value if before else mean
