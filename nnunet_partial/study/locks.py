"""Run a command while holding its lock and, where asked, GPUs and CPU cores that no other step uses.

    python -m nnunet_partial.study.locks LOCK_FILE GPUS CORES COMMAND ...

GPUS and CORES are 0 where a scheduler (SLURM) assigns them, or nothing does. The command inherits the lock: where only
the workflow was killed and a training goes on, a second start of it waits for the first. Locks end with the processes
that hold them, however those end.
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
    """Run the command line that the module's docstring shows.

    Args:
        arguments: LOCK_FILE, GPUS, CORES and the command.

    Returns:
        The exit code of the command.
    """
    lock_file, n_gpus, n_cores, *command = arguments
    with ExitStack() as files:
        held = [files.enter_context(_open_locked(Path(lock_file)))]
        environment = dict(os.environ)
        if int(n_gpus):
            gpus = _acquire("GPU", visible_gpus, int(n_gpus), held)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        if int(n_cores):
            cores = _acquire("core", _visible_cores, int(n_cores), held)
            os.sched_setaffinity(0, map(int, cores))  # the command inherits it
        for file in held[1:]:
            files.enter_context(file)
        descriptors = [file.fileno() for file in held]
        return subprocess.run(command, env=environment, pass_fds=descriptors, check=False).returncode


def is_held(lock: Path) -> bool:
    """Return whether some process holds the lock.

    Args:
        lock: Path of the lock file; it need not exist.
    """
    if not lock.exists():
        return False
    with lock.open("a") as file:
        return not _try_lock(file)


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use. Asks the driver, not PyTorch, which is slow to import.

    Returns:
        Their names as in CUDA_VISIBLE_DEVICES; empty without a GPU.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is not None:
        return [gpu for gpu in variable.split(",") if gpu]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(listing.splitlines()) if line.startswith("GPU ")]


def _visible_cores() -> list[str]:
    return sorted(map(str, os.sched_getaffinity(0)))


def _open_locked(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    if not _try_lock(file):
        print(f"waiting: this step is still running, left by an earlier start ({path})", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _acquire(kind: str, visible: Callable[[], list[str]], number: int, held: list[IO[str]]) -> list[str]:
    """Wait until `number` devices of a kind are free, add their locks to `held` and return their names.

    Each device has a lock that all studies of this user on this machine share.
    """
    folder = Path(tempfile.gettempdir()) / f"nnunet_partial_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        acquired: dict[str, IO[str]] = {}
        for name in visible():
            file: IO[str] = (folder / f"{kind}_{name.replace('/', '_')}").open("a")
            if len(acquired) < number and _try_lock(file):
                acquired[name] = file
            else:
                file.close()
        if len(acquired) == number:
            held += acquired.values()
            print(f"{kind}(s) {', '.join(acquired)}", flush=True)
            return list(acquired)
        for file in acquired.values():
            file.close()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
