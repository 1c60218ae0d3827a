"""Unity: stills of many views with expert curves, each of which says whether it is drawn, off, or blurred.

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

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels
from nnunet_partial.out_of_view import OFF, OUT_OF_VIEW
from nnunet_partial.utils.text import printable, some

from .case import Case, Note, Skipped, Source
from .data_set import DataSet
from .nominal_depth import DEPTH_MM, add_depth_option, require_depth
from .own_picture import read_own
from .unity_curve import chambers
from .unity_files import PICTURES, Copy, Entry, find_copy
from .unity_labels import CURVES

#: The order in which masks are numbered; the wall has no outline of its own.
STRUCTURES = tuple(name for name in COMMON_CLASSES if name in CURVES)

#: What a label that is off may be taken for.
OFF_IS = ("unknown", "absent")


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
    the bottom row of a picture without a pixel size; a guess, and such a case says so. `off`: what a chamber counts as
    whose outline is off. The authors write that also where nobody was asked for the outline, so it is unknown unless
    somebody has checked.
    """

    structures: tuple[str, ...] = ("LV",)
    depth_mm: float = DEPTH_MM
    off: str = "unknown"

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
        if self.off not in OFF_IS:
            raise ConversionError(f"off is {self.off!r}, expected {' or '.join(OFF_IS)}")
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
        parser.add_argument(
            "--off",
            choices=OFF_IS,
            default="unknown",
            help="what a chamber counts as whose outline is off: the release says off also where nobody was asked for "
            "the outline, so that the chamber may be in the picture; absent only if you have checked that it never is "
            "(default: %(default)s)",
        )

    def sources(self) -> Sequence[Still]:
        stills = self._stills(find_copy(self.root))
        outlined = {chamber for still in stills for chamber in still.entry.labels.curves}
        if not outlined.issuperset(self.structures):
            none = [name for name in self.structures if name not in outlined]
            raise ConversionError(
                f"No picture has an outline of {', '.join(none)}; there are outlines of {some(outlined)}. Choose among "
                "them with --structures."
            )
        return [still for still in stills if self._says_something(still)]

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

    def _says_something(self, still: Still) -> bool:
        """Whether a chamber to be converted is outlined in the picture, or off: then `read` says why it is no case."""
        return bool(still.problem or {*self.structures} & {*still.entry.labels.curves, *still.entry.labels.off})

    def _absent(self, still: Still) -> tuple[str, ...]:
        """The chambers known not to be in the picture: by its view, unless a label shows them, or because they are off
        and somebody has checked what that means."""
        labels = still.entry.labels
        unseen = {name for name in OUT_OF_VIEW.get(still.view or "", ()) if name not in labels.shown}
        checked = labels.off if self.off == "absent" else ()
        return tuple(name for name in STRUCTURES if name in unseen or name in checked)

    def remarks(self) -> Iterator[Note]:
        copy = find_copy(self.root)
        yield from copy.remarks()
        stills = [still for still in self._stills(copy) if still.problem is None]
        for chamber, label in CURVES.items():
            outlined = sum(chamber in still.entry.labels.curves for still in stills)
            off = sum(chamber in still.entry.labels.off for still in stills)
            absent = sum(chamber in self._absent(still) for still in stills)
            way = (
                f"; not converted, --structures {chamber} would" if chamber not in self.structures and outlined else ""
            )
            yield Note(label, f"outlined in {outlined} picture(s), off in {off}; absent in {absent}, else unknown{way}")
        useless = sum(not self._says_something(still) for still in stills)
        if useless:
            yield Note(
                "labels", f"{useless} picture(s) say nothing about {', '.join(self.structures)} and are left out"
            )
        yield from self._doubts(stills)

    def _doubts(self, stills: Sequence[Still]) -> Iterator[Note]:
        """Pictures that have the same doubt, as one note."""
        doubts: dict[str, list[str]] = {}
        for still in stills:
            for text in (*still.entry.labels.doubts, *_against_the_view(still)):
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
        wanted = {name: points for name, points in source.entry.labels.curves.items() if name in self.structures}
        if not wanted:
            off = ", ".join(name for name in self.structures if name in source.entry.labels.off)
            yield Skipped(identifier, f"nothing that is to be converted is outlined; off: {off}", known_defect=True)
            return
        image = read_own(source.picture).array
        shape = (image.shape[0], image.shape[1])
        masks, doubts = chambers(wanted, shape)
        yield from (Note(identifier, text) for text in doubts)
        if not masks:
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
            OFF: self.off,
        }
        labels = CaseLabels(
            annotated=tuple(name for name in self.classes if name in masks),
            absent=self._absent(source),
            domain="unity",
            patient=f"unity_{source.entry.video}",
            info={key: value for key, value in entry.items() if value is not None},
        )
        pixel_mm = self.depth_mm / image.shape[0]
        return Case(identifier, image, mask, source.spacing_mm or (pixel_mm, pixel_mm), labels)


def _against_the_view(still: Still) -> Iterator[str]:
    """Labels of chambers that the view does not show."""
    for chamber in OUT_OF_VIEW.get(still.view or "", ()):
        if chamber in still.entry.labels.shown:
            label = still.entry.labels.shown[chamber]
            yield f"the view is {still.view}, but {label} is in the picture, so {chamber} does not count as absent"
