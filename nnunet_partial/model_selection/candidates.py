"""Find the trained models that compete, and their predictions of the validation cases.

A trained model is a folder that nnU-Net made for a dataset, with its folds. The prediction of a case is that of the
fold that validated it, and so did not train on it; each case must count once. A candidate, one model or the ensemble of
two, has a folder with the predictions of all folds.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.preprocessed import read_manifest
from nnunet_partial.dataset.raw import TIFF, RawDataset
from nnunet_partial.dataset.splits import Split, check_splits, read_splits
from nnunet_partial.errors import DatasetError, PartialLabelError, SplitError
from nnunet_partial.evaluation.results import BEST_CHECKPOINT, FINAL_CHECKPOINT
from nnunet_partial.utils.files import copy_file, read_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_names


@dataclass(frozen=True)
class TrainedModel:
    """Describe a trained model: the folder TRAINER__PLANS__CONFIGURATION that holds its folds.

    `checkpoint`: the file that predicted its validation cases, and is to predict new images.
    """

    folder: Path
    trainer: str
    plans: str
    configuration: str
    checkpoint: str = FINAL_CHECKPOINT

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def has_started(self) -> bool:
        """Whether a training reached its first epoch: nnU-Net writes its plans then."""
        return (self.folder / "plans.json").is_file()

    def fold(self, fold: int | str) -> Path:
        """Return the folder of a fold.

        Args:
            fold: Its number, or "all".

        Returns:
            The folder, whether or not it exists.
        """
        return self.folder / f"fold_{fold}"

    def validation(self, fold: int | str) -> Path:
        """Return the folder of validation predictions.

        Args:
            fold: Its number, or "all".

        Returns:
            The folder, whether or not it exists.
        """
        return self.fold(fold) / "validation"

    def command(self, dataset: str, folds: Collection[int | str], more: str = "") -> str:
        """Return the command that trains, or validates, folds.

        Args:
            dataset: Name or id.
            folds: Their numbers; of several the command names none.
            more: Further options, with a space before them.

        Returns:
            An `nnUNetv2_train` command.
        """
        fold = str(next(iter(folds))) if len(folds) == 1 else "FOLD"
        return f"nnUNetv2_train {dataset} {self.configuration} {fold} -tr {self.trainer} -p {self.plans}{more}"

    def prediction_command(self, dataset: str, folds: Collection[int | str], output: str, more: str = "") -> str:
        """Return the command that predicts with folds; INPUT_FOLDER is to be replaced by the user.

        Args:
            dataset: Its name.
            folds: Their numbers, or "all".
            output: The folder of the predictions.
            more: Further options, with a space before them.

        Returns:
            An `nnUNetv2_predict` command.
        """
        checkpoint = "" if self.checkpoint == FINAL_CHECKPOINT else f" -chk {self.checkpoint}"
        return (
            f"nnUNetv2_predict -d {dataset} -i INPUT_FOLDER -o {output} -f {' '.join(map(str, folds))} "
            f"-tr {self.trainer} -c {self.configuration} -p {self.plans}{checkpoint}{more}"
        )

    def validation_command(self, dataset: str, folds: Collection[int | str], more: str = "") -> str:
        """Return the command that validates folds, again or for the first time, with the model's checkpoint.

        Args:
            dataset: Name or id.
            folds: Their numbers.
            more: Further options, with a space before them.

        Returns:
            An `nnUNetv2_train` command; it continues the training where one of the folds was stopped before its end,
            as nnU-Net only validates after it.
        """
        files = [{path.name for path in self.fold(fold).glob("checkpoint_*.pth")} for fold in folds]
        stopped = any(names and FINAL_CHECKPOINT not in names for names in files)
        best = " --val_best" if self.checkpoint == BEST_CHECKPOINT else ""
        return self.command(dataset, folds, (" --c" if stopped else " --val") + best + more)


def find_models(
    results: Path, trainers: Sequence[str] | None, configurations: Sequence[str] | None, plans: Sequence[str]
) -> list[TrainedModel]:
    """Find the trained models of a dataset.

    The folder of a training that was refused at its start is left out.

    Args:
        results: The dataset's folder in nnUNet_results.
        trainers: Names of trainers; None: all that were trained.
        configurations: Names of configurations; None: all that were trained.
        plans: Plans identifiers.

    Returns:
        The models, in the order of the arguments.

    Raises:
        DatasetError: One that is named was not trained.
    """
    trained = [model for model in _folders(results) if model.has_started]
    models: dict[TrainedModel, None] = {}
    everything: Sequence[str | None] = [None]
    for trainer, configuration, plan in product(trainers or everything, configurations or everything, plans):
        matching = [model for model in trained if _is_of(model, trainer, configuration, plan)]
        if not matching:
            wanted = f"{trainer or 'any trainer'}, plans {plan}, {configuration or 'any configuration'}"
            raise DatasetError(
                f"There is no trained model of {wanted} in {results}. Trained: "
                f"{format_names([model.name for model in trained])}. "
                "Train it, or choose others with -tr, -p and -c."
            )
        models.update(dict.fromkeys(matching))
    return list(models)


def describe_untrained(
    results: Path, trainers: Sequence[str] | None, configurations: Sequence[str] | None, plans: Sequence[str]
) -> list[str]:
    """Describe the folders that `find_models` leaves out because no training in them ever began.

    Args:
        results: The dataset's folder in nnUNet_results.
        trainers: As for `find_models`.
        configurations: As for `find_models`.
        plans: As for `find_models`.

    Returns:
        A sentence for each folder; empty without any.
    """
    everything: Sequence[str | None] = [None]
    wanted = list(product(trainers or everything, configurations or everything, plans))
    return [
        f"{model.name} was never trained (there is no plans.json in it) and is left out"
        for model in _folders(results)
        if not model.has_started and any(_is_of(model, *names) for names in wanted)
    ]


def require_same_data(models: Sequence[TrainedModel], dataset: RawDataset) -> None:
    """Check that all models were trained on this dataset and its classes.

    Args:
        models: The models to compare.
        dataset: The raw dataset.

    Raises:
        DatasetError: A model was trained on another dataset, or on other classes.
    """
    for model in models:
        plans, dataset_json = (read_json(model.folder / name, DatasetError) for name in ("plans.json", "dataset.json"))
        if plans.get("dataset_name") != dataset.folder.name:
            raise DatasetError(f"{model.folder} was trained on {plans.get('dataset_name')}, not {dataset.folder.name}.")
        for key in ("labels", "regions_class_order", "file_ending"):
            if dataset_json.get(key) != dataset.dataset_json.get(key):
                raise DatasetError(
                    f"{model.folder} was trained with {key} {dataset_json.get(key)}; dataset.json of the dataset has "
                    f"{dataset.dataset_json.get(key)}. Train again, or leave the model out with -tr."
                )


def cross_validation(splits: Sequence[Split]) -> list[int]:
    """Find the folds that together validate each case once.

    These are the first ones, up to a fold that validates one of their cases again (the official validation part comes
    as an extra last fold).

    Args:
        splits: Of splits_final.json.

    Returns:
        Numbers of folds; empty without splits.
    """
    seen: set[str] = set()
    for index, split in enumerate(splits):
        if seen & set(split["val"]):
            return list(range(index))
        seen |= set(split["val"])
    return list(range(len(splits)))


def fold_of_cases(splits: Sequence[Split], folds: Sequence[int]) -> dict[str, int]:
    """Assign each validation case to the fold that validates it.

    Args:
        splits: Of splits_final.json.
        folds: Numbers of folds.

    Returns:
        Fold by case, sorted by case.

    Raises:
        SplitError: The splits lack a fold, or two of the folds validate a case.
    """
    missing = [str(fold) for fold in folds if not 0 <= fold < len(splits)]
    if missing:
        raise SplitError(f"The split has the folds 0 to {len(splits) - 1}; asked for: {format_names(missing)}.")
    fold_of: dict[str, int] = {}
    duplicates = []
    for fold in dict.fromkeys(folds):
        for case in splits[fold]["val"]:
            if case in fold_of:
                duplicates.append(f"{case} (folds {fold_of[case]} and {fold})")
            fold_of.setdefault(case, fold)
    if duplicates:
        disjoint = " ".join(map(str, cross_validation(splits)))
        raise SplitError(
            f"{len(duplicates)} case(s) are validated by two of the folds, and would count twice: "
            f"{format_names(duplicates)}. Choose folds without common cases with -f; "
            f"the cross-validation is -f {disjoint}."
        )
    return dict(sorted(fold_of.items()))


@dataclass(frozen=True)
class Validation:
    """Hold the cases of a comparison, each with the fold that validated it.

    `interpolated`: cases whose masks were interpolated, not annotated; they are not in `fold_of` and not measured.
    """

    dataset: RawDataset
    folds: tuple[int, ...]
    fold_of: Mapping[str, int]
    interpolated: frozenset[str] = frozenset()

    @classmethod
    def from_splits(cls, dataset: RawDataset, splits: Sequence[Split], folds: Sequence[int]) -> Validation:
        """Choose the cases that these folds validate.

        Args:
            dataset: The raw dataset.
            splits: Of splits_final.json.
            folds: Numbers of folds.

        Returns:
            The cases.

        Raises:
            SplitError: As `fold_of_cases`.
        """
        fold_of = fold_of_cases(splits, folds)
        interpolated = frozenset(case for case in fold_of if dataset.manifest.labels_of(case).interpolated)
        annotated = {case: fold for case, fold in fold_of.items() if case not in interpolated}
        return cls(dataset, tuple(dict.fromkeys(folds)), annotated, interpolated)

    def prediction(self, model: TrainedModel, case: str, ending: str | None = None) -> Path:
        """Locate the file that the model's fold wrote for a case.

        Args:
            model: The model.
            case: Of `fold_of`.
            ending: Another than that of the dataset, such as ".npz".

        Returns:
            The path, whether or not the file exists.
        """
        return model.validation(self.fold_of[case]) / f"{case}{ending or self.dataset.file_ending}"

    def require_predicted(self, models: Sequence[TrainedModel]) -> None:
        """Check that every fold was trained and every case predicted.

        Args:
            models: The models to compare.

        Raises:
            DatasetError: Names, for each model, folds not trained and cases without a prediction.
        """
        problems = [line for model in models for line in self._missing(model)]
        if problems:
            raise DatasetError("\n".join(problems))

    def _missing(self, model: TrainedModel) -> Iterator[str]:
        untrained = [fold for fold in self.folds if not model.fold(fold).is_dir()]
        if untrained:
            also_all = " (fold all does not count)" if model.fold("all").is_dir() else ""
            yield (
                f"{model.name}: not trained: fold {numbers(untrained)}{also_all}. Train: "
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
                f"{model.name}: {len(cases)} validation case(s) of fold {numbers(folds)} have no prediction: "
                f"{format_names(cases)}. Once the training has ended: "
                f"{model.validation_command(self.dataset.folder.name, folds)}"
            )
        stopped = [
            fold
            for fold in set(self.fold_of.values()) - set(untrained) - {self.fold_of[case] for case in cases}
            if not (model.validation(fold) / "summary.json").is_file()
        ]
        if stopped:
            yield (
                f"{model.name}: the validation of fold {numbers(stopped)} did not end (it has no summary.json), so "
                "predictions of two checkpoints may be mixed in it. Validate again: "
                f"{model.validation_command(self.dataset.folder.name, stopped)}"
            )

    def require_probabilities(self, models: Sequence[TrainedModel]) -> None:
        """Check that the probabilities that an ensemble averages were saved for every case.

        Args:
            models: The models to compare.

        Raises:
            PartialLabelError: Names, for each model, cases without them.
        """
        lines = []
        for model in models:
            # the .pkl beside the probabilities holds the geometry of the image
            cases = [
                case
                for case in self.fold_of
                if not all(self.prediction(model, case, ending).is_file() for ending in (".npz", ".pkl"))
            ]
            if cases:
                folds = {self.fold_of[case] for case in cases}
                lines.append(
                    f"{model.name}: the probabilities (.npz, .pkl) of {len(cases)} case(s) were not saved: "
                    f"{format_names(cases)}. Save them: "
                    f"{model.validation_command(self.dataset.folder.name, folds, ' --npz')}"
                )
        if lines:
            lines.append("Train with --npz from the start, or compare without ensembles: --disable-ensembling.")
            raise PartialLabelError("\n".join(lines))

    def describe_excluded(self, models: Sequence[TrainedModel]) -> list[str]:
        """Describe what is left out: cases that no fold validates, predictions that another split left behind.

        Args:
            models: The models to compare.

        Returns:
            A sentence each; empty where nothing is left out.
        """
        notes = []
        if self.interpolated:
            notes.append(
                f"{len(self.interpolated)} case(s) with interpolated masks, which are not annotated, do not count"
            )
        not_validated = set(self.dataset.label_files()) - set(self.fold_of) - self.interpolated
        if not_validated:
            notes.append(
                f"{len(not_validated)} training case(s) are validated by none of these folds: "
                f"{format_names(not_validated)}"
            )
        for model in models:
            for fold in self.folds:
                other = {case for case in self._predicted(model, fold) if self.fold_of.get(case) != fold}
                other -= self.interpolated
                if other:
                    notes.append(
                        f"{model.name}: {len(other)} prediction(s) of fold {fold} are not its cases: "
                        f"{format_names(other)}"
                    )
        return notes

    def _predicted(self, model: TrainedModel, fold: int) -> list[str]:
        ending = self.dataset.file_ending
        return [path.name.removesuffix(ending) for path in model.validation(fold).glob(f"[!.]*{ending}")]


def refuse_fold_all(models: Sequence[TrainedModel], dataset: RawDataset, folds: Sequence[int | str] | None) -> None:
    """Refuse to choose by the fold "all", which validates the cases that it trains on.

    Args:
        models: The models to compare; at least one.
        dataset: The raw dataset.
        folds: Those asked for; None: the cross-validation.

    Raises:
        DatasetError: "all" is asked for, or no model has another fold.
    """
    has_all = [model for model in models if model.fold("all").is_dir()]
    is_only_all = bool(has_all) and all(path.name == "fold_all" for m in models for path in m.folder.glob("fold_*"))
    if "all" not in (folds or ()) and not is_only_all:
        return
    model, name = (has_all or list(models))[0], dataset.folder.name
    raise DatasetError(
        "Fold all trains on the very cases that it validates, so nothing can be chosen by it. Train the folds of the "
        f"cross-validation: {model.command(name, [0])} (then 1, 2, ...). What fold all has learned predicts without a "
        f"choice: nnUNetv2_predict -d {name} -i INPUT_FOLDER -o OUTPUT_FOLDER -f all -tr {model.trainer} "
        f"-c {model.configuration} -p {model.plans}"
    )


def validated_cases(dataset: RawDataset, preprocessed: Path, folds: Sequence[int] | None) -> Validation:
    """Choose the cases that the folds validate, by the split that the trainings used.

    Args:
        dataset: The raw dataset.
        preprocessed: The dataset's folder in nnUNet_preprocessed.
        folds: Numbers of folds; None: the whole cross-validation.

    Returns:
        The cases.

    Raises:
        SplitError: The split is missing, leaks a patient, does not fit the dataset or validates a case twice.
        ManifestError: The raw and the preprocessed manifest differ.
    """
    splits = read_splits(preprocessed)
    check_splits(splits, read_manifest(preprocessed, dataset.folder), list(dataset.label_files()))
    return Validation.from_splits(dataset, splits, cross_validation(splits) if folds is None else folds)


@dataclass(frozen=True)
class Candidate:
    """Describe one model, or two whose probabilities are averaged; its predictions are in `folder`."""

    name: str
    folder: Path
    members: tuple[TrainedModel, ...]

    def files(self, validation: Validation) -> dict[str, Path]:
        """Locate the predictions.

        Args:
            validation: The cases.

        Returns:
            Path by case.
        """
        return {case: self.folder / f"{case}{validation.dataset.file_ending}" for case in validation.fold_of}


def single_candidate(model: TrainedModel, folds: Sequence[int]) -> Candidate:
    """Make a candidate of one model and its folds; the folder is named as nnU-Net names it.

    Args:
        model: The model.
        folds: Numbers of folds.

    Returns:
        The candidate.
    """
    return Candidate(model.name, model.folder / f"crossval_results_folds_{_joined(folds)}", (model,))


def ensemble_candidate(first: TrainedModel, second: TrainedModel, folds: Sequence[int]) -> Candidate:
    """Make a candidate of two models; name and folder are those of nnU-Net.

    Args:
        first: One model.
        second: Another of the same dataset.
        folds: Numbers of folds.

    Returns:
        The candidate.
    """
    name = f"ensemble___{first.name}___{second.name}___{_joined(folds)}"
    return Candidate(name, first.folder.parent / "ensembles" / name, (first, second))


def write_predictions(candidate: Candidate, validation: Validation, processes: int, overwrite: bool) -> None:
    """Create the folder of a candidate: predictions, plans.json, dataset.json.

    Args:
        candidate: One model or an ensemble.
        validation: The cases.
        processes: How many cases to average at a time.
        overwrite: Without it, ensembled predictions that exist are kept.

    Raises:
        PartialLabelError: Probabilities cannot be averaged.
    """
    if candidate.folder.exists() and (overwrite or len(candidate.members) == 1):
        shutil.rmtree(candidate.folder)
    candidate.folder.mkdir(parents=True, exist_ok=True)
    for name in ("plans.json", "dataset.json"):
        copy_file(candidate.members[0].folder / name, candidate.folder / name)
    if len(candidate.members) == 1:
        for case, target in candidate.files(validation).items():
            _copy_prediction(validation.prediction(candidate.members[0], case), target)
    else:
        _average(candidate, validation, processes)


@lru_cache(maxsize=2)
def nnunet_tools(folder: Path) -> tuple[Any, Any]:
    """Load nnU-Net's reader and writer of images, and its label manager.

    Args:
        folder: With plans.json and dataset.json.

    Returns:
        Both.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_json(folder / "plans.json"))
    return plans.image_reader_writer_class(), plans.get_label_manager(read_json(folder / "dataset.json"))


