"""Marginal loss: unknown classes are part of the background."""

from __future__ import annotations

from nnunet_partial.losses import _fused
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, LossSums


class MarginalLoss(PartialLoss):
    """Compute cross entropy and Dice of the problem in which background and unknown classes are one class.

    With p = softmax of the logits over all classes, and U the classes that the sample does not know: a voxel of a known
    class c has the term -log p(c), a background voxel -log of the sum of p over {background} and U. Dice uses p of the
    known foreground classes; with `do_bg` also that of the merged background.

    References:
        Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical Image
        Analysis 70, 2021, https://arxiv.org/abs/2007.03868.

        For echocardiography from several domains: Islam et al., MELBA 2026:022,
        https://doi.org/10.59275/j.melba.2026-3bfa.
    """

    def sums(self, batch: Batch) -> LossSums:
        """Compute the sums per sample and class that `forward` averages.

        Args:
            batch: the flattened input.

        Returns:
            The sums; 0 where nothing contributes.
        """
        return _fused.softmax_sums(batch, "merge")
