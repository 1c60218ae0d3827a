"""Run a command while holding its lock and, where asked, GPUs and CPU cores that no other step uses.

    python -m nnunet_partial.study.locks LOCK_FILE GPUS CORES COMMAND ...

GPUS and CORES are 0 where a scheduler (SLURM) assigns them, or nothing does. The command inherits the lock: where only
the workflow was killed and a training goes on, a second start of it waits for the first. Locks end with the processes
that hold them, however those end. The versions of what results depend on are printed first, for the log of the step.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.locks import lock_or_fail, try_lock
from nnunet_partial.utils.versions import versions

#: A number, or the name of a card or of a part of one (MIG).
_GPU_NAME = re.compile(r"\d+|(GPU|MIG)-.+")


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
        if int(n_cores) and hasattr(os, "sched_setaffinity"):  # macOS binds nothing to cores
            cores = _acquire("core", _visible_cores, int(n_cores), held)
            os.sched_setaffinity(0, map(int, cores))  # the command inherits it
        for file in held[1:]:
            files.enter_context(file)
        print(f"Versions: {json.dumps(versions())}", flush=True)
        descriptors = [file.fileno() for file in held]
        return subprocess.run(command, env=environment, pass_fds=descriptors, check=False).returncode


def is_held(lock: Path) -> bool:
    """Return whether some process holds the lock.

    Args:
        lock: Path of the lock file; it need not exist.
    """
    if not lock.exists():
        return False
    with lock.open("ab") as file:
        return not try_lock(file)


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use. Asks the driver, not PyTorch, which is slow to import.

    Returns:
        Their names as in CUDA_VISIBLE_DEVICES; empty without a GPU.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is not None:
        # as CUDA does: what follows an invalid name (-1, SLURM's NoDevFiles) does not count
        return list(takewhile(_GPU_NAME.fullmatch, map(str.strip, variable.split(","))))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(listing.splitlines()) if line.startswith("GPU ")]


def _visible_cores() -> list[str]:
    return sorted(map(str, os.sched_getaffinity(0)))


def _open_locked(path: Path) -> IO[Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    if not try_lock(file):
        print(f"waiting: this step is still running, left by an earlier start ({path})", flush=True)
        while not try_lock(file):
            time.sleep(1)
    return file


def _acquire(kind: str, visible: Callable[[], list[str]], number: int, held: list[IO[Any]]) -> list[str]:
    """Wait until `number` devices of a kind are free, add their locks to `held` and return their names.

    Each device has a lock that all studies of this user on this machine share.
    """
    folder = Path(tempfile.gettempdir()) / f"nnunet_partial_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        with ExitStack() as files:
            acquired: dict[str, IO[Any]] = {}
            for name in visible():
                file = files.enter_context((folder / f"{kind}_{name.replace('/', '_')}").open("ab"))
                if len(acquired) < number and _lock_device(file, folder):
                    acquired[name] = file
                else:
                    file.close()
            if len(acquired) == number:
                files.pop_all()
                held += acquired.values()
                print(f"{kind}(s) {', '.join(acquired)}", flush=True)
                return list(acquired)
        time.sleep(1)


def _lock_device(file: IO[Any], folder: Path) -> bool:
    """Take the lock of a device. Without locks all steps would take the same one."""
    try:
        return lock_or_fail(file)
    except OSError as problem:
        raise PartialLabelError(
            f"{folder} cannot hold the locks by which steps share GPUs and cores ({problem}). Set TMPDIR to a folder "
            "on a local disk."
        ) from problem


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PartialLabelError as problem:
        sys.exit(str(problem))
