"""Count the kernels that the losses would launch on a GPU, and their peak memory, beside nnU-Net's; needs no GPU.

Forward and backward, everything on the CPU: the operations are counted. Memory is beyond logits, target and mask.

PYTHONPATH=tests python benchmarks/launches.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from helpers.launches import Launches
from losses import LOSSES, class_mask, nnunet_loss
from torch import Tensor

from nnunet_partial.losses import _fused


def count(loss: Callable[[], Tensor]) -> Launches:
    with Launches() as launches:
        torch.autograd.backward(loss())
    return launches


def main() -> None:
    _fused._on_host = lambda x: False  # type: ignore[assignment]
    print(f"{'loss':18s}{'classes':>8s}{'ours':>6s}{'nnU-Net':>9s}{'ratio':>7s}{'memory, ratio':>15s}")
    for name, loss in LOSSES.items():
        for classes in (4, 105):
            logits, mask = torch.randn(2, classes, 64, 64, requires_grad=True), class_mask(2, classes, "half unknown")
            target = torch.randint(0, classes, (2, 1, 64, 64), dtype=torch.int16)
            if name == "aBCE, regions":
                target = torch.zeros(logits.shape).scatter_(1, target.long(), 1).bool()
            ours = count(lambda z=logits, y=target, m=mask, f=loss: f(z, y, m))
            logits.grad = None
            theirs = count(nnunet_loss(logits, target, name))
            memory = ours.peak_bytes / theirs.peak_bytes
            print(
                f"{name:18s}{classes:8d}{ours.total:6d}{theirs.total:9d}{ours.total / theirs.total:7.2f}{memory:15.2f}"
            )


if __name__ == "__main__":
    main()
