"""Draws what nnU-Net leaves of trainings: folds with predictions and probabilities, so that no test needs to train."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helpers.raw_datasets import Drawn, label_array, write_dataset, write_image

NAME, CLASSES = "Dataset510_Echo", {"LV": 1, "MYO": 2}
KNOWS_BOTH = {"annotated": ["LV", "MYO"], "domain": "a"}
KNOWS_LV = {"annotated": ["LV"], "domain": "b"}

#: Rows of pictures of 8 x 6 pixels, by case, and the fold that validates it.
TRUTH = {"a1": [1, 1, 2], "a2": [1, 1, 2], "b3": [1, 1], "b4": [1, 1]}
FOLDS = [["a1", "b3"], ["a2", "b4"]]

Rows = Mapping[str, Sequence[float]]


@dataclass
class Place:
    """nnU-Net's three folders."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw" / NAME

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / NAME

    @property
    def results(self) -> Path:
        return self.root / "results" / NAME

    def train(self, trainer: str, rows: Rows, sureness: Mapping[int, float] | None = None) -> Path:
        """The results of a trainer that predicts these rows; with `sureness` (probability by predicted label value)
        their probabilities, as --npz saves them: the rest belongs to background, of background to the LV."""
        model = self.results / f"{trainer}__nnUNetPlans__2d"
        for fold, cases in enumerate(FOLDS):
            folder = model / f"fold_{fold}" / "validation"
            folder.mkdir(parents=True)
            for case in cases:
                labels = label_array(Drawn(case, rows[case]))
                write_image(folder / f"{case}.nii.gz", labels, 0.5)
                if sureness is not None:
                    _save_probabilities(folder / case, labels, sureness)
        write_plans(model / "plans.json")
        (model / "dataset.json").write_text((self.raw / "dataset.json").read_text())
        return model

    def split(self, folds: Sequence[Sequence[str]]) -> None:
        splits = [{"train": [case for case in TRUTH if case not in val], "val": list(val)} for val in folds]
        (self.preprocessed / "splits_final.json").write_text(json.dumps(splits))


def draw(root: Path) -> Place:
    """The data set, raw and preprocessed: domain b does not know MYO."""
    place = Place(root)
    cases = [Drawn(case, rows, KNOWS_BOTH if case < "b" else KNOWS_LV) for case, rows in TRUTH.items()]
    write_dataset(root / "raw", NAME, CLASSES, cases)
    place.preprocessed.mkdir(parents=True)
    (place.preprocessed / "gt_segmentations").symlink_to(place.raw / "labelsTr")
    write_plans(place.preprocessed / "nnUNetPlans.json")
    place.split(FOLDS)
    return place


def write_plans(file: Path, **more: Any) -> None:
    plans = {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "configurations": {"2d": {"architecture": {}}},
        **more,
    }
    file.write_text(json.dumps(plans))


def _save_probabilities(stem: Path, labels: np.ndarray, sureness: Mapping[int, float]) -> None:
    probabilities = np.zeros((len(CLASSES) + 1, 1, *labels.shape), np.float32)  # (classes, z, y, x)
    for value in range(len(CLASSES) + 1):
        of_value = labels == value
        probabilities[value, 0][of_value] = sureness[value]
        probabilities[0 if value else 1, 0][of_value] = 1 - sureness[value]
    np.savez_compressed(stem.with_suffix(".npz"), probabilities=probabilities)
    about = {"spacing": (0.5, 0.5), "origin": (0.0, 0.0), "direction": (1.0, 0.0, 0.0, 1.0)}
    stem.with_suffix(".pkl").write_bytes(pickle.dumps({"sitk_stuff": about, "spacing": [999.0, 0.5, 0.5]}))
