"""Run a function in a reusable subprocess, so that a crash does not end the program.

Some readers crash the whole process on a damaged file. There is one such subprocess per process, started on first use
and used for file after file; after a crash, the next call starts another. It ends by itself when its parent ends,
however that ends, because its pipe closes.
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
TIMEOUT_S = 120.0

_SERVE = "import sys; from nnunet_partial.dataset_conversion.readers.isolated import worker; worker(int(sys.argv[1]))"


class Crashed(Exception):
    """Report that the subprocess died, or did not answer in time."""


class IsolatedWorker:
    """Subprocess that calls functions."""

    def __init__(self) -> None:
        """Start nothing yet; the first call starts the subprocess."""
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in the subprocess.

        Args:
            function: Function at the top level of a module.
            arguments: Values that can be pickled.

        Returns:
            The value that the function returns.

        Raises:
            PartialLabelError: As the function raises it.
            Crashed: If the subprocess did not survive, or did not answer in time.
        """
        try:
            pipe = self._start()
            pipe.send((function, arguments))
            if not pipe.poll(TIMEOUT_S):
                raise EOFError
            result, problem = pipe.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise Crashed(f"{function.__name__} crashed or took longer than {TIMEOUT_S:g} s") from error
        except BaseException:  # interrupted: the late answer must not be taken for that of the next call
            self.end()
            raise
        if problem is not None:
            raise problem
        return result

    def end(self) -> None:
        """End the subprocess, if there is one; the next call starts another."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        if self._pipe is None:
            self._pipe, worker_end = Pipe()
            with worker_end:
                fd = worker_end.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _SERVE, str(fd)],
                    pass_fds=[fd],
                    start_new_session=True,  # an interrupt is for the process that waits for the answer
                    stderr=subprocess.DEVNULL,  # what a crash prints; the caller names the file
                )
        return self._pipe


def worker(fd: int) -> None:
    """Receive (function, arguments) and send (result, error) until the pipe closes; runs in the subprocess.

    Args:
        fd: File descriptor of the pipe.
    """
    pipe = Connection(fd)
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, arguments = pipe.recv()
            try:
                pipe.send((function(*arguments), None))
            except PartialLabelError as problem:
                pipe.send((None, problem))


_WORKER = IsolatedWorker()
atexit.register(_WORKER.end)


def run_isolated(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in the subprocess of this process; see `IsolatedWorker.call`.

    Args:
        function: Function at the top level of a module.
        arguments: Values that can be pickled.

    Returns:
        The value that the function returns.

    Raises:
        PartialLabelError: As the function raises it.
        Crashed: If the subprocess did not survive, or did not answer in time.
    """
    return _WORKER.call(function, *arguments)
