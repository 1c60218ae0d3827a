"""The sums of `_terms.py` again, faster: gradients derived by hand, in pieces that stay in the processor's cache.

`_terms.softmax_sums` and `_terms.sigmoid_sums` say what is computed; here is how. The forward pass of the softmax keeps
the probabilities, and the backward pass writes the gradient over them; the sigmoid keeps nothing. With A and B the
incoming gradients of `overlap` and `predicted`, g that of `entropy`, y the label of a voxel and
s = sum_c B_c p_c + A_y p_y, the gradients with respect to the logits are

    softmax: p_c (B_c + g - s) + [c = y] (A_y p_y - g)
    sigmoid: p_c ((1 - p_c) (B_c + [c = y] A_c) + g) - [c = y] g

The merged background of the marginal loss is one class of that softmax; the gradient that it gets is handed on to its
members by their shares of it (a softmax over the members).

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

PIECE = 2**18  # numbers per thread in one piece on a CPU: 1 MiB of float32, what a core's cache holds

_UNDERFLOW = 1e-30  # a sum of exponentials below has lost digits in float32


class _Kind(NamedTuple):
    unknown: str  # 'merge', 'drop' or 'keep', see _terms.softmax_sums
    skip_background: bool
    has_ignored: bool


def softmax_sums(batch: Batch, unknown: str, skip_background: bool = False) -> Sums:
    """See `_terms.softmax_sums`."""
    if torch.compiler.is_compiling():
        return _terms.softmax_sums(batch, unknown, skip_background)
    if unknown == "merge" and batch.logits.device.type == "cpu" and batch.known.all():
        unknown = "keep"  # nothing to merge; on a GPU, looking would wait for it
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


class _Probabilities(NamedTuple):
    """What the backward pass of the softmax needs; 0 at ignored voxels."""

    own: Tensor  # (B, C, N) p of each class; for a merged background and its members their shares of it
    merged: Tensor  # (B, N) p of the merged background; empty where nothing is merged


class _SoftmaxSums(torch.autograd.Function):
    """logits (B, C, N), labels (B, N), known (B, C) -> entropy (B,), overlap (B, C), predicted (B, C)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, known: Tensor, kind: _Kind) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, labels, known)
        ctx.kind = kind
        ctx.kept = _room(logits, kind) if ctx.needs_input_grad[0] else None
        return _softmax_forward(logits, labels, known, kind, ctx.kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, None, None, None]:
        logits, labels, known = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None
        if kept is None:  # a second backward pass through the same graph
            kept = _room(logits, ctx.kind)
            _softmax_forward(logits, labels, known, ctx.kind, kept)
        gradient = _softmax_backward(kept, labels, known, ctx.kind, (g, a * known, b * known))
        return gradient.to(logits.dtype), None, None, None


def _room(logits: Tensor, kind: _Kind) -> _Probabilities:
    own = torch.empty_like(logits, dtype=_terms.precise(logits[:0]).dtype)
    return _Probabilities(own, own.new_empty((len(own), own.shape[2]) if kind.unknown == "merge" else 0))


