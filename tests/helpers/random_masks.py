"""Masks to compare metrics with other implementations of them."""

from __future__ import annotations

import numpy as np

#: In mm, of 2-D and 3-D masks.
SPACINGS = [(0.3, 0.3), (2.5, 0.4), (2.5, 0.7, 1.1)]


def random_masks(seed: int, axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Two ragged blobs that touch the border of the picture now and then."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(4, 24 if axes == 2 else 11, size=axes))
    index = np.indices(shape)
    masks = []
    for _ in range(2):
        center, radius = [rng.uniform(0, n) for n in shape], rng.uniform(1, max(shape) / 2)
        squared = sum((i - c) ** 2 for i, c in zip(index, center, strict=True))
        masks.append((squared < radius**2) ^ (rng.random(shape) < 0.05))
    return masks[0], masks[1]
