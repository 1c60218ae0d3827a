"""The softmax sums for all logits on all devices; no value is looked at, so that a GPU is never waited for.

`forward` keeps the probabilities, and `backward` writes the gradient over them (formulas: `_fused.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._common import (
    Kind,
    Totals,
    class_index,
    count_by_class,
    only_carrying,
    pieces,
    sum_by_class,
    zero_totals,
)


class Kept(NamedTuple):
    """What the backward pass needs; 0 at ignored voxels."""

    own: Tensor  # (B, C, N) p of each class; for a merged background and its members their shares of it
    merged: Tensor  # (B, N) p of the merged background; empty where nothing is merged


def forward(logits: Tensor, labels: Tensor, known: Tensor, kind: Kind) -> tuple[Totals, Kept]:
    """logits (B, C, N), labels (B, N), known (B, C)."""
    totals, kept = zero_totals(logits), _room(logits, kind)
    for rows, columns in pieces(logits):
        label, known_here = labels[rows, columns], known[rows]
        index, valid = class_index(label, kind.has_ignored)
        p, merged, term = _probabilities(_terms.precise(logits[rows, :, columns]), index, known_here, kind.unknown)
        if valid is not None:
            p *= valid[:, None]
        p_label = p.gather(1, index[:, None])[:, 0]
        predicted = p.sum(dim=2)
        if merged is not None:
            merged = merged if valid is None else merged * valid
            p_label = torch.where(index == 0, merged, p_label)
            predicted[:, 0] = merged.sum(dim=1)
            kept.merged[rows, columns] = merged
        kept.own[rows, :, columns] = p
        totals.entropy[rows] += only_carrying(term, label, known_here, kind).sum(dim=1)
        totals.overlap[rows] += sum_by_class(p_label, index, p.shape[1])
        totals.predicted[rows] += predicted
        totals.drawn[rows] += count_by_class(index, valid, p.shape[1])
    return totals, kept


def backward(kept: Kept, labels: Tensor, known: Tensor, kind: Kind, incoming: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The gradient by the logits, written over `kept.own`."""
    g, a, b = incoming
    alone = _terms.foreground(known)[:, :, None].to(a.dtype)  # (B, C, 1): 1 for classes outside a merged background
    for rows, columns in pieces(kept.own):
        label, p = labels[rows, columns], kept.own[rows, :, columns]
        index, _ = class_index(label, kind.has_ignored)
        p_label = p.gather(1, index[:, None])[:, 0]
        if kind.unknown == "merge":
            p_merged, in_merged = kept.merged[rows, columns], (index == 0).to(p.dtype)
            p_label += (p_merged - p_label).mul_(in_merged)
            s = _weighted(p, b[rows] * alone[rows, :, 0]).addcmul_(p_merged, b[rows, :1])
        else:
            s = _weighted(p, b[rows])
        at_label = a[rows].gather(1, index).mul_(p_label)  # A_y p_y
        g_here = only_carrying(g[rows, None].expand_as(s), label, known[rows], kind)
        rest = g_here - s.add_(at_label)
        at_label -= g_here
        if kind.unknown == "merge":
            of_merged = (rest + b[rows, :1]).mul_(p_merged).addcmul_(at_label, in_merged)
            at_label.addcmul_(at_label, in_merged, value=-1)
        for c in range(p.shape[1]):  # class by class: what is needed in between stays small
            factor = rest + b[rows, c : c + 1]
            p[:, c] *= torch.lerp(of_merged, factor, alone[rows, c]) if kind.unknown == "merge" else factor
        p.scatter_add_(1, index[:, None], at_label[:, None])
    return kept.own


def _room(logits: Tensor, kind: Kind) -> Kept:
    own = torch.empty_like(logits, dtype=_terms.precise(logits[:0]).dtype)
    return Kept(own, own.new_empty((len(own), own.shape[2]) if kind.unknown == "merge" else 0))


def _probabilities(z: Tensor, index: Tensor, known: Tensor, unknown: str) -> tuple[Tensor, Tensor | None, Tensor]:
    """z (b, C, n) -> p as `_Probabilities` keeps it, that of the merged background or None, and -log p of the label."""
    if unknown == "merge":
        return _merged(z, index, known)
    p, top, log_top = _softmax(z if unknown == "keep" else z + _minus_infinity(~known, z))
    return p, None, _minus_log(z, index, top, log_top)


def _merged(z: Tensor, index: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A softmax of the merged classes, and one over what they become together: right for all logits."""
    z = z - z.amax(dim=1, keepdim=True)  # see _terms.merge_unknown
    share, top, log_top = _softmax(z + _minus_infinity(_terms.foreground(known), z))
    z = z + _minus_infinity(~known, z)
    z[:, 0] = top.sub_(log_top)  # logsumexp over the members
    p, top, log_top = _softmax(z)
    term, merged = _minus_log(z, index, top, log_top), p[:, 0].clone()
    p[:, 0] = 0
    return p.add_(share), merged, term


def _minus_log(z: Tensor, index: Tensor, top: Tensor, log_top: Tensor) -> Tensor:
    """-log p of the label, from what `_softmax` gives (changes `top`)."""
    return top.sub_(z.gather(1, index[:, None])[:, 0]).sub_(log_top)


def _minus_infinity(where: Tensor, like: Tensor) -> Tensor:
    """(B, C) bool -> (B, C, 1): minus infinity there, else 0."""
    return torch.zeros(where.shape, dtype=like.dtype, device=like.device).masked_fill_(where, float("-inf"))[:, :, None]


def _softmax(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(b, C, n) -> softmax p, the largest logit (b, n), and its log p (b, n), safe since that p is at least 1 / C.

    logsumexp is the one minus the other; they stay apart so that large logits can be subtracted first.
    """
    p = z.softmax(dim=1)
    return p, z.amax(dim=1), p.amax(dim=1).log_()


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """x (b, C, n), weights (b, C) -> their sum over C (b, n), without a second tensor of the size of x."""
    total = x[:, 0] * weights[:, :1]
    for c in range(1, x.shape[1]):
        total.addcmul_(x[:, c], weights[:, c : c + 1])
    return total
