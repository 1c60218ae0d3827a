"""A synthetic dataset with two structures that are each other's mirror image, told apart by a third between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from helpers.toy_dataset import Project, shrink
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest

DATASET = "Dataset801_Twins"
CLASSES = ("right", "left", "heart")
_SIZE = 32


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two dark ellipses, alike but for their side, and between them, towards the left one, a bright disc."""
    y, x = np.indices((_SIZE, _SIZE))
    center_y, center_x = 16 + rng.normal(0, 1, 2)
    height, width = (8, 4) * rng.uniform(0.85, 1.15, 2)
    labels = np.zeros((_SIZE, _SIZE), np.uint8)
    for value, side in ((1, -8), (2, 8)):
        labels[((y - center_y) / height) ** 2 + ((x - center_x - side) / width) ** 2 < 1] = value
    labels[(y - center_y - 3) ** 2 + (x - center_x - 2) ** 2 < 16] = 3
    image = rng.normal(100, 12, labels.shape) - 50 * np.isin(labels, (1, 2)) + 40 * (labels == 3)
    return image.astype(np.float32), labels


def write_twins(folder: Path, training: int = 16, test: int = 10) -> None:
    """Write the raw dataset; in every other training case the disc is not annotated. Test cases have all labels."""
    rng = np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / sub).mkdir(parents=True)
    cases = {}
    for number in range(training + test):
        domain, part = "ab"[number % 2], "Tr" if number < training else "Ts"
        image, labels = draw(rng)
        case = f"{domain}_{number}"
        known = CLASSES if domain == "a" or part == "Ts" else CLASSES[:2]
        sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / f"images{part}" / f"{case}_0000.nii.gz"))
        labels[labels > len(known)] = 0
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / f"labels{part}" / f"{case}.nii.gz"))
        cases[case] = CaseLabels(known, domain=domain, patient=case)
    labels_json = {"background": 0, **{name: value for value, name in enumerate(CLASSES, 1)}}
    generate_dataset_json(str(folder), {0: "synthetic"}, labels_json, training, ".nii.gz")
    Manifest(cases).write(folder / MANIFEST_NAME)


def plan_twins(project: Project, batch_size: int = 4) -> None:
    """Write the dataset, plan a small network and preprocess."""
    write_twins(project.raw(DATASET))
    project.must("nnUNetv2_plan_and_preprocess", "-d", "801", "-c", "2d", "-np", "1", "-npfp", "1")
    shrink(project.preprocessed(DATASET) / "nnUNetPlans.json", "2d", batch_size=batch_size)


def augment_little(patch: pytest.MonkeyPatch) -> None:
    """Of nnU-Net's augmentation leave the mirroring and the place of the patch: the rest takes most of the time."""
    usual = nnUNetTrainer.get_training_transforms

    def little(*args: Any, **kwargs: Any) -> Any:
        chain = usual(*args, **kwargs)
        chain.transforms = [step for step in chain.transforms if not isinstance(step, RandomTransform)]
        (spatial,) = [step for step in chain.transforms if isinstance(step, SpatialTransform)]
        spatial.p_rotation = spatial.p_scaling = 0
        return chain

    patch.setattr(nnUNetTrainer, "get_training_transforms", staticmethod(little))


def dice_after_training(project: Project, trainer: str, iterations: int, dataset: str = DATASET) -> dict[str, float]:
    """Train fold 0, predict the test cases, and return the mean Dice of each class over them."""
    settings = {"epochs": "5", "iterations": str(iterations // 5), "val_iterations": "1"}
    project.train(dataset, "2d", "0", "-tr", trainer, **{f"nnUNet_partial_{key}": v for key, v in settings.items()})
    output, raw = project.root / trainer, project.raw(dataset)
    project.must(
        "nnUNetv2_predict", "-d", dataset, "-c", "2d", "-f", "0", "-tr", trainer, "-i", str(raw / "imagesTs"),
        "-o", str(output), "-device", "cpu", "-npp", "0", "-nps", "0",
    )  # fmt: skip
    classes, dice = RawDataset(raw).classes, []
    for path in sorted((raw / "labelsTs").iterdir()):
        truth, predicted = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (path, output / path.name))
        dice.append(
            [
                2 * np.sum((truth == v) & (predicted == v)) / (np.sum(truth == v) + np.sum(predicted == v))
                for v in range(1, len(classes) + 1)
            ]
        )
    return dict(zip(classes, np.mean(dice, axis=0).tolist(), strict=True))
