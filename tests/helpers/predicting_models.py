"""Small trained models with two folds each, and what `nnUNetv2_predict` makes of two images with them."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet_in_process import InProcess, one_thread, plan
from helpers.toy_dataset import draw, shrink, write_toy
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal

#: Trained slices, see tests/training/test_old_checkpoints.py.
ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "old_checkpoints.tar.xz"
SLICES, VOLUMES, REGIONS = "Dataset701_Toy", "Dataset702_Volumes", "Dataset703_Regions"
MODELS = {
    "marginal": (SLICES, "nnUNetTrainerMarginal", "2d"),
    "abce": (SLICES, "nnUNetTrainerABCE", "2d"),
    "volumes": (VOLUMES, "nnUNetTrainerMarginal", "3d_fullres"),
    "regions": (REGIONS, "nnUNetTrainer", "2d"),
}


#: Of all training images, z first.
TRAINED_SPACING = (3.5, 1.0, 1.0)


@dataclass(frozen=True)
class Model:
    """A trained model, images of its kind, and the folder that nnU-Net's command predicted them into."""

    folder: Path
    images: list[Path]
    predicted: Path

    def reference(self, image: Path) -> Any:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(self.predicted / image.name.replace("_0000", ""))))


def read(image: Path) -> tuple[Any, tuple[float, ...]]:
    """An image with its channel axis, and its spacing in the order of the other axes."""
    content = sitk.ReadImage(str(image))
    return sitk.GetArrayFromImage(content)[None], content.GetSpacing()[::-1]


def write_images(folder: Path, shape: tuple[int, ...], spacing: tuple[float, ...]) -> list[Path]:
    """Two images: one as in training, and one of another spacing, larger than the patch, with a border of zeros."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    images = {"new": (draw(rng, shape, True)[0], TRAINED_SPACING[-len(shape) :])}
    images["wide"] = (np.pad(draw(rng, tuple(size + 8 for size in shape), True)[0], 5), spacing)
    for name, (array, steps) in images.items():
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(steps[::-1])
        sitk.WriteImage(image, str(folder / f"{name}_0000.nii.gz"))
    return sorted(folder.iterdir())


def add_fold(model: Path, seed: int = 1) -> None:
    """A second fold: the weights of the first, all a little larger or smaller."""
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in checkpoint["network_weights"].items():
        checkpoint["network_weights"][name] = weight * (1 + 0.2 * torch.randn(weight.shape, generator=generator))
    (model / "fold_1").mkdir()
    torch.save(checkpoint, model / "fold_1" / "checkpoint_final.pth")


def train_volumes(project: InProcess) -> Path:
    """A network for volumes, whose axes the plans exchange; trained for some seconds without nnU-Net's trainer."""
    raw, preprocessed = project.raw(VOLUMES), project.preprocessed(VOLUMES)
    write_toy(raw, (8, 24, 24), patients=2)
    with pytest.MonkeyPatch.context() as patch:
        project.enter(patch)
        patch.delenv("nnUNet_n_proc_DA")  # planning dies of 0
        plans_file = plan(raw, preprocessed, (8, 24, 24))
    shrink(plans_file, "3d_fullres", features=4)
    plans = json.loads(plans_file.read_text())
    plans.update(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    plans["configurations"]["3d_fullres"].update(patch_size=[24, 8, 24], spacing=[1.0, 3.5, 1.0])
    model = project.root / "results" / VOLUMES / "nnUNetTrainerMarginal__nnUNetPlans__3d_fullres"
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    shutil.copy(raw / "dataset.json", model)

    manager = PlansManager(plans)
    torch.manual_seed(0)
    network = nnUNetTrainerMarginal.build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), 1, 3, enable_deep_supervision=False
    )
    optimizer, rng = torch.optim.Adam(network.parameters(), 0.01), np.random.default_rng(3)
    for _ in range(40):
        image, truth = draw(rng, (24, 8, 24), True)
        data = torch.from_numpy((image - image.mean()) / image.std())[None, None]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(data), torch.from_numpy(truth).long()[None]).backward()
        optimizer.step()
    save(model, network.state_dict(), "nnUNetTrainerMarginal", "3d_fullres", (0, 2))
    return model


def make_regions(project: InProcess, source: Path) -> Path:
    """The first model for a dataset with regions: heart where MYO is above background, LV where it is above MYO."""
    model = project.root / "results" / REGIONS / "nnUNetTrainer__nnUNetPlans__2d"
    (model / "fold_0").mkdir(parents=True)
    shutil.copy(source / "plans.json", model)
    dataset_json = json.loads((source / "dataset.json").read_text())
    dataset_json["labels"] = {"background": 0, "heart": [1, 2], "LV": 1}
    dataset_json["regions_class_order"] = [2, 1]
    (model / "dataset.json").write_text(json.dumps(dataset_json))
    weights = torch.load(source / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    for name, weight in weights.items():
        if "seg_layers" in name:
            weights[name] = torch.stack([weight[2] - weight[0], weight[1] - weight[2]])
    save(model, weights, "nnUNetTrainer", "2d", None)
    return model


def save(model: Path, weights: Any, trainer: str, configuration: str, mirroring: tuple[int, ...] | None) -> None:
    """Write the first fold as nnU-Net does, but for what only training needs."""
    content = {
        "network_weights": weights,
        "trainer_name": trainer,
        "init_args": {"configuration": configuration},
        "inference_allowed_mirroring_axes": mirroring,
    }
    torch.save(content, model / "fold_0" / "checkpoint_final.pth")


def predict(project: InProcess, name: str, images: Path, out: Path, *options: str) -> Path:
    dataset, trainer, configuration = MODELS[name]
    project.must(
        "nnUNetv2_predict", "-d", dataset, "-c", configuration, "-tr", trainer, "-i", str(images), "-o", str(out),
        "-device", "cpu", "-npp", "0", "-nps", "0", *options,
    )  # fmt: skip
    return out


def make_models(root: Path) -> dict[str, Model]:
    """All of them, by their names in MODELS."""
    project = InProcess(root)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(project.root / "results" / SLICES, filter="data")
    folders = {name: project.root / "results" / SLICES / f"{MODELS[name][1]}__nnUNetPlans__2d" for name in MODELS}
    with one_thread():
        folders["volumes"] = train_volumes(project)
    folders["regions"] = make_regions(project, folders["marginal"])
    made = {}
    for name, (dataset, _, configuration) in MODELS.items():
        add_fold(folders[name])
        images = project.root / "images" / configuration
        if not images.exists():
            flat = configuration == "2d"
            write_images(images, (32, 32) if flat else (8, 24, 24), (0.8, 0.7) if flat else (2.5, 0.9, 1.1))
        (project.root / "raw" / dataset).mkdir(parents=True, exist_ok=True)
        predicted = predict(project, name, images, project.root / "predicted" / name, "-f", "0", "1")
        made[name] = Model(folders[name], sorted(images.iterdir()), predicted)
    return made
