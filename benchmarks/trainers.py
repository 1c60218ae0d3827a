"""Time an iteration of each trainer beside nnU-Net's own, data loading included: part of `make bench`.

All trainers run on the same preprocessed synthetic data, plan and device, in one process and without loader processes.
They take turns; before each turn the random generators are set alike, so that all of a round sample the same cases with
the same augmentation. The ratio is the median over the rounds of a trainer's time by that of the stock trainer in the
same round. Time is CPU time of the process on one thread, else by the clock. The networks are small, as for a CPU: on
them a loss weighs more than on a real one.

On a GPU (`--device cuda`) the networks and batches are those that nnU-Net plans, and the loader, which works beside the
GPU there, is left out: each step takes the same batch from memory, and time is that on the clock until the GPU has
finished. Memory is the highest that PyTorch allocated for this trainer alone. `nnUNet_compile=f` leaves the networks as
they are; nnU-Net compiles them else.

    PYTHONPATH=tests python benchmarks/trainers.py [--rounds 40] [--threads 1] [--device cuda] [--configuration 2d]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.nnunet_in_process import plan, preprocess
from helpers.toy_dataset import shrink, write_toy

DATASET = "Dataset704_Bench"
#: configuration: shape of the images, which is that of the patch; features of the first stage; batch size
SETTINGS = {"2d": ((128, 128), 16, 8), "3d_fullres": ((32, 48, 48), 8, 2)}
#: on a GPU: shape of the images, and the batch size that nnU-Net plans where there are enough of them
GPU_SETTINGS = {"2d": ((256, 256), 49), "3d_fullres": ((128, 128, 128), 2)}
EPOCH = 250  # iterations, by default
MIB = 2**20


def trainer_classes() -> dict[str, type[Any]]:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_partial.trainers.nnUNetTrainerABCE import nnUNetTrainerABCE
    from nnunet_partial.trainers.nnUNetTrainerACCE import nnUNetTrainerACCE
    from nnunet_partial.trainers.nnUNetTrainerMarginal import (
        nnUNetTrainerMarginal,
        nnUNetTrainerMarginalLabelDropout,
    )
    from nnunet_partial.trainers.nnUNetTrainerNaive import nnUNetTrainerNaive

    ours = [nnUNetTrainerMarginal, nnUNetTrainerACCE, nnUNetTrainerABCE, nnUNetTrainerMarginalLabelDropout]
    return {trainer.__name__: trainer for trainer in (*ours, nnUNetTrainerNaive, nnUNetTrainer)}


def prepare(root: Path, configuration: str, device: str) -> Path:
    """Make, plan and preprocess a dataset, half of its cases partially labeled."""
    os.environ.pop("nnUNet_n_proc_DA", None)
    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(root / variable)
    raw, preprocessed = root / "raw" / DATASET, root / "preprocessed" / DATASET
    if device == "cpu":
        shape, features, batch_size = SETTINGS[configuration]
        write_toy(raw, shape, patients=12)
        shrink(plan(raw, preprocessed, shape), configuration, features, batch_size)
    else:
        shape, batch_size = GPU_SETTINGS[configuration]
        write_toy(raw, shape, patients=6)
        plans_file = plan(raw, preprocessed, shape)
        plans = json.loads(plans_file.read_text())
        plans["configurations"][configuration]["batch_size"] = batch_size
        plans_file.write_text(json.dumps(plans))
    preprocess(raw, preprocessed, configuration)
    os.environ["nnUNet_n_proc_DA"] = "0"  # planning cannot be done with it
    (preprocessed / "dataset.json").write_bytes((raw / "dataset.json").read_bytes())
    return preprocessed


def started(trainer_class: type[Any], preprocessed: Path, configuration: str, device: str) -> Any:
    """Return a trainer ready for its first iteration."""
    plans = {**json.loads((preprocessed / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    trainer = trainer_class(plans, configuration, 0, dataset_json, torch.device(device))
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.network.train()
    return trainer


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (nnU-Net samples from the global state)
    torch.manual_seed(seed)


def seconds(trainer: Any, seed: int) -> float:
    """Time a training iteration."""
    seed_all(seed)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    trainer.train_step(next(trainer.dataloader_train))
    return clock() - start


class OnGpu:
    """Hold a trainer whose steps on the GPU all take the batch that its loader gave first."""

    def __init__(self, trainer_class: type[Any], preprocessed: Path, configuration: str) -> None:
        before = torch.cuda.memory_allocated()
        self.trainer = started(trainer_class, preprocessed, configuration, "cuda")
        seed_all(0)
        self.batch = next(self.trainer.dataloader_train)
        self.trainer.train_step(self.batch)  # compiles, and makes the momentum
        self.kept = torch.cuda.memory_allocated() - before
        self.peak = 0

    def seconds(self) -> float:
        """Time one step from the batch in memory to the new weights."""
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        self.trainer.train_step(self.batch)
        torch.cuda.synchronize()
        taken = time.perf_counter() - start
        self.peak = max(self.peak, self.kept + torch.cuda.max_memory_allocated() - before)
        return taken


def in_turns(steps: dict[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Take the time of each step, round by round, without the first two rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name in list(steps)[:: 1 if number % 2 else -1]:  # who comes after whom changes
            times[name].append(steps[name](number))
    return {name: taken[2:] for name, taken in times.items()}


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    stock = times["nnUNetTrainer"]
    return {
        name: statistics.median(one / other for one, other in zip(taken, stock, strict=True))
        for name, taken in times.items()
    }


def compare(configuration: str, rounds: int) -> None:
    """Measure all trainers in one configuration on the CPU and print a line for each."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        preprocessed = prepare(Path(folder), configuration, "cpu")
        # nnU-Net's own last: it would make a split that parts patients, which ours refuse
        trainers = {name: started(made, preprocessed, configuration, "cpu") for name, made in trainer_classes().items()}
        times = in_turns({name: partial(seconds, trainer) for name, trainer in trainers.items()}, rounds)
    shape, features, batch_size = SETTINGS[configuration]
    print(
        f"\n{configuration}: {batch_size} x {' x '.join(map(str, shape))}, {features} features in the first of three "
        f"stages, {torch.get_num_threads()} thread(s), {rounds} rounds"
    )
    print(f"{'':36s} {'ms':>8s} {'ratio':>6s}")
    for name, ratio in ratios(times).items():
        print(f"{name:36s} {1e3 * statistics.median(times[name]):8.1f} {ratio:6.3f}")


