"""Running a reader that may crash its whole process on a damaged file in a process of its own, which is kept for more.

One such process per process of ours, started on first use and used for file after file; a crash costs one new start. It
ends by itself with whoever started it, however that ends: its pipe closes.
"""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from nnunet_partial.errors import PartialLabelError

Result = TypeVar("Result")

#: A reader that needs longer is taken for one that hangs.
SECONDS = 120.0

_SERVE = "import sys; from nnunet_partial.dataset_conversion.readers.isolated import worker; worker(int(sys.argv[1]))"


class Crashed(Exception):
    """The process died, or did not answer in time."""


class IsolatedWorker:
    """A process that calls functions for us."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """`function(*arguments)`, a function of a module, with values that can be pickled.

        Raises PartialLabelError as the function does, and Crashed where the process did not survive or answer.
        """
        try:
            pipe = self._started()
            pipe.send((function, arguments))
            if not pipe.poll(SECONDS):
                raise EOFError
            result, problem = pipe.recv()
        except (EOFError, OSError) as gone:
            self.end()
            raise Crashed(f"{function.__name__} crashed or took longer than {SECONDS:g} s") from gone
        except BaseException:  # interrupted: an answer that nobody waited for must not be the next one's
            self.end()
            raise
        if problem is not None:
            raise problem
        return result

    def end(self) -> None:
        """Ends the process, if there is one; the next call starts another."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None

    def _started(self) -> Connection:
        if self._pipe is None:
            self._pipe, theirs = Pipe()
            with theirs:
                fd = theirs.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _SERVE, str(fd)],
                    pass_fds=[fd],
                    start_new_session=True,  # an interrupt is for whoever waits for the answer
                    stderr=subprocess.DEVNULL,  # what a crash prints; the caller names the file
                )
        return self._pipe


def worker(fd: int) -> None:
    """What the process does until the pipe closes: receives (function, arguments), sends (result, error)."""
    pipe = Connection(fd)
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, arguments = pipe.recv()
            try:
                pipe.send((function(*arguments), None))
            except PartialLabelError as problem:
                pipe.send((None, problem))


_APART = IsolatedWorker()
atexit.register(_APART.end)


def run_isolated(function: Callable[..., Result], *arguments: Any) -> Result:
    """`Apart.call` in the one process that this process keeps for it."""
    return _APART.call(function, *arguments)
