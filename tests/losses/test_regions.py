"""The loss of regions, which may overlap: nnU-Net's own where all are known, a slow oracle's everywhere else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.dtypes import Float64
from helpers.loss_batches import (
    INSIDE,
    NESTED,
    NOT_NESTED,
    REGION_VALUES,
    SPACES,
    Batch,
    RegionVariant,
    assert_same,
    make_batch,
    region_target,
    value_and_gradient,
)
from helpers.reference_losses import region_bce
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import RegionBCELoss, _fused

IGNORE = 4
SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
BATCH_DICE = pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
IGNORE_LABEL = pytest.mark.parametrize("ignore_label", [None, IGNORE], ids=["no-ignore", "ignore"])
EACH = pytest.mark.parametrize("variant", [NESTED, NOT_NESTED], ids=["nested", "not-nested"])

#: Which of (1, 2, 3), (2, 3), (3,), (1,) each of five samples knows.
KNOWN = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)


def region_batch(seed: int, space: tuple[int, ...], known: Tensor = KNOWN, **options: Any) -> Batch:
    """A batch of random labels, of which nothing is left out."""
    return make_batch(seed, space, known, drawn_unknown=True, **options)


@SPACE
@BATCH_DICE
@EACH
@IGNORE_LABEL
def test_everything_known_is_nnunets_loss(
    variant: RegionVariant, ignore_label: int | None, batch_dice: bool, space: tuple[int, ...]
) -> None:
    # With an ignore label nnU-Net divides the BCE by voxels, not by voxels times regions: four times ours.
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": True, "ddp": False}
    theirs = DC_and_BCE_loss(
        {}, dice, use_ignore_label=ignore_label is not None, dice_class=MemoryEfficientSoftDiceLoss
    )
    weight_ce = 1.0 if ignore_label is None else len(REGION_VALUES)
    ours = variant.build(batch_dice=batch_dice, ignore_label=ignore_label, weight_ce=weight_ce)
    for seed in range(3):
        batch = region_batch(seed, space, torch.ones_like(KNOWN), ignore_label=ignore_label, dtype=torch.float32)
        logits = batch.logits.clone().requires_grad_()
        expected = theirs(logits, region_target(batch.target, ignore_label))
        (gradient,) = torch.autograd.grad(expected, logits)
        value, ours_gradient = value_and_gradient(ours, batch)
        torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours_gradient, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
@SPACE
@BATCH_DICE
@EACH
@IGNORE_LABEL
def test_equals_the_oracle(
    variant: RegionVariant, ignore_label: int | None, batch_dice: bool, space: tuple[int, ...], smooth: float
) -> None:
    generator = torch.Generator().manual_seed(5)
    options = {"batch_dice": batch_dice, "smooth": smooth, "ignore_label": ignore_label}
    for seed, weights in enumerate([{}, {"weight_ce": 0.0}, {"weight_dice": 0.0}, {"weight_ce": 0.3}]):
        known = torch.rand(3, 4, generator=generator) < 0.5
        batch = region_batch(seed, space, known, ignore_label=ignore_label)
        value, gradient = value_and_gradient(variant.build(**options, **weights), batch)
        assert value.item() == pytest.approx(variant.oracle(batch, **options, **weights), rel=1e-9, abs=1e-11)
        assert torch.isfinite(gradient).all()


def test_the_worked_number() -> None:
    # Region 0 holds region 1. One sample knows the whole and one the core; logits 1 and -1 in each of two voxels.
    # The whole is in the first voxel alone: log(1 + e^-1) there, log(1 + e^1) in the other, so the core is not there
    # either: log(1 + e^-1). The core is in the first voxel of the second sample: log(1 + e^1), so the whole is, too:
    # log(1 + e^-1); it is not in the second: log(1 + e^-1).
    logits = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]] * 2, dtype=torch.float64)
    target = torch.tensor([[[1, 0], [1, 1]], [[0, 0], [1, 0]]])  # what is not known is not read: here it is nonsense
    known = torch.tensor([[True, False], [False, True]])
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    for inside, expected in (([(1, 0)], (4 * right + 2 * wrong) / 6), ([], (2 * right + 2 * wrong) / 4)):
        loss = RegionBCELoss(weight_dice=0.0, inside=inside)
        value = loss(logits, target, known).item()
        oracle = region_bce(logits.numpy(), target.numpy(), known.numpy(), inside=inside, weight_dice=0.0)
        assert value == pytest.approx(expected, abs=1e-12)
        assert oracle == pytest.approx(expected, abs=1e-12)
    assert (4 * right + 2 * wrong) / 6 == pytest.approx(0.6466, abs=5e-5)
    assert (2 * right + 2 * wrong) / 4 == pytest.approx(0.8133, abs=5e-5)


@SPACE
@BATCH_DICE
@IGNORE_LABEL
def test_unknown_regions_have_no_gradient(ignore_label: int | None, batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = region_batch(11, space, ignore_label=ignore_label)
    _, gradient = value_and_gradient(NOT_NESTED.build(batch_dice=batch_dice, ignore_label=ignore_label), batch)
    assert not gradient[~KNOWN].any()
    assert gradient[KNOWN].flatten(1).any(1).all()


@SPACE
def test_nested_regions_teach_each_other_where_they_can(space: tuple[int, ...]) -> None:
    batch = region_batch(12, space, ignore_label=IGNORE)
    regions, valid = region_target(batch.target, None), (batch.target != IGNORE)[:, 0]
    _, gradient = value_and_gradient(NESTED.build(weight_dice=0.0, ignore_label=IGNORE), batch)
    outside_whole, core = ~regions[1, 0] & valid[1], regions[2, 2] & valid[2]
    for c in (1, 2, 3):  # sample 1 knows the whole alone: what is not in it is in no part
        assert (gradient[1, c][outside_whole] > 0).all()
        assert not gradient[1, c][~outside_whole].any()
    for c in (0, 1):  # sample 2 knows the core (3,) alone: it is in what holds it
        assert (gradient[2, c][core] < 0).all()
        assert not gradient[2, c][~core].any()
    assert not gradient[2, 3].any()  # (1,) does not hold it
    assert not gradient[4].any()
    # nothing of it in the Dice
    _, gradient = value_and_gradient(NESTED.build(weight_ce=0.0, ignore_label=IGNORE), batch)
    assert not gradient[~KNOWN].any()


@SPACE
@BATCH_DICE
@EACH
def test_what_is_not_known_or_ignored_is_not_read(
    variant: RegionVariant, batch_dice: bool, space: tuple[int, ...]
) -> None:
    batch = region_batch(13, space, ignore_label=IGNORE)
    target = region_target(batch.target, IGNORE)
    loss = RegionBCELoss(batch_dice=batch_dice, has_ignore_channel=True, **variant.options)
    expected = value_and_gradient(loss, Batch(batch.logits, target, KNOWN))
    noise = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    unread = torch.cat([~KNOWN[(...,) + (None,) * len(space)] | target[:, -1:], torch.zeros_like(target[:, :1])], 1)
    changed = torch.where(unread, noise, target)
    assert (changed != target).any()
    logits = torch.where(target[:, -1:], 1e4, batch.logits)
    assert_same(value_and_gradient(loss, Batch(batch.logits, changed, KNOWN)), expected)
    assert_same(value_and_gradient(loss, Batch(logits, target, KNOWN)), expected)


@BATCH_DICE
@EACH
def test_order_of_samples_and_regions_changes_nothing(variant: RegionVariant, batch_dice: bool) -> None:
    batch = region_batch(14, (5, 4))
    target = region_target(batch.target, None)
    loss = RegionBCELoss(batch_dice=batch_dice, **variant.options)
    value, gradient = value_and_gradient(loss, Batch(batch.logits, target, KNOWN))
    samples, order = [2, 0, 3, 4, 1], [3, 1, 0, 2]  # new channel i holds region order[i]
    inside = [(order.index(s), order.index(r)) for s, r in variant.options["inside"]]
    other = RegionBCELoss(batch_dice=batch_dice, inside=inside)
    shuffled = Batch(batch.logits[samples][:, order], target[samples][:, order], KNOWN[samples][:, order])
    assert_same((value, gradient[samples][:, order]), value_and_gradient(other, shuffled))


@SPACE
@BATCH_DICE
@EACH
def test_nothing_known_and_everything_ignored(variant: RegionVariant, batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = region_batch(15, space, torch.zeros_like(KNOWN))
    value, gradient = value_and_gradient(variant.build(batch_dice=batch_dice), batch)
    assert value.item() == 0
    assert not gradient.any()
    ignored = Batch(batch.logits, torch.full_like(batch.target, IGNORE), KNOWN)
    value, gradient = value_and_gradient(variant.build(batch_dice=batch_dice, ignore_label=IGNORE), ignored)
    assert value.item() == pytest.approx(-1, abs=1e-12)
    assert not gradient.any()


@BATCH_DICE
@EACH
@IGNORE_LABEL
@pytest.mark.parametrize("on_host", [True, False], ids=["cpu", "any-device"])
def test_the_readable_version_gives_the_same(
    variant: RegionVariant, ignore_label: int | None, batch_dice: bool, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = region_batch(20, (5, 4), ignore_label=ignore_label)
    loss = variant.build(batch_dice=batch_dice, ignore_label=ignore_label)
    with monkeypatch.context() as patch:
        patch.setattr(_fused, "_on_host", lambda x: on_host)
        fast = value_and_gradient(loss, batch)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert_same(fast, value_and_gradient(loss, batch))


@pytest.mark.slow
@BATCH_DICE
@EACH
def test_first_and_second_derivatives(variant: RegionVariant, batch_dice: bool) -> None:
    batch = region_batch(16, (2, 3), ignore_label=IGNORE, scale=1.0)
    loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE)
    logits = batch.logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, batch.target, batch.known), (logits,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, batch.target, batch.known), (logits,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@EACH
def test_extreme_logits_and_half_precision(variant: RegionVariant, dtype: torch.dtype) -> None:
    batch = region_batch(17, (5, 4), ignore_label=IGNORE)
    for logits in (1e4 * batch.logits.sign(), batch.logits):
        rounded = Batch(logits.to(dtype), batch.target, batch.known)
        with Float64() as seen, torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradient = value_and_gradient(variant.build(ignore_label=IGNORE), rounded)
        assert seen.operations == set()
        assert value.dtype == torch.float32
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()
        assert value.item() == pytest.approx(variant.oracle(rounded, ignore_label=IGNORE), rel=1e-5, abs=1e-6)


@EACH
@pytest.mark.parametrize("target_dtype", [torch.bool, torch.uint8, torch.int16, torch.float32], ids=str)
def test_any_type_of_target_and_no_value_read(variant: RegionVariant, target_dtype: torch.dtype) -> None:
    batch = region_batch(18, (5, 4), ignore_label=IGNORE)
    target = region_target(batch.target, IGNORE).to(target_dtype)
    loss = RegionBCELoss(has_ignore_channel=True, **variant.options)
    expected = variant.oracle(batch, ignore_label=IGNORE)
    versions = target._version, batch.known._version
    assert loss(batch.logits, target, batch.known).item() == pytest.approx(expected, rel=1e-9)
    assert (target._version, batch.known._version) == versions
    with FakeTensorMode():
        logits = torch.zeros(5, 4, 8, 8, requires_grad=True)
        fake = torch.zeros(5, 5, 8, 8, dtype=target_dtype)
        (gradient,) = torch.autograd.grad(loss(logits, fake, torch.ones(5, 4, dtype=torch.bool)), logits)
    assert gradient.shape == logits.shape


def test_one_graph_for_the_compiler() -> None:
    batch = region_batch(19, (5, 4), ignore_label=IGNORE)
    target = region_target(batch.target, IGNORE)
    loss = RegionBCELoss(has_ignore_channel=True, inside=INSIDE)
    compiled: Any = torch.compile(loss, backend="eager", fullgraph=True)
    called = Batch(batch.logits, target, batch.known)
    assert_same(value_and_gradient(compiled, called), value_and_gradient(loss, called))
    torch.compiler.reset()


Z, Y, K = torch.zeros(2, 3, 5, 4), torch.zeros(2, 3, 5, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("logits", "target", "known", "culprit"),
    [
        (Z, Y[:, :1], K, "target has shape"),  # labels
        (Z, torch.cat([Y, Y[:, :1]], 1), K, "target has shape"),  # an ignore channel that was not announced
        (Z, Y, K[:1], "class_mask"),
        (Z, Y, torch.ones(2, 4, dtype=torch.bool), "class_mask"),  # with background
        (Z, Y, K.float(), "class_mask"),
        (Z.long(), Y, K, "logits are"),
        (Z, Y.tolist(), K, "target is of type list"),
    ],
)
def test_inputs_that_do_not_fit(logits: Any, target: Any, known: Any, culprit: str) -> None:
    with pytest.raises(PartialLabelError, match=culprit):
        RegionBCELoss()(logits, target, known)


def test_pairs_that_do_not_fit() -> None:
    for inside in ([(1, 1)], [(-1, 0)]):
        with pytest.raises(PartialLabelError, match="inside"):
            RegionBCELoss(inside=inside)
    with pytest.raises(PartialLabelError, match="3 channels"):
        RegionBCELoss(inside=[(3, 0)])(Z, Y, K)
