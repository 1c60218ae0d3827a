"""The sigmoid sums for all logits on all devices; no value is looked at, so that a GPU is never waited for.

Nothing is kept: `backward` computes the probabilities again, and from them the gradient (formulas: `_fused.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._common import Totals, class_index, count_by_class, pieces, zero_totals
from nnunet_partial.losses._terms import IGNORED


def forward(logits: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool) -> tuple[Totals, Tensor]:
    """logits (B, C, N), labels (B, N), pairs (B, C) without background."""
    totals = zero_totals(logits)
    entropy = torch.zeros_like(totals.overlap)
    for rows, columns in pieces(logits):
        z, label = _terms.precise(logits[rows, 1:, columns]), labels[rows, columns]
        drawn = _terms.one_hot(label, logits.shape[1], z.dtype)[:, 1:]
        p, term = z.sigmoid(), z.abs().neg_().exp_().log1p_()  # -log of the larger of p and 1 - p
        term += z.clamp_min(0).addcmul_(z, drawn, value=-1)  # now -log p where drawn, -log(1 - p) elsewhere
        if has_ignored:
            valid = (label != IGNORED)[:, None]
            p *= valid
            term *= valid
        entropy[rows, 1:] += term.sum(dim=2)
        totals.predicted[rows, 1:] += p.sum(dim=2)
        totals.overlap[rows, 1:] += drawn.mul_(p).sum(dim=2)
        totals.drawn[rows] += count_by_class(*class_index(label, has_ignored), logits.shape[1])
    torch.sum(entropy * pairs, dim=1, out=totals.entropy)
    return totals, logits


def backward(
    kept: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool, incoming: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """The gradient by the logits `kept`; the background gets none."""
    g, a, b = incoming
    g, a, b = (x[:, 1:, None] for x in (g[:, None] * pairs, a, b))  # (B, C - 1, 1), 0 where unknown
    gradient = torch.empty_like(kept)
    gradient[:, 0] = 0
    for rows, columns in pieces(kept):
        label = labels[rows, columns]
        drawn = _terms.one_hot(label, kept.shape[1], a.dtype)[:, 1:]
        p = _terms.precise(kept[rows, 1:, columns]).sigmoid()
        if has_ignored:
            p *= (label != IGNORED)[:, None]
        piece = (drawn * a[rows]).add_(b[rows])  # by p
        piece.addcmul_(piece, p, value=-1).add_(g[rows]).mul_(p)  # by z
        gradient[rows, 1:, columns] = piece.addcmul_(drawn, g[rows], value=-1)
    return gradient
