"""Runs a command while holding its lock and, where asked, graphics cards and processor cores that no other step has.

    python -m nnunet_partial.study.locks LOCK_FILE CARDS CORES COMMAND ...

CARDS and CORES are 0 where a scheduler (SLURM) or nobody hands them out. The lock is the command's too: where only the
workflow was killed, a training that goes on is not started a second time beside itself; the second start waits for the
first. Locks end with the processes that hold them, however they end.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code of the command."""
    lock_file, cards, cores, *command = arguments
    with ExitStack() as files:
        held = [files.enter_context(_locked(Path(lock_file)))]
        environment = dict(os.environ)
        if int(cards):
            chosen = _free("card", visible_gpus, int(cards), held)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
        if int(cores):
            chosen = _free("core", _visible_cores, int(cores), held)
            os.sched_setaffinity(0, map(int, chosen))  # the command inherits it
        for file in held[1:]:
            files.enter_context(file)
        kept = [file.fileno() for file in held]
        return subprocess.run(command, env=environment, pass_fds=kept, check=False).returncode


def is_held(lock: Path) -> bool:
    """Whether some process holds the lock."""
    if not lock.exists():
        return False
    with lock.open("a") as file:
        return not _try(file)


def _locked(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    if not _try(file):
        print(f"waiting: this step is still running, left by an earlier start ({path})", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _try(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def visible_gpus() -> list[str]:
    """The graphics cards this process may use, as CUDA_VISIBLE_DEVICES names them; asks the driver, not PyTorch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [card for card in named.split(",") if card]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def _visible_cores() -> list[str]:
    return sorted(map(str, os.sched_getaffinity(0)))


def _free(kind: str, visible: Callable[[], list[str]], number: int, held: list[IO[str]]) -> list[str]:
    """Waits until so many of a kind are free, adds their locks to `held` and names them.

    Each has a lock that all studies of this user on this machine share.
    """
    folder = Path(tempfile.gettempdir()) / f"nnunet_partial_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        taken: dict[str, IO[str]] = {}
        for name in visible():
            file: IO[str] = (folder / f"{kind}_{name.replace('/', '_')}").open("a")
            if len(taken) < number and _try(file):
                taken[name] = file
            else:
                file.close()
        if len(taken) == number:
            held += taken.values()
            print(f"{kind}(s) {', '.join(taken)}", flush=True)
            return list(taken)
        for file in taken.values():
            file.close()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
