"""Add LA to a model of LV and MYO with `widen`, beside training from scratch (with PYTHONPATH=tests).

Synthetic hearts of 64 x 64: 24 old cases are annotated for LV and MYO, 12 new ones for LA alone, 20 test cases for all.
The old model is trained on the old cases; then old and new cases are trained on together, with the marginal loss: from
scratch, and from the old model with a quarter of the iterations. Training iterations of 8 images, small U-Net.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import statistics
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from helpers.nnunet_in_process import plan, preprocess
from helpers.toy_dataset import Project, shrink
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.phantom.anatomy import HeartModel
from nnunet_partial.phantom.scanner import SCANNER_A, draw_heart
from nnunet_partial.training.widen import widen
from nnunet_partial.utils.text import text_table

OLD, NEW = "Dataset801_Old", "Dataset802_WithLA"
CLASSES = ("LV", "MYO", "LA")
TRAINER = "nnUNetTrainerMarginal"
SHAPE = (64, 64)
N_OLD, N_NEW, N_TEST = 24, 12, 20


@dataclass(frozen=True)
class Settings:
    """Hold what all trainings share; in the last of the epochs nnU-Net's learning rate is the lowest."""

    epochs: int
    device: torch.device


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the heart of a number: image and complete labels."""
    rng = np.random.default_rng([7, number])
    return draw_heart(rng, anatomy=HeartModel.random(rng), scanner=SCANNER_A, shape=SHAPE)


def write(folder: Path, numbers: range, classes: tuple[str, ...]) -> None:
    """Write a raw dataset of these hearts: the first ones are annotated for LV and MYO, the others for LA."""
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    cases = {}
    for number in numbers:
        image, labels = draw(number)
        known = CLASSES[:2] if number < N_OLD else CLASSES[2:]
        values = [CLASSES.index(name) + 1 for name in known]
        case = f"heart_{number:02d}"
        for sub, array in ((f"imagesTr/{case}_0000", image), (f"labelsTr/{case}", labels * np.isin(labels, values))):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{sub}.nii.gz"))
        cases[case] = CaseLabels(known, patient=case)
    labels_json = {"background": 0, **{name: value for value, name in enumerate(classes, 1)}}
    generate_dataset_json(str(folder), {0: "ultrasound"}, labels_json, len(cases), ".nii.gz")
    Manifest(cases).write(folder / MANIFEST_NAME)


def prepare(project: Project) -> None:
    """Write, plan and preprocess both datasets, with one small network."""
    for dataset, numbers, classes in ((OLD, range(N_OLD), CLASSES[:2]), (NEW, range(N_OLD + N_NEW), CLASSES)):
        raw, preprocessed = project.raw(dataset), project.preprocessed(dataset)
        write(raw, numbers, classes)
        shrink(plan(raw, preprocessed, SHAPE), "2d", features=8, batch_size=8)
        preprocess(raw, preprocessed, "2d")
        (preprocessed / "dataset.json").write_bytes((raw / "dataset.json").read_bytes())


def train(results: Path, dataset: str, iterations: int, seed: int, settings: Settings, go_on: bool = False) -> Any:
    """Train on all cases, into a results folder of its own; return the trainer."""
    length = {"epochs": settings.epochs, "iterations": iterations // settings.epochs, "val_iterations": 1}
    os.environ.update({f"nnUNet_partial_{name}": str(value) for name, value in {**length, "seed": seed}.items()})
    os.environ["nnUNet_results"] = str(results)
    trainer = get_trainer_from_args(dataset, "2d", "all", TRAINER, device=settings.device)
    trainer.logger.local_logger.plot_progress_png = lambda folder: None
    maybe_load_checkpoint(trainer, go_on, False)
    trainer.run_training()
    return trainer


def dice(trainer: Any) -> list[float]:
    """Predict the test hearts; return the mean Dice of each class that the trainer has."""
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    values = []
    for number in range(100, 100 + N_TEST):
        image, truth = draw(number)
        normal = (image - image.mean()) / image.std()
        with torch.no_grad():
            logits = trainer.network(torch.from_numpy(normal).float()[None, None].to(trainer.device))
        predicted = logits.argmax(1)[0].cpu().numpy()
        pairs = [(predicted == value, truth == value) for value in trainer.label_manager.foreground_labels]
        values.append([2 * np.sum(a & b) / (np.sum(a) + np.sum(b)) for a, b in pairs])
    return [float(value) for value in np.mean(values, axis=0)]


def compare(root: Path, iterations: int, seed: int, settings: Settings) -> dict[str, list[float]]:
    """Train all four with one seed; return the Dice of each class by training."""
    old, scratch, short, wide = (root / f"{name}{seed}" for name in ("old", "scratch", "short", "wide"))
    quarter = iterations // 4
    found = {
        f"old model, {iterations}": [*dice(train(old, OLD, iterations, seed, settings)), math.nan],
        f"from scratch, {iterations}": dice(train(scratch, NEW, iterations, seed, settings)),
        f"from scratch, {quarter}": dice(train(short, NEW, quarter, seed, settings)),
    }
    os.environ["nnUNet_results"] = str(wide)
    widen(old / OLD / f"{TRAINER}__nnUNetPlans__2d", NEW, "2d", TRAINER, "nnUNetPlans", "all")
    return {**found, f"widened, {quarter}": dice(train(wide, NEW, quarter, seed, settings, go_on=True))}


def main() -> None:
    """Print the Dice of each class and training: the mean over the seeds, and each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=800, help="of training from scratch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4, help="of each training")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # nnU-Net's, about what its libraries will drop
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        os.environ.update(project.environment)
        loaders = os.environ.pop("nnUNet_n_proc_DA", "0")  # planning cannot be done with 0
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            prepare(project)
            os.environ["nnUNet_n_proc_DA"] = loaders
            for seed in args.seeds:
                found.append(compare(Path(folder), args.iterations, seed, Settings(args.epochs, args.device)))
    rows = []
    for training in found[0]:
        by_class = zip(*(one[training] for one in found), strict=True)
        rows.append(
            [
                training,
                *(f"{statistics.mean(seeds):.2f} ({', '.join(f'{d:.2f}' for d in seeds)})" for seeds in by_class),
            ]
        )
    print(text_table(["training, iterations", *CLASSES], rows), end="")


if __name__ == "__main__":
    main()
