"""On a GPU the losses give what the oracle gives on the host, and never make the host wait; skipped without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.loss_batches import (
    NESTED,
    NOT_NESTED,
    VARIANTS,
    Batch,
    RegionVariant,
    Variant,
    assert_same,
    fully_known,
    known_from,
    make_batch,
    mixed_known,
    region_target,
    value_and_gradient,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)
IGNORE_LABEL = pytest.mark.parametrize("ignore_label", [None, 4], ids=["no-ignore", "ignore"])
KNOWN = {"all": fully_known(4), "mixed": mixed_known(), "none": known_from([[]] * 4, 4)}


@pytest.fixture
def _no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(batch: Batch, dtype: torch.dtype) -> Batch:
    return Batch(batch.logits.to("cuda", dtype), batch.target.cuda(), batch.known.cuda())


def on_host(result: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    value, gradient = result
    return value.double().cpu(), gradient.double().cpu()


@EACH
@IGNORE_LABEL
@pytest.mark.parametrize("batch_dice", [False, True], ids=["sample-dice", "batch-dice"])
@pytest.mark.parametrize("known", KNOWN)
def test_value_and_gradient(variant: Variant, ignore_label: int | None, batch_dice: bool, known: str) -> None:
    batch = make_batch(3, (17, 31), KNOWN[known], ignore_label=ignore_label)
    loss = variant.build(batch_dice=batch_dice, ignore_label=ignore_label)
    exact = value_and_gradient(loss, batch)
    assert float(exact[0]) == pytest.approx(variant.oracle(batch, batch_dice=batch_dice, ignore_label=ignore_label))
    assert_same(on_host(value_and_gradient(loss, on_gpu(batch, torch.float64))), exact)
    assert_same(on_host(value_and_gradient(loss, on_gpu(batch, torch.float32))), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", [NESTED, NOT_NESTED], ids=["nested", "not-nested"])
def test_regions(variant: RegionVariant) -> None:
    batch = make_batch(3, (17, 31), mixed_known())
    loss, exact = variant.build(), value_and_gradient(variant.build(), batch)
    logits = batch.logits.float().cuda().requires_grad_()
    value = loss.loss(logits, region_target(batch.target, None).cuda(), batch.known.cuda())
    (gradient,) = torch.autograd.grad(value, logits)
    assert_same(on_host((value.detach(), gradient)), exact, rtol=1e-4, atol=1e-6)


@EACH
@IGNORE_LABEL
def test_half_precision_of_autocast(variant: Variant, ignore_label: int | None) -> None:
    """What float16 logits give is the loss of exactly these logits, though some are as large as float16 allows."""
    batch = make_batch(5, (33, 20), mixed_known(), ignore_label=ignore_label, scale=4.0)
    batch.logits[0, :, :5] *= 3000
    half = on_gpu(batch, torch.float16)
    rounded = Batch(half.logits.double().cpu(), batch.target, batch.known)
    loss = variant.build(ignore_label=ignore_label)
    with torch.autocast("cuda"):
        result = value_and_gradient(loss, half)
    assert_same(on_host(result), value_and_gradient(loss, rounded), rtol=2e-3, atol=1e-6)


@EACH
@IGNORE_LABEL
@pytest.mark.usefixtures("_no_waiting")
def test_the_host_never_waits(variant: Variant, ignore_label: int | None) -> None:
    loss = variant.build(ignore_label=ignore_label)
    logits = torch.zeros(4, 4, 16, 16, device="cuda", requires_grad=True)
    target = torch.zeros(4, 1, 16, 16, dtype=torch.int16, device="cuda")
    known = torch.ones(4, 4, dtype=torch.bool, device="cuda")
    loss(logits, target, known).backward()
    assert logits.grad is not None


@pytest.mark.slow
@EACH
def test_compiled(variant: Variant) -> None:
    torch.compiler.reset()
    loss: Any = variant.build(batch_dice=True)
    compiled = torch.compile(loss, fullgraph=True)
    for seed in range(2):
        batch = on_gpu(make_batch(seed, (32, 24), mixed_known()), torch.float32)
        assert_same(value_and_gradient(compiled, batch), value_and_gradient(loss, batch), rtol=1e-4, atol=1e-6)


@EACH
def test_second_derivatives(variant: Variant) -> None:
    batch = make_batch(1, (5, 4), mixed_known())
    loss, results = variant.build(), []
    for here in (batch, on_gpu(batch, torch.float64)):
        logits = here.logits.detach().requires_grad_()
        (first,) = torch.autograd.grad(loss(logits, here.target, here.known), logits, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), logits)
        results.append(on_host((first.detach(), second)))
    assert_same(*results)
