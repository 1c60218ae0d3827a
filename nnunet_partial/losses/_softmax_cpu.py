"""The softmax sums on a CPU: few passes over memory, in pieces that stay in a core's cache.

In the samples of a piece a channel has a probability of its own, is taken in by the background, or is left out; where
the samples differ, weights of 0 and 1 tell them apart (taking them one by one would leave too little for the threads
to share). With e = exp(z), the sum of e over what the background takes in becomes the background's own, and
1 / (sum of e over the channels of their own) turns every e into a probability. No logit is subtracted first: where
exponentials come near the ends of float32, `forward` gives up. It keeps e, and `backward` writes the gradient over it
(formulas: `_fused.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._common import (
    TINY,
    Kind,
    Totals,
    class_index,
    count_by_class,
    pieces,
    sum_by_class,
    zero_totals,
)


class Kept(NamedTuple):
    """What the backward pass needs."""

    e: Tensor  # (B, C, N) exp(z); the background's with that of the channels it takes in
    background: Tensor  # (B, N) exp(z) of the background alone; empty unless kind.unknown is 'merge'
    scale: Tensor  # (B, N) 1 / sum of e, 0 at ignored voxels
    p_label: Tensor  # (B, N) p of the label, 0 at ignored voxels


class _Piece(NamedTuple):
    rows: slice
    columns: slice
    own: list[int]  # channels with a probability of their own in some sample, the background first
    taken_in: list[int]  # channels that the background takes in, in some sample
    left_out: list[int]  # channels that have no part in some sample
    weights: dict[int, Tensor]  # channel -> (b, 1) 1 in the samples where it is its own, 0 else; none where all agree


def forward(logits: Tensor, labels: Tensor, known: Tensor, kind: Kind) -> tuple[Totals, Kept] | None:
    """logits (B, C, N), labels (B, N), known (B, C). None for logits whose exponentials would lose digits, and NaN."""
    totals, kept = zero_totals(logits), _room(logits, kind)
    for rows, columns, own, taken_in, _, weights in _pieces(kept.e, known, kind.unknown):
        index, valid = class_index(labels[rows, columns], kind.has_ignored)
        carrying = _carrying(index, valid, known[rows], kind, kept.e.dtype)
        e = torch.exp(_terms.precise(logits[rows, :, columns]), out=kept.e[rows, :, columns])
        if taken_in:
            kept.background[rows, columns] = e[:, 0]
            for c in taken_in:
                _add(e[:, 0], e[:, c], 1 - weights[c] if c in weights else None)
        scale = kept.scale[rows, columns].copy_(e[:, 0])
        for c in own[1:]:
            _add(scale, e[:, c], weights.get(c))
        scale.reciprocal_()
        p_label = torch.gather(e, 1, index[:, None], out=kept.p_label[rows, None, columns])[:, 0].mul_(scale)
        if not (p_label.amin() > TINY and scale.amin() > TINY and scale.amax() < 1 / TINY):
            return None
        totals.entropy[rows] -= _only(carrying, p_label.log()).sum(dim=1)
        if valid is not None:
            scale *= valid
            p_label *= valid
        totals.overlap[rows] += sum_by_class(p_label, index, e.shape[1])
        totals.drawn[rows] += count_by_class(index, valid, e.shape[1])
        for c in own:
            totals.predicted[rows, c] += (e[:, c] * scale).sum(dim=1)
    return totals, kept


def backward(kept: Kept, labels: Tensor, known: Tensor, kind: Kind, incoming: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The gradient by the logits, written over `kept.e`."""
    g, a, b = incoming
    for rows, columns, own, taken_in, left_out, weights in _pieces(kept.e, known, kind.unknown):
        e, scale = kept.e[rows, :, columns], kept.scale[rows, columns]
        index, valid = class_index(labels[rows, columns], kind.has_ignored)
        at_label = a[rows].gather(1, index).mul_(kept.p_label[rows, columns])  # A_y p_y
        s = _weighted(e, b[rows], own).mul_(scale).add_(at_label)
        g_here = _only(_carrying(index, valid, known[rows], kind, g.dtype), g[rows, None])
        rest = (g_here - s).mul_(scale)
        at_label -= g_here
        whole = e[:, 0].clamp_min(TINY) if taken_in else None
        for c in own:
            factor = torch.addcmul(rest, scale, b[rows, c, None])
            if c in weights and c in taken_in:
                factor = torch.where(weights[c] > 0, factor, 1)
            e[:, c] *= factor
        e.scatter_add_(1, index[:, None], at_label[:, None])
        if whole is not None:  # each gets its share of the merged background's gradient
            share = e[:, 0] / whole
            torch.mul(kept.background[rows, columns], share, out=e[:, 0])
            for c in taken_in:
                e[:, c] *= torch.where(weights[c] > 0, 1, share) if c in weights else share
        for c in left_out:
            if c in weights:
                e[:, c] *= weights[c]
            else:
                e[:, c] = 0
    return kept.e


def _room(logits: Tensor, kind: Kind) -> Kept:
    e = torch.empty(logits.shape, dtype=_terms.precise(logits[:0]).dtype)
    voxels = e[:, 0].shape
    return Kept(e, e.new_empty(voxels if kind.unknown == "merge" else 0), e.new_empty(voxels), e.new_empty(voxels))


def _pieces(x: Tensor, known: Tensor, unknown: str) -> Iterator[_Piece]:
    rows_known = known.tolist()
    for rows, columns in pieces(x):
        here = rows_known[rows]
        every = range(len(here[0]))
        if unknown == "keep":
            yield _Piece(rows, columns, list(every), [], [], {})
            continue
        own = [c for c in every if any(row[c] for row in here)]
        lacking = [c for c in every if not all(row[c] for row in here)]
        weights = {c: known[rows, c, None].to(x.dtype) for c in own if c in lacking}
        taken_in, left_out = (lacking, []) if unknown == "merge" else ([], lacking)
        yield _Piece(rows, columns, own, taken_in, left_out, weights)


def _carrying(index: Tensor, valid: Tensor | None, known: Tensor, kind: Kind, dtype: torch.dtype) -> Tensor | None:
    """(b, n): 1 where the voxel carries a cross-entropy term, else 0; None where all do."""
    if not kind.skip_background or (complete := known.all(dim=1, keepdim=True)).all():
        return valid if valid is None else valid.to(dtype)
    carrying = index > 0
    if complete.any():
        carrying |= complete if valid is None else complete & valid
    return carrying.to(dtype)


def _only(carrying: Tensor | None, terms: Tensor) -> Tensor:
    return terms if carrying is None else terms * carrying


def _add(total: Tensor, values: Tensor, weights: Tensor | None) -> None:
    if weights is None:
        total += values
    else:
        total.addcmul_(values, weights)


def _weighted(x: Tensor, weights: Tensor, channels: list[int]) -> Tensor:
    """x (b, C, n), weights (b, C) -> the weighted sum over these channels (b, n)."""
    total = x[:, channels[0]] * weights[:, channels[0], None]
    for c in channels[1:]:
        total.addcmul_(x[:, c], weights[:, c, None])
    return total
