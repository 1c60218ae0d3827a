"""Train with every loss and the transformer SwinUNETR, in 2-D and 3-D."""

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.losses import AdaptiveBCELoss, AdaptiveCCELoss, ExclusiveBCELoss, MarginalLeafDiceLoss, MarginalLoss
from nnunet_partial.training.architectures import SwinUNETRMixin
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin, ZeroBackgroundMixin


class nnUNetTrainerNaiveSwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    """Train with nnU-Net's own loss and SwinUNETR."""

    loss_class = None


class nnUNetTrainerMarginalSwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    """Train with the marginal loss and SwinUNETR."""

    loss_class = MarginalLoss


class nnUNetTrainerACCESwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    """Train with aCCE and SwinUNETR."""

    loss_class = AdaptiveCCELoss


class nnUNetTrainerACCEIgnoreSwinUNETR(nnUNetTrainerACCESwinUNETR):
    """Train with aCCE in its form `ignore` and SwinUNETR."""

    loss_arguments: ClassVar[dict[str, Any]] = {"background": "ignore"}


class nnUNetTrainerABCESwinUNETR(ZeroBackgroundMixin, PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
    """Train with aBCE and SwinUNETR."""

    loss_class = AdaptiveBCELoss


class nnUNetTrainerMarginalLabelDropoutSwinUNETR(LabelDropoutMixin, nnUNetTrainerMarginalSwinUNETR):
    """Train with the marginal loss, label dropout and SwinUNETR."""


class nnUNetTrainerACCELabelDropoutSwinUNETR(LabelDropoutMixin, nnUNetTrainerACCESwinUNETR):
    """Train with aCCE, label dropout and SwinUNETR."""


class nnUNetTrainerABCELabelDropoutSwinUNETR(LabelDropoutMixin, nnUNetTrainerABCESwinUNETR):
    """Train with aBCE, label dropout and SwinUNETR."""


class nnUNetTrainerMarginalLeafDiceSwinUNETR(nnUNetTrainerMarginalSwinUNETR):
    """Train with the marginal cross entropy, leaf-Dice and SwinUNETR."""

    loss_class = MarginalLeafDiceLoss


class nnUNetTrainerABCEExclusiveSwinUNETR(nnUNetTrainerABCESwinUNETR):
    """Train with aBCE of structures that exclude each other and SwinUNETR."""

    loss_class = ExclusiveBCELoss
