"""The softmax sums on a CPU: few passes over memory, in pieces that stay in a core's cache.

Samples are taken together while they know the same classes, so that a piece has only three kinds of channels: those
with a probability of their own, those that the background takes in, and those left out. With e = exp(z), the sum of
e over what the background takes in becomes the background's own, and 1 / (sum of e over the channels of their own)
turns every e into a probability. No logit is subtracted first: where exponentials come near the ends of float32,
`forward` gives up. It keeps e, and `backward` writes the gradient over it (formulas: `_fused.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
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
    own: list[int]  # channels with a probability of their own, the background first
    taken_in: list[int]  # channels that the background takes in
    left_out: list[int]
    complete: bool  # whether the samples know all classes


def forward(logits: Tensor, labels: Tensor, known: Tensor, kind: Kind) -> tuple[Totals, Kept] | None:
    """logits (B, C, N), labels (B, N), known (B, C). None for logits whose exponentials would lose digits, and NaN."""
    totals, kept = zero_totals(logits), _room(logits, kind)
    for rows, columns, own, taken_in, _, complete in _pieces(logits, known, kind.unknown):
        index, valid = class_index(labels[rows, columns], kind.has_ignored)
        carrying = _carrying(index, valid, complete, kind, kept.e.dtype)
        e = torch.exp(_terms.precise(logits[rows, :, columns]), out=kept.e[rows, :, columns])
        if taken_in:
            kept.background[rows, columns] = e[:, 0]
            for c in taken_in:
                e[:, 0] += e[:, c]
        scale = _sum(e, own, out=kept.scale[rows, columns]).reciprocal_()
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
    for rows, columns, own, taken_in, left_out, complete in _pieces(kept.e, known, kind.unknown):
        e, scale = kept.e[rows, :, columns], kept.scale[rows, columns]
        index, valid = class_index(labels[rows, columns], kind.has_ignored)
        at_label = a[rows].gather(1, index).mul_(kept.p_label[rows, columns])  # A_y p_y
        s = _weighted(e, b[rows], own).mul_(scale).add_(at_label)
        g_here = _only(_carrying(index, valid, complete, kind, g.dtype), g[rows, None])
        rest = (g_here - s).mul_(scale)
        at_label -= g_here
        whole = e[:, 0].clamp_min(TINY) if taken_in else None
        for c in own:
            e[:, c] *= torch.addcmul(rest, scale, b[rows, c, None])
        e.scatter_add_(1, index[:, None], at_label[:, None])
        if whole is not None:  # each gets its share of the merged background's gradient
            share = e[:, 0] / whole
            torch.mul(kept.background[rows, columns], share, out=e[:, 0])
            for c in taken_in:
                e[:, c] *= share
        for c in left_out:
            e[:, c] = 0
    return kept.e


def _room(logits: Tensor, kind: Kind) -> Kept:
    e = torch.empty(logits.shape, dtype=_terms.precise(logits[:0]).dtype)
    voxels = e[:, 0].shape
    return Kept(e, e.new_empty(voxels if kind.unknown == "merge" else 0), e.new_empty(voxels), e.new_empty(voxels))


def _pieces(x: Tensor, known: Tensor, unknown: str) -> Iterator[_Piece]:
    start = 0
    for row, alike in groupby(known.tolist()):
        stop = start + len(list(alike))
        lacking = [] if unknown == "keep" else [c for c, knows in enumerate(row) if not knows]
        own = [c for c in range(len(row)) if c not in lacking]
        taken_in, left_out = (lacking, []) if unknown == "merge" else ([], lacking)
        for rows, columns in pieces(x[start:stop]):
            here = slice(start + rows.start, min(start + rows.stop, stop))
            yield _Piece(here, columns, own, taken_in, left_out, all(row))
        start = stop


def _carrying(index: Tensor, valid: Tensor | None, complete: bool, kind: Kind, dtype: torch.dtype) -> Tensor | None:
    """(b, n): 1 where the voxel carries a cross-entropy term, else 0; None where all do."""
    if kind.skip_background and not complete:
        return (index > 0).to(dtype)
    return valid if valid is None else valid.to(dtype)


def _only(carrying: Tensor | None, terms: Tensor) -> Tensor:
    return terms if carrying is None else terms * carrying


def _sum(x: Tensor, channels: list[int], out: Tensor) -> Tensor:
    """x (b, C, n) -> the sum over these channels (b, n)."""
    out.copy_(x[:, channels[0]])
    for c in channels[1:]:
        out += x[:, c]
    return out


def _weighted(x: Tensor, weights: Tensor, channels: list[int]) -> Tensor:
    """x (b, C, n), weights (b, C) -> the weighted sum over these channels (b, n)."""
    total = x[:, channels[0]] * weights[:, channels[0], None]
    for c in channels[1:]:
        total.addcmul_(x[:, c], weights[:, c, None])
    return total
