"""The recipes of docs/how-to/extend.md work: each block of code is taken from the page and run."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.facts import says
from helpers.toy_dataset import TRAINERS
from nnunet_partial.dataset_conversion import DATASETS
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_partial.cli import main
from nnunet_partial.labels import Manifest
from nnunet_partial.losses import MarginalLoss

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "extend.md"
BLOCKS = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def write(folder: Path, name: str) -> Path:
    """Writes a block under the name that its first line gives."""
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(BLOCKS[name])
    return file


def load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_block_is_run_here() -> None:
    assert list(BLOCKS) == [
        "my_trainers/exclusion_loss.py",
        "my_trainers/nnUNetTrainerExclusionDA5.py",
        "dataset_conversion/clinic.py",
        "dataset_conversion/__init__.py",
        "cardiothoracic_ratio.py",
    ]
    assert PAGE.read_text().count("```python\n") == len(BLOCKS)


# ---- a loss ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def loss_class(tmp_path: Path) -> Any:
    return load(write(tmp_path, "my_trainers/exclusion_loss.py")).ExclusionMarginalLoss


def test_exclusion_by_hand(loss_class: Any) -> None:
    # two voxels, labels 1 and 0, all p = 1/3. Class 1 (known) cannot be in the second, class 2 (unknown) in the first:
    # 2 * 1/3 / (2/3 + 1) = 0.4 for both
    logits, target = torch.zeros(1, 3, 1, 2), torch.tensor([[[[1, 0]]]])
    known = torch.tensor([[True, True, False]])
    assert loss_class().exclusion(logits, target, known).item() == pytest.approx(0.4)
    # were class 2 known, too, it could be nowhere: 2 * 2/3 / (2/3 + 2) = 0.5, the mean is 0.45
    assert loss_class().exclusion(logits, target, torch.ones(1, 3).bool()).item() == pytest.approx(0.45)
    value = loss_class(weight_exclusion=1.0)(logits, target, known)
    assert value.item() == pytest.approx(MarginalLoss()(logits, target, known).item() + 0.4)
    # the first voxel ignored: nothing is drawn; class 1 has 2 * 1/3 / (1/3 + 1) = 0.5, class 2 has 0
    ignored = torch.tensor([[[[9, 0]]]])
    assert loss_class(ignore_label=9).exclusion(logits, ignored, known).item() == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_exclusion_pushes_an_unknown_structure_out_of_a_drawn_one(loss_class: Any, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator).to(dtype).requires_grad_()
    target = torch.randint(0, 2, (2, 1, 4, 5, 6), generator=generator)
    known = torch.tensor([[True, True, False]] * 2)
    loss = loss_class(weight_ce=0.0, weight_exclusion=100.0)
    value = loss(logits, target, known)
    value.backward()
    assert value.dtype == torch.float32
    assert logits.grad is not None
    inside = logits.grad[:, 2][target[:, 0] == 1]
    assert (inside > 0).all()  # going downhill lowers the logit


# ---- a trainer -------------------------------------------------------------------------------------------------------


# nnU-Net's search imports all of its trainers, some with what PyTorch is about to drop; so is its scheduler
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_the_trainer_is_found_and_trains(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my_trainers/exclusion_loss.py", "my_trainers/nnUNetTrainerExclusionDA5.py"):
        write(tmp_path, name)
    monkeypatch.setenv("nnUNet_extTrainer", f"{tmp_path / 'my_trainers'}{os.pathsep}{TRAINERS}")
    found = recursive_find_trainer_class_by_name("nnUNetTrainerExclusionDA5")
    assert recursive_find_trainer_class_by_name("nnUNetTrainerMarginal").__name__ == "nnUNetTrainerMarginal"

    folder = project.preprocessed("Dataset701_Toy")
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = found(plans, "2d", 0, dataset_json, device=torch.device("cpu"))
    trainer.on_train_start()
    assert trainer.num_epochs == 200
    assert trainer.partial_loss.loss.weight_exclusion == 1.0
    batch = next(trainer.dataloader_train)
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(8)]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]


# ---- a data set ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the recipe with three patients, and its command. nnUNet_raw is beside it."""
    for variable in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    data_set = load(write(tmp_path, "dataset_conversion/clinic.py")).Clinic
    registration = "\n".join(
        line for line in BLOCKS["dataset_conversion/__init__.py"].splitlines() if not line.startswith("from .")
    )
    monkeypatch.setitem(DATASETS, "clinic", None)  # undone afterwards
    exec(registration, {"DATASETS": DATASETS, "Clinic": data_set})
    assert DATASETS["clinic"] is data_set
    for sub in ("images", "masks"):
        (tmp_path / "Clinic" / sub).mkdir(parents=True)
    mask = np.zeros((6, 4), np.uint8)
    mask[1:3, 1:3], mask[4, 1:3] = 1, 2
    for name in ("p01_ED", "p01_ES", "p02_ED", "p03_ED"):
        for sub, array in (("images", 50 + 20 * mask), ("masks", mask)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((0.5, 0.25))  # width, height
            sitk.WriteImage(image, str(tmp_path / "Clinic" / sub / f"{name}.nii.gz"))
    return tmp_path / "Clinic"


def test_the_data_set_is_converted_by_its_command(clinic: Path) -> None:
    assert main(["convert", "clinic", "-i", str(clinic), "-d", "520", "-np", "1"]) == 0
    made = clinic.parent / "raw" / "Dataset520_Clinic"
    assert json.loads((made / "dataset.json").read_text())["labels"] == {"background": 0, "LV": 1, "LA": 2}
    entry = Manifest.read(made / "partial_labels.json").labels_of("clinic_p01_ES")
    assert (entry.annotated, entry.absent, entry.patient) == (("LV", "LA"), ("RV", "RA"), "clinic_p01")
    label = sitk.ReadImage(str(made / "labelsTr" / "clinic_p01_ES.nii.gz"))
    assert np.bincount(sitk.GetArrayFromImage(label).ravel()).tolist() == [18, 4, 2]
    assert label.GetSpacing() == (0.5, 0.25)
    for fold in json.loads((made / "splits_final.json").read_text()):
        sides = [{case.split("_")[1] for case in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1]


def test_a_case_without_mask_is_named_and_not_lost_silently(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clinic / "masks" / "p02_ED.nii.gz").unlink()
    assert main(["convert", "clinic", "-i", str(clinic), "-d", "520", "-np", "1"]) == 1
    report = json.loads((clinic.parent / "raw" / "Dataset520_Clinic" / "conversion_report.json").read_text())
    assert report["skipped"] == [{"case": "p02_ED", "reason": "p02_ED.nii.gz does not exist"}]
    assert says("skipped p02_ED", "p02_ED.nii.gz") in capsys.readouterr().out.splitlines()


def test_a_wrong_folder_is_explained(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "clinic", "-i", str(clinic / "masks"), "-d", "520"]) == 1
    assert capsys.readouterr().err == says("images/*.nii.gz", "found: p01_ED.nii.gz")


# ---- a biomarker -----------------------------------------------------------------------------------------------------


CHEST = ("right_lung", "left_lung", "heart")


def chest(heart_columns: int) -> np.ndarray:
    """Both lungs from column 1 to column 10, the heart from column 5 on."""
    labels = np.zeros((6, 12), np.uint8)
    labels[1:5, 1:4], labels[1:5, 8:11] = 1, 2
    labels[2:4, 5 : 5 + heart_columns] = 3
    return labels


def test_the_cardiothoracic_ratio_by_hand(tmp_path: Path) -> None:
    example = load(write(tmp_path, "cardiothoracic_ratio.py"))
    assert example.cardiothoracic_ratio(chest(3), CHEST) == pytest.approx(3 / 10)
    assert example.cardiothoracic_ratio(chest(4), CHEST) == pytest.approx(4 / 10)  # covers a column of the left lung
    for value in (1, 2, 3):
        labels = chest(3)
        labels[labels == value] = 0
        assert math.isnan(example.cardiothoracic_ratio(labels, CHEST))


def test_the_cardiothoracic_ratio_against_a_table(tmp_path: Path) -> None:
    example = load(write(tmp_path, "cardiothoracic_ratio.py"))
    for number, columns in enumerate([3, 4, 3, 4, 3, 0]):
        image = sitk.GetImageFromArray(chest(columns))
        sitk.WriteImage(image, str(tmp_path / f"wingspan_1-2-{number}.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(chest(3)), str(tmp_path / "jsrt_JPCLN001.nii.gz"))
    table = tmp_path / "table.csv"
    table.write_text("id,ctr\n" + "".join(f"1.2.{number}.png,{0.3 if number else 0.6}\n" for number in range(6)))
    pairs = example.read_pairs(tmp_path, table, CHEST)
    assert pairs[:5] == [(0.6, 0.3), (0.3, 0.4), (0.3, 0.3), (0.3, 0.4), (0.3, 0.3)]
    assert pairs[5][0] == 0.3
    assert math.isnan(pairs[5][1])  # no heart
    # differences -0.3, 0.1, 0, 0.1, 0: mean -0.02, SD sqrt((0.28^2 + 2 * 0.12^2 + 2 * 0.02^2) / 4) = 0.1643,
    # limits -0.02 -+ 1.96 * 0.1643
    text = example.describe(pairs)
    assert text.startswith("6 images, 1 without")
    assert "bias -0.020" in text
    assert "limits -0.342 to 0.302" in text
    assert text.endswith("0 of 1")


# ---- a manifest by hand ----------------------------------------------------------------------------------------------


def test_the_manifest_by_hand_says_what_the_page_says() -> None:
    page = PAGE.with_name("use-your-own-dataset.md").read_text()
    examples = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 1
    manifest = Manifest.from_json(json.loads(examples[0]))
    classes = ("LV", "MYO", "LA")
    assert manifest.known("siteB_001_2CH", classes).tolist() == [True, True, False, False]
    assert manifest.known("siteA_016_2CH", classes).tolist() == [True, True, True, True]
    assert manifest.known("siteA_017_2CH", classes).tolist() == [True, True, True, False]
    assert manifest.patient_of("siteA_017_2CH") == "siteA_017"
    assert manifest.patient_of("siteA_016_2CH") == "siteA_016_2CH"
