"""What a model was trained on, as far as the folder of its predictions and nnU-Net's own folders tell."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, class_names
from nnunet_partial.report.annotation_matrix import AnnotationMatrix, annotation_matrix
from nnunet_partial.utils.files import read_json


@dataclass(frozen=True)
class TrainingInfo:
    """A model's data set and settings. `facts`: what is known of it, in words; `known`: who knew what among its
    training cases, with its `classes`; None where the manifest is not to be found. `manifest`: the file."""

    dataset: str
    facts: Sequence[tuple[str, str]]
    manifest: Path | None
    classes: Sequence[str]
    known: AnnotationMatrix | None


def training_info(predictions: Path, near: Path) -> TrainingInfo:
    """From the plans.json, dataset.json and predict_from_raw_data_args.json that nnU-Net leaves beside predictions.

    The manifest of that data set is looked for in nnUNet_preprocessed, in nnUNet_raw and in `near`, a folder of raw
    data sets. Never raises for what is missing; it is said in `facts`.
    """
    home = _home(predictions)
    plans, dataset_json = (_object(home / name) for name in ("plans.json", "dataset.json"))
    dataset = str(plans.get("dataset_name") or "")
    facts = [("predictions", str(predictions)), ("data set", dataset or "not known: no plans.json beside them")]
    facts += _trainer(predictions)
    if dataset_json.get("numTraining") is not None:
        facts.append(("training cases", f"{dataset_json['numTraining']} (with those held back for validation)"))
    source = source_folder(predictions)
    facts += [("predicted from", str(source))] if source else []
    manifest_file = _manifest_file(dataset, near)
    if manifest_file is None:
        return TrainingInfo(
            dataset, [*facts, ("annotations", "not known: its partial_labels.json was not found")], None, (), None
        )
    try:
        classes = class_names(dataset_json) if dataset_json else RawDataset(manifest_file.parent).classes
        known = annotation_matrix(Manifest.read(manifest_file), _training_cases(manifest_file), classes)
    except PartialLabelError as problem:
        return TrainingInfo(dataset, [*facts, ("annotations", f"not known: {problem}")], None, (), None)
    return TrainingInfo(dataset, [*facts, ("annotations", str(manifest_file))], manifest_file, classes, known)


def source_folder(predictions: Path) -> Path | None:
    """The folder of images that predictions were made from, where nnU-Net noted one."""
    source = _object(predictions / "predict_from_raw_data_args.json").get("list_of_lists_or_source_folder")
    return Path(source) if isinstance(source, str) else None


def _home(predictions: Path) -> Path:
    """The folder with plans.json: the predictions' own, or the trained model's, of whose validation they are."""
    candidates = [predictions, *predictions.parents[:2]]
    return next((folder for folder in candidates if (folder / "plans.json").is_file()), predictions)


def _trainer(predictions: Path) -> list[tuple[str, str]]:
    """Trainer, plans and configuration, which only a folder of trained models tells by its name."""
    for folder in predictions.parents[:2]:
        parts = folder.name.split("__")
        if len(parts) == 3:
            return list(zip(("trainer", "plans", "configuration"), parts, strict=True))
    return []


def _manifest_file(dataset: str, near: Path) -> Path | None:
    if not dataset or Path(dataset).name != dataset:
        return None
    roots = [Path(os.environ[name]) for name in ("nnUNet_preprocessed", "nnUNet_raw") if os.environ.get(name)]
    candidates = [root / dataset / MANIFEST_NAME for root in [*roots, near]]
    return next((file for file in candidates if file.is_file()), None)


def _training_cases(manifest_file: Path) -> list[str]:
    """Those of the splits beside the manifest, else those with a label file. Raises PartialLabelError."""
    splits = manifest_file.parent / "splits_final.json"
    if splits.is_file():
        content = read_json(splits)
        try:
            return sorted({str(case) for fold in content for part in ("train", "val") for case in fold[part]})
        except (TypeError, KeyError):
            raise PartialLabelError(f"{splits} is not a list of folds with train and val.") from None
    return sorted(RawDataset(manifest_file.parent).label_files())


def _object(file: Path) -> Mapping[str, Any]:
    """The content of a JSON file; empty where there is none that can be read."""
    try:
        content = read_json(file)
    except PartialLabelError:
        return {}
    return content if isinstance(content, dict) else {}
