"""Label dropout: forgets drawn structures at random, so that the scanner does not give away which structures there are.

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
from torch import Tensor

# What a mixin's super() is, is chosen by the class that uses it: a trainer with PartialLabelMixin.
_Trainer: Any = object


def forget(known: Tensor, partial: Tensor, probability: float) -> Tensor:
    """known (B, C) bool with classes switched off at random; only those that `partial` (C,) bool names.

    The losses count a target of a class that the sample does not know as background, so the target needs no change.
    Draws from torch's generator, on the CPU.
    """
    return known & ~(partial & (torch.rand(known.shape) < probability))


class LabelDropoutMixin(_Trainer):
    """To be put before a trainer that has PartialLabelMixin and one of the losses of `nnunet_partial.losses`."""

    label_dropout: ClassVar[float] = 0.5

    def known_in_training(self, batch: dict[str, Any]) -> Tensor:
        return forget(super().known_in_training(batch), self.known_classes.partial, self.label_dropout)
