"""Train with every loss and nnU-Net's transformer for volumes, Primus-M."""

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_M_Trainer

from nnunet_partial.losses import AdaptiveBCELoss, AdaptiveCCELoss, ExclusiveBCELoss, MarginalLeafDiceLoss, MarginalLoss
from nnunet_partial.training.architectures import PrimusMixin
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin


class nnUNetTrainerNaivePrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    """Train with nnU-Net's own loss and Primus-M."""

    loss_class = None


class nnUNetTrainerMarginalPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    """Train with the marginal loss and Primus-M."""

    loss_class = MarginalLoss


class nnUNetTrainerACCEPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    """Train with aCCE and Primus-M."""

    loss_class = AdaptiveCCELoss


class nnUNetTrainerACCEIgnorePrimusM(nnUNetTrainerACCEPrimusM):
    """Train with aCCE in its form `ignore` and Primus-M."""

    loss_arguments: ClassVar[dict[str, Any]] = {"background": "ignore"}


class nnUNetTrainerABCEPrimusM(ZeroBackgroundMixin, PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    """Train with aBCE and Primus-M."""

    loss_class = AdaptiveBCELoss


class nnUNetTrainerMarginalLabelDropoutPrimusM(LabelDropoutMixin, nnUNetTrainerMarginalPrimusM):
    """Train with the marginal loss, label dropout and Primus-M."""


class nnUNetTrainerACCELabelDropoutPrimusM(LabelDropoutMixin, nnUNetTrainerACCEPrimusM):
    """Train with aCCE, label dropout and Primus-M."""


class nnUNetTrainerABCELabelDropoutPrimusM(LabelDropoutMixin, nnUNetTrainerABCEPrimusM):
    """Train with aBCE, label dropout and Primus-M."""


class nnUNetTrainerMarginalLeafDicePrimusM(nnUNetTrainerMarginalPrimusM):
    """Train with the marginal cross entropy, leaf-Dice and Primus-M."""

    loss_class = MarginalLeafDiceLoss


class nnUNetTrainerABCEExclusivePrimusM(nnUNetTrainerABCEPrimusM):
    """Train with aBCE of structures that exclude each other and Primus-M."""

    loss_class = ExclusiveBCELoss
