"""Adaptive categorical cross entropy (aCCE): only annotated classes contribute to the loss of a sample."""

from __future__ import annotations

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _fused
from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses._terms import Batch, LossSums


class AdaptiveCCELoss(PartialLoss):
    """Compute categorical cross entropy and Dice over the annotated channels.

    References:
        Islam et al., MELBA 2026:022, https://doi.org/10.59275/j.melba.2026-3bfa.

        background="ignore": Phitidis et al., https://arxiv.org/abs/2601.20503.
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
        *,
        background: str = "renormalize",
    ) -> None:
        """Set the options.

        Args:
            weight_ce: see PartialLoss, as for the other options.
            weight_dice: see PartialLoss.
            batch_dice: see PartialLoss.
            smooth: see PartialLoss.
            do_bg: see PartialLoss.
            ignore_label: see PartialLoss.
            ddp: see PartialLoss.
            background: "renormalize": the softmax runs over background and the known classes, so that an unknown class
                gets neither a term nor a gradient from the sample; cross entropy and Dice use this softmax.
                "ignore": the softmax runs over all classes, but background voxels of samples that lack a class are
                excluded from the cross entropy, which is averaged over the others.

        Raises:
            PartialLabelError: if an option has an invalid value.
        """
        super().__init__(weight_ce, weight_dice, batch_dice, smooth, do_bg, ignore_label, ddp)
        if background not in ("renormalize", "ignore"):
            raise PartialLabelError(f"background is {background!r}; expected 'renormalize' or 'ignore'.")
        self.background = background

    def sums(self, batch: Batch) -> LossSums:
        """Compute the sums per sample and class that `forward` averages.

        Args:
            batch: the flattened input.

        Returns:
            The sums; 0 where nothing contributes.
        """
        if self.background == "ignore":
            return _fused.softmax_sums(batch, "keep", skip_background=True)
        return _fused.softmax_sums(batch, "drop")

    def extra_repr(self) -> str:
        """Return the options, for `repr`."""
        return f"{super().extra_repr()}, background={self.background!r}"
