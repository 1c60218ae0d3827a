"""The building stones of the losses: activate, merge, mask, reduce. Masking is decided here and nowhere else.

Shapes: B samples, C classes (0 is the background), N voxels (the spatial axes, flattened).
Plain and readable; `_fused.py` computes `softmax_sums` and `sigmoid_sums` faster, with gradients derived by hand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_partial.losses._distributed import sum_over_ranks, times_ranks

IGNORED = -1  # what an ignored voxel is in Batch.labels


class Batch(NamedTuple):
    """One call's input, made uniform."""

    logits: Tensor  # (B, C, N), as the network gave them
    labels: Tensor  # (B, N) int64; unknown classes are 0, ignored voxels IGNORED
    known: Tensor  # (B, C) bool, column 0 True
    has_ignored: bool  # whether IGNORED can occur in labels


class Sums(NamedTuple):
    """All that the losses need of a batch; at least float32."""

    entropy: Tensor  # (B,) sum of the cross-entropy terms
    terms: Tensor  # (B,) how many terms that were; no gradient
    overlap: Tensor  # (B, C) sum of p over the voxels of the class, 0 where unknown
    predicted: Tensor  # (B, C) sum of p over all voxels, 0 where unknown
    drawn: Tensor  # (B, C) number of voxels of the class; no gradient


def prepare(logits: Tensor, target: Tensor, known: Tensor, ignore_label: int | None) -> Batch:
    """(B, C, *S), (B, 1, *S), (B, C) -> Batch. Background is always known; a class the sample does not know is 0."""
    known = torch.cat([torch.ones_like(known[:, :1]), known[:, 1:]], dim=1)
    values = target.detach().flatten(1).long()  # (B, N)
    if ignore_label is None:
        labels = _forget_unknown(values, known)
    else:
        ignored = values == ignore_label
        labels = _forget_unknown(values.masked_fill(ignored, 0), known).masked_fill_(ignored, IGNORED)
    return Batch(logits.flatten(2), labels, known, ignore_label is not None)


def _forget_unknown(values: Tensor, known: Tensor) -> Tensor:
    classes = torch.arange(known.shape[1], device=known.device)
    return (classes * known).gather(1, values)


def foreground(known: Tensor) -> Tensor:
    """(B, C) bool with the background column switched off."""
    return torch.cat([torch.zeros_like(known[:, :1]), known[:, 1:]], dim=1)


def precise(logits: Tensor) -> Tensor:
    """float64 stays, everything else becomes float32 (a no-op for float32)."""
    return logits if logits.dtype == torch.float64 else logits.float()


def nothing(logits: Tensor) -> Tensor:
    """The sum of no logit: 0, whatever they are, with gradient 0."""
    return precise(logits.flatten()[:0]).sum()


# --- activate ---------------------------------------------------------------------------------------------------------


def drop_unknown(logits: Tensor, known: Tensor) -> Tensor:
    """(B, C, N), the channels of unknown classes at minus infinity: a softmax gives them 0, and exactly no gradient."""
    return logits.masked_fill(~known[:, :, None], float("-inf"))


def merge_unknown(logits: Tensor, known: Tensor) -> Tensor:
    """(B, C, N), the background being 'background or any unknown class'; the channels of unknown classes are emptied.

    The probabilities of the merged classes are added up in the log domain: logsumexp, not a sum of logits.
    """
    logits = logits - logits.detach().amax(dim=1, keepdim=True)  # a softmax does not see it; large logits round less
    merged = (~foreground(known))[:, :, None]  # (B, C, 1): the background and the unknown classes
    background = logits.masked_fill(~merged, float("-inf")).logsumexp(dim=1, keepdim=True)  # (B, 1, N)
    return torch.cat([background, drop_unknown(logits, known)[:, 1:]], dim=1)


# --- mask and sum -----------------------------------------------------------------------------------------------------


