"""What the three losses share: the settings, the checks of what comes in, and 'cross entropy minus Dice'."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.losses import _terms
from nnunet_partial.losses._terms import Batch, Sums


class PartialLoss(nn.Module):
    """weight_ce * cross entropy - weight_dice * mean soft Dice, over what each sample was annotated for.

    Arguments of the constructor:
        weight_ce, weight_dice: weights of the two parts, not negative; a part of weight 0 is not computed.
        batch_dice: one Dice per class, its sums running over the samples that know the class; otherwise one Dice per
            known (sample, class) pair.
        smooth: added to numerator and denominator of every Dice.
        do_bg: let the background have a Dice too.
        ignore_label: target value of voxels that are left out of everything; None: there is none.
        ddp: reduce over the ranks of torch.distributed, such that the mean over ranks of loss and gradient is that of
            one process with the whole batch.

    Raises PartialLabelError for settings that make no sense.
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
        super().__init__()
        for name, value in (("weight_ce", weight_ce), ("weight_dice", weight_dice), ("smooth", smooth)):
            if not 0 <= value < float("inf"):
                raise PartialLabelError(f"{name} is {value}; expected a finite number, zero or more.")
        if ignore_label is not None and (isinstance(ignore_label, bool) or not isinstance(ignore_label, int)):
            raise PartialLabelError(f"ignore_label is {ignore_label!r}; expected a whole number, or None for none.")
        self.weight_ce = float(weight_ce)
        self.weight_dice = float(weight_dice)
        self.batch_dice = batch_dice
        self.smooth = float(smooth)
        self.do_bg = do_bg
        self.ignore_label = ignore_label
        self.ddp = ddp

    def sums(self, batch: Batch) -> Sums:
        """The loss's own part: sums per sample and class from which `forward` makes the means."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """The loss, a scalar in float32 (float64 for float64 logits), also under autocast.

        logits: (B, C, *S), channel 0 is the background.
        target: (B, 1, *S), whole numbers 0..C-1 or the ignore label, of any dtype. A class that the sample does not
            know counts as 0.
        known: (B, C) bool, which classes each sample was annotated for, or is known to lack. Column 0 counts as True.

        A part that nothing contributes to (nothing known, every voxel ignored) is 0, with gradient 0.
        Raises PartialLabelError for shapes or dtypes that do not fit together. Values are not checked, which would make
        the GPU wait: a target value outside 0..C-1 gives torch's own index error.
        """
        self._check(logits, target, known)
        with torch.autocast(logits.device.type, enabled=False):
            if not (self.weight_ce or self.weight_dice):
                return _terms.nothing(logits)
            batch = _terms.prepare(logits, target, known, self.ignore_label)
            return self._combine(self.sums(batch), batch.known)

    def _combine(self, sums: Sums, known: Tensor) -> Tensor:
        """(B,) and (B, C) sums -> scalar. A part of weight 0 stays out, so that no NaN of it can come in."""
        parts = []
        if self.weight_ce:
            parts.append(self.weight_ce * _terms.mean_entropy(sums, self.ddp))
        if self.weight_dice:
            counted = known if self.do_bg else _terms.foreground(known)
            parts.append(-self.weight_dice * _terms.mean_dice(sums, counted, self.batch_dice, self.smooth, self.ddp))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _check(self, logits: Tensor, target: Tensor, known: Tensor) -> None:
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
        if tuple(known.shape) != shape[:2] or known.dtype != torch.bool:
            raise PartialLabelError(
                f"known is {known.dtype} of shape {tuple(known.shape)}; expected torch.bool of shape "
                f"{shape[:2]}, one row per sample and one column per class."
            )
        if self.ignore_label is not None and 0 <= self.ignore_label < shape[1]:
            raise PartialLabelError(
                f"ignore_label is {self.ignore_label}, which is one of the {shape[1]} classes of the logits; expected "
                "a value that no class has."
            )

    def extra_repr(self) -> str:
        names = ("weight_ce", "weight_dice", "batch_dice", "smooth", "do_bg", "ignore_label", "ddp")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
