"""Find classes that are each other's mirror image, which nnU-Net's mirroring makes hard to tell apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from nnunet_partial.dataset.images import read_array
from nnunet_partial.dataset.label_check import LabelFile
from nnunet_partial.utils.parallel import parallel_map

if TYPE_CHECKING:
    import numpy as np

#: From this overlap on, two classes count as mirror images. Measured: lungs of real chest X-rays 0.86 and 0.89, front
#: and back half of a synthetic ellipsoid 0.88; LV and LA of the synthetic hearts at most 0.78, LA and RA 0.80.
MIN_OVERLAP = 0.82

_MIN_CASES = 5  # of a class; fewer are no mean
_MAX_FILES = 100
_GRID = 32


@dataclass(frozen=True)
class MirroredPair:
    """Name two classes that are each other's mirror image.

    Attributes:
        classes: Their names.
        axis: The axis that is turned around: x, y or z.
        overlap: Overlap of one mean mask with the other's mirror image, from 0 to 1.
        of_regions: Whether they are regions, which not every loss learns.
    """

    classes: tuple[str, str]
    axis: str
    overlap: float
    of_regions: bool = False

    @property
    def text(self) -> str:
        """Return the pair as one line, and what to do."""
        first, second = self.classes
        trainer = f"nnUNetTrainer{'ABCE' if self.of_regions else 'Marginal'}NoMirroring"
        return (
            f"{first} and {second} are each other's mirror image along {self.axis} (overlap {self.overlap:.2f}), and "
            "nnU-Net mirrors images in training and prediction. Train with an ending that does not mirror, such as "
            f"{trainer}; see docs/explanation/mirroring.md"
        )


def mirrored_pairs(
    files: Sequence[LabelFile], processes: int = 1, present: Mapping[str, Iterable[float]] | None = None
) -> list[MirroredPair]:
    """Find pairs of classes whose mean masks are each other's mirror image along an axis of the image.

    Each label file is sampled on a grid of 32 points per axis that spans the image. The overlap is the Dice coefficient
    of the mean mask of one class and the mirrored mean mask of the other, moved along the mirrored axis to where their
    centers agree: where the images were cut does not matter.

    Args:
        files: Label files; of each class a hundred of those annotated for it, evenly spread, are read.
        processes: How many processes read them.
        present: Values in the label file of a case, where they are known: files without a class are not read for it.

    Returns:
        The pairs with an overlap of at least MIN_OVERLAP; each pair once, with the axis where it overlaps most. Empty
        where there is none. Files that cannot be read or hold no annotated class do not count, nor
        do classes that are in fewer than five.
    """
    import numpy as np

    if len(files) < _MIN_CASES:
        return []
    masks: dict[tuple[int, str], list[np.ndarray]] = defaultdict(list)
    for sampled in parallel_map(_sample, _chosen(files, present or {}), processes):
        for name, mask in sampled.items():
            masks[mask.ndim, name].append(mask)
    means = {key: np.mean(arrays, axis=0) for key, arrays in masks.items() if len(arrays) >= _MIN_CASES}
    pairs = []
    values = files[0].values
    for (n_axes, first), (n_axes_2, second) in combinations(means, 2):
        if n_axes == n_axes_2 and not {*values[first]} & {*values[second]}:  # regions that overlap are no twins
            overlaps = _mirrored_overlaps(means[n_axes, first], means[n_axes, second])
            overlap, axis = max((value, axis) for axis, value in enumerate(overlaps))
            if overlap >= MIN_OVERLAP:
                pairs.append(MirroredPair((first, second), "xyz"[n_axes - 1 - axis], overlap, bool(files[0].regions)))
    return pairs


def _chosen(files: Sequence[LabelFile], present: Mapping[str, Iterable[float]]) -> list[LabelFile]:
    """Return, for each class, up to a hundred of the files that are annotated for it and may hold it."""
    chosen: dict[int, LabelFile] = {}
    for name, values in files[0].values.items():
        of_class = [
            (number, file)
            for number, file in enumerate(files)
            if file.labels
            and name in file.labels.annotated
            and not {*values}.isdisjoint(present.get(file.case, values))
        ]
        chosen |= dict(of_class[:: -(-len(of_class) // _MAX_FILES) or 1])
    return [chosen[number] for number in sorted(chosen)]


def _sample(file: LabelFile) -> dict[str, np.ndarray]:
    """Return the masks of the annotated classes that are in a file, on the grid."""
    import numpy as np

    try:
        _, array = read_array(file.path)
    except OSError:
        return {}
    array = np.squeeze(array)
    grid = np.ix_(*(((np.arange(_GRID) + 0.5) * size / _GRID).astype(int) for size in array.shape))
    sampled = array[grid]
    annotated = file.labels.annotated if file.labels else ()
    masks = {name: np.isin(sampled, values) for name, values in file.values.items() if name in annotated}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _mirrored_overlaps(first: np.ndarray, second: np.ndarray) -> Iterable[float]:
    """Return the Dice coefficient of a mean mask with another one mirrored along each axis, moved along it to fit."""
    import numpy as np

    for axis in range(first.ndim):
        mirrored = np.flip(second, axis)
        padded = np.pad(mirrored, [(_GRID, _GRID) if a == axis else (0, 0) for a in range(first.ndim)])
        start = _GRID - round(_center(first, axis) - _center(mirrored, axis))
        moved = padded.take(range(start, start + _GRID), axis)
        yield float(2 * np.minimum(first, moved).sum() / (first.sum() + second.sum()))


def _center(mean: np.ndarray, axis: int) -> float:
    """Return the center of mass of a mean mask along an axis, in grid points."""
    profile = mean.sum(tuple(a for a in range(mean.ndim) if a != axis))
    return float((profile * range(_GRID)).sum() / profile.sum())
