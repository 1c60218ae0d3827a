"""How many kernels the losses would launch on a GPU beside nnU-Net's own, forward and backward; needs no GPU.

PYTHONPATH=tests python benchmarks/launches.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from helpers.launches import Launches
from losses import LOSSES, class_mask, nnunet_loss
from torch import Tensor

from nnunet_partial.losses import _fused


def launches(loss: Callable[[], Tensor]) -> int:
    with Launches() as counted:
        torch.autograd.backward(loss())
    return counted.total


def main() -> None:
    _fused._on_host = lambda x: False  # type: ignore[assignment]
    print(f"{'loss':18s}{'classes':>8s}{'ours':>6s}{'nnU-Net':>9s}{'ratio':>7s}")
    for name, loss in LOSSES.items():
        for classes in (4, 105):
            logits, mask = torch.randn(2, classes, 4, 4, requires_grad=True), class_mask(2, classes, "half unknown")
            target = torch.randint(0, classes, (2, 1, 4, 4), dtype=torch.int16)
            if name == "aBCE, regions":
                target = torch.zeros(logits.shape).scatter_(1, target.long(), 1).bool()
            ours = launches(lambda z=logits, y=target, m=mask, f=loss: f(z, y, m))
            theirs = launches(nnunet_loss(logits, target, name))
            print(f"{name:18s}{classes:8d}{ours:6d}{theirs:9d}{ours / theirs:7.2f}")


if __name__ == "__main__":
    main()
