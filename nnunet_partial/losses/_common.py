"""What the fast versions of the sums share: cutting a batch into pieces, sums per class, which voxels count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nnunet_partial.losses import _terms
from nnunet_partial.losses._terms import IGNORED

PIECE = 2**18  # numbers per thread in one piece on a CPU: 1 MiB of float32, what a core's cache holds
TINY = 1e-30  # float32 holds all digits of larger numbers


class Kind(NamedTuple):
    """What kind of softmax, see `_terms.softmax_sums`, and whether labels can be IGNORED."""

    unknown: str
    skip_background: bool
    has_ignored: bool


class Totals(NamedTuple):
    """What is added up over the voxels, before it is known which classes count."""

    entropy: Tensor  # (B,)
    overlap: Tensor  # (B, C)
    predicted: Tensor  # (B, C)
    drawn: Tensor  # (B, C) int64, as float32 has no whole numbers beyond 16 million


def zero_totals(logits: Tensor) -> Totals:
    """As precise as the sums over `logits` are to be."""
    per_class = torch.zeros(logits.shape[:2], dtype=_terms.precise(logits[:0]).dtype, device=logits.device)
    return Totals(
        torch.zeros_like(per_class[:, 0]), per_class, per_class.clone(), torch.zeros_like(per_class, dtype=torch.int64)
    )


def pieces(x: Tensor) -> Iterator[tuple[slice, slice]]:
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


def class_index(labels: Tensor, has_ignored: bool) -> tuple[Tensor, Tensor | None]:
    """(b, n) -> class numbers to gather by (0 for ignored voxels), and which voxels are valid (b, n) (None: all)."""
    return (labels.clamp_min(0), labels != IGNORED) if has_ignored else (labels, None)


def only_carrying(terms: Tensor, labels: Tensor, known: Tensor, kind: Kind) -> Tensor:
    """terms (b, n), 0 where the voxel carries no cross-entropy term."""
    if not (kind.has_ignored or kind.skip_background):
        return terms
    return terms * _terms.carries_entropy(labels, known, kind.skip_background)


def sum_by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """values (b, n), index (b, n) -> (b, classes). On a GPU class by class: its threads would queue at so few sums."""
    if values.device.type == "cpu":
        return values.new_zeros(values.shape[0], classes).scatter_add_(1, index, values)
    return torch.stack([(values * (index == c)).sum(dim=1) for c in range(classes)], dim=1)


def count_by_class(index: Tensor, valid: Tensor | None, classes: int) -> Tensor:
    """index (b, n), valid (b, n) or None for all -> (b, classes) in whole numbers."""
    every = torch.ones(1, dtype=torch.int32, device=index.device).expand_as(index)
    return sum_by_class(every if valid is None else valid.int(), index, classes)
