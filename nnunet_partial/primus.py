"""What nnU-Net's own transformer for volumes, Primus, needs beside a loss: a clear word on its patch, and going on.

    class nnUNetTrainerMarginalPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
        loss_class = MarginalLoss

Source: Wald et al., "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation", 2025,
https://arxiv.org/abs/2503.01835.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_partial.errors import PartialLabelError

#: Primus cuts the patch into cubes of so many voxels along each axis
CUBE = 8

# What a mixin's super() is, is chosen by the class that uses it: one of nnU-Net's Primus trainers.
_Trainer: Any = object


class PrimusMixin(_Trainer):
    """To be put before one of nnU-Net's Primus trainers, after PartialLabelMixin."""

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Raises PartialLabelError for a patch that cannot be cut into cubes, where nnU-Net gives a bare assertion."""
        patch = [int(size) for size in configuration_manager.patch_size]
        if len(patch) != 3 or any(size % CUBE for size in patch):
            raise PartialLabelError(
                f"Primus cannot work on patches of {patch} voxels; expected three sides, each a multiple of {CUBE}. "
                "Take a 3-D configuration, and change its patch_size in the plans file if need be."
            )
        network: nn.Module = super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        return network

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """PyTorch must be told that the numbers in nnU-Net's log are no danger; nnU-Net forgets that for Primus."""
        number = np.float64(0)
        numbers = (type(np.dtype(kind)) for kind in ("float64", "float32"))
        makers: list[Any] = [number.__reduce__()[0], np.dtype, *numbers]
        with torch.serialization.safe_globals(makers):
            super().load_checkpoint(filename_or_checkpoint)
