"""Check whether an ultrasound image is upright: its sector is narrow at the top, where the probe is, and wide below."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What `orientation` says; "transposed" asks for rows and columns to be exchanged.
AS_STORED, TRANSPOSED, DOUBTFUL = "as stored", "transposed", "doubtful"

#: The part of the sector's rows that counts as its top and as its bottom.
BAND_HEIGHT = 0.15
#: Brighter than this share of the brightest pixel belongs to the sector; below lie compression noise and faint margins.
DARK_LEVEL = 0.06
#: The top is narrow where it has at most this share of the bottom's pixels. Upright sectors have about 0.1 to 0.3, a
#: sector that lies on its side about 1.
MAX_TOP_WIDTH = 0.5


def orientation(brightest: NDArray[Any]) -> str:
    """Determine the orientation of a video.

    A mirrored video cannot be told from one that is not.

    Args:
        brightest: Maximum over time, of shape (rows, cols).

    Returns:
        AS_STORED, TRANSPOSED if exchanging rows and columns makes it upright, or DOUBTFUL.
    """
    if is_upright(brightest):
        return AS_STORED
    return TRANSPOSED if is_upright(brightest.T) else DOUBTFUL


def is_upright(brightest: NDArray[Any]) -> bool:
    """Check whether the sector is narrow in its first and wide in its last rows.

    Args:
        brightest: Maximum over time, of shape (rows, cols).

    Returns:
        Whether it is; False for a dark image.
    """
    inside = brightest > DARK_LEVEL * brightest.max() if brightest.size else np.zeros((0, 0), bool)
    rows = np.flatnonzero(inside.any(axis=1))
    if len(rows) == 0:
        return False
    sector = inside[rows[0] : rows[-1] + 1]  # without the margins above and below
    end = max(1, round(BAND_HEIGHT * len(sector)))
    return bool(sector[:end].sum() <= MAX_TOP_WIDTH * sector[-end:].sum())
