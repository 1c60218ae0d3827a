"""The sums of `_terms.py` again, several times faster: gradients derived by hand, in pieces that stay in the processor's cache.

`_terms.softmax_sums` and `_terms.sigmoid_sums` say what is computed; here is how. The forward pass keeps the probabilities
and the backward pass writes the gradient in one go. With A and B the incoming gradients of `overlap` and `predicted`, g that
of `entropy`, y the label of a voxel and s = sum_c B_c p_c + A_y p_y, the gradients with respect to the logits are

    softmax: p_c (B_c + g - s) + [c = y] (A_y p_y - g)
    sigmoid: p_c (B_c (1 - p_c) + g) + [c = y] (A_y p_y (1 - p_y) - g)

The merged background of the marginal loss is one class of that softmax; the gradient that it gets is handed on to its members
by their shares of it (a softmax over the members).

There is no second derivative. Under torch.compile the plain version is used, which the compiler fuses by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_partial.losses import _terms
from nnunet_partial.losses._terms import IGNORED, Batch, Sums

PIECE = 2**18  # numbers in one piece on a CPU: 1 MiB of float32, what a core's cache holds


class _Kind(NamedTuple):
    unknown: str  # 'merge', 'drop' or 'keep', see _terms.softmax_sums
    skip_background: bool
    has_ignored: bool


def softmax_sums(batch: Batch, unknown: str, skip_background: bool = False) -> Sums:
    """See `_terms.softmax_sums`."""
    if torch.compiler.is_compiling():
        return _terms.softmax_sums(batch, unknown, skip_background)
    kind = _Kind(unknown, skip_background, batch.has_ignored)
    entropy, overlap, predicted = _SoftmaxSums.apply(batch.logits, batch.labels, batch.known, kind)
    drawn = _count(batch, entropy.dtype)
    terms = drawn.sum(dim=1)
    if skip_background:
        terms = terms - drawn[:, 0] * ~batch.known.all(dim=1)
    return Sums(entropy, terms, overlap, predicted, drawn)


def sigmoid_sums(batch: Batch) -> Sums:
    """See `_terms.sigmoid_sums`."""
    if torch.compiler.is_compiling():
        return _terms.sigmoid_sums(batch)
    pairs = _terms.foreground(batch.known)
    entropy, overlap, predicted = _SigmoidSums.apply(batch.logits, batch.labels, pairs, batch.has_ignored)
    drawn = _count(batch, entropy.dtype)
    return Sums(entropy, drawn.sum(dim=1) * pairs.sum(dim=1), overlap, predicted, drawn * pairs)


class _SoftmaxSums(torch.autograd.Function):
    """logits (B, C, N), labels (B, N), known (B, C) -> entropy (B,), overlap (B, C), predicted (B, C)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, known: Tensor, kind: _Kind) -> tuple[Tensor, Tensor, Tensor]:
        kept = torch.empty_like(logits, dtype=_terms.precise(logits[:0]).dtype)  # p; of merged classes their shares
        merged_p = kept.new_empty(labels.shape if kind.unknown == "merge" else 0)
        entropy, overlap, predicted = (
            kept.new_zeros(len(known)),
            kept.new_zeros(known.shape),
            kept.new_zeros(known.shape),
        )
        carrying = _carrying(known, kind)
        for rows, columns in _pieces(kept):
            z, share = _effective(_terms.precise(logits[rows, :, columns]), known[rows], kind.unknown)
            index, valid = _index(labels[rows, columns], kind.has_ignored)
            p, log_sum = _softmax(z)
            term = log_sum - z.gather(1, index[:, None])[:, 0]
            if valid is not None:
                p *= valid[:, None]
            if carrying is not None:
                term *= carrying(rows, labels[rows, columns])
            entropy[rows] += term.sum(dim=1)
            overlap[rows] += _sum_by_class(p.gather(1, index[:, None])[:, 0], index, p.shape[1])
            predicted[rows] += p.sum(dim=2)
            if share is not None:
                merged_p[rows, columns] = p[:, 0]
                p[:, 0] = 0
                p += share
            kept[rows, :, columns] = p
        ctx.save_for_backward(kept, merged_p, labels, known)
        ctx.kind, ctx.dtype = kind, logits.dtype
        return entropy, overlap * known, predicted * known

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, None, None, None]:
        kept, merged_p, labels, known = ctx.saved_tensors
        kind, merge = ctx.kind, ctx.kind.unknown == "merge"
        a, b, g = a * known, b * known, g[:, None]
        own = _terms.foreground(known)[:, :, None].to(kept.dtype)  # (B, C, 1): classes that stand for themselves
        carrying = _carrying(known, kind)
        gradient = torch.empty_like(kept, dtype=ctx.dtype)
        for rows, columns in _pieces(kept):
            p, index = kept[rows, :, columns], _index(labels[rows, columns], kind.has_ignored)[0]
            p_label = p.gather(1, index[:, None])[:, 0]
            if merge:
                p_background, is_background = merged_p[rows, columns], index == 0
                p_label = torch.where(is_background, p_background, p_label)
                s = _weighted(p, b[rows] * own[rows, :, 0]).addcmul_(p_background, b[rows, :1])
            else:
                s = _weighted(p, b[rows])
            at_label = a[rows].gather(1, index) * p_label
            s += at_label
            share_g = g[rows] if carrying is None else g[rows] * carrying(rows, labels[rows, columns])
            at_label -= share_g
            factor = b[rows, :, None] + (share_g - s)[:, None]  # (b, C, n)
            if merge:
                merged = (factor[:, 0] * p_background).addcmul_(at_label, is_background)
                factor = (factor * own[rows]).addcmul_(merged[:, None], 1 - own[rows])
                at_label *= ~is_background
            factor *= p
            gradient[rows, :, columns] = factor.scatter_add_(1, index[:, None], at_label[:, None])
        return gradient, None, None, None


