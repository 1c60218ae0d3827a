"""How long an iteration of each trainer takes beside nnU-Net's own, data loading included: part of `make bench`.

All trainers run on the same preprocessed drawn data, plan and device, in one process and without loader processes. They
take turns; before each turn the random generators are set alike, so that all of a round draw the same cases with the
same augmentation. The ratio is the median over the rounds of a trainer's time by that of the stock trainer in the same
round. Time is CPU time of the process on one thread, else by the clock. The networks are small, as for a CPU: on them a
loss weighs more than on a real one.

    PYTHONPATH=tests python benchmarks/trainers.py [--rounds 40] [--threads 1]
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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.nnunet_in_process import plan, preprocess
from helpers.toy_dataset import shrink, write_toy

DATASET = "Dataset704_Bench"
#: configuration: shape of the images, which is that of the patch; features of the first stage; batch size
SETTINGS = {"2d": ((128, 128), 16, 8), "3d_fullres": ((32, 48, 48), 8, 2)}


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


def prepare(root: Path, configuration: str) -> Path:
    """Draws, plans and preprocesses a data set of 24 cases, half of them partially labelled."""
    os.environ.pop("nnUNet_n_proc_DA", None)
    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(root / variable)
    shape, features, batch_size = SETTINGS[configuration]
    raw, preprocessed = root / "raw" / DATASET, root / "preprocessed" / DATASET
    write_toy(raw, shape, patients=12)
    shrink(plan(raw, preprocessed, shape), configuration, features, batch_size)
    preprocess(raw, preprocessed, configuration)
    os.environ["nnUNet_n_proc_DA"] = "0"  # planning cannot be done with it
    (preprocessed / "dataset.json").write_bytes((raw / "dataset.json").read_bytes())
    return preprocessed


def started(trainer_class: type[Any], preprocessed: Path, configuration: str) -> Any:
    """A trainer ready for its first iteration."""
    plans = {**json.loads((preprocessed / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    trainer = trainer_class(plans, configuration, 0, dataset_json, torch.device("cpu"))
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.network.train()
    return trainer


def seconds(trainer: Any, seed: int) -> float:
    """One training iteration."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (nnU-Net draws from the global state)
    torch.manual_seed(seed)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    trainer.train_step(next(trainer.dataloader_train))
    return clock() - start


def compare(configuration: str, rounds: int) -> None:
    """Measures all trainers in one configuration and prints a line for each."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        preprocessed = prepare(Path(folder), configuration)
        # nnU-Net's own last: it would make a split that parts patients, which ours refuse
        trainers = {name: started(made, preprocessed, configuration) for name, made in trainer_classes().items()}
        times: dict[str, list[float]] = {name: [] for name in trainers}
        for number in range(rounds + 2):
            names = list(trainers) if number % 2 else list(trainers)[::-1]  # who comes after whom changes
            for name in names:
                times[name].append(seconds(trainers[name], number))
    stock = times["nnUNetTrainer"]
    shape, features, batch_size = SETTINGS[configuration]
    print(
        f"\n{configuration}: {batch_size} x {' x '.join(map(str, shape))}, {features} features in the first of three "
        f"stages, {torch.get_num_threads()} thread(s), {rounds} rounds"
    )
    print(f"{'':36s} {'ms':>8s} {'ratio':>6s}")
    for name, taken in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken[2:], stock[2:], strict=True))
        print(f"{name:36s} {1e3 * statistics.median(taken[2:]):8.1f} {ratio:6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Iteration time of the trainers beside nnU-Net's own.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # nnU-Net's, about what its libraries will drop
    torch.set_num_threads(arguments.threads)
    for configuration in SETTINGS:
        compare(configuration, arguments.rounds)


if __name__ == "__main__":
    main()
