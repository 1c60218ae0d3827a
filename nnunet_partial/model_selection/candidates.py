"""Which trained models compete: the folders that nnU-Net made for a data set, each with its folds.

Whose prediction of a case counts: that of the fold which validated it, and so did not train on it.

One folder per candidate: the predictions of all folds of a model together, or the ensemble of two models.

Which fold validated which case, read from a split; a case must count once.
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
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME, Split, check_splits
from nnunet_partial.errors import DatasetError, PartialLabelError, SplitError
from nnunet_partial.utils.files import atomic_path, read_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names


@dataclass(frozen=True)
class TrainedModel:
    """A trained model: the folder TRAINER__PLANS__CONFIGURATION that holds its folds."""

    folder: Path
    trainer: str
    plans: str
    configuration: str

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def begun(self) -> bool:
        """Whether a training got as far as its first epoch: nnU-Net writes its plans then."""
        return (self.folder / "plans.json").is_file()

    def validation(self, fold: int) -> Path:
        return self.folder / f"fold_{fold}" / "validation"

    def command(self, dataset: str, folds: Collection[int], more: str = "") -> str:
        """What to type so that folds are trained, or validated."""
        fold = str(min(folds)) if len(folds) == 1 else "FOLD"
        return f"nnUNetv2_train {dataset} {self.configuration} {fold} -tr {self.trainer} -p {self.plans}{more}"


def find_models(
    results: Path, trainers: Sequence[str] | None, configurations: Sequence[str] | None, plans: Sequence[str]
) -> list[TrainedModel]:
    """The trained models of a data set (`results`: its results folder), in the order of the arguments.

    None stands for every trainer, or configuration, that was trained; the folder of a training that was refused at its
    start is left out. Raises DatasetError where one that is named was not trained.
    """
    there = [model for model in _folders(results) if model.begun]
    models: dict[TrainedModel, None] = {}
    everything: Sequence[str | None] = [None]
    for trainer, configuration, plan in product(trainers or everything, configurations or everything, plans):
        found = [model for model in there if _is_of(model, trainer, configuration, plan)]
        if not found:
            wanted = f"{trainer or 'any trainer'}, plans {plan}, {configuration or 'any configuration'}"
            raise DatasetError(
                f"There is no trained model of {wanted} in {results}. There: "
                f"{format_names([model.name for model in there])}. "
                "Train it, or choose others with -tr, -p and -c."
            )
        models.update(dict.fromkeys(found))
    return list(models)


def never_trained(
    results: Path, trainers: Sequence[str] | None, configurations: Sequence[str] | None, plans: Sequence[str]
) -> list[str]:
    """A sentence for each folder that `find_models` leaves out, as no training in it ever began."""
    everything: Sequence[str | None] = [None]
    wanted = list(product(trainers or everything, configurations or everything, plans))
    return [
        f"{model.name} was never trained (there is no plans.json in it) and is left out"
        for model in _folders(results)
        if not model.begun and any(_is_of(model, *names) for names in wanted)
    ]


def _folders(results: Path) -> list[TrainedModel]:
    folders = sorted(path for path in results.iterdir() if path.is_dir()) if results.is_dir() else []
    return [TrainedModel(path, *path.name.split("__")) for path in folders if path.name.count("__") == 2]


def _is_of(model: TrainedModel, trainer: str | None, configuration: str | None, plans: str) -> bool:
    return trainer in (None, model.trainer) and configuration in (None, model.configuration) and plans == model.plans


def require_same_data(models: Sequence[TrainedModel], dataset: RawDataset) -> None:
    """Raises DatasetError for a model that was trained on another data set, or on other classes."""
    for model in models:
        plans, trained = (read_json(model.folder / name, DatasetError) for name in ("plans.json", "dataset.json"))
        if plans.get("dataset_name") != dataset.folder.name:
            raise DatasetError(f"{model.folder} was trained on {plans.get('dataset_name')}, not {dataset.folder.name}.")
        for key in ("labels", "file_ending"):
            if trained.get(key) != dataset.dataset_json[key]:
                raise DatasetError(
                    f"{model.folder} was trained with {key} {trained.get(key)}; dataset.json of the data set has "
                    f"{dataset.dataset_json[key]}. Train again, or leave the model out with -tr."
                )


def cross_validation(splits: Sequence[Split]) -> list[int]:
    """The folds that validate each case once: the first ones, up to a fold that validates one of their cases again (the
    official validation part comes as an extra last fold)."""
    seen: set[str] = set()
    for index, split in enumerate(splits):
        if seen & set(split["val"]):
            return list(range(index))
        seen |= set(split["val"])
    return list(range(len(splits)))


def fold_of_cases(splits: Sequence[Split], folds: Sequence[int]) -> dict[str, int]:
    """The fold that validates each case, sorted by case. Raises SplitError for a fold that the split does not have, and
    for a case that two of the folds validate."""
    strange = [str(fold) for fold in folds if not 0 <= fold < len(splits)]
    if strange:
        raise SplitError(f"The split has the folds 0 to {len(splits) - 1}; asked for: {format_names(strange)}.")
    fold_of: dict[str, int] = {}
    twice = []
    for fold in dict.fromkeys(folds):
        for case in splits[fold]["val"]:
            if case in fold_of:
                twice.append(f"{case} (folds {fold_of[case]} and {fold})")
            fold_of.setdefault(case, fold)
    if twice:
        apart = " ".join(map(str, cross_validation(splits)))
        raise SplitError(
            f"{len(twice)} case(s) are validated by two of the folds, and would count twice: "
            f"{format_names(twice)}. Choose "
            f"folds that share none with -f; the cross-validation is -f {apart}."
        )
    return dict(sorted(fold_of.items()))


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

    def prediction(self, model: TrainedModel, case: str, ending: str | None = None) -> Path:
        """The file that the model's fold wrote for the case; `ending`: another than the data set's, such as '.npz'."""
        return model.validation(self.fold_of[case]) / f"{case}{ending or self.dataset.file_ending}"

    def require_predicted(self, models: Sequence[TrainedModel]) -> None:
        """Raises DatasetError that names, for each model, the folds not trained and the cases without a prediction."""
        found = [line for model in models for line in self._missing(model)]
        if found:
            raise DatasetError("\n".join(found))

    def _missing(self, model: TrainedModel) -> Iterator[str]:
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
                f"{format_names(cases)}. Once the training has ended: "
                f"{model.command(self.dataset.folder.name, folds, ' --val')}"
            )

    def require_probabilities(self, models: Sequence[TrainedModel]) -> None:
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
                    f"{format_names(cases)}. Save them: "
                    f"{model.command(self.dataset.folder.name, folds, ' --val --npz')}"
                )
        if lines:
            lines.append("Train with --npz from the start, or compare without ensembles: --disable-ensembling.")
            raise PartialLabelError("\n".join(lines))

    def not_counted(self, models: Sequence[TrainedModel]) -> list[str]:
        """A sentence for what is left out: cases that no fold validates, predictions that another split left behind."""
        notes = []
        if self.interpolated:
            notes.append(f"{len(self.interpolated)} case(s) with interpolated masks, which nobody drew, do not count")
        forgotten = set(self.dataset.label_files()) - set(self.fold_of) - self.interpolated
        if forgotten:
            notes.append(
                f"{len(forgotten)} training case(s) are validated by none of these folds: {format_names(forgotten)}"
            )
        for model in models:
            for fold in self.folds:
                left = {case for case in self._predicted(model, fold) if self.fold_of.get(case) != fold}
                left -= self.interpolated
                if left:
                    notes.append(
                        f"{model.name}: {len(left)} prediction(s) of fold {fold} are not its cases: "
                        f"{format_names(left)}"
                    )
        return notes

    def _predicted(self, model: TrainedModel, fold: int) -> list[str]:
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


@dataclass(frozen=True)
class Candidate:
    """One model, or two whose probabilities are averaged; its predictions lie in `folder`."""

    name: str
    folder: Path
    members: tuple[TrainedModel, ...]

    def files(self, validation: Validation) -> dict[str, Path]:
        """Prediction by case."""
        return {case: self.folder / f"{case}{validation.dataset.file_ending}" for case in validation.fold_of}


def together(model: TrainedModel, folds: Sequence[int]) -> Candidate:
    """A model with its folds; the folder is called as nnU-Net calls it."""
    return Candidate(model.name, model.folder / f"crossval_results_folds_{_joined(folds)}", (model,))


def ensemble_of(first: TrainedModel, second: TrainedModel, folds: Sequence[int]) -> Candidate:
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
    problems = [problem for problem in parallel_map(_average_case, tasks, processes, "ensembling") if problem]
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
