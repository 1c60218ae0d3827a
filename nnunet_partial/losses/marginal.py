"""Marginal loss: what nobody annotated counts as 'background or one of the missing structures'."""

from __future__ import annotations

from nnunet_partial.losses import _fused
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, Sums


class MarginalLoss(PartialLoss):
    """Cross entropy and Dice of the problem in which background and the unknown classes are one class.

    With p = softmax of the logits over all classes, and U the classes that the sample does not know:
    a voxel of a known class c has the term -log p(c), a voxel of the background -log of the sum of p over {background}
    and U.
    Dice: p of the known foreground classes; with `do_bg` also that of the merged background.
    Arguments, shapes, empty cases and errors: see PartialLoss.

    Source: Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical
    Image Analysis 70 (2021), https://arxiv.org/abs/2007.03868; for echocardiography from several domains Islam et al.,
    MELBA 2026:022, https://doi.org/10.59275/j.melba.2026-3bfa.
    """

    def sums(self, batch: Batch) -> Sums:
        return _fused.softmax_sums(batch, "merge")
