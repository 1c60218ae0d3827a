"""The sums of `_terms.py` again, several times faster: gradients derived by hand, in pieces that stay in the processor's cache.

`_terms.softmax_sums` and `_terms.sigmoid_sums` say what is computed; here is how. The forward pass keeps nothing
of the size of the logits: the backward pass computes the probabilities again and writes the gradient in one go. With A and B the incoming gradients of `overlap` and `predicted`, g that
of `entropy`, y the label of a voxel and s = sum_c B_c p_c + A_y p_y, the gradients with respect to the logits are

    softmax: p_c (B_c + g - s) + [c = y] (A_y p_y - g)
    sigmoid: p_c ((1 - p_c) (B_c + [c = y] A_c) + g) - [c = y] g

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
        ctx.save_for_backward(logits, labels, known)
        ctx.kind = kind
        entropy, overlap, predicted = _zeros(logits, known[:, 0]), _zeros(logits, known), _zeros(logits, known)
        for rows, columns in _pieces(logits):
            label, known_here = labels[rows, columns], known[rows]
            z, _ = _effective(_terms.precise(logits[rows, :, columns]), known_here, kind.unknown)
            index, valid = _index(label, kind.has_ignored)
            p, log_sum = _softmax(z)
            term = log_sum.sub_(z.gather(1, index[:, None])[:, 0])
            if valid is not None:
                p *= valid
            entropy[rows] += _only_carrying(term, label, known_here, kind).sum(dim=1)
            overlap[rows] += _sum_by_class(p.gather(1, index[:, None])[:, 0], index, p.shape[1])
            predicted[rows] += p.sum(dim=2)
        return entropy, overlap * known, predicted * known

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, None, None, None]:
        logits, labels, known = ctx.saved_tensors
        kind, a, b = ctx.kind, a * known, b * known
        gradient = torch.empty_like(logits)
        for rows, columns in _pieces(logits):
            label, known_here = labels[rows, columns], known[rows]
            z, share = _effective(_terms.precise(logits[rows, :, columns]), known_here, kind.unknown)
            index, valid = _index(label, kind.has_ignored)
            p = z.softmax(dim=1)
            if valid is not None:
                p *= valid
            p_label = p.gather(1, index[:, None])[:, 0]
            at_label = a[rows].gather(1, index).mul_(p_label)  # A_y p_y
            s = _weighted(p, b[rows]).add_(at_label)
            g_here = _only_carrying(g[rows, None].expand_as(s), label, known_here, kind)
            piece = torch.mul(p, b[rows, :, None] + (g_here - s)[:, None])
            piece.scatter_add_(1, index[:, None], at_label.sub_(g_here)[:, None])
            if share is not None:
                merged = piece[:, :1].clone()
                piece[:, 0] = 0
                piece.addcmul_(share, merged)
            gradient[rows, :, columns] = piece
        return gradient, None, None, None


class _SigmoidSums(torch.autograd.Function):
    """logits (B, C, N), labels (B, N), pairs (B, C) -> entropy (B,), overlap (B, C), predicted (B, C); background 0."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, labels, pairs)
        ctx.has_ignored = has_ignored
        entropy, overlap, predicted = _zeros(logits, pairs), _zeros(logits, pairs), _zeros(logits, pairs)
        for rows, columns in _pieces(logits):
            z, label = _terms.precise(logits[rows, 1:, columns]), labels[rows, columns]
            drawn = _terms.one_hot(label, logits.shape[1], z.dtype)[:, 1:]
            p, term = z.sigmoid(), z.abs().neg_().exp_().log1p_()  # -log of the larger of p and 1 - p
            term += z.clamp_min(0).addcmul_(z, drawn, value=-1)  # now -log p where drawn, -log(1 - p) elsewhere
            if has_ignored:
                valid = (label != IGNORED)[:, None]
                p *= valid
                term *= valid
            entropy[rows, 1:] += term.sum(dim=2)
            predicted[rows, 1:] += p.sum(dim=2)
            overlap[rows, 1:] += drawn.mul_(p).sum(dim=2)
        return (entropy * pairs).sum(dim=1), overlap * pairs, predicted * pairs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, None, None, None]:
        logits, labels, pairs = ctx.saved_tensors
        a, b, g = ((x * pairs)[:, 1:, None] for x in (a, b, g[:, None]))
        gradient = torch.empty_like(logits)
        gradient[:, 0] = 0
        for rows, columns in _pieces(logits):
            label = labels[rows, columns]
            drawn = _terms.one_hot(label, logits.shape[1], a.dtype)[:, 1:]
            p = _terms.precise(logits[rows, 1:, columns]).sigmoid()
            if ctx.has_ignored:
                p *= (label != IGNORED)[:, None]
            piece = (drawn * a[rows]).add_(b[rows])  # by p
            piece.addcmul_(piece, p, value=-1).add_(g[rows]).mul_(p)  # by z
            gradient[rows, 1:, columns] = piece.addcmul_(drawn, g[rows], value=-1)
        return gradient, None, None, None


def _zeros(logits: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=_terms.precise(logits[:0]).dtype, device=logits.device)


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


def _index(labels: Tensor, has_ignored: bool) -> tuple[Tensor, Tensor | None]:
    """(b, n) -> class numbers to gather by (0 for ignored voxels), and which voxels are valid (b, 1, n) (None: all)."""
    index = labels.long()
    return (index.clamp_min_(0), (labels != IGNORED)[:, None]) if has_ignored else (index, None)


def _only_carrying(terms: Tensor, labels: Tensor, known: Tensor, kind: _Kind) -> Tensor:
    """terms (b, n), 0 where the voxel carries no cross-entropy term."""
    if not (kind.has_ignored or kind.skip_background):
        return terms
    return terms * _terms.carries_entropy(labels, known, kind.skip_background)


def _sum_by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """values (b, n), index (b, n) -> (b, classes). A GPU would queue up at the few sums, so there it goes class by class."""
    if values.device.type == "cpu":
        return values.new_zeros(values.shape[0], classes).scatter_add_(1, index, values)
    return torch.stack([(values * (index == c)).sum(dim=1) for c in range(classes)], dim=1)


def _count(batch: Batch, dtype: torch.dtype) -> Tensor:
    """(B, C): number of voxels of each class; counted in whole numbers, which float32 cannot do beyond 16 million."""
    index, valid = _index(batch.labels, batch.has_ignored)
    ones = torch.ones(1, dtype=torch.int32, device=index.device).expand_as(index) if valid is None else valid[:, 0].int()
    return _sum_by_class(ones, index, batch.known.shape[1]).to(dtype)


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """x (b, C, n), weights (b, C) -> their sum over C (b, n), without a second tensor of the size of x."""
    total = x[:, 0] * weights[:, :1]
    for c in range(1, x.shape[1]):
        total.addcmul_(x[:, c], weights[:, c : c + 1])
    return total
