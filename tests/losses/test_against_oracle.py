"""Every loss equals its slow twin of tests/oracle.py, in whatever situation chance comes up with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from losses.situations import (
    SPACES,
    VARIANTS,
    Batch,
    Variant,
    fully_known,
    known_from,
    make_batch,
    mixed_known,
    value_and_gradient,
)
from oracle import ORACLES

from nnunet_partial.losses import LOSSES


def test_every_loss_of_the_table_has_an_oracle() -> None:
    assert set(LOSSES) == set(ORACLES)


@st.composite
def batches(draw: st.DrawFn, ignore: bool) -> Batch:
    """Any pattern of known classes, empty structures, one class only, values of unknown classes, ignored voxels."""
    samples, foreground = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    space = draw(st.sampled_from([(1, 1), (3, 2), (4, 5), (2, 1, 3), (2, 3, 2)]))
    some_classes = st.lists(st.integers(1, foreground), unique=True)
    known = known_from(draw(st.lists(some_classes, min_size=samples, max_size=samples)), foreground + 1)
    batch = make_batch(
        draw(st.integers(0, 10_000)),
        space,
        known,
        ignore_label=foreground + 1 if ignore else None,
        drawn_unknown=draw(st.booleans()),
        scale=draw(st.sampled_from([0.0, 1.0, 5.0, 30.0])),
    )
    target = batch.target
    if draw(st.booleans()):  # an empty structure
        target[target == draw(st.integers(1, foreground))] = 0
    if draw(st.booleans()):  # a sample with one value only, which may be the ignore label
        target[0] = draw(st.integers(0, foreground + (1 if ignore else 0)))
    return batch


@pytest.mark.parametrize("ignore", [False, True], ids=["no-ignore", "ignore"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    batch_dice=st.booleans(),
    do_bg=st.booleans(),
    smooth=st.sampled_from([0.0, 1e-5, 1.0]),
    weights=st.sampled_from([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 2.0)]),
)
def test_equals_the_oracle(
    variant: Variant,
    ignore: bool,
    data: st.DataObject,
    batch_dice: bool,
    do_bg: bool,
    smooth: float,
    weights: tuple[float, float],
) -> None:
    batch = data.draw(batches(ignore))
    options = {
        "batch_dice": batch_dice,
        "do_bg": do_bg and variant.name != "abce",
        "smooth": smooth,
        "weight_ce": weights[0],
        "weight_dice": weights[1],
        "ignore_label": batch.known.shape[1] if ignore else None,
    }
    value, gradient = value_and_gradient(variant.build(**options), batch)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(variant.oracle(batch, **options), rel=1e-9, abs=1e-11)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("ignore_label", [None, 4, 255])
@pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equals_the_oracle_in_float32(
    variant: Variant, batch_dice: bool, ignore_label: int | None, space: tuple[int, ...]
) -> None:
    for known in (fully_known(4), mixed_known()):
        batch = make_batch(1, space, known, ignore_label=ignore_label, dtype=torch.float32)
        options = {"batch_dice": batch_dice, "ignore_label": ignore_label}
        value, _ = value_and_gradient(variant.build(**options), batch)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(variant.oracle(batch, **options), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradient_is_the_slope_of_the_oracle(variant: Variant) -> None:
    batch = make_batch(2, (2, 2), mixed_known(), ignore_label=4)
    _, gradient = value_and_gradient(variant.build(ignore_label=4), batch)
    step = 1e-5
    for index in range(batch.logits.numel()):
        nudge = torch.zeros(batch.logits.numel(), dtype=torch.float64)
        nudge[index] = step
        nudge = nudge.view_as(batch.logits)
        up = variant.oracle(Batch(batch.logits + nudge, batch.target, batch.known), ignore_label=4)
        down = variant.oracle(Batch(batch.logits - nudge, batch.target, batch.known), ignore_label=4)
        assert gradient.flatten()[index].item() == pytest.approx((up - down) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_background_is_known_whatever_its_column_says(variant: Variant) -> None:
    batch = make_batch(3, (4, 3), mixed_known())
    known = batch.known.clone()
    known[:, 0] = False
    for options in ({}, {"batch_dice": False}, {} if variant.name == "abce" else {"do_bg": True}):
        value = variant.build(**options)(batch.logits, batch.target, known).item()
        assert value == pytest.approx(variant.oracle(batch, **options), rel=1e-9)
