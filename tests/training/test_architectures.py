"""Other networks than nnU-Net's U-Net: SwinUNETR and Primus with every loss, from training to nnU-Net's prediction."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project
from nnunetv2.inference.predict_from_raw_data import predict_entry_point

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import MarginalLoss
from nnunet_partial.trainers import nnUNetTrainerSwinUNETR
from nnunet_partial.training.architectures import PrimusMixin, SwinUNETRMixin, feature_size, padded_size
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin

DATASET = "Dataset701_Toy"
LOSSES = (
    "Naive", "Marginal", "ACCE", "ACCEIgnore", "ABCE", "MarginalLabelDropout", "ACCELabelDropout", "ABCELabelDropout",
    "MarginalLeafDice", "ABCEExclusive",
)  # fmt: skip

MIXINS = (PartialLabelMixin, ZeroBackgroundMixin, LabelDropoutMixin)

pytestmark = WARNINGS_OF_NNUNET


@pytest.fixture
def monai() -> Any:
    return pytest.importorskip("monai", reason="MONAI (the extra 'transformer') is not installed")


def trainer_of(project: Project, trainer_class: type[Any], fold: int | str = 0) -> Any:
    folder = project.preprocessed(DATASET)
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    return trainer_class(plans, "2d", fold, dataset_json, device=torch.device("cpu"))


def plan(patch: tuple[int, ...], features: int = 8) -> Any:
    """What SwinUNETRMixin reads of a plan."""
    return SimpleNamespace(patch_size=patch, network_arch_init_kwargs={"features_per_stage": [features, 2 * features]})


def build(patch: tuple[int, ...]) -> torch.nn.Module:
    torch.manual_seed(0)
    return SwinUNETRMixin.build_network_architecture(None, plan(patch), 1, 3)


# ---- the size of the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unet", "swin"), [(32, 24), (64, 48), (48, 36), (16, 12), (8, 12)])
def test_features_follow_the_plans_unet_in_twelves(unet: int, swin: int) -> None:
    assert feature_size(unet) == swin


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((64, 64), [64, 64]),
        ((96, 160), [96, 160]),
        ((33, 64), [64, 64]),
        ((32, 32), [32, 64]),  # 32 halved five times is one voxel, which instance normalisation refuses
        ((16, 320, 320), [32, 320, 320]),
        ((20, 24, 24), [32, 32, 64]),
    ],
)
def test_patches_are_padded_to_multiples_of_32(size: tuple[int, ...], padded: list[int]) -> None:
    assert padded_size(size) == padded


@pytest.mark.slow
@pytest.mark.parametrize("patch", [(64, 64), (64, 96), (32, 32), (40, 70), (20, 24, 24)])
def test_any_patch_comes_back_in_its_size_and_every_weight_learns(monai: Any, patch: tuple[int, ...]) -> None:
    network = build(patch)
    logits = network(torch.randn(2, 1, *patch, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 3, *patch)
    logits.square().mean().backward()
    # a weight without gradient would stop nnU-Net's training on several GPUs
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_what_fits_is_monais_network_unchanged(monai: Any) -> None:
    network = build((64, 64)).eval()
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(image), network.network(image))
    assert type(network.network) is monai.networks.nets.SwinUNETR


def test_without_monai_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("monai.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(PartialLabelError, match=r"MONAI.*'transformer'"):
        build((64, 64))


# ---- trainings -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_swin_unetr_trains_and_validates_a_step_with_every_loss(monai: Any, project: Project, loss: str) -> None:
    trainer = trainer_of(project, getattr(nnUNetTrainerSwinUNETR, f"nnUNetTrainer{loss}SwinUNETR"))
    trainer.on_train_start()
    assert not trainer.enable_deep_supervision
    assert trainer.loss is trainer.partial_loss
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert isinstance(trainer.network.network, monai.networks.nets.SwinUNETR)
    before = [weight.detach().clone() for weight in trainer.network.parameters()]
    trainer.network.train()
    batch = next(trainer.dataloader_train)
    assert math.isfinite(trainer.train_step(batch)["loss"])
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.network.parameters(), strict=True))
    with torch.no_grad():
        logits = trainer.network(batch["data"])
        counted = trainer.validation_step(next(trainer.dataloader_val))
    assert logits.shape == (4, 3, 32, 32)
    assert (torch.count_nonzero(logits[:, 0]) == 0) == loss.startswith("ABCE")
    assert len(counted["tp_hard"]) == 2


@pytest.mark.slow
def test_swin_unetr_is_continued_and_predicts_with_nnunets_command(
    monai: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(project, nnUNetTrainerSwinUNETR.nnUNetTrainerABCESwinUNETR)
    trainer.on_train_start()
    trainer.train_step(next(trainer.dataloader_train))
    trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))

    continued = trainer_of(project, nnUNetTrainerSwinUNETR.nnUNetTrainerABCESwinUNETR)
    continued.load_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    assert math.isfinite(continued.train_step(next(trainer.dataloader_train))["loss"])

    images, out = project.raw(DATASET) / "imagesTs", project.root / "out"
    monkeypatch.setattr(sys, "argv", [
        "nnUNetv2_predict", "-d", "701", "-c", "2d", "-f", "0", "-tr", "nnUNetTrainerABCESwinUNETR",
        "-i", str(images), "-o", str(out),
        "-device", "cpu", "-npp", "0", "-nps", "0",
    ])  # fmt: skip
    predict_entry_point()
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "new.nii.gz")))
    # what this network says of this picture, in one window, mirrored along no, one, the other and both axes
    trainer.network.eval()
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "new_0000.nii.gz")))
    image = torch.from_numpy((picture - picture.mean()) / picture.std()).reshape(1, 1, 32, 32)
    with torch.no_grad():
        flips = [trainer.network(image.flip(axes)).flip(axes) for axes in ([], [2], [3], [2, 3])]
    logits = torch.stack(flips).mean(0)[0]  # (C, 32, 32)
    expected = logits.argmax(0).numpy()
    assert set(np.unique(expected)) > {0}
    first, second = logits.topk(2, dim=0).values
    clear = (first - second > 5e-3).numpy()  # nnU-Net adds up in half precision: a network that young has near ties
    assert clear.mean() > 0.9
    assert np.array_equal(predicted.squeeze()[clear], expected[clear])


# ---- nnU-Net's own transformer ---------------------------------------------------------------------------------------


def primus_of(project: Project, patch: list[int]) -> Any:
    """Primus-S, which is small; the toy's pictures are taken for volumes one slice thick."""
    from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_S_Trainer

    class Primus(PartialLabelMixin, PrimusMixin, nnUNet_Primus_S_Trainer):
        loss_class = MarginalLoss

    plans_file = project.preprocessed(DATASET) / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["2d"].update(patch_size=patch, batch_size=2)
    plans_file.write_text(json.dumps(plans))
    return trainer_of(project, Primus)


