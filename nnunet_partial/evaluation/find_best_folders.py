"""One folder per candidate: the predictions of all folds of a model together, or the ensemble of two models."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.find_best_folds import Validation
from nnunet_partial.evaluation.find_best_models import Trained
from nnunet_partial.utils.files import atomic_path, read_json
from nnunet_partial.utils.parallel import in_parallel


@dataclass(frozen=True)
class Candidate:
    """One model, or two whose probabilities are averaged; its predictions lie in `folder`."""

    name: str
    folder: Path
    members: tuple[Trained, ...]

    def files(self, validation: Validation) -> dict[str, Path]:
        """Prediction by case."""
        return {case: self.folder / f"{case}{validation.dataset.file_ending}" for case in validation.fold_of}


def together(model: Trained, folds: Sequence[int]) -> Candidate:
    """A model with its folds; the folder is called as nnU-Net calls it."""
    return Candidate(model.name, model.folder / f"crossval_results_folds_{_joined(folds)}", (model,))


def ensemble_of(first: Trained, second: Trained, folds: Sequence[int]) -> Candidate:
    """Two models; name and folder as nnU-Net has them."""
    name = f"ensemble___{first.name}___{second.name}___{_joined(folds)}"
    return Candidate(name, first.folder.parent / "ensembles" / name, (first, second))


def _joined(folds: Sequence[int]) -> str:
    return "_".join(str(fold) for fold in folds)


def fill(candidate: Candidate, validation: Validation, processes: int, overwrite: bool) -> None:
    """Makes the folder anew: predictions, plans.json, dataset.json. Without `overwrite` ensembled predictions that are
    there stay. Raises PartialLabelError where probabilities cannot be averaged."""
    if candidate.folder.exists() and (overwrite or len(candidate.members) == 1):
        shutil.rmtree(candidate.folder)
    candidate.folder.mkdir(parents=True, exist_ok=True)
    for name in ("plans.json", "dataset.json"):
        _copy(candidate.members[0].folder / name, candidate.folder / name)
    if len(candidate.members) == 1:
        for case, target in candidate.files(validation).items():
            _copy(validation.prediction(candidate.members[0], case), target)
    else:
        _average(candidate, validation, processes)


def _copy(source: Path, target: Path) -> None:
    # no hard link: a later validation writes into the same file
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


@dataclass(frozen=True)
class _Average:
    """The work on one case: probabilities of each member in, labels out."""

    probabilities: tuple[Path, ...]
    target: Path
    file_ending: str


def _average(candidate: Candidate, validation: Validation, processes: int) -> None:
    tasks = [
        _Average(
            tuple(validation.prediction(member, case, ".npz") for member in candidate.members),
            target,
            validation.dataset.file_ending,
        )
        for case, target in candidate.files(validation).items()
        if not target.exists()
    ]
    problems = [problem for problem in in_parallel(_average_case, tasks, processes, "ensembling") if problem]
    if problems:
        raise PartialLabelError("\n".join(problems[:20]))


def _average_case(task: _Average) -> str | None:
    """Averages by nnU-Net's own function; gives what was wrong with the files."""
    from nnunetv2.ensembling.ensemble import merge_files

    tools = nnunet_tools(task.target.parent)
    stem = str(task.target)[: -len(task.file_ending)]
    try:
        merge_files([str(path) for path in task.probabilities], stem, task.file_ending, *tools)
    except Exception as problem:  # whatever NumPy and nnU-Net raise for a file that is cut off, or of another shape
        task.target.unlink(missing_ok=True)
        where = " and ".join(str(path) for path in task.probabilities)
        return f"{where} cannot be averaged: {problem}. Save them again: nnUNetv2_train ... --val --npz."
    return None


@lru_cache(maxsize=2)
def nnunet_tools(folder: Path) -> tuple[Any, Any]:
    """nnU-Net's reader and writer of images, and its label manager, for a folder with plans.json and dataset.json."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_json(folder / "plans.json"))
    return plans.image_reader_writer_class(), plans.get_label_manager(read_json(folder / "dataset.json"))
