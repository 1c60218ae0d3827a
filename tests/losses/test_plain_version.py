"""The plain version of the sums in `_terms.py`, there to be read, gives what the fast one in `_fused.py` gives.

The plain one runs where torch.compile compiles; here it runs as it is.
"""

from __future__ import annotations

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

KNOWN = {"all": fully_known(), "mixed": mixed_known(), "nothing": known_from([[], []], 4)}


def both(variant: Variant, batch: Batch, **options: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Value and gradient of the fast and of the plain version."""
    loss = variant.build(**options)
    fast = value_and_gradient(loss, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        plain = value_and_gradient(loss, batch)
    return [fast, plain]


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignore_label", [None, 4])
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_value_and_gradient_are_the_same(
    variant: Variant, space: str, known: str, ignore_label: int | None, batch_dice: bool
) -> None:
    batch = make_batch(70, SPACES[space], KNOWN[known], ignore_label=ignore_label)
    fast, plain = both(variant, batch, ignore_label=ignore_label, batch_dice=batch_dice)
    assert_same(fast, plain)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.name != "abce"], ids=str)
def test_with_a_dice_of_the_background_too(variant: Variant) -> None:
    fast, plain = both(variant, make_batch(71, SPACES["2d"], mixed_known()), do_bg=True)
    assert_same(fast, plain)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_plain_version_is_that_of_the_oracle(variant: Variant) -> None:
    batch = make_batch(72, SPACES["2d"], mixed_known(), ignore_label=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        value, _ = value_and_gradient(variant.build(ignore_label=4), batch)
    assert float(value) == pytest.approx(variant.oracle(batch, ignore_label=4), rel=1e-10)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_large_logits_stay_exact_in_float32(variant: Variant) -> None:
    batch = make_batch(73, SPACES["2d"], mixed_known(), dtype=torch.float32, scale=2e3)
    fast, plain = both(variant, batch)
    assert_same(fast, plain, rtol=1e-5, atol=1e-6)
