"""What must hold when samples know different classes: merging, silence, mixing, order, ignored voxels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.loss_batches import (
    ABCE,
    ABCE_EXCLUSIVE,
    ACCE,
    ACCE_IGNORE,
    KNOWN_DICE_VARIANTS,
    LEAF_DICE,
    MARGINAL,
    SPACES,
    VARIANTS,
    Batch,
    Variant,
    assert_same,
    fully_known,
    known_from,
    make_batch,
    mixed_known,
    value_and_gradient,
    without_unknown,
)
from torch.nn.functional import cross_entropy

pytestmark = pytest.mark.usefixtures("kernels")

IGNORE = 4
SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
BATCH_DICE = pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)
PATTERNS = [[1, 2, 3], [1, 3], [2], []]


# ------------------------------------------------------------------------------- 2. marginal is a merged problem


@SPACE
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("ignore_label", [None, IGNORE], ids=["no-ignore", "ignore"])
def test_marginal_is_plain_cross_entropy_of_the_merged_problem(
    ignore_label: int | None, pattern: list[int], space: tuple[int, ...]
) -> None:
    batch = make_batch(10, space, known_from([pattern] * 2, 4), ignore_label=ignore_label)
    # The merged problem: channel 0 is the logit of "background or unknown", then the known classes, numbered anew.
    logits = batch.logits.clone().requires_grad_()
    merged = [c for c in range(4) if c not in pattern]
    fewer = torch.cat([logits[:, merged].logsumexp(1, keepdim=True), logits[:, pattern]], dim=1)
    labels = batch.target[:, 0].clone()
    for new, old in enumerate(pattern, start=1):
        labels[batch.target[:, 0] == old] = new
    expected = cross_entropy(fewer, labels, ignore_index=-100 if ignore_label is None else ignore_label)
    (gradient,) = torch.autograd.grad(expected, logits)
    ours = value_and_gradient(MARGINAL.build(weight_dice=0.0, ignore_label=ignore_label), batch)
    assert_same(ours, (expected.detach(), gradient))


# ------------------------------------------------------------- 3. no gradient to channels that nobody annotated


@SPACE
@BATCH_DICE
@pytest.mark.parametrize("drawn_unknown", [False, True])
@pytest.mark.parametrize("variant", [ACCE, ABCE], ids=str)
def test_unknown_channels_get_no_gradient(
    variant: Variant, drawn_unknown: bool, batch_dice: bool, space: tuple[int, ...]
) -> None:
    batch = make_batch(11, space, mixed_known(), ignore_label=IGNORE, drawn_unknown=drawn_unknown)
    _, gradient = value_and_gradient(variant.build(batch_dice=batch_dice, ignore_label=IGNORE), batch)
    for b, pattern in enumerate(PATTERNS):
        for c in range(1, 4):
            if c in pattern:
                assert gradient[b, c].any()
            else:
                assert not gradient[b, c].any()


@BATCH_DICE
@pytest.mark.parametrize("variant", [ACCE, ABCE], ids=str)
def test_logits_of_unknown_channels_do_not_matter(variant: Variant, batch_dice: bool) -> None:
    batch = make_batch(12, (5, 4), mixed_known())
    other = batch.logits.clone()
    for b, pattern in enumerate(PATTERNS):
        for c in range(1, 4):
            if c not in pattern:
                other[b, c] = 1e4 * torch.randn(5, 4, generator=torch.Generator().manual_seed(c)).double()
    loss = variant.build(batch_dice=batch_dice)
    changed = Batch(other, batch.target, batch.known)
    assert_same(value_and_gradient(loss, batch), value_and_gradient(loss, changed))


@SPACE
@BATCH_DICE
def test_acce_is_the_loss_of_the_known_channels_alone(batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = make_batch(13, space, known_from([[1, 3]] * 3, 4), ignore_label=IGNORE)
    target = batch.target.clone()
    target[batch.target == 3] = 2
    sub = Batch(batch.logits[:, [0, 1, 3]], target, fully_known(3, 3))
    loss = ACCE.build(batch_dice=batch_dice, ignore_label=IGNORE)
    value, gradient = value_and_gradient(loss, batch)
    assert_same((value, gradient[:, [0, 1, 3]]), value_and_gradient(loss, sub))


@SPACE
def test_acce_cross_entropy_is_plain_on_the_known_channels(space: tuple[int, ...]) -> None:
    batch = make_batch(14, space, known_from([[2, 3]], 4))
    labels = (batch.target[:, 0] - 1).clamp_min(0)  # 0, 2, 3 become 0, 1, 2
    value, _ = value_and_gradient(ACCE.build(weight_dice=0.0), batch)
    torch.testing.assert_close(value, cross_entropy(batch.logits[:, [0, 2, 3]], labels))


@EACH
def test_the_background_channel_of_abce_takes_no_part(variant: Variant) -> None:
    batch = make_batch(15, (5, 4), mixed_known())
    shifted = batch.logits.clone()
    shifted[:, 0] += 3.0
    loss = variant.build()
    value, gradient = value_and_gradient(loss, batch)
    other, _ = value_and_gradient(loss, Batch(shifted, batch.target, batch.known))
    takes_part = variant.has_background
    assert bool(gradient[:, 0].any()) is takes_part
    assert bool(value != other) is takes_part


def test_background_of_incomplete_samples_carries_no_term_in_acce_ignore() -> None:
    batch = make_batch(16, (5, 4), mixed_known())
    _, gradient = value_and_gradient(ACCE_IGNORE.build(weight_dice=0.0), batch)
    background = (batch.target == 0).expand_as(gradient)
    assert gradient[0].abs().sum(0).all()  # complete: every voxel teaches
    assert not gradient[1:][background[1:]].any()
    assert gradient[1:3].abs().sum(1)[~background[1:3, 0]].all()  # annotated voxels teach all channels


@SPACE
def test_structures_that_exclude_each_other(space: tuple[int, ...]) -> None:
    # An unknown class is pushed down exactly where another one is annotated.
    batch = make_batch(16, space, mixed_known(), ignore_label=IGNORE)
    _, gradient = value_and_gradient(ABCE_EXCLUSIVE.build(ignore_label=IGNORE), batch)
    for b, pattern in enumerate(PATTERNS):
        annotated = (batch.target[b, 0] != 0) & (batch.target[b, 0] != IGNORE)
        assert annotated.any() == bool(pattern)
        for c in {1, 2, 3} - {*pattern}:
            assert (gradient[b, c][annotated] > 0).all()
            assert not gradient[b, c][~annotated].any()


def test_leaf_dice_counts_predictions_of_a_class_where_it_may_not_be_annotated() -> None:
    # Sample 1 does not know class 3. All that is annotated is recognized with certainty; what is left of sample 1 is
    # called background or class 3. The marginal loss does not mind. Leaf-Dice of class 3 is 1, or with one leaf and
    # three voxels predicted 2 * 1 / (1 + 3) = 1/2: mean (1 + 1 + 1/2) / 3.
    target = torch.tensor([[0, 1, 2, 3], [1, 2, 0, 0]]).view(2, 1, 2, 2)
    known = known_from([[1, 2, 3], [1, 2]], 4)
    for called, expected in ((0, -1.0), (3, -2.5 / 3)):
        predicted = target.clone()
        predicted[1, 0, 1] = called
        logits = torch.full((2, 4, 2, 2), -50.0, dtype=torch.float64).scatter(1, predicted, 50.0)
        for batch_dice in (True, False):
            options: dict[str, Any] = {"weight_ce": 0.0, "batch_dice": batch_dice, "do_bg": False, "smooth": 0.0}
            value = LEAF_DICE.build(**options)(logits, target, known)
            assert value.item() == pytest.approx(expected, abs=1e-12)
            assert MARGINAL.build(**options)(logits, target, known).item() == pytest.approx(-1, abs=1e-12)


# ------------------------------------------------------------------------------ 4. mixed batches, order, naming


def number_of_terms(variant: Variant, batch: Batch) -> int:
    """Over how many cross-entropy terms the mean of one sample runs."""
    counted = batch.target != IGNORE
    structures = int(batch.known[0, 1:].sum())
    if not variant.has_background:
        annotated = int((counted & (batch.target != 0)).sum()) if variant == ABCE_EXCLUSIVE else 0
        return structures * int(counted.sum()) + (3 - structures) * annotated
    if variant.options.get("background") == "ignore" and structures < 3:
        counted = counted & (batch.target != 0)
    return int(counted.sum())


@SPACE
@EACH
def test_cross_entropy_of_a_mixed_batch_is_the_mean_over_all_terms(variant: Variant, space: tuple[int, ...]) -> None:
    batch = make_batch(17, space, mixed_known(), ignore_label=IGNORE)
    loss = variant.build(weight_dice=0.0, ignore_label=IGNORE)
    together = value_and_gradient(loss, batch)
    alone = [value_and_gradient(loss, batch.samples(b)) for b in range(4)]
    share = torch.tensor([number_of_terms(variant, batch.samples(b)) for b in range(4)], dtype=torch.float64)
    share = share / share.sum()
    value = sum(w * v for w, (v, _) in zip(share, alone, strict=True))
    gradient = torch.cat([w * g for w, (_, g) in zip(share, alone, strict=True)])
    assert_same(together, (torch.as_tensor(value), gradient))


@SPACE
@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
def test_sample_dice_of_a_mixed_batch_is_the_mean_over_known_pairs(variant: Variant, space: tuple[int, ...]) -> None:
    batch = make_batch(18, space, mixed_known(), ignore_label=IGNORE)
    loss = variant.build(weight_ce=0.0, batch_dice=False, ignore_label=IGNORE)
    together = value_and_gradient(loss, batch)
    alone = [value_and_gradient(loss, batch.samples(b)) for b in range(4)]
    share = [3 / 6, 2 / 6, 1 / 6, 0.0]  # six known pairs
    value = sum(w * v for w, (v, _) in zip(share, alone, strict=True))
    gradient = torch.cat([w * g for w, (_, g) in zip(share, alone, strict=True)])
    assert_same(together, (torch.as_tensor(value), gradient))


@EACH
def test_batch_dice_where_no_class_is_shared_is_sample_dice(variant: Variant) -> None:
    batch = make_batch(19, (5, 4), known_from([[1, 3], [2], []], 4))
    ours = [value_and_gradient(variant.build(weight_ce=0.0, batch_dice=on), batch) for on in (True, False)]
    assert_same(*ours)


@EACH
def test_class_known_by_no_sample_is_left_out_of_the_mean(variant: Variant) -> None:
    # Two classes recognized with certainty, the third known by nobody: mean Dice 1, not 2/3.
    target = torch.tensor([[1, 2, 0, 0]]).view(1, 1, 2, 2)
    logits = torch.full((1, 4, 2, 2), -50.0, dtype=torch.float64).scatter(1, target, 50.0)
    batch = Batch(logits, target, known_from([[1, 2]], 4))
    for batch_dice in (True, False):
        value, _ = value_and_gradient(variant.build(weight_ce=0.0, batch_dice=batch_dice), batch)
        assert value.item() == pytest.approx(-1.0, abs=1e-12)


@SPACE
@BATCH_DICE
@EACH
def test_order_of_samples_changes_nothing(variant: Variant, batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = make_batch(20, space, mixed_known(), ignore_label=IGNORE)
    loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE)
    value, gradient = value_and_gradient(loss, batch)
    order = [2, 0, 3, 1]
    assert_same((value, gradient[order]), value_and_gradient(loss, batch.samples(*order)))


@SPACE
@BATCH_DICE
@EACH
def test_numbering_of_the_structures_changes_nothing(
    variant: Variant, batch_dice: bool, space: tuple[int, ...]
) -> None:
    batch = make_batch(21, space, mixed_known(), ignore_label=IGNORE)
    loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE)
    value, gradient = value_and_gradient(loss, batch)
    order = [0, 3, 1, 2]  # new channel i holds old class order[i]
    new_number = torch.tensor([order.index(old) for old in range(4)] + [IGNORE])
    renamed = Batch(batch.logits[:, order], new_number[batch.target], batch.known[:, order])
    assert_same((value, gradient[:, order]), value_and_gradient(loss, renamed))


# --------------------------------------------------------------------------------- 5. voxels of the ignore label


@SPACE
@BATCH_DICE
@EACH
def test_ignored_voxels_change_neither_value_nor_gradient(
    variant: Variant, batch_dice: bool, space: tuple[int, ...]
) -> None:
    batch = make_batch(22, space, mixed_known(), ignore_label=IGNORE)
    ignored = batch.target == IGNORE
    noise = torch.randn(batch.logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for scale in (1.0, 1e4):
        other = Batch(torch.where(ignored, scale * noise, batch.logits), batch.target, batch.known)
        loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE)
        ours = value_and_gradient(loss, other)
        assert_same(ours, value_and_gradient(loss, batch))
        assert not ours[1][ignored.expand_as(ours[1])].any()
    assert ignored.any()


@BATCH_DICE
@EACH
def test_ignored_voxels_might_as_well_not_be_there(variant: Variant, batch_dice: bool) -> None:
    batch = make_batch(23, (4, 3), mixed_known(), drawn_unknown=False)
    nothing = torch.full((4, 1, 2, 3), IGNORE)
    padded = Batch(torch.cat([batch.logits, 7 * torch.ones(4, 4, 2, 3).double()], dim=2),
                   torch.cat([batch.target, nothing], dim=2), batch.known)  # fmt: skip
    loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE)
    value, gradient = value_and_gradient(loss, padded)
    assert_same((value, gradient[:, :, :4]), value_and_gradient(loss, batch))


@EACH
def test_without_ignored_voxels_the_ignore_label_changes_nothing(variant: Variant) -> None:
    batch = make_batch(24, (5, 4), mixed_known())
    assert_same(
        value_and_gradient(variant.build(ignore_label=IGNORE), batch), value_and_gradient(variant.build(), batch)
    )


# ------------------------------------------------------------------------ 10. values of classes nobody annotated


@SPACE
@BATCH_DICE
@EACH
def test_values_of_unknown_classes_count_as_background(
    variant: Variant, batch_dice: bool, space: tuple[int, ...]
) -> None:
    batch = make_batch(25, space, mixed_known(), ignore_label=IGNORE, drawn_unknown=True)
    replaced = without_unknown(batch.target, batch.known)
    assert (replaced != batch.target).any()
    all_options: list[dict[str, Any]] = [{}, {"do_bg": True}] if variant.has_background else [{}]
    for options in all_options:
        loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE, **options)
        assert_same(
            value_and_gradient(loss, batch),
            value_and_gradient(loss, Batch(batch.logits, replaced, batch.known)),
        )


# ------------------------------------------------------------------------------------ nothing known, nothing there


@SPACE
@BATCH_DICE
@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nothing_known_at_all_is_zero_and_still_backpropagates(
    variant: Variant, batch_dice: bool, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    batch = make_batch(26, space, known_from([[], []], 4), dtype=dtype)
    value, gradient = value_and_gradient(variant.build(batch_dice=batch_dice), batch)
    # Marginal and aCCE: background is the only class there is, so it is certain. The other two have no terms.
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-7)


@SPACE
@BATCH_DICE
@EACH
def test_all_voxels_ignored(variant: Variant, batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = make_batch(27, space, mixed_known())
    batch = Batch(batch.logits, torch.full_like(batch.target, IGNORE), batch.known)
    # Cross-entropy: a mean over nothing, 0. Dice: nothing predicted, nothing there, smooth / smooth = 1; but without
    # a leaf voxel leaf-Dice is a mean over nothing too.
    dice = 0.0 if variant == LEAF_DICE else -1.0
    for weights, expected in (({"weight_dice": 0.0}, 0.0), ({"weight_ce": 0.0}, dice)):
        loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE, **weights)
        value, gradient = value_and_gradient(loss, batch)
        assert value.item() == pytest.approx(expected, abs=1e-12)
        assert not gradient.any()


@BATCH_DICE
@EACH
def test_one_weight_zero_and_the_other_mean_empty_still_backpropagates(variant: Variant, batch_dice: bool) -> None:
    batch = make_batch(28, (3, 3), known_from([[]], 4))
    for weights in ({"weight_ce": 0.0}, {"weight_dice": 0.0}, {"weight_ce": 0.0, "weight_dice": 0.0}):
        value, gradient = value_and_gradient(variant.build(batch_dice=batch_dice, **weights), batch)
        assert value.item() == pytest.approx(0.0, abs=1e-12)
        assert torch.isfinite(gradient).all()


@BATCH_DICE
@EACH
def test_empty_structure_known_to_be_absent(variant: Variant, batch_dice: bool) -> None:
    # Known and nowhere drawn: Dice is smooth / (S + smooth), and the network is pushed down, not NaN.
    batch = make_batch(29, (4, 4), known_from([[1, 2], [1, 2]], 3))
    batch = Batch(batch.logits, torch.zeros_like(batch.target), batch.known)
    value, gradient = value_and_gradient(variant.build(batch_dice=batch_dice), batch)
    assert torch.isfinite(value)
    assert (gradient[:, 1:] > 0).all()
