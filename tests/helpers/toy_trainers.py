"""Trainers on the planned and preprocessed toy dataset of `conftest.py`, in the process of the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.toy_dataset import Project

from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.trainers.nnUNetTrainerABCE import nnUNetTrainerABCE
from nnunet_partial.trainers.nnUNetTrainerACCE import nnUNetTrainerACCE
from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal
from nnunet_partial.trainers.nnUNetTrainerNaive import nnUNetTrainerNaive

DATASET = "Dataset701_Toy"
TRAINERS = [nnUNetTrainerMarginal, nnUNetTrainerACCE, nnUNetTrainerABCE, nnUNetTrainerNaive]


def trainer_of(project: Project, trainer_class: type[Any] = nnUNetTrainerMarginal, fold: int | str = 0) -> Any:
    folder = project.preprocessed(DATASET)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = trainer_class(plans, "2d", fold, dataset_json, device=torch.device("cpu"))
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 2
    trainer.logger.local_logger.plot_progress_png = lambda folder: None  # takes a second
    return trainer


def run_epoch(trainer: Any) -> list[float]:
    """One epoch as nnUNetTrainer.run_training does it; gives the training losses."""
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    outputs = [trainer.train_step(next(trainer.dataloader_train)) for _ in range(2)]
    trainer.on_train_epoch_end(outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        validated = [trainer.validation_step(next(trainer.dataloader_val)) for _ in range(2)]
        trainer.on_validation_epoch_end(validated)
    trainer.on_epoch_end()
    return [float(output["loss"]) for output in outputs]


def edit(path: Path, change: Any) -> None:
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_manifests(project: Project, change: Any) -> None:
    """Change the manifest in the raw and, where it lies there, the preprocessed folder."""
    for folder in (project.raw(DATASET), project.preprocessed(DATASET)):
        if (folder / MANIFEST_NAME).exists():
            edit(folder / MANIFEST_NAME, change)
