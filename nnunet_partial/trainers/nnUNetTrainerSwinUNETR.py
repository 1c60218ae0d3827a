"""nnUNetTrainer...SwinUNETR: every loss with the transformer SwinUNETR, in 2-D and 3-D."""

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.losses import AdaptiveBCELoss, AdaptiveCCELoss, MarginalLoss
from nnunet_partial.training.architectures import SwinUNETRMixin
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin


class nnUNetTrainerNaiveSwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    loss_class = None


class nnUNetTrainerMarginalSwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    loss_class = MarginalLoss


class nnUNetTrainerACCESwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    loss_class = AdaptiveCCELoss


class nnUNetTrainerACCEIgnoreSwinUNETR(nnUNetTrainerACCESwinUNETR):
    loss_arguments: ClassVar[dict[str, Any]] = {"background": "ignore"}


class nnUNetTrainerABCESwinUNETR(ZeroBackgroundMixin, PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    loss_class = AdaptiveBCELoss


class nnUNetTrainerMarginalLabelDropoutSwinUNETR(LabelDropoutMixin, nnUNetTrainerMarginalSwinUNETR):
    pass


class nnUNetTrainerACCELabelDropoutSwinUNETR(LabelDropoutMixin, nnUNetTrainerACCESwinUNETR):
    pass


class nnUNetTrainerABCELabelDropoutSwinUNETR(LabelDropoutMixin, nnUNetTrainerABCESwinUNETR):
    pass
