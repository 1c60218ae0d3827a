"""Unity: stills of many views with expert curves, each of which says whether it is drawn, off the picture, or blurred.

Howard et al., "Automated Left Ventricular Dimension Assessment Using Artificial Intelligence Developed and Validated by
a UK-Wide Collaborative", Circulation: Cardiovascular Imaging 2021, https://doi.org/10.1161/CIRCIMAGING.120.011951
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError, some
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels

from .case import Case, Note, Skipped, Source, printable
from .data_set import DataSet
from .nominal_depth import DEPTH_MM, add_depth_option, require_depth
from .own_picture import read_own
from .unity_curve import chambers
from .unity_files import PICTURES, Copy, Entry, find_copy
from .unity_labels import CURVES

#: The order in which masks are numbered; the wall has no outline of its own.
STRUCTURES = tuple(name for name in COMMON_CLASSES if name in CURVES)


@dataclass(frozen=True)
class Still(Source):
    """One labelled picture. `problem`: why it cannot be converted; `known_defect`: the release has this fault."""

    entry: Entry
    picture: Path | None = None
    spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    problem: str | None = None
    known_defect: bool = False


@dataclass(frozen=True)
class Unity(DataSet):
    """Unity Imaging. `structures`: which chambers' outlines to convert; the others are unknown where they are drawn.

    By default LV, whose outline the authors close with a straight line between the hinges. `depth_mm`: from the top to
    the bottom row of a picture without a pixel size; a guess, and such a case says so.
    """

    structures: tuple[str, ...] = ("LV",)
    depth_mm: float = DEPTH_MM

    name: ClassVar[str] = "unity"
    title: ClassVar[str] = "Unity: LV (and LA, RV, RA where outlined) in many views"
    description: ClassVar[str] = (
        "Unity Imaging (Howard et al. 2021): stills of many views with expert curves. Ask for it at "
        "https://data.unityimaging.net; CC BY-NC-SA 4.0 as shown there, non-commercial, as a precaution not to be "
        "passed on. Give the folder with labels/ and png-cache/ and, where you have them, view_index_20220705.csv and "
        "01_database_physical.csv."
    )
    default_name: ClassVar[str] = "Unity"
    classes: ClassVar[tuple[str, ...]] = ("LV",)  # of an instance: its `structures`
    reference: ClassVar[str] = "Howard et al. 2021, https://doi.org/10.1161/CIRCIMAGING.120.011951"
    license: ClassVar[str] = "CC BY-NC-SA 4.0 as shown, non-commercial; as a precaution not to be passed on"

    def __post_init__(self) -> None:
        if not self.structures or not set(self.structures) <= set(STRUCTURES):
            raise ConversionError(f"structures is {self.structures!r}, expected one or more of {', '.join(STRUCTURES)}")
        chosen = tuple(name for name in STRUCTURES if name in self.structures)
        object.__setattr__(self, "structures", chosen)
        object.__setattr__(self, "classes", chosen)
        require_depth(self.depth_mm)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--structures",
            nargs="+",
            choices=STRUCTURES,
            default=["LV"],
            help="which chambers to convert where they are outlined; the report counts what is there (default: LV)",
        )
        add_depth_option(parser, "pictures of which nothing tells the pixel size")

    def sources(self) -> Sequence[Still]:
        stills = self._stills(find_copy(self.root))
        outlined = {chamber for still in stills for chamber in still.entry.labels.curves}
        if not outlined.issuperset(self.structures):
            none = [name for name in self.structures if name not in outlined]
            raise ConversionError(
                f"No picture has an outline of {', '.join(none)}; there are outlines of {some(outlined)}. Choose among "
                "them with --structures."
            )
        return [still for still in stills if self._knows_something(still)]

    def _stills(self, copy: Copy) -> list[Still]:
        entries, pictures = copy.entries, copy.pictures
        views, sizes = copy.views(), copy.spacings_mm()
        missing = [entry for entry in entries if entry.problem is None and entry.code not in pictures]
        # one training picture is missing in the official release
        known_defect = len(missing) == 1 and missing[0].split in (None, "train")
        return [
            Still(
                printable(entry.name),
                entry,
                pictures.get(entry.code),
                sizes.get(entry.video),
                views.get(entry.code),
                entry.problem or (None if entry.code in pictures else f"its picture is not in {PICTURES}"),
                known_defect and entry.problem is None and entry.code not in pictures,
            )
            for entry in entries
        ]

    def _knows_something(self, still: Still) -> bool:
        """Whether the picture is of use: a chamber to be converted is outlined in it, or known to be absent."""
        wanted = set(self.structures)
        return bool(still.problem or wanted & {*still.entry.labels.curves, *still.entry.labels.absent})

    def remarks(self) -> Iterator[Note]:
        copy = find_copy(self.root)
        yield from copy.remarks()
        stills = [still for still in self._stills(copy) if still.problem is None]
        for chamber, label in CURVES.items():
            outlined = sum(chamber in still.entry.labels.curves for still in stills)
            absent = sum(chamber in still.entry.labels.absent for still in stills)
            way = (
                f"; not converted, --structures {chamber} would" if chamber not in self.structures and outlined else ""
            )
            yield Note(label, f"outlined in {outlined} picture(s), off {absent}, else unknown{way}")
        useless = sum(not self._knows_something(still) for still in stills)
        if useless:
            yield Note(
                "labels", f"{useless} picture(s) say nothing about {', '.join(self.structures)} and are left out"
            )
        yield from self._doubts(stills)

    def _doubts(self, stills: Sequence[Still]) -> Iterator[Note]:
        """Pictures that have the same doubt, as one note."""
        doubts: dict[str, list[str]] = {}
        for still in stills:
            for text in still.entry.labels.doubts:
                doubts.setdefault(text, []).append(still.name)
        for text, names in sorted(doubts.items()):
            yield Note("labels", f"{len(names)} picture(s): {text}: {some(names, 3)}")

    def tables(self) -> Sequence[Path]:
        return find_copy(self.root).tables()

    def read(self, source: Source) -> Iterator[Case | Skipped | Note]:
        assert isinstance(source, Still)
        identifier = f"unity_{source.entry.code}"
        if source.problem or source.picture is None:
            yield Skipped(source.name, source.problem or "there is no picture", source.known_defect)
            return
        image = read_own(source.picture).array
        shape = (image.shape[0], image.shape[1])
        wanted = {name: points for name, points in source.entry.labels.curves.items() if name in self.structures}
        masks, doubts = chambers(wanted, shape)
        yield from (Note(identifier, text) for text in doubts)
        if not masks and not {*source.entry.labels.absent} & {*self.structures}:
            yield Skipped(identifier, "none of its outlines can be used")
            return
        yield self._case(identifier, source, image, masks)

    def _case(self, identifier: str, source: Still, image: NDArray[Any], masks: dict[str, NDArray[np.bool_]]) -> Case:
        mask = np.zeros(image.shape, np.uint8)
        for name, pixels in masks.items():
            mask[pixels] = self.classes.index(name) + 1
        entry = {
            "split": source.entry.split,
            "view": source.view,
            "frame": source.entry.frame,
            "interpolated": False,
            "spacing_known": source.spacing_mm is not None,
        }
        labels = CaseLabels(
            annotated=tuple(name for name in self.classes if name in masks),
            absent=source.entry.labels.absent,
            domain="unity",
            patient=f"unity_{source.entry.video}",
            info={key: value for key, value in entry.items() if value is not None},
        )
        pixel_mm = self.depth_mm / image.shape[0]
        return Case(identifier, image, mask, source.spacing_mm or (pixel_mm, pixel_mm), labels)
