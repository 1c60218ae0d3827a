"""What each sample of a batch knows, and how the loss is told: between nnU-Net's loss(output, target) and ours.

Label dropout: forgets drawn structures at random, so that the scanner does not give away which structures there are.

When whole data sets lack a structure, a network can learn "this scanner shows no atrium". In training, each sample
forgets each of its known classes that some case of the data set does not know, with probability `label_dropout`: its
voxels become background and it counts as unknown. Never in validation.

Source: Islam et al., "Label Dropout: Improved Deep Learning Echocardiography Segmentation Using Multiple Datasets With
Domain Shift and Partial Labelling", 2024, https://arxiv.org/abs/2403.07818. The probability used there is not known to
us; 0.5 is this project's choice.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nnunet_partial.labels import Manifest


class AnnotatedClasses:
    """Which classes each case knows, ready for batches. Made once, before the first iteration."""

    def __init__(self, manifest: Manifest, classes: tuple[str, ...], cases: list[str]) -> None:
        self._rows = {case: torch.from_numpy(manifest.known(case, classes)) for case in cases}
        #: (C,) bool, the classes that some case does not know
        self.partial = ~torch.stack(list(self._rows.values())).all(0)

    def __repr__(self) -> str:
        # nnU-Net writes str() of a trainer's attributes beside the model, which must list no patient.
        return f"KnownClasses({len(self._rows)} cases)"

    def of(self, cases: Any) -> Tensor:
        """bool (B, C) for the case identifiers of a batch."""
        return torch.stack([self._rows[str(case)] for case in cases])


def to_device(known: Tensor, device: torch.device) -> Tensor:
    """Copied without waiting for the device."""
    return (known.pin_memory() if device.type == "cuda" else known).to(device, non_blocking=True)


class PartialLabelLoss(nn.Module):
    """Stands where nnU-Net expects loss(logits, target), and tells the real loss what the batch knows.

    In validation it also counts hits and misses of each sample: nnU-Net's own count, made right after the loss, takes
    every prediction of a class that nobody annotated for a false positive.
    """

    def __init__(self, loss: nn.Module, ignore_label: int | None) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_label = ignore_label
        self.known: Tensor | None = None
        self.counts: Tensor | None = None
        self.counting = False

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        # (B, C, *S), (B, 1, *S); under deep supervision the first call has the full resolution
        assert self.known is not None
        if self.counting and self.counts is None:
            self.counts = confusion_counts(logits, target, self.ignore_label)
        value: Tensor = self.loss(logits, target, self.known)
        return value


class UnmaskedLoss(nn.Module):
    """nnU-Net's own loss behind our interface: what nobody drew is background."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
        value: Tensor = self.loss(logits, target)
        return value


@torch.no_grad()
def confusion_counts(logits: Tensor, target: Tensor, ignore_label: int | None) -> Tensor:
    """True positives, false positives, false negatives, true negatives of each foreground class in each sample.

    logits (B, C, *S), target (B, 1, *S) -> float64 (4, B, C - 1), on the device, whether or not the sample knows the
    class. Voxels of the ignore label do not count.
    """
    predicted = logits.argmax(1).flatten(1)  # (B, N)
    truth = target[:, 0].flatten(1)  # (B, N)
    counted = truth != ignore_label if ignore_label is not None else torch.ones_like(truth, dtype=torch.bool)
    voxels = counted.sum(1)  # (B,)
    counts = []
    for value in range(1, logits.shape[1]):
        here, there = (predicted == value) & counted, (truth == value) & counted
        tp, n_here, n_there = (here & there).sum(1), here.sum(1), there.sum(1)
        counts.append(torch.stack([tp, n_here - tp, n_there - tp, voxels - n_here - n_there + tp]))  # (4, B)
    # float64: voxel counts of large 3-D batches are beyond float32's whole numbers
    return torch.stack(counts, 2).to(torch.float32 if logits.device.type == "mps" else torch.float64)


def masked_counts(counts: Tensor, known: Tensor) -> Tensor:
    """True positives, false positives, false negatives of each foreground class over the samples that know it.

    counts (4, B, C - 1) as `confusion_counts` gives them, known (B, C) -> (3, C - 1). A class that no sample knows
    gives zeros, i.e. a Dice of 0/0 = NaN.
    """
    return (counts[:3] * known[:, 1:]).sum(1)


# What a mixin's super() is, is chosen by the class that uses it: a trainer with PartialLabelMixin.
_Trainer: Any = object


def drop_labels(known: Tensor, partial: Tensor, probability: float) -> Tensor:
    """known (B, C) bool with classes switched off at random; only those that `partial` (C,) bool names.

    The losses count a target of a class that the sample does not know as background, so the target needs no change.
    Draws from torch's generator, on the CPU.
    """
    return known & ~(partial & (torch.rand(known.shape) < probability))


class LabelDropoutMixin(_Trainer):
    """To be put before a trainer that has PartialLabelMixin and one of the losses of `nnunet_partial.losses`."""

    label_dropout: ClassVar[float] = 0.5

    def known_in_training(self, batch: dict[str, Any]) -> Tensor:
        return drop_labels(super().known_in_training(batch), self.known_classes.partial, self.label_dropout)
