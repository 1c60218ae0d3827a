"""Find predictions of which no figure is independent: a model behind that of the predictions saw the case.

A network that was trained on pseudo-labels has learned from the model that made them, and with it from every case that
this model was trained on; so has one whose training started from an old model (`widen`). `dataset.json`, which nnU-Net
puts beside models and predictions, says so. Which cases were seen is in the manifest of a filled dataset, and for a
widened fold in a file beside its checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.dataset.splits import format_groups, similar_names
from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY, WIDENED_KEY, is_filled
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import equal_files, read_object
from nnunet_partial.utils.text import format_names

#: The words that stand wherever a figure is not independent.
NOT_INDEPENDENT = "not independent"

#: Beside the checkpoints of a widened fold: from which model it started, which of its classes were new, and whom that
#: model has seen (`seen`: hashes of what `Manifest.names_of` gives; null where it is not known).
WIDENED_NAME = "partial_label_widened.json"


_NO_CROSS_VALIDATION = (
    "its predictions are not those of a cross-validation: where a case was predicted by a fold that was trained on it, "
    "the figures are too good"
)


def cases_seen_in_training(manifest: Manifest, cases: Iterable[str], fold: Path | None = None) -> list[str]:
    """Find the cases that a model behind a training has seen: one that filled the dataset, or that it started from.

    Args:
        manifest: The manifest of the dataset.
        cases: The cases that count.
        fold: Folder of the fold; None where it may not be a widened one.

    Returns:
        Their identifiers; empty where there is none.
    """
    cases = list(cases)
    seen = {*(manifest.seen_by_filling_model(cases) if manifest.has_pseudo else [])}
    if fold is not None:
        seen |= {*cases_seen_at_start(fold, manifest, cases)}
    return [case for case in cases if case in seen]


def independence_text(seen: Collection[str], cases: Collection[str]) -> str:
    """Say of a training that figures of some of its cases are not independent.

    Args:
        seen: What `cases_seen_in_training` found.
        cases: The cases that count.

    Returns:
        A sentence that begins with NOT_INDEPENDENT; empty where none was seen.
    """
    if not seen:
        return ""
    return (
        f"{NOT_INDEPENDENT}: models that filled this dataset, or that the training started from, were trained on "
        f"{len(seen)} of the {len(cases)} case(s) or on their patients, or it is not known. Compare with other models "
        "on cases that none of these models saw: test cases, a domain that was left out, or a clean fold "
        "(nnunet_partial fill --fold)."
    )


def hashed_names(manifest: Manifest, cases: Iterable[str]) -> set[str]:
    """Hash by what cases may be known in another manifest; no name can be read from it.

    Args:
        manifest: Names the cases.
        cases: Case identifiers.

    Returns:
        The hashes.
    """
    return {hash_names([name]) for case in cases for name in manifest.names_of(case)}


def cases_of_seen(manifest: Manifest, cases: Iterable[str], seen: Collection[str]) -> list[str]:
    """Find the cases of patients who were seen under whatever name, that of a recording included.

    Args:
        manifest: Names the cases, and perhaps others of the same patients.
        cases: Case identifiers.
        seen: Hashes of names.

    Returns:
        Those of the cases, in the order given; empty where there is none.
    """
    cases = list(cases)
    known = {case for case in {*manifest.cases, *cases} if not hashed_names(manifest, [case]).isdisjoint(seen)}
    names = {name for case in known for name in manifest.names_of(case)}
    return [case for case in cases if not names.isdisjoint(manifest.names_of(case))]


def cases_seen_at_start(fold: Path, manifest: Manifest, cases: Iterable[str]) -> list[str]:
    """Find the cases that the model has seen from which a fold was widened.

    Args:
        fold: Folder of the fold.
        manifest: Names the cases.
        cases: Case identifiers.

    Returns:
        Those that it was trained on, or of such patients; empty for a fold that was not widened. All of them where it
        is not known what the old model was trained on.
    """
    cases = list(cases)
    if not (fold / WIDENED_NAME).is_file():
        return []
    seen = read_object(fold / WIDENED_NAME).get("seen")
    return cases_of_seen(manifest, cases, {*map(str, seen)}) if isinstance(seen, list) else cases


def model_independence_text(model: str, number: int) -> str:
    """Say of a model that its figures are not independent.

    Args:
        model: Its name.
        number: How many of the cases a model behind it has seen.

    Returns:
        A sentence.
    """
    return (
        f"{model} is {NOT_INDEPENDENT}: the models behind its pseudo-labels, or the one that its training started "
        f"from, were trained on {number} of these cases or on their patients, or it is not known."
    )


def seen_predictions(
    predictions: Mapping[str, Mapping[str, Path]], manifest: Manifest, is_test: bool
) -> dict[str, list[str]]:
    """Find the predicted cases that a model behind each model saw, by its pseudo-labels or as its start.

    Args:
        predictions: Predicted file by model and case.
        manifest: That of the reference.
        is_test: Whether the reference is labelsTs, of cases in which nothing is trained.

    Returns:
        Cases by model; empty ones for models whose figures are independent. Where the manifest that a model was trained
        by is not found, all of its cases count as seen unless they are test cases. Where it is not found what a widened
        model started from, all do.
    """
    seen: dict[str, list[str]] = {}
    for model, files in predictions.items():
        dataset_json = _dataset_json(next(iter(files.values())).parent) if files else {}
        found = {*_seen_at_start_of(files, dataset_json, manifest)}
        if is_filled(dataset_json):
            manifests = (_manifest_of(dataset_json), manifest)
            own = next((one for one in manifests if was_filled_as(dataset_json, one)), None)
            found |= {*(own.seen_by_filling_model(files, manifest) if own else [] if is_test else files)}
        seen[model] = [case for case in files if case in found]
    return seen


def _seen_at_start_of(files: Mapping[str, Path], dataset_json: Mapping[str, Any], manifest: Manifest) -> list[str]:
    """Find the predicted cases that were seen by the models from which folds of the predicting one were widened."""
    if not files:
        return []
    marker = dataset_json.get(WIDENED_KEY)
    models = [*next(iter(files.values())).parent.resolve().parents[:2]]
    if isinstance(marker, str) and os.environ.get("nnUNet_results") and ".." not in Path(marker).parts:
        models.append(nnunet_folder("nnUNet_results") / marker)
    folds = next((found for model in models if (found := sorted(model.glob(f"fold_*/{WIDENED_NAME}")))), [])
    if marker and not folds:
        return list(files)
    return [
        case
        for file in folds
        for case in cases_seen_at_start(
            file.parent, manifest, [case for case, path in files.items() if _may_have_predicted(file.parent, path)]
        )
    ]


def _may_have_predicted(fold: Path, file: Path) -> bool:
    """Tell whether a fold may have made a prediction; in its model's cross-validation, only of what it validates."""
    file, model = file.resolve(), fold.resolve().parent
    inside = file.relative_to(model).parts[:-1] if model in file.parents else ()
    is_validation = any(part == "validation" or part.startswith("crossval_results_folds_") for part in inside)
    return not is_validation or (fold / "validation" / file.name).is_file()


