"""What was trained before still loads: trainers by their names, checkpoints, run record and manifest of version 1.

`tests/data/old_checkpoints.tar.xz` was made once, in November 2026, from `toy.write_toy` (seed 0): 8 epochs of 25
iterations with seed 1, three stages of 2, 4 and 8 features. It is not to be made again: a new one would prove nothing.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet_in_process import preprocess
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project, write_toy
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from nnunet_partial.errors import SplitError
from nnunet_partial.labels import Manifest

DATASET = "Dataset701_Toy"
ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "old_checkpoints.tar.xz"
TRAINERS = ["nnUNetTrainerMarginal", "nnUNetTrainerABCE"]
CPU = torch.device("cpu")

pytestmark = WARNINGS_OF_NNUNET


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The archive as results of nnU-Net, with its variables set for this process."""
    project = Project(tmp_path)
    for variable, value in {**project.environment, "nnUNet_n_proc_DA": "0"}.items():
        monkeypatch.setenv(variable, value)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(project.root / "results" / DATASET, filter="data")
    return project


def model(project: Project, trainer: str) -> Path:
    return project.root / "results" / DATASET / f"{trainer}__nnUNetPlans__2d"


def read(file: Path) -> Any:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_an_old_model_predicts_what_it_did(old: Project, trainer: str) -> None:
    predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model(old, trainer)), (0,), "checkpoint_final.pth")
    assert predictor.trainer_name == trainer
    image = read(model(old, trainer).parent / "new_0000.nii.gz")  # (32, 32)
    labels, probabilities = predictor.predict_single_npy_array(
        image[None, None].astype(np.float32), {"spacing": [999.0, 1.0, 1.0]}, None, None, True
    )
    least, first = np.sort(probabilities[:, 0], axis=0)[-2:]
    clear = first - least > 1e-3  # another processor may decide a tie otherwise
    assert clear.mean() > 0.99
    expected = read(model(old, trainer) / "predicted.nii.gz")
    assert set(np.unique(expected)) == {0, 1, 2}
    np.testing.assert_array_equal(labels[0][clear], expected[clear])


@pytest.fixture
def preprocessed(old: Project) -> Project:
    """The data set that the old models were trained on, with the plans, manifest and split of then."""
    write_toy(old.raw(DATASET))
    results, folder = old.root / "results" / DATASET, old.preprocessed(DATASET)
    folder.mkdir(parents=True)
    for name in ("partial_labels.json", "splits_final.json"):
        shutil.copy(results / name, old.raw(DATASET) / name)
        shutil.copy(results / name, folder / name)
    shutil.copy(old.raw(DATASET) / "dataset.json", folder / "dataset.json")
    shutil.copy(model(old, "nnUNetTrainerMarginal") / "plans.json", folder / "nnUNetPlans.json")
    (folder / "dataset_fingerprint.json").write_text("{}")  # only copied beside the model
    preprocess(old.raw(DATASET), folder, "2d")
    return old


def loaded(trainer: str, go_on: bool) -> Any:
    """As `nnUNetv2_train 701 2d 0 -tr TRAINER` does with --c, or else with --val, before its first iteration."""
    made = get_trainer_from_args(DATASET, "2d", 0, trainer, continue_training=go_on, device=CPU)
    maybe_load_checkpoint(made, go_on, not go_on)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_an_old_training_goes_on(preprocessed: Project, trainer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = model(preprocessed, trainer) / "fold_0" / "partial_label_run.json"
    first = {"from_epoch": 0, "epochs": 8, "iterations": 25, "val_iterations": 2, "seed": 1}
    assert json.loads(record.read_text()) == [first]
    for variable, value in {"epochs": "9", "iterations": "1", "val_iterations": "1", "seed": "1"}.items():
        monkeypatch.setenv(f"nnUNet_partial_{variable}", value)
    again = loaded(trainer, go_on=True)
    assert again.current_epoch == 8
    again.run_training()  # one iteration
    log = again.logger.local_logger.my_fantastic_logging
    assert len(log["train_losses"]) == 9  # 8 of then and 1 of now
    assert np.isfinite(log["train_losses"]).all()
    assert json.loads(record.read_text()) == [
        first,
        {"from_epoch": 8, "epochs": 9, "iterations": 1, "val_iterations": 1, "seed": 1},
    ]


def test_old_folds_are_known_again(preprocessed: Project) -> None:
    loaded("nnUNetTrainerMarginal", go_on=False)
    splits = preprocessed.preprocessed(DATASET) / "splits_final.json"
    folds = json.loads(splits.read_text())
    splits.write_text(json.dumps(folds[1:] + folds[:1]))
    with pytest.raises(SplitError, match=r"checkpoint_final\.pth"):
        loaded("nnUNetTrainerMarginal", go_on=False)


def test_an_old_manifest_is_read(old: Project) -> None:
    manifest = Manifest.read(old.root / "results" / DATASET / "partial_labels.json")
    assert manifest.known("a_p0_0", ("LV", "MYO")).tolist() == [True, True, True]
    assert manifest.known("b_p1_0", ("LV", "MYO")).tolist() == [True, True, False]
    assert (manifest.patient_of("b_p1_0"), manifest.labels_of("b_p1_0").domain) == ("p1", "b")
    assert len(manifest.cases) == 12


def test_a_manifest_with_everything_of_version_1_is_read(tmp_path: Path) -> None:
    file = tmp_path / "partial_labels.json"
    entry = {
        "annotated": ["LV"],
        "absent": ["RV"],
        "domain": "siteA",
        "patient": "p7",
        "split": "test",
        "view": "4CH",
        "phase": "ED",
        "frame": 3,
        "interpolated": True,
        "spacing_known": False,
        "quality": "Good",
        "ef": 54.0,
    }
    content = {
        "version": 1,
        "groups": [{"match": "siteB_*", "annotated": ["LV", "MYO"], "domain": "siteB"}],
        "cases": {"siteA_007": entry},
        "scenario": {"missing": ["LA"]},
        "domain_weights": {"siteA": 2.0, "siteB": 1.0},
    }
    file.write_text(json.dumps(content))
    manifest = Manifest.read(file)
    assert manifest.known("siteA_007", ("LV", "MYO", "RV")).tolist() == [True, True, False, True]
    assert manifest.known("siteB_1", ("LV", "MYO", "RV")).tolist() == [True, True, True, False]
    case = manifest.labels_of("siteA_007")
    assert (case.split, case.interpolated, case.info["spacing_known"]) == ("test", True, False)
    assert manifest.to_json() == content
