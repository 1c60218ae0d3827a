"""Measure the left heart in one apical image: discs of ventricle, wall and atrium, and areas.

A case of the evaluation is measured in its reference and in each prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.biomarkers.geometry import Axis, Discs, NotMeasurableError, Region, discs, long_axis, moments
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.masks import Floats, Mask, Scale, bounding_box, padded

LV, MYO, LA = "LV", "MYO", "LA"

#: Cavity and wall taken together, as one structure.
LV_WITH_MYO = "LV with MYO"

#: A structure of fewer pixels has no shape.
MIN_PIXELS = 20

#: Fractions of the pixels in the largest component: below the first the structure has no shape either; below the second
#: a note says that the rest was left out.
MIN_LARGEST_COMPONENT, WARN_LARGEST_COMPONENT = 0.75, 0.99

#: The atrium lies at the end of the ventricle: it begins no farther away than this part of the ventricle's length.
MAX_GAP = 0.25

STRUCTURES = (LV, MYO, LA)

#: Parts of an image: the cavity, cavity and wall together, the atrium (discs); and areas.
CAVITY, OUTER, ATRIUM, LA_AREA, MYO_AREA = "cavity", "cavity and wall", "atrium", "LA area", "MYO area"

#: The structures that each part is made of.
STRUCTURES_OF = {CAVITY: (LV,), OUTER: (LV, MYO), ATRIUM: (LV, LA), LA_AREA: (LA,), MYO_AREA: (MYO,)}

#: What is measured at end-diastole and at end-systole: the wall at the former, the atrium, then largest, at the latter
#: (Lang et al. 2015, https://doi.org/10.1016/j.echo.2014.10.003).
MEASUREMENTS_BY_PHASE = {"ED": (CAVITY, OUTER, MYO_AREA), "ES": (CAVITY, ATRIUM, LA_AREA)}

#: What is measured in every frame of a clip; areas are counted there.
FRAME_MEASUREMENTS = (CAVITY, ATRIUM, LA_AREA)

#: Spellings of the two apical views.
VIEW_SYNONYMS = {"2CH": "2CH", "A2C": "2CH", "4CH": "4CH", "A4C": "4CH"}

CUT_OFF = "touches the border of the image and may be cut off"


class LeftHeart:
    """Hold the structures of one image, cut out and not touching the border; the ventricle is measured once."""

    def __init__(self, masks: dict[str, Mask], scale: Scale, notes: dict[str, str], guides: Sequence[str]) -> None:
        """Store the structures.

        Args:
            masks: Mask (rows, columns) by structure.
            scale: Spacing and size of a pixel.
            notes: By structure, what to know about its values; added to while measuring.
            guides: Structures that may tell the ventricle's base from its apex.
        """
        self.masks, self.scale, self.notes, self.guides = masks, scale, notes, guides
        self._cavity: tuple[Region, Axis] | NotMeasurableError | None = None

    def cavity(self) -> tuple[Region, Axis]:
        """Find the ventricle's cavity and its long axis.

        Returns:
            Both.

        Raises:
            NotMeasurableError: It has no shape or no long axis.
        """
        if self._cavity is None:
            try:
                region = self._region(LV, self.masks[LV])
                axis = _with_name(LV, lambda: long_axis(region, self._downwards()))
                self._cavity = region, axis
                if axis.assumed:
                    self._note(LV, "LV alone does not show which of its axes is the long one: the longer is taken")
            except NotMeasurableError as problem:
                self._cavity = problem
        if isinstance(self._cavity, NotMeasurableError):
            raise self._cavity
        return self._cavity

    def cavity_discs(self) -> Discs:
        """Measure the cavity of the ventricle.

        Returns:
            Its discs.

        Raises:
            NotMeasurableError: As `cavity`.
        """
        return discs(*self.cavity())

    def outer_discs(self) -> Discs:
        """Measure cavity and wall together, on the cavity's long axis from its base to where the axis leaves the wall.

        Returns:
            Their discs.

        Raises:
            NotMeasurableError: As `cavity`; or the wall is empty, or not around the cavity's apex.
        """
        cavity, axis = self.cavity()
        self._require_some(MYO)
        outer = self._region(LV_WITH_MYO, self.masks[LV] | self.masks[MYO])
        if not outer.mask[cavity.mask].all():
            raise NotMeasurableError("MYO does not lie around LV")
        below, apex = _with_name(LV_WITH_MYO, lambda: outer.ends(axis.base, axis.along))
        beyond_base = float((axis.base - below) @ axis.along)
        if beyond_base > float((apex - axis.apex) @ axis.along):
            raise NotMeasurableError("MYO lies around the base of LV, not around its apex")
        return discs(outer, Axis(axis.base, apex))

    def atrium_discs(self) -> Discs:
        """Measure the atrium on the line from the ventricle's base through its own center, from the valve to the roof.

        Returns:
            Its discs.

        Raises:
            NotMeasurableError: As `cavity`; or the atrium has no shape or does not begin at the end of the ventricle.
        """
        _, ventricle = self.cavity()
        atrium = self._region(LA, self.masks[LA])
        center = self._center(atrium.mask)
        ends = (ventricle.base, ventricle.apex)
        valve = min(ends, key=lambda end: float(np.hypot(*(center - end))))
        distance = float(np.hypot(*(center - valve)))
        along = (center - valve) / distance if distance else ventricle.along
        start, _ = _with_name(LA, lambda: atrium.ends(valve, along))
        if abs(float((start - valve) @ along)) > MAX_GAP * ventricle.length:
            raise NotMeasurableError("LA does not begin at the end of LV")
        roof = float(((atrium.contour - start) @ along).max()) + min(atrium.spacing) / 2
        return discs(atrium, Axis(start, start + roof * along))

    def _downwards(self) -> Floats | None:
        """Return the direction from apex to base: towards the atrium, else away from the wall; None without both.

        The wall is open at the base.
        """
        for name, sign in ((LA, 1), (MYO, -1)):
            if name in self.guides and np.count_nonzero(self.masks.get(name, False)) >= MIN_PIXELS:
                return sign * (self._center(self.masks[name]) - self._center(self.masks[LV]))
        return None

    def _center(self, mask: Mask) -> Floats:
        rows, cols = self.scale.spacing
        return moments(mask, (rows, cols))[0]

    def area(self, name: str) -> float:
        """Measure the area of all pixels of a structure.

        Args:
            name: Of the structure.

        Returns:
            The area, in the unit of the scale.

        Raises:
            NotMeasurableError: It is empty.
        """
        self._require_some(name)
        return int(np.count_nonzero(self.masks[name])) * self.scale.voxel_size

    def _require_some(self, name: str) -> None:
        if not self.masks[name].any():
            raise NotMeasurableError(f"{name} is empty")

    def _note(self, name: str, text: str) -> None:
        self.notes[name] = "; ".join([*([self.notes[name]] if name in self.notes else []), text])

    def _region(self, name: str, mask: Mask) -> Region:
        """Return the largest component, holes filled.

        Raises:
            NotMeasurableError: The structure has too few pixels, or too many of them in other components.
        """
        pixels = int(np.count_nonzero(mask))
        if pixels < MIN_PIXELS:
            raise NotMeasurableError(f"{name} has only {pixels} pixels" if pixels else f"{name} is empty")
        component, count = _largest_component(mask)
        share = np.count_nonzero(component) / pixels
        if share < MIN_LARGEST_COMPONENT:
            raise NotMeasurableError(f"{name} is in {count} parts, the largest only {share:.0%} of it")
        if share < WARN_LARGEST_COMPONENT:
            self._note(name, f"{name} is in {count} parts; the largest, {share:.0%} of it, is measured")
        rows, cols = self.scale.spacing
        return Region(_fill_holes(component), (rows, cols))


@dataclass
class ImageMeasurements:
    """Hold measurements by part: discs in mm, areas in cm2 (both in pixels where the spacing is not known).

    `why_not`: by part, why there is no value. `notes`: by structure, what to know about its values.
    """

    discs: dict[str, Discs] = field(default_factory=dict)
    areas: dict[str, float] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def remarks(self, part: str) -> list[str]:
        """List what to know about a part.

        Args:
            part: Such as CAVITY.

        Returns:
            Why it has no value, or the notes on the structures it is made of; empty without any.
        """
        if part in self.why_not:
            return [self.why_not[part]]
        names = (*STRUCTURES_OF[part], LV_WITH_MYO) if part == OUTER else STRUCTURES_OF[part]
        return [self.notes[name] for name in names if name in self.notes]


def view_and_phase(view: str, phase: str) -> tuple[str, str] | None:
    """Normalize view and phase as a manifest gives them.

    Args:
        view: Such as "4CH" or "a4c".
        phase: Such as "ED".

    Returns:
        "2CH" or "4CH", and "ED" or "ES"; None for all others.
    """
    view_name, phase_name = VIEW_SYNONYMS.get(view.strip().upper()), phase.strip().upper()
    return (view_name, phase_name) if view_name and phase_name in MEASUREMENTS_BY_PHASE else None


def measure_image(
    values: NDArray[Any],
    classes: Sequence[str],
    annotated: Sequence[str],
    phase: str,
    scale: Scale,
    guides: Sequence[str] | None = None,
) -> ImageMeasurements:
    """Measure the parts of an image at ED or ES whose structures are all annotated.

    Args:
        values: As in `measure_parts`.
        classes: As in `measure_parts`.
        annotated: As in `measure_parts`.
        phase: ED or ES.
        scale: As in `measure_parts`.
        guides: As in `measure_parts`.

    Returns:
        The measurements; `why_not` says what could not be measured.
    """
    return measure_parts(values, classes, annotated, MEASUREMENTS_BY_PHASE[phase], scale, guides)


def measure_parts(
    values: NDArray[Any],
    classes: Sequence[str],
    annotated: Sequence[str],
    parts: Sequence[str],
    scale: Scale,
    guides: Sequence[str] | None = None,
) -> ImageMeasurements:
    """Measure those parts of an image whose structures are all annotated.

    Args:
        values: Label values (rows, columns): 0 background, 1, 2, ... `classes`.
        classes: Of the dataset.
        annotated: The structures to measure.
        parts: Such as FRAME_MEASUREMENTS.
        scale: Spacing and size of a pixel.
        guides: Structures that may tell the ventricle's base from its apex; None: those annotated.

    Returns:
        The measurements; `why_not` says what could not be measured.
    """
    named = {name: value for value, name in enumerate(classes, start=1) if name in STRUCTURES and name in annotated}
    masks = {name: values == value for name, value in named.items()}
    image = ImageMeasurements(
        notes={name: f"{name} {CUT_OFF}" for name, mask in masks.items() if _touches_border(mask)}
    )
    box = bounding_box(np.logical_or.reduce([*masks.values()])) if masks else None
    masks = {name: padded(mask[box or (slice(0, 1),) * 2], 2) for name, mask in masks.items()}
    heart = LeftHeart(masks, scale, image.notes, annotated if guides is None else guides)
    for what in parts:
        if all(name in named for name in STRUCTURES_OF[what]):
            _measure(what, heart, image)
    return image


@dataclass
class CaseMeasurements:
    """Hold the measurements of an apical image at ED or ES; `predictions` by model, empty without a prediction.

    `possible`: structures that are not known to be absent. `guides`: as in `measure_image`.
    """

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
        """Measure the annotated structures of the reference.

        Args:
            case: Its identifier.
            labels: Its entry of the manifest.
            classes: Of the dataset.
            values: Label values (rows, columns).
            scale: Spacing and size of a pixel.
            ignored: Pixels with the ignore label, of the same shape; None where the dataset has none. With such pixels
                the reference is incomplete and has no value.

        Returns:
            The measurements; None for a volume, another view or another phase.
        """
        view_phase = view_and_phase_of(labels)
        if view_phase is None or values.ndim != 2:
            return None
        if ignored is not None and ignored.any():
            reason = "part of the image has the ignore label"
            reference = ImageMeasurements(why_not=dict.fromkeys(MEASUREMENTS_BY_PHASE[view_phase[1]], reason))
        else:
            reference = measure_image(values, classes, labels.annotated, view_phase[1], scale)
        possible = tuple(name for name in classes if name not in labels.absent)
        # where the ventricle is annotated, the predicted one is measured with the same guides
        guides = labels.annotated if LV in labels.annotated else None
        return cls(case, view_phase[1], tuple(classes), possible, guides, scale, reference)

    def add_prediction(self, model: str, values: NDArray[Any]) -> None:
        """Measure all that a model predicted, except structures known to be absent.

        Args:
            model: Its name.
            values: Predicted label values (rows, columns).
        """
        self.predictions[model] = measure_image(
            values, self.classes, self.possible, self.phase, self.scale, self.guides
        )


def view_and_phase_of(labels: CaseLabels) -> tuple[str, str] | None:
    """Return view and phase of a case.

    Args:
        labels: Its entry of the manifest.

    Returns:
        As `view_and_phase`; None where the case is no apical view, or neither ED nor ES.
    """
    return view_and_phase(str(labels.info.get("view") or ""), str(labels.info.get("phase") or ""))


def _largest_component(mask: Mask) -> tuple[Mask, int]:
    """Return the largest component (neighbors share an edge or a corner) and the number of all; `mask` is not empty."""
    from scipy.ndimage import label

    pieces, count = label(mask, structure=np.ones((3, 3)))
    return (mask if count == 1 else np.asarray(pieces == np.bincount(pieces[mask]).argmax())), count


def _fill_holes(component: Mask) -> Mask:
    """Fill background that does not reach the border; `component` does not touch it.

    Returns:
        The filled mask (rows, columns).
    """
    from scipy.ndimage import label

    outside, _ = label(~component)
    return np.asarray(outside != outside[0, 0])


def _with_name(name: str, measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except NotMeasurableError as problem:
        raise NotMeasurableError(f"{name} {problem}") from None


def _measure(what: str, heart: LeftHeart, image: ImageMeasurements) -> None:
    measures: dict[str, Callable[[], Discs]] = {
        CAVITY: heart.cavity_discs,
        OUTER: heart.outer_discs,
        ATRIUM: heart.atrium_discs,
    }
    try:
        if what in measures:
            image.discs[what] = measures[what]()
        else:
            image.areas[what] = heart.area(STRUCTURES_OF[what][0])
    except NotMeasurableError as problem:
        image.why_not[what] = str(problem)


def _touches_border(mask: Mask) -> bool:
    """Check whether a structure (rows, columns) reaches the border of the image."""
    return any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