def _softmax_forward(
    logits: Tensor, labels: Tensor, known: Tensor, kind: _Kind, keep: _Probabilities | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The three sums; fills `keep`."""
    entropy, overlap, predicted = _zeros(logits, known[:, 0]), _zeros(logits, known), _zeros(logits, known)
    for rows, columns in _pieces(logits):
        label, known_here = labels[rows, columns], known[rows]
        index, valid = _index(label, kind.has_ignored)
        p, merged, term = _probabilities(_terms.precise(logits[rows, :, columns]), index, known_here, kind.unknown)
        if valid is not None:
            p *= valid
        p_label = p.gather(1, index[:, None])[:, 0]
        predicted_here = p.sum(dim=2)
        if merged is not None:
            merged = merged if valid is None else merged * valid[:, 0]
            p_label = torch.where(index == 0, merged, p_label)
            predicted_here[:, 0] = merged.sum(dim=1)
        entropy[rows] += _only_carrying(term, label, known_here, kind).sum(dim=1)
        overlap[rows] += _sum_by_class(p_label, index, p.shape[1])
        predicted[rows] += predicted_here
        if keep is not None:
            keep.own[rows, :, columns] = p
            if merged is not None:
                keep.merged[rows, columns] = merged
    return entropy, overlap * known, predicted * known


def _softmax_backward(
    kept: _Probabilities, labels: Tensor, known: Tensor, kind: _Kind, incoming: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """The gradient by the logits, written over `kept.own`."""
    g, a, b = incoming
    alone = _terms.foreground(known)[:, :, None].to(a.dtype)  # (B, C, 1): 1 for classes outside a merged background
    for rows, columns in _pieces(kept.own):
        label, p = labels[rows, columns], kept.own[rows, :, columns]
        index, _ = _index(label, kind.has_ignored)
        p_label = p.gather(1, index[:, None])[:, 0]
        if kind.unknown == "merge":
            p_merged, in_merged = kept.merged[rows, columns], (index == 0).to(p.dtype)
            p_label += (p_merged - p_label).mul_(in_merged)
            s = _weighted(p, b[rows] * alone[rows, :, 0]).addcmul_(p_merged, b[rows, :1])
        else:
            s = _weighted(p, b[rows])
        at_label = a[rows].gather(1, index).mul_(p_label)  # A_y p_y
        g_here = _only_carrying(g[rows, None].expand_as(s), label, known[rows], kind)
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


class _SigmoidSums(torch.autograd.Function):
    """logits (B, C, N), labels (B, N), pairs (B, C) -> entropy (B,), overlap (B, C), predicted (B, C); background 0."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, pairs: Tensor, has_ignored: bool) -> tuple[Tensor, ...]:
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
        incoming = (g[:, None] * pairs, a * pairs, b * pairs)
        return _sigmoid_backward(logits, labels, ctx.has_ignored, incoming), None, None, None


def _sigmoid_backward(
    logits: Tensor, labels: Tensor, has_ignored: bool, incoming: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """The gradient by the logits; the background gets none."""
    g, a, b = (x[:, 1:, None] for x in incoming)  # (B, C - 1, 1)
    gradient = torch.empty_like(logits)
    gradient[:, 0] = 0
    for rows, columns in _pieces(logits):
        label = labels[rows, columns]
        drawn = _terms.one_hot(label, logits.shape[1], a.dtype)[:, 1:]
        p = _terms.precise(logits[rows, 1:, columns]).sigmoid()
        if has_ignored:
            p *= (label != IGNORED)[:, None]
        piece = (drawn * a[rows]).add_(b[rows])  # by p
        piece.addcmul_(piece, p, value=-1).add_(g[rows]).mul_(p)  # by z
        gradient[rows, 1:, columns] = piece.addcmul_(drawn, g[rows], value=-1)
    return gradient


def _zeros(logits: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=_terms.precise(logits[:0]).dtype, device=logits.device)


def _pieces(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of samples and of voxels that cut (B, C, N) into pieces; on a GPU one piece, there a cut only costs."""
    samples, classes, voxels = x.shape
    if x.device.type != "cpu":
        yield slice(0, samples), slice(0, voxels)
        return
    size = PIECE * torch.get_num_threads()
    columns = max(1, min(voxels, size // classes))
    rows = max(1, size // (classes * columns))
    for row in range(0, samples, rows):
        for column in range(0, voxels, columns):
            yield slice(row, row + rows), slice(column, column + columns)


def _probabilities(z: Tensor, index: Tensor, known: Tensor, unknown: str) -> tuple[Tensor, Tensor | None, Tensor]:
    """z (b, C, n) -> p as `_Probabilities` keeps it, that of the merged background or None, and -log p of the label."""
    if unknown == "merge":
        return _merged_in_one(z, index, known) or _merged_in_two(z, index, known)
    p, top, log_top = _softmax(z if unknown == "keep" else z + _minus_infinity(~known, z))
    return p, None, _minus_log(z, index, top, log_top)


def _merged_in_one(z: Tensor, index: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """One exponential gives both softmaxes; None where it underflows in the merged classes, and on a GPU, which would
    have to be waited for to know."""
    if z.device.type != "cpu":
        return None
    e = z - z.amax(dim=1, keepdim=True)
    z_label = e.gather(1, index[:, None])[:, 0]
    member = (~_terms.foreground(known)).to(e.dtype)  # (b, C)
    every, members = e.exp_().sum(dim=1), _weighted(e, member)
    if not members.min() > _UNDERFLOW:
        return None
    term = every.log().sub_(torch.where(index == 0, members.log(), z_label))
    merged, own, share = members / every, every.reciprocal_(), members.reciprocal_()
    share -= own
    for c in range(e.shape[1]):
        e[:, c] *= torch.addcmul(own, share, member[:, c : c + 1])
    return e, merged, term


def _merged_in_two(z: Tensor, index: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    """values (b, n), index (b, n) -> (b, classes). On a GPU class by class: its threads would queue at so few sums."""
    if values.device.type == "cpu":
        return values.new_zeros(values.shape[0], classes).scatter_add_(1, index, values)
    return torch.stack([(values * (index == c)).sum(dim=1) for c in range(classes)], dim=1)


def _count(batch: Batch, dtype: torch.dtype) -> Tensor:
    """(B, C): number of voxels of each class; counted in whole numbers, which float32 cannot do beyond 16 million."""
    index, valid = _index(batch.labels, batch.has_ignored)
    every = torch.ones(1, dtype=torch.int32, device=index.device).expand_as(index)
    ones = every if valid is None else valid[:, 0].int()
    return _sum_by_class(ones, index, batch.known.shape[1]).to(dtype)


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """x (b, C, n), weights (b, C) -> their sum over C (b, n), without a second tensor of the size of x."""
    total = x[:, 0] * weights[:, :1]
    for c in range(1, x.shape[1]):
        total.addcmul_(x[:, c], weights[:, c : c + 1])
    return total
