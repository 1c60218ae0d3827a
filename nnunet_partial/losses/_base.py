"""Base class of the partial-label losses: arguments, input validation, cross entropy minus Dice."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _terms
from nnunet_partial.losses._terms import Batch, LossSums


class PartialLoss(nn.Module):
    """Compute weight_ce * cross entropy - weight_dice * mean soft Dice over the classes annotated in each sample.

    Subclasses define `sums`.
    """

    def __init__(
        self,
        weight_ce: float = 1.0,
        weight_dice: float = 1.0,
        batch_dice: bool = True,
        smooth: float = 1e-5,
        do_bg: bool = False,
        ignore_label: int | None = None,
        ddp: bool = False,
    ) -> None:
        """Set the options.

        Args:
            weight_ce: weight of the cross entropy, not negative; with 0 it is not computed.
            weight_dice: weight of the Dice part, not negative; with 0 it is not computed.
            batch_dice: one Dice per class, from sums over the samples in which the class is known; otherwise one Dice
                per known (sample, class) pair.
            smooth: added to numerator and denominator of every Dice.
            do_bg: include the Dice of the background.
            ignore_label: target value of voxels that are excluded; None: there is none.
            ddp: reduce over the ranks of torch.distributed, such that the mean over ranks of loss and gradient is that
                of one process with the whole batch.

        Raises:
            PartialLabelError: if an option has an invalid value.
        """
        super().__init__()
        for name, value in (("weight_ce", weight_ce), ("weight_dice", weight_dice), ("smooth", smooth)):
            if not 0 <= value < float("inf"):
                raise PartialLabelError(f"{name} is {value}; expected a finite number, zero or more.")
        if ignore_label is not None and (isinstance(ignore_label, bool) or not isinstance(ignore_label, int)):
            raise PartialLabelError(f"ignore_label is {ignore_label!r}; expected an integer, or None for none.")
        self.weight_ce = float(weight_ce)
        self.weight_dice = float(weight_dice)
        self.batch_dice = batch_dice
        self.smooth = float(smooth)
        self.do_bg = do_bg
        self.ignore_label = ignore_label
        self.ddp = ddp

    def sums(self, batch: Batch) -> LossSums:
        """Compute the sums per sample and class that `forward` averages.

        Args:
            batch: the flattened input.

        Returns:
            The sums.

        Raises:
            NotImplementedError: unless a subclass defines it.
        """
        raise NotImplementedError

    def mean_dice(self, sums: LossSums, class_mask: Tensor) -> Tensor:
        """Average the soft Dice over known classes, or known (sample, class) pairs.

        Args:
            sums: what `sums` computes.
            class_mask: (B, C) bool, column 0 True.

        Returns:
            A scalar; 0 if nothing counts.
        """
        counted = class_mask if self.do_bg else _terms.foreground(class_mask)
        return _terms.mean_dice(sums, counted, self.batch_dice, self.smooth, self.ddp)

    def forward(self, logits: Tensor, target: Tensor, class_mask: Tensor) -> Tensor:
        """Compute the loss.

        Values of tensors are not checked, which would synchronize with the GPU: a target value outside 0..C-1 gives
        torch's own index error.

        Args:
            logits: (B, C, *S) of floating point, S of any number of axes; channel 0 is the background.
            target: (B, 1, *S) of any dtype, classes 0..C-1 or the ignore label. A class that is unknown in the
                sample counts as 0.
            class_mask: (B, C) bool, the classes known in each sample: annotated, or known to be absent. Column 0 counts
                as True.

        Returns:
            A scalar in float32 (float64 for float64 logits), also under autocast, twice differentiable. Both parts are
            0, with gradient 0, if no class is known and thus nothing contributes. If all voxels are ignored, the cross
            entropy is 0 and every Dice of a known class is smooth / smooth = 1, as in nnU-Net, so that the loss is
            -weight_dice, with gradient 0; leaf-Dice differs, see MarginalLeafDiceLoss.

        Raises:
            PartialLabelError: if types, shapes or dtypes do not fit together.
        """
        self._check(logits, target, class_mask)
        with torch.autocast(logits.device.type, enabled=False):
            if not (self.weight_ce or self.weight_dice):
                return _terms.zero_loss(logits)
            batch = _terms.flatten_batch(logits, target, class_mask, self.ignore_label)
            return self._combine(self.sums(batch), batch.class_mask)

    def _combine(self, sums: LossSums, class_mask: Tensor) -> Tensor:
        """Return the weighted sum of the averages. A part of weight 0 stays out, so that no NaN of it can come in."""
        if not self.weight_ce:
            return -self.weight_dice * self.mean_dice(sums, class_mask)
        cross_entropy = _terms.mean_cross_entropy(sums, self.ddp)
        if self.weight_ce != 1:
            cross_entropy = self.weight_ce * cross_entropy
        if not self.weight_dice:
            return cross_entropy
        return torch.sub(cross_entropy, self.mean_dice(sums, class_mask), alpha=self.weight_dice)

    def _check(self, logits: Tensor, target: Tensor, class_mask: Tensor) -> None:
        require_tensors(logits, target, class_mask)
        shape = tuple(logits.shape)
        if len(shape) < 3 or shape[1] < 2 or not logits.is_floating_point():
            raise PartialLabelError(
                f"logits are {logits.dtype} of shape {shape}; expected floating point of shape (B, C, *S), where C "
                "counts the background and at least one foreground class."
            )
        if tuple(target.shape) != (shape[0], 1, *shape[2:]):
            raise PartialLabelError(
                f"target has shape {tuple(target.shape)}; logits of shape {shape} need "
                f"{(shape[0], 1, *shape[2:])}: class numbers in one channel, not one-hot."
            )
        require_class_mask(class_mask, shape[:2], "class")
        if self.ignore_label is not None and 0 <= self.ignore_label < shape[1]:
            raise PartialLabelError(
                f"ignore_label is {self.ignore_label}, which is one of the {shape[1]} classes of the logits; expected "
                "a value that no class has."
            )

    def extra_repr(self) -> str:
        """Return the options, for `repr`."""
        names = ("weight_ce", "weight_dice", "batch_dice", "smooth", "do_bg", "ignore_label", "ddp")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def require_tensors(logits: Tensor, target: Tensor, class_mask: Tensor) -> None:
    """Check the types of a loss's arguments.

    Args:
        logits: See `PartialLoss.forward`, as for the others.
        target: Any value.
        class_mask: Any value.

    Raises:
        PartialLabelError: One is no tensor.
    """
    for name, value in (("logits", logits), ("target", target), ("class_mask", class_mask)):
        if not isinstance(value, Tensor):
            raise PartialLabelError(f"{name} is of type {type(value).__name__}; expected a torch.Tensor.")


def require_class_mask(class_mask: Tensor, shape: tuple[int, ...], column: str) -> None:
    """Check shape and dtype of a class mask.

    Args:
        class_mask: The mask.
        shape: Samples and channels of the logits.
        column: What a column stands for: class or region.

    Raises:
        PartialLabelError: It is not bool, or of another shape.
    """
    if tuple(class_mask.shape) != shape or class_mask.dtype != torch.bool:
        raise PartialLabelError(
            f"class_mask is {class_mask.dtype} of shape {tuple(class_mask.shape)}; expected torch.bool of shape "
            f"{shape}, one row per sample and one column per {column}."
        )
