"""Trained and untrained models of the toy dataset, among files that name its cases and the computer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.toy_dataset import Project
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from PIL import Image, PngImagePlugin

DATASET = "Dataset701_Toy"

#: What no file of an export may hold; `plant` puts each of them beside the model and into it.
HOST, USER, PLACE, CASE = "ward7-gpu2", "jane.roe", "/data/st-marys/echo", "roe_jane_1961"


def plant(model: Path, fold: int) -> None:
    """Write names of people and places where nnU-Net, planners and people leave them."""
    folder, everything = model / f"fold_{fold}", f"{CASE} {HOST} {USER} {PLACE}"
    for name in ("debug.json", "training_log_2026_1_1.txt"):
        (folder / name).write_text(json.dumps({"hostname": everything}))
    (folder / "validation").mkdir()
    (folder / "validation" / "summary.json").write_text(
        json.dumps({"metric_per_case": [{"prediction_file": f"{PLACE}/{CASE}.nii.gz"}], "by": everything})
    )
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", everything)
    Image.new("RGB", (4, 4), (200, 0, 0)).save(folder / "progress.png", pnginfo=texts)
    (model / "dataset_fingerprint.json").write_text(json.dumps({"made by": everything}))
    plans = json.loads((model / "plans.json").read_text())
    plans["planned_by"] = everything
    for configuration in plans["configurations"].values():
        configuration["comment"] = everything
    (model / "plans.json").write_text(json.dumps(plans))
    dataset_json = json.loads((model / "dataset.json").read_text())
    dataset_json |= {
        "dataset": {CASE: {"images": [f"{PLACE}/{CASE}_0000.nii.gz"], "label": f"{PLACE}/{CASE}.nii.gz"}},
        "reference": everything,
        "converted_by": everything,
        "name": everything,
    }
    (model / "dataset.json").write_text(json.dumps(dataset_json))
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    checkpoint["init_args"] |= {"plans": plans, "dataset_json": dataset_json}
    checkpoint["logging"]["my_log"] = [everything]
    torch.save(checkpoint, folder / "checkpoint_final.pth")


def write_untrained(
    project: Project, trainer: str, plans: dict[str, Any], configuration: str, folds: tuple[int | str, ...]
) -> Path:
    """A model with weights as a network is born with, a seed per fold; gives its folder."""
    dataset_json = json.loads((project.raw(plans["dataset_name"]) / "dataset.json").read_text())
    name = f"{trainer}__{plans['plans_name']}__{configuration}"
    model = project.root / "results" / plans["dataset_name"] / name
    manager = PlansManager(plans)
    chosen = manager.get_configuration(configuration)
    trainer_class = recursive_find_trainer_class_by_name(trainer)
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        network = trainer_class.build_network_architecture(
            manager,
            chosen,
            determine_num_input_channels(manager, chosen, dataset_json),
            manager.get_label_manager(dataset_json).num_segmentation_heads,
            True,
        )
        for weights in network.state_dict().values():  # biases are born 0, and hide what becomes of them
            if weights.ndim == 1:
                weights.add_(torch.randn_like(weights) / 10)
        (model / f"fold_{fold}").mkdir(parents=True)
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": None
            if "NoMirroring" in trainer
            else tuple(range(len(chosen.patch_size))),
            "init_args": {"plans": plans, "configuration": configuration, "fold": fold, "dataset_json": dataset_json},
        }
        torch.save(checkpoint, model / f"fold_{fold}" / "checkpoint_final.pth")
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset_json))
    return model