def was_filled_as(dataset_json: Mapping[str, Any], manifest: Manifest | None) -> bool:
    """Tell whether a manifest is that of the dataset behind a model, and not of one that was filled again since.

    Args:
        dataset_json: The content of the model's dataset.json.
        manifest: The manifest; None where there is none.

    Returns:
        Whether it says the same of who filled, and of whom the filling models saw.
    """
    filled = dataset_json.get(PSEUDO_LABELS_KEY)
    return manifest is not None and isinstance(filled, dict) and filled.get("hash") == manifest.fill_hash


def require_comparable(seen: Mapping[str, list[str]]) -> None:
    """Refuse to rank models whose figures are not independent beside others.

    Args:
        seen: As `seen_predictions` gives it.

    Raises:
        PartialLabelError: Some of the models have seen cases, others not.
    """
    tainted = [model for model, cases in seen.items() if cases]
    others = [model for model, cases in seen.items() if not cases]
    if tainted and others:
        cases = next(seen[model] for model in tainted)
        raise PartialLabelError(
            f"{NOT_INDEPENDENT}: {format_names(tainted)} trained on pseudo-labels of models, or started from one, that "
            f"were trained on cases of this comparison, or of which that is not known ({format_names(cases, 5)}), and "
            f"would be ranked beside {format_names(others)}. "
            "Compare them on test cases (labelsTs), a domain that was left out, or a clean fold (nnunet_partial fill "
            "--fold); or evaluate them apart."
        )


