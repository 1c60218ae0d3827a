"""Roughens the mask of a ventricle to a Dice that is asked for, as an imperfect network does: anew in every frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter


def dice(a: NDArray, b: NDArray) -> float:
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def rough_mask(rng: np.random.Generator, mask: NDArray, target: float = 0.94) -> NDArray:
    """A mask (rows, cols) whose Dice with `mask` is `target`, as nearly as pixels allow.

    The contour moves by a smooth random field, whose amplitude is found by bisection.
    """
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    margin = 8
    box = tuple(slice(max(hit[0] - margin, 0), hit[-1] + margin + 1) for hit in (rows, cols))
    inside = mask[box]
    level = distance_transform_edt(inside) - distance_transform_edt(~inside)  # above 0 inside
    field = gaussian_filter(rng.standard_normal(inside.shape), 0.1 * len(rows), mode="reflect", truncate=2.5)
    field /= field.std()
    low, high = 0.0, 8.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if dice(level + middle * field > 0, inside) > target else (low, middle)
    rough = np.zeros_like(mask)
    rough[box] = level + low * field > 0
    return rough
