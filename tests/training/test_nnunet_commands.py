"""Our trainers under nnU-Net's own commands: 3-D, cascade, ignore label, ResEnc plans, continued, pretrained.

All of it on one preprocessed data set and one trained fold. Of 2-D: test_end_to_end.py; as processes: tests/install and
tests/slurm.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet_in_process import InProcess
from helpers.toy_dataset import shrink, write_toy

from nnunet_partial.training.run_record import RECORD_NAME

pytestmark = pytest.mark.slow
DATASET = "Dataset702_Toy"
PLANS = "nnUNetResEncUNetMPlans"
TRAINER = ("-p", PLANS, "-tr", "nnUNetTrainerACCE")


def summary_of(results: Path) -> dict[str, Any]:
    return json.loads((results / "validation" / "summary.json").read_text())


def case_of(entry: dict[str, Any]) -> str:
    return Path(entry["prediction_file"]).name.removesuffix(".nii.gz")


def check_summary(results: Path) -> None:
    """NaN exactly where a case of domain b does not know the ring; means without them, in the newest log too."""
    summary = summary_of(results)
    dice: dict[str, list[float]] = {"1": [], "2": []}
    for entry in summary["metric_per_case"]:
        unknown = case_of(entry).startswith("b_")
        assert all(math.isnan(value) for value in entry["metrics"]["2"].values()) == unknown
        for label in dice:
            value = entry["metrics"][label]["Dice"]
            dice[label] += [] if math.isnan(value) else [value]
    assert {case_of(entry)[0] for entry in summary["metric_per_case"]} == {"a", "b"}
    means = {label: float(np.mean(values)) if values else math.nan for label, values in dice.items()}
    for label, mean in means.items():
        assert summary["mean"][label]["Dice"] == pytest.approx(mean, nan_ok=True)
    foreground = np.nanmean(list(means.values()))
    assert summary["foreground_mean"]["Dice"] == pytest.approx(foreground)
    newest = max(results.glob("training_log_*.txt"), key=lambda log: log.stat().st_mtime)
    logged = re.findall(r"Mean Validation Dice:\s+(\S+)", newest.read_text())
    assert [float(value) for value in logged] == [pytest.approx(foreground)]
    number = sum(case_of(entry).startswith("b_") for entry in summary["metric_per_case"])
    assert re.search(rf"Mean predicted size .*\n.*\n.*\nb +MYO +{number} ", newest.read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """A 3-D data set with an ignore label, planned with nnU-Net's residual encoder for a cascade, and its first stage
    trained for an epoch on all cases, as the second needs a prediction of each; do not change it, take `project`."""
    project = InProcess(tmp_path_factory.mktemp("trained"))
    write_toy(project.raw(DATASET), shape=(16, 24, 24), ignore=True)
    project.must(
        "nnUNetv2_plan_and_preprocess", "-d", "702", "-pl", "nnUNetPlannerResEncM", "-c", "3d_fullres", "-np", "1",
        "-npfp", "1",
    )  # fmt: skip
    plans_file = project.preprocessed(DATASET) / f"{PLANS}.json"
    shrink(plans_file, "3d_fullres", features=4, batch_size=2)
    plans = json.loads(plans_file.read_text())
    full = plans["configurations"]["3d_fullres"]
    plans["configurations"]["3d_lowres"] = {
        "inherits_from": "3d_fullres",
        "data_identifier": "nnUNetPlans_3d_lowres",
        "spacing": [2 * spacing for spacing in full["spacing"]],
        "median_image_size_in_voxels": [size / 2 for size in full["median_image_size_in_voxels"]],
        "patch_size": [8, 12, 12],
        "next_stage": "3d_cascade_fullres",
    }
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans_file.write_text(json.dumps(plans))
    project.must("nnUNetv2_preprocess", "-d", "702", "-plans_name", PLANS, "-c", "3d_lowres", "-np", "1")

    said = project.train("702", "3d_lowres", "all", *TRAINER, "--npz", nnUNet_partial_epochs="1")
    (project.root / "said.txt").write_text(said)
    return project


@pytest.fixture
def project(trained: InProcess, tmp_path: Path) -> InProcess:
    """A copy."""
    return trained.copy(tmp_path)


def fold(project: InProcess, trainer: str = "nnUNetTrainerACCE", configuration: str = "3d_lowres/fold_all") -> Path:
    return project.root / "results" / DATASET / f"{trainer}__{PLANS}__{configuration}"


def test_training_says_what_is_known_and_validates_only_that(trained: InProcess) -> None:
    said = (trained.root / "said.txt").read_text()
    assert re.search(r"Run length: 1 epochs of 2 training and 2 validation", said)
    assert re.search(r"a +6 / 0 / 0 +6 / 0 / 0", said)  # domain, LV, MYO: annotated / absent / unknown
    assert re.search(r"b +6 / 0 / 0 +0 / 0 / 6", said)
    check_summary(fold(trained))
    assert len(list((fold(trained) / "validation").glob("*.npz"))) == 12


def test_validated_again_it_gives_the_same_numbers(trained: InProcess, project: InProcess) -> None:
    """Predictions that another split left in the folder do not count."""
    copies = project.preprocessed(DATASET) / "gt_segmentations"
    for folder in (copies, fold(project) / "validation"):  # of a case that was removed, where nnU-Net removes nothing
        shutil.copy(copies / "a_p0_0.nii.gz", folder / "a_p9_0.nii.gz")
    project.train("702", "3d_lowres", "all", *TRAINER, "--val")
    # as text, as NaN does not equal itself
    first, second = (json.dumps(summary_of(fold(at))).replace(str(at.root), "") for at in (trained, project))
    assert first == second


def test_validated_with_the_best_checkpoint(project: InProcess) -> None:
    assert summary_of(fold(project))["checkpoint"] == "checkpoint_final.pth"
    project.train("702", "3d_lowres", "all", *TRAINER, "--val", "--val_best")
    assert summary_of(fold(project))["checkpoint"] == "checkpoint_best.pth"
    project.train("702", "3d_lowres", "all", *TRAINER, "--c", nnUNet_partial_epochs="1")  # has nothing left to train
    assert summary_of(fold(project))["checkpoint"] == "checkpoint_final.pth"


def test_the_command_of_find_best_runs_where_only_the_best_checkpoint_is_left(project: InProcess) -> None:
    project.train("702", "3d_lowres", "0", *TRAINER, "--val_best", nnUNet_partial_epochs="1")
    (fold(project, configuration="3d_lowres/fold_0") / "checkpoint_final.pth").unlink()
    said = project.must("nnunet_partial", "find-best", "-d", "702", "-p", PLANS, "-f", "0", "-np", "1")
    (command,) = [line for line in said.splitlines() if line.startswith("nnUNetv2_predict")]
    places = {"INPUT_FOLDER": project.raw(DATASET) / "imagesTs", "OUTPUT_FOLDER": project.root / "out"}
    words = [str(places.get(word, word)) for word in shlex.split(command)]
    project.must(*words, "-device", "cpu", "-npp", "0", "-nps", "0")
    assert (project.root / "out" / "new.nii.gz").is_file()


def test_continued_with_another_length(project: InProcess) -> None:
    project.train("702", "3d_lowres", "all", *TRAINER, "--c", nnUNet_partial_epochs="2")
    checkpoint = torch.load(fold(project) / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert {len(values) for values in checkpoint["logging"].values()} == {2}
    record = json.loads((fold(project) / RECORD_NAME).read_text())
    assert [(entry["from_epoch"], entry["epochs"]) for entry in record] == [(0, 1), (1, 2)]
    check_summary(fold(project))


def test_pretrained_with_the_weights_of_another_trainer(project: InProcess) -> None:
    weights = str(fold(project) / "checkpoint_final.pth")
    said = project.train(
        "702", "3d_lowres", "0", "-p", PLANS, "-tr", "nnUNetTrainerABCE", "-pretrained_weights", weights,
        nnUNet_partial_epochs="1",
    )  # fmt: skip
    assert "encoder.stages.0.blocks.0.conv1.conv.weight shape" in said  # nnU-Net's list of what it took over
    check_summary(fold(project, "nnUNetTrainerABCE", "3d_lowres/fold_0"))


def test_second_stage_of_the_cascade(project: InProcess) -> None:
    said = project.train("702", "3d_cascade_fullres", "0", *TRAINER, nnUNet_partial_epochs="1")
    assert re.search(r"a +4 / 0 / 0 +4 / 0 / 0", said)  # of the fold
    check_summary(fold(project, configuration="3d_cascade_fullres/fold_0"))

    out, low, images = project.root / "out", str(project.root / "low"), str(project.raw(DATASET) / "imagesTs")
    predict = ("nnUNetv2_predict", "-d", "702", *TRAINER, "-device", "cpu", "-npp", "0", "-nps", "0", "-i", images)
    project.must(*predict, "-c", "3d_lowres", "-f", "all", "-o", low)
    project.must(*predict, "-c", "3d_cascade_fullres", "-f", "0", "-o", str(out), "-prev_stage_predictions", low)
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "new.nii.gz")))
    assert predicted.shape == (16, 24, 24)
    assert set(np.unique(predicted)) <= {0, 1, 2}
