"""The numbers of one structure: worked by hand, and against two implementations written apart."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.random_masks import SPACINGS, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nnunet_partial.evaluation.metrics import (
    CORRECTLY_EMPTY,
    FALSE_POSITIVE,
    FOUND,
    METRICS,
    MISSED,
    StructureMetrics,
    contour_agreement,
    measure,
    without_thin_axes,
)
from nnunet_partial.utils.masks import Scale, bounding_box, nearest, surface_points


def block(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    """True from the first to before the second index of each axis."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


# ---- worked by hand --------------------------------------------------------------------------------------------------


def test_a_square_beside_itself() -> None:
    """4 x 4 pixels against the same moved by one column; rows are 2 mm, columns 0.5 mm.

    12 in common, 4 more in each. Of the 12 outline pixels of each, the 4 of the outer column and the 2 inner ones of
    the column that lies inside the other are one column, 0.5 mm, from the other outline; 6 lie on it.
    """
    truth, predicted = block((9, 9), (2, 6), (2, 6)), block((9, 9), (2, 6), (3, 7))
    found = measure(predicted, truth, Scale.from_spacing((2.0, 0.5)), tolerance=0.4)
    assert (found.counts.tp, found.counts.fp, found.counts.fn, found.counts.tn) == (12, 4, 4, 81 - 20)
    assert (found.dice, found.iou, found.precision, found.recall) == (24 / 32, 12 / 20, 12 / 16, 12 / 16)
    assert (found.hausdorff, found.hd95, found.assd, found.surface_dice) == (0.5, 0.5, 0.25, 0.5)
    assert found.predicted_size == pytest.approx(16 * 2.0 * 0.5 / 100)  # cm2
    assert found.size_difference == 0


def test_hd95_is_the_larger_of_both_percentiles_and_assd_is_over_all_outline_points() -> None:
    """Truth: 20 pixels in a row. Prediction: its first pixel only. One way 0; the other way 0, 1, ..., 19."""
    truth, predicted = block((3, 22), (1, 2), (0, 20)), block((3, 22), (1, 2), (0, 1))
    found = measure(predicted, truth, Scale.from_spacing((1.0, 1.0)), tolerance=4)
    assert found.hausdorff == 19
    assert found.hd95 == pytest.approx(0.95 * 19)
    assert found.assd == pytest.approx(sum(range(20)) / 21)
    assert found.surface_dice == pytest.approx((1 + 5) / 21)


def test_a_volume() -> None:
    truth, predicted = block((6, 8, 8), (1, 5), (2, 6), (2, 6)), block((6, 8, 8), (1, 3), (2, 6), (2, 6))
    found = measure(predicted, truth, Scale.from_spacing((5.0, 1.0, 2.0)), tolerance=0)
    assert found.dice == 2 * 32 / (32 + 64)
    assert found.reference_size == pytest.approx(64 * 10 / 1000)  # mL
    assert found.size_difference == pytest.approx(-32 * 10 / 1000)
    assert found.hausdorff == 10  # two slices of 5 mm


def test_a_distance_of_exactly_the_tolerance_is_within_it() -> None:
    truth, predicted = block((1, 9), (0, 1), (0, 1)), block((1, 9), (0, 1), (7, 8))
    spacing = (1.0, 0.3)  # 7 * 0.3 is 2.0999999999999996 or 2.1, depending on the way it is computed
    assert contour_agreement(predicted, truth, spacing, 2.1)[0] == 1.0
    assert contour_agreement(predicted, truth, spacing, 2.0999)[0] == 0.0


def test_a_spacing_stored_as_float32_changes_no_surface_dice() -> None:
    """5 pixels of 0.4 mm are 2.00000003 mm in float32: within 2 mm. All outline pixels are exactly that far away."""
    truth, predicted = block((1, 9), (0, 1), (0, 1)), block((1, 9), (0, 1), (5, 6))
    stored = float(np.float32(0.4))
    assert 5 * stored > 2
    assert contour_agreement(predicted, truth, (0.4, 0.4), 2)[0] == 1.0
    assert contour_agreement(predicted, truth, (stored, stored), 2)[0] == 1.0
    assert contour_agreement(predicted, truth, (stored, stored), 1.9999)[0] == 0.0


