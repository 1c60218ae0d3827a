"""The sums of `_terms.py` again, faster: gradients derived by hand, in few passes over memory.

`_terms.softmax_sums` and `_terms.sigmoid_sums` say what is computed. With A and B the incoming gradients of `overlap`
and `predicted`, g that of `entropy`, y the label of a voxel and s = sum_c B_c p_c + A_y p_y, the gradients with respect
to the logits are

    softmax: p_c (B_c + g - s) + [c = y] (A_y p_y - g)
    sigmoid: p_c ((1 - p_c) (B_c + [c = y] A_c) + g) - [c = y] g

The merged background of the marginal loss is one class of that softmax; the gradient that it gets is handed on to its
members by their shares of it (a softmax over the members).

Two versions compute this: one for CPUs, which gives up on logits for which its shortcuts are not safe
(`_softmax_cpu.py`, `_sigmoid_cpu.py`), and one for all logits on all devices, which never waits for a GPU
(`_softmax.py`, `_sigmoid.py`). There is no second derivative. Under torch.compile the plain version is used, which the
compiler fuses.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_partial.losses import _sigmoid, _sigmoid_cpu, _softmax, _softmax_cpu, _terms
from nnunet_partial.losses._common import Kind, Totals
from nnunet_partial.losses._terms import Batch, Sums


def softmax_sums(batch: Batch, unknown: str, skip_background: bool = False) -> Sums:
    """See `_terms.softmax_sums`."""
    if torch.compiler.is_compiling():
        return _terms.softmax_sums(batch, unknown, skip_background)
    kind = Kind(unknown, skip_background, batch.has_ignored)
    entropy, overlap, predicted, drawn = _Derived.apply(
        batch.logits, batch.labels, batch.known, kind, _softmax_cpu, _softmax
    )
    drawn = drawn.to(entropy.dtype)
    terms = drawn.sum(dim=1)
    if skip_background:
        terms = terms - drawn[:, 0] * ~batch.known.all(dim=1)
    return Sums(entropy, terms, overlap * batch.known, predicted * batch.known, drawn)


def sigmoid_sums(batch: Batch) -> Sums:
    """See `_terms.sigmoid_sums`."""
    if torch.compiler.is_compiling():
        return _terms.sigmoid_sums(batch)
    pairs = _terms.foreground(batch.known)
    entropy, overlap, predicted, drawn = _Derived.apply(
        batch.logits, batch.labels, pairs, batch.has_ignored, _sigmoid_cpu, _sigmoid
    )
    drawn = drawn.to(entropy.dtype)
    return Sums(entropy, drawn.sum(dim=1) * pairs.sum(dim=1), overlap * pairs, predicted * pairs, drawn * pairs)


class _Derived(torch.autograd.Function):
    """The totals of all voxels, by `quick.forward` where that is possible, else by `general.forward`.

    logits (B, C, N), labels (B, N), known (B, C); `how` goes to the version, which returns the totals and what its
    `backward` needs to turn the incoming gradients into the gradient with respect to the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, known: Tensor, how: Any, quick: ModuleType, general: ModuleType
    ) -> Totals:
        found = quick.forward(logits, labels, known, how) if logits.device.type == "cpu" else None
        totals, ctx.kept = found or general.forward(logits, labels, known, how)
        ctx.save_for_backward(logits, labels, known)
        ctx.how, ctx.version = how, quick if found else general
        ctx.mark_non_differentiable(totals.drawn)
        return totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, known = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None
        if kept is None:  # a second backward pass through the same graph
            _, kept = ctx.version.forward(logits, labels, known, ctx.how)
        gradient = ctx.version.backward(kept, labels, known, ctx.how, incoming[:3])
        return gradient.to(logits.dtype), None, None, None, None, None
