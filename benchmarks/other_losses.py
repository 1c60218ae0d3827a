"""Define other losses for partial labels, from the formulas of their papers, for `losses.py --others`.

Written as such losses usually are: probabilities, one-hot targets and masks of the size of the logits, gradients by
autograd. No code is taken over. logits (B, C, *S), target (B, 1, *S), class_mask (B, C) bool, as for our losses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5


def one_hot(target: Tensor, class_mask: Tensor) -> Tensor:
    """Return (B, C, N) of 0 and 1; a class that is unknown in the sample is background."""
    labels = target.flatten(1).long()  # (B, N)
    labels = labels * class_mask.gather(1, labels)
    return F.one_hot(labels, class_mask.shape[1]).movedim(-1, 1).float()


def dice(p: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """1 - mean soft Dice over the classes that `counted` (B, C) names for some sample; sums over the batch."""
    mask = counted[:, :, None].float()
    overlap, size = (p * truth * mask).sum((0, 2)), ((p + truth) * mask).sum((0, 2))
    here = counted.any(0).float()
    return 1 - ((2 * overlap + EPS) / (size + EPS) * here).sum() / here.sum().clamp_min(1)


def merged(x: Tensor, class_mask: Tensor) -> Tensor:
    """Return (B, C, N) with the channels of unknown classes added to the background's, and emptied."""
    unknown = (~class_mask)[:, :, None].float()
    background = x[:, :1] + (x[:, 1:] * unknown[:, 1:]).sum(1, keepdim=True)
    return torch.cat([background, (x * (1 - unknown))[:, 1:]], 1)


def marginal(logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
    """Compute marginal cross entropy and Dice of merged probabilities: Shi et al. 2021, arXiv 2007.03868, sec. 3.2."""
    p, truth = merged(logits.flatten(2).softmax(1), class_mask), one_hot(target, class_mask)
    entropy = -(truth * (p + EPS).log()).sum(1).mean()
    foreground = torch.cat([torch.zeros_like(class_mask[:, :1]), class_mask[:, 1:]], 1)
    return entropy + dice(p, truth, foreground)


def marginal_and_exclusion(logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
    """Compute the same with the exclusion loss of sec. 3.3: what lies in an annotated structure is no unknown one."""
    p, truth = logits.flatten(2).softmax(1), one_hot(target, class_mask)
    elsewhere = truth[:, 1:].sum(1, keepdim=True) * (~class_mask)[:, :, None].float()  # (B, C, N)
    forbidden = (p * elsewhere).sum((0, 2)), (p + elsewhere).sum((0, 2))
    excluded = ((2 * forbidden[0] + EPS) / (forbidden[1] + EPS)).mean() + (elsewhere * (p + 1).log()).sum(1).mean()
    return marginal(logits, target, class_mask) + excluded


def leaf_dice(logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
    """Compute leaf-Dice and marginal cross entropy over label sets: Fidon et al. 2021, arXiv 2107.03846."""
    p, truth = logits.flatten(2).softmax(1), one_hot(target, class_mask)
    unknown = (~class_mask)[:, :, None].float()
    allowed = torch.where(truth[:, :1] > 0, torch.cat([torch.ones_like(unknown[:, :1]), unknown[:, 1:]], 1), truth)
    entropy = -((p * allowed).sum(1) + EPS).log().mean()
    single = truth.clone()
    single[:, 0] = truth[:, 0] * class_mask.all(1, keepdim=True)  # elsewhere the background is a set of several labels
    return entropy + dice(p, single, torch.ones_like(class_mask))


def masked_binary(logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
    """Compute a loss of one sigmoid per class, known pairs only: MultiTalent, Ulrich et al. 2023, arXiv 2303.14444."""
    z, truth = logits.flatten(2)[:, 1:], one_hot(target, class_mask)[:, 1:]
    mask = class_mask[:, 1:, None].float()
    terms = F.binary_cross_entropy_with_logits(z, truth, reduction="none") * mask
    entropy = terms.sum() / (mask.sum() * z.shape[2]).clamp_min(1)
    return entropy + dice(z.sigmoid(), truth, class_mask[:, 1:])


OTHERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "Shi marginal": marginal,
    "Shi + exclusion": marginal_and_exclusion,
    "Fidon leaf": leaf_dice,
    "MultiTalent": masked_binary,
}
