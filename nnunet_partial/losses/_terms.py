"""Readable version of the losses: activate, merge, mask, sum, average. It defines what the losses compute.

B samples, C classes (0 is the background), N voxels (the spatial axes, flattened).
`_fused.py` computes `softmax_sums`, `leaf_sums` and `sigmoid_sums` faster; torch.compile and second derivatives use
this version.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

IGNORED = -1  # label of ignored voxels in Batch.labels


class Batch(NamedTuple):
    """Hold the input of a loss, flattened."""

    logits: Tensor  # (B, C, N), as the network gave them
    labels: Tensor  # (B, N) int64; unknown classes are 0, ignored voxels IGNORED
    class_mask: Tensor  # (B, C) bool, column 0 True
    has_ignored: bool  # whether IGNORED can occur in labels


class LossSums(NamedTuple):
    """Hold sums per sample and class, in float32 or float64; disregard those of classes that do not count."""

    cross_entropy: Tensor  # (B,) sum of the cross-entropy terms
    terms: Tensor  # (B,) number of those terms; no gradient
    intersection: Tensor  # (B, C) sum of p over the voxels of the class
    predicted: Tensor  # (B, C) sum of p over all voxels
    target_sum: Tensor  # (B, C) number of voxels of the class; no gradient


def flatten_batch(logits: Tensor, target: Tensor, class_mask: Tensor, ignore_label: int | None) -> Batch:
    """Flatten the spatial axes, and set labels of unknown classes to 0 and of ignored voxels to IGNORED.

    Args:
        logits: (B, C, *S).
        target: (B, 1, *S), integers of any dtype.
        class_mask: (B, C) bool; column 0 counts as True.
        ignore_label: target value of ignored voxels, or None.

    Returns:
        The batch; its logits are a view where the memory layout allows it.
    """
    class_mask = torch.cat([torch.ones_like(class_mask[:, :1]), class_mask[:, 1:]], dim=1)
    values = target.detach().flatten(1).long()  # (B, N)
    if ignore_label is None:
        labels = _replace_unknown(values, class_mask)
    else:
        ignored = values == ignore_label
        labels = _replace_unknown(values.masked_fill(ignored, 0), class_mask).masked_fill_(ignored, IGNORED)
    return Batch(logits.flatten(2), labels, class_mask, ignore_label is not None)


def _replace_unknown(values: Tensor, class_mask: Tensor) -> Tensor:
    return class_mask.gather(1, values) * values


def foreground(class_mask: Tensor) -> Tensor:
    """Return a (B, C) mask with its background column set to False."""
    return torch.cat([torch.zeros_like(class_mask[:, :1]), class_mask[:, 1:]], dim=1)


def precise(logits: Tensor) -> Tensor:
    """Return the logits in float32, or unchanged in float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def leaf_mask(class_mask: Tensor) -> Tensor:
    """Return which pairs (B, C) can have leaf voxels: known classes, the background only where every class is known."""
    return torch.cat([class_mask.all(dim=1, keepdim=True), class_mask[:, 1:]], dim=1)


def zero_loss(logits: Tensor) -> Tensor:
    """Return 0, whatever the logits are, with gradient 0."""
    return precise(logits.flatten()[:0]).sum()


# --- activate ---------------------------------------------------------------------------------------------------------


def drop_unknown(logits: Tensor, class_mask: Tensor) -> Tensor:
    """Return logits (B, C, N), minus infinity for unknown classes: probability 0 and exactly no gradient."""
    return logits.masked_fill(~class_mask[:, :, None], float("-inf"))


def merge_unknown(logits: Tensor, class_mask: Tensor) -> Tensor:
    """Merge unknown classes into the background: channel 0 is 'background or any unknown class', theirs are dropped.

    The probabilities of the merged classes are added in the log domain: logsumexp, not a sum of logits.

    Args:
        logits: (B, C, N).
        class_mask: (B, C) bool, column 0 True.

    Returns:
        Logits (B, C, N) of the merged problem, up to a constant per voxel.
    """
    logits = logits - logits.detach().amax(dim=1, keepdim=True)  # softmax is invariant; large logits round less
    merged = (~foreground(class_mask))[:, :, None]  # (B, C, 1): the background and the unknown classes
    background = logits.masked_fill(~merged, float("-inf")).logsumexp(dim=1, keepdim=True)  # (B, 1, N)
    return torch.cat([background, drop_unknown(logits, class_mask)[:, 1:]], dim=1)


# --- mask and sum -----------------------------------------------------------------------------------------------------


