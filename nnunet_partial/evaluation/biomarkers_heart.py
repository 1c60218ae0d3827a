"""The left heart in one apical picture: where its chambers lie, what their axes are, and their discs across these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnunet_partial.evaluation.biomarkers_axis import Axis, Discs, NotMeasurableError, Region, discs, long_axis, moments
from nnunet_partial.utils.masks import Floats, Mask, Scale, bounding_box

LV, MYO, LA = "LV", "MYO", "LA"
#: Cavity and wall taken together, as one structure.
WALLED = "LV with MYO"

#: Fewer pixels have no shape. With less than ONE of its pixels in one piece a structure has none either; below ALMOST
#: the rest, left out, is mentioned.
PIXELS, ONE, ALMOST = 20, 0.75, 0.99
#: The atrium lies at the end of the ventricle: it begins no farther away than this part of the ventricle's length.
GAP = 0.25


class Heart:
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
        outer = self._region(WALLED, self.masks[LV] | self.masks[MYO])
        if not outer.mask[cavity.mask].all():
            raise NotMeasurableError("MYO does not lie around LV")
        below, apex = _named(WALLED, lambda: outer.ends(axis.base, axis.along))
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
        if abs(float((start - valve) @ along)) > GAP * ventricle.length:
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
