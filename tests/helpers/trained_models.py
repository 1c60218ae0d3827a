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

#: nnU-Net's checkpoints of a fold.
FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"

Rows = Mapping[str, Sequence[float]]


@dataclass
class Place:
    """nnU-Net's three folders."""

    root: Path
    ending: str = ".nii.gz"
    shape: tuple[int, ...] = (8, 6)

    @property
    def raw(self) -> Path:
        return self.root / "raw" / NAME

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / NAME

    @property
    def results(self) -> Path:
        return self.root / "results" / NAME

    def train(
        self,
        trainer: str,
        rows: Rows,
        sureness: Mapping[int, float] | None = None,
        checkpoints: Sequence[str] = (FINAL, BEST),
    ) -> Path:
        """The results of a trainer that predicts these rows; with `sureness` (probability by predicted label value)
        their probabilities, as --npz saves them: the rest belongs to background, of background to the LV. Each fold
        has these (empty) checkpoints, and a summary.json without a record of the one that predicted."""
        model = self.results / f"{trainer}__nnUNetPlans__2d"
        for fold, cases in enumerate(FOLDS):
            folder = model / f"fold_{fold}" / "validation"
            folder.mkdir(parents=True)
            for name in checkpoints:
                (folder.parent / name).touch()
            for case in cases:
                labels = label_array(Drawn(case, rows[case], shape=self.shape))
                write_image(folder / f"{case}{self.ending}", labels, 0.5)
                self.write_spacing(folder / f"{case}.json")
                if sureness is not None:
                    _save_probabilities(folder / case, labels, sureness)
            record_checkpoint(model / f"fold_{fold}", None)
        write_plans(model / "plans.json", **self.plans)
        (model / "dataset.json").write_text((self.raw / "dataset.json").read_text())
        return model

    @property
    def plans(self) -> dict[str, Any]:
        return {"image_reader_writer": "Tiff3DIO"} if self.ending == ".tif" else {}

    def write_spacing(self, file: Path) -> None:
        """CASE.json, as nnU-Net writes it beside TIFF volumes, z first."""
        if self.ending == ".tif":
            file.write_text(json.dumps({"spacing": [2.0, 0.5, 0.5]}))

    def split(self, folds: Sequence[Sequence[str]]) -> None:
        splits = [{"train": [case for case in TRUTH if case not in val], "val": list(val)} for val in folds]
        (self.preprocessed / "splits_final.json").write_text(json.dumps(splits))


def record_checkpoint(fold: Path, name: str | None) -> None:
    """The summary.json of a validation; only our trainers record the checkpoint that predicted."""
    content = {"metric_per_case": [], **({"checkpoint": name} if name else {})}
    (fold / "validation" / "summary.json").write_text(json.dumps(content))


def draw(root: Path, ending: str = ".nii.gz", shape: tuple[int, ...] = (8, 6)) -> Place:
    """The data set, raw and preprocessed: domain b does not know MYO."""
    place = Place(root, ending, shape)
    known = {case: KNOWS_BOTH if case < "b" else KNOWS_LV for case in TRUTH}
    cases = [Drawn(case, rows, known[case], shape=shape) for case, rows in TRUTH.items()]
    write_dataset(root / "raw", NAME, CLASSES, cases, ending=ending)
    for case in TRUTH:
        for folder in ("imagesTr", "labelsTr"):
            place.write_spacing(place.raw / folder / f"{case}.json")
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
    save_probabilities(stem, probabilities)


def save_probabilities(stem: Path, probabilities: np.ndarray) -> None:
    """Both files that --npz saves for a picture; probabilities (classes or regions, 1, y, x)."""
    np.savez_compressed(stem.with_suffix(".npz"), probabilities=probabilities)
    about = {"spacing": (0.5, 0.5), "origin": (0.0, 0.0), "direction": (1.0, 0.0, 0.0, 1.0)}
    stem.with_suffix(".pkl").write_bytes(pickle.dumps({"sitk_stuff": about, "spacing": [999.0, 0.5, 0.5]}))
