"""What predictions are compared with: the label files of a data set, and who annotated what in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, class_names
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import some

#: A scenario hides labels; the complete ones lie in this folder, with a manifest of their own.
FULL_FOLDER, FULL_MANIFEST = "labelsTr_full", "partial_labels_full.json"


@dataclass(frozen=True)
class Reference:
    """Label files by case identifier, and the manifest that says what each of them knows.

    `interpolated`: cases whose masks nobody drew, which are not among the files: nothing is evaluated on them.
    """

    folder: Path
    files: Mapping[str, Path]
    manifest: Manifest
    manifest_file: Path
    classes: tuple[str, ...]
    ignore_label: int | None
    file_ending: str
    interpolated: frozenset[str] = frozenset()


def find_reference(dataset_folder: Path, reference: str = "labelsTs") -> Reference:
    """The label files in a folder of the data set (labelsTs, labelsTr, labelsTr_full), or in any folder.

    The manifest is the one beside the label folder: `partial_labels_full.json` for labelsTr_full where it exists, else
    `partial_labels.json`, else that of the data set. Raises DatasetError where there is no label file, or where the
    folder belongs to a data set with other classes.
    """
    dataset = RawDataset(dataset_folder)
    folder = dataset_folder / reference
    if not folder.is_dir():
        folder = Path(reference)
    files = _label_files(folder, dataset.file_ending) if folder.is_dir() else {}
    if not files:
        there = [path.name for path in dataset_folder.glob("labels*") if path.is_dir()]
        raise DatasetError(
            f"There is no label file (*{dataset.file_ending}) in {reference}, neither as a folder of {dataset_folder} "
            f"nor by itself. Folders with labels there: {some(there)}. Give one of them, or a path, with --ref."
        )
    home = folder.resolve().parent
    if (home / "dataset.json").exists() and RawDataset(home).classes != dataset.classes:
        raise DatasetError(
            f"{home} has the classes {', '.join(RawDataset(home).classes)}; the data set that the predictions belong "
            f"to has {', '.join(dataset.classes)}. Both must number them alike."
        )
    manifest_file = _manifest_file(folder.name, home, dataset_folder)
    manifest = Manifest.read(manifest_file)
    interpolated = frozenset(case for case in files if (labels := manifest.find(case)) and labels.interpolated)
    return Reference(
        folder,
        {case: path for case, path in files.items() if case not in interpolated},
        manifest,
        manifest_file,
        dataset.classes,
        dataset.ignore_label,
        dataset.file_ending,
        interpolated,
    )


def find_predictions(given: list[str], file_ending: str) -> dict[str, dict[str, Path]]:
    """Prediction files by model and case, from FOLDER or NAME=FOLDER; without a name, the folder's own.

    Raises PartialLabelError for a folder that is missing or has no prediction, a name twice, or one that is no plain
    file name.
    """
    models: dict[str, dict[str, Path]] = {}
    for text in given:
        name, folder = _named(text)
        if not is_plain(name):
            raise PartialLabelError(
                f"--pred {text}: the name is {name!r}; expected a plain name, as in marginal=FOLDER."
            )
        if name in models:
            raise PartialLabelError(f"--pred: two models are called {name!r}. Give each a name: NAME=FOLDER.")
        if not folder.is_dir():
            raise PartialLabelError(f"--pred {text}: the folder {folder} does not exist.")
        models[name] = _label_files(folder, file_ending)
        if not models[name]:
            raise PartialLabelError(f"--pred {text}: there is no prediction (*{file_ending}) in {folder}.")
    return models


def is_plain(name: str) -> bool:
    """Whether a model's name can be that of a folder."""
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def require_same_classes(models: Mapping[str, Mapping[str, Path]], classes: tuple[str, ...]) -> None:
    """Raises PartialLabelError for predictions of a network whose values mean other classes than the reference's.

    nnU-Net writes the dataset.json of the network beside its predictions; where there is none, nothing is known.
    """
    for model, files in models.items():
        file = next(iter(files.values())).parent / "dataset.json"
        about = read_json(file) if file.exists() else {}
        theirs = class_names(about) if "labels" in about else classes
        if theirs != classes:
            raise PartialLabelError(
                f"{model}: the network was trained on {', '.join(theirs)} (see {file}); the reference has "
                f"{', '.join(classes)}. The same value would mean different structures; nothing was evaluated."
            )


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if equals and not Path(text).is_dir():
        return name, Path(folder).expanduser()
    path = Path(text).expanduser()
    return path.resolve().name, path


def _label_files(folder: Path, file_ending: str) -> dict[str, Path]:
    files = sorted(p for p in folder.iterdir() if p.name.endswith(file_ending) and not p.name.startswith("."))
    return {path.name[: -len(file_ending)]: path for path in files}


def _manifest_file(label_folder: str, home: Path, dataset_folder: Path) -> Path:
    full = [home / FULL_MANIFEST] if label_folder == FULL_FOLDER else []
    candidates = [*full, home / MANIFEST_NAME]
    return next((path for path in candidates if path.exists()), dataset_folder / MANIFEST_NAME)
