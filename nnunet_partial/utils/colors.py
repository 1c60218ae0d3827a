"""One colour per heart structure in every picture of the project, told apart with any colour vision.

Colours of Okabe and Ito (https://jfly.uni-koeln.de/color), for structures of other names followed by Paul Tol's "muted"
ones (https://sronpersonalpages.nl/~pault). No picture rests on colour alone: lines differ in stroke, areas in hatching.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The structures that the converters know.
COLORS = {"LV": "#56B4E9", "MYO": "#E69F00", "LA": "#CC79A7", "RV": "#009E73", "RA": "#F0E442"}
#: For any other, in the order of the data set; after the last it begins again.
EXTRA_COLORS = ("#D55E00", "#0072B2", "#999933", "#882255", "#44AA99", "#332288", "#DDCC77")


def class_colors(structures: Sequence[str]) -> dict[str, str]:
    """A colour (#RRGGBB) for each structure: its own where the project has one, else the next of FURTHER."""
    others = [name for name in dict.fromkeys(structures) if name not in COLORS]
    further = {name: EXTRA_COLORS[index % len(EXTRA_COLORS)] for index, name in enumerate(others)}
    return {name: COLORS.get(name) or further[name] for name in structures}