class _SigmoidSums(torch.autograd.Function):
    """logits (B, C, N), labels (B, N), pairs (B, C) -> entropy (B,), overlap (B, C), predicted (B, C); background 0."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept = torch.empty_like(logits[:, 1:], dtype=_terms.precise(logits[:0]).dtype)  # p, foreground only
        counted = pairs[:, 1:].to(kept.dtype)
        entropy, overlap, predicted = (
            kept.new_zeros(counted.shape),
            kept.new_zeros(counted.shape),
            kept.new_zeros(counted.shape),
        )
        for rows, columns in _pieces(kept):
            z = _terms.precise(logits[rows, 1:, columns])
            index, drawn, valid = _foreground_index(labels[rows, columns], has_ignored)
            term = _log1p_exp_minus_abs(z) + z.clamp_min(0)  # -log(1 - sigmoid(z))
            at_label = z.gather(1, index[:, None]) * drawn[:, None]
            term.scatter_add_(1, index[:, None], -at_label)  # where drawn: -log(sigmoid(z))
            p = z.sigmoid()
            if valid is not None:
                p *= valid[:, None]
                term *= valid[:, None]
            entropy[rows] += term.sum(dim=2)
            overlap[rows] += _sum_by_class(p.gather(1, index[:, None])[:, 0] * drawn, index, p.shape[1])
            predicted[rows] += p.sum(dim=2)
            kept[rows, :, columns] = p
        ctx.save_for_backward(kept, labels, pairs)
        ctx.has_ignored, ctx.dtype = has_ignored, logits.dtype
        zero = kept.new_zeros(len(pairs), 1)
        overlap, predicted = torch.cat([zero, overlap * counted], 1), torch.cat([zero, predicted * counted], 1)
        return (entropy * counted).sum(dim=1), overlap, predicted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, None, None, None]:
        kept, labels, pairs = ctx.saved_tensors
        a, b = (a * pairs)[:, 1:], (b * pairs)[:, 1:, None]
        b_and_g = b + (g[:, None] * pairs)[:, 1:, None]
        gradient = torch.empty(len(pairs), pairs.shape[1], kept.shape[2], dtype=ctx.dtype, device=kept.device)
        gradient[:, 0] = 0
        for rows, columns in _pieces(kept):
            p = kept[rows, :, columns]
            index, drawn, _ = _foreground_index(labels[rows, columns], ctx.has_ignored)
            p_label = p.gather(1, index[:, None])[:, 0]
            at_label = (a[rows].gather(1, index) * p_label * (1 - p_label) - g[rows, None]) * drawn
            factor = (p * -b[rows]).add_(b_and_g[rows]).mul_(p)
            gradient[rows, 1:, columns] = factor.scatter_add_(1, index[:, None], at_label[:, None])
        return gradient, None, None, None


def _pieces(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of samples and of voxels that cut (B, C, N) into pieces; on a GPU one piece, there a cut only costs."""
    samples, classes, voxels = x.shape
    if x.device.type != "cpu":
        yield slice(0, samples), slice(0, voxels)
        return
    columns = max(1, min(voxels, PIECE // classes))
    rows = max(1, PIECE // (classes * columns))
    for row in range(0, samples, rows):
        for column in range(0, voxels, columns):
            yield slice(row, row + rows), slice(column, column + columns)


def _effective(z: Tensor, known: Tensor, unknown: str) -> tuple[Tensor, Tensor | None]:
    """The logits whose softmax counts, as `_terms.merge_unknown` and `drop_unknown`; for 'merge' also the members' shares.

    Adding minus infinity, not filling it in: masked_fill takes six times as long on a CPU.
    """
    if unknown == "keep":
        return z, None
    dropped = z + _minus_infinity(~known, z)
    if unknown == "drop":
        return dropped, None
    share, log_sum = _softmax(z + _minus_infinity(_terms.foreground(known), z))
    dropped[:, 0] = log_sum
    return dropped, share


def _minus_infinity(where: Tensor, like: Tensor) -> Tensor:
    """(B, C) bool -> (B, C, 1): minus infinity there, else 0."""
    return torch.zeros(where.shape, dtype=like.dtype, device=like.device).masked_fill_(where, float("-inf"))[:, :, None]


def _softmax(z: Tensor) -> tuple[Tensor, Tensor]:
    """(b, C, n) -> softmax, and logsumexp (b, n): the largest logit minus the log of its probability, which is >= 1 / C."""
    p = z.softmax(dim=1)
    return p, z.amax(dim=1) - p.amax(dim=1).log_()


def _log1p_exp_minus_abs(z: Tensor) -> Tensor:
    """log(1 + exp(-|z|)), with the rounding of 1 + x made good; torch's own log1p takes ten times as long on a CPU."""
    x = z.abs().neg_().exp_()
    y = 1 + x
    return y.log() - (y - 1).sub_(x).div_(y)


def _index(labels: Tensor, has_ignored: bool) -> tuple[Tensor, Tensor | None]:
    """(b, n) -> class numbers to gather by (0 for ignored voxels), and which voxels are valid (None: all)."""
    index = labels.long()
    return (index.clamp_min_(0), labels != IGNORED) if has_ignored else (index, None)


def _foreground_index(labels: Tensor, has_ignored: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """(b, n) -> channel of the foreground-only logits, whether the voxel belongs to a structure at all, validity."""
    return labels.long().sub_(1).clamp_min_(0), labels > 0, (labels != IGNORED) if has_ignored else None


def _carrying(known: Tensor, kind: _Kind) -> Any:
    """None where every voxel carries a cross-entropy term, else a function (rows, labels) -> (b, n) bool."""
    if not (kind.has_ignored or kind.skip_background):
        return None
    return lambda rows, labels: _terms.carries_entropy(labels, known[rows], kind.skip_background)


def _sum_by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """values (b, n), index (b, n) -> (b, classes). A GPU would queue up at the few sums, so there it goes class by class."""
    if values.device.type == "cpu":
        return values.new_zeros(values.shape[0], classes).scatter_add_(1, index, values)
    return torch.stack([(values * (index == c)).sum(dim=1) for c in range(classes)], dim=1)


def _count(batch: Batch, dtype: torch.dtype) -> Tensor:
    """(B, C): number of voxels of each class; counted in whole numbers, which float32 cannot do beyond 16 million."""
    index, valid = _index(batch.labels, batch.has_ignored)
    ones = torch.ones(1, dtype=torch.int32, device=index.device).expand_as(index) if valid is None else valid.int()
    return _sum_by_class(ones, index, batch.known.shape[1]).to(dtype)


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """x (b, C, n), weights (b, C) -> their sum over C (b, n), without a second tensor of the size of x."""
    total = x[:, 0] * weights[:, :1]
    for c in range(1, x.shape[1]):
        total.addcmul_(x[:, c], weights[:, c : c + 1])
    return total
