"""Which trained models compete: the folders that nnU-Net made for a data set, each with its folds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import some


@dataclass(frozen=True)
class Trained:
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
) -> list[Trained]:
    """The trained models of a data set (`results`: its results folder), in the order of the arguments.

    None stands for every trainer, or configuration, that was trained; the folder of a training that was refused at its
    start is left out. Raises DatasetError where one that is named was not trained.
    """
    there = [model for model in _folders(results) if model.begun]
    models: dict[Trained, None] = {}
    everything: Sequence[str | None] = [None]
    for trainer, configuration, plan in product(trainers or everything, configurations or everything, plans):
        found = [model for model in there if _is_of(model, trainer, configuration, plan)]
        if not found:
            wanted = f"{trainer or 'any trainer'}, plans {plan}, {configuration or 'any configuration'}"
            raise DatasetError(
                f"There is no trained model of {wanted} in {results}. There: {some([model.name for model in there])}. "
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


def _folders(results: Path) -> list[Trained]:
    folders = sorted(path for path in results.iterdir() if path.is_dir()) if results.is_dir() else []
    return [Trained(path, *path.name.split("__")) for path in folders if path.name.count("__") == 2]


def _is_of(model: Trained, trainer: str | None, configuration: str | None, plans: str) -> bool:
    return trainer in (None, model.trainer) and configuration in (None, model.configuration) and plans == model.plans


def require_same_data(models: Sequence[Trained], dataset: RawDataset) -> None:
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
