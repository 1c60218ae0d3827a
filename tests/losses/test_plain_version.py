"""The plain version of the sums in `_terms.py`, there to be read, gives what the fast ones in `_fused.py` give.

The plain one runs where torch.compile compiles; here it runs as it is. The fast one for all devices runs on a GPU; here
the one for CPUs is made to give up at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from losses.situations import (
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

from nnunet_partial.losses import _common, _sigmoid, _sigmoid_cpu, _softmax, _softmax_cpu
from nnunet_partial.losses._common import Kind

KNOWN = {"all": fully_known(), "mixed": mixed_known(), "nothing": known_from([[], []], 4)}


@contextmanager
def any_device() -> Iterator[None]:
    """As on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        for version in (_softmax_cpu, _sigmoid_cpu):
            patch.setattr(version, "forward", lambda *arguments: None)
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
@pytest.mark.parametrize("piece", [12, 200], ids=["parts-of-a-sample", "several-samples"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_cutting_into_pieces_changes_nothing(
    variant: Variant, piece: int, fast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_common, "PIECE", piece // torch.get_num_threads())
    batch = make_batch(75, SPACES["2d"], mixed_known(), ignore_label=4)
    assert_same(*both(variant, batch, fast, ignore_label=4))


@FAST
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.name != "abce"], ids=str)
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


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_version_for_cpus_is_used_while_exponentials_keep_their_digits(variant: Variant) -> None:
    """exp(80) and exp(-80) are numbers of float32, their ratio is not."""
    version, how = _version(variant)
    for largest, used in ((3.0, True), (30.0, True), (80.0, False), (float("nan"), False)):
        logits = torch.zeros(1, 4, 6)
        logits[0, 1, 2:4], logits[0, 2, 2:4] = largest, -largest
        labels = torch.tensor([[0, 1, 2, 2, 3, 0]])
        found = version.forward(logits, labels, torch.tensor([[version is _softmax_cpu, True, True, True]]), how)
        assert (found is not None) == used


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_on_a_cpu_ordinary_logits_do_not_reach_the_version_for_all_devices(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (_softmax, _sigmoid):
        monkeypatch.setattr(version, "forward", None)
    value_and_gradient(variant.build(), make_batch(74, SPACES["2d"], mixed_known()))
    with pytest.raises(TypeError):
        value_and_gradient(variant.build(), make_batch(74, SPACES["2d"], mixed_known(), scale=1e4))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_merged_background_may_vanish_where_another_class_was_drawn(variant: Variant) -> None:
    """exp(-90) is 0 beside 1 in float32; value and gradient are those of float64 all the same."""
    logits = torch.full((1, 4, 1, 2), -45.0, dtype=torch.float64)
    logits[:, 1] = 45.0
    exact = Batch(logits, torch.ones(1, 1, 1, 2, dtype=torch.long), known_from([[1, 2]], 4))
    single = Batch(logits.float(), exact.target, exact.known)
    value, gradient = value_and_gradient(variant.build(), single)
    expected_value, expected = value_and_gradient(variant.build(), exact)
    torch.testing.assert_close(value.double(), expected_value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-12)


def _version(variant: Variant) -> tuple[Any, Any]:
    if variant.name == "abce":
        return _sigmoid_cpu, False
    kinds = {"marginal": ("merge", False), "acce": ("drop", False), "acce-ignore": ("keep", True)}
    return _softmax_cpu, Kind(*kinds[str(variant)], has_ignored=False)