def warped(rng: np.random.Generator, spacing_mm: float) -> np.ndarray:
    """An ellipse with a wavy outline in 200 x 200 pixels."""
    rows, cols = np.indices((200, 200)) * spacing_mm - 100 * spacing_mm
    angle = np.arctan2(rows, cols)
    wave = 1 + 0.04 * sum(rng.normal() * np.sin(n * angle + rng.uniform(0, 6)) for n in range(2, 6))
    return np.hypot(rows / 30, cols / 20) < wave


@pytest.mark.parametrize("seed", range(20))
def test_warped_ellipses_agree_in_both_precisions_with_exact_integers(seed: int) -> None:
    """In pixels everything is whole: within 2 mm of 0.4 is a squared distance of at most 25 pixels."""
    rng = np.random.default_rng(seed)
    predicted, truth = warped(rng, 0.4), warped(rng, 0.4)
    points, others = (np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (predicted, truth))
    squared = ((points[:, None] - others[None]) ** 2).sum(axis=2)
    expected = np.concatenate([squared.min(axis=0), squared.min(axis=1)]) <= 25
    for step in (0.4, float(np.float32(0.4))):
        assert contour_agreement(predicted, truth, (step, step), 2)[0] == expected.mean()


def test_units() -> None:
    flat, solid = Scale.from_spacing((0.5, 0.5)), Scale.from_spacing((1.0, 1.0, 1.0))
    assert (flat.distance_unit, flat.size_unit, flat.voxel_size) == ("mm", "cm2", 0.0025)
    assert (solid.distance_unit, solid.size_unit, solid.voxel_size) == ("mm", "mL", 0.001)


@pytest.mark.parametrize(("spacing", "unit"), [((0.5, 1.3), "pixels"), ((1.0, 2.0, 3.0), "voxels")])
def test_where_the_pixel_size_is_not_known_everything_is_counted(spacing: tuple[float, ...], unit: str) -> None:
    assert Scale.from_spacing(spacing, known=False) == Scale((1.0,) * len(spacing), unit, 1.0, unit)


# ---- empty cases -----------------------------------------------------------------------------------------------------

NOTHING, SOME = np.zeros((6, 6), bool), block((6, 6), (1, 3), (1, 4))
NAN, INF = math.nan, math.inf
EMPTY = {
    MISSED: (NOTHING, SOME, {"dice": 0, "iou": 0, "surface_dice": 0, "precision": NAN, "recall": 0,
                             "hausdorff": INF, "hd95": INF, "assd": INF, "size_difference": -6}),
    FALSE_POSITIVE: (SOME, NOTHING, {"dice": 0, "iou": 0, "surface_dice": 0, "precision": 0, "recall": NAN,
                                     "hausdorff": INF, "hd95": INF, "assd": INF, "size_difference": 6}),
    CORRECTLY_EMPTY: (NOTHING, NOTHING, {"dice": NAN, "iou": NAN, "surface_dice": NAN, "precision": NAN, "recall": NAN,
                                         "hausdorff": NAN, "hd95": NAN, "assd": NAN, "size_difference": 0}),
    FOUND: (SOME, SOME, {"dice": 1, "iou": 1, "surface_dice": 1, "precision": 1, "recall": 1,
                         "hausdorff": 0, "hd95": 0, "assd": 0, "size_difference": 0}),
}  # fmt: skip


@pytest.mark.parametrize("outcome", EMPTY)
def test_every_empty_case_has_its_convention(outcome: str) -> None:
    predicted, truth, expected = EMPTY[outcome]
    found = measure(predicted, truth, Scale.from_spacing((1.0, 1.0), known=False), tolerance=1)
    assert found.counts.outcome == outcome
    assert {metric: getattr(found, metric) for metric in METRICS} == pytest.approx(expected, nan_ok=True)


def test_found_but_nowhere_near_is_still_found_with_dice_0() -> None:
    found = measure(block((9, 9), (0, 2), (0, 2)), block((9, 9), (6, 8), (0, 2)), Scale.from_spacing((1.0, 1.0)), 1)
    assert (found.counts.outcome, found.dice, found.precision, found.recall, found.hausdorff) == (FOUND, 0, 0, 0, 6)


# ---- the border of the picture ---------------------------------------------------------------------------------------


