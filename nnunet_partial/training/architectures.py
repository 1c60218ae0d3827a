"""A transformer in place of nnU-Net's U-Net: SwinUNETR, for 2-D and 3-D plans, with any loss.

    class nnUNetTrainerMarginalSwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
        loss_class = MarginalLoss

The network is MONAI's (`pip install 'monai>=1.5'`), imported only when one is built.

Source: Hatamizadeh et al., "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images",
2022, https://arxiv.org/abs/2201.01266.

What nnU-Net's own transformer for volumes, Primus, needs beside a loss: a clear word on its patch, and going on.

    class nnUNetTrainerMarginalPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
        loss_class = MarginalLoss

Source: Wald et al., "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation", 2025,
https://arxiv.org/abs/2503.01835.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import Tensor, nn

from nnunet_partial.errors import PartialLabelError

#: by so much the network shrinks each axis on its way down
SHRINKS_BY = 32

# What a mixin's super() is, is chosen by the class that uses it: some nnUNetTrainer, of which nothing is typed.
_SwinUNETRBase: Any = object


class SwinUNETRMixin(_SwinUNETRBase):
    """To be put before nnU-Net's trainer, after PartialLabelMixin where there is one.

    SwinUNETR from scratch, sized by `feature_size`; any patch will do, see Padded. Deep supervision is off, as it has
    one output. The optimizer is the authors': AdamW with a learning rate of 1e-4 and a weight decay of 1e-5, where
    nnU-Net's own (SGD, 0.01) is far too fast for a transformer; the rate falls as nnU-Net's does.
    https://github.com/Project-MONAI/research-contributions/blob/main/SwinUNETR/BTCV/main.py
    """

    # nnUNetTrainer.__init__ looks up its arguments by the names in this signature, hence no *args.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.initial_lr = 1e-4
        self.weight_decay = 1e-5

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Called by training and prediction alike. Raises PartialLabelError where MONAI is not installed."""
        network = swin_unetr_class()(
            in_channels=num_input_channels,
            out_channels=num_output_channels,
            feature_size=feature_size(configuration_manager.network_arch_init_kwargs["features_per_stage"][0]),
            spatial_dims=len(configuration_manager.patch_size),
            use_checkpoint=True,  # attention computed twice, in the memory that nnU-Net planned for its U-Net
        )
        return Padded(network)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is one output, and nothing to switch."""


def swin_unetr_class() -> type[nn.Module]:
    """MONAI's SwinUNETR. Raises PartialLabelError where MONAI is not installed, or too old."""
    try:
        from monai.networks.nets.swin_unetr import SwinUNETR
    except ModuleNotFoundError as error:
        raise PartialLabelError(
            f"The SwinUNETR trainers need MONAI, and {error.name!r} is not installed. Run: pip install 'monai>=1.5'"
        ) from error
    network: type[nn.Module] = SwinUNETR
    return network


def feature_size(unet_features: int) -> int:
    """Features of SwinUNETR's first stage, a multiple of 12, for a plan whose U-Net has `unet_features` there.

    Three quarters, rounded: 24, MONAI's default, for nnU-Net's 32, which needs about the same memory; at least 12. So a
    plan that was made small makes this network small too.
    """
    return max(12, 12 * round(unet_features / 16))


class Padded(nn.Module):
    """A network that must be able to halve its input five times, for input of any size.

    Zeros, nnU-Net's grey value outside of an image, are added at the far end of each axis, and cut from the output.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        margins = [there - here for here, there in zip(size, padded_size(size), strict=True)]
        # pad() wants the last axis first, (before, after) for each
        padded = nn.functional.pad(image, [side for margin in reversed(margins) for side in (0, margin)])
        inside = (slice(None), slice(None), *(slice(here) for here in size))
        logits: Tensor = self.network(padded)  # (B, K, *padded)
        return logits[inside]  # (B, K, *S)


def padded_size(size: Sequence[int]) -> list[int]:
    """The next multiples of 32, in pixels; more than 32 along one axis, since a single voxel cannot be normalised."""
    padded = [-(-here // SHRINKS_BY) * SHRINKS_BY for here in size]
    if all(there == SHRINKS_BY for there in padded):
        padded[-1] = 2 * SHRINKS_BY
    return padded


#: Primus cuts the patch into cubes of so many voxels along each axis
CUBE = 8

# What a mixin's super() is, is chosen by the class that uses it: one of nnU-Net's Primus trainers.
_PrimusBase: Any = object


class PrimusMixin(_PrimusBase):
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
