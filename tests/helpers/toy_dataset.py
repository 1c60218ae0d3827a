"""A tiny nnU-Net data set for training tests: bright rings around dark discs; domain b does not know the ring."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

from nnunet_partial.dataset.plans import shrink_network
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest

if TYPE_CHECKING:
    import pytest


CLASSES = ("LV", "MYO")
TRAINERS = Path(__file__).resolve().parents[2] / "nnunet_partial" / "trainers"


@dataclass
class Project:
    """nnU-Net's three folders, and the environment in which its commands run."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "nnUNet_raw": str(self.root / "raw"),
            "nnUNet_preprocessed": str(self.root / "preprocessed"),
            "nnUNet_results": str(self.root / "results"),
            "nnUNet_extTrainer": str(TRAINERS),
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def raw(self, name: str) -> Path:
        return self.root / "raw" / name

    def preprocessed(self, name: str) -> Path:
        return self.root / "preprocessed" / name

    def copy(self, root: Path) -> Self:
        """Copy all that is there into the folder `root`, for a test that changes it."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return replace(self, root=root)

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Set nnU-Net's variables for this process too, loaders in the main process; remove ours that shorten runs."""
        for variable, value in {**self.environment, "nnUNet_n_proc_DA": "0"}.items():
            patch.setenv(variable, value)
        for variable in ("epochs", "iterations", "val_iterations", "seed"):
            patch.delenv(f"nnUNet_partial_{variable}", raising=False)

    def run(self, *command: str, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs one of nnU-Net's or our commands from this environment's bin folder; output is captured as text."""
        program = Path(sys.executable).with_name(command[0])
        return subprocess.run(
            [str(program), *command[1:]],
            env={**os.environ, **self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, *command: str, **variables: str) -> str:
        """Like run, and the command must succeed; gives its output."""
        done = self.run(*command, **variables)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def train(self, dataset: str, *arguments: str, **variables: str) -> str:
        """nnUNetv2_train on the CPU: two epochs of two iterations, loaders in the main process."""
        short = {"epochs": "2", "iterations": "2", "val_iterations": "2", "seed": "1"}
        settings = {f"nnUNet_partial_{key}": value for key, value in short.items()}
        return self.must(
            "nnUNetv2_train", dataset, *arguments, "-device", "cpu", nnUNet_n_proc_DA="0", **{**settings, **variables}
        )


def draw(rng: np.random.Generator, shape: tuple[int, ...], with_ring: bool) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture and its labels: 1 the dark disc, 2 the bright ring (0 where it was not drawn)."""
    center = [rng.integers(size // 3, 2 * size // 3) for size in shape]
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), center, strict=True)))
    truth = np.where(distance < 4, 1, np.where(distance < 7, 2, 0)).astype(np.uint8)
    image = (rng.normal(100, 15, shape) - 60 * (truth == 1) + 60 * (truth == 2)).astype(np.float32)
    return image, truth if with_ring else np.where(truth == 2, 0, truth).astype(np.uint8)


def write_toy(
    folder: Path, shape: tuple[int, ...] = (32, 32), patients: int = 6, ignore: bool = False, seed: int = 0
) -> Manifest:
    """A raw data set, two images a patient; every other patient is of domain b, where the ring was not drawn."""
    rng = np.random.default_rng(seed)
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / sub).mkdir(parents=True)
    cases = {}
    for patient in range(patients):
        domain = "ab"[patient % 2]
        known = CLASSES if domain == "a" else ("LV",)
        for frame in range(2):
            case = f"{domain}_p{patient}_{frame}"
            image, labels = draw(rng, shape, domain == "a")
            if ignore:
                labels[:3] = 3
            sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / "imagesTr" / f"{case}_0000.nii.gz"))
            sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "labelsTr" / f"{case}.nii.gz"))
            cases[case] = CaseLabels(known, domain=domain, patient=f"p{patient}")
    image, _ = draw(rng, shape, True)
    sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / "imagesTs" / "new_0000.nii.gz"))
    labels_json = {"background": 0, "LV": 1, "MYO": 2, **({"ignore": 3} if ignore else {})}
    generate_dataset_json(str(folder), {0: "ultrasound"}, labels_json, len(cases), ".nii.gz")
    manifest = Manifest(cases)
    manifest.write(folder / MANIFEST_NAME)
    return manifest


def shrink(plans_file: Path, configuration: str, features: int = 8, batch_size: int = 4) -> None:
    """Make a configuration of the plans small: at most three stages, few features, a batch that mixes the domains."""
    plans: dict[str, Any] = json.loads(plans_file.read_text())
    chosen = plans["configurations"][configuration]
    chosen["batch_size"] = batch_size
    architecture = chosen["architecture"]
    architecture["arch_kwargs"] = shrink_network(architecture["arch_kwargs"], [features, 2 * features, 4 * features])
    plans_file.write_text(json.dumps(plans))
