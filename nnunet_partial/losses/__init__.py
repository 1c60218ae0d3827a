"""Losses for partially labeled data: marginal, aCCE, aBCE and variants. Pure torch, without nnU-Net."""

from __future__ import annotations

from torch import nn

from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses.adaptive_bce import AdaptiveBCELoss, ExclusiveBCELoss
from nnunet_partial.losses.adaptive_cce import AdaptiveCCELoss
from nnunet_partial.losses.marginal import MarginalLeafDiceLoss, MarginalLoss
from nnunet_partial.losses.regions import RegionBCELoss

LOSSES: dict[str, type[PartialLoss]] = {
    "acce": AdaptiveCCELoss,
    "abce": AdaptiveBCELoss,
    "marginal": MarginalLoss,
    "abce-exclusive": ExclusiveBCELoss,
    "marginal-leaf-dice": MarginalLeafDiceLoss,
}

#: The loss of regions, which may overlap, in place of each loss that has one.
REGION_LOSSES: dict[type[nn.Module], type[RegionBCELoss]] = {AdaptiveBCELoss: RegionBCELoss}

__all__ = [
    "LOSSES",
    "REGION_LOSSES",
    "AdaptiveBCELoss",
    "AdaptiveCCELoss",
    "ExclusiveBCELoss",
    "MarginalLeafDiceLoss",
    "MarginalLoss",
    "PartialLoss",
    "RegionBCELoss",
]
