"""Tell a loss which classes the samples of a batch are annotated for, and count predictions by the same rule.

Pseudo-labels are trained on and never counted: known in training batches, unknown in validation batches.

Also label dropout. When whole datasets lack a structure, a network can learn "this scanner shows no atrium". In
training, each sample then loses each of its known classes that some case of the dataset is not annotated for, with
probability `label_dropout`: its voxels become background, and it counts as not annotated. Never in validation.

References:
    Islam et al., "Label Dropout: Improved Deep Learning Echocardiography Segmentation Using Multiple Datasets With
    Domain Shift and Partial Labelling", 2024, https://arxiv.org/abs/2403.07818. The probability used there is not known
    to us; 0.5 is this project's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nnunet_partial.labels import Manifest


class AnnotatedClasses:
    """Look up the known classes (annotated or absent; in training batches pseudo, too) of the cases of a batch.

    Args:
        manifest: Which classes each case is annotated for.
        classes: Names of the foreground classes in the order of their label values, or of regions.
        cases: Identifiers of all cases that a batch may hold, at least one.
        has_background: Whether the network has an output for the background; not with regions.
    """

    def __init__(
        self, manifest: Manifest, classes: Sequence[str], cases: Iterable[str], has_background: bool = True
    ) -> None:
        first, cases = 0 if has_background else 1, list(cases)
        self._known, self._known_in_training = (
            {case: torch.from_numpy(manifest.known(case, classes, in_training)[first:]) for case in cases}
            for in_training in (False, True)
        )
        #: (C,) bool, the classes that are unknown in some case in training
        self.partial = ~torch.stack(list(self._known_in_training.values())).all(0)

    def __repr__(self) -> str:
        # nnU-Net writes str() of a trainer's attributes beside the model, which must list no patient.
        return f"AnnotatedClasses({len(self._known)} cases)"

    def for_cases(self, cases: Iterable[Any], in_training: bool = False) -> Tensor:
        """Return the class mask of a batch, bool (B, C) or, of regions, (B, R), on the CPU.

        Args:
            cases: Identifiers of the cases of the batch, as nnU-Net's loader gives them.
            in_training: Whether pseudo-labels count as known.

        Returns:
            True where the class is known in the sample; background, class 0, always is.
        """
        known = self._known_in_training if in_training else self._known
        return torch.stack([known[str(case)] for case in cases])


def to_device(class_mask: Tensor, device: torch.device) -> Tensor:
    """Copy a class mask to a device without waiting for it.

    Args:
        class_mask: bool (B, C), on the CPU.
        device: Where the loss is computed.

    Returns:
        The mask on the device.
    """
    return (class_mask.pin_memory() if device.type == "cuda" else class_mask).to(device, non_blocking=True)


class UnmaskedLoss(nn.Module):
    """Call nnU-Net's own loss, for which what is not annotated is background.

    The target of classes is that already: a label file holds no class that is unknown in the case. In that of regions
    an unknown one is set to background, since a value that is kept for a smaller region belongs to the larger one, too.

    Args:
        loss: Called with logits and target.
        has_regions: Whether outputs are regions.
    """

    def __init__(self, loss: nn.Module, has_regions: bool = False) -> None:
        super().__init__()
        self.loss, self.has_regions = loss, has_regions

    def forward(self, logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: Output of the network, (B, C, *S).
            target: Label values, (B, 1, *S); of regions (B, R, *S), or (B, R + 1, *S) with an ignore label.
            class_mask: bool (B, C), ignored; of regions (B, R).

        Returns:
            nnU-Net's loss.
        """
        if self.has_regions:
            unknown = torch.zeros(target.shape[:2], dtype=torch.bool, device=target.device)
            unknown[:, : class_mask.shape[1]] = ~class_mask
            target = target.masked_fill(unknown[(...,) + (None,) * (target.ndim - 2)], 0)
        value: Tensor = self.loss(logits, target)
        return value


