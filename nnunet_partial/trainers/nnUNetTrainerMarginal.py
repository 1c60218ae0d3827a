"""Train with the marginal loss: classes that a case is not annotated for are merged into its background."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
    nnUNetTrainerNoMirroring,
)

from nnunet_partial.losses import MarginalLeafDiceLoss, MarginalLoss
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin


class nnUNetTrainerMarginal(PartialLabelMixin, nnUNetTrainer):
    """Train with the marginal loss."""

    loss_class = MarginalLoss


class nnUNetTrainerMarginal_5epochs(nnUNetTrainerMarginal):
    """Train with the marginal loss for 5 epochs."""

    epochs = 5


class nnUNetTrainerMarginal_20epochs(nnUNetTrainerMarginal):
    """Train with the marginal loss for 20 epochs."""

    epochs = 20


class nnUNetTrainerMarginal_50epochs(nnUNetTrainerMarginal):
    """Train with the marginal loss for 50 epochs."""

    epochs = 50


class nnUNetTrainerMarginal_100epochs(nnUNetTrainerMarginal):
    """Train with the marginal loss for 100 epochs."""

    epochs = 100


class nnUNetTrainerMarginal_250epochs(nnUNetTrainerMarginal):
    """Train with the marginal loss for 250 epochs."""

    epochs = 250


class nnUNetTrainerMarginalLabelDropout(LabelDropoutMixin, nnUNetTrainerMarginal):
    """Train with the marginal loss and label dropout."""


class nnUNetTrainerMarginalLeafDice(nnUNetTrainerMarginal):
    """Train with the marginal cross entropy and leaf-Dice."""

    loss_class = MarginalLeafDiceLoss


class nnUNetTrainerMarginalNoMirroring(nnUNetTrainerMarginal, nnUNetTrainerNoMirroring):
    """Train with the marginal loss, never mirrored."""


class nnUNetTrainerMarginal_onlyMirror01(nnUNetTrainerMarginal, nnUNetTrainer_onlyMirror01):
    """Train with the marginal loss, mirrored along the first axis (2-D) or the first two (3-D)."""


class nnUNetTrainerMarginalLabelDropoutNoMirroring(nnUNetTrainerMarginalLabelDropout, nnUNetTrainerNoMirroring):
    """Train with the marginal loss and label dropout, never mirrored."""


class nnUNetTrainerMarginalLabelDropout_onlyMirror01(nnUNetTrainerMarginalLabelDropout, nnUNetTrainer_onlyMirror01):
    """Train with the marginal loss and label dropout, mirrored along the first axis (2-D) or the first two (3-D)."""


class nnUNetTrainerMarginalLeafDiceNoMirroring(nnUNetTrainerMarginalLeafDice, nnUNetTrainerNoMirroring):
    """Train with the marginal cross entropy and leaf-Dice, never mirrored."""


class nnUNetTrainerMarginalLeafDice_onlyMirror01(nnUNetTrainerMarginalLeafDice, nnUNetTrainer_onlyMirror01):
    """Train with the marginal cross entropy and leaf-Dice, mirrored along the first axis (2-D) or the first two."""
