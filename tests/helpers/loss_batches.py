"""Small made-up batches (who annotated what, which voxels are ignored) that all tests of the losses share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from helpers.reference_losses import ORACLES, region_bce
from torch import Tensor

from nnunet_partial.losses import LOSSES, RegionBCELoss

SPACES = {"2d": (5, 4), "3d": (3, 2, 4)}


@dataclass(frozen=True)
class Variant:
    """One loss with the options that make it what it is; `build` and `oracle` take the remaining, common options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])

    @property
    def has_background(self) -> bool:
        """Whether the loss has a background channel, of which `do_bg` adds the Dice."""
        return not self.name.startswith("abce")

    def build(self, **options: Any) -> torch.nn.Module:
        loss: torch.nn.Module = LOSSES[self.name](**self.options, **options)
        return loss

    def oracle(self, batch: Batch, **options: Any) -> float:
        return ORACLES[self.name](
            batch.logits.detach().double().numpy(),
            batch.target.numpy(),
            batch.known.numpy(),
            **self.options,
            **options,
        )


MARGINAL = Variant("marginal")
ACCE = Variant("acce")
ACCE_IGNORE = Variant("acce", {"background": "ignore"})
ABCE = Variant("abce")
ABCE_EXCLUSIVE = Variant("abce-exclusive")
LEAF_DICE = Variant("marginal-leaf-dice")
VARIANTS = [*map(Variant, LOSSES), ACCE_IGNORE]  # a loss that joins the table joins the common tests
SOFTMAX_VARIANTS = [MARGINAL, ACCE, ACCE_IGNORE]
SIGMOID_VARIANTS = [ABCE, ABCE_EXCLUSIVE]
#: Those whose Dice is one of known classes alone.
KNOWN_DICE_VARIANTS = [variant for variant in VARIANTS if variant != LEAF_DICE]


#: Stored values of each region in the tests of regions, and which of these lies inside which.
REGION_VALUES = ((1, 2, 3), (2, 3), (3,), (1,))
INSIDE = tuple(
    (s, r) for s, inner in enumerate(REGION_VALUES) for r, outer in enumerate(REGION_VALUES) if {*inner} < {*outer}
)


def region_target(labels: Tensor, ignore_label: int | None) -> Tensor:
    """Labels (B, 1, *S) to bool (B, R, *S), as nnU-Net's loader does; one more channel for the ignore label."""
    channels = [torch.isin(labels[:, 0], torch.tensor(values)) for values in REGION_VALUES]
    if ignore_label is not None:
        channels.append(labels[:, 0] == ignore_label)
    return torch.stack(channels, 1)


class LossOfLabels(torch.nn.Module):
    """The loss of regions, called with labels (B, 1, *S) as the other losses."""

    def __init__(self, inside: tuple[tuple[int, int], ...], ignore_label: int | None = None, **options: Any) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.loss = RegionBCELoss(inside=inside, has_ignore_channel=ignore_label is not None, **options)

    def forward(self, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        value: Tensor = self.loss(logits, region_target(labels, self.ignore_label), known)
        return value


@dataclass(frozen=True)
class RegionVariant(Variant):
    """The loss of regions with or without what they say of each other."""

    has_background = False  # type: ignore[assignment]

    def build(self, **options: Any) -> torch.nn.Module:
        return LossOfLabels(**self.options, **options)

    def oracle(self, batch: Batch, **options: Any) -> float:
        ignore_label = options.pop("ignore_label", None)
        return region_bce(
            batch.logits.detach().double().numpy(),
            region_target(batch.target, ignore_label).numpy(),
            batch.known.numpy(),
            has_ignore_channel=ignore_label is not None,
            **self.options,
            **options,
        )


NESTED = RegionVariant("regions", {"inside": INSIDE})
NOT_NESTED = RegionVariant("regions", {"inside": ()})


@dataclass(frozen=True)
class Batch:
    """What a loss is called with: logits (B, C, *S), target (B, 1, *S), known (B, C)."""

    logits: Tensor
    target: Tensor
    known: Tensor

    def samples(self, *which: int) -> Batch:
        chosen = list(which)
        return Batch(self.logits[chosen], self.target[chosen], self.known[chosen])


def known_from(rows: list[list[int]], classes: int) -> Tensor:
    """(B, C) bool from the known foreground classes of each sample; background is always known."""
    known = torch.zeros(len(rows), classes, dtype=torch.bool)
    known[:, 0] = True
    for b, row in enumerate(rows):
        known[b, row] = True
    return known


def make_batch(
    seed: int,
    space: tuple[int, ...],
    known: Tensor,
    *,
    ignore_label: int | None = None,
    drawn_unknown: bool = False,
    dtype: torch.dtype = torch.float64,
    scale: float = 2.0,
) -> Batch:
    """Random logits and labels; a fifth of the voxels is ignored where there is an ignore label.

    What a sample does not know is 0 in its target, except with `drawn_unknown`, which breaks that rule on purpose.
    """
    rng = torch.Generator().manual_seed(seed)
    samples, classes = known.shape
    logits = scale * torch.randn(samples, classes, *space, generator=rng, dtype=torch.float64)
    target = torch.randint(0, classes, (samples, 1, *space), generator=rng)
    if not drawn_unknown:
        target = without_unknown(target, known)
    if ignore_label is not None:
        target[torch.rand(target.shape, generator=rng) < 0.2] = ignore_label
    return Batch(logits.to(dtype), target, known)


def without_unknown(target: Tensor, known: Tensor) -> Tensor:
    """A copy of the target in which every value that its sample does not know is 0; other values are kept."""
    target = target.clone()
    for b in range(known.shape[0]):
        for c in range(1, known.shape[1]):
            if not known[b, c]:
                target[b][target[b] == c] = 0
    return target


def value_and_gradient(loss: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss (a scalar) and its gradient with respect to the logits."""
    logits = batch.logits.detach().clone().requires_grad_()
    value = loss(logits, batch.target, batch.known)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def assert_same(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], *, rtol: float = 1e-10, atol: float = 1e-12
) -> None:
    """Value and gradient of two computations agree, and neither is NaN or infinite."""
    for a, b in zip(first, second, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def fully_known(samples: int = 3, classes: int = 4) -> Tensor:
    return torch.ones(samples, classes, dtype=torch.bool)


def mixed_known() -> Tensor:
    """Four samples, three structures: all known, one missing, two missing, nothing known."""
    return known_from([[1, 2, 3], [1, 3], [2], []], classes=4)


def log1p_exp(x: float) -> float:
    """log(1 + exp(x)), the pencil-and-paper way."""
    return math.log(1 + math.exp(x))
