"""Start a training in two processes as `nnUNetv2_train -num_gpus 2` does, with gloo: `ddp_start.py FOLDER [stop]`.

With `stop`, run by test_stop_signal.py, it is that of ddp_stop.py. Without, run by test_messages.py, it is one on a
dataset with a mistake: each process writes to FOLDER/rankN.txt what stopped it; the first waits for the second to do
so, since PyTorch kills the others once one has failed. Before that the command itself runs in one process: its exit
code and standard error go to FOLDER/code.txt and FOLDER/command.txt. All processes are forks, which nnU-Net's are not:
so PyTorch and nnU-Net are imported once.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from nnunetv2.run.run_training import get_trainer_from_args, run_training_entry

RANKS, SECONDS = 2, 20


def meet(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    place = (folder / "meeting-point").as_uri()
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=RANKS, timeout=timedelta(seconds=60))


def stop(rank: int, folder: Path) -> None:
    from helpers.ddp_stop import train

    meet(rank, folder)
    train(rank, folder)


def start(rank: int, folder: Path) -> None:
    meet(rank, folder)
    try:
        get_trainer_from_args("701", "2d", 0, "nnUNetTrainerMarginal").initialize()
    except Exception as error:
        (folder / f"rank{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        end = time.monotonic() + SECONDS
        while rank == 0 and time.monotonic() < end and not (folder / "rank1.txt").exists():
            time.sleep(0.1)
        raise


def run_command(folder: Path) -> None:
    process = os.fork()
    if process == 0:
        with (folder / "command.txt").open("w", encoding="utf-8") as said:
            os.dup2(said.fileno(), sys.stderr.fileno())
        sys.argv[1:] = ["701", "2d", "0", "-tr", "nnUNetTrainerMarginal", "-device", "cpu"]
        run_training_entry()  # what it raises ends this process as it ends the command
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    (folder / "code.txt").write_text(str(code), encoding="utf-8")


if __name__ == "__main__":
    sys.argv[0], target = "nnUNetv2_train", Path(sys.argv[1])
    work = stop if sys.argv[2:] == ["stop"] else start
    if work is start:
        run_command(target)
    torch.multiprocessing.start_processes(work, (target,), nprocs=RANKS, start_method="fork")
