"""nnUNetTrainerNaive: nnU-Net's own loss, where what nobody drew is background; the fair baseline."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.training.mixin import PartialLabelMixin


class nnUNetTrainerNaive(PartialLabelMixin, nnUNetTrainer):
    loss_class = None


class nnUNetTrainerNaive_5epochs(nnUNetTrainerNaive):
    epochs = 5


class nnUNetTrainerNaive_20epochs(nnUNetTrainerNaive):
    epochs = 20


class nnUNetTrainerNaive_50epochs(nnUNetTrainerNaive):
    epochs = 50


class nnUNetTrainerNaive_100epochs(nnUNetTrainerNaive):
    epochs = 100


class nnUNetTrainerNaive_250epochs(nnUNetTrainerNaive):
    epochs = 250
