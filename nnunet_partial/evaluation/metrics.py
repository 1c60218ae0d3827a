"""Measure how well a predicted structure agrees with the reference: overlap, contour distances and size.

What the evaluation says of empty structures (outcome in quotes):

| prediction | truth  | outcome           | Dice, IoU, surface Dice | precision | recall | distances | size difference |
|------------|--------|-------------------|-------------------------|-----------|--------|-----------|-----------------|
| voxels     | voxels | "found"           | 0 to 1                  | 0 to 1    | 0 to 1 | finite    | any             |
| empty      | voxels | "missed"          | 0                       | NaN       | 0      | inf       | below 0         |
| voxels     | empty  | "false positive"  | 0                       | 0         | NaN    | inf       | above 0         |
| empty      | empty  | "correctly empty" | NaN                     | NaN       | NaN    | NaN       | 0               |

Overlap is as in nnU-Net's own summary. The distance to an empty structure is infinite: means leave it out and report
how many there are, comparisons of models count it as the worst. A structure that was not annotated in a case is not
measured at all, so it is no row of this table. One that is known to be absent is: predicted there, it is a false
positive.
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

#: Relative allowance by which a distance may exceed the tolerance, so that one of exactly the tolerance is within it:
#: above the rounding of float32, in which headers hold spacings (6e-8), and below any real difference.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Counts:
    """Count voxels: in both (tp), in the prediction only (fp), in the reference only (fn), in neither (tn)."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def outcome(self) -> str:
        """One of OUTCOMES, by which of the two masks is empty."""
        if self.tp + self.fn:
            return FOUND if self.tp + self.fp else MISSED
        return FALSE_POSITIVE if self.fp else CORRECTLY_EMPTY


@dataclass(frozen=True)
class StructureMetrics:
    """Hold all metrics of one structure in one case, in the units of the `Scale` it was measured with."""

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
        """Predicted minus reference size."""
        return self.predicted_size - self.reference_size


def measure(
    predicted: Mask, truth: Mask, scale: Scale, tolerance: float, counted: Mask | None = None
) -> StructureMetrics:
    """Compute all metrics of one structure.

    Definitions: Dice 2 TP / (2 TP + FP + FN), IoU TP / (TP + FP + FN), precision TP / (TP + FP), recall TP / (TP + FN);
    the distances are those of `contour_agreement`.

    Args:
        predicted: Mask of the prediction (*S), one axis per number of `scale.spacing`.
        truth: Mask of the reference (*S).
        scale: Spacing and size of a voxel, with their units.
        tolerance: Of the surface Dice, in `scale.distance_unit`, at least 0.
        counted: Voxels to evaluate (*S); the others count as background in both masks and in none of the counts
            (nnU-Net's ignore label). None: all.

    Returns:
        The metrics; the table at the top of this module says what empty masks give.

    Raises:
        ValueError: The shapes differ.

    References:
        Maier-Hein, Reinke et al. 2024, Metrics reloaded, https://doi.org/10.1038/s41592-023-02151-z
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
    return StructureMetrics(
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
    """Compute surface Dice, Hausdorff distance, HD95 and average symmetric surface distance of two masks.

    All four use the contour voxels of both masks (`surface_points`: the border of the image closes a contour) and the
    distance of each to the nearest contour voxel of the other mask. Each contour voxel counts alike, whatever its
    spacing.

    Surface Dice: the fraction, of the contour voxels of both, that lies within `tolerance`. Hausdorff distance: the
    largest distance. HD95: the larger of the two 95th percentiles (linear interpolation). ASSD: the sum of all
    distances divided by their number.

    Args:
        predicted: Mask of the prediction (*S).
        truth: Mask of the reference (*S).
        spacing: One number per axis.
        tolerance: Of the surface Dice, in the unit of `spacing`.

    Returns:
        Surface Dice, Hausdorff distance, HD95 and ASSD, distances in the unit of `spacing`. One mask empty: 0, inf,
        inf, inf; both empty: NaN.

    References:
        Distances: Maier-Hein, Reinke et al. 2024, Metrics reloaded, https://doi.org/10.1038/s41592-023-02151-z
        Surface Dice: Nikolov et al. 2021, https://doi.org/10.2196/26151
    """
    contours = surface_points(predicted, spacing), surface_points(truth, spacing)
    if not len(contours[0]) and not len(contours[1]):
        return math.nan, math.nan, math.nan, math.nan
    if not len(contours[0]) or not len(contours[1]):
        return 0.0, math.inf, math.inf, math.inf
    from_prediction, from_truth = nearest(*contours), nearest(contours[1], contours[0])
    every: Floats = np.concatenate([from_prediction, from_truth])
    within = np.count_nonzero(every <= tolerance * (1 + ROUNDING))
    return (
        float(within / len(every)),
        float(every.max()),
        float(max(np.percentile(from_prediction, 95), np.percentile(from_truth, 95))),
        float(every.mean()),
    )


def without_thin_axes(
    array: NDArray[np.integer], spacing_mm: Sequence[float]
) -> tuple[NDArray[np.integer], tuple[float, ...]]:
    """Drop axes of length 1 of a 3-D array, so that a volume of a single slice is measured as a 2-D image.

    Otherwise every voxel of the slice would be on the contour, and an area would be reported as a volume. At least two
    axes remain.

    Args:
        array: Label values (*S).
        spacing_mm: One number per axis, in mm.

    Returns:
        The array and the spacing of the axes that remain; both unchanged for 2-D arrays and where no axis has length 1.
    """
    axes = [axis for axis, length in enumerate(array.shape) if length > 1]
    if array.ndim < 3 or len(axes) == array.ndim:
        return array, tuple(spacing_mm)
    axes = sorted([*axes, *[axis for axis in range(array.ndim)[::-1] if axis not in axes]][: max(2, len(axes))])
    shape = tuple(array.shape[axis] for axis in axes)
    return array.reshape(shape), tuple(spacing_mm[axis] for axis in axes)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
