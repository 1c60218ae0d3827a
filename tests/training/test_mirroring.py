"""Trainers that do not mirror: nnU-Net's endings behind ours, and what they are for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.nnunet_in_process import InProcess
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import TRAINERS, Project
from helpers.toy_trainers import trainer_of
from helpers.twins import augment_little, dice_after_training, plan_twins
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.trainers.nnUNetTrainerABCE import nnUNetTrainerABCE_onlyMirror01
from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginalNoMirroring
from nnunet_partial.training.mixin import PartialLabelMixin

NAMES = (
    "Marginal", "ACCE", "ACCEIgnore", "ABCE", "Naive",
    "MarginalLabelDropout", "ACCELabelDropout", "ABCELabelDropout",
    "MarginalLeafDice", "ABCEExclusive",
)  # fmt: skip
ENDINGS = {"NoMirroring": "nnUNetTrainerNoMirroring", "_onlyMirror01": "nnUNetTrainer_onlyMirror01"}

pytestmark = WARNINGS_OF_NNUNET


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", NAMES)
def test_the_mixin_stands_before_nnunets_class(name: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    monkeypatch.setenv("nnUNet_extTrainer", str(TRAINERS))
    trainer = recursive_find_trainer_class_by_name(f"nnUNetTrainer{name}{ending}")
    order = [cls.__name__ for cls in trainer.__mro__]
    assert order.index(f"nnUNetTrainer{name}") < order.index(PartialLabelMixin.__name__) < order.index(ENDINGS[ending])
    plain = recursive_find_trainer_class_by_name(f"nnUNetTrainer{name}")
    assert (trainer.loss_class, trainer.loss_arguments) == (plain.loss_class, plain.loss_arguments)


def test_no_ending_goes_with_a_length_or_another_network() -> None:
    found = {
        name
        for file in TRAINERS.glob("*.py")
        for name in re.findall(r"^class nnUNetTrainer(\w+)", file.read_text(), re.MULTILINE)
    }
    assert {name for name in found if "Mirror" in name} == {f"{name}{ending}" for name in NAMES for ending in ENDINGS}


@pytest.mark.parametrize("ending", [nnUNetTrainerMarginalNoMirroring, nnUNetTrainerABCE_onlyMirror01])
def test_an_ending_is_refused_beside_augmentation_that_swaps_axes(project: Project, ending: type[Any]) -> None:
    """Of DA5: an image whose axes are swapped and that is then turned by 90 degrees is a mirror image."""
    swapping = type("Swapping", (ending, nnUNetTrainerDA5), {})
    with pytest.raises(PartialLabelError, match="Swapping"):
        trainer_of(project, swapping).initialize()


@pytest.mark.parametrize(
    ("trainer_class", "axes"), [(nnUNetTrainerMarginalNoMirroring, None), (nnUNetTrainerABCE_onlyMirror01, (0,))]
)
def test_the_checkpoint_says_along_which_axes_prediction_may_mirror(
    project: Project, trainer_class: type[Any], axes: tuple[int, ...] | None
) -> None:
    trainer = trainer_of(project, trainer_class)
    trainer.on_train_start()
    trainer.train_step(next(trainer.dataloader_train))
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    content = torch.load(path, weights_only=False)
    assert content["inference_allowed_mirroring_axes"] == axes
    assert content["trainer_name"] == trainer_class.__name__


@pytest.mark.slow
def test_mirror_images_are_told_apart_where_nnunet_does_not_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment_little(monkeypatch)
    project = InProcess(tmp_path)
    plan_twins(project)
    mirrored = dice_after_training(project, "nnUNetTrainerABCE", 150)
    unmirrored = dice_after_training(project, "nnUNetTrainerABCENoMirroring", 150)
    assert min(unmirrored["right"], unmirrored["left"]) >= 0.85
    assert min(mirrored["right"], mirrored["left"]) <= 0.7
