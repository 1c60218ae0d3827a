"""Evaluate all cases of a reference folder for one or several models.

A reference is a folder of label files of a dataset, with the manifest that says which classes each was annotated for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_partial.biomarkers.definitions import patient_key
from nnunet_partial.biomarkers.measure import CaseMeasurements, view_and_phase_of
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import nameless_warning
from nnunet_partial.dataset_json import metric_keys, region_values, structure_names
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.evaluation.calibration import CaseCalibration
from nnunet_partial.evaluation.case import Task, evaluate_case
from nnunet_partial.evaluation.independence import leaks, require_comparable, seen_predictions
from nnunet_partial.evaluation.records import PredictedSize, Record
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_SUBSET, MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_names

Predictions = Mapping[str, Mapping[str, Path]]


@dataclass(frozen=True)
class Reference:
    """Hold label files by case identifier, and the manifest that says what each of them is annotated for.

    `interpolated`: cases whose masks were interpolated, not annotated. They are not among the files and not evaluated.
    `keys`: of the classes, in the metrics of summary.json. `regions`: stored values of each class where these are
    regions; else empty. `region_order`: which of its values a prediction stores for each.
    """

    folder: Path
    files: Mapping[str, Path]
    manifest: Manifest
    manifest_file: Path
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    ignore_label: int | None
    file_ending: str
    interpolated: frozenset[str] = frozenset()
    regions: tuple[tuple[int, ...], ...] = ()
    region_order: tuple[int, ...] = ()


def find_reference(dataset_folder: Path, reference: str = "labelsTs") -> Reference:
    """Find the label files to compare with, and their manifest.

    The manifest is the one beside the label folder: `partial_labels_full.json` for labelsTr_full where it exists, else
    `partial_labels.json`, else that of the dataset.

    Args:
        dataset_folder: The dataset that the predictions belong to.
        reference: A folder of it (labelsTs, labelsTr, labelsTr_full), or the path of any folder.

    Returns:
        The reference; cases with interpolated masks are listed apart.

    Raises:
        DatasetError: There is no label file, or the folder belongs to a dataset with other classes.
        ManifestError: The manifest is missing or invalid.
    """
    dataset = RawDataset(dataset_folder)
    folder = dataset_folder / reference
    if not folder.is_dir():
        folder = Path(reference)
    if reference == "labelsTr" and dataset.listed is not None:
        folder, files = dataset_folder / reference, dataset.label_files()
    else:
        files = _label_files(folder, dataset.file_ending) if folder.is_dir() else {}
    if not files:
        folders = [path.name for path in dataset_folder.glob("labels*") if path.is_dir()]
        raise DatasetError(
            f"There is no label file (*{dataset.file_ending}) in {reference}, neither as a folder of {dataset_folder} "
            f"nor as a path. Folders with labels: {format_names(folders)}. Give one of them, or a path, with --ref."
        )
    home = folder.resolve().parent
    other = RawDataset(home) if (home / "dataset.json").exists() else dataset
    if (other.structures, other.regions) != (dataset.structures, dataset.regions):
        raise DatasetError(
            f"{home} has the classes {', '.join(other.structures)}; the dataset that the predictions belong "
            f"to has {', '.join(dataset.structures)}. Both must have the same classes in the same order, and of the "
            "same values."
        )
    manifest_file = _manifest_file(folder.name, home, dataset_folder)
    manifest = Manifest.read(manifest_file)
    interpolated = frozenset(case for case, labels in manifest.entries_of(files).items() if labels.interpolated)
    return Reference(
        folder,
        {case: path for case, path in files.items() if case not in interpolated},
        manifest,
        manifest_file,
        dataset.structures,
        metric_keys(dataset.dataset_json),
        dataset.ignore_label,
        dataset.file_ending,
        interpolated,
        dataset.regions,
        tuple(dataset.dataset_json["regions_class_order"]) if dataset.regions else (),
    )


def find_predictions(given: list[str], file_ending: str) -> dict[str, dict[str, Path]]:
    """Find the prediction files of each model.

    Args:
        given: FOLDER or NAME=FOLDER for each model; without a name, that of the folder.
        file_ending: Of the label files, such as ".nii.gz".

    Returns:
        File by model and case.

    Raises:
        PartialLabelError: A folder is missing or has no prediction, two models have one name, or a name is no plain
            name.
    """
    models: dict[str, dict[str, Path]] = {}
    for name, folder in named_paths(given).items():
        if not folder.is_dir():
            raise PartialLabelError(f"--pred {name}: the folder {folder} does not exist.")
        models[name] = _label_files(folder, file_ending)
        if not models[name]:
            raise PartialLabelError(f"--pred {name}: there is no prediction (*{file_ending}) in {folder}.")
    return models


def named_paths(given: Sequence[str]) -> dict[str, Path]:
    """Read what `--pred` was given.

    Args:
        given: PATH or NAME=PATH for each model; without a name, that of the folder, or of the folder of the file.

    Returns:
        Path by model.

    Raises:
        PartialLabelError: Two models have one name, or a name is no plain name.
    """
    models: dict[str, Path] = {}
    for text in given:
        name, path = _named(text)
        if not is_plain(name):
            raise PartialLabelError(
                f"--pred {text}: the name is {name!r}; expected a plain name, as in marginal=FOLDER."
            )
        if name in models:
            raise PartialLabelError(f"--pred: two models are called {name!r}. Give each a name: NAME=FOLDER.")
        models[name] = path
    return models


def is_plain(name: str) -> bool:
    """Check whether the name of a model can be that of a folder.

    Args:
        name: Of the model.

    Returns:
        False for an empty name, for one that is, or holds, a path, and on Windows for what it allows in no name.
    """
    forbidden = '/\\<>:"|?*' if os.name == "nt" else "/\\"
    return name not in ("", ".", "..") and not set(name) & set(forbidden)


def require_same_classes(
    models: Mapping[str, Mapping[str, Path]], classes: tuple[str, ...], regions: tuple[tuple[int, ...], ...] = ()
) -> None:
    """Check that each model was trained on the classes of the reference, so that label values mean the same.

    nnU-Net writes the dataset.json of the network beside its predictions; of a validation it is in the folder of the
    model. Without that file nothing can be checked.

    Args:
        models: File by model and case.
        classes: Of the reference.
        regions: Stored values of each class of the reference where these are regions; else empty.

    Raises:
        PartialLabelError: A network was trained on other classes, or on the same in another order.
    """
    for model, files in models.items():
        folder = next(iter(files.values())).parent
        around = [parent for parent in folder.resolve().parents[:2] if (parent / "plans.json").is_file()]
        found = (parent / "dataset.json" for parent in (folder, *around))
        file = next((file for file in found if file.exists()), folder / "dataset.json")
        content = read_json(file) if file.exists() else {}
        trained_on = structure_names(content) if "labels" in content else classes
        of_regions = region_values(content) if "labels" in content else regions
        if (trained_on, of_regions) != (classes, regions):
            raise PartialLabelError(
                f"{model}: the network was trained on {', '.join(trained_on)} (see {file}); the reference has "
                f"{', '.join(classes)}{', of other values' if trained_on == classes else ''}. The same value would "
                "mean different structures; nothing was evaluated."
            )


@dataclass
class Evaluation:
    """Hold everything that was measured, and every problem (`findings`, a sentence each).

    `labels`: the manifest's entry of each case of the reference, also of those without a prediction. `hearts`: the
    measurements that biomarkers are computed from. `not_independent`: by model, the number of cases that a model behind
    it has seen, by its pseudo-labels or as its start; models without any are left out. `cautions`: where a model may
    have been trained on the cases, and which cases name no patient, a sentence each.
    """

    models: tuple[str, ...]
    classes: tuple[str, ...]
    records: list[Record] = field(default_factory=list)
    sizes: list[PredictedSize] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    hearts: list[CaseMeasurements] = field(default_factory=list)
    labels: Mapping[str, CaseLabels] = field(default_factory=dict)
    calibration: list[CaseCalibration] = field(default_factory=list)
    not_independent: Mapping[str, int] = field(default_factory=dict)
    cautions: list[str] = field(default_factory=list)


def evaluate_folders(
    reference: Reference,
    predictions: Predictions,
    tolerance: float,
    processes: int = 1,
    strict: bool = False,
    progress: bool = False,
    probabilities: Mapping[str, str] | None = None,
    seen: Mapping[str, list[str]] | None = None,
) -> Evaluation:
    """Measure every annotated class of every case in the predictions of every model.

    What cannot be evaluated is named in `findings` and left out.

    Args:
        reference: What to compare with.
        predictions: Predicted file by model and case.
        tolerance: Of the surface Dice, at least 0, in mm (in pixels where the spacing is not known).
        processes: How many cases to evaluate at a time.
        strict: Raise for the first problem instead.
        progress: Show a progress bar.
        probabilities: Of what kind those beside the predictions are, by model, to measure their calibration; None: do
            not read them.
        seen: By model, the cases that a model behind it has seen; None: as the folders of the predictions tell.

    Returns:
        What was measured; never without a record.

    Raises:
        PartialLabelError: The tolerance is below 0, nothing can be evaluated, the manifest names a class that
            dataset.json does not have, models would be ranked beside others on cases that models behind them
            saw, or with `strict` something cannot be evaluated.
    """
    if not 0 <= tolerance < float("inf"):
        raise PartialLabelError(f"The tolerance is {tolerance} mm; expected a number from 0.")
    named = reference.manifest.entries_of(reference.files)
    counted = {model: {case: files[case] for case in files if case in named} for model, files in predictions.items()}
    if seen is None:
        seen = seen_predictions(counted, reference.manifest, reference.folder.name == "labelsTs")
    require_comparable(seen)
    evaluation = Evaluation(
        tuple(predictions),
        reference.classes,
        labels=named,
        not_independent={model: len(cases) for model, cases in seen.items() if cases},
        cautions=[
            *leaks(reference.folder, reference.manifest, counted),
            *nameless_warning({case: named[case] for case in named if any(case in of for of in counted.values())}),
        ],
    )
    for finding in _pairing_problems(reference, predictions):
        _add_finding(evaluation, finding, strict)
    tasks = _tasks(reference, predictions, tolerance, probabilities or {})
    for result in parallel_map(evaluate_case, tasks, processes, "evaluating" if progress else None):
        for finding in result.findings:
            _add_finding(evaluation, finding, strict)
        evaluation.records += result.records
        evaluation.sizes += result.sizes
        evaluation.calibration += result.calibration
        evaluation.hearts += [] if result.heart is None else [result.heart]
    if not evaluation.records:
        reasons = [_nothing_annotated(reference)] if evaluation.sizes else []
        raise PartialLabelError(
            "Nothing can be evaluated.\n" + "\n".join([*reasons, *first_lines(evaluation.findings, 20)])
        )
    return evaluation


def _named(text: str) -> tuple[str, Path]:
    name, equals, path_text = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(path_text).expanduser()
    path = Path(text).expanduser()
    return (path.resolve().parent if path.is_file() else path.resolve()).name, path


def _label_files(folder: Path, file_ending: str) -> dict[str, Path]:
    files = sorted(p for p in folder.iterdir() if p.name.endswith(file_ending) and not p.name.startswith("."))
    return {path.name[: -len(file_ending)]: path for path in files}


def _manifest_file(label_folder: str, home: Path, dataset_folder: Path) -> Path:
    # a scenario hides labels; the complete ones have a manifest of their own
    full = [home / FULL_MANIFEST_NAME] if label_folder == f"labels{FULL_SUBSET}" else []
    candidates = [*full, home / MANIFEST_NAME]
    return next((path for path in candidates if path.exists()), dataset_folder / MANIFEST_NAME)


def _add_finding(evaluation: Evaluation, finding: str, strict: bool) -> None:
    if strict:
        raise PartialLabelError(f"{finding} (--strict: stopped)")
    evaluation.findings.append(finding)


def _nothing_annotated(reference: Reference) -> str:
    return (
        f"No case with a prediction is annotated for any of {', '.join(reference.classes)}: {reference.manifest_file} "
        "lists them neither as annotated nor as absent there, so there is nothing to compare with. If they were "
        "annotated, add them in that file under 'annotated'."
    )


def _tasks(
    reference: Reference, predictions: Predictions, tolerance: float, probabilities: Mapping[str, str]
) -> list[Task]:
    """Return a task per case with a prediction, and per further apical view of a patient of whom another view has one.

    Biomarkers need all views of a reference.
    """
    tasks = {}
    for case, path in reference.files.items():
        labels = reference.manifest.find(case)
        of_case = {model: files[case] for model, files in predictions.items() if case in files}
        if labels is not None and (of_case or view_and_phase_of(labels)):
            tasks[case] = Task(
                case,
                path,
                of_case,
                labels,
                reference.classes,
                reference.ignore_label,
                tolerance,
                reference.regions,
                probabilities,
                reference.region_order,
            )
    predicted = {
        patient_key(case, t.labels) for case, t in tasks.items() if t.predictions and view_and_phase_of(t.labels)
    }
    return [task for case, task in tasks.items() if task.predictions or patient_key(case, task.labels) in predicted]


def _pairing_problems(reference: Reference, predictions: Predictions) -> list[str]:
    """Return predictions without a reference, references without a prediction, and cases without a manifest entry.

    Raises:
        PartialLabelError: The manifest names a class that dataset.json does not have.
    """
    problems = []
    cases = set(reference.files)
    unnamed = {case for case in cases if reference.manifest.find(case) is None}
    if unnamed:
        problems.append(
            f"{len(unnamed)} case(s) have no entry in {reference.manifest_file.name}: {format_names(unnamed)}"
        )
    unexpected = {name for case in cases - unnamed for name in reference.manifest.labels_of(case).annotated}
    unexpected -= set(reference.classes)
    if unexpected:
        raise PartialLabelError(
            f"{reference.manifest_file} declares {format_names(unexpected)} annotated; dataset.json has "
            f"{', '.join(reference.classes)}. `nnunet_partial check` tells where."
        )
    for model, files in predictions.items():
        missing, extra = cases - set(files), set(files) - cases - reference.interpolated
        if missing:
            problems.append(f"{model}: {len(missing)} of {len(cases)} predictions are missing: {format_names(missing)}")
        if extra:
            problems.append(f"{model}: {len(extra)} prediction(s) without a reference: {format_names(extra)}")
    return problems
