"""Is the picture the right way up? The ultrasound sector is narrow at the top, where the probe is, and wide below."""

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
    """Which way up a video is: AS_STORED, TRANSPOSED where exchanging rows and columns mends it, or DOUBTFUL.

    `brightest`: (rows, cols), the maximum over time. A mirrored picture looks the same; nobody can tell from this.
    """
    if is_upright(brightest):
        return AS_STORED
    return TRANSPOSED if is_upright(brightest.T) else DOUBTFUL


def is_upright(brightest: NDArray[Any]) -> bool:
    """Whether the sector in (rows, cols) is narrow in its first and wide in its last rows; False where all is dark."""
    inside = brightest > DARK_LEVEL * brightest.max() if brightest.size else np.zeros((0, 0), bool)
    rows = np.flatnonzero(inside.any(axis=1))
    if len(rows) == 0:
        return False
    sector = inside[rows[0] : rows[-1] + 1]  # margins above and below are no part of it
    end = max(1, round(BAND_HEIGHT * len(sector)))
    return bool(sector[:end].sum() <= MAX_TOP_WIDTH * sector[-end:].sum())
