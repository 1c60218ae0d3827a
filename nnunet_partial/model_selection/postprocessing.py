"""Choose whether to keep only the largest component of structures, judged where they are annotated.

Follows nnU-Net's `determine_postprocessing`: first the largest component of all structures together, if the mean Dice
rises and no structure gets worse; then of each structure or region by itself, after the steps that were chosen before
it, if its Dice rises. Here each Dice is over the cases that are annotated for the structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import read_array
from nnunet_partial.dataset_json import stored_values
from nnunet_partial.evaluation.evaluate import Reference
from nnunet_partial.evaluation.records import mean
from nnunet_partial.model_selection.candidates import nnunet_tools
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.parallel import parallel_map

#: Label values whose largest component is kept: of a class or region, or of all structures together (a list).
Step = int | tuple[int, ...] | list[int]


@dataclass(frozen=True)
class PostprocessingSteps:
    """Describe the steps that improve the predictions.

    `labels`: for each step, in their order, the label values whose largest component is kept.
    """

    labels: tuple[Step, ...]

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
    values = stored_values(reference.classes, reference.regions)

    def measure(steps: Sequence[Step]) -> list[float]:
        tasks = [
            _Case(
                path,
                reference.files[case],
                [values[name] if name in reference.manifest.labels_of(case).known else None for name in values],
                reference.ignore_label,
                PostprocessingSteps(tuple(steps)),
            )
            for case, path in predictions.items()
        ]
        dice = np.stack(list(parallel_map(_dice_of_case, tasks, processes, "post-processing")))
        return [mean(column) for column in dice.T]

    return decide(list(values.values()), measure)


def decide(
    structures: Sequence[tuple[int, ...]], measure: Callable[[Sequence[Step]], Sequence[float]]
) -> PostprocessingSteps:
    """Choose the steps from the Dice after them.

    No step is taken that changes a structure without any Dice, unmeasured: the one of all structures together, and
    that of a region which shares voxels with such a one.

    Args:
        structures: Stored values of each class or region.
        measure: Gives the mean Dice of each structure after steps; NaN where there is none.

    Returns:
        The steps; none where nothing improves.
    """
    steps: list[Step] = []
    dice = measure(steps)
    together: list[Step] = [sorted({value for values in structures for value in values})]
    new = measure(together)
    if mean(new) > mean(dice) and all(after >= before for after, before in zip(new, dice, strict=True)):
        steps, dice = together, new
    for index, values in enumerate(structures if len(structures) > 1 else ()):  # of a single one it is the same step
        touched = [other for other, others in enumerate(structures) if {*values} & {*others}]
        if not np.isnan([dice[other] for other in touched]).any():
            tried: list[Step] = [*steps, values if len(values) > 1 else values[0]]
            new = measure(tried)
            if new[index] > dice[index]:
                steps, dice = tried, new
    return PostprocessingSteps(tuple(steps))


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
class _Case:
    """Describe a case: its files, the stored values of each structure (None: not annotated), and what is tried."""

    prediction: Path
    reference: Path
    structures: Sequence[tuple[int, ...] | None]
    ignore_label: int | None
    steps: PostprocessingSteps


def _dice_of_case(case: _Case) -> list[float]:
    """Return the Dice of each structure after the steps; NaN where it is not annotated, or empty in both."""
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation

    predicted, truth = (read_array(path)[1] for path in (case.prediction, case.reference))
    for keywords in case.steps.keywords:
        predicted = remove_all_but_largest_component_from_segmentation(predicted, **keywords)
    if case.ignore_label is not None:
        predicted = np.where(truth == case.ignore_label, 0, predicted)
    return [
        math.nan if values is None else _dice(np.isin(predicted, values), np.isin(truth, values))
        for values in case.structures
    ]


def _dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = np.count_nonzero(predicted) + np.count_nonzero(truth)
    return float(2 * np.count_nonzero(predicted & truth) / total) if total else math.nan


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
