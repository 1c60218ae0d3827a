"""Would keeping only the largest component of a structure have helped? Asked only where the structure is known.

nnU-Net's own way (`determine_postprocessing`): first the largest component of all structures together, if the mean Dice
rises and no structure gets worse; then of each structure by itself, if its Dice rises. Here each Dice is over the cases
that know the structure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import read_array
from nnunet_partial.evaluation.evaluate import Reference
from nnunet_partial.evaluation.records import mean
from nnunet_partial.model_selection.candidates import nnunet_tools
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.parallel import parallel_map

Floats = NDArray[np.float64]

#: Of how a prediction may be changed: not, all structures together, each by itself, both one after the other.
PLAIN, TOGETHER, EACH, BOTH = range(4)


@dataclass(frozen=True)
class PostprocessingSteps:
    """What helped. `labels`: for each step, in their order, the label values whose largest component stays."""

    labels: tuple[list[int] | int, ...]

    @property
    def keywords(self) -> list[dict[str, Any]]:
        """Arguments of nnU-Net's `remove_all_but_largest_component_from_segmentation`, a step each."""
        return [{"labels_or_regions": labels} for labels in self.labels]


@dataclass(frozen=True)
class _CasePaths:
    prediction: Path
    reference: Path
    known: tuple[bool, ...]
    ignore_label: int | None


def choose(predictions: Mapping[str, Path], reference: Reference, processes: int) -> PostprocessingSteps:
    """What to do to predictions (file by case, all of them readable), judged on what each case knows."""
    tasks = [
        _CasePaths(
            path,
            reference.files[case],
            tuple(name in reference.manifest.labels_of(case).known for name in reference.classes),
            reference.ignore_label,
        )
        for case, path in predictions.items()
    ]
    return decide(np.stack(list(parallel_map(_dice_of_variants, tasks, processes, "post-processing"))))


def decide(dice: Floats) -> PostprocessingSteps:
    """From Dice (cases, 4 variants, classes), NaN where it is unknown or nothing is there.

    A class without any Dice is never touched by itself, and stops the step of all structures together, which would
    touch it unseen.
    """
    means = [[mean(column) for column in variant.T] for variant in np.moveaxis(dice, 1, 0)]  # (4, classes)
    better = mean(means[TOGETHER]) > mean(means[PLAIN])
    together = better and all(new >= old for new, old in zip(means[TOGETHER], means[PLAIN], strict=True))
    values = range(1, dice.shape[2] + 1)
    labels: list[list[int] | int] = [list(values)] if together else []
    if len(values) > 1:  # of a single structure it was asked already
        before, after = (means[TOGETHER], means[BOTH]) if together else (means[PLAIN], means[EACH])
        labels += [value for value, old, new in zip(values, before, after, strict=True) if new > old]
    return PostprocessingSteps(tuple(labels))


def _dice_of_variants(task: _CasePaths) -> Floats:
    """(4, classes). Removing what belongs to one structure leaves the others as they are, so each is tried alone."""
    predicted, truth = (read_array(path)[1] for path in (task.prediction, task.reference))
    values = list(range(1, len(task.known) + 1))
    together = _largest(predicted, values)
    variants = [predicted, together, predicted, together]
    dice = np.full((len(variants), len(values)), math.nan)
    for value in [value for value in values if task.known[value - 1]]:
        for row, variant in enumerate(variants):
            changed = _largest(variant, value) if row in (EACH, BOTH) else variant
            dice[row, value - 1] = _dice(changed == value, truth, value, task.ignore_label)
    return dice


def _largest(segmentation: NDArray[Any], labels: list[int] | int) -> NDArray[Any]:
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

    changed: NDArray[Any] = remove_all_but_largest_component_from_segmentation(segmentation, labels)
    return changed


def _dice(predicted: NDArray[np.bool_], truth: NDArray[Any], value: int, ignore_label: int | None) -> float:
    if ignore_label is not None:
        predicted = predicted & (truth != ignore_label)
    total = np.count_nonzero(predicted) + np.count_nonzero(truth == value)
    return float(2 * np.count_nonzero(predicted & (truth == value)) / total) if total else math.nan


@dataclass(frozen=True)
class _Apply:
    source: Path
    target: Path
    keywords: Sequence[dict[str, Any]]


def apply(
    chosen: PostprocessingSteps, predictions: Mapping[str, Path], folder: Path, processes: int
) -> dict[str, Path]:
    """Writes the changed predictions into `folder` by nnU-Net's own function, and gives the files by case."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {case: folder / path.name for case, path in predictions.items()}
    tasks = [_Apply(path, done[case], chosen.keywords) for case, path in predictions.items()]
    for _ in parallel_map(_apply, tasks, processes):
        pass
    return done


def _apply(task: _Apply) -> None:
    from nnunetv2.postprocessing.remove_connected_components import (
        load_postprocess_save,
        remove_all_but_largest_component_from_segmentation,
    )

    reader_writer, _ = nnunet_tools(task.source.parent)
    functions = [remove_all_but_largest_component_from_segmentation] * len(task.keywords)
    load_postprocess_save(str(task.source), str(task.target), reader_writer, functions, list(task.keywords))


def save(chosen: PostprocessingSteps, folder: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> Path:
    """Writes postprocessing.pkl, which `nnUNetv2_apply_postprocessing` reads and nothing of ours does, and the same to
    be read by people, postprocessing.json; both as nnU-Net has them. `before`, `after`: contents of summary.json."""
    from batchgenerators.utilities.file_and_folder_operations import save_pickle
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

    functions = [remove_all_but_largest_component_from_segmentation] * len(chosen.labels)
    file = folder / "postprocessing.pkl"
    save_pickle((functions, chosen.keywords), str(file))
    parts = ("foreground_mean", "mean")
    content = {
        "input_folder": {part: before[part] for part in parts},
        "postprocessed": {part: after[part] for part in parts},
        "postprocessing_fns": [function.__name__ for function in functions],
        "postprocessing_kwargs": chosen.keywords,
    }
    write_json(folder / "postprocessing.json", content)
    return file