def compare_on_gpu(configuration: str, rounds: int) -> None:
    """Measure all trainers in one configuration on the GPU and print a line for each."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        preprocessed = prepare(Path(folder), configuration, "cuda")
        trainers = {name: OnGpu(made, preprocessed, configuration) for name, made in trainer_classes().items()}
        times = in_turns({name: lambda _, t=trainer: t.seconds() for name, trainer in trainers.items()}, rounds)
    patch = next(iter(trainers.values())).batch["data"].shape
    compiled = os.environ.get("nnUNet_compile", "t").lower() in ("true", "1", "t")
    print(
        f"\n{configuration}: {patch[0]} x {' x '.join(map(str, patch[2:]))}, {torch.cuda.get_device_name()}, "
        f"{'compiled' if compiled else 'not compiled'}, {rounds} rounds"
    )
    print(f"{'':36s} {'ms':>8s} {'ratio':>6s} {'s/epoch':>8s} {'MiB':>8s}")
    for name, ratio in ratios(times).items():
        ms = 1e3 * statistics.median(times[name])
        print(f"{name:36s} {ms:8.1f} {ratio:6.3f} {EPOCH * ms / 1e3:8.1f} {trainers[name].peak / MIB:8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Iteration time of the trainers beside nnU-Net's own.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--configuration", nargs="+", choices=[*SETTINGS], default=[*SETTINGS])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # nnU-Net's, about what its libraries will drop
    torch.set_num_threads(arguments.threads)
    for configuration in arguments.configuration:
        (compare if arguments.device == "cpu" else compare_on_gpu)(configuration, arguments.rounds)


if __name__ == "__main__":
    main()
