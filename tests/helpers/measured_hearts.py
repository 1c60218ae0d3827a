"""Measures the ventricles of synthetic hearts at many moments, in true masks and in roughened ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from helpers.rough_masks import dice, rough_mask
from numpy.typing import NDArray

from nnunet_partial.biomarkers.definitions import disc_volume
from nnunet_partial.biomarkers.measure import CAVITY, measure_parts
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.clips import Rhythm
from nnunet_partial.phantom.scanner import LV, MYO, SCANNER_A, draw_labels
from nnunet_partial.utils.masks import Scale

CLASSES = ("LV", "MYO", "LA")
#: Rows and columns; the ventricle is at least 0.37 x 128 = 47 pixels long at end-diastole.
SHAPE = (128, 128)
SCALE = Scale.from_spacing((150 / SHAPE[0], 150 / SHAPE[0]))
EFS_PERCENT = (25, 55, 70)


def lv_ml(labels: NDArray) -> float:
    """The volume of the ventricle in labels (rows, cols), as it is measured in every frame of a clip."""
    return disc_volume([measure_parts(labels, CLASSES, CLASSES, (CAVITY,), SCALE).discs[CAVITY]]) / 1000


def draw(heart: HeartModel, contraction: float) -> NDArray:
    return draw_labels(anatomy=heart, scanner=SCANNER_A, shape=SHAPE, contraction=float(contraction))


@dataclass(frozen=True)
class MeasuredHeart:
    """A heart at `levels` of contraction from 0 to 1: `perfect_ml` (levels,), `rough_ml` (repeats, levels)."""

    ef_percent: float
    perfect_ml: NDArray
    rough_ml: NDArray
    dice: NDArray

    def rough_curve(self, rng: np.random.Generator, contractions: NDArray) -> NDArray:
        """Volumes (T,) of masks that are roughened independently in each frame.

        The error of each is that of a mask of one of the five nearest levels, as a fraction of its volume.
        """
        repeats, levels = self.rough_ml.shape
        shifted = np.rint(contractions * (levels - 1)).astype(int) + rng.integers(-2, 3, size=len(contractions))
        near = shifted.clip(0, levels - 1)
        errors = self.rough_ml[rng.integers(repeats, size=len(near)), near] / self.perfect_ml[near]
        return self.perfect_curve(contractions) * errors

    def perfect_curve(self, contractions: NDArray) -> NDArray:
        """Volumes (T,) of the true masks."""
        return np.interp(contractions, np.linspace(0, 1, len(self.perfect_ml)), self.perfect_ml)


def measure_heart(rng: np.random.Generator, ef_percent: float, levels: int = 20, repeats: int = 4) -> MeasuredHeart:
    heart = HeartModel.random(rng).with_ef(ef_percent)
    perfect, rough, dices = np.zeros(levels), np.zeros((repeats, levels)), np.zeros((repeats, levels))
    for level, contraction in enumerate(np.linspace(0, 1, levels)):
        labels = draw(heart, contraction)
        perfect[level] = lv_ml(labels)
        true = labels == LV
        for repeat in range(repeats):
            mask = rough_mask(rng, true)
            dices[repeat, level] = dice(mask, true)
            rough[repeat, level] = lv_ml(np.where(mask, LV, np.where(true, MYO, labels)))
    return MeasuredHeart(ef_percent, perfect, rough, dices)


def random_rhythm(
    rng: np.random.Generator, irregularities: tuple[float, ...] = (0.0, 0.05, 0.1)
) -> tuple[Rhythm, NDArray, float]:
    """Two to five beats at 45 to 130 per minute and 25 to 80 frames per second: the rhythm, times (T,) and the rate.

    A clip begins at end-diastole, in systole, in early filling or in the pause of diastole; it ends in systole, in the
    pause or at end-diastole.
    """
    fps, rate, beats = rng.uniform(25, 80), rng.uniform(45, 130), int(rng.integers(2, 6))
    start, end = rng.choice([0.0, 0.15, 0.5, 0.7]), rng.choice([0.15, 0.75, 1.0])
    irregularity = float(rng.choice(irregularities))
    rhythm = Rhythm.random(
        rng, seconds=(beats + 2) * 78 / rate, rate_bpm=rate, irregularity=irregularity, start=float(start)
    )
    ed = rhythm.ed_times_s
    frames = int((ed[beats] + end * (ed[beats + 1] - ed[beats])) * fps) + 1
    return rhythm, np.arange(frames) / fps, rate
