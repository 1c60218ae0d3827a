"""nnUNetTrainerACCE: cross entropy and Dice over the annotated channels alone."""

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.losses import AdaptiveCCELoss
from nnunet_partial.training.loss_wrapper import LabelDropoutMixin
from nnunet_partial.training.mixin import PartialLabelMixin


class nnUNetTrainerACCE(PartialLabelMixin, nnUNetTrainer):
    loss_class = AdaptiveCCELoss


class nnUNetTrainerACCE_5epochs(nnUNetTrainerACCE):
    epochs = 5


class nnUNetTrainerACCE_20epochs(nnUNetTrainerACCE):
    epochs = 20


class nnUNetTrainerACCE_50epochs(nnUNetTrainerACCE):
    epochs = 50


class nnUNetTrainerACCE_100epochs(nnUNetTrainerACCE):
    epochs = 100


class nnUNetTrainerACCE_250epochs(nnUNetTrainerACCE):
    epochs = 250


class nnUNetTrainerACCELabelDropout(LabelDropoutMixin, nnUNetTrainerACCE):
    pass


class nnUNetTrainerACCEIgnore(nnUNetTrainerACCE):
    """The loss's other form: softmax over all classes, no cross entropy on the background of incomplete cases."""

    loss_arguments: ClassVar[dict[str, Any]] = {"background": "ignore"}
