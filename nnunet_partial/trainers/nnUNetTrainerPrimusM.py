"""nnUNetTrainer...PrimusM: every loss with nnU-Net's transformer for volumes, Primus-M."""

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_M_Trainer

from nnunet_partial.losses import AdaptiveBCELoss, AdaptiveCCELoss, MarginalLoss
from nnunet_partial.training.architectures import PrimusMixin
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin


class nnUNetTrainerNaivePrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    loss_class = None


class nnUNetTrainerMarginalPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    loss_class = MarginalLoss


class nnUNetTrainerACCEPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    loss_class = AdaptiveCCELoss


class nnUNetTrainerACCEIgnorePrimusM(nnUNetTrainerACCEPrimusM):
    loss_arguments: ClassVar[dict[str, Any]] = {"background": "ignore"}


class nnUNetTrainerABCEPrimusM(ZeroBackgroundMixin, PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
    loss_class = AdaptiveBCELoss


class nnUNetTrainerMarginalLabelDropoutPrimusM(LabelDropoutMixin, nnUNetTrainerMarginalPrimusM):
    pass


class nnUNetTrainerACCELabelDropoutPrimusM(LabelDropoutMixin, nnUNetTrainerACCEPrimusM):
    pass


class nnUNetTrainerABCELabelDropoutPrimusM(LabelDropoutMixin, nnUNetTrainerABCEPrimusM):
    pass