def _folders(results: Path) -> list[TrainedModel]:
    folders = sorted(path for path in results.iterdir() if path.is_dir()) if results.is_dir() else []
    return [TrainedModel(path, *path.name.split("__")) for path in folders if path.name.count("__") == 2]


def _is_of(model: TrainedModel, trainer: str | None, configuration: str | None, plans: str) -> bool:
    return trainer in (None, model.trainer) and configuration in (None, model.configuration) and plans == model.plans


def numbers(folds: Collection[int | str]) -> str:
    """Format the numbers of folds.

    Args:
        folds: In any order; "all" comes last.

    Returns:
        Such as "0, 1".
    """
    return ", ".join(str(fold) for fold in sorted(folds, key=lambda fold: (isinstance(fold, str), fold)))


def _joined(folds: Sequence[int]) -> str:
    return "_".join(str(fold) for fold in folds)


def _copy_prediction(source: Path, target: Path) -> None:
    """Copy a prediction, and the CASE.json in which nnU-Net keeps the spacing of a TIFF volume.

    No hard link: a later validation writes into the same file.
    """
    copy_file(source, target)
    if source.suffix in TIFF and source.with_suffix(".json").is_file():
        copy_file(source.with_suffix(".json"), target.with_suffix(".json"))


@dataclass(frozen=True)
class _Average:
    """Describe the averaging of one case: probabilities of each member in, labels out."""

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
    problems = [problem for problem in parallel_map(_average_case, tasks, processes, "ensembling") if problem]
    if problems:
        raise PartialLabelError("\n".join(first_lines(problems, 20)))


def _average_case(task: _Average) -> str | None:
    """Average by nnU-Net's own function.

    Returns:
        The problem with the files; None without one.
    """
    from nnunetv2.ensembling.ensemble import merge_files

    tools = nnunet_tools(task.target.parent)
    stem = str(task.target)[: -len(task.file_ending)]
    try:
        merge_files([str(path) for path in task.probabilities], stem, task.file_ending, *tools)
    except Exception as problem:  # whatever NumPy and nnU-Net raise for a file that is cut off, or of another shape
        task.target.unlink(missing_ok=True)
        paths = " and ".join(str(path) for path in task.probabilities)
        return f"{paths} cannot be averaged: {problem}. Save them again: nnUNetv2_train ... --val --npz."
    return None
