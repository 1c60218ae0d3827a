"""Our trainers under nnU-Net's own commands: 2-D, 3-D, cascade, ignore label, ResEnc plans, continued, pretrained."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from toy import Project, shrink, write_toy

from nnunet_partial.training.run_record import RECORD_NAME

DATASET = "Dataset701_Toy"


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
    assert re.search(r"Mean predicted size .*\n.*\n.*\nb +MYO +2 ", newest.read_text())  # the ring, in two cases of b


def test_train_validate_continue_and_pretrain(planned: Project, tmp_path: Path) -> None:
    project = Project(tmp_path)
    for folder in ("raw", "preprocessed"):
        shutil.copytree(planned.root / folder, project.root / folder)
    results = project.root / "results" / DATASET / "nnUNetTrainerMarginal__nnUNetPlans__2d" / "fold_0"

    said = project.train("701", "2d", "0", "-tr", "nnUNetTrainerMarginal", "--npz", nnUNet_partial_epochs="1")
    assert re.search(r"Run length: 1 epochs of 2 training and 2 validation", said)
    assert re.search(r"a +4 / 0 / 0 +4 / 0 / 0", said)  # domain, LV, MYO: annotated / absent / unknown
    assert re.search(r"b +4 / 0 / 0 +0 / 0 / 4", said)
    check_summary(results)
    assert len(list((results / "validation").glob("*.npz"))) == 4
    first = summary_of(results)

    # --val gives the same numbers; predictions that another split left in the folder do not count
    stranger = next((project.preprocessed(DATASET) / "gt_segmentations").glob("b_p5_0*"))
    assert stranger.name.removesuffix(".nii.gz") not in {case_of(entry) for entry in first["metric_per_case"]}
    shutil.copy(stranger, results / "validation" / stranger.name)
    project.train("701", "2d", "0", "-tr", "nnUNetTrainerMarginal", "--val")
    assert json.dumps(summary_of(results)) == json.dumps(first)  # as text: NaN does not equal itself

    project.train("701", "2d", "0", "-tr", "nnUNetTrainerMarginal", "--c", nnUNet_partial_epochs="2")
    checkpoint = torch.load(results / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert {len(values) for values in checkpoint["logging"].values()} == {2}
    record = json.loads((results / RECORD_NAME).read_text())
    assert [(entry["from_epoch"], entry["epochs"]) for entry in record] == [(0, 1), (1, 2)]
    check_summary(results)

    weights = str(results / "checkpoint_final.pth")
    said = project.train(
        "701", "2d", "0", "-tr", "nnUNetTrainerABCE", "-pretrained_weights", weights, nnUNet_partial_epochs="1"
    )
    assert "encoder.stages.0.0.convs.0.conv.weight shape" in said  # nnU-Net's list of what it took over
    check_summary(results.parents[1] / "nnUNetTrainerABCE__nnUNetPlans__2d" / "fold_0")


@pytest.fixture
def volumes(tmp_path: Path) -> Project:
    """A 3-D data set with an ignore label, planned with nnU-Net's residual encoder."""
    project = Project(tmp_path)
    write_toy(project.raw("Dataset702_Toy"), shape=(16, 24, 24), ignore=True)
    project.must(
        "nnUNetv2_plan_and_preprocess", "-d", "702", "-pl", "nnUNetPlannerResEncM", "-c", "3d_fullres", "-np", "1",
        "-npfp", "1",
    )  # fmt: skip
    return project


def test_cascade_with_residual_encoder_and_ignore_label(volumes: Project) -> None:
    plans_file = volumes.preprocessed("Dataset702_Toy") / "nnUNetResEncUNetMPlans.json"
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
    planned = ("-p", "nnUNetResEncUNetMPlans", "-tr", "nnUNetTrainerACCE")
    volumes.must("nnUNetv2_preprocess", "-d", "702", "-plans_name", planned[1], "-c", "3d_lowres", "-np", "1")

    volumes.train("702", "3d_lowres", "all", *planned, nnUNet_partial_epochs="1")
    volumes.train("702", "3d_cascade_fullres", "0", *planned, nnUNet_partial_epochs="1")
    check_summary(
        volumes.root / "results/Dataset702_Toy/nnUNetTrainerACCE__nnUNetResEncUNetMPlans__3d_cascade_fullres/fold_0"
    )

    out = volumes.root / "out"
    low, images = str(volumes.root / "low"), str(volumes.raw("Dataset702_Toy") / "imagesTs")
    predict = ("nnUNetv2_predict", "-d", "702", *planned, "-device", "cpu", "-npp", "1", "-nps", "1")
    volumes.must(*predict, "-c", "3d_lowres", "-f", "all", "-i", images, "-o", low)
    volumes.must(
        *predict, "-c", "3d_cascade_fullres", "-f", "0", "-i", images, "-o", str(out), "-prev_stage_predictions", low
    )
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "new.nii.gz")))
    assert predicted.shape == (16, 24, 24)
    assert set(np.unique(predicted)) <= {0, 1, 2}
