"""Whose prediction of a case counts: that of the fold which validated it, and so did not train on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.preprocessed import read_manifest
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME, Split, check_splits
from nnunet_partial.errors import DatasetError, PartialLabelError, SplitError
from nnunet_partial.evaluation.find_best_models import Trained
from nnunet_partial.evaluation.find_best_split import cross_validation, fold_of_cases
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import some


@dataclass(frozen=True)
class Validation:
    """The cases of a comparison, each with the fold that validated it.

    `interpolated`: cases whose masks nobody drew; they are not in `fold_of`, and nothing is measured on them.
    """

    dataset: RawDataset
    folds: tuple[int, ...]
    fold_of: Mapping[str, int]
    interpolated: frozenset[str] = frozenset()

    @classmethod
    def of(cls, dataset: RawDataset, splits: Sequence[Split], folds: Sequence[int]) -> Validation:
        """Raises as `fold_of_cases`."""
        fold_of = fold_of_cases(splits, folds)
        interpolated = frozenset(case for case in fold_of if dataset.manifest.labels_of(case).interpolated)
        drawn = {case: fold for case, fold in fold_of.items() if case not in interpolated}
        return cls(dataset, tuple(dict.fromkeys(folds)), drawn, interpolated)

    def prediction(self, model: Trained, case: str, ending: str | None = None) -> Path:
        """The file that the model's fold wrote for the case; `ending`: another than the data set's, such as '.npz'."""
        return model.validation(self.fold_of[case]) / f"{case}{ending or self.dataset.file_ending}"

    def require_predicted(self, models: Sequence[Trained]) -> None:
        """Raises DatasetError that names, for each model, the folds not trained and the cases without a prediction."""
        found = [line for model in models for line in self._missing(model)]
        if found:
            raise DatasetError("\n".join(found))

    def _missing(self, model: Trained) -> Iterator[str]:
        untrained = [fold for fold in self.folds if not model.validation(fold).parent.is_dir()]
        if untrained:
            yield (
                f"{model.name}: not trained: fold {_numbers(untrained)}. Train: "
                f"{model.command(self.dataset.folder.name, untrained)}; or choose folds with -f, trainers with -tr."
            )
        cases = [
            case
            for case, fold in self.fold_of.items()
            if fold not in untrained and not self.prediction(model, case).is_file()
        ]
        if cases:
            folds = {self.fold_of[case] for case in cases}
            yield (
                f"{model.name}: {len(cases)} validation case(s) of fold {_numbers(folds)} have no prediction: "
                f"{some(cases)}. Once the training has ended: "
                f"{model.command(self.dataset.folder.name, folds, ' --val')}"
            )

    def require_probabilities(self, models: Sequence[Trained]) -> None:
        """Raises PartialLabelError where what an ensemble averages was not saved for every case."""
        lines = []
        for model in models:
            # the .pkl beside the probabilities says where the image lies in space
            cases = [
                case
                for case in self.fold_of
                if not all(self.prediction(model, case, ending).is_file() for ending in (".npz", ".pkl"))
            ]
            if cases:
                folds = {self.fold_of[case] for case in cases}
                lines.append(
                    f"{model.name}: the probabilities (.npz, .pkl) of {len(cases)} case(s) were not saved: "
                    f"{some(cases)}. Save them: {model.command(self.dataset.folder.name, folds, ' --val --npz')}"
                )
        if lines:
            lines.append("Train with --npz from the start, or compare without ensembles: --disable_ensembling.")
            raise PartialLabelError("\n".join(lines))

    def not_counted(self, models: Sequence[Trained]) -> list[str]:
        """A sentence for what is left out: cases that no fold validates, predictions that another split left behind."""
        notes = []
        if self.interpolated:
            notes.append(f"{len(self.interpolated)} case(s) with interpolated masks, which nobody drew, do not count")
        forgotten = set(self.dataset.label_files()) - set(self.fold_of) - self.interpolated
        if forgotten:
            notes.append(f"{len(forgotten)} training case(s) are validated by none of these folds: {some(forgotten)}")
        for model in models:
            for fold in self.folds:
                left = {case for case in self._predicted(model, fold) if self.fold_of.get(case) != fold}
                left -= self.interpolated
                if left:
                    notes.append(
                        f"{model.name}: {len(left)} prediction(s) of fold {fold} are not its cases: {some(left)}"
                    )
        return notes

    def _predicted(self, model: Trained, fold: int) -> list[str]:
        ending = self.dataset.file_ending
        return [path.name.removesuffix(ending) for path in model.validation(fold).glob(f"*{ending}")]


def validated_cases(dataset: RawDataset, preprocessed: Path, folds: Sequence[int] | None) -> Validation:
    """The cases of the folds (None: of the whole cross-validation), by the split that the trainings used.

    `preprocessed`: nnU-Net's folder of the data set. Raises SplitError for a split that is missing, leaks a patient,
    does not fit the data set or validates a case twice, and ManifestError where the raw and the preprocessed manifest
    differ.
    """
    file = preprocessed / SPLITS_NAME
    if not file.exists():
        raise SplitError(f"{file} does not exist: which fold validated which case is not known. Train first.")
    manifest = read_manifest(preprocessed, dataset.folder)
    splits = read_json(file, SplitError)
    check_splits(splits, manifest, list(dataset.label_files()))
    return Validation.of(dataset, splits, cross_validation(splits) if folds is None else folds)


def _numbers(folds: Sequence[int] | set[int]) -> str:
    return ", ".join(str(fold) for fold in sorted(folds))
