"""Train with the adaptive binary cross-entropy loss (aBCE): one sigmoid per structure, annotated structures only."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

from nnunet_partial.losses import AdaptiveBCELoss, ExclusiveBCELoss
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin


class nnUNetTrainerABCE(ZeroBackgroundMixin, PartialLabelMixin, nnUNetTrainer):
    """Train with aBCE."""

    loss_class = AdaptiveBCELoss


class nnUNetTrainerABCE_5epochs(nnUNetTrainerABCE):
    """Train with aBCE for 5 epochs."""

    epochs = 5


class nnUNetTrainerABCE_20epochs(nnUNetTrainerABCE):
    """Train with aBCE for 20 epochs."""

    epochs = 20


class nnUNetTrainerABCE_50epochs(nnUNetTrainerABCE):
    """Train with aBCE for 50 epochs."""

    epochs = 50


class nnUNetTrainerABCE_100epochs(nnUNetTrainerABCE):
    """Train with aBCE for 100 epochs."""

    epochs = 100


class nnUNetTrainerABCE_250epochs(nnUNetTrainerABCE):
    """Train with aBCE for 250 epochs."""

    epochs = 250


class nnUNetTrainerABCELabelDropout(LabelDropoutMixin, nnUNetTrainerABCE):
    """Train with aBCE and label dropout."""


class nnUNetTrainerABCEExclusive(nnUNetTrainerABCE):
    """Train with aBCE of structures that exclude each other."""

    loss_class = ExclusiveBCELoss


class nnUNetTrainerABCENoMirroring(nnUNetTrainerABCE, nnUNetTrainerNoMirroring):
    """Train with aBCE, never mirrored."""


class nnUNetTrainerABCE_onlyMirror01(nnUNetTrainerABCE, nnUNetTrainer_onlyMirror01):
    """Train with aBCE, mirrored along the first axis (2-D) or the first two (3-D)."""


class nnUNetTrainerABCELabelDropoutNoMirroring(nnUNetTrainerABCELabelDropout, nnUNetTrainerNoMirroring):
    """Train with aBCE and label dropout, never mirrored."""


class nnUNetTrainerABCELabelDropout_onlyMirror01(nnUNetTrainerABCELabelDropout, nnUNetTrainer_onlyMirror01):
    """Train with aBCE and label dropout, mirrored along the first axis (2-D) or the first two (3-D)."""


class nnUNetTrainerABCEExclusiveNoMirroring(nnUNetTrainerABCEExclusive, nnUNetTrainerNoMirroring):
    """Train with aBCE of structures that exclude each other, never mirrored."""


class nnUNetTrainerABCEExclusive_onlyMirror01(nnUNetTrainerABCEExclusive, nnUNetTrainer_onlyMirror01):
    """Train with aBCE of structures that exclude each other, mirrored along the first axis (2-D) or the first two."""
