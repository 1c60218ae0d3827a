"""Collect what a model was trained on from the folder of its predictions and nnU-Net's own folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.summary import AnnotationCounts, annotation_counts
from nnunet_partial.dataset_json import structure_names
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import read_json, read_object


@dataclass(frozen=True)
class TrainingInfo:
    """Hold the training data and settings of a model.

    Attributes:
        dataset: its name; empty if not known.
        facts: what is known of the training, as (name, value).
        manifest: the partial_labels.json of the dataset; None if not found.
        classes: names of the classes; empty without a manifest.
        annotations: who annotated what among the training and validation cases; None without a manifest.
    """

    dataset: str
    facts: Sequence[tuple[str, str]]
    manifest: Path | None
    classes: Sequence[str]
    annotations: AnnotationCounts | None


def training_info(predictions: Path, near: Path) -> TrainingInfo:
    """Read plans.json, dataset.json and predict_from_raw_data_args.json, which nnU-Net writes beside predictions.

    The manifest of the dataset is searched in nnUNet_preprocessed, nnUNet_raw and `near`. Nothing is raised for missing
    files; `facts` says what is not known.

    Args:
        predictions: folder with the predictions of a model.
        near: a folder of raw datasets.

    Returns:
        What could be found.
    """
    plans_folder = _plans_folder(predictions)
    plans, dataset_json = (_read_object(plans_folder / name) for name in ("plans.json", "dataset.json"))
    dataset = str(plans.get("dataset_name") or "")
    facts = [("predictions", str(predictions)), ("dataset", dataset or "not known: no plans.json beside them")]
    facts += _trainer_facts(predictions)
    if dataset_json.get("numTraining") is not None:
        facts.append(("training cases", f"{dataset_json['numTraining']} (including those for validation)"))
    source = source_folder(predictions)
    facts += [("predicted from", str(source))] if source else []
    manifest_file = _manifest_file(dataset, near)
    if manifest_file is None:
        return TrainingInfo(
            dataset, [*facts, ("annotations", "not known: its partial_labels.json was not found")], None, (), None
        )
    try:
        classes = structure_names(dataset_json) if dataset_json else RawDataset(manifest_file.parent).structures
        annotations = annotation_counts(Manifest.read(manifest_file), classes, _training_cases(manifest_file))
    except PartialLabelError as problem:
        return TrainingInfo(dataset, [*facts, ("annotations", f"not known: {problem}")], None, (), None)
    return TrainingInfo(dataset, [*facts, ("annotations", str(manifest_file))], manifest_file, classes, annotations)


def source_folder(predictions: Path) -> Path | None:
    """Return the folder of the images that predictions were made from.

    Args:
        predictions: folder with the predictions of a model.

    Returns:
        The folder; None if nnU-Net did not record one.
    """
    source = _read_object(predictions / "predict_from_raw_data_args.json").get("list_of_lists_or_source_folder")
    return Path(source) if isinstance(source, str) else None


def _plans_folder(predictions: Path) -> Path:
    """Return the folder with plans.json: that of the predictions, or of the trained model whose validation they are."""
    candidates = [predictions, *predictions.parents[:2]]
    return next((folder for folder in candidates if (folder / "plans.json").is_file()), predictions)


def _trainer_facts(predictions: Path) -> list[tuple[str, str]]:
    """Return trainer, plans and configuration, which only the name of a trained model's folder contains."""
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
    """Return the cases of the splits beside the manifest, else those with a label file. Raises PartialLabelError."""
    splits = manifest_file.parent / "splits_final.json"
    if splits.is_file():
        content = read_json(splits)
        try:
            return sorted({str(case) for fold in content for part in ("train", "val") for case in fold[part]})
        except (TypeError, KeyError):
            raise PartialLabelError(f"{splits}: expected a list of folds with the keys train and val.") from None
    return sorted(RawDataset(manifest_file.parent).label_files())


def _read_object(file: Path) -> Mapping[str, Any]:
    """Return the content of a JSON file; empty if it cannot be read."""
    try:
        return read_object(file)
    except PartialLabelError:
        return {}
