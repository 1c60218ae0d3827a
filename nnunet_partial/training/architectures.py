"""Train transformers in place of nnU-Net's U-Net: SwinUNETR for 2-D and 3-D plans, Primus for volumes.

    class nnUNetTrainerMarginalSwinUNETR(PartialLabelMixin, SwinUNETRMixin, nnUNetTrainer):
        loss_class = MarginalLoss

    class nnUNetTrainerMarginalPrimusM(PartialLabelMixin, PrimusMixin, nnUNet_Primus_M_Trainer):
        loss_class = MarginalLoss

SwinUNETR is MONAI's network (the extra `transformer`), which is imported only when one is built. Primus is nnU-Net's
own; its mixin adds what goes wrong there beside the loss: an error that names the patch, and resuming.

References:
    Hatamizadeh et al., "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images", 2022,
    https://arxiv.org/abs/2201.01266.

    Wald et al., "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation", 2025,
    https://arxiv.org/abs/2503.01835.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import Tensor, nn

from nnunet_partial.errors import PartialLabelError, install_hint
from nnunet_partial.utils.checkpoints import safe_numbers

#: Factor by which SwinUNETR downsamples each axis.
DOWNSAMPLING = 32

#: Voxels along each axis of the cubes into which Primus cuts the patch.
PRIMUS_CUBE_VOXELS = 8

# The class that uses a mixin decides what super() is: here some nnUNetTrainer, of which nothing is typed.
_SwinUNETRBase: Any = object


class SwinUNETRMixin(_SwinUNETRBase):
    """Train SwinUNETR from scratch; to be put before nnU-Net's trainer, after PartialLabelMixin where there is one.

    The network is sized by `feature_size`, and takes patches of any size (`PaddedNetwork`). Deep supervision is off, as
    it has one output. The optimizer is the authors': AdamW with a learning rate of 1e-4 and a weight decay of 1e-5,
    where nnU-Net's own (SGD, 0.01) is far too fast for a transformer; the rate falls as nnU-Net's does.

    References:
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
        """Build SwinUNETR, in training and prediction alike.

        Args:
            plans_manager: nnU-Net's, as all other arguments; not used.
            configuration_manager: Of the configuration that is trained: features of its U-Net, and patch size.
            num_input_channels: Channels of the image.
            num_output_channels: Classes, background among them.
            enable_deep_supervision: Not used; there is one output.

        Returns:
            The network, padded.

        Raises:
            PartialLabelError: MONAI is not installed.
        """
        network = import_swin_unetr()(
            in_channels=num_input_channels,
            out_channels=num_output_channels,
            feature_size=feature_size(configuration_manager.network_arch_init_kwargs["features_per_stage"][0]),
            spatial_dims=len(configuration_manager.patch_size),
            use_checkpoint=True,  # attention computed twice, in the memory that nnU-Net planned for its U-Net
        )
        return PaddedNetwork(network)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Make the authors' optimizer.

        Returns:
            AdamW, and nnU-Net's learning-rate scheduler.
        """
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: there is one output.

        Args:
            enabled: Not used.
        """


def import_swin_unetr() -> type[nn.Module]:
    """Import MONAI's SwinUNETR.

    Returns:
        The class.

    Raises:
        PartialLabelError: MONAI is not installed, or too old.
    """
    try:
        from monai.networks.nets.swin_unetr import SwinUNETR
    except ModuleNotFoundError as error:
        raise PartialLabelError(
            f"The SwinUNETR trainers need MONAI, and {error.name!r} is missing: {install_hint('transformer')}."
        ) from error
    network: type[nn.Module] = SwinUNETR
    return network


def feature_size(unet_features: int) -> int:
    """Size SwinUNETR's first stage by that of the planned U-Net.

    Three quarters of its features, rounded: 24, MONAI's default, for nnU-Net's 32, which needs about the same memory.
    So a plan that was made small makes this network small, too.

    Args:
        unet_features: Features of the first stage of the U-Net.

    Returns:
        Features of the first stage of SwinUNETR, a multiple of 12, at least 12.
    """
    return max(12, 12 * round(unet_features / 16))


class PaddedNetwork(nn.Module):
    """Let a network that must be able to halve its input five times take input of any size.

    Zeros, nnU-Net's gray value outside of an image, are added at the far end of each axis, and cut from the output.

    Args:
        network: Takes (B, channels, *S) and gives (B, C, *S), where each of S is a multiple of 32.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the network's output for an image of any size.

        Args:
            image: (B, channels, *S).

        Returns:
            Logits (B, C, *S).
        """
        size = image.shape[2:]
        margins = [padded - given for given, padded in zip(size, padded_size(size), strict=True)]
        # pad() wants the last axis first, (before, after) for each
        padded = nn.functional.pad(image, [side for margin in reversed(margins) for side in (0, margin)])
        inside = (slice(None), slice(None), *(slice(length) for length in size))
        logits: Tensor = self.network(padded)  # (B, K, *padded)
        return logits[inside]  # (B, K, *S)


def padded_size(size: Sequence[int]) -> list[int]:
    """Round the size of a patch up to multiples of 32.

    Args:
        size: Voxels along each axis.

    Returns:
        Voxels along each axis after padding; more than 32 along one, since a single voxel cannot be normalized.
    """
    padded = [-(-length // DOWNSAMPLING) * DOWNSAMPLING for length in size]
    if all(length == DOWNSAMPLING for length in padded):
        padded[-1] = 2 * DOWNSAMPLING
    return padded


# As above: one of nnU-Net's Primus trainers.
_PrimusBase: Any = object


class PrimusMixin(_PrimusBase):
    """Name the patch that Primus cannot take, and let it resume; to be put before a Primus trainer of nnU-Net."""

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build Primus, unless the patch cannot be cut into cubes, for which nnU-Net gives a bare assertion.

        Args:
            plans_manager: nnU-Net's, as all other arguments.
            configuration_manager: Of the configuration that is trained, with its patch size in voxels.
            num_input_channels: Channels of the image.
            num_output_channels: Classes, background among them.
            enable_deep_supervision: Whether there is an output for each resolution.

        Returns:
            The network.

        Raises:
            PartialLabelError: The patch does not have three sides that are multiples of 8 voxels.
        """
        patch = [int(size) for size in configuration_manager.patch_size]
        if len(patch) != 3 or any(size % PRIMUS_CUBE_VOXELS for size in patch):
            raise PartialLabelError(
                f"Primus cannot work on patches of {patch} voxels; expected three sides, each a multiple of "
                f"{PRIMUS_CUBE_VOXELS}. Take a 3-D configuration, and change its patch_size in the plans if needed."
            )
        network: nn.Module = super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        return network

    def load_checkpoint(self, checkpoint: Any, /) -> None:
        """Load a checkpoint as nnU-Net does, and tell PyTorch that the numbers in its log are safe.

        nnU-Net's Primus trainers (2.8.1) do not, and cannot resume with PyTorch 2.6 or newer.

        Args:
            checkpoint: Path of the checkpoint, or its content; by position, as nnU-Net is about to rename it.
        """
        with safe_numbers():
            super().load_checkpoint(checkpoint)
