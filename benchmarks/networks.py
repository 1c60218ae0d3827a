"""Compare the networks: parameters, what training keeps in memory for one image, and the time of a training step.

    python benchmarks/networks.py

The U-Nets are what nnU-Net plans for such images; SwinUNETR is sized from the same plan. One thread, on the CPU; time
is the processor's, so that other programs disturb little. Memory: activations that the backward pass needs, no weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn

from nnunet_partial.training.architectures import SwinUNETRMixin

#: name -> image size, batch, features of the plan's U-Net
PLANS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    "2-D 64 x 64, made small": ((64, 64), 8, (16, 32, 64, 64)),
    "2-D 128 x 128": ((128, 128), 4, (32, 64, 128, 256, 512, 512)),
    "3-D 32 x 64 x 64": ((32, 64, 64), 1, (32, 64, 128, 256, 320)),
}


def unet(kind: Any, dimensions: int, features: Sequence[int], **convolutions: Any) -> nn.Module:
    flat = dimensions == 2
    network: nn.Module = kind(
        input_channels=1,
        n_stages=len(features),
        features_per_stage=list(features),
        conv_op=nn.Conv2d if flat else nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (len(features) - 1),
        num_classes=4,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **convolutions,
    )
    return network


def networks(size: Sequence[int], features: Sequence[int]) -> dict[str, Callable[[], nn.Module]]:
    plan = SimpleNamespace(patch_size=size, network_arch_init_kwargs={"features_per_stage": features})
    blocks = (1, 3, 4, 6, 6, 6, 6)[: len(features)]
    return {
        "U-Net": lambda: unet(PlainConvUNet, len(size), features, n_conv_per_stage=2, n_conv_per_stage_decoder=2),
        "ResEnc U-Net": lambda: unet(
            ResidualEncoderUNet, len(size), features, n_blocks_per_stage=blocks, n_conv_per_stage_decoder=1
        ),
        "SwinUNETR": lambda: SwinUNETRMixin.build_network_architecture(None, plan, 1, 4, False),
    }


def kept_mib(network: nn.Module, image: Tensor) -> float:
    """Return MiB of activations that autograd keeps for the backward pass, each storage once."""
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = 0 if storage.data_ptr() in weights else storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(image)
    del output
    return sum(kept.values()) / 2**20


def seconds_of_a_step(network: nn.Module, image: Tensor, repeats: int = 3) -> float:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        optimizer.zero_grad()
        outputs = network(image)
        torch.stack(
            [output.square().mean() for output in (outputs if isinstance(outputs, list) else [outputs])]
        ).sum().backward()
        optimizer.step()
        times.append(time.process_time() - started)
    return median(times[1:])  # the first warms up


def main() -> None:
    torch.set_num_threads(1)
    for title, (size, batch, features) in PLANS.items():
        print(f"{title}, batch {batch}")
        image = torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(0))
        for name, build in networks(size, features).items():
            network = build()
            millions = sum(weight.numel() for weight in network.parameters()) / 1e6
            kept = kept_mib(network, image[:1])
            print(
                f"  {name:13} {millions:6.1f} M {kept:6.0f} MiB {seconds_of_a_step(network, image):7.2f} s", flush=True
            )


if __name__ == "__main__":
    main()
