"""The biomarkers: what each is called, which pictures and structures it needs, and how it is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_partial.evaluation.biomarkers_formulas import disc_volume, ejection_fraction, wall_mass
from nnunet_partial.evaluation.biomarkers_picture import ATRIUM, CAVITY, LA_AREA, MYO_AREA, NEEDS, OUTER, Picture

#: The pictures of one patient and one or two views, by phase; views in the same order.
Pictures = Mapping[str, Sequence[Picture]]


@dataclass(frozen=True)
class Biomarker:
    """`parts`: what it needs of the picture of each phase. `one_view`: it has a value in each view by itself.

    `formula`: its value in `unit`; areas and discs are measured already. `ratio`: needs no pixel size.
    """

    name: str
    unit: str
    parts: Mapping[str, tuple[str, ...]]
    formula: Callable[[Pictures], float]
    one_view: bool = False
    ratio: bool = False

    @property
    def structures(self) -> frozenset[str]:
        """The classes that must be drawn."""
        return frozenset(name for parts in self.parts.values() for part in parts for name in NEEDS[part])


def _ml(pictures: Sequence[Picture], part: str) -> float:
    """Volume in mL of a part whose discs are in mm."""
    return disc_volume([picture.discs[part] for picture in pictures]) / 1000


EF = "EF"

BIOMARKERS = (
    Biomarker("EDV", "mL", {"ED": (CAVITY,)}, lambda pictures: _ml(pictures["ED"], CAVITY)),
    Biomarker("ESV", "mL", {"ES": (CAVITY,)}, lambda pictures: _ml(pictures["ES"], CAVITY)),
    Biomarker(
        EF,
        "%",
        {"ED": (CAVITY,), "ES": (CAVITY,)},
        lambda pictures: ejection_fraction(_ml(pictures["ED"], CAVITY), _ml(pictures["ES"], CAVITY)),
        ratio=True,
    ),
    *(
        Biomarker(
            f"LV length {phase}",
            "mm",
            {phase: (CAVITY,)},
            lambda pictures, phase=phase: pictures[phase][0].discs[CAVITY].length,  # type: ignore[misc]
            one_view=True,
        )
        for phase in ("ED", "ES")
    ),
    Biomarker("LA area", "cm2", {"ES": (LA_AREA,)}, lambda pictures: pictures["ES"][0].areas[LA_AREA], one_view=True),
    Biomarker("LA volume", "mL", {"ES": (ATRIUM,)}, lambda pictures: _ml(pictures["ES"], ATRIUM)),
    Biomarker(
        "MYO area", "cm2", {"ED": (MYO_AREA,)}, lambda pictures: pictures["ED"][0].areas[MYO_AREA], one_view=True
    ),
    Biomarker(
        "LV mass",
        "g",
        {"ED": (CAVITY, OUTER)},
        lambda pictures: wall_mass(_ml(pictures["ED"], OUTER), _ml(pictures["ED"], CAVITY)),
    ),
)