def softmax_sums(batch: Batch, unknown: str, skip_background: bool = False) -> LossSums:
    """Compute the sums of cross entropy and Dice for a softmax over the classes.

    Args:
        batch: the flattened input.
        unknown: treatment of the channels of unknown classes: 'merge' into the background, 'drop', or 'keep'.
        skip_background: exclude background voxels of samples that lack a class from the cross entropy.

    Returns:
        The sums; 0 where nothing contributes.
    """
    logits = precise(batch.logits)
    if unknown == "merge":
        logits = merge_unknown(logits, batch.class_mask)
    elif unknown == "drop":
        logits = drop_unknown(logits, batch.class_mask)
    log_p = logits.log_softmax(dim=1)
    contributes = contributes_to_ce(batch.labels, batch.class_mask, skip_background)
    dice_sums = _dice_sums(log_p.exp(), batch.labels, batch.class_mask)
    return LossSums(*_cross_entropy_sums(log_p, batch.labels, contributes), *dice_sums)


def leaf_sums(batch: Batch) -> LossSums:
    """Compute the sums of the marginal cross entropy, and of a Dice over leaf voxels with the softmax over all classes.

    A leaf voxel is one whose class is certain: a voxel of a known class, or background where every class is known.

    Args:
        batch: the flattened input.

    Returns:
        The sums: `intersection` and `target_sum` over leaf voxels, `predicted` over all, for unknown classes too.
    """
    logits = precise(batch.logits)
    log_q = merge_unknown(logits, batch.class_mask).log_softmax(dim=1)
    cross_entropy, terms = _cross_entropy_sums(log_q, batch.labels, batch.labels != IGNORED)
    everything = torch.ones_like(batch.class_mask)
    intersection, predicted, target_sum = _dice_sums(logits.softmax(dim=1), batch.labels, everything)
    leaf = leaf_mask(batch.class_mask)
    return LossSums(cross_entropy, terms, intersection * leaf, predicted, target_sum * leaf)


