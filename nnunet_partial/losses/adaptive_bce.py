"""Adaptive binary cross entropy (aBCE): one yes-or-no question per structure, asked only where it was annotated."""

from __future__ import annotations

from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _fused
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, Sums


class AdaptiveBCELoss(PartialLoss):
    """Binary cross entropy and Dice of one independent sigmoid per foreground class, over known (sample, class) pairs.

    Channel 0 of the logits takes no part and gets no gradient. At prediction the network must give the background a
    logit of exactly 0: argmax then says background where every foreground sigmoid is below one half, and else the
    largest.
    Arguments, shapes, empty cases and errors: see PartialLoss; do_bg=True raises PartialLabelError.

    Source: Islam et al., MELBA 2026:022, https://doi.org/10.59275/j.melba.2026-3bfa.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.do_bg:
            raise PartialLabelError(
                "do_bg is True, but this loss has no background channel to compute a Dice of; expected do_bg=False."
            )

    def sums(self, batch: Batch) -> Sums:
        return _fused.sigmoid_sums(batch)
