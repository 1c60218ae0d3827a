"""Assign one color to each heart structure in all figures; they can be told apart with any color vision.

Colors of Okabe and Ito (https://jfly.uni-koeln.de/color), for structures of other names followed by Paul Tol's "muted"
ones (https://sronpersonalpages.nl/~pault). No figure relies on color alone: lines differ in stroke, areas in hatching.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Structures of the converters' datasets.
COLORS = {"LV": "#56B4E9", "MYO": "#E69F00", "LA": "#CC79A7", "RV": "#009E73", "RA": "#F0E442"}
#: For any other structure, in the order of the dataset; after the last it begins again.
EXTRA_COLORS = ("#D55E00", "#0072B2", "#999933", "#882255", "#44AA99", "#332288", "#DDCC77")


def class_colors(structures: Sequence[str]) -> dict[str, str]:
    """Assign a color to each structure: its own where it has one, else the next of `EXTRA_COLORS`.

    Args:
        structures: Names of the structures.

    Returns:
        Color (#RRGGBB) by structure.
    """
    others = [name for name in dict.fromkeys(structures) if name not in COLORS]
    further = {name: EXTRA_COLORS[index % len(EXTRA_COLORS)] for index, name in enumerate(others)}
    return {name: COLORS.get(name) or further[name] for name in structures}
