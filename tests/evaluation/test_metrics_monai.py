"""The distances and the surface Dice, as MONAI computes them, where the definitions are the same."""

from __future__ import annotations

import pytest
import torch
from helpers.random_masks import SPACINGS, random_masks

from nnunet_partial.evaluation.metrics import contour_agreement


@pytest.mark.slow
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning")  # MONAI uses an option that it deprecates
def test_as_monai(spacing: tuple[float, ...], seed: int) -> None:
    """Surface Dice (without sub-voxels), HD, HD95 and symmetric average surface distance are defined as ours."""
    theirs = pytest.importorskip("monai.metrics", reason="MONAI (the extra 'transformer') is not installed")
    predicted, truth = random_masks(200 + seed, len(spacing))
    pair = [torch.from_numpy(mask)[None, None] for mask in (predicted, truth)]
    options = {"include_background": True, "spacing": spacing}
    found = contour_agreement(predicted, truth, spacing, 1.05)
    expected = (
        theirs.compute_surface_dice(*pair, [1.05], **options),
        theirs.compute_hausdorff_distance(*pair, **options),
        theirs.compute_hausdorff_distance(*pair, percentile=95, **options),
        theirs.compute_average_surface_distance(*pair, symmetric=True, **options),
    )
    assert found == pytest.approx([float(value) for value in expected], rel=1e-5)
