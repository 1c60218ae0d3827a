"""Find the checkpoint that predicted a model's validation cases, so that the same one predicts new images.

`nnUNetv2_train --val_best` validates with checkpoint_best.pth, into the same folder as the final checkpoint, and
nnU-Net does not record which it was. The trainers of this package do, in summary.json. For other trainers it is what
the user says, else the final checkpoint, or the best one where only that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnunet_partial.errors import DatasetError
from nnunet_partial.evaluation.results import BEST_CHECKPOINT, CHECKPOINT_KEY, FINAL_CHECKPOINT
from nnunet_partial.model_selection.candidates import TrainedModel, numbers
from nnunet_partial.utils.files import read_object


def with_checkpoints(
    models: Sequence[TrainedModel], dataset: str, folds: Sequence[int | str], checkpoint: str | None = None
) -> list[TrainedModel]:
    """Add to each model the checkpoint that predicted its validation cases.

    Args:
        models: The models to compare.
        dataset: Name of the dataset.
        folds: Numbers of folds.
        checkpoint: File name that the user says; None: as it is found.

    Returns:
        The models, in the same order.

    Raises:
        DatasetError: The folds of a model were validated with different checkpoints, of which `nnUNetv2_predict` takes
            one for all folds, or with another one than `checkpoint`.
    """
    found = [_with_checkpoint(model, dataset, folds, checkpoint) for model in models]
    problems = [problem for problem in found if isinstance(problem, str)]
    if problems:
        raise DatasetError("\n".join(problems))
    return [model for model in found if isinstance(model, TrainedModel)]


def describe_checkpoints(
    models: Sequence[TrainedModel], best: Sequence[TrainedModel], folds: Sequence[int | str]
) -> list[str]:
    """Describe which models use another checkpoint than the final one, and which checkpoints are missing.

    Args:
        models: All that were compared.
        best: The chosen ones.
        folds: Numbers of folds.

    Returns:
        A sentence each; empty where every chosen fold has its final checkpoint and the others were validated with it.
    """
    notes = [
        f"{model.name} was validated with {model.checkpoint}; the choice and the commands are about this checkpoint"
        for model in models
        if model.checkpoint != FINAL_CHECKPOINT
    ]
    for model in best:
        missing = [fold for fold in folds if not (model.fold(fold) / model.checkpoint).is_file()]
        if missing:
            notes.append(
                f"{model.name}: fold {numbers(missing)} has no {model.checkpoint}, which the command to predict needs"
            )
    return notes


def find_checkpoint(model: TrainedModel, fold: int | str, checkpoint: str | None = None) -> str | None:
    """Find the checkpoint that predicted the validation cases of a fold.

    Args:
        model: The model.
        fold: Number of the fold, or "all".
        checkpoint: File name that the user says, for a fold without a record.

    Returns:
        File name; None where nothing tells.
    """
    recorded = read_object(model.validation(fold) / "summary.json", DatasetError).get(CHECKPOINT_KEY)
    if isinstance(recorded, str):
        return recorded
    present = [name for name in (FINAL_CHECKPOINT, BEST_CHECKPOINT) if (model.fold(fold) / name).is_file()]
    return checkpoint or next(iter(present), None)


def _with_checkpoint(
    model: TrainedModel, dataset: str, folds: Sequence[int | str], checkpoint: str | None
) -> TrainedModel | str:
    """Return the model with its checkpoint, or what is wrong with it."""
    folds_of: dict[str, list[int | str]] = {}
    for fold in folds:
        found = find_checkpoint(model, fold, checkpoint)
        if found is not None:
            folds_of.setdefault(found, []).append(fold)
    wanted = checkpoint or next(iter(folds_of), FINAL_CHECKPOINT)
    if not set(folds_of) - {wanted}:
        return replace(model, checkpoint=wanted)
    each = "; ".join(f"fold {numbers(members)}: {name}" for name, members in sorted(folds_of.items()))
    options = [checkpoint] if checkpoint else [FINAL_CHECKPOINT, BEST_CHECKPOINT]
    advice = " Or: ".join(_advice(model, dataset, folds_of, name) for name in options)
    return (
        f"{model.name} was validated with {each}. nnUNetv2_predict takes one checkpoint for all folds, so validate all "
        f"with {'that of -chk' if checkpoint else 'the same'}: {advice}"
    )


def _advice(model: TrainedModel, dataset: str, folds_of: dict[str, list[int | str]], checkpoint: str) -> str:
    others = [fold for name, members in folds_of.items() if name != checkpoint for fold in members]
    return replace(model, checkpoint=checkpoint).validation_command(dataset, others)