def softmax_sums(batch: Batch, unknown: str, skip_background: bool = False) -> Sums:
    """Sums of cross entropy and Dice for a softmax over the classes.

    unknown: what becomes of the channels of unknown classes: 'merge' into the background, 'drop', or 'keep'.
    skip_background: background voxels of a sample that lacks a class carry no cross-entropy term.
    """
    logits = precise(batch.logits)
    if unknown == "merge":
        logits = merge_unknown(logits, batch.known)
    elif unknown == "drop":
        logits = drop_unknown(logits, batch.known)
    log_p = logits.log_softmax(dim=1)
    valid = batch.labels != IGNORED
    carries = carries_entropy(batch.labels, batch.known, skip_background)
    log_p_label = log_p.gather(1, batch.labels.clamp_min(0)[:, None])[:, 0]  # (B, N)
    entropy = -torch.where(carries, log_p_label, 0).sum(dim=1)
    overlap, predicted, drawn = _dice_sums(log_p.exp(), batch.labels, valid, batch.known)
    return Sums(entropy, carries.sum(dim=1, dtype=entropy.dtype), overlap, predicted, drawn)


def sigmoid_sums(batch: Batch) -> Sums:
    """Sums of binary cross entropy and Dice for one sigmoid per foreground class; the background takes no part."""
    logits = precise(batch.logits)
    valid = batch.labels != IGNORED
    pairs = foreground(batch.known)
    counted = pairs[:, :, None] & valid[:, None]  # (B, C, N)
    drawn_here = one_hot(batch.labels, logits.shape[1], logits.dtype)
    terms = F.binary_cross_entropy_with_logits(logits, drawn_here, reduction="none")
    entropy = torch.where(counted, terms, 0).sum(dim=(1, 2))
    overlap, predicted, drawn = _dice_sums(logits.sigmoid(), batch.labels, valid, pairs)
    return Sums(entropy, counted.sum(dim=(1, 2), dtype=entropy.dtype), overlap, predicted, drawn)


def carries_entropy(labels: Tensor, known: Tensor, skip_background: bool) -> Tensor:
    """(B, N) bool: which voxels carry a cross-entropy term."""
    if not skip_background:
        return labels != IGNORED
    complete = known.all(dim=1, keepdim=True)
    return (labels > 0) | ((labels == 0) & complete)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(B, N) -> (B, classes, N) of 0 and 1; an ignored voxel has no class."""
    numbers = torch.arange(classes, device=labels.device, dtype=labels.dtype)
    return (labels[:, None] == numbers[:, None]).to(dtype)


def _dice_sums(p: Tensor, labels: Tensor, valid: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p (B, C, N) -> overlap, predicted, drawn, each (B, C) and 0 where `counted` is False."""
    p = torch.where(counted[:, :, None] & valid[:, None], p, 0)
    drawn = one_hot(labels, p.shape[1], p.dtype) * counted[:, :, None]
    return (p * drawn).sum(dim=2), p.sum(dim=2), drawn.sum(dim=2)


# --- reduce -----------------------------------------------------------------------------------------------------------


def mean_entropy(sums: Sums, ddp: bool) -> Tensor:
    """Mean over all terms of the batch (with `ddp`: of the batches of all ranks); 0 where there is none."""
    return _ratio(sums.entropy.sum(), sums.terms.sum(), ddp)


def mean_dice(sums: Sums, counted: Tensor, batch_dice: bool, smooth: float, ddp: bool) -> Tensor:
    """Mean soft Dice over the classes (`batch_dice`) or (sample, class) pairs that `counted` (B, C) names, or 0."""
    weight = counted.to(sums.drawn.dtype)
    numbers = torch.stack([sums.overlap, sums.predicted, sums.drawn]) * weight  # (3, B, C)
    if batch_dice:
        numbers = torch.cat([numbers, weight[None]]).sum(dim=1)  # (4, C)
        if ddp:
            numbers = sum_over_ranks(numbers)
        weight = (numbers[3].detach() > 0).to(weight.dtype)  # (C,)
    overlap, predicted, drawn = numbers[0], numbers[1], numbers[2]
    dice = (2 * overlap + smooth) / (predicted + drawn + smooth).clamp_min(1e-8)
    # With batch_dice every rank holds the same classes already; otherwise each holds its own pairs.
    return _ratio((dice * weight).sum(), weight.sum(), ddp and not batch_dice)


def _ratio(total: Tensor, count: Tensor, ddp: bool) -> Tensor:
    """total / count, 0 for a count of 0; with `ddp` its average over ranks is the ratio of the sums over ranks."""
    if ddp:
        total, count = times_ranks(total), sum_over_ranks(count)
    return total / count.clamp_min(1)
