"""The sigmoid sums on a CPU: few passes over memory, in pieces that stay in a core's cache.

`forward` keeps the probabilities, and `backward` writes the gradient over them (formulas: `_fused.py`); it gives up
where exponentials come near the ends of float32. Channel 0 is the place of voxels whose label no structure has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._common import TINY, Totals, class_index, count_by_class, pieces, sum_by_class, zero_totals


def forward(logits: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool) -> tuple[Totals, Tensor] | None:
    """logits (B, C, N), labels (B, N), pairs (B, C) without background -> totals, and p, 0 at ignored voxels and in
    the background. None for logits whose exponentials would lose digits, and for NaN."""
    totals, kept = zero_totals(logits), torch.empty(logits.shape, dtype=_terms.precise(logits[:0]).dtype)
    entropy = torch.zeros_like(totals.overlap)
    for rows, columns in pieces(logits):
        index, valid = class_index(labels[rows, columns], has_ignored)
        p, right = kept[rows, :, columns], torch.empty_like(kept[rows, :, columns])
        torch.exp(_terms.precise(logits[rows, 1:, columns]), out=p[:, 1:])
        torch.add(p[:, 1:], 1, out=right[:, 1:]).reciprocal_()  # 1 - p, and p where drawn: what the truth is given
        p[:, 1:] *= right[:, 1:]
        p[:, 0] = 0
        p_label = p.gather(1, index[:, None])
        right.scatter_(1, index[:, None], p_label)
        if not right[:, 1:].amin() > TINY:
            return None
        if valid is not None:
            right.masked_fill_(~valid[:, None], 1)
            p *= valid[:, None]
            p_label *= valid[:, None]
        entropy[rows, 1:] -= right[:, 1:].log_().sum(dim=2)
        totals.predicted[rows, 1:] += p[:, 1:].sum(dim=2)
        totals.overlap[rows] += sum_by_class(p_label[:, 0], index, p.shape[1])
        totals.drawn[rows] += count_by_class(index, valid, p.shape[1])
    torch.sum(entropy * pairs, dim=1, out=totals.entropy)
    return totals, kept


def backward(
    kept: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool, incoming: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """The gradient by the logits, written over `kept`."""
    of_entropy, a, b = incoming
    g = of_entropy[:, None] * pairs
    both = b + g
    for rows, columns in pieces(kept):
        index, valid = class_index(labels[rows, columns], has_ignored)
        p = kept[rows, :, columns]
        p_label = p.gather(1, index[:, None])[:, 0]
        at_label = a[rows].gather(1, index).mul_(p_label).mul_(1 - p_label).sub_(g[rows].gather(1, index))
        if valid is not None:
            at_label *= valid
        for c in range(1, p.shape[1]):
            p[:, c] *= torch.addcmul(both[rows, c, None], p[:, c], b[rows, c, None], value=-1)
        p.scatter_add_(1, index[:, None], at_label[:, None])
    return kept
