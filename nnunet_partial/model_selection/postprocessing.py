"""Choose whether to keep only the largest component of structures, judged where they are annotated.

Follows nnU-Net's `determine_postprocessing`: first the largest component of all structures together, if the mean Dice
rises and no structure gets worse; then of each structure by itself, if its Dice rises. Here each Dice is over the cases
that are annotated for the structure.
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
from nnunet_partial.utils.masks import Floats
from nnunet_partial.utils.parallel import parallel_map

#: Variants of a prediction: unchanged, largest component of all structures together, of each by itself, both in turn.
NONE, TOGETHER, EACH, BOTH = range(4)


@dataclass(frozen=True)
class PostprocessingSteps:
    """Describe the steps that improve the predictions.

    `labels`: for each step, in their order, the label values whose largest component is kept.
    """

    labels: tuple[list[int] | int, ...]

    @property
    def keywords(self) -> list[dict[str, Any]]:
        """Arguments of nnU-Net's `remove_all_but_largest_component_from_segmentation`, one dict per step."""
        return [{"labels_or_regions": labels} for labels in self.labels]


def choose(predictions: Mapping[str, Path], reference: Reference, processes: int) -> PostprocessingSteps:
    """Choose the steps that improve predictions, judged on what each case is annotated for.

    Args:
        predictions: File by case, all of them readable.
        reference: What to compare with.
        processes: How many cases to read at a time.

    Returns:
        The steps; none where nothing improves.
    """
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
    """Choose the steps from the Dice of each variant.

    A class without any Dice is never changed by itself, and excludes the step of all structures together, which would
    change it unmeasured.

    Args:
        dice: (cases, 4 variants, classes), in the order NONE, TOGETHER, EACH, BOTH; NaN where the class is not
            annotated, or empty in both reference and prediction.

    Returns:
        The steps; none where nothing improves.
    """
    means = [[mean(column) for column in variant.T] for variant in np.moveaxis(dice, 1, 0)]  # (4, classes)
    better = mean(means[TOGETHER]) > mean(means[NONE])
    together = better and all(new >= old for new, old in zip(means[TOGETHER], means[NONE], strict=True))
    values = range(1, dice.shape[2] + 1)
    labels: list[list[int] | int] = [list(values)] if together else []
    if len(values) > 1:  # for a single structure this is the same step
        before, after = (means[TOGETHER], means[BOTH]) if together else (means[NONE], means[EACH])
        labels += [value for value, old, new in zip(values, before, after, strict=True) if new > old]
    return PostprocessingSteps(tuple(labels))


def apply(steps: PostprocessingSteps, predictions: Mapping[str, Path], folder: Path, processes: int) -> dict[str, Path]:
    """Write the post-processed predictions by nnU-Net's own function.

    Args:
        steps: What to do.
        predictions: File by case.
        folder: Where to write; created if missing.
        processes: How many cases to work on at a time.

    Returns:
        The written file by case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = {case: folder / path.name for case, path in predictions.items()}
    tasks = [_Apply(path, targets[case], steps.keywords) for case, path in predictions.items()]
    for _ in parallel_map(_apply, tasks, processes):
        pass
    return targets


def save(steps: PostprocessingSteps, folder: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> Path:
    """Write postprocessing.pkl for `nnUNetv2_apply_postprocessing`, and postprocessing.json with the same for people.

    Both are as nnU-Net writes them. No program of this package reads the pickle.

    Args:
        steps: What was chosen.
        folder: Of the candidate.
        before: Content of summary.json without post-processing.
        after: Content of summary.json with it.

    Returns:
        The path of postprocessing.pkl.
    """
    from batchgenerators.utilities.file_and_folder_operations import save_pickle
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

    functions = [remove_all_but_largest_component_from_segmentation] * len(steps.labels)
    file = folder / "postprocessing.pkl"
    save_pickle((functions, steps.keywords), str(file))
    parts = ("foreground_mean", "mean")
    content = {
        "input_folder": {part: before[part] for part in parts},
        "postprocessed": {part: after[part] for part in parts},
        "postprocessing_fns": [function.__name__ for function in functions],
        "postprocessing_kwargs": steps.keywords,
    }
    write_json(folder / "postprocessing.json", content)
    return file


@dataclass(frozen=True)
class _CasePaths:
    prediction: Path
    reference: Path
    evaluated: tuple[bool, ...]
    ignore_label: int | None


def _dice_of_variants(task: _CasePaths) -> Floats:
    """Return the Dice (4, classes) of each variant.

    Removing components of one structure does not change the others, so each is tried by itself.
    """
    predicted, truth = (read_array(path)[1] for path in (task.prediction, task.reference))
    values = list(range(1, len(task.evaluated) + 1))
    together = _largest(predicted, values)
    variants = [predicted, together, predicted, together]
    dice = np.full((len(variants), len(values)), math.nan)
    for value in [value for value in values if task.evaluated[value - 1]]:
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


def _apply(task: _Apply) -> None:
    from nnunetv2.postprocessing.remove_connected_components import (
        load_postprocess_save,
        remove_all_but_largest_component_from_segmentation,
    )

    reader_writer, _ = nnunet_tools(task.source.parent)
    functions = [remove_all_but_largest_component_from_segmentation] * len(task.keywords)
    load_postprocess_save(str(task.source), str(task.target), reader_writer, functions, list(task.keywords))
