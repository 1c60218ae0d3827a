"""aBCE of regions: structures that may overlap, each a sigmoid of its own, where the region was annotated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _fused, _terms
from nnunet_partial.losses._base import PartialLoss, require_class_mask, require_tensors
from nnunet_partial.losses._terms import LossSums


class RegionBCELoss(PartialLoss):
    """Compute binary cross entropy and Dice of one sigmoid per region over known (sample, region) pairs.

    For nnU-Net's region-based training: one channel per region, none for the background, and a target of the same
    channels. A region that is unknown in a sample has no term, except where a known one says what it is (`inside`): if
    S lies inside R, voxels outside a known R are negatives for S, and voxels of a known S are positives for R, in the
    cross entropy alone. The cross entropy is the mean over all terms.

    References:
        The loss of known regions is that of Islam et al., MELBA 2026:022,
        https://doi.org/10.59275/j.melba.2026-3bfa, for classes.
    """

    def __init__(
        self,
        weight_ce: float = 1.0,
        weight_dice: float = 1.0,
        batch_dice: bool = True,
        smooth: float = 1e-5,
        inside: Sequence[tuple[int, int]] = (),
        has_ignore_channel: bool = False,
        ddp: bool = False,
    ) -> None:
        """Set the options.

        Args:
            weight_ce: see PartialLoss, as for the other options.
            weight_dice: see PartialLoss.
            batch_dice: see PartialLoss.
            smooth: see PartialLoss.
            inside: pairs (S, R) of channels such that region S lies inside region R; none: regions say nothing of each
                other.
            has_ignore_channel: whether the target has one more channel, the last, which marks ignored voxels.
            ddp: see PartialLoss.

        Raises:
            PartialLabelError: if an option has an invalid value.
        """
        super().__init__(weight_ce, weight_dice, batch_dice, smooth, False, None, ddp)
        if any(inner == outer or min(inner, outer) < 0 for inner, outer in inside):
            raise PartialLabelError(f"inside is {list(inside)}; expected pairs of different channels, 0 or more.")
        self.inside = tuple(inside)
        self.has_ignore_channel = has_ignore_channel

    def forward(self, logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (B, R, *S) of floating point, S of any number of axes.
            target: (B, R, *S), or (B, R + 1, *S) with `has_ignore_channel`, of any dtype: 0, or something else where
                the region is. Not read in samples in which the region is unknown.
            class_mask: (B, R) bool, the regions known in each sample: annotated, or known to be absent.

        Returns:
            A scalar in float32 (float64 for float64 logits), also under autocast, twice differentiable; 0, with
            gradient 0, if nothing contributes. If all voxels are ignored, the cross entropy is 0 and every Dice of a
            known region is smooth / smooth = 1, as in nnU-Net.

        Raises:
            PartialLabelError: if types, shapes or dtypes do not fit together.
        """
        self._check(logits, target, class_mask)
        with torch.autocast(logits.device.type, enabled=False):
            if not (self.weight_ce or self.weight_dice):
                return _terms.zero_loss(logits)
            regions = target.detach().flatten(2).bool()  # (B, R[+1], N)
            valid = None
            if self.has_ignore_channel:
                regions, valid = regions[:, :-1], ~regions[:, -1:]
            return self._combine(self._region_sums(logits.flatten(2), regions, valid, class_mask), class_mask)

    def mean_dice(self, sums: LossSums, class_mask: Tensor) -> Tensor:
        """Average the soft Dice over known regions, or known (sample, region) pairs.

        Args:
            sums: per sample and region.
            class_mask: (B, R) bool.

        Returns:
            A scalar; 0 if nothing counts.
        """
        return _terms.mean_dice(sums, class_mask, self.batch_dice, self.smooth, self.ddp)

    def _region_sums(self, logits: Tensor, regions: Tensor, valid: Tensor | None, class_mask: Tensor) -> LossSums:
        """Return the sums over logits (B, R, N) and regions (B, R, N) bool at valid voxels (B, 1, N); None: all are."""
        known = class_mask[:, :, None]
        regions = regions & known
        positive, counted = _implied(regions, known, self.inside)
        if valid is not None:
            regions, positive, counted = regions & valid, positive & valid, counted & valid
        return _fused.region_sums(logits, regions, positive, counted, known if valid is None else known & valid)

    def _check(self, logits: Tensor, target: Tensor, class_mask: Tensor) -> None:
        require_tensors(logits, target, class_mask)
        shape = tuple(logits.shape)
        if len(shape) < 3 or shape[1] < 1 or not logits.is_floating_point():
            raise PartialLabelError(
                f"logits are {logits.dtype} of shape {shape}; expected floating point of shape (B, R, *S), R regions."
            )
        expected = (shape[0], shape[1] + self.has_ignore_channel, *shape[2:])
        if tuple(target.shape) != expected:
            raise PartialLabelError(
                f"target has shape {tuple(target.shape)}; logits of shape {shape} need {expected}: a channel for each "
                f"region{', and one for the ignored voxels' if self.has_ignore_channel else ''}."
            )
        require_class_mask(class_mask, shape[:2], "region")
        if any(max(pair) >= shape[1] for pair in self.inside):
            raise PartialLabelError(f"inside is {list(self.inside)}, but logits have {shape[1]} channels.")

    def extra_repr(self) -> str:
        """Return the options, for `repr`."""
        names = ("weight_ce", "weight_dice", "batch_dice", "smooth", "inside", "has_ignore_channel", "ddp")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _implied(regions: Tensor, known: Tensor, inside: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return which voxels are positives, and which have a term in the cross entropy, both (B, R, N) bool.

    Args:
        regions: (B, R, N) bool, False where not known.
        known: (B, R, 1) bool.
        inside: pairs (S, R) of channels.
    """
    if not inside:
        return regions, known.expand_as(regions)
    positive, negative = regions.clone(), known & ~regions
    outside = negative.clone()
    for inner, outer in inside:
        positive[:, outer] |= regions[:, inner]
        negative[:, inner] |= outside[:, outer]
    return positive, positive | negative
