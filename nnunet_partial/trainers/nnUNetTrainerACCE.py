"""Train with the adaptive categorical cross-entropy loss (aCCE): softmax over the annotated classes only."""

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

from nnunet_partial.losses import AdaptiveCCELoss
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin


class nnUNetTrainerACCE(PartialLabelMixin, nnUNetTrainer):
    """Train with aCCE."""

    loss_class = AdaptiveCCELoss


class nnUNetTrainerACCE_5epochs(nnUNetTrainerACCE):
    """Train with aCCE for 5 epochs."""

    epochs = 5


class nnUNetTrainerACCE_20epochs(nnUNetTrainerACCE):
    """Train with aCCE for 20 epochs."""

    epochs = 20


class nnUNetTrainerACCE_50epochs(nnUNetTrainerACCE):
    """Train with aCCE for 50 epochs."""

    epochs = 50


class nnUNetTrainerACCE_100epochs(nnUNetTrainerACCE):
    """Train with aCCE for 100 epochs."""

    epochs = 100


class nnUNetTrainerACCE_250epochs(nnUNetTrainerACCE):
    """Train with aCCE for 250 epochs."""

    epochs = 250


class nnUNetTrainerACCELabelDropout(LabelDropoutMixin, nnUNetTrainerACCE):
    """Train with aCCE and label dropout."""


class nnUNetTrainerACCEIgnore(nnUNetTrainerACCE):
    """Train with aCCE in its other form: softmax over all classes, no cross entropy on background of partial cases."""

    loss_arguments: ClassVar[dict[str, Any]] = {"background": "ignore"}


class nnUNetTrainerACCENoMirroring(nnUNetTrainerACCE, nnUNetTrainerNoMirroring):
    """Train with aCCE, never mirrored."""


class nnUNetTrainerACCE_onlyMirror01(nnUNetTrainerACCE, nnUNetTrainer_onlyMirror01):
    """Train with aCCE, mirrored along the first axis (2-D) or the first two (3-D)."""


class nnUNetTrainerACCELabelDropoutNoMirroring(nnUNetTrainerACCELabelDropout, nnUNetTrainerNoMirroring):
    """Train with aCCE and label dropout, never mirrored."""


class nnUNetTrainerACCELabelDropout_onlyMirror01(nnUNetTrainerACCELabelDropout, nnUNetTrainer_onlyMirror01):
    """Train with aCCE and label dropout, mirrored along the first axis (2-D) or the first two (3-D)."""


class nnUNetTrainerACCEIgnoreNoMirroring(nnUNetTrainerACCEIgnore, nnUNetTrainerNoMirroring):
    """Train with aCCE in its other form, never mirrored."""


class nnUNetTrainerACCEIgnore_onlyMirror01(nnUNetTrainerACCEIgnore, nnUNetTrainer_onlyMirror01):
    """Train with aCCE in its other form, mirrored along the first axis (2-D) or the first two (3-D)."""
