"""Measure time and memory of the losses beside nnU-Net's own on the same logits: what `make bench` runs.

Time: forward plus backward. Each line is measured in a process of its own, as the memory that an earlier measurement
returned to the system would change it: after three warm-ups, 15 pairs of our loss and nnU-Net's in turn. The columns
are the medians in milliseconds and the median of the ratios. On one thread it is processor time of the process, which
other programs disturb little, on several the time on the clock. Part of it is the system handing out fresh memory: a
loss that allocates much pays for it here as in training. On a GPU (`--device cuda`) all runs in one process, time is
that on the clock until the GPU has finished, and memory is what PyTorch counted on it.

Memory: the highest sum of what torch had allocated at one time during forward plus backward, beyond the logits and the
target that were there before; the gradient counts. Taken from the allocations and releases that torch.profiler records.

Marginal and aCCE stand beside DC_and_CE_loss, aBCE beside DC_and_BCE_loss with the making of its one-hot target; both
with nnU-Net's settings (batch Dice, no background, smooth 1e-5), and leaf-Dice beside the one with background. Both
losses of regions get the same target, with as many regions as there are classes else.

    python benchmarks/losses.py [--others] [--shape 12 4 256 256] [--loss marginal] [--threads 1 2] [--pairs 15]
                                [--device cuda]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from other_losses import OTHERS
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from nnunet_partial.losses import (
    AdaptiveBCELoss,
    AdaptiveCCELoss,
    ExclusiveBCELoss,
    MarginalLeafDiceLoss,
    MarginalLoss,
    RegionBCELoss,
)

SHAPES = [
    (12, 4, 256, 256),
    (49, 6, 128, 128),
    (2, 5, 48, 80, 80),
    (1, 105, 48, 48, 48),
    (8, 4, 112, 112),
]  # (B, C, *S)
SITUATIONS = ("all known", "half unknown", "mixed")
WARM_UPS = 3
MIB = 2**20
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "marginal": MarginalLoss(),
    "aCCE": AdaptiveCCELoss(),
    "aCCE, ignore": AdaptiveCCELoss(background="ignore"),
    "aBCE": AdaptiveBCELoss(),
    "marginal, leaf": MarginalLeafDiceLoss(),
    "aBCE, exclusive": ExclusiveBCELoss(),
    "aBCE, regions": RegionBCELoss(),
}


class Task(NamedTuple):
    """Say what one process measures."""

    shape: tuple[int, ...]
    loss: str
    situation: str
    threads: int
    pairs: int
    device: str


class Result(NamedTuple):
    """Hold medians: milliseconds of ours and of nnU-Net's, their ratio; peak memory in bytes of both."""

    ours_ms: float
    nnunet_ms: float
    ratio: float
    ours_bytes: int
    nnunet_bytes: int