def test_where_the_border_cuts_a_structure_the_cut_is_outline() -> None:
    """A structure that fills the picture has its frame as outline; one that ends a row before it is a row away."""
    everything, less = np.ones((5, 6), bool), block((5, 6), (1, 5), (0, 6))
    assert len(surface_points(everything, (1, 1))) == 2 * 5 + 2 * 6 - 4
    found = measure(less, everything, Scale.from_spacing((2.0, 1.0)), tolerance=1)
    assert found.hausdorff == 2.0


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_more_background_around_the_picture_changes_nothing(axes: int, seed: int) -> None:
    predicted, truth = random_masks(seed, axes)
    spacing = SPACINGS[1] if axes == 2 else SPACINGS[2]
    wider = contour_agreement(np.pad(predicted, 3), np.pad(truth, 3), spacing, 1.0)
    assert contour_agreement(predicted, truth, spacing, 1.0) == pytest.approx(wider, nan_ok=True)


# ---- other things ----------------------------------------------------------------------------------------------------


def test_a_single_slice_is_a_picture() -> None:
    """Every voxel of a single slice has a neighbor outside; it is not a volume all of outline."""
    array, spacing = without_thin_axes(np.zeros((1, 7, 8), np.uint8), (9.0, 0.5, 0.4))
    assert (array.shape, spacing) == ((7, 8), (0.5, 0.4))
    array, spacing = without_thin_axes(np.zeros((7, 8, 1), np.uint8), (0.5, 0.4, 9.0))
    assert (array.shape, spacing) == ((7, 8), (0.5, 0.4))
    array, spacing = without_thin_axes(np.zeros((1, 1, 8), np.uint8), (9.0, 8.0, 0.4))
    assert (array.ndim, spacing[-1]) == (2, 0.4)
    # of several thin axes the last stays, so that two remain
    array, spacing = without_thin_axes(np.zeros((1, 5, 1), np.uint8), (9.0, 0.5, 8.0))
    assert (array.shape, spacing) == ((5, 1), (0.5, 8.0))
    assert without_thin_axes(np.zeros((1, 1, 8), np.uint8), (9.0, 7.0, 0.4))[1] == (7.0, 0.4)
    assert without_thin_axes(np.zeros((1, 8), np.uint8), (1.0, 2.0))[0].shape == (1, 8)
    assert without_thin_axes(np.zeros((2, 7, 8), np.uint8), (9.0, 0.5, 0.4))[1] == (9.0, 0.5, 0.4)


def test_ignored_voxels_count_nowhere() -> None:
    """Rows 0 to 2 of a prediction that fills all; the truth is row 3; rows 0 and 1 are ignored: row 2 is wrong."""
    predicted, truth, counted = block((6, 4), (0, 4), (0, 4)), block((6, 4), (3, 4), (0, 4)), np.ones((6, 4), bool)
    counted[:2] = False
    found = measure(predicted, truth, Scale.from_spacing((1.0, 1.0)), 1, counted)
    assert (found.counts.tp, found.counts.fp, found.counts.fn, found.counts.tn) == (4, 4, 0, 8)
    assert (found.dice, found.hausdorff) == (8 / 12, 1)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(3, 2\)"):
        measure(np.ones((2, 3), bool), np.ones((3, 2), bool), Scale.from_spacing((1.0, 1.0)), 1)
    with pytest.raises(ValueError, match=r"3 spacing\(s\)"):
        measure(np.ones((2, 3), bool), np.ones((2, 3), bool), Scale.from_spacing((1.0, 1.0, 1.0)), 1)


def test_masks_are_not_changed() -> None:
    predicted, truth = random_masks(1, 2)
    copies = predicted.copy(), truth.copy()
    measure(predicted, truth, Scale.from_spacing((1.0, 1.0)), 1, np.zeros_like(truth))
    assert (predicted == copies[0]).all()
    assert (truth == copies[1]).all()


def test_the_bounding_box() -> None:
    assert bounding_box(block((9, 9, 9), (1, 3), (4, 9), (0, 1))) == (slice(1, 3), slice(4, 9), slice(0, 1))
    assert bounding_box(np.zeros((3, 3), bool)) is None


# ---- against implementations written apart ---------------------------------------------------------------------------


