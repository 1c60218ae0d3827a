"""Softmax and sigmoid sums with gradients derived by hand, in few operations, however many classes there are.

A GPU takes about as long to start an operation as to do it on a patch. So all of them run on whole tensors, with masks
over the channels in place of loops, and none reads a value, which would make the host wait.

What the label says of a voxel is a set of channels, `positive`: its class, or in a merged background all members. With
P = sum over the set of p, the cross entropy is -log P. With A and B the incoming gradients of `intersection` and
`predicted`, those of the merged background for each of its members, g that of `cross_entropy`, t the softmax over the
set (0 outside) and u_c = p_c (B_c + [c in the set] A_c) - g t_c, the gradient with respect to the logits is
u_c - p_c sum_k u_k. For sigmoids, with y the target, it is p_c (1 - p_c) (B_c + y_c A_c) + g (p_c - y_c).

B samples, C classes, N voxels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._kernels import (
    ClassTotals,
    SigmoidOptions,
    SoftmaxOptions,
    class_index,
    contributing,
    pairs_with_terms,
)
from nnunet_partial.losses._terms import IGNORED

LINEAR = 40  # above it log(1 + e^z) is z, also in float64


class SavedTensors(NamedTuple):
    """Keep what the backward pass of the softmax needs."""

    p: Tensor  # (B, C, N) probabilities, 0 at ignored voxels
    positive: Tensor  # (B, C, N) bool, the channels that the label stands for; none at ignored voxels
    share: Tensor | None  # (B, C, N) softmax over these channels; None: there is only one
    contributing: Tensor | None  # (B, N) bool, the terms of the cross entropy; None: all


class SigmoidTensors(NamedTuple):
    """Keep what the backward pass of the sigmoids needs; 0 and False at ignored voxels."""

    p: Tensor  # (B, C, N) probabilities
    positive: Tensor  # (B, C, N) bool, the label
    pairs: Tensor  # (B, C) bool, which have terms in the cross entropy
    terms: Tensor | None  # (B, C, N) or (B, 1, N) bool, which of their voxels have; None: all


def softmax_forward(
    logits: Tensor, labels: Tensor, class_mask: Tensor, options: SoftmaxOptions
) -> tuple[ClassTotals, SavedTensors]:
    """Return the sums over logits (B, C, N) with labels (B, N) and class_mask (B, C), and what the gradient needs."""
    z = _terms.precise(logits)
    if options.unknown == "drop":
        z = torch.where(class_mask[:, :, None], z, z.new_full((), float("-inf")))
    index, valid = class_index(labels, options.has_ignored)
    roles = _roles(class_mask, options)
    positive = roles[:, :, None] == index[:, None]
    log_p = z.log_softmax(dim=1)
    del z
    share = None
    if options.unknown == "merge":
        members = torch.where(positive, log_p, log_p.new_full((), float("-inf")))
        share = members.log_softmax(dim=1)
        losses = share.amax(dim=1) - members.amax(dim=1)
        share.exp_()
        del members
    else:
        losses = log_p.gather(1, index[:, None])[:, 0].neg_()
    complete = class_mask.all(dim=1, keepdim=True) if options.skip_background else None
    terms = contributing(index, valid, complete)
    p = log_p.exp_()
    if valid is not None:
        p *= valid[:, None]
        positive &= valid[:, None]
    cross_entropy = (losses if terms is None else losses * terms).sum(dim=1)
    intersection, predicted = (p * positive).sum(dim=2), p.sum(dim=2)
    if options.merged_dice:
        sums = torch.stack([intersection, predicted])
        intersection, predicted = torch.zeros_like(sums).scatter_add_(2, roles.expand_as(sums), sums).unbind()
    target_sum = positive.sum(dim=2)
    if options.unknown == "merge":
        target_sum *= class_mask
    return ClassTotals(cross_entropy, intersection, predicted, target_sum), SavedTensors(p, positive, share, terms)


def softmax_backward(
    saved: SavedTensors, class_mask: Tensor, options: SoftmaxOptions, incoming: tuple[Tensor, ...]
) -> Tensor:
    """Return the gradient with respect to the logits (B, C, N); `saved` is used up."""
    g, a, b = incoming
    if options.merged_dice:
        roles = _roles(class_mask, options)
        a, b = a.gather(1, roles), b.gather(1, roles)
    u = torch.where(saved.positive, (a + b)[:, :, None], b[:, :, None]).mul_(saved.p)
    of_terms = (g[:, None] if saved.contributing is None else g[:, None] * saved.contributing)[:, None]
    u -= saved.positive * of_terms if saved.share is None else saved.share.mul_(of_terms)
    return u.addcmul_(saved.p, u.sum(dim=1, keepdim=True), value=-1)


def _roles(class_mask: Tensor, options: SoftmaxOptions) -> Tensor:
    """Return the class that each channel belongs to, (B, C) or (1, C): its own, or that of the merged background."""
    classes = torch.arange(class_mask.shape[1], device=class_mask.device)
    return classes * class_mask if options.unknown == "merge" else classes[None]


def sigmoid_forward(
    logits: Tensor, labels: Tensor, class_mask: Tensor, options: SigmoidOptions
) -> tuple[ClassTotals, SigmoidTensors]:
    """Return the sums over logits (B, C, N) with labels (B, N) and class_mask (B, C), and what the gradient needs."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    positive = classes[:, None] == labels[:, None]
    target_sum = positive.sum(dim=2)  # first, while nothing else is held: a GPU makes int64 of all of it to count
    terms = None
    if options.exclusive:  # an unknown class has terms in the voxels of known classes
        terms = class_mask[:, :, None] | (labels > 0)[:, None]
    if options.has_ignored:
        valid = (labels != IGNORED)[:, None]
        terms = valid if terms is None else terms & valid
    z = _terms.precise(logits)
    losses = F.softplus(z, threshold=LINEAR).sub_(torch.where(positive, z, 0))
    if terms is not None:
        losses = torch.where(terms, losses, 0)
    pairs = pairs_with_terms(class_mask, options)
    cross_entropy = torch.where(pairs, losses.sum(dim=2), 0).sum(dim=1)
    p = torch.sigmoid(z)
    if options.has_ignored:
        p *= valid
    totals = ClassTotals(cross_entropy, torch.mul(p, positive, out=losses).sum(dim=2), p.sum(dim=2), target_sum)
    return totals, SigmoidTensors(p, positive, pairs, terms)


