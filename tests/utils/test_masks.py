"""Masks with background around them."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_partial.utils.masks import padded


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (0, 2)])
@pytest.mark.parametrize("width", [1, 2])
def test_a_mask_is_padded_as_by_numpy(shape: tuple[int, ...], width: int) -> None:
    mask = np.random.default_rng(0).random(shape) > 0.5
    assert padded(mask, width).dtype == bool
    assert np.array_equal(padded(mask, width), np.pad(mask, width))
