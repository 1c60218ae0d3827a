"""How the losses behave as code: precision, extreme values, gradients, untouched inputs, wrong calls, compilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.loss_batches import (
    ABCE,
    ACCE,
    LEAF_DICE,
    SOFTMAX_VARIANTS,
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
)

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import LOSSES, AdaptiveBCELoss, AdaptiveCCELoss, ExclusiveBCELoss, MarginalLoss

pytestmark = pytest.mark.usefixtures("kernels")

IGNORE = 4
SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
BATCH_DICE = pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


# ------------------------------------------------------------------------------------------- 5. precision, extremes


def extreme_batch(dtype: torch.dtype, space: tuple[int, ...] = (5, 4)) -> Batch:
    """Every logit is +10000 or -10000."""
    batch = make_batch(30, space, mixed_known(), ignore_label=IGNORE)
    return Batch((1e4 * batch.logits.sign()).to(dtype), batch.target, batch.known)


@pytest.mark.no_cover
@SPACE
@BATCH_DICE
@EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_extreme_logits_stay_finite_and_right(
    variant: Variant, batch_dice: bool, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    batch = extreme_batch(dtype, space)
    options: dict[str, Any] = {"batch_dice": batch_dice, "ignore_label": IGNORE}
    value, gradient = value_and_gradient(variant.build(**options), batch)
    assert torch.isfinite(gradient).all()
    assert gradient.dtype == dtype
    assert value.item() == pytest.approx(variant.oracle(batch, **options), rel=1e-5)


@pytest.mark.parametrize("variant", [ABCE, ACCE], ids=str)
@pytest.mark.parametrize("logit", [float("inf"), float("-inf")])
def test_an_infinite_logit_of_an_unknown_class_changes_nothing(variant: Variant, logit: float) -> None:
    batch = make_batch(31, (5, 4), known_from([[1, 3], [1]], classes=4))
    overflown = Batch(batch.logits.clone(), batch.target, batch.known)
    overflown.logits[:, 2, 0, 0] = logit
    loss = variant.build()
    assert_same(value_and_gradient(loss, overflown), value_and_gradient(loss, batch))


@EACH
def test_one_huge_logit_against_all_others(variant: Variant) -> None:
    # Wrong with certainty everywhere, in each channel in turn; never NaN, also where an unknown class is the huge one.
    for channel in range(4):
        logits = torch.full((4, 4, 3, 3), -1e4)
        logits[:, channel] = 1e4
        for y in range(4):
            batch = Batch(logits, torch.full((4, 1, 3, 3), y), mixed_known())
            value, gradient = value_and_gradient(variant.build(), batch)
            assert torch.isfinite(gradient).all()
            assert value.item() == pytest.approx(variant.oracle(batch), rel=1e-5, abs=1e-6)


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("variant", [*SOFTMAX_VARIANTS, LEAF_DICE], ids=str)
def test_a_constant_added_to_all_logits_changes_nothing(variant: Variant, compiled: bool) -> None:
    # Logits are multiples of 1/64, so that float32 holds them exactly, 10000 added or not. A logsumexp of the raw
    # logits would be rounded to 1/1024, the spacing of float32 numbers at 10000.
    batch = make_batch(43, (5, 4), mixed_known(), ignore_label=IGNORE, dtype=torch.float32)
    logits = (64 * batch.logits).round() / 64
    loss = variant.build(ignore_label=IGNORE)
    called: Any = torch.compile(loss, backend="eager", fullgraph=True) if compiled else loss
    low, high = (Batch(z, batch.target, batch.known) for z in (logits, logits + 1e4))
    assert_same(value_and_gradient(called, high), value_and_gradient(loss, low), rtol=1e-5, atol=2e-6)
    torch.compiler.reset()


@HALF
@SPACE
@BATCH_DICE
@EACH
def test_autocast_is_near_float32(
    variant: Variant, batch_dice: bool, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    rounded = make_batch(31, space, mixed_known(), ignore_label=IGNORE).logits.to(dtype)
    half = make_batch(31, space, mixed_known(), ignore_label=IGNORE)
    half = Batch(rounded, half.target, half.known)
    full = Batch(rounded.float(), half.target, half.known)
    loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE)
    expected_value, expected_gradient = value_and_gradient(loss, full)
    with torch.autocast("cpu", dtype=dtype):
        value, gradient = value_and_gradient(loss, half)
    # The sums are float32; only the gradient is rounded to the half type (2^-8 in bfloat16).
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected_value, rtol=1e-5, atol=1e-5)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.float(), expected_gradient, rtol=2**-7, atol=1e-6)


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_large_sums_in_half_precision(variant: Variant, dtype: torch.dtype) -> None:
    # 320 x 320 = 102400 voxels of probability 1/2: a float16 sum would overflow at 65504, bfloat16 stall at 256.
    # Half of them class 1: CE = log 2; I = N/4, S = N/2, G = N/2, Dice = 1/2.
    target = torch.zeros(1, 1, 320, 320, dtype=torch.int16)
    target[..., :160] = 1
    batch = Batch(torch.zeros(1, 2, 320, 320, dtype=dtype), target, known_from([[1]], 2))
    value, _ = value_and_gradient(variant.build(), batch)
    assert value.item() == pytest.approx(0.693147 - 0.5, abs=1e-5)


@EACH
def test_float64_stays_float64(variant: Variant) -> None:
    batch = make_batch(32, (5, 4), mixed_known(), ignore_label=IGNORE)
    for batch_dice in (True, False):
        options: dict[str, Any] = {"batch_dice": batch_dice, "ignore_label": IGNORE}
        value, gradient = value_and_gradient(variant.build(**options), batch)
        assert value.dtype == gradient.dtype == torch.float64
        # A detour through float32 would be wrong from the eighth digit on.
        assert value.item() == pytest.approx(variant.oracle(batch, **options), rel=1e-12)


@EACH
def test_result_is_a_scalar(variant: Variant) -> None:
    batch = make_batch(33, (5, 4), mixed_known(), dtype=torch.float32)
    value = variant.build()(batch.logits, batch.target, batch.known)
    assert value.shape == ()
    assert value.dtype == torch.float32


# ------------------------------------------------------------------------------------------------ 6. gradients, inputs


@pytest.mark.slow
@BATCH_DICE
@EACH
@pytest.mark.parametrize("space", [(2, 3), (1, 2, 2)], ids=["2d", "3d"])
def test_gradcheck(variant: Variant, batch_dice: bool, space: tuple[int, ...]) -> None:
    batch = make_batch(34, space, mixed_known(), ignore_label=IGNORE, scale=1.0)
    all_options: list[dict[str, Any]] = [{}, {"do_bg": True}] if variant.has_background else [{}]
    for options in all_options:
        loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE, **options)
        logits = batch.logits.clone().requires_grad_()
        # along drawn directions instead of along each of 96 logits, as all such checks here
        assert torch.autograd.gradcheck(lambda z, f=loss: f(z, batch.target, batch.known), (logits,), fast_mode=True)


WEIGHTS = pytest.mark.parametrize(
    "weights", [{}, {"weight_dice": 0.0}, {"weight_ce": 0.0}], ids=["both", "cross-entropy", "dice"]
)


@pytest.mark.slow
@WEIGHTS
@BATCH_DICE
@EACH
def test_gradgradcheck(variant: Variant, batch_dice: bool, weights: dict[str, float]) -> None:
    batch = make_batch(45, (2, 3), mixed_known(), ignore_label=IGNORE, scale=1.0)
    loss = variant.build(batch_dice=batch_dice, ignore_label=IGNORE, **weights)
    logits = batch.logits.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda z: loss(z, batch.target, batch.known), (logits,), fast_mode=True)


@WEIGHTS
@EACH
def test_hessian_is_the_change_of_the_gradient(variant: Variant, weights: dict[str, float]) -> None:
    batch = make_batch(46, (1, 2), known_from([[1, 3]], 4), scale=1.0)
    loss = variant.build(**weights)
    hessian = torch.autograd.functional.hessian(lambda z: loss(z, batch.target, batch.known), batch.logits)
    hessian = hessian.reshape(8, 8)
    step = 1e-5
    for i in range(8):
        shift = torch.zeros(8, dtype=torch.float64)
        shift[i] = step
        up, down = (
            value_and_gradient(loss, Batch(batch.logits + sign * shift.view(1, 4, 1, 2), batch.target, batch.known))[1]
            for sign in (1, -1)
        )
        torch.testing.assert_close(hessian[i], ((up - down) / (2 * step)).flatten(), rtol=1e-6, atol=1e-8)
    assert hessian.abs().max() > 0.01


@HALF
@EACH
def test_gradient_penalty_in_half_precision(variant: Variant, dtype: torch.dtype) -> None:
    batch = make_batch(47, (5, 4), mixed_known(), dtype=dtype)
    penalties = []
    for z in (batch.logits, batch.logits.double()):
        logits = z.clone().requires_grad_()
        value = variant.build(weight_dice=0.0)(logits, batch.target, batch.known)
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        (second,) = torch.autograd.grad((20 * gradient.double()).square().sum(), logits)
        assert second.dtype == z.dtype
        penalties.append(second.double())
    assert penalties[1].abs().max() > 1e-3
    torch.testing.assert_close(penalties[0], penalties[1], rtol=2**-5, atol=1e-2 * float(penalties[1].abs().max()))


@EACH
@pytest.mark.parametrize("drawn_unknown", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32], ids=str
)
def test_any_type_of_target_works_and_no_input_is_modified(
    variant: Variant, drawn_unknown: bool, dtype: torch.dtype
) -> None:
    batch = make_batch(35, (5, 4), mixed_known(), ignore_label=IGNORE, drawn_unknown=drawn_unknown)
    expected = variant.oracle(batch, ignore_label=IGNORE)
    logits, target, known = batch.logits.clone().requires_grad_(), batch.target.to(dtype), batch.known.clone()
    versions = logits._version, target._version, known._version
    value = variant.build(ignore_label=IGNORE)(logits, target, known)
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-9)
    assert (logits._version, target._version, known._version) == versions
    assert torch.equal(logits.detach(), batch.logits)
    assert torch.equal(target, batch.target.to(dtype))
    assert torch.equal(known, batch.known)


@EACH
def test_same_call_twice_gives_the_same(variant: Variant) -> None:
    batch = make_batch(36, (5, 4), mixed_known(), ignore_label=IGNORE)
    loss = variant.build(ignore_label=IGNORE)
    first = value_and_gradient(loss, batch)
    value_and_gradient(loss, make_batch(37, (3, 2, 4), mixed_known(), ignore_label=IGNORE))
    assert_same(first, value_and_gradient(loss, batch), rtol=0, atol=0)


@EACH
def test_backward_twice_through_one_graph(variant: Variant) -> None:
    batch = make_batch(41, (5, 4), mixed_known(), ignore_label=IGNORE)
    logits = batch.logits.clone().requires_grad_()
    value = variant.build(ignore_label=IGNORE)(logits, batch.target, batch.known)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(3 * value, logits)
    torch.testing.assert_close(second, 3 * kept)
    assert torch.equal(first, kept)


@pytest.mark.no_cover
@pytest.mark.slow
@EACH
@pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
@pytest.mark.parametrize(
    ("samples", "tiles"), [(1, (61, 71)), (1, (61, 5)), (150, (1, 1))], ids=["large", "oblong", "many"]
)
def test_large_batches_are_small_ones_repeated(
    variant: Variant, samples: int, tiles: tuple[int, int], batch_dice: bool
) -> None:
    # The same picture n times over: every mean and every Dice (smooth = 0) is as before, and each voxel's gradient one
    # n-th. Up to 4 x 305 x 284 voxels and 600 samples, so that work done in pieces is cut somewhere.
    small = make_batch(42, (5, 4), mixed_known(), ignore_label=IGNORE)
    large = Batch(
        small.logits.repeat(samples, 1, *tiles),
        small.target.repeat(samples, 1, *tiles),
        small.known.repeat(samples, 1),
    )
    loss = variant.build(ignore_label=IGNORE, batch_dice=batch_dice, smooth=0.0)
    value, gradient = value_and_gradient(loss, small)
    n = samples * tiles[0] * tiles[1]
    assert_same(
        value_and_gradient(loss, large), (value, gradient.repeat(samples, 1, *tiles) / n), rtol=1e-7, atol=1e-14
    )


@EACH
def test_memory_layout_does_not_matter(variant: Variant) -> None:
    batch = make_batch(38, (5, 4), mixed_known(), ignore_label=IGNORE, dtype=torch.float32)
    loss = variant.build(ignore_label=IGNORE)
    expected = value_and_gradient(loss, batch)
    strided = torch.stack([batch.target, batch.target], dim=-1)[..., 0]  # every second number of a larger array
    layouts = [
        Batch(batch.logits.to(memory_format=torch.channels_last), batch.target, batch.known),
        Batch(batch.logits.transpose(2, 3).contiguous().transpose(2, 3), strided, batch.known.t().contiguous().t()),
    ]
    for layout in layouts:
        assert_same(value_and_gradient(loss, layout), expected, rtol=1e-6, atol=1e-7)


@EACH
def test_validation_needs_no_graph(variant: Variant) -> None:
    batch = make_batch(39, (5, 4), mixed_known(), ignore_label=IGNORE)
    loss = variant.build(ignore_label=IGNORE)
    expected, _ = value_and_gradient(loss, batch)
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            value = loss(batch.logits, batch.target, batch.known)
        assert not value.requires_grad
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)


# -------------------------------------------------------------------------------------------- table, wrong calls


def test_table_holds_the_three_losses() -> None:
    assert {"marginal": MarginalLoss, "acce": AdaptiveCCELoss, "abce": AdaptiveBCELoss}.items() <= LOSSES.items()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_takes_the_common_options(name: str) -> None:
    loss = LOSSES[name](
        weight_ce=1.0, weight_dice=1.0, batch_dice=True, smooth=1e-5, do_bg=False, ignore_label=None, ddp=False
    )
    assert isinstance(loss, torch.nn.Module)
    assert not list(loss.parameters())


def test_defaults_are_those_of_the_definition() -> None:
    batch = make_batch(40, (5, 4), mixed_known())
    for variant in VARIANTS:
        plain = variant.build()
        spelt_out = variant.build(
            weight_ce=1.0,
            weight_dice=1.0,
            batch_dice=True,
            smooth=1e-5,
            do_bg=variant == LEAF_DICE,
            ignore_label=None,
            ddp=False,
        )
        assert_same(value_and_gradient(plain, batch), value_and_gradient(spelt_out, batch), rtol=0, atol=0)
    renormalize = AdaptiveCCELoss(background="renormalize")
    assert_same(value_and_gradient(ACCE.build(), batch), value_and_gradient(renormalize, batch), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [AdaptiveBCELoss, ExclusiveBCELoss])
def test_sigmoids_have_no_background_to_add(loss: Any) -> None:
    with pytest.raises(PartialLabelError, match="do_bg"):
        loss(do_bg=True)


@pytest.mark.parametrize("background", ["naive", "", "Ignore", None])
def test_unknown_background_of_acce(background: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)background.*renormalize.*ignore"):
        AdaptiveCCELoss(background=background)


@EACH
@pytest.mark.parametrize("weight", ["weight_ce", "weight_dice"])
def test_negative_weights(variant: Variant, weight: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s){weight}.*-1"):
        variant.build(**{weight: -1.0})


@EACH
@pytest.mark.parametrize("smooth", [-0.5, float("nan")])
def test_smooth_that_makes_no_sense(variant: Variant, smooth: float) -> None:
    with pytest.raises(ValueError, match=rf"smooth.*{smooth}"):
        variant.build(smooth=smooth)


@pytest.mark.parametrize("ignore_label", [1.5, "ignore", True])
def test_ignore_label_that_is_no_number(ignore_label: Any) -> None:
    with pytest.raises(ValueError, match="ignore_label"):
        MarginalLoss(ignore_label=ignore_label)


@EACH
def test_settings_can_be_read_in_the_log(variant: Variant) -> None:
    text = repr(variant.build(batch_dice=False, ignore_label=7))
    for words in ("batch_dice=False", "ignore_label=7", *map(str, variant.options.values())):
        assert words in text


Z, Y, KNOWN = torch.zeros(2, 3, 5, 4), torch.zeros(2, 1, 5, 4, dtype=torch.int64), fully_known(2, 3)


@EACH
@pytest.mark.parametrize(
    ("logits", "target", "known", "culprit"),
    [
        (Z, Y[:, 0], KNOWN, "target"),  # no channel axis
        (Z, Y.expand(2, 3, 5, 4), KNOWN, "target"),  # one-hot
        (Z, Y[..., :3], KNOWN, "target"),  # another size
        (Z, Y[:1], KNOWN, "target"),  # another number of samples
        (Z, Y, KNOWN[:1], "class_mask"),  # another number of samples: must not be spread over the batch
        (Z, Y, KNOWN[:, 1:], "class_mask"),  # foreground only
        (Z, Y, KNOWN[0], "class_mask"),  # no sample axis
    ],
    ids=["no-channel", "one-hot", "size", "samples", "known-samples", "known-foreground", "known-vector"],
)
def test_shapes_that_do_not_fit(
    variant: Variant, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor, culprit: str
) -> None:
    with pytest.raises(ValueError, match=culprit):
        variant.build()(logits, target, known)


@EACH
@pytest.mark.parametrize(
    "logits", [Z[:, :1], Z.long(), Z[..., 0, 0]], ids=["background-only", "whole-numbers", "no-space"]
)
def test_logits_that_are_none(variant: Variant, logits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="logits are"):
        variant.build()(logits, Y, KNOWN)


@EACH
def test_class_mask_must_be_bool(variant: Variant) -> None:
    with pytest.raises(PartialLabelError, match=r"class_mask is torch\.float32"):
        variant.build()(Z, Y, KNOWN.float())


@EACH
@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ((Z, Y, KNOWN.tolist()), "class_mask is of type list"),
        ((Z, Y, None), "class_mask is of type NoneType"),
        ((Z, Y.numpy(), KNOWN), "target is of type ndarray"),
        ((Z.tolist(), Y, KNOWN), "logits is of type list"),
    ],
)
def test_arguments_must_be_tensors(variant: Variant, arguments: Any, culprit: str) -> None:
    with pytest.raises(PartialLabelError, match=culprit):
        variant.build()(*arguments)


def test_the_mask_may_be_given_by_name() -> None:
    batch = make_batch(44, (5, 4), mixed_known())
    for variant in VARIANTS:
        loss = variant.build()
        by_name = loss(logits=batch.logits, target=batch.target, class_mask=batch.known)
        assert by_name == loss(batch.logits, batch.target, batch.known)


@EACH
def test_ignore_label_cannot_be_a_class(variant: Variant) -> None:
    with pytest.raises(ValueError, match=r"ignore_label is 2, .* 3 classes"):
        variant.build(ignore_label=2)(Z, Y, KNOWN)


def test_arguments_may_be_given_by_position() -> None:
    for variant in VARIANTS:
        loss = variant.build()
        positional = type(loss)(0.25, 0.5, False, 1e-3, **variant.options)
        assert (positional.weight_ce, positional.weight_dice, positional.batch_dice) == (0.25, 0.5, False)
        said = repr(positional).partition("(")[2].split(", ")
        do_bg = f"do_bg={variant == LEAF_DICE}"
        assert said[:5] == ["weight_ce=0.25", "weight_dice=0.5", "batch_dice=False", "smooth=0.001", do_bg]
