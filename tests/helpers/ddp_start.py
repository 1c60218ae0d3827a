"""Start a training in two processes as `nnUNetv2_train -num_gpus 2` does, with gloo: `ddp_start.py FOLDER [stop]`.

With `stop`, run by test_stop_signal.py, it is that of ddp_stop.py. Without, run by test_messages.py, it is one on a
dataset with a mistake: each process writes to FOLDER/rankN.txt what stopped it; the first waits for the second to do
so, since PyTorch kills the others once one has failed. The processes are forks, which nnU-Net's are not: so PyTorch and
nnU-Net are imported once.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from nnunetv2.run.run_training import get_trainer_from_args

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


if __name__ == "__main__":
    sys.argv[0] = "nnUNetv2_train"
    work = stop if sys.argv[2:] == ["stop"] else start
    torch.multiprocessing.start_processes(work, (Path(sys.argv[1]),), nprocs=RANKS, start_method="fork")
