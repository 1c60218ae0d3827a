"""How long the losses take, and how much memory, beside nnU-Net's own loss on the same logits: what `make bench` runs.

Time: forward plus backward. On one thread as CPU time of the process (equal to the time on the clock when the machine
has nothing else to do, and not upset when it has), on several by the clock. All losses take turns in every repetition;
the ratio is that of the medians. Part of it is the system handing out fresh memory: a loss that allocates much pays for
it here as in training.

Memory: the highest sum of what torch had allocated at one time during forward plus backward, beyond the logits and the
target that were there before; the gradient counts. Taken from the allocations and releases that torch.profiler records.

Marginal and aCCE stand beside DC_and_CE_loss, aBCE beside DC_and_BCE_loss with the making of its one-hot target; both
with nnU-Net's settings (batch Dice, no background, smooth 1e-5).

    python benchmarks/losses.py [--all] [--others] [--shape 12 4 256 256] [--threads 1 2] [--repetitions 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from other_losses import OTHERS
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from nnunet_partial.losses import AdaptiveBCELoss, AdaptiveCCELoss, MarginalLoss, PartialLoss

SHAPES = [(12, 4, 256, 256), (49, 6, 128, 128), (2, 5, 96, 160, 160)]  # (B, C, *S)
MIB = 2**20
LOSSES: dict[str, PartialLoss] = {
    "marginal": MarginalLoss(),
    "aCCE": AdaptiveCCELoss(),
    "aCCE, ignore": AdaptiveCCELoss(background="ignore"),
    "aBCE": AdaptiveBCELoss(),
}


def situations(samples: int, classes: int) -> dict[str, Tensor]:
    """Name -> known (B, C): everything; the first half of the classes; alternately the one and the other."""
    everything = torch.ones(samples, classes, dtype=torch.bool)
    half, mixed = everything.clone(), everything.clone()
    half[:, (classes + 1) // 2 :] = False
    mixed[::2] = half[::2]
    return {"all known": everything, "half unknown": half, "mixed": mixed}


def nnunet_losses(logits: Tensor, target: Tensor) -> dict[str, Callable[[], Tensor]]:
    """nnU-Net's own two losses on these logits (B, C, *S) and target (B, 1, *S)."""
    dice = {"batch_dice": True, "smooth": 1e-5, "ddp": False}
    categorical = DC_and_CE_loss({**dice, "do_bg": False}, {}, dice_class=MemoryEfficientSoftDiceLoss)
    binary = DC_and_BCE_loss({}, {**dice, "do_bg": True}, dice_class=MemoryEfficientSoftDiceLoss)

    def binary_with_target() -> Tensor:
        one_hot = torch.zeros(logits.shape).scatter_(1, target.long(), 1)[:, 1:]
        return binary(logits[:, 1:], one_hot)

    return {"DC_and_CE_loss": lambda: categorical(logits, target), "DC_and_BCE_loss": binary_with_target}


def seconds(loss: Callable[[], Tensor], logits: Tensor) -> float:
    """One forward and backward pass."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    logits.grad = None
    start = clock()
    torch.autograd.backward(loss())
    return clock() - start


def peak_bytes(loss: Callable[[], Tensor], logits: Tensor) -> int:
    """Most memory that one forward and backward pass held at one time, beyond its input."""
    logits.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        torch.autograd.backward(loss())
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def compare(
    shape: tuple[int, ...], repetitions: int, losses: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]
) -> None:
    """Measures everything on logits of this shape and prints one line per loss and situation."""
    torch.manual_seed(0)
    samples, classes = shape[:2]
    logits = torch.randn(shape, requires_grad=True)
    target = torch.randint(0, classes, (samples, 1, *shape[2:]), dtype=torch.int16)
    calls = nnunet_losses(logits, target)
    for name, loss in losses.items():
        for situation, known in situations(samples, classes).items():
            calls[f"{name:15s} {situation}"] = partial(loss, logits, target, known)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions + 1):
        for name, call in calls.items():
            times[name].append(seconds(call, logits))
    memory = {name: peak_bytes(call, logits) for name, call in calls.items()}
    median = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first is a warm-up

    threads = torch.get_num_threads()
    print(f"\nlogits {' x '.join(map(str, shape))}, float32, {threads} thread(s), {repetitions} repetitions")
    print(f"{'':30s} {'ms':>8s} {'ratio':>6s} {'MiB':>8s} {'ratio':>6s}   beside")
    for name in calls:
        own = "DC_and_BCE_loss" if name.startswith(("aBCE", "MultiTalent")) else "DC_and_CE_loss"
        own = name if name.startswith("DC") else own
        time_text = f"{median[name] * 1e3:8.1f} {median[name] / median[own]:6.2f}"
        memory_text = f"{memory[name] / MIB:8.1f} {memory[name] / memory[own]:6.2f}"
        print(f"{name:30s} {time_text} {memory_text}   {'' if name == own else own}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the losses beside nnU-Net's own.")
    parser.add_argument("--shape", type=int, nargs="+", default=SHAPES[0], help="shape of the logits: B C and the axes")
    parser.add_argument("--all", action="store_true", help=f"all of {SHAPES}")
    parser.add_argument("--others", action="store_true", help="other partial-label losses too, see other_losses.py")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for shape in SHAPES if arguments.all else [tuple(arguments.shape)]:
            compare(shape, arguments.repetitions, {**LOSSES, **(OTHERS if arguments.others else {})})


if __name__ == "__main__":
    main()
