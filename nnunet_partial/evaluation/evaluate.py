"""All cases of a reference folder against the folders of one or several models.

What predictions are compared with: the label files of a data set, and who annotated what in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_partial.biomarkers.definitions import patient_key
from nnunet_partial.biomarkers.measure import CaseMeasurements, view_and_phase_of
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.evaluation.case import Task, evaluate_case
from nnunet_partial.evaluation.records import PredictedSize, Record
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest, class_names
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names

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
            f"nor by itself. Folders with labels there: {format_names(there)}. Give one of them, or a path, with --ref."
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


Predictions = Mapping[str, Mapping[str, Path]]


@dataclass
class Evaluation:
    """Everything that was measured, and everything that was wrong (a sentence each).

    `labels`: what the manifest says of each case of the reference, also of those without a prediction; `hearts`: those
    that biomarkers are computed from.
    """

    models: tuple[str, ...]
    classes: tuple[str, ...]
    records: list[Record] = field(default_factory=list)
    sizes: list[PredictedSize] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    hearts: list[CaseMeasurements] = field(default_factory=list)
    labels: Mapping[str, CaseLabels] = field(default_factory=dict)


def evaluate_folders(
    reference: Reference,
    predictions: Predictions,
    tolerance: float,
    processes: int = 1,
    strict: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Measures every known structure of every case in the predictions of every model.

    `predictions`: file by model and case; `tolerance`: of the surface Dice, in mm (in pixels where the pixel size is
    not known). What cannot be evaluated is named in `findings` and left out; with `strict` the first raises
    PartialLabelError instead, as does a tolerance below 0 and a folder in which nothing at all can be evaluated.
    """
    if not 0 <= tolerance < float("inf"):
        raise PartialLabelError(f"The tolerance is {tolerance} mm; expected a number from 0.")
    named = {case: labels for case in reference.files if (labels := reference.manifest.find(case)) is not None}
    done = Evaluation(tuple(predictions), reference.classes, labels=named)
    for finding in _pairing(reference, predictions):
        _note(done, finding, strict)
    tasks = _tasks(reference, predictions, tolerance)
    for result in parallel_map(evaluate_case, tasks, processes, "evaluating" if progress else None):
        for finding in result.findings:
            _note(done, finding, strict)
        done.records += result.records
        done.sizes += result.sizes
        done.hearts += [] if result.heart is None else [result.heart]
    if not done.records:
        reasons = [_nothing_known(reference)] if done.sizes else []
        raise PartialLabelError("Nothing can be evaluated.\n" + "\n".join([*reasons, *done.findings[:20]]))
    return done


def _note(done: Evaluation, finding: str, strict: bool) -> None:
    if strict:
        raise PartialLabelError(f"{finding} (--strict: stopped)")
    done.findings.append(finding)


def _nothing_known(reference: Reference) -> str:
    return (
        f"No case that was predicted knows any of {', '.join(reference.classes)}: {reference.manifest_file} declares "
        "them neither annotated nor absent there, so predictions can be compared with nothing. If somebody drew them, "
        "say so in that file, under 'annotated'."
    )


def _tasks(reference: Reference, predictions: Predictions, tolerance: float) -> list[Task]:
    """A task per case with a prediction, and per apical view without one of a patient of whom another one has one:
    biomarkers need all views of a reference."""
    tasks = {}
    for case, path in reference.files.items():
        labels = reference.manifest.find(case)
        here = {model: files[case] for model, files in predictions.items() if case in files}
        if labels is not None and (here or view_and_phase_of(labels)):
            tasks[case] = Task(case, path, here, labels, reference.classes, reference.ignore_label, tolerance)
    seen = {patient_key(case, t.labels) for case, t in tasks.items() if t.predictions and view_and_phase_of(t.labels)}
    return [task for case, task in tasks.items() if task.predictions or patient_key(case, task.labels) in seen]


def _pairing(reference: Reference, predictions: Predictions) -> list[str]:
    """Predictions without a reference, references without a prediction, and cases that no manifest entry names."""
    found = []
    cases = set(reference.files)
    unnamed = {case for case in cases if reference.manifest.find(case) is None}
    if unnamed:
        found.append(f"{len(unnamed)} case(s) have no entry in {reference.manifest_file.name}: {format_names(unnamed)}")
    strange = {name for case in cases - unnamed for name in reference.manifest.labels_of(case).annotated}
    strange -= set(reference.classes)
    if strange:
        raise PartialLabelError(
            f"{reference.manifest_file} declares {format_names(strange)} annotated; dataset.json has "
            f"{', '.join(reference.classes)}. `nnunet_partial check` tells where."
        )
    for model, files in predictions.items():
        missing, extra = cases - set(files), set(files) - cases - reference.interpolated
        if missing:
            found.append(f"{model}: {len(missing)} of {len(cases)} predictions are missing: {format_names(missing)}")
        if extra:
            found.append(f"{model}: {len(extra)} prediction(s) without a reference: {format_names(extra)}")
    return found
