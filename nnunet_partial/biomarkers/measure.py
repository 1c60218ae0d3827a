"""The left heart in one apical picture: where its chambers lie, what their axes are, and their discs across these.

What one apical picture gives: discs of the ventricle with and without its wall, of the atrium, and areas.

One case of the evaluation as its biomarkers need it: its truth and each prediction, measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.biomarkers.geometry import Axis, Discs, NotMeasurableError, Region, discs, long_axis, moments
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.masks import Floats, Mask, Scale, bounding_box

LV, MYO, LA = "LV", "MYO", "LA"
#: Cavity and wall taken together, as one structure.
LV_WITH_MYO = "LV with MYO"

#: Fewer pixels have no shape. With less than ONE of its pixels in one piece a structure has none either; below ALMOST
#: the rest, left out, is mentioned.
PIXELS, ONE, ALMOST = 20, 0.75, 0.99
#: The atrium lies at the end of the ventricle: it begins no farther away than this part of the ventricle's length.
MAX_GAP = 0.25


class LeftHeart:
    """The structures of one picture (cut out, off the border); each is looked at once, when first asked for."""

    def __init__(self, masks: dict[str, Mask], scale: Scale, notes: dict[str, str], guides: Sequence[str]) -> None:
        self.masks, self.scale, self.notes, self.guides = masks, scale, notes, guides
        self._cavity: tuple[Region, Axis] | NotMeasurableError | None = None

    def cavity(self) -> tuple[Region, Axis]:
        if self._cavity is None:
            try:
                region = self._region(LV, self.masks[LV])
                axis = _named(LV, lambda: long_axis(region, self._downwards()))
                self._cavity = region, axis
                if axis.assumed:
                    self._note(LV, "LV alone does not show which of its axes is the long one: the longer is taken")
            except NotMeasurableError as problem:
                self._cavity = problem
        if isinstance(self._cavity, NotMeasurableError):
            raise self._cavity
        return self._cavity

    def cavity_discs(self) -> Discs:
        return discs(*self.cavity())

    def outer_discs(self) -> Discs:
        """Cavity and wall together, on the long axis of the cavity, from its base to where the axis leaves the wall."""
        cavity, axis = self.cavity()
        self._require_some(MYO)
        outer = self._region(LV_WITH_MYO, self.masks[LV] | self.masks[MYO])
        if not outer.mask[cavity.mask].all():
            raise NotMeasurableError("MYO does not lie around LV")
        below, apex = _named(LV_WITH_MYO, lambda: outer.ends(axis.base, axis.along))
        beyond_base = float((axis.base - below) @ axis.along)
        if beyond_base > float((apex - axis.apex) @ axis.along):
            raise NotMeasurableError("MYO lies around the base of LV, not around its apex")
        return discs(outer, Axis(axis.base, apex))

    def atrium_discs(self) -> Discs:
        """The atrium, on the line from the ventricle's base through its own centre, from the valve to the roof."""
        _, ventricle = self.cavity()
        atrium = self._region(LA, self.masks[LA])
        centre = self._centre(atrium.mask)
        ends = (ventricle.base, ventricle.apex)
        valve = min(ends, key=lambda end: float(np.hypot(*(centre - end))))
        distance = float(np.hypot(*(centre - valve)))
        along = (centre - valve) / distance if distance else ventricle.along
        start, _ = _named(LA, lambda: atrium.ends(valve, along))
        if abs(float((start - valve) @ along)) > MAX_GAP * ventricle.length:
            raise NotMeasurableError("LA does not begin at the end of LV")
        roof = float(((atrium.outline - start) @ along).max()) + min(atrium.spacing) / 2
        return discs(atrium, Axis(start, start + roof * along))

    def _downwards(self) -> Floats | None:
        """From apex to base: towards the atrium, else away from the wall, which is open at the base; None without."""
        for name, sign in ((LA, 1), (MYO, -1)):
            if name in self.guides and np.count_nonzero(self.masks.get(name, False)) >= PIXELS:
                return sign * (self._centre(self.masks[name]) - self._centre(self.masks[LV]))
        return None

    def _centre(self, mask: Mask) -> Floats:
        rows, cols = self.scale.spacing
        return moments(mask, (rows, cols))[0]

    def area(self, name: str) -> float:
        """Of all pixels of a structure, in the unit of the scale."""
        self._require_some(name)
        return int(np.count_nonzero(self.masks[name])) * self.scale.voxel_size

    def _require_some(self, name: str) -> None:
        if not self.masks[name].any():
            raise NotMeasurableError(f"{name} is empty")

    def _note(self, name: str, text: str) -> None:
        self.notes[name] = "; ".join([*([self.notes[name]] if name in self.notes else []), text])

    def _region(self, name: str, mask: Mask) -> Region:
        """The largest piece, holes filled. Raises NotMeasurableError, beginning with the name."""
        pixels = int(np.count_nonzero(mask))
        if pixels < PIXELS:
            raise NotMeasurableError(f"{name} has only {pixels} pixels" if pixels else f"{name} is empty")
        piece, count = _largest_piece(mask)
        share = np.count_nonzero(piece) / pixels
        if share < ONE:
            raise NotMeasurableError(f"{name} is in {count} parts, the largest only {share:.0%} of it")
        if share < ALMOST:
            self._note(name, f"{name} is in {count} parts; the largest, {share:.0%} of it, is measured")
        rows, cols = self.scale.spacing
        return Region(_without_holes(piece), (rows, cols))


