"""Give the predictions that fill a dataset: each fold's of its validation cases, or one fold's of its training cases.

Probabilities of validations are those that `nnUNetv2_train ... --val --npz` saves. Where they are missing it is run,
fold by fold, and they are deleted after use.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.active_learning.folds import FoldPredictor, trained_cases
from nnunet_partial.dataset.images import read_array
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import check_splits, read_splits
from nnunet_partial.dataset_conversion.derived.fill import CasePrediction, FillingModel
from nnunet_partial.errors import DatasetError
from nnunet_partial.evaluation.calibration import SIGMOID, SOFTMAX, read_probabilities, structure_probability
from nnunet_partial.model_selection.candidates import TrainedModel, find_models, require_same_data
from nnunet_partial.model_selection.checkpoints import find_checkpoint
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.process import Commands

#: What `--npz` writes beside each prediction.
_ENDINGS = (".npz", ".pkl")
#: nnU-Net's reader whose arrays have other axes than the files.
_REORIENTING = "NibabelIOWithReorient"


@dataclass(frozen=True)
class FoldSource:
    """Predict the cases of a dataset with the folds of a model.

    Attributes:
        dataset: The raw dataset.
        model: The trained model.
        filling: The folds that fill and what they were trained on.
        kind: What the probabilities of the network are: SOFTMAX, or SIGMOID for each structure.
        device: "cuda", "cpu" or "mps".
        tell: Gets every line that is shown to the user.
    """

    dataset: RawDataset
    model: TrainedModel
    filling: FillingModel
    kind: str
    device: str
    tell: Callable[[str], None] = print

    @classmethod
    def find(
        cls,
        dataset: RawDataset,
        results: Path,
        preprocessed: Path,
        model: tuple[str, str, str],
        device: str,
        folds: Sequence[int] | None = None,
        clean_fold: int | None = None,
    ) -> FoldSource:
        """Find the trained model and its folds.

        Args:
            dataset: The raw dataset.
            results: The dataset's folder in nnUNet_results.
            preprocessed: The dataset's folder in nnUNet_preprocessed.
            model: Trainer, plans and configuration.
            device: "cuda", "cpu" or "mps".
            folds: The folds that fill the cases that they validate; None: all that were trained.
            clean_fold: The only fold that fills, its own training cases; None: each fold fills what it validates.

        Returns:
            The source; nothing was predicted.

        Raises:
            DatasetError: The model or a fold is not trained to its end, or on other classes, its trainer is not there,
                or its image reader has other axes than files.
            SplitError: There is no split, or it is another one than that of the training.
        """
        from nnunet_partial.training.trainer_class import has_sigmoids

        trainer, plans, configuration = model
        (found,) = find_models(results, [trainer], [configuration], [plans])
        require_same_data([found], dataset)
        trained = sorted(
            int(name)
            for path in found.folder.glob(f"fold_*/{found.checkpoint}")
            if (name := path.parent.name.removeprefix("fold_")).isdecimal()
        )
        wanted = sorted({clean_fold} if clean_fold is not None else {*(trained if folds is None else folds)})
        absent = [number for number in wanted if number not in trained]
        if not trained or absent:
            names = ", ".join(map(str, trained)) or "none"
            raise DatasetError(
                f"{found.folder}: folds with {found.checkpoint}: {names}; "
                f"{' and '.join(f'fold {n}' for n in absent) or 'at least one'} is needed. Train it: "
                f"{found.command(dataset.folder.name, absent or [0])}"
            )
        if read_json(found.folder / "plans.json", DatasetError).get("image_reader_writer") == _REORIENTING:
            raise DatasetError(
                f"{found.folder} reads images by {_REORIENTING}, whose probabilities have other axes than the label "
                "files. Use NibabelIO or SimpleITKIO, and train again."
            )
        splits = read_splits(preprocessed)
        check_splits(splits, dataset.manifest, list(dataset.label_files()))
        seen = trained_cases(dataset, preprocessed, found, wanted)
        filling = FillingModel(
            trainer,
            plans,
            configuration,
            tuple(wanted),
            seen,
            tuple(splits),
            {str(one): _stamp(found.fold(one) / found.checkpoint) for one in wanted},
            clean_fold,
        )
        return cls(dataset, found, filling, SIGMOID if has_sigmoids(trainer) else SOFTMAX, device)

    def predict(self, cases: Mapping[int, Sequence[str]]) -> Iterator[CasePrediction]:
        """Predict cases.

        Args:
            cases: Case identifiers by the fold that predicts them.

        Yields:
            The prediction of each case. What a validation writes for one is deleted when the next is asked for.
        """
        for fold, names in cases.items():
            if self.filling.clean_fold is None:
                yield from self._validated(fold, names)
            else:
                yield from self._predicted(fold, names)

    def _predicted(self, fold: int, cases: Sequence[str]) -> Iterator[CasePrediction]:
        """Predict with nnU-Net's predictor, as the training cases of a fold are in no validation of it."""
        predictor, images = FoldPredictor(self.model, [fold], self.device), self.dataset.image_files()
        for number, case in enumerate(cases, 1):
            self.tell(f"predicting {case} with fold {fold} ({number} of {len(cases)})")
            result = predictor.predict(images[case])
            yield CasePrediction(case, fold, result.labels[0], result.probability)

    def _validated(self, fold: int, cases: Sequence[str]) -> Iterator[CasePrediction]:
        """Read the validation of a fold, which is run where probabilities are missing.

        Raises:
            DatasetError: They are missing still, or are not those of the predictions.
        """
        folder = self.model.validation(fold)
        before = {path.name for ending in _ENDINGS for path in folder.glob(f"*{ending}")}
        saved = [self._files(fold, case)[1] for case in cases]
        is_current = all(map(self._is_current, [folder / "summary.json", *saved]))
        if not is_current or find_checkpoint(self.model, fold) != self.model.checkpoint:
            self._validate(fold)
        try:
            for case in cases:
                yield self._read(fold, case)
                for ending in _ENDINGS:
                    if f"{case}{ending}" not in before:
                        (folder / f"{case}{ending}").unlink(missing_ok=True)
        finally:
            for path in [path for ending in _ENDINGS for path in folder.glob(f"*{ending}")]:
                if path.name not in before:
                    path.unlink()

    def _is_current(self, file: Path) -> bool:
        """Tell whether a file of a validation is there, and not that of an older training."""
        checkpoint = file.parents[1] / self.model.checkpoint
        return file.is_file() and file.stat().st_mtime >= checkpoint.stat().st_mtime

    def _validate(self, fold: int) -> None:
        command = self.model.validation_command(self.dataset.folder.name, [fold], f" --npz -device {self.device}")
        Commands({}, self.model.fold(fold), self.tell).run(*shlex.split(command))

    def _files(self, fold: int, case: str) -> tuple[Path, Path]:
        """Return the predicted label file of a case and its probabilities."""
        folder = self.model.validation(fold)
        return folder / f"{case}{self.dataset.file_ending}", folder / f"{case}.npz"

    def _read(self, fold: int, case: str) -> CasePrediction:
        file, saved = self._files(fold, case)
        advice = f"Delete {saved.name} and run this again; it is written by nnUNetv2_train ... --val --npz."
        try:
            _, labels = read_array(file)
        except OSError as problem:
            raise DatasetError(f"{case}: the prediction of fold {fold} cannot be read: {problem}. {advice}") from None
        n_classes = len(self.dataset.classes)
        probabilities = read_probabilities(saved, labels, n_classes)
        if isinstance(probabilities, str):
            raise DatasetError(f"{case}: the probabilities of fold {fold} {probabilities}. {advice}")
        import numpy as np

        stacked = np.stack([structure_probability(probabilities, c, self.kind) for c in range(1, n_classes + 1)])
        return CasePrediction(case, fold, labels, stacked)


def _stamp(checkpoint: Path) -> str:
    """Hash size and time of a checkpoint, and the content of what nnU-Net reads beside it to predict."""
    stat = checkpoint.stat()
    content = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    for name in ("plans.json", "dataset.json"):  # written again, as they are, by the training of another fold
        content.update(checkpoint.parents[1].joinpath(name).read_bytes())
    return content.hexdigest()[:16]