def class_mask(samples: int, classes: int, situation: str) -> Tensor:
    """Make a mask of all classes, of the first half of them, or alternately of the one and the other."""
    mask = torch.ones(samples, classes, dtype=torch.bool)
    if situation != "all known":
        mask[:: 2 if situation == "mixed" else 1, (classes + 1) // 2 :] = False
    return mask


def nnunet_loss(logits: Tensor, target: Tensor, loss_name: str) -> Callable[[], Tensor]:
    """Return one of nnU-Net's own two losses on these logits (B, C, *S) and target (B, 1, *S)."""
    dice = {"batch_dice": True, "smooth": 1e-5, "ddp": False}
    if not is_binary(loss_name):
        dice["do_bg"] = loss_name == "marginal, leaf"
        loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
        return lambda: loss(logits, target)
    loss = DC_and_BCE_loss({}, {**dice, "do_bg": True}, dice_class=MemoryEfficientSoftDiceLoss)
    if target.dtype == torch.bool:
        return lambda: loss(logits, target)

    def with_one_hot_target() -> Tensor:
        one_hot = torch.zeros(logits.shape, device=logits.device).scatter_(1, target.long(), 1)[:, 1:]
        return loss(logits[:, 1:], one_hot)

    return with_one_hot_target


def seconds(loss: Callable[[], Tensor], logits: Tensor) -> float:
    """Run a forward and backward pass."""
    on_host = logits.device.type == "cpu"
    clock = time.process_time if on_host and torch.get_num_threads() == 1 else time.perf_counter
    logits.grad = None
    if not on_host:
        torch.cuda.synchronize()
    start = clock()
    torch.autograd.backward(loss())
    if not on_host:
        torch.cuda.synchronize()
    return clock() - start


def peak_bytes(loss: Callable[[], Tensor], logits: Tensor) -> int:
    """Return the most memory that a forward and backward pass held at one time, beyond its input."""
    logits.grad = None
    if logits.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        torch.autograd.backward(loss())
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        torch.autograd.backward(loss())
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(task: Task) -> Result:
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    samples, classes = task.shape[:2]
    logits = torch.randn(task.shape).to(task.device).requires_grad_()
    target = torch.randint(0, classes, (samples, 1, *task.shape[2:]), dtype=torch.int16)
    if task.loss == "aBCE, regions":  # as many of them as classes, of bool as the loader gives them
        target = torch.zeros(task.shape).scatter_(1, target.long(), 1).bool()
    target, mask = target.to(task.device), class_mask(samples, classes, task.situation).to(task.device)
    loss = {**LOSSES, **OTHERS}[task.loss]
    both = [lambda: loss(logits, target, mask), nnunet_loss(logits, target, task.loss)]
    times = [[seconds(call, logits) for call in both] for _ in range(WARM_UPS + task.pairs)][WARM_UPS:]
    ours, theirs = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    return Result(ours, theirs, ratio, *(peak_bytes(call, logits) for call in both))


def is_binary(loss: str) -> bool:
    """Return whether it is measured beside DC_and_BCE_loss."""
    return loss.startswith(("aBCE", "MultiTalent"))


def in_new_process(task: Task) -> Result:
    with multiprocessing.get_context("fork").Pool(1) as pool:  # this process has computed nothing
        return pool.apply(measure, (task,))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the losses beside nnU-Net's own.")
    parser.add_argument("--shape", type=int, nargs="+", help=f"shape of the logits: B C and the axes; else {SHAPES}")
    parser.add_argument("--loss", nargs="+", choices=[*LOSSES, *OTHERS], help="only these")
    parser.add_argument("--others", action="store_true", help="other partial-label losses too, see other_losses.py")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    names = arguments.loss or [*LOSSES, *(OTHERS if arguments.others else ())]
    shapes = [tuple(arguments.shape)] if arguments.shape else SHAPES
    for threads in arguments.threads:
        where = f"{threads} thread(s)" if arguments.device == "cpu" else torch.cuda.get_device_name()
        print(f"float32, {where}, {arguments.pairs} pairs")
        print(f"{'loss':16s}{'logits':21s}{'':14s}{'ms':>8s}{'nnU-Net':>9s}{'ratio':>7s}{'MiB':>9s}{'ratio':>7s}")
        for name in names:
            results = []
            for shape in shapes:
                for situation in SITUATIONS:
                    task = Task(shape, name, situation, threads, arguments.pairs, arguments.device)
                    result = in_new_process(task) if arguments.device == "cpu" else measure(task)
                    memory = result.ours_bytes / result.nnunet_bytes
                    results.append((result.ratio, memory))
                    print(
                        f"{name:16s}{' x '.join(map(str, shape)):21s}{situation:14s}{result.ours_ms:8.2f}"
                        f"{result.nnunet_ms:9.2f}{result.ratio:7.2f}{result.ours_bytes / MIB:9.1f}{memory:7.2f}",
                        flush=True,
                    )
            for what, values in zip(("time", "memory"), zip(*results, strict=True), strict=True):
                print(f"{name:16s}{what}: median {statistics.median(values):.2f}, at most {max(values):.2f}")


if __name__ == "__main__":
    main()