@pytest.mark.slow
def test_primus_combines_with_a_loss_and_is_continued(project: Project) -> None:
    trainer = primus_of(project, [8, 32, 32])
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    assert batch["data"].shape == (2, 1, 8, 32, 32)
    trained = trainer.train_step(batch)
    assert math.isfinite(trained["loss"])
    expected = [[True, True, str(key).startswith("a_")] for key in batch["keys"]]
    assert trainer.partial_loss.class_mask.tolist() == expected
    trainer.on_train_epoch_end([trained])
    with torch.no_grad():
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
    trainer.on_epoch_end()

    file = str(Path(trainer.output_folder, "checkpoint_latest.pth"))
    trainer.save_checkpoint(file)
    continued = primus_of(project, [8, 32, 32])
    continued.load_checkpoint(file)
    assert continued._best_ema == trainer._best_ema
    for ours, theirs in zip(continued.network.parameters(), trainer.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("patch", [[32, 32], [12, 32, 32]])
def test_primus_says_which_patches_it_takes(project: Project, patch: list[int]) -> None:
    with pytest.raises(PartialLabelError, match=r"three sides, each a multiple of 8"):
        primus_of(project, patch).initialize()


def test_primus_has_a_trainer_for_every_loss() -> None:
    from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_M_Trainer

    module = importlib.import_module("nnunet_partial.trainers.nnUNetTrainerPrimusM")
    for loss in LOSSES:
        trainer = getattr(module, f"nnUNetTrainer{loss}PrimusM")
        stock = importlib.import_module(
            f"nnunet_partial.trainers.nnUNetTrainer{re.split('Ignore|Label|Leaf|Exclusive', loss)[0]}"
        )
        alike = getattr(stock, f"nnUNetTrainer{loss}")
        assert trainer.__mro__[-2].__name__ == "nnUNetTrainer"
        assert issubclass(trainer, nnUNet_Primus_M_Trainer)
        assert (trainer.loss_class, trainer.loss_arguments) == (alike.loss_class, alike.loss_arguments)
        assert [mixin for mixin in MIXINS if issubclass(trainer, mixin)] == [m for m in MIXINS if issubclass(alike, m)]