def leaks(folder: Path, manifest: Manifest, predictions: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Find predictions of cases that a model may have been trained on, or of whose patients.

    Test cases are so where their patient has a training case, too, perhaps under a similar name; training cases where
    the model was trained on this dataset, unless a fold predicted them in its validation; both where it was trained on
    the same images under whatever name, such as a merge or a scenario has them.

    Args:
        folder: Of the reference: labelsTs or labelsTr of a dataset, with other endings, too; else nothing is found.
        manifest: That of the reference.
        predictions: Predicted file by model and case.

    Returns:
        A sentence each; empty where there is none.
    """
    home, part = folder.resolve().parent, folder.name.removeprefix("labels")[:2]
    if part not in ("Ts", "Tr") or not (home / "dataset.json").is_file():
        return []
    texts = _patients_in_training(home, manifest, predictions) if part == "Ts" else []
    trained_on = {m: _training_dataset(next(iter(files.values())).parent) for m, files in predictions.items() if files}
    cases = {case for files in predictions.values() for case in files}
    others = {*trained_on.values()} - ({home.name} if part == "Tr" else set())
    shared = {name: _shared_images(home, part, name, cases) for name in others}
    for model, dataset in trained_on.items():
        same = [shared[dataset][case] for case in predictions[model] if case in shared.get(dataset, ())]
        if dataset == home.name and part == "Tr":
            texts.append(
                f"{model} was trained on {dataset}, whose training cases these are, and {_NO_CROSS_VALIDATION}"
            )
        elif same:
            texts.append(
                f"{model} was trained on {dataset}, of which {len(same)} of these cases are training cases, too "
                f"({format_names(same, 5)}), and {_NO_CROSS_VALIDATION}"
            )
    return texts


def _patients_in_training(home: Path, manifest: Manifest, predictions: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Say which test cases are of patients who have training cases, and who may have some under a similar name."""
    training = {manifest.patient_of(case) for case in manifest.entries_of(RawDataset(home).image_files())}
    cases = manifest.entries_of(case for files in predictions.values() for case in files)
    shared = [case for case in sorted(cases) if manifest.patient_of(case) in training]
    tested = {manifest.patient_of(case) for case in cases} - training
    alike = [group for group in similar_names({*training, *tested}) if {*group} & training and {*group} & tested]
    return [
        *[
            f"{len(shared)} of the test case(s) are of patients who have training cases in {home.name}, too, on which "
            f"a model may have been trained: {format_names(shared, 5)}"
        ]
        * bool(shared),
        *[
            f"{len(alike)} patient(s) of the test cases may have training cases in {home.name} under another name: "
            f"{format_groups(alike)}"
        ]
        * bool(alike),
    ]


def _training_dataset(predictions: Path) -> str:
    """Name the dataset of the model behind predictions; "" without one, and for those of its cross-validation."""
    folder = predictions.resolve()
    is_validation = folder.name == "validation" and folder.parent.name.startswith("fold_")
    if is_validation and folder.parent.name != "fold_all":
        return ""
    if any(part.startswith(("crossval_results_folds_", "ensemble___")) for part in folder.parts):
        return ""
    file = (folder.parents[1] if is_validation else folder) / "plans.json"
    return str(read_object(file).get("dataset_name", ""))


def _shared_images(home: Path, part: str, dataset: str, cases: Iterable[str]) -> dict[str, str]:
    """Find the cases whose first image is that of a training case in a dataset.

    Returns:
        Text by case: its name, and that of the training case where it is another one.
    """
    if not dataset.startswith("Dataset") or Path(dataset).name != dataset or not os.environ.get("nnUNet_raw"):
        return {}
    other = nnunet_folder("nnUNet_raw") / dataset
    if not (other / "dataset.json").is_file():
        return {}
    try:
        own, theirs = RawDataset(home).image_files(part), RawDataset(other).image_files()
    except PartialLabelError:  # what is wrong there does not stop this evaluation; nor do images that are gone
        return {}
    first = {case: own[case][0] for case in cases if case in own}
    same = equal_files(first, {case: paths[0] for case, paths in theirs.items()})
    return {case: case if case in names else f"{case} = {format_names(names)}" for case, names in same.items()}


def _dataset_json(predictions: Path) -> Mapping[str, Any]:
    """Return the dataset.json beside predictions, or of the model whose validation they are; empty without one."""
    for folder in (predictions, *predictions.resolve().parents[:2]):
        if (folder / "dataset.json").is_file():
            return read_object(folder / "dataset.json")
    return {}


def _manifest_of(dataset_json: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest of a filled dataset in nnUNet_raw or nnUNet_preprocessed; None where it is not found."""
    filled = dataset_json.get(PSEUDO_LABELS_KEY)
    dataset = str(filled.get("dataset")) if isinstance(filled, dict) else ""
    if not dataset.startswith("Dataset") or Path(dataset).name != dataset:
        return None
    folders = [nnunet_folder(name) for name in ("nnUNet_raw", "nnUNet_preprocessed") if os.environ.get(name)]
    file = next((path for folder in folders if (path := folder / dataset / MANIFEST_NAME).is_file()), None)
    return None if file is None else Manifest.read(file)
