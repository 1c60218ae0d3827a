"""Find the class of a trainer, and tell what the networks that it trains give."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_partial.errors import DatasetError
from nnunet_partial.training.mixin import ZeroBackgroundMixin
from nnunet_partial.utils.trainers import trainers_can_be_found


def find_trainer_class(name: str) -> type[Any]:
    """Find the class of a trainer as nnU-Net does, this package's also where nnUNet_extTrainer does not name them.

    Args:
        name: Of the class.

    Returns:
        The class.

    Raises:
        DatasetError: There is none.
    """
    try:
        with trainers_can_be_found(), contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints its search
            found: type[Any] = recursive_find_trainer_class_by_name(name)
    except RuntimeError as problem:
        raise DatasetError(
            f"There is no trainer {name}. Those of this package: nnunet_partial trainers. For one of your own, name "
            "the folder of its file in nnUNet_extTrainer."
        ) from problem
    return found


def has_sigmoids(name: str) -> bool:
    """Tell whether the networks of a trainer have a sigmoid per class, in place of a softmax; regions always have.

    Args:
        name: Of the trainer's class.

    Returns:
        Whether its background logit is 0.

    Raises:
        DatasetError: There is no such trainer.
    """
    return issubclass(find_trainer_class(name), ZeroBackgroundMixin)
