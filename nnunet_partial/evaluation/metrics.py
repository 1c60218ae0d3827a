"""How well one drawn structure agrees with another: overlap, distance of the outlines, size.

What is said of empty structures, everywhere in the evaluation (outcome in quotes):

| prediction | truth | outcome           | Dice, IoU, surface Dice | precision | recall | distances | size difference |
|------------|-------|-------------------|-------------------------|-----------|--------|-----------|-----------------|
| voxels     | some  | "found"           | 0 to 1                  | 0 to 1    | 0 to 1 | finite    | any             |
| none       | some  | "missed"          | 0                       | NaN       | 0      | inf       | below 0         |
| voxels     | none  | "false positive"  | 0                       | 0         | NaN    | inf       | above 0         |
| none       | none  | "correctly empty" | NaN                     | NaN       | NaN    | NaN       | 0               |

Overlap is as in nnU-Net's own summary. The distance to nothing is infinite; means leave it out and say how often that
was, comparisons of models count it as the worst. A structure that nobody annotated in a case is no row of this table:
it is not measured at all. One that is known to be absent is: predicted there, it is a false positive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.utils.masks import Floats, Mask, Scale, nearest, surface_points

FOUND, MISSED, FALSE_POSITIVE, CORRECTLY_EMPTY = "found", "missed", "false positive", "correctly empty"
OUTCOMES = (FOUND, MISSED, FALSE_POSITIVE, CORRECTLY_EMPTY)

#: Metrics from 0 to 1, the more the better; distances, the less the better; both in the order of the tables.
OVERLAPS = ("dice", "iou", "surface_dice", "precision", "recall")
DISTANCES = ("hausdorff", "hd95", "assd")
METRICS = (*OVERLAPS, *DISTANCES, "size_difference")

#: A distance of exactly the tolerance is within it: more than what float32, in which headers hold spacings, rounds off
#: (6e-8, relative), less than any difference that was measured.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Counts:
    """Voxels that both have (tp), only the prediction (fp), only the truth (fn), neither (tn)."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def outcome(self) -> str:
        if self.tp + self.fn:
            return FOUND if self.tp + self.fp else MISSED
        return FALSE_POSITIVE if self.fp else CORRECTLY_EMPTY


@dataclass(frozen=True)
class Measured:
    """Everything about one structure in one case; units are those of the `Scale` it was measured with."""

    counts: Counts
    dice: float
    iou: float
    surface_dice: float
    precision: float
    recall: float
    hausdorff: float
    hd95: float
    assd: float
    predicted_size: float
    reference_size: float

    @property
    def size_difference(self) -> float:
        """Prediction minus truth."""
        return self.predicted_size - self.reference_size


def measure(predicted: Mask, truth: Mask, scale: Scale, tolerance: float, counted: Mask | None = None) -> Measured:
    """Compares two masks of the same shape (*S), one axis per number of `scale.spacing`.

    `tolerance`: of the surface Dice, in `scale.distance_unit`, from 0. `counted` (*S): voxels outside count as
    background in both and in none of the counts (nnU-Net's ignore label); None: all count. The table in this
    module's first lines says what empty masks give. Raises ValueError where the shapes differ.

    Definitions: Dice 2 TP / (2 TP + FP + FN), IoU TP / (TP + FP + FN), precision TP / (TP + FP), recall TP / (TP + FN);
    the distances are `contour_agreement`'s. See Maier-Hein, Reinke et al. 2024, Metrics reloaded,
    https://doi.org/10.1038/s41592-023-02151-z.
    """
    if predicted.shape != truth.shape or predicted.ndim != len(scale.spacing):
        raise ValueError(f"shapes {predicted.shape} and {truth.shape}, {len(scale.spacing)} spacing(s): must fit")
    if counted is not None:
        predicted, truth = predicted & counted, truth & counted
    voxels = predicted.size if counted is None else int(np.count_nonzero(counted))
    n_predicted, n_truth = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    both = int(np.count_nonzero(predicted & truth))
    counts = Counts(both, n_predicted - both, n_truth - both, voxels - n_predicted - n_truth + both)
    surface_dice, hausdorff, hd95, assd = contour_agreement(predicted, truth, scale.spacing, tolerance)
    return Measured(
        counts,
        dice=_ratio(2 * both, n_predicted + n_truth),
        iou=_ratio(both, n_predicted + n_truth - both),
        surface_dice=surface_dice,
        precision=_ratio(both, n_predicted),
        recall=_ratio(both, n_truth),
        hausdorff=hausdorff,
        hd95=hd95,
        assd=assd,
        predicted_size=n_predicted * scale.voxel_size,
        reference_size=n_truth * scale.voxel_size,
    )


def contour_agreement(
    predicted: Mask, truth: Mask, spacing: Sequence[float], tolerance: float
) -> tuple[float, float, float, float]:
    """Surface Dice, Hausdorff distance, HD95 and average symmetric surface distance of two masks (*S).

    All four are about the outline voxels of both masks (`surface_points`: the image's border closes an outline) and the
    distance of each to the nearest one of the other. Surface Dice: the share, of all of both, that lies within
    `tolerance`; HD: the largest distance; HD95: the larger of the two 95th percentiles (linear interpolation); ASSD:
    the sum of all distances divided by their number. Each outline voxel counts alike, whatever its spacing. Distances
    are in the unit of `spacing`. One mask empty: 0, inf, inf, inf; both: NaN.
    Sources: Metrics reloaded (as above); surface Dice: Nikolov et al. 2021, https://doi.org/10.2196/26151.
    """
    outlines = surface_points(predicted, spacing), surface_points(truth, spacing)
    if not len(outlines[0]) and not len(outlines[1]):
        return math.nan, math.nan, math.nan, math.nan
    if not len(outlines[0]) or not len(outlines[1]):
        return 0.0, math.inf, math.inf, math.inf
    one_way, other_way = nearest(*outlines), nearest(outlines[1], outlines[0])
    every: Floats = np.concatenate([one_way, other_way])
    within = np.count_nonzero(every <= tolerance * (1 + ROUNDING))
    return (
        float(within / len(every)),
        float(every.max()),
        float(max(np.percentile(one_way, 95), np.percentile(other_way, 95))),
        float(every.mean()),
    )


def without_thin_axes(
    array: NDArray[np.integer], spacing_mm: Sequence[float]
) -> tuple[NDArray[np.integer], tuple[float, ...]]:
    """A 3-D array with a single slice along an axis is a 2-D picture: that axis and its spacing are dropped.

    Otherwise every voxel of the slice would be on the outline, and an area would be called a volume. Two axes remain.
    """
    axes = [axis for axis, length in enumerate(array.shape) if length > 1]
    if array.ndim < 3 or len(axes) == array.ndim:
        return array, tuple(spacing_mm)
    axes = sorted([*axes, *[axis for axis in range(array.ndim)[::-1] if axis not in axes]][: max(2, len(axes))])
    shape = tuple(array.shape[axis] for axis in axes)
    return array.reshape(shape), tuple(spacing_mm[axis] for axis in axes)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
