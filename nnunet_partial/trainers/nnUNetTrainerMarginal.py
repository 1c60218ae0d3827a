"""nnUNetTrainerMarginal: the background of a case may hide what nobody drew."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.losses import MarginalLoss
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin


class nnUNetTrainerMarginal(PartialLabelMixin, nnUNetTrainer):
    loss_class = MarginalLoss


class nnUNetTrainerMarginal_5epochs(nnUNetTrainerMarginal):
    epochs = 5


class nnUNetTrainerMarginal_20epochs(nnUNetTrainerMarginal):
    epochs = 20


class nnUNetTrainerMarginal_50epochs(nnUNetTrainerMarginal):
    epochs = 50


class nnUNetTrainerMarginal_100epochs(nnUNetTrainerMarginal):
    epochs = 100


class nnUNetTrainerMarginal_250epochs(nnUNetTrainerMarginal):
    epochs = 250


class nnUNetTrainerMarginalLabelDropout(LabelDropoutMixin, nnUNetTrainerMarginal):
    pass
