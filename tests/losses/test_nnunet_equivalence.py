"""Where everything is annotated, the losses are nnU-Net's own; aCCE also where its unknown channels are cut away."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.loss_batches import (
    ABCE,
    ABCE_EXCLUSIVE,
    ACCE,
    LEAF_DICE,
    SIGMOID_VARIANTS,
    SOFTMAX_VARIANTS,
    SPACES,
    Batch,
    Variant,
    assert_same,
    fully_known,
    known_from,
    make_batch,
    value_and_gradient,
)
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor
from torch.nn.functional import one_hot

pytestmark = pytest.mark.usefixtures("kernels")

IGNORE = 4
SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
BATCH_DICE = pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
IGNORE_LABEL = pytest.mark.parametrize("ignore_label", [None, IGNORE], ids=["no-ignore", "ignore"])


def nnunet_ce(batch_dice: bool, ignore_label: int | None, do_bg: bool = False, **weights: Any) -> DC_and_CE_loss:
    """As nnUNetTrainer builds it for labels."""
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": do_bg, "ddp": False}
    return DC_and_CE_loss(dice, {}, ignore_label=ignore_label, dice_class=MemoryEfficientSoftDiceLoss, **weights)


def nnunet_bce(batch_dice: bool, ignore: bool, **weights: float) -> DC_and_BCE_loss:
    """As nnUNetTrainer builds it for regions; our foreground channels are its regions."""
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": True, "ddp": False}
    return DC_and_BCE_loss({}, dice, use_ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss, **weights)


def of_nnunet(loss: torch.nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def regions(target: Tensor, classes: int, ignore: bool) -> Tensor:
    """(B, 1, *S) labels to (B, K, *S) yes or no, and one more channel for the ignore label if there is one."""
    hot = one_hot(target[:, 0], IGNORE + 1).movedim(-1, 1)
    return hot[:, 1:] if ignore else hot[:, 1:classes]


def assert_close(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """To 1e-6 in float32; gradients are of the order of 1/voxels, so they are held to a tenth of that."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-7)


@SPACE
@IGNORE_LABEL
@BATCH_DICE
@pytest.mark.parametrize("variant", SOFTMAX_VARIANTS, ids=str)
def test_everything_known_is_dc_and_ce(
    variant: Variant, batch_dice: bool, ignore_label: int | None, space: tuple[int, ...]
) -> None:
    for seed in range(5):
        batch = make_batch(seed, space, fully_known(), ignore_label=ignore_label, dtype=torch.float32)
        choices: list[dict[str, Any]] = [{}, {"weight_ce": 0.3, "weight_dice": 1.7}]
        for weights in choices:
            ours = variant.build(batch_dice=batch_dice, ignore_label=ignore_label, **weights)
            theirs = nnunet_ce(batch_dice, ignore_label, **weights)
            assert_close(value_and_gradient(ours, batch), of_nnunet(theirs, batch.logits, batch.target))


@IGNORE_LABEL
@BATCH_DICE
@pytest.mark.parametrize("variant", SOFTMAX_VARIANTS, ids=str)
def test_everything_known_with_background_dice(variant: Variant, batch_dice: bool, ignore_label: int | None) -> None:
    batch = make_batch(6, (5, 4), fully_known(), ignore_label=ignore_label, dtype=torch.float32)
    ours = value_and_gradient(variant.build(batch_dice=batch_dice, ignore_label=ignore_label, do_bg=True), batch)
    theirs = nnunet_ce(batch_dice, ignore_label, do_bg=True)
    assert_close(ours, of_nnunet(theirs, batch.logits, batch.target))


@SPACE
@IGNORE_LABEL
@BATCH_DICE
def test_everything_known_with_leaf_dice(batch_dice: bool, ignore_label: int | None, space: tuple[int, ...]) -> None:
    # Always over the whole batch and with background; a class without a voxel counts, as in nnU-Net.
    loss = LEAF_DICE.build(batch_dice=batch_dice, ignore_label=ignore_label)
    theirs = nnunet_ce(True, ignore_label, do_bg=True)
    for seed in range(5):
        batch = make_batch(seed, space, fully_known(), ignore_label=ignore_label, dtype=torch.float32)
        for target in (batch.target, batch.target.masked_fill(batch.target == 2, 0)):
            ours = value_and_gradient(loss, Batch(batch.logits, target, batch.known))
            assert_close(ours, of_nnunet(theirs, batch.logits, target))


