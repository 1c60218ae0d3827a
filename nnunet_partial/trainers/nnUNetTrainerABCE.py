"""nnUNetTrainerABCE: one sigmoid per structure, annotated pairs only."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.losses import AdaptiveBCELoss
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin


class nnUNetTrainerABCE(ZeroBackgroundMixin, PartialLabelMixin, nnUNetTrainer):
    loss_class = AdaptiveBCELoss


class nnUNetTrainerABCE_5epochs(nnUNetTrainerABCE):
    epochs = 5


class nnUNetTrainerABCE_20epochs(nnUNetTrainerABCE):
    epochs = 20


class nnUNetTrainerABCE_50epochs(nnUNetTrainerABCE):
    epochs = 50


class nnUNetTrainerABCE_100epochs(nnUNetTrainerABCE):
    epochs = 100


class nnUNetTrainerABCE_250epochs(nnUNetTrainerABCE):
    epochs = 250


class nnUNetTrainerABCELabelDropout(LabelDropoutMixin, nnUNetTrainerABCE):
    pass
