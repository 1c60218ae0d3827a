"""Adding up numbers over several GPUs, so that training on four of them gives the loss that one big GPU would give."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(local: Tensor) -> Tensor:
    """Sum of `local` (any shape, the same on every rank) over all ranks; differentiable.

    Gradients: every rank computes the same function of the total, and data-parallel training averages gradients over
    the W ranks, so each rank passes W times its own gradient on. The average is then the gradient of one process with
    the whole batch. The backward pass needs no communication.

    Raises torch's own error where no process group was initialised.
    """
    total = local.detach().clone()
    dist.all_reduce(total)
    if not local.requires_grad:
        return total
    own = local * dist.get_world_size()
    return total + (own - own.detach())  # the bracket is zero in value and carries the gradient


def times_ranks(local: Tensor) -> Tensor:
    """`local` times the number of ranks: a share of a sum that the average over ranks must give back as the sum."""
    return local * dist.get_world_size()