@torch.no_grad()
def confusion_counts(logits: Tensor, target: Tensor, ignore_label: int | None) -> Tensor:
    """Count true positives, false positives, false negatives and true negatives in each sample.

    Args:
        logits: Output of the network, (B, C, *S).
        target: Label values, (B, 1, *S).
        ignore_label: Value of the voxels that do not count; None where there are none.

    Returns:
        int64 of shape (4, B, C - 1), on the device of the logits: the counts of voxels of each foreground class,
        whether or not the class is known in the sample.
    """
    predicted = logits.argmax(1).flatten(1)  # (B, N)
    truth = target[:, 0].flatten(1)  # (B, N)
    counted = truth != ignore_label if ignore_label is not None else torch.ones_like(truth, dtype=torch.bool)
    n_voxels = counted.sum(1)  # (B,)
    counts = []
    for value in range(1, logits.shape[1]):
        prediction, reference = (predicted == value) & counted, (truth == value) & counted
        tp, n_pred, n_ref = (prediction & reference).sum(1), prediction.sum(1), reference.sum(1)
        counts.append(_four_counts(tp, n_pred, n_ref, n_voxels))
    # integers: voxel counts of large 3-D batches are beyond float32's exact ones, and MPS has no float64
    return torch.stack(counts, 2)


@torch.no_grad()
def region_counts(logits: Tensor, target: Tensor, has_ignore_channel: bool) -> Tensor:
    """Count as `confusion_counts`, for regions: each is predicted where its sigmoid is above one half.

    Args:
        logits: Output of the network, (B, R, *S).
        target: 0 or the region, (B, R, *S) or (B, R + 1, *S).
        has_ignore_channel: Whether the last channel of the target marks the voxels that do not count.

    Returns:
        int64 of shape (4, B, R), on the device of the logits.
    """
    truth = target.flatten(2).bool()
    counted = ~truth[:, -1:] if has_ignore_channel else torch.ones_like(truth[:, :1])  # (B, 1, N)
    predicted = (torch.sigmoid(logits) > 0.5).flatten(2) & counted  # as nnU-Net, also for a logit that rounds to 0.5
    truth = truth[:, : logits.shape[1]] & counted
    return _four_counts((predicted & truth).sum(2), predicted.sum(2), truth.sum(2), counted.sum(2))


def _four_counts(tp: Tensor, n_pred: Tensor, n_ref: Tensor, n_voxels: Tensor) -> Tensor:
    """Return true positives, false positives, false negatives and true negatives, (4, ...)."""
    return torch.stack([tp, n_pred - tp, n_ref - tp, n_voxels - n_pred - n_ref + tp])


def masked_counts(counts: Tensor, class_mask: Tensor) -> Tensor:
    """Sum the counts of each foreground class over the samples in which it is known.

    Args:
        counts: (4, B, C - 1), as `confusion_counts` gives them; (4, B, R) of regions.
        class_mask: bool (B, C), on the same device; (B, R) of regions.

    Returns:
        True positives, false positives and false negatives, (3, C - 1) or (3, R). A class that is known in no sample
        gives zeros, i.e. a Dice of 0/0 = NaN.
    """
    return (counts[:3] * class_mask[:, -counts.shape[2] :]).sum(1)


def drop_labels(class_mask: Tensor, partial: Tensor, probability: float) -> Tensor:
    """Switch known classes off at random; only those that are unknown in some case.

    The losses count a target of a class that is unknown in the sample as background, so the target needs no change.
    Draws from torch's generator, on the CPU.

    Args:
        class_mask: bool (B, C), the known classes of each sample.
        partial: bool (C,), the classes that may be switched off.
        probability: Probability with which each of them is.

    Returns:
        The new mask, bool (B, C).
    """
    return class_mask & ~(partial & (torch.rand(class_mask.shape) < probability))


# The class that uses a mixin decides what super() is: here a trainer with PartialLabelMixin.
_Trainer: Any = object


class LabelDropoutMixin(_Trainer):
    """Add label dropout to a trainer that has PartialLabelMixin; to be put before it.

    Works with the losses of `nnunet_partial.losses`, not with nnU-Net's own, which ignores the class mask.
    """

    #: Probability with which a sample loses a class.
    label_dropout: ClassVar[float] = 0.5

    def training_class_mask(self, batch: dict[str, Any]) -> Tensor:
        """Return the class mask of a training batch with classes dropped at random.

        Args:
            batch: A batch of nnU-Net's loader.

        Returns:
            bool (B, C), on the CPU.
        """
        return drop_labels(super().training_class_mask(batch), self.annotated_classes.partial, self.label_dropout)
