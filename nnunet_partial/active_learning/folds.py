"""Predict a case with each fold of a trained model, one after the other, with nnU-Net's predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import inspect_image, last_line
from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import DatasetError, SplitError
from nnunet_partial.evaluation.calibration import SIGMOID, SOFTMAX, structure_probability
from nnunet_partial.evaluation.independence import cases_seen_at_start
from nnunet_partial.inference.model import load_model
from nnunet_partial.model_selection.candidates import TrainedModel, find_models
from nnunet_partial.utils.files import read_json, same_bytes
from nnunet_partial.utils.masks import Floats
from nnunet_partial.utils.text import format_names

Fold = int | str


@dataclass(frozen=True)
class FoldPredictions:
    """Hold what the folds predict of one case.

    Attributes:
        labels: Label values of each of K folds, (K, *S).
        probability: Of each of C structures, averaged over the folds, (C, *S).
    """

    labels: NDArray[np.integer]
    probability: Floats


class FoldPredictor:
    """Predict cases with each fold of a model.

    Args:
        model: The model; its checkpoint predicts.
        folds: Its folds.
        device: "cuda", "cpu" or "mps".

    Raises:
        PartialLabelError: The device or the trainer is not there, the model is broken, or it is the second stage of a
            cascade, which predicts from the first.
    """

    def __init__(self, model: TrainedModel, folds: Sequence[Fold], device: str) -> None:
        from nnunet_partial.training.trainer_class import has_sigmoids

        self._predictor = load_model(model.folder, folds, model.checkpoint, device).predictor
        self._folds = self._predictor.list_of_parameters
        self._reader = self._predictor.plans_manager.image_reader_writer_class()
        self._kind = SIGMOID if has_sigmoids(self._predictor.trainer_name) else SOFTMAX

    def predict(self, images: Sequence[Path]) -> FoldPredictions:
        """Predict one case.

        Args:
            images: Its files, one per channel.

        Returns:
            The predictions, with the axes of nnU-Net's arrays.

        Raises:
            DatasetError: A file cannot be read as a whole or holds NaN, nnU-Net's reader refuses it, the channels do
                not lie on each other, or there are more or fewer than the model reads.
        """
        for path in images:  # nnU-Net would take a file that is cut off, and NaN, without a word
            problem = inspect_image(path).problem
            if problem:
                raise DatasetError(f"{path.name} {problem}")
        try:
            array, properties = self._reader.read_images([str(path) for path in images])
        except (AssertionError, RuntimeError) as problem:
            if str(problem):
                raise DatasetError(f"{images[0].name} cannot be read by nnU-Net: {last_line(problem)}") from None
            # nnU-Net prints what it found
            raise DatasetError(f"{images[0].name} and its other channels differ in size or place") from None
        n_channels = len(self._predictor.configuration_manager.normalization_schemes)
        if len(array) != n_channels:
            raise DatasetError(
                f"{images[0].name} and its other files hold {len(array)} channel(s) (colors, or a fourth axis?), the "
                f"model reads {n_channels}"
            )
        labels, mean = [], np.zeros(())
        for weights in self._folds:
            self._predictor.list_of_parameters = [weights]
            values, probabilities = self._predictor.predict_single_npy_array(
                array, properties, save_or_return_probabilities=True
            )
            labels.append(np.asarray(values))
            mean = mean + self._of_structures(np.asarray(probabilities)) / len(self._folds)
        return FoldPredictions(np.stack(labels), mean)

    def _of_structures(self, probabilities: Floats) -> Floats:
        """Return the network's probability of each structure, (C, *S); the softmax where it takes all of it.

        Of regions nnU-Net gives the sigmoids, without background.
        """
        if self._predictor.label_manager.has_regions:
            return probabilities
        of_structure = [structure_probability(probabilities, c, self._kind) for c in range(1, len(probabilities))]
        stacked: Floats = np.stack(of_structure)
        return np.where(np.isnan(stacked), probabilities[1:], stacked)


def find_model(
    results: Path, trainer: str, configuration: str | None, plans: str, checkpoint: str, folds: Sequence[Fold] | None
) -> tuple[TrainedModel, list[Fold]]:
    """Find a trained model and the folds that can predict.

    Args:
        results: The dataset's folder in nnUNet_results.
        trainer: Name of the trainer.
        configuration: Name of the configuration; None: the only one that was trained.
        plans: Plans identifier.
        checkpoint: File name of the checkpoint.
        folds: The folds; None: all that have the checkpoint, fold all left out.

    Returns:
        The model, and at least two folds.

    Raises:
        DatasetError: There is no such model, there are several, or it lacks folds.
    """
    models = find_models(results, [trainer], [configuration] if configuration else None, [plans])
    if len(models) > 1:
        raise DatasetError(f"There are several models of {trainer}: {format_names([m.name for m in models])}. Say -c.")
    model = TrainedModel(models[0].folder, models[0].trainer, models[0].plans, models[0].configuration, checkpoint)
    trained = sorted(path.parent.name.removeprefix("fold_") for path in model.folder.glob(f"fold_*/{checkpoint}"))
    chosen = [fold for fold in trained if fold != "all"] if folds is None else list(dict.fromkeys(map(str, folds)))
    missing = [fold for fold in chosen if fold not in trained]
    if missing or len(chosen) < 2:
        raise DatasetError(
            f"Folds can disagree where there are at least two with {checkpoint}. In {model.folder}: "
            f"{format_names(trained)}; asked for: {format_names(chosen)}. Train more folds, or choose with -f and -chk."
        )
    return model, [fold if fold == "all" else int(fold) for fold in chosen]


def trained_cases(
    dataset: RawDataset, preprocessed: Path | None, model: TrainedModel, folds: Sequence[Fold]
) -> frozenset[str]:
    """List the cases that at least one of the folds trained on, or has seen by the model that it was widened from.

    Args:
        dataset: The raw dataset.
        preprocessed: The dataset's folder in nnUNet_preprocessed; None where there is none.
        model: The model.
        folds: Its folds.

    Returns:
        Their identifiers; all training cases for fold all, and where no split says more.

    Raises:
        SplitError: The split lacks a fold, cannot be read, or is another one than that of the training.
    """
    from nnunet_partial.training.run_record import trained_on_of

    file = None if preprocessed is None else preprocessed / SPLITS_NAME
    if "all" in folds or file is None or not file.exists():
        return frozenset(dataset.image_files())
    splits = read_json(file, SplitError)
    try:
        cases = {fold: splits[fold]["train"] for fold in folds}
    except (IndexError, KeyError, TypeError):
        raise SplitError(
            f"{file} does not say what the folds {format_names([str(fold) for fold in folds])} train on. Put back the "
            "one that they were trained with."
        ) from None
    for fold, training in cases.items():
        recorded = trained_on_of(model.fold(fold) / model.checkpoint)
        if recorded is not None and recorded.cases != hash_names(training):
            raise SplitError(
                f"{file} is not the split that fold {fold} of {model.name} was trained with. Put that one back, or "
                "train again and predict other images with -i."
            )
    trained = {case for training in cases.values() for case in training}
    widened = (cases_seen_at_start(model.fold(fold), dataset.manifest, dataset.image_files()) for fold in folds)
    return frozenset(trained.union(*widened))


def require_own_names(images: Mapping[str, Sequence[Path]], dataset: RawDataset) -> None:
    """Check that an image with the name of a training case is the image of that case.

    It would be taken for trained on, and for annotated as the manifest says of that case.

    Args:
        images: Files by case.
        dataset: The raw dataset.

    Raises:
        DatasetError: Another image has the name of a training case.
    """
    training = dataset.image_files()
    others = [
        case for case, files in images.items() if case in training and not _same_image(files[0], training[case][0])
    ]
    if others:
        raise DatasetError(
            f"{len(others)} image(s) have the name of a training case, but other pixels: {format_names(others)}. They "
            "would be taken for trained on. Give them other names."
        )


def _same_image(first: Path, second: Path) -> bool:
    if same_bytes(first, second):
        return True
    info = inspect_image(first)
    return info.problem is not None or info.digest == inspect_image(second).digest  # a broken one is told later


def require_channels(images: Mapping[str, Sequence[Path]], n_channels: int, where: Path) -> None:
    """Check that there are images, and that each has all channels.

    Args:
        images: Files by case.
        n_channels: Of the dataset.
        where: Their folder.

    Raises:
        DatasetError: There is none, or a case lacks a channel.
    """
    if not images:
        raise DatasetError(f"There is no image in {where}; expected files named CASE_0000 with the dataset's ending.")
    incomplete = [case for case, files in images.items() if len(files) != n_channels]
    if incomplete:
        raise DatasetError(
            f"{len(incomplete)} case(s) in {where} do not have {n_channels} channel(s), as the dataset has: "
            f"{format_names(incomplete)}"
        )
