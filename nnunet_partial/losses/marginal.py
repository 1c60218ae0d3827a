"""Marginal loss: unknown classes are part of the background."""

from __future__ import annotations

from torch import Tensor

from nnunet_partial.losses import _fused, _terms
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, LossSums


class MarginalLoss(PartialLoss):
    """Compute cross entropy and Dice of the problem in which background and unknown classes are one class.

    With p = softmax of the logits over all classes, and U the unknown classes of the sample: a voxel of a known class c
    has the term -log p(c), a background voxel -log of the sum of p over {background} and U. Dice uses p of the known
    foreground classes; with `do_bg` also that of the merged background.

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
        return _fused.softmax_sums(batch, "merge", do_bg=self.do_bg)


class MarginalLeafDiceLoss(MarginalLoss):
    """Compute the marginal cross entropy and a Dice that counts predictions in all voxels, over leaf voxels.

    A leaf voxel is one whose class is certain: a voxel of a known class, or background where every class is
    known. Probability of a class counts against it in every other voxel, so also where an unknown class may be. The
    sums always run over the whole batch, and over all ranks: within one sample an unknown class has no leaf voxel, and
    would never be penalized. A class without a leaf voxel in the batch is left out of the mean, unless every class is
    known in every sample of the batch. So if all voxels are ignored, the loss is -weight_dice in such a batch, as in
    nnU-Net, and 0 in any other one.

    References:
        Fidon et al., "Label-set loss functions for partial supervision: application to fetal brain 3D MRI
        parcellation", MICCAI 2021, https://arxiv.org/abs/2107.03846. There p is squared in the denominator; here it is
        not, as in nnU-Net.
    """

    def __init__(
        self,
        weight_ce: float = 1.0,
        weight_dice: float = 1.0,
        batch_dice: bool = True,
        smooth: float = 1e-5,
        do_bg: bool = True,
        ignore_label: int | None = None,
        ddp: bool = False,
    ) -> None:
        """Set the options.

        Args:
            weight_ce: see PartialLoss, as for the other options.
            weight_dice: see PartialLoss.
            batch_dice: has no effect; the sums run over the batch.
            smooth: see PartialLoss.
            do_bg: see PartialLoss; here on by default.
            ignore_label: see PartialLoss.
            ddp: see PartialLoss.
        """
        super().__init__(weight_ce, weight_dice, batch_dice, smooth, do_bg, ignore_label, ddp)

    def sums(self, batch: Batch) -> LossSums:
        """Compute the sums per sample and class that `forward` averages.

        Args:
            batch: the flattened input.

        Returns:
            The sums, see `_terms.leaf_sums`.
        """
        return _fused.leaf_sums(batch)

    def mean_dice(self, sums: LossSums, class_mask: Tensor) -> Tensor:
        """Average the soft Dice over the classes that have leaf voxels in the batch.

        Args:
            sums: what `sums` computes.
            class_mask: (B, C) bool, column 0 True.

        Returns:
            A scalar; 0 if nothing counts.
        """
        return _terms.mean_leaf_dice(sums, class_mask, self.do_bg, self.smooth, self.ddp)
