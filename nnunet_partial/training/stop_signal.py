"""End a training after its running epoch where a signal asks for it, as SLURM's does before a job's time is up.

The handler only sets a flag, so that nothing happens inside an epoch: nnU-Net's log would be an entry short there, and
a training that continues from such a checkpoint fails.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

#: Exit code of a training that a signal ended and `--c` continues: EX_TEMPFAIL, "try again", of sysexits.h.
STOPPED = 75

#: Windows has no SIGUSR1.
_SIGNALS = [number for name in ("SIGUSR1", "SIGTERM") if (number := getattr(signal, name, None)) is not None]


class StopSignal:
    """Note SIGUSR1 and SIGTERM while a training runs, as a context manager; to be entered before its loaders start.

    Loader processes inherit the handler. A signal to all processes of a job would otherwise kill them, and the training
    with them.

    Attributes:
        is_received: Whether one of the signals came.
    """

    def __init__(self) -> None:
        self.is_received = False
        self._process_id = 0
        self._previous: dict[int, Any] = {}
        self._older_processes: set[int | None] = set()

    def __enter__(self) -> Self:
        self._process_id = os.getpid()
        self._older_processes = {process.pid for process in multiprocessing.active_children()}
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in no other
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
            if hasattr(signal, "siginterrupt"):
                for number in _SIGNALS:  # no read or write ends early
                    signal.siginterrupt(number, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}
        # loaders that still run ignore SIGTERM, by which multiprocessing would end them and then wait for ever
        for process in multiprocessing.active_children():
            if process.daemon and process.pid not in self._older_processes:
                process.kill()
                process.join()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process_id:
            self.is_received = True
        elif os.getppid() != self._process_id:  # a loader whose training was killed
            os._exit(128 + number)
