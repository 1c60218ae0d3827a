"""The readable version of the sums in `_terms.py` gives what the fast one in `_fused.py` gives.

The readable one runs under torch.compile; here it runs as it is. On a GPU the fast one reads no values; here it is made
to do so on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from helpers.loss_batches import (
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

from nnunet_partial.losses import _fused, _kernels

KNOWN = {"all": fully_known(), "mixed": mixed_known(), "nothing": known_from([[], []], 4)}


@contextmanager
def any_device() -> Iterator[None]:
    """As on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fused, "_on_host", lambda x: False)
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        yield


FAST = pytest.mark.parametrize("fast", [nullcontext, any_device], ids=["cpu", "any-device"])


def both(variant: Variant, batch: Batch, fast: Any, **options: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Value and gradient of a fast and of the plain version."""
    loss = variant.build(**options)
    with fast():
        quick = value_and_gradient(loss, batch)
    with as_it_is():
        plain = value_and_gradient(loss, batch)
    return [quick, plain]


@FAST
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignore_label", [None, 4])
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_value_and_gradient_are_the_same(
    variant: Variant, space: str, known: str, ignore_label: int | None, batch_dice: bool, fast: Any
) -> None:
    batch = make_batch(70, SPACES[space], KNOWN[known], ignore_label=ignore_label)
    assert_same(*both(variant, batch, fast, ignore_label=ignore_label, batch_dice=batch_dice))


@FAST
@pytest.mark.parametrize("chunk", [12, 200], ids=["parts-of-a-sample", "several-samples"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_cutting_into_chunks_changes_nothing(
    variant: Variant, chunk: int, fast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_kernels, "CHUNK", chunk // torch.get_num_threads())
    batch = make_batch(75, SPACES["2d"], mixed_known(), ignore_label=4)
    assert_same(*both(variant, batch, fast, ignore_label=4))


@FAST
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.has_background], ids=str)
def test_with_a_dice_of_the_background_too(variant: Variant, fast: Any) -> None:
    assert_same(*both(variant, make_batch(71, SPACES["2d"], mixed_known()), fast, do_bg=True))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_plain_version_is_that_of_the_oracle(variant: Variant) -> None:
    batch = make_batch(72, SPACES["2d"], mixed_known(), ignore_label=4)
    with as_it_is():
        value, _ = value_and_gradient(variant.build(ignore_label=4), batch)
    assert float(value) == pytest.approx(variant.oracle(batch, ignore_label=4), rel=1e-10)


@FAST
@pytest.mark.parametrize("scale", [15.0, 60.0, 2e3])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_large_logits_stay_exact_in_float32(variant: Variant, scale: float, fast: Any) -> None:
    batch = make_batch(73, SPACES["2d"], mixed_known(), dtype=torch.float32, scale=scale)
    assert_same(*both(variant, batch, fast), rtol=1e-5, atol=1e-6)


@FAST
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_label_thought_impossible_has_a_finite_loss(variant: Variant, fast: Any) -> None:
    """exp(-120) is 0 in float32, all the other exponentials are ordinary numbers."""
    batch = make_batch(76, SPACES["2d"], fully_known(), dtype=torch.float32)
    batch.target[0, 0, 1, 2], batch.logits[0, 1, 1, 2] = 1, -120.0
    quick, plain = both(variant, batch, fast)
    assert float(quick[0]) > 1
    assert_same(quick, plain, rtol=1e-5, atol=1e-6)


@FAST
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_merged_background_may_vanish_beside_another_class(variant: Variant, label: int, fast: Any) -> None:
    """exp(-90) is 0 beside 1 in float32; value and gradient are those of float64 all the same."""
    logits = torch.full((1, 4, 1, 2), -45.0, dtype=torch.float64)
    logits[:, 1] = 45.0
    exact = Batch(logits, torch.full((1, 1, 1, 2), label), known_from([[1, 2]], 4))
    single = Batch(logits.float(), exact.target, exact.known)
    with fast():
        value, gradient = value_and_gradient(variant.build(), single)
    expected_value, expected = value_and_gradient(variant.build(), exact)
    torch.testing.assert_close(value.double(), expected_value, rtol=1e-6, atol=1e-6)
    # where the label is right with certainty, terms of the order of 1 cancel in float32
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-7 if label else 1e-12)
