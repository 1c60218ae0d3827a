"""Softmax and sigmoid sums with gradients derived by hand, in few passes over memory, for a CPU and all logits.

`softmax_sums`, `leaf_sums` and `sigmoid_sums` of `_terms` define what is computed. With A and B the incoming gradients
of `intersection` and `predicted`, g that of `cross_entropy`, y the label of a voxel and s = sum_c B_c p_c + A_y p_y,
the gradients with respect to the logits are

    softmax: p_c (B_c + g - s) + [c = y] (A_y p_y - g)
    sigmoid: p_c ((1 - p_c) (B_c + [c = y] A_c) + g) - [c = y] g

The merged background of the marginal loss is one class of that softmax. Its gradient is distributed to its members by
their shares of it, a softmax over the members. Where these have sums of their own (`leaf_sums`), the merged class has
no B; s contains the B_c p_c of the members, and each of them gets its B_c p_c besides. Each logit takes one
exponential: that of a member relative to the largest member, any other relative to the largest class.

A batch is processed in chunks that fit into the cache, and values of `class_mask` decide what is computed. What runs on
a GPU is in `_kernels_gpu`.

B samples, C classes, N voxels; in a chunk b samples and n voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._terms import IGNORED

CHUNK = 2**18  # logits per thread in one chunk on a CPU at most: 1 MiB of float32
MAX_EXPONENT = 40.0  # log(1 + e^40) is 40, also in float64; the square of e^40 is a float32
NEVER = -1e4  # a logit whose probability is exactly 0


class SoftmaxOptions(NamedTuple):
    """Hold the options of `_terms.softmax_sums`, whether labels can be IGNORED, and what the Dice is of."""

    unknown: str
    skip_background: bool
    has_ignored: bool
    merged_dice: bool = False  # the Dice of the merged background counts
    leaf: bool = False  # `leaf_sums` is meant


class SigmoidOptions(NamedTuple):
    """Hold the options of `_terms.sigmoid_sums`, and whether labels can be IGNORED."""

    exclusive: bool
    has_ignored: bool


class ClassTotals(NamedTuple):
    """Hold sums over the voxels. Unknown classes of a sample are to be disregarded, unless `leaf` is set."""

    cross_entropy: Tensor  # (B,)
    intersection: Tensor  # (B, C)
    predicted: Tensor  # (B, C)
    target_sum: Tensor  # (B, C) int64, as float32 holds no integers beyond 2^24


class SavedTensors(NamedTuple):
    """Keep what the backward pass of the softmax needs; p and p_label are 0 at ignored voxels."""

    p: Tensor  # (B, C, N) probabilities; for unknown classes their share of the merged background
    p_label: Tensor  # (B, N) probability of the label
    share: Tensor  # (B, N) share of class 0 in the merged background; empty if nothing can be merged


class SigmoidTensors(NamedTuple):
    """Keep what the backward pass of the sigmoids needs; 0 at ignored voxels, and p also where a pair has no term."""

    p: Tensor  # (B, C, N) probabilities, 0 for the background
    p_label: Tensor  # (B, N) probability of the label


class Channels(NamedTuple):
    """Select a set of channels, the same for all samples of a chunk."""

    ranges: list[slice]

    def maximum(self, x: Tensor) -> Tensor:
        """Return the maximum of x (b, C, n) over these channels, (b, 1, n)."""
        return reduce(torch.maximum, [x[:, r].amax(dim=1, keepdim=True) for r in self.ranges])

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of x (b, C, n) over these channels, (b, 1, n)."""
        return reduce(torch.add, [x[:, r].sum(dim=1, keepdim=True) for r in self.ranges])

    def subtract(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        """Write x - y to these channels of `out`; x and out (b, C, n), y (b, 1, n)."""
        for r in self.ranges:
            torch.sub(x[:, r], y, out=out[:, r])

    def exp_(self, x: Tensor) -> None:
        """Replace these channels of x (b, C, n) by their exponential."""
        for r in self.ranges:
            x[:, r].exp_()

    def add_(self, x: Tensor, y: Tensor) -> None:
        """Add y (b, C, n) to these channels of x (b, C, n)."""
        for r in self.ranges:
            x[:, r] += y[:, r]

    def multiply_(self, x: Tensor, y: Tensor) -> None:
        """Multiply these channels of x (b, C, n) by y, (b, C, n) or (b, 1, n)."""
        for r in self.ranges:
            x[:, r] *= y if y.shape[1] == 1 else y[:, r]

    def zero_(self, x: Tensor) -> None:
        """Set these channels of x (b, C, n) to 0."""
        for r in self.ranges:
            x[:, r] = 0


class Chunk(NamedTuple):
    """Hold a part of a batch, and the roles of its channels."""

    rows: slice
    columns: slice
    own: Channels  # the classes of the softmax, with background
    unknown: Channels | None  # the others; None: there are none
    members: Channels | None  # of the merged background, class 0 included; None: nothing is merged
    complete: Tensor | None  # (b, 1) whether background voxels contribute to the cross entropy; None: all do


# --- softmax ----------------------------------------------------------------------------------------------------------


def softmax_forward(
    logits: Tensor, labels: Tensor, class_mask: Tensor, options: SoftmaxOptions
) -> tuple[ClassTotals, SavedTensors]:
    """Return the sums over logits (B, C, N) with labels (B, N) and class_mask (B, C), and what the gradient needs."""
    totals, saved = _zero_totals(logits), _allocate(logits, options)
    for rows, columns, own, unknown, members, complete in _softmax_chunks(logits, class_mask, options):
        index, valid = class_index(labels[rows, columns], options.has_ignored)
        z, p = _terms.precise(logits[rows, :, columns]), saved.p[rows, :, columns]
        if members is not None:
            top = members.maximum(z)
            members.subtract(z, top, out=p)
            members.exp_(p)
            total = members.sum(p)
            merged = top.add_(total.log())  # logit of the merged background
            members.multiply_(p, total.reciprocal_())
            saved.share[rows, columns] = p[:, 0]
            top = torch.maximum(own.maximum(z), merged)
            own.subtract(z, top, out=p)
            torch.sub(merged, top, out=p[:, :1])
        else:
            if unknown is not None:
                unknown.zero_(p)
            top = own.maximum(z)
            own.subtract(z, top, out=p)
        z_label = p.gather(1, index[:, None])
        own.exp_(p)
        total = own.sum(p)
        terms = total.log().sub_(z_label)[:, 0]  # -log p of the label
        p_label = torch.mul(z_label.exp_(), total.reciprocal_(), out=saved.p_label[rows, None, columns])[:, 0]
        if valid is not None:
            total *= valid[:, None]
            p_label *= valid
        own.multiply_(p, total)
        counted = contributing(index, valid, complete)
        totals.cross_entropy[rows] += (terms if counted is None else terms.mul_(counted)).sum(dim=1)
        totals.intersection[rows] += _sum_by_class(p_label, index, p.shape[1])
        if options.leaf and members is not None:
            totals.predicted[rows] += _split(p, saved.share[rows, columns], members).sum(dim=2)
        else:
            totals.predicted[rows] += p.sum(dim=2)
        totals.target_sum[rows] += _count_by_class(index, valid, p.shape[1])
    return totals, saved


def softmax_backward(
    saved: SavedTensors,
    labels: Tensor,
    class_mask: Tensor,
    options: SoftmaxOptions,
    incoming: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return the gradient with respect to the logits (B, C, N), in the memory of `saved.p`."""
    g, a, b = incoming
    for rows, columns, own, unknown, members, complete in _softmax_chunks(saved.p, class_mask, options):
        index, valid = class_index(labels[rows, columns], options.has_ignored)
        p, b_chunk = saved.p[rows, :, columns], b[rows, :, None]
        at_label = a[rows].gather(1, index).mul_(saved.p_label[rows, columns])  # A_y p_y
        split = None
        if options.leaf and members is not None:
            split = _split(p, saved.share[rows, columns], members).mul_(b_chunk)  # B_c p_c
            buffer, s = torch.empty_like(p), split.sum(dim=1).add_(at_label)
            b_own = torch.cat([torch.zeros_like(b_chunk[:, :1]), b_chunk[:, 1:]], dim=1)  # that of class 0 comes below
        else:
            buffer, b_own = p * b_chunk, b_chunk
            s = own.sum(buffer)[:, 0].add_(at_label)
        counted = contributing(index, valid, complete)
        g_chunk = g[rows, None] if counted is None else counted * g[rows, None]
        at_label -= g_chunk
        own.multiply_(p, torch.add(b_own, torch.sub(g_chunk, s, out=s)[:, None], out=buffer))
        p.scatter_add_(1, index[:, None], at_label[:, None])
        if members is not None and unknown is not None:
            unknown.multiply_(p, p[:, :1])
            p[:, 0] *= saved.share[rows, columns]
            if split is not None:
                members.add_(p, split)
    return saved.p


def _split(p: Tensor, share: Tensor, members: Channels) -> Tensor:
    """Return the softmax over all classes: p (b, C, n) with the merged background given back to its members.

    p holds the shares of the other members, `share` (b, n) is that of class 0.
    """
    shares = torch.cat([share[:, None], p[:, 1:]], dim=1)
    members.multiply_(shares, p[:, :1])
    return shares


def _allocate(logits: Tensor, options: SoftmaxOptions) -> SavedTensors:
    p = torch.empty(logits.shape, dtype=_terms.precise(logits[:0]).dtype, device=logits.device)
    voxels = p[:, 0].shape
    return SavedTensors(p, p.new_empty(voxels), p.new_empty(voxels if options.unknown == "merge" else 0))


def _softmax_chunks(x: Tensor, class_mask: Tensor, options: SoftmaxOptions) -> Iterator[Chunk]:
    """Cut x (B, C, N) into chunks, into such whose samples know the same classes where this matters."""
    if options.unknown == "keep":
        every = Channels([slice(0, x.shape[1])])
        complete = class_mask.all(dim=1, keepdim=True) if options.skip_background else None
        if complete is not None and complete.all():
            complete = None
        for rows, columns in _chunks(x):
            yield Chunk(rows, columns, every, None, None, None if complete is None else complete[rows])
        return
    table = class_mask.tolist()
    for rows, columns in _chunks(x, one_sample=any(row != table[0] for row in table)):
        own, unknown = _ranges(table[rows.start])
        _, members = _ranges([False, *table[rows.start][1:]])
        others = Channels(unknown) if unknown else None
        merged = Channels(members) if unknown and options.unknown == "merge" else None
        yield Chunk(rows, columns, Channels(own), others, merged, None)


def _ranges(row: list[bool]) -> tuple[list[slice], list[slice]]:
    """Return the ranges of channels that are True, and those that are False."""
    found: dict[bool, list[slice]] = {True: [], False: []}
    start = 0
    for c in range(1, len(row) + 1):
        if c == len(row) or row[c] != row[start]:
            found[row[start]].append(slice(start, c))
            start = c
    return found[True], found[False]


def contributing(index: Tensor, valid: Tensor | None, complete: Tensor | None) -> Tensor | None:
    """Return which voxels (b, n) contribute to the cross entropy, see `_terms.contributes_to_ce`; None: all do."""
    if complete is None:
        return valid
    counted = (index > 0).logical_or_(complete)
    return counted if valid is None else counted.logical_and_(valid)


# --- sigmoid ----------------------------------------------------------------------------------------------------------


def sigmoid_forward(
    logits: Tensor, labels: Tensor, class_mask: Tensor, options: SigmoidOptions
) -> tuple[ClassTotals, SigmoidTensors]:
    """Return the sums over logits (B, C, N) with labels (B, N) and class_mask (B, C), and what the gradient needs.

    With the target t, the cross entropy is log(1 + e^z) - t z.
    """
    table = class_mask.tolist() if options.exclusive else [[True]]
    totals = _zero_totals(logits)
    p_all = torch.empty(logits.shape, dtype=totals.predicted.dtype, device=logits.device)
    p_all[:, 0] = 0
    saved = SigmoidTensors(p_all, torch.empty_like(p_all[:, 0]))
    cross_entropy = torch.zeros_like(totals.predicted)
    for rows, columns in _chunks(logits, one_sample=any(row != table[0] for row in table)):
        index, valid = class_index(labels[rows, columns], options.has_ignored)
        z, p = _terms.precise(logits[rows, :, columns]), saved.p[rows, 1:, columns]
        z_label = z.gather(1, index[:, None])[:, 0]
        torch.clamp_max(z[:, 1:], MAX_EXPONENT, out=p)
        buffer = z[:, 1:] - p
        p_label = torch.sigmoid(z_label, out=saved.p_label[rows, columns])
        if valid is not None:
            buffer.masked_fill_(~valid[:, None], 0)
            p.masked_fill_(~valid[:, None], NEVER)
            z_label.masked_fill_(~valid, 0)
            p_label *= valid
        if options.exclusive:  # an unknown class has no term in background voxels
            background = (index == 0)[:, None]
            for r in _ranges(table[rows.start][1:])[1]:
                buffer[:, r].masked_fill_(background, 0)
                p[:, r].masked_fill_(background, NEVER)
        cross_entropy[rows, 1:] += buffer.sum(dim=2)
        torch.add(p.exp_(), 1, out=buffer)
        p /= buffer
        cross_entropy[rows, 1:] += _sum_of_logs(buffer)
        cross_entropy[rows] -= _sum_by_class(z_label, index, z.shape[1])
        totals.predicted[rows, 1:] += p.sum(dim=2)
        totals.intersection[rows] += _sum_by_class(p_label, index, z.shape[1])
        totals.target_sum[rows] += _count_by_class(index, valid, z.shape[1])
    torch.sum(torch.where(pairs_with_terms(class_mask, options), cross_entropy, 0), dim=1, out=totals.cross_entropy)
    return totals, saved


def sigmoid_backward(
    saved: SigmoidTensors,
    labels: Tensor,
    class_mask: Tensor,
    options: SigmoidOptions,
    incoming: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return the gradient with respect to the logits (B, C, N), in the memory of `saved.p`."""
    g, a, b = incoming
    b_and_g = b + g[:, None] * pairs_with_terms(class_mask, options)
    for rows, columns in _chunks(saved.p):
        index, valid = class_index(labels[rows, columns], options.has_ignored)
        p, p_label = saved.p[rows, :, columns], saved.p_label[rows, columns]
        at_label = a[rows].gather(1, index).mul_(p_label).mul_(1 - p_label).sub_(g[rows, None])
        if valid is not None:
            at_label *= valid
        p *= torch.addcmul(b_and_g[rows, :, None], p, b[rows, :, None], value=-1)
        p.scatter_add_(1, index[:, None], at_label[:, None])
        p[:, 0] = 0
    return saved.p


def pairs_with_terms(class_mask: Tensor, options: SigmoidOptions) -> Tensor:
    """Return which pairs (B, C) have terms in the cross entropy: the known classes, or all, without background."""
    return _terms.foreground(torch.ones_like(class_mask) if options.exclusive else class_mask)


def _sum_of_logs(x: Tensor) -> Tensor:
    """Return the sums (b, C) of the logarithms of x (b, C, n), which is changed. Pairs are multiplied first."""
    half = x.shape[2] // 2
    first, second, rest = x[:, :, :half], x[:, :, half : 2 * half], x[:, :, 2 * half :]
    return first.mul_(second).log_().sum(dim=2) + rest.log_().sum(dim=2)


# --- regions ----------------------------------------------------------------------------------------------------------


def region_forward(
    logits: Tensor, regions: Tensor, positive: Tensor, counted: Tensor, in_dice: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross_entropy (B,), intersection and predicted (B, R) of `_terms.region_sums`."""
    totals, in_dice = _zero_totals(logits), in_dice.expand_as(logits)
    for rows, columns in _chunks(logits):
        part = (rows, slice(None), columns)
        z = _terms.precise(logits[part])
        losses = F.binary_cross_entropy_with_logits(z, positive[part].to(z.dtype), reduction="none")
        totals.cross_entropy[rows] += losses.mul_(counted[part]).sum(dim=(1, 2))
        p = z.sigmoid().mul_(in_dice[part])
        totals.predicted[rows] += p.sum(dim=2)
        totals.intersection[rows] += p.mul_(regions[part]).sum(dim=2)
    return totals.cross_entropy, totals.intersection, totals.predicted


def region_backward(
    incoming: tuple[Tensor, ...],
    logits: Tensor,
    regions: Tensor,
    positive: Tensor,
    counted: Tensor,
    in_dice: Tensor,
) -> Tensor:
    """Return the gradient with respect to the logits (B, R, N): that of the sigmoids, with terms where `counted`."""
    g, a, b = incoming
    gradient, in_dice = torch.empty(logits.shape, dtype=g.dtype, device=logits.device), in_dice.expand_as(logits)
    for rows, columns in _chunks(logits):
        part = (rows, slice(None), columns)
        p = _terms.precise(logits[part]).sigmoid()
        out = torch.mul(regions[part], a[rows, :, None], out=gradient[part])
        out.add_(b[rows, :, None]).mul_(in_dice[part]).mul_(p).mul_(1 - p)
        out += p.sub_(positive[part].to(p.dtype)).mul_(counted[part]).mul_(g[rows, None, None])
    return gradient


# --- both -------------------------------------------------------------------------------------------------------------


def _zero_totals(logits: Tensor) -> ClassTotals:
    per_class = torch.zeros(logits.shape[:2], dtype=_terms.precise(logits[:0]).dtype, device=logits.device)
    return ClassTotals(
        torch.zeros_like(per_class[:, 0]), per_class, per_class.clone(), torch.zeros_like(per_class, dtype=torch.int64)
    )


def _chunks(x: Tensor, one_sample: bool = False) -> Iterator[tuple[slice, slice]]:
    """Cut (B, C, N) into slices of samples and of voxels, three or more to save memory."""
    samples, classes, voxels = x.shape
    size = min(CHUNK * torch.get_num_threads(), max(1, x.numel() // 3))
    columns = max(1, min(voxels, size // classes))
    rows = 1 if one_sample else max(1, size // (classes * columns))
    rows, columns = _even(samples, rows), _even(voxels, columns)
    for row in range(0, samples, rows):
        for column in range(0, voxels, columns):
            yield slice(row, row + rows), slice(column, column + columns)


def _even(total: int, most: int) -> int:
    """Return the size of parts that cut `total` evenly into as few parts of at most `most` as possible."""
    return -(-total // -(-total // most)) if total else 1


def class_index(labels: Tensor, has_ignored: bool) -> tuple[Tensor, Tensor | None]:
    """Return classes to gather by, 0 for ignored voxels, and which voxels are valid, both (b, n); None: all are."""
    return (labels.clamp_min(0), labels != IGNORED) if has_ignored else (labels, None)


def _sum_by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Return the sums (b, classes) of values (b, n) by class index (b, n)."""
    return values.new_zeros(values.shape[0], classes).scatter_add_(1, index, values)


def _count_by_class(index: Tensor, valid: Tensor | None, classes: int) -> Tensor:
    """Return the number of valid voxels (b, n) of each class, (b, classes) integers."""
    ones = torch.ones(1, dtype=torch.int32, device=index.device).expand_as(index)
    return _sum_by_class(ones if valid is None else valid.int(), index, classes)
