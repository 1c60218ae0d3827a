"""Losses for partially labeled data: marginal, aCCE and aBCE. Pure torch, without nnU-Net."""

from __future__ import annotations

from nnunet_partial.losses._base import PartialLoss
from nnunet_partial.losses.adaptive_bce import AdaptiveBCELoss
from nnunet_partial.losses.adaptive_cce import AdaptiveCCELoss
from nnunet_partial.losses.marginal import MarginalLoss

LOSSES: dict[str, type[PartialLoss]] = {
    "acce": AdaptiveCCELoss,
    "abce": AdaptiveBCELoss,
    "marginal": MarginalLoss,
}

__all__ = ["LOSSES", "AdaptiveBCELoss", "AdaptiveCCELoss", "MarginalLoss", "PartialLoss"]
