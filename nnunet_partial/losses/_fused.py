"""Fast versions of the sums in `_terms.py`: kernels as functions that autograd differentiates.

On a CPU those of `_kernels.py`, elsewhere those of `_kernels_gpu.py`.

Second derivatives are those of the readable version. Under torch.compile the readable version is used throughout, since
the compiler fuses it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnunet_partial.losses import _kernels, _kernels_gpu, _terms
from nnunet_partial.losses._kernels import ClassTotals, SigmoidOptions, SoftmaxOptions
from nnunet_partial.losses._terms import Batch, LossSums

Options = SoftmaxOptions | SigmoidOptions


def softmax_sums(batch: Batch, unknown: str, skip_background: bool = False, do_bg: bool = True) -> LossSums:
    """Return what `_terms.softmax_sums` returns; without `do_bg` sums of p for the background may be others."""
    if torch.compiler.is_compiling():
        return _terms.softmax_sums(batch, unknown, skip_background)
    options = SoftmaxOptions(unknown, skip_background, batch.has_ignored, merged_dice=do_bg and unknown == "merge")
    totals = ClassTotals(*_FusedSums.apply(*batch, options))
    target_sum = totals.target_sum.to(totals.cross_entropy.dtype)
    terms = target_sum.sum(dim=1)
    if skip_background:
        terms = terms - target_sum[:, 0] * ~batch.class_mask.all(dim=1)
    return LossSums(totals.cross_entropy, terms, totals.intersection, totals.predicted, target_sum)


def leaf_sums(batch: Batch) -> LossSums:
    """Return what `_terms.leaf_sums` returns."""
    if torch.compiler.is_compiling():
        return _terms.leaf_sums(batch)
    totals = ClassTotals(*_FusedSums.apply(*batch, SoftmaxOptions("merge", False, batch.has_ignored, leaf=True)))
    target_sum = totals.target_sum.to(totals.cross_entropy.dtype)
    leaf = _terms.leaf_mask(batch.class_mask)
    return LossSums(
        totals.cross_entropy, target_sum.sum(dim=1), totals.intersection * leaf, totals.predicted, target_sum * leaf
    )


def sigmoid_sums(batch: Batch, exclusive: bool = False) -> LossSums:
    """Return what `_terms.sigmoid_sums` returns."""
    if torch.compiler.is_compiling():
        return _terms.sigmoid_sums(batch, exclusive)
    totals = ClassTotals(*_FusedSums.apply(*batch, SigmoidOptions(exclusive, batch.has_ignored)))
    target_sum = totals.target_sum.to(totals.cross_entropy.dtype)
    terms = target_sum.sum(dim=1) * (batch.class_mask.sum(dim=1) - 1)  # without background
    if exclusive:
        terms = terms + target_sum[:, 1:].sum(dim=1) * (~batch.class_mask).sum(dim=1)
    return LossSums(totals.cross_entropy, terms, totals.intersection, totals.predicted, target_sum)


class _FusedSums(torch.autograd.Function):
    """Sum over all voxels of a Batch (its four fields), of a softmax or of sigmoids by the type of the options."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, class_mask: Tensor, has_ignored: bool, options: Options
    ) -> ClassTotals:
        ctx.has_ignored, ctx.options = has_ignored, options
        totals, ctx.saved = _forward(logits, labels, class_mask, options)
        ctx.save_for_backward(logits, labels, class_mask)
        ctx.mark_non_differentiable(totals.target_sum)
        return totals

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, class_mask = ctx.saved_tensors
        of_ce, of_intersection, of_predicted, _ = incoming
        gradients = (of_ce, of_intersection, of_predicted)
        batch = Batch(logits, labels, class_mask, ctx.has_ignored)
        if torch.is_grad_enabled():  # create_graph=True
            gradient = _differentiable_gradient(batch, ctx.options, gradients)
            return gradient, None, None, None, None
        saved, ctx.saved = ctx.saved, None
        if saved is None:  # a second backward pass through the same graph
            _, saved = _forward(logits, labels, class_mask, ctx.options)
        gradient = _backward(saved, labels, class_mask, ctx.options, gradients)
        return gradient.to(logits.dtype), None, None, None, None


def _on_host(x: Tensor) -> bool:
    """Return whether values can be read without waiting for a device."""
    return x.device.type == "cpu"


def _forward(logits: Tensor, labels: Tensor, class_mask: Tensor, options: Options) -> tuple[ClassTotals, Any]:
    if isinstance(options, SigmoidOptions):
        if _on_host(logits):
            return _kernels.sigmoid_forward(logits, labels, class_mask, options)
        return _kernels_gpu.sigmoid_forward(logits, labels, class_mask, options)
    if _on_host(logits):
        return _kernels.softmax_forward(logits, labels, class_mask, options)
    return _kernels_gpu.softmax_forward(logits, labels, class_mask, options)


def _backward(
    saved: Any, labels: Tensor, class_mask: Tensor, options: Options, incoming: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    if isinstance(options, SigmoidOptions):
        if _on_host(labels):
            return _kernels.sigmoid_backward(saved, labels, class_mask, options, incoming)
        return _kernels_gpu.sigmoid_backward(saved, incoming)
    if _on_host(labels):
        return _kernels.softmax_backward(saved, labels, class_mask, options, incoming)
    return _kernels_gpu.softmax_backward(saved, class_mask, options, incoming)


def _differentiable_gradient(batch: Batch, options: Options, incoming: tuple[Tensor, ...]) -> Tensor:
    """Return the gradient with respect to the logits (B, C, N), differentiable, by the readable version."""
    if isinstance(options, SigmoidOptions):
        sums = _terms.sigmoid_sums(batch, options.exclusive)
    elif options.leaf:
        sums = _terms.leaf_sums(batch)
    else:
        sums = _terms.softmax_sums(batch, options.unknown, options.skip_background)
    outputs = (sums.cross_entropy, sums.intersection, sums.predicted)
    (gradient,) = torch.autograd.grad(outputs, batch.logits, incoming, create_graph=True)
    return gradient


def region_sums(logits: Tensor, regions: Tensor, positive: Tensor, counted: Tensor, in_dice: Tensor) -> LossSums:
    """Return what `_terms.region_sums` returns."""
    masks = (regions, positive, counted, in_dice)
    if torch.compiler.is_compiling():
        return _terms.region_sums(logits, *masks)
    cross_entropy, intersection, predicted = _FusedRegionSums.apply(logits, *masks)
    terms, target_sum = counted.sum(dim=(1, 2)), regions.sum(dim=2)
    return LossSums(cross_entropy, terms.to(predicted.dtype), intersection, predicted, target_sum.to(predicted.dtype))


class _FusedRegionSums(torch.autograd.Function):
    """Compute the sums of `_terms.region_sums` that depend on the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, *masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, *masks)
        if _on_host(logits):
            return _kernels.region_forward(logits, *masks)
        return _kernels_gpu.region_forward(logits, *masks)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        logits, *masks = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            sums = _terms.region_sums(logits, *masks)
            outputs = (sums.cross_entropy, sums.intersection, sums.predicted)
            (gradient,) = torch.autograd.grad(outputs, logits, incoming, create_graph=True)
        else:
            backward = _kernels.region_backward if _on_host(logits) else _kernels_gpu.region_backward
            gradient = backward(incoming, logits, *masks).to(logits.dtype)
        return gradient, None, None, None, None