def sigmoid_backward(saved: SigmoidTensors, incoming: tuple[Tensor, ...]) -> Tensor:
    """Return the gradient with respect to the logits (B, C, N); `saved` is used up."""
    g, a, b = incoming
    u = torch.where(saved.positive, (a + b)[:, :, None], b[:, :, None])
    torch.ops.aten.sigmoid_backward.grad_input(u, saved.p, grad_input=u)
    difference = saved.p.add_(saved.positive, alpha=-1)
    if saved.terms is not None:
        difference *= saved.terms
    return u.addcmul_(difference, (g[:, None] * saved.pairs)[:, :, None])


def region_forward(
    logits: Tensor, regions: Tensor, positive: Tensor, counted: Tensor, in_dice: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross_entropy (B,), intersection and predicted (B, R) of `_terms.region_sums`."""
    z = _terms.precise(logits)
    losses = F.softplus(z, threshold=LINEAR).sub_(z * positive).mul_(counted)
    cross_entropy = losses.sum(dim=(1, 2))
    p = torch.sigmoid(z).mul_(in_dice)
    return cross_entropy, torch.mul(p, regions, out=losses).sum(dim=2), p.sum(dim=2)


def region_backward(
    incoming: tuple[Tensor, ...],
    logits: Tensor,
    regions: Tensor,
    positive: Tensor,
    counted: Tensor,
    in_dice: Tensor,
) -> Tensor:
    """Return the gradient with respect to the logits (B, R, N)."""
    g, a, b = incoming
    p = torch.sigmoid(_terms.precise(logits))
    u = torch.where(regions, (a + b)[:, :, None], b[:, :, None]).mul_(in_dice)
    torch.ops.aten.sigmoid_backward.grad_input(u, p, grad_input=u)
    return u.addcmul_(torch.add(p, positive, alpha=-1, out=p).mul_(counted), g[:, None, None])