def sigmoid_sums(batch: Batch, exclusive: bool = False) -> LossSums:
    """Compute the sums of binary cross entropy and Dice for one sigmoid per foreground class.

    Args:
        batch: the flattened input; its background channel is not used.
        exclusive: voxels of a known class are negatives of the unknown classes in the cross entropy.

    Returns:
        The sums; 0 where nothing contributes.
    """
    logits = precise(batch.logits)
    valid = batch.labels != IGNORED
    pairs = foreground(batch.class_mask)
    counted = pairs[:, :, None] & valid[:, None]  # (B, C, N)
    if exclusive:
        counted = counted | (~batch.class_mask[:, :, None] & (batch.labels > 0)[:, None])
    target = one_hot(batch.labels, logits.shape[1], logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    cross_entropy = torch.where(counted, losses, 0).sum(dim=(1, 2))
    terms = counted.sum(dim=(1, 2), dtype=cross_entropy.dtype)
    return LossSums(cross_entropy, terms, *_dice_sums(logits.sigmoid(), batch.labels, pairs))


def region_sums(logits: Tensor, regions: Tensor, positive: Tensor, counted: Tensor, in_dice: Tensor) -> LossSums:
    """Compute the sums of binary cross entropy and Dice for one sigmoid per region.

    Args:
        logits: (B, R, N).
        regions: (B, R, N) bool, the known regions.
        positive: (B, R, N) bool, the positives of the cross entropy.
        counted: (B, R, N) bool, the terms of the cross entropy.
        in_dice: (B, R, 1) or (B, R, N) bool, what counts in the Dice.

    Returns:
        The sums; 0 where nothing contributes.
    """
    logits = precise(logits)
    losses = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    cross_entropy = torch.where(counted, losses, 0).sum(dim=(1, 2))
    p = torch.where(in_dice, logits.sigmoid(), 0)
    return LossSums(
        cross_entropy,
        counted.sum(dim=(1, 2), dtype=cross_entropy.dtype),
        torch.where(regions, p, 0).sum(dim=2),
        p.sum(dim=2),
        regions.sum(dim=2, dtype=p.dtype),
    )


def contributes_to_ce(labels: Tensor, class_mask: Tensor, skip_background: bool) -> Tensor:
    """Return which voxels (B, N) contribute to the cross entropy, see `softmax_sums`."""
    if not skip_background:
        return labels != IGNORED
    complete = class_mask.all(dim=1, keepdim=True)
    return (labels > 0) | ((labels == 0) & complete)


def _cross_entropy_sums(log_p: Tensor, labels: Tensor, contributes: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross_entropy and terms, each (B,), of log_p (B, C, N) at the labels (B, N) of contributing voxels."""
    log_p_label = log_p.gather(1, labels.clamp_min(0)[:, None])[:, 0]  # (B, N)
    cross_entropy = -torch.where(contributes, log_p_label, 0).sum(dim=1)
    return cross_entropy, contributes.sum(dim=1, dtype=cross_entropy.dtype)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return labels (B, N) as (B, classes, N) of 0 and 1; an ignored voxel has no class."""
    numbers = torch.arange(classes, device=labels.device, dtype=labels.dtype)
    return (labels[:, None] == numbers[:, None]).to(dtype)


def _dice_sums(p: Tensor, labels: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return intersection, predicted, target_sum of p (B, C, N), each (B, C) and 0 where `counted` is False."""
    p = torch.where(counted[:, :, None] & (labels != IGNORED)[:, None], p, 0)
    target = one_hot(labels, p.shape[1], p.dtype) * counted[:, :, None]
    return (p * target).sum(dim=2), p.sum(dim=2), target.sum(dim=2)


# --- reduce -----------------------------------------------------------------------------------------------------------


def mean_cross_entropy(sums: LossSums, ddp: bool) -> Tensor:
    """Return the mean over all terms of the batch (with `ddp`: of the batches of all ranks); 0 if there are none."""
    return _ratio(sums.cross_entropy.sum(), sums.terms.sum(), ddp)


def mean_dice(sums: LossSums, counted: Tensor, batch_dice: bool, smooth: float, ddp: bool) -> Tensor:
    """Average soft Dice over classes (`batch_dice`) or (sample, class) pairs.

    Args:
        sums: sums per sample and class.
        counted: (B, C) bool, the pairs that count. With `batch_dice` a class counts that one of them names.
        batch_dice: one Dice per class, from sums over the samples.
        smooth: added to numerator and denominator.
        ddp: reduce over the ranks of torch.distributed.

    Returns:
        A scalar; 0 if nothing counts.
    """
    weight = counted.to(sums.target_sum.dtype)
    intersection, total = sums.intersection * weight, (sums.predicted + sums.target_sum) * weight  # (B, C)
    if batch_dice:
        numbers = [intersection.sum(dim=0), total.sum(dim=0), weight.sum(dim=0)]  # (C,)
        intersection, total, samples = sum_over_ranks(torch.stack(numbers)).unbind() if ddp else numbers
        weight = samples.detach().clamp_max(1)
    # With batch_dice every rank holds the same classes already; otherwise each holds its own pairs.
    return _weighted_dice(intersection, total, weight, smooth, ddp and not batch_dice)


def _weighted_dice(intersection: Tensor, total: Tensor, weight: Tensor, smooth: float, ddp: bool) -> Tensor:
    """Return the mean of the soft Dice with weights 0 or 1, all of one shape; `total` is predicted plus target."""
    denominator = total + smooth
    if smooth < 1e-8:
        denominator = denominator.clamp_min(1e-8)
    dice = (2 * intersection + smooth) / denominator
    return _ratio(torch.dot(dice.flatten(), weight.flatten()), weight.sum(), ddp)


def mean_leaf_dice(sums: LossSums, class_mask: Tensor, do_bg: bool, smooth: float, ddp: bool) -> Tensor:
    """Average the soft Dice of `leaf_sums` over the classes; every sum runs over the whole batch.

    A class without a leaf voxel is left out, unless every class is known in every sample of the batch.

    Args:
        sums: sums per sample and class.
        class_mask: (B, C) bool, column 0 True.
        do_bg: include the background.
        smooth: added to numerator and denominator.
        ddp: reduce over the ranks of torch.distributed.

    Returns:
        A scalar; 0 if nothing counts.
    """
    incomplete = (~class_mask).sum(dim=1, keepdim=True).expand_as(class_mask).to(sums.target_sum.dtype)
    numbers = torch.stack([sums.intersection, sums.predicted, sums.target_sum, incomplete]).sum(dim=1)  # (4, C)
    if ddp:
        numbers = sum_over_ranks(numbers)
    intersection, predicted, target_sum, incomplete = numbers
    counted = (target_sum.detach() > 0) | (incomplete.detach() == 0)
    weight = (counted if do_bg else foreground(counted[None])[0]).to(target_sum.dtype)  # (C,)
    # every rank holds the same numbers
    return _weighted_dice(intersection, predicted + target_sum, weight, smooth, ddp=False)


def _ratio(total: Tensor, count: Tensor, ddp: bool) -> Tensor:
    """Return total / count, 0 for a count of 0; with `ddp` its mean over ranks is the ratio of the sums over ranks."""
    if ddp:
        total, count = total * dist.get_world_size(), sum_over_ranks(count)
    return total / count.clamp_min(1)


def sum_over_ranks(local: Tensor) -> Tensor:
    """Sum over all ranks of torch.distributed; differentiable, and the backward pass needs no communication.

    Every rank computes the same function of the total, and data-parallel training averages gradients over the W ranks,
    so each rank passes on W times its own gradient. The average is the gradient of one process with the whole batch.

    Args:
        local: this rank's numbers, of any shape that all ranks share.

    Returns:
        The total, of that shape.
    """
    total = local.detach().clone()
    dist.all_reduce(total)
    if not local.requires_grad:
        return total
    own = local * dist.get_world_size()
    return total + (own - own.detach())  # the bracket is zero in value and carries the gradient