def _largest_piece(mask: Mask) -> tuple[Mask, int]:
    """The largest of the pieces that do not even touch at a corner, and how many there are; `mask` is not empty."""
    from scipy.ndimage import label

    pieces, count = label(mask, structure=np.ones((3, 3)))
    return (mask if count == 1 else np.asarray(pieces == np.bincount(pieces[mask]).argmax())), count


def _without_holes(piece: Mask) -> Mask:
    """Filled, where background does not reach the border; `piece` does not touch it."""
    from scipy.ndimage import label

    box = bounding_box(piece)
    assert box is not None
    outside, _ = label(~np.pad(piece[box], 1))
    filled = piece.copy()
    filled[box] = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled


def _named(name: str, measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except NotMeasurableError as problem:
        raise NotMeasurableError(f"{name} {problem}") from None


STRUCTURES = (LV, MYO, LA)

#: Parts of a picture: the cavity, cavity and wall together, the atrium (discs); and areas.
CAVITY, OUTER, ATRIUM, LA_AREA, MYO_AREA = "cavity", "cavity and wall", "atrium", "LA area", "MYO area"
#: The structures that each part is made of.
NEEDS = {CAVITY: (LV,), OUTER: (LV, MYO), ATRIUM: (LV, LA), LA_AREA: (LA,), MYO_AREA: (MYO,)}
#: What is measured at end-diastole and at end-systole: the wall at the former, the atrium, then largest, at the latter
#: (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003).
MEASUREMENTS_BY_PHASE = {"ED": (CAVITY, OUTER, MYO_AREA), "ES": (CAVITY, ATRIUM, LA_AREA)}
VIEWS = {"2CH": "2CH", "A2C": "2CH", "4CH": "4CH", "A4C": "4CH"}

CUT_OFF = "touches the border of the image and may be cut off"


@dataclass
class ImageMeasurements:
    """What was measured, by part: discs in mm, areas in cm2 (both in pixels where their size is not known).

    `why_not`: by part, why there is no value; `notes`: by structure, what to know about it.
    """

    discs: dict[str, Discs] = field(default_factory=dict)
    areas: dict[str, float] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def remarks(self, part: str) -> list[str]:
        """Why the part has no value, or what to know about those it is made of."""
        if part in self.why_not:
            return [self.why_not[part]]
        names = (*NEEDS[part], LV_WITH_MYO) if part == OUTER else NEEDS[part]
        return [self.notes[name] for name in names if name in self.notes]


def view_and_phase(view: str, phase: str) -> tuple[str, str] | None:
    """2CH or 4CH, and ED or ES, as the manifest's words are meant; None for all others."""
    known, moment = VIEWS.get(view.strip().upper()), phase.strip().upper()
    return (known, moment) if known and moment in MEASUREMENTS_BY_PHASE else None


def measure_image(
    values: NDArray[Any],
    classes: Sequence[str],
    drawn: Sequence[str],
    phase: str,
    scale: Scale,
    guides: Sequence[str] | None = None,
) -> ImageMeasurements:
    """Measures the parts of `phase` (ED or ES) whose structures are all among `drawn`.

    `values` (rows, cols): 0 background, 1, 2, ... `classes`. `guides`: structures that may tell the ventricle's base
    from its apex (without it, those drawn). What cannot be measured is named in `why_not`.
    """
    named = {name: value for value, name in enumerate(classes, start=1) if name in STRUCTURES and name in drawn}
    masks = {name: values == value for name, value in named.items()}
    picture = ImageMeasurements(
        notes={name: f"{name} {CUT_OFF}" for name, mask in masks.items() if _touches_border(mask)}
    )
    box = bounding_box(np.logical_or.reduce([*masks.values()])) if masks else None
    masks = {name: np.pad(mask[box or (slice(0, 1),) * 2], 2) for name, mask in masks.items()}
    heart = LeftHeart(masks, scale, picture.notes, drawn if guides is None else guides)
    for what in MEASUREMENTS_BY_PHASE[phase]:
        if all(name in named for name in NEEDS[what]):
            _measure(what, heart, picture)
    return picture


def _measure(what: str, heart: LeftHeart, picture: ImageMeasurements) -> None:
    measures: dict[str, Callable[[], Discs]] = {
        CAVITY: heart.cavity_discs,
        OUTER: heart.outer_discs,
        ATRIUM: heart.atrium_discs,
    }
    try:
        if what in measures:
            picture.discs[what] = measures[what]()
        else:
            picture.areas[what] = heart.area(NEEDS[what][0])
    except NotMeasurableError as problem:
        picture.why_not[what] = str(problem)


def _touches_border(mask: Mask) -> bool:
    return any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


@dataclass
class CaseMeasurements:
    """An apical picture of a known view at ED or ES; `predictions` by model, none where nobody predicted it."""

    case: str
    phase: str
    classes: tuple[str, ...]
    possible: tuple[str, ...]
    guides: tuple[str, ...] | None
    scale: Scale
    reference: ImageMeasurements
    predictions: dict[str, ImageMeasurements] = field(default_factory=dict)

    @classmethod
    def from_reference(
        cls,
        case: str,
        labels: CaseLabels,
        classes: Sequence[str],
        values: NDArray[Any],
        scale: Scale,
        ignored: Mask | None,
    ) -> CaseMeasurements | None:
        """Measures the annotated structures of the truth; None for a volume, another view or another moment.

        `values` (rows, cols); `ignored`, of the same shape: pixels of the ignore label, None where there are none.
        Where there are, the truth is not whole and has no value.
        """
        place = view_and_phase_of(labels)
        if place is None or values.ndim != 2:
            return None
        if ignored is not None and ignored.any():
            reason = "part of the picture carries the ignore label"
            reference = ImageMeasurements(why_not=dict.fromkeys(MEASUREMENTS_BY_PHASE[place[1]], reason))
        else:
            reference = measure_image(values, classes, labels.annotated, place[1], scale)
        possible = tuple(name for name in classes if name not in labels.absent)
        # where there is a true ventricle, the predicted one is measured with no more than what helped with that
        guides = labels.annotated if LV in labels.annotated else None
        return cls(case, place[1], tuple(classes), possible, guides, scale, reference)

    def add(self, model: str, values: NDArray[Any]) -> None:
        """Measures all that a model predicted, but for what is known not to be there; `values` (rows, cols)."""
        self.predictions[model] = measure_image(
            values, self.classes, self.possible, self.phase, self.scale, self.guides
        )


def view_and_phase_of(labels: CaseLabels) -> tuple[str, str] | None:
    """View and phase of a case; None where it is no apical view, or neither ED nor ES."""
    return view_and_phase(str(labels.info.get("view") or ""), str(labels.info.get("phase") or ""))
