"""One small planned and preprocessed data set for all tests that train: planning takes nnU-Net ten seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy import Project, shrink, write_toy

DATASET = "Dataset701_Toy"


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two-dimensional, 32 x 32, twelve cases of six patients; do not change it, take `project`."""
    project = Project(tmp_path_factory.mktemp("planned"))
    write_toy(project.raw(DATASET))
    project.must("nnUNetv2_plan_and_preprocess", "-d", "701", "-c", "2d", "-np", "1", "-npfp", "1")
    shrink(project.preprocessed(DATASET) / "nnUNetPlans.json", "2d")
    return project


@pytest.fixture
def project(planned: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the planned data set, with nnU-Net's variables set for this process too."""
    copy = Project(tmp_path)
    for folder in ("raw", "preprocessed"):
        shutil.copytree(planned.root / folder, copy.root / folder)
    for variable, value in {**copy.environment, "nnUNet_n_proc_DA": "0"}.items():
        monkeypatch.setenv(variable, value)
    for variable in ("epochs", "iterations", "val_iterations", "seed"):
        monkeypatch.delenv(f"nnUNet_partial_{variable}", raising=False)
    return copy
