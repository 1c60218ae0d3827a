"""Select the trained models and folds that travel together, the lower stage of a cascade among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import DatasetError
from nnunet_partial.model_selection.candidates import TrainedModel, find_models, numbers
from nnunet_partial.model_selection.checkpoints import with_checkpoints
from nnunet_partial.model_selection.find_best import lower_stage, previous_stage
from nnunet_partial.utils.files import read_json

#: Folds of a cross-validation, with which nnU-Net predicts unless told otherwise.
DEFAULT_FOLDS: tuple[int | str, ...] = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class SelectedModel:
    """Hold a trained model, with the checkpoint that is meant, and some of its folds.

    Attributes:
        model: The model.
        folds: Numbers of folds, or "all".
        lower: Configuration of the lower stage, where the model is the second stage of a cascade; else None.
    """

    model: TrainedModel
    folds: tuple[int | str, ...]
    lower: str | None = None


def select_models(
    results: Path,
    trainer: str,
    configurations: Sequence[str] | None,
    plans: str,
    folds: Sequence[int | str],
    checkpoint: str | None = None,
) -> list[SelectedModel]:
    """Select the models of a trainer, and before the second stage of a cascade its lower stage.

    Args:
        results: The dataset's folder in nnUNet_results.
        trainer: Name of the trainer.
        configurations: Names of configurations; None: all that were trained.
        plans: Plans identifier.
        folds: Numbers of folds, or "all" alone.
        checkpoint: File name of the checkpoint; None: the one that predicted the validation cases.

    Returns:
        The models, each configuration once, lower stages first.

    Raises:
        DatasetError: A model, a fold or a checkpoint is missing, folds were validated with different checkpoints, or
            "all" is asked for beside other folds.
    """
    folds = tuple(dict.fromkeys(folds))
    if "all" in folds and len(folds) > 1:
        raise DatasetError(f"-f: got {' '.join(map(str, folds))}; expected numbers of folds, or all alone.")
    models = find_models(results, [trainer], configurations, [plans])
    selected: dict[str, SelectedModel] = {}
    for model in with_checkpoints(models, results.name, folds, checkpoint):
        chain, current = [], SelectedModel(model, folds, _lower_configuration(model))
        while current.lower is not None:
            chain.append(current)
            lower_folds, lower = lower_stage(current.model, current.lower, current.folds)
            if not lower.has_started:
                raise DatasetError(
                    f"{current.model.name} is the second stage of a cascade and cannot predict without the lower one: "
                    f"{lower.folder} was never trained. Train it: {lower.command(results.name, [0])}"
                )
            current = SelectedModel(lower, tuple(lower_folds), _lower_configuration(lower))
        for one in [current, *reversed(chain)]:
            selected.setdefault(one.model.configuration, one)
    for one in selected.values():
        _require_checkpoints(one, results.name)
    return list(selected.values())


def with_lower(selected: Sequence[SelectedModel], one: SelectedModel) -> list[SelectedModel]:
    """Return a model and, before it, the lower stages that it needs.

    Args:
        selected: Models that go together.
        one: One of them.

    Returns:
        Those of them that predict one after the other.
    """
    lower = [other for other in selected if other.model.configuration == one.lower]
    return [*(stage for other in lower for stage in with_lower(selected, other)), one]


def prediction_commands(dataset: str, selected: Sequence[SelectedModel]) -> list[str]:
    """Write out how nnU-Net predicts with the models.

    Args:
        dataset: Name of the dataset.
        selected: The models, lower stages of a cascade first.

    Returns:
        A command for each model; INPUT_FOLDER and OUTPUT_FOLDER... are to be replaced by the user.
    """
    output = {
        one.model.configuration: "OUTPUT_FOLDER" if len(selected) == 1 else f"OUTPUT_FOLDER_{one.model.configuration}"
        for one in selected
    }
    return [
        one.model.prediction_command(
            dataset,
            one.folds,
            output[one.model.configuration],
            "" if one.lower is None else f" -prev_stage_predictions {output[one.lower]}",
        )
        for one in selected
    ]


def _lower_configuration(model: TrainedModel) -> str | None:
    return previous_stage(read_json(model.folder / "plans.json", DatasetError)["configurations"], model.configuration)


def _require_checkpoints(selected: SelectedModel, dataset: str) -> None:
    model = selected.model
    missing = [fold for fold in selected.folds if not (model.fold(fold) / model.checkpoint).is_file()]
    if missing:
        there = [file.parent.name.removeprefix("fold_") for file in model.folder.glob(f"fold_*/{model.checkpoint}")]
        raise DatasetError(
            f"{model.name}: fold {numbers(missing)} has no {model.checkpoint}. Folds that have one: "
            f"{', '.join(sorted(there)) or 'none'}. Choose these with -f, or train: "
            f"{model.command(dataset, missing)}"
        )
