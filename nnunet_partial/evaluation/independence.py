"""Find predictions of which no figure is independent: a model that filled their training data saw the case.

A network that was trained on pseudo-labels has learned from the model that made them, and with it from every case that
this model was trained on. `dataset.json`, which nnU-Net puts beside models and predictions, says that a dataset was
filled; its manifest says which cases were seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import nnunet_folder
from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY, is_filled
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import format_names

#: The words that stand wherever a figure is not independent.
NOT_INDEPENDENT = "not independent"


def independence_text(manifest: Manifest, cases: Iterable[str]) -> str:
    """Say of a filled dataset that figures of some of its cases are not independent.

    Args:
        manifest: The manifest of the dataset.
        cases: The cases that count.

    Returns:
        A sentence that begins with NOT_INDEPENDENT; empty where no model filled a class, or none saw the cases.
    """
    cases = list(cases)
    has_pseudo = any(labels.pseudo for labels in manifest.cases.values())
    seen = manifest.seen_by_filling_model(cases) if has_pseudo else []
    if not seen:
        return ""
    return (
        f"{NOT_INDEPENDENT}: models that filled this dataset were trained on {len(seen)} of the {len(cases)} case(s) "
        "or on their patients. Compare with other models on cases that no filling model saw: test cases, a domain "
        "that was left out, or a clean fold (nnunet_partial fill --fold)."
    )


def model_independence_text(model: str, number: int) -> str:
    """Say of a model that its figures are not independent.

    Args:
        model: Its name.
        number: How many of the cases a model behind its pseudo-labels was trained on.

    Returns:
        A sentence.
    """
    return (
        f"{model} is {NOT_INDEPENDENT}: the models behind its pseudo-labels were trained on {number} of these cases or "
        "on their patients."
    )


def seen_predictions(
    predictions: Mapping[str, Mapping[str, Path]], manifest: Manifest, is_test: bool
) -> dict[str, list[str]]:
    """Find the predicted cases that a model behind the training data of each model saw.

    Args:
        predictions: Predicted file by model and case.
        manifest: That of the reference.
        is_test: Whether the reference is labelsTs, of cases in which nothing is trained.

    Returns:
        Cases by model; empty ones for models whose figures are independent. Where the manifest that a model was trained
        by is not found, all of its cases count as seen unless they are test cases.
    """
    seen: dict[str, list[str]] = {}
    for model, files in predictions.items():
        dataset_json = _dataset_json(next(iter(files.values())).parent) if files else {}
        if not is_filled(dataset_json):
            seen[model] = []
            continue
        own = next((one for one in (_manifest_of(dataset_json), manifest) if was_filled_as(dataset_json, one)), None)
        seen[model] = own.seen_by_filling_model(files, manifest) if own else [] if is_test else list(files)
    return seen


def was_filled_as(dataset_json: Mapping[str, Any], manifest: Manifest | None) -> bool:
    """Tell whether a manifest is that of the dataset behind a model, and not of one that was filled anew since.

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
            f"{NOT_INDEPENDENT}: {format_names(tainted)} trained on pseudo-labels of models that were trained on cases "
            f"of this comparison ({format_names(cases, 5)}), and would be ranked beside {format_names(others)}. "
            "Compare them on test cases (labelsTs), a domain that was left out, or a clean fold (nnunet_partial fill "
            "--fold); or evaluate them apart."
        )


def _dataset_json(predictions: Path) -> Mapping[str, Any]:
    """Return the dataset.json beside predictions, or of the model whose validation they are; empty without one."""
    for folder in (predictions, *predictions.resolve().parents[:2]):
        if (folder / "dataset.json").is_file():
            content = read_json(folder / "dataset.json")
            return content if isinstance(content, dict) else {}
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
