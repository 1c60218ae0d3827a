"""Two processes that train together: `ddp_worker.py FOLDER` computes every case in both; each writes what it got.

Run by test_ddp.py, which computes the same cases in one process. They are forks of this one, which has imported PyTorch
once. A tiny network (one 1 x 1 convolution) is wrapped in
DistributedDataParallel, which averages its gradients over the processes, as in nnU-Net.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers.loss_batches import NESTED, VARIANTS, Batch, Variant, known_from, make_batch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

RANKS = 2
CLASSES = 4
IGNORE = 4
PATIENCE = timedelta(seconds=40)

PATTERNS: dict[str, list[list[int]]] = {
    "everything known": [[1, 2, 3]] * 4,
    "mixed": [[1, 2, 3], [1, 3], [2], []],
    "class 3 on the first rank only, class 2 on none": [[1, 3], [1], [1], [1]],
    "nothing known on the first rank": [[], [], [1, 2], [1, 2, 3]],
    "nothing known on the last rank": [[1, 2, 3], [2], [], []],
    "nothing known at all": [[], [], [], []],
}


@dataclass(frozen=True)
class Case:
    """Four samples, dealt out to two ranks as `shares` says, for one loss."""

    variant: Variant
    pattern: str
    shares: tuple[int, int]
    options: dict[str, Any]
    ignored: str  # "no": no ignore label; "some" voxels; "first": all of the first rank's; "all"
    space: tuple[int, ...] = (3, 3)

    def __str__(self) -> str:
        return f"{self.variant}, {self.pattern}, {self.shares}, {self.options}, ignored: {self.ignored}, {self.space}"

    def loss(self, ddp: bool) -> torch.nn.Module:
        ignore_label = None if self.ignored == "no" else IGNORE
        return self.variant.build(ignore_label=ignore_label, ddp=ddp, **self.options)

    def batch(self) -> Batch:
        """`logits` is the input of the network here: (4, 2, *S), two features per voxel."""
        known = known_from(PATTERNS[self.pattern], CLASSES)
        made = make_batch(60, self.space, known, ignore_label=None if self.ignored == "no" else IGNORE)
        target = made.target
        if self.ignored == "first":
            target[: self.shares[0]] = IGNORE
        elif self.ignored == "all":
            target[:] = IGNORE
        return Batch(made.logits[:, :2], target, known)

    def of_rank(self, rank: int) -> Batch:
        first = sum(self.shares[:rank])
        return self.batch().samples(*range(first, first + self.shares[rank]))


def cases() -> Iterator[Case]:
    for variant in [*VARIANTS, NESTED]:
        for batch_dice in (True, False):
            options = {"batch_dice": batch_dice}
            for pattern in PATTERNS:
                yield Case(variant, pattern, (2, 2), options, "no")
                yield Case(variant, pattern, (3, 1), options, "some")
            for ignored in ("first", "all"):
                yield Case(variant, "mixed", (1, 3), options, ignored)
            yield Case(variant, "mixed", (2, 2), options, "some", space=(2, 3, 2))
            for weights in ({"weight_ce": 0.0}, {"weight_dice": 0.0}):
                yield Case(variant, "mixed", (1, 3), {**options, **weights}, "some")
            if variant.has_background:
                yield Case(variant, "mixed", (3, 1), {**options, "do_bg": True}, "some")


class Network(torch.nn.Module):
    """Logits are a linear map of two features, the same in each voxel."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(61)
        self.weight = torch.nn.Parameter(torch.randn(CLASSES, 2, generator=rng, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        return torch.einsum("cf,bf...->bc...", self.weight, features)


def step(network: torch.nn.Module, loss: torch.nn.Module, batch: Batch) -> tuple[float, Tensor, float]:
    """Loss, gradient of the weight, and the loss once more without a graph, as validation computes it."""
    network.zero_grad()
    value = loss(network(batch.logits), batch.target, batch.known)
    value.backward()
    (weight,) = network.parameters()
    assert weight.grad is not None
    with torch.no_grad():
        again = loss(network(batch.logits), batch.target, batch.known)
    return float(value.detach()), weight.grad.clone(), float(again)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=(folder / "meeting-point").as_uri(), rank=rank, world_size=RANKS, timeout=PATIENCE
    )
    network = DistributedDataParallel(Network())
    results = []
    with (folder / f"rank{rank}.log").open("w", encoding="utf-8") as log:
        for case in cases():
            print(case, file=log, flush=True)  # so that a process that waits for ever says where
            results.append(step(network, case.loss(ddp=True), case.of_rank(rank)))
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.start_processes(work, (Path(sys.argv[1]),), nprocs=RANKS, start_method="fork")
