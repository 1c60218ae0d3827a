"""Adaptive binary cross entropy (aBCE): one sigmoid per foreground class, where the class was annotated."""

from __future__ import annotations

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _fused
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, LossSums


class AdaptiveBCELoss(PartialLoss):
    """Compute binary cross entropy and Dice of one sigmoid per foreground class over known (sample, class) pairs.

    Channel 0 of the logits is not used and gets no gradient. At prediction the network must give the background a logit
    of exactly 0: argmax then yields background where every foreground sigmoid is below one half, and else the class of
    the largest sigmoid.

    References:
        Islam et al., MELBA 2026:022, https://doi.org/10.59275/j.melba.2026-3bfa.
    """

    def __init__(
        self,
        weight_ce: float = 1.0,
        weight_dice: float = 1.0,
        batch_dice: bool = True,
        smooth: float = 1e-5,
        do_bg: bool = False,
        ignore_label: int | None = None,
        ddp: bool = False,
    ) -> None:
        """Set the options.

        Args:
            weight_ce: see PartialLoss, as for the other options.
            weight_dice: see PartialLoss.
            batch_dice: see PartialLoss.
            smooth: see PartialLoss.
            do_bg: must be False, since there is no background channel.
            ignore_label: see PartialLoss.
            ddp: see PartialLoss.

        Raises:
            PartialLabelError: if an option has an invalid value.
        """
        super().__init__(weight_ce, weight_dice, batch_dice, smooth, do_bg, ignore_label, ddp)
        if do_bg:
            raise PartialLabelError(
                "do_bg is True, but this loss has no background channel to compute a Dice of; expected do_bg=False."
            )

    def sums(self, batch: Batch) -> LossSums:
        """Compute the sums per sample and class that `forward` averages.

        Args:
            batch: the flattened input.

        Returns:
            The sums; 0 where nothing contributes.
        """
        return _fused.sigmoid_sums(batch)


class ExclusiveBCELoss(AdaptiveBCELoss):
    """Compute aBCE of structures that exclude each other: the voxels of one are negatives for all others.

    To the terms of aBCE come those of the unknown classes of a sample, -log(1 - sigmoid of the logit) in each voxel of
    one of its known classes; the cross entropy is the mean over all terms. The Dice is that of aBCE.

    References:
        Petit et al., "Handling missing annotations for semantic segmentation with deep ConvNets", DLMIA 2018,
        https://doi.org/10.1007/978-3-030-00889-5_3.
    """

    def sums(self, batch: Batch) -> LossSums:
        """Compute the sums per sample and class that `forward` averages.

        Args:
            batch: the flattened input.

        Returns:
            The sums; 0 where nothing contributes.
        """
        return _fused.sigmoid_sums(batch, exclusive=True)