@SPACE
@BATCH_DICE
@pytest.mark.parametrize("variant", SIGMOID_VARIANTS, ids=str)
def test_everything_known_is_dc_and_bce_on_the_foreground(
    variant: Variant, batch_dice: bool, space: tuple[int, ...]
) -> None:
    for seed in range(5):
        batch = make_batch(seed, space, fully_known(), dtype=torch.float32)
        value, gradient = value_and_gradient(variant.build(batch_dice=batch_dice), batch)
        theirs = of_nnunet(nnunet_bce(batch_dice, False), batch.logits[:, 1:], regions(batch.target, 4, False))
        assert_close((value, gradient[:, 1:]), theirs)
        assert not gradient[:, 0].any()


@SPACE
@BATCH_DICE
@pytest.mark.parametrize("variant", SIGMOID_VARIANTS, ids=str)
def test_bce_with_an_ignore_label_is_nnunets_over_the_number_of_classes(
    variant: Variant, batch_dice: bool, space: tuple[int, ...]
) -> None:
    # nnU-Net divides the masked BCE by voxels, not by voxels times channels: three times ours for three structures.
    for seed in range(5):
        batch = make_batch(seed, space, fully_known(), ignore_label=IGNORE, dtype=torch.float32)
        ours = variant.build(batch_dice=batch_dice, ignore_label=IGNORE, weight_ce=3.0)
        value, gradient = value_and_gradient(ours, batch)
        theirs = of_nnunet(nnunet_bce(batch_dice, True), batch.logits[:, 1:], regions(batch.target, 4, True))
        assert_close((value, gradient[:, 1:]), theirs)
        assert not gradient[:, 0].any()


@BATCH_DICE
@pytest.mark.parametrize("variant", [*SOFTMAX_VARIANTS, ABCE, ABCE_EXCLUSIVE, LEAF_DICE], ids=str)
def test_every_voxel_ignored_is_minus_one(variant: Variant, batch_dice: bool) -> None:
    # No voxel has a cross entropy; every Dice is smooth / smooth = 1.
    batch = make_batch(9, (5, 4), fully_known(), dtype=torch.float32)
    target = torch.full_like(batch.target, IGNORE)
    batch = Batch(batch.logits, target, batch.known)
    ours = value_and_gradient(variant.build(batch_dice=batch_dice, ignore_label=IGNORE), batch)
    if not variant.has_background:
        theirs = nnunet_bce(batch_dice, True)(batch.logits[:, 1:], regions(target, 4, True))
    else:
        theirs = nnunet_ce(batch_dice, IGNORE)(batch.logits, target)
    assert ours[0].item() == pytest.approx(-1, abs=1e-6)
    assert float(theirs) == pytest.approx(-1, abs=1e-6)
    assert not ours[1].any()


@SPACE
@IGNORE_LABEL
@BATCH_DICE
def test_acce_is_dc_and_ce_on_the_channels_of_known_classes(
    batch_dice: bool, ignore_label: int | None, space: tuple[int, ...]
) -> None:
    # Every sample knows classes 1 and 3 of 3: the same as a network with three outputs, 0, 1 and 3 (renamed 2).
    batch = make_batch(7, space, known_from([[1, 3]] * 3, 4), ignore_label=ignore_label, dtype=torch.float32)
    renamed = batch.target.clone()
    renamed[batch.target == 3] = 2
    value, gradient = value_and_gradient(ACCE.build(batch_dice=batch_dice, ignore_label=ignore_label), batch)
    theirs = of_nnunet(nnunet_ce(batch_dice, ignore_label), batch.logits[:, [0, 1, 3]], renamed)
    assert_close((value, gradient[:, [0, 1, 3]]), theirs)
    assert not gradient[:, 2].any()


@SPACE
@BATCH_DICE
def test_abce_is_dc_and_bce_on_the_channels_of_known_classes(batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = make_batch(8, space, known_from([[1, 3]] * 3, 4), dtype=torch.float32)
    value, gradient = value_and_gradient(ABCE.build(batch_dice=batch_dice), batch)
    hot = regions(batch.target, 4, False)[:, [0, 2]]
    theirs = of_nnunet(nnunet_bce(batch_dice, False), batch.logits[:, [1, 3]], hot)
    assert_close((value, gradient[:, [1, 3]]), theirs)
    assert not gradient[:, [0, 2]].any()


def test_the_comparison_can_fail() -> None:
    # One class less known is not nnU-Net's loss: the difference is far above the tolerance.
    batch = make_batch(9, (5, 4), known_from([[1, 2]] * 3, 4), dtype=torch.float32)
    theirs = of_nnunet(nnunet_ce(True, None), batch.logits, batch.target)
    for variant in SOFTMAX_VARIANTS:
        with pytest.raises(AssertionError, match="are not close"):
            assert_same(value_and_gradient(variant.build(), batch), theirs, rtol=1e-3, atol=1e-3)
