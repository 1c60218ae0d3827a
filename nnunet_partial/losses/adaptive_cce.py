"""Adaptive categorical cross entropy (aCCE): each image teaches only the structures that were annotated in it."""

from __future__ import annotations

from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _fused
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, Sums


class AdaptiveCCELoss(PartialLoss):
    """Categorical cross entropy and Dice over the annotated channels.

    background="renormalise" (default): the softmax runs over background and the classes that the sample knows; a class
        that was not annotated gets neither a term nor a gradient from the sample. Cross entropy and Dice use this
        softmax.
    background="ignore": softmax over all classes, but background voxels of a sample that lacks a class carry no
        cross-entropy term, and the mean is over the voxels that carry one. Dice uses the full softmax.
    The other arguments, shapes, empty cases and errors: see PartialLoss; another `background` raises PartialLabelError.

    Source: Islam et al., MELBA 2026:022, https://doi.org/10.59275/j.melba.2026-3bfa; the second form as in Phitidis et
    al., https://arxiv.org/abs/2601.20503.
    """

    def __init__(self, *args: Any, background: str = "renormalise", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if background not in ("renormalise", "ignore"):
            raise PartialLabelError(f"background is {background!r}; expected 'renormalise' or 'ignore'.")
        self.background = background

    def sums(self, batch: Batch) -> Sums:
        if self.background == "ignore":
            return _fused.softmax_sums(batch, "keep", skip_background=True)
        return _fused.softmax_sums(batch, "drop")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, background={self.background!r}"
