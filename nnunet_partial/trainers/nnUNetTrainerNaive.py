"""Train with nnU-Net's own loss, for which what is not annotated is background: the baseline of a comparison."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

from nnunet_partial.training.mixin import PartialLabelMixin


class nnUNetTrainerNaive(PartialLabelMixin, nnUNetTrainer):
    """Train with nnU-Net's own loss."""

    loss_class = None


class nnUNetTrainerNaive_5epochs(nnUNetTrainerNaive):
    """Train with nnU-Net's own loss for 5 epochs."""

    epochs = 5


class nnUNetTrainerNaive_20epochs(nnUNetTrainerNaive):
    """Train with nnU-Net's own loss for 20 epochs."""

    epochs = 20


class nnUNetTrainerNaive_50epochs(nnUNetTrainerNaive):
    """Train with nnU-Net's own loss for 50 epochs."""

    epochs = 50


class nnUNetTrainerNaive_100epochs(nnUNetTrainerNaive):
    """Train with nnU-Net's own loss for 100 epochs."""

    epochs = 100


class nnUNetTrainerNaive_250epochs(nnUNetTrainerNaive):
    """Train with nnU-Net's own loss for 250 epochs."""

    epochs = 250


class nnUNetTrainerNaiveNoMirroring(nnUNetTrainerNaive, nnUNetTrainerNoMirroring):
    """Train with nnU-Net's own loss, never mirrored."""


class nnUNetTrainerNaive_onlyMirror01(nnUNetTrainerNaive, nnUNetTrainer_onlyMirror01):
    """Train with nnU-Net's own loss, mirrored along the first axis (2-D) or the first two (3-D)."""