def slow_outline(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxel by voxel: of the mask, with a face neighbor that is not, or that lies beyond the picture."""
    found = []
    for index in itertools.product(*map(range, mask.shape)):
        if not mask[index]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = tuple(i + step * (a == axis) for a, i in enumerate(index))
            if any(not 0 <= i < n for i, n in zip(other, mask.shape, strict=True)) or not mask[other]:
                found.append(index)
                break
    return found


def slow_distances(mask: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Every outline voxel against every other."""
    points, others = (np.array(slow_outline(m), float) * spacing for m in (mask, other))
    return np.sqrt(((points[:, None] - others[None]) ** 2).sum(axis=2)).min(axis=1)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_as_every_voxel_against_every_other(spacing: tuple[float, ...], seed: int) -> None:
    predicted, truth = random_masks(seed, len(spacing))
    there, back = slow_distances(predicted, truth, spacing), slow_distances(truth, predicted, spacing)
    every, tolerance = np.concatenate([there, back]), 1.05
    expected = (
        (every <= tolerance).mean(),
        every.max(),
        max(np.quantile(there, 0.95), np.quantile(back, 0.95)),
        every.mean(),
    )
    assert contour_agreement(predicted, truth, spacing, tolerance) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_where_denormal_numbers_are_0() -> None:
    """SciPy's tree splits most points at 0 from the rest without end; a process of its own, as it crashes."""
    code = """
import numpy as np, torch
from nnunet_partial.evaluation.metrics import contour_agreement
assert torch.set_flush_denormal(True)
mask = np.zeros((7, 14), bool)
mask[0] = mask[:, 0] = True
print(contour_agreement(mask, mask, (2.5, 0.4), 1.0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1.0, 0.0, 0.0, 0.0)", done.stderr


def contour(mask: np.ndarray, spacing: tuple[float, ...]) -> sitk.Image:
    """The outline as SimpleITK draws it, with room around so that the border of the picture is none."""
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    return sitk.BinaryContour(image, fullyConnected=False, backgroundValue=0, foregroundValue=1)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_as_simpleitk(spacing: tuple[float, ...], seed: int) -> None:
    predicted, truth = random_masks(100 + seed, len(spacing))
    theirs = sitk.HausdorffDistanceImageFilter()
    theirs.Execute(contour(predicted, spacing), contour(truth, spacing))
    found = measure(predicted, truth, Scale.from_spacing(spacing), 1)
    assert found.hausdorff == pytest.approx(theirs.GetHausdorffDistance(), rel=1e-5)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (predicted, truth)))
    assert found.dice == pytest.approx(overlap.GetDiceCoefficient(1))
    assert found.iou == pytest.approx(overlap.GetJaccardCoefficient(1))
    assert 1 - found.precision == pytest.approx(overlap.GetFalseDiscoveryRate(1))
    assert 1 - found.recall == pytest.approx(overlap.GetFalseNegativeError(1))


@given(seed=st.integers(0, 10**6), axes=st.sampled_from([2, 3]), step=st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_what_must_hold_for_any_masks(seed: int, axes: int, step: float) -> None:
    one, other = random_masks(seed, axes)
    spacing = (step, 1.0, 0.5)[:axes]
    there, back = (measure(*pair, Scale.from_spacing(spacing), 1.5) for pair in ((one, other), (other, one)))
    for metric in ("dice", "iou", "surface_dice", "hausdorff", "hd95", "assd"):
        assert getattr(there, metric) == pytest.approx(getattr(back, metric), nan_ok=True)
    assert there.precision == pytest.approx(back.recall, nan_ok=True)
    assert there.size_difference == pytest.approx(-back.size_difference)
    if there.counts.outcome == FOUND:
        assert there.assd <= there.hausdorff
        assert there.hd95 <= there.hausdorff
        assert there.iou == pytest.approx(there.dice / (2 - there.dice))
        doubled = measure(one, other, Scale.from_spacing(tuple(2 * s for s in spacing)), 3.0)
        assert doubled.assd == pytest.approx(2 * there.assd)
        assert doubled.surface_dice == pytest.approx(there.surface_dice)


def test_nearest_and_measured_are_exact() -> None:
    assert nearest(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 4.0]])).tolist() == [4.0, 5.0]
    assert "size_difference" not in StructureMetrics.__dataclass_fields__  # always the difference of the two sizes
