"""Two trained models with two folds each, among files that name cases and the computer."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from helpers.exported_models import DATASET, plant
from helpers.nnunet_in_process import InProcess
from helpers.toy_dataset import write_toy

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "old_checkpoints.tar.xz"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """Marginal and aBCE, 2-D: fold 0 was trained, fold 1 is the same and a little noise; do not change it."""
    project = InProcess(tmp_path_factory.mktemp("trained"))
    write_toy(project.raw(DATASET))
    results = project.root / "results" / DATASET
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(results, filter="data")
    for name in ("partial_labels.json", "splits_final.json"):
        project.preprocessed(DATASET).mkdir(parents=True, exist_ok=True)
        (results / name).rename(project.preprocessed(DATASET) / name)
    for model in results.glob("nnUNetTrainer*"):
        second = model / "fold_1"
        second.mkdir()
        checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
        for name, weights in checkpoint["network_weights"].items():
            if "seg_layers" in name:
                weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)) / 5)
        checkpoint["init_args"]["fold"] = 1
        torch.save(checkpoint, second / "checkpoint_final.pth")
        for fold in (0, 1):
            plant(model, fold)
    return project


@pytest.fixture
def project(trained: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """A copy, with nnU-Net's variables set for this process too."""
    copy = trained.copy(tmp_path)
    copy.enter(monkeypatch)
    return copy
