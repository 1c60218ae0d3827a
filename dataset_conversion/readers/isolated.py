"""Run a function in a reusable subprocess, so that a crash does not end the program.

Some readers crash the whole process on a damaged file. There is one such subprocess per process, started on first use
and used for file after file; after a crash, the next call starts another. It ends by itself when its parent ends,
however that ends, because its standard input closes. Question and answer go through standard input and output, the one
way that is the same on all systems.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from nnunet_partial.errors import PartialLabelError

Result = TypeVar("Result")

#: A reader that needs longer is taken for one that hangs.
TIMEOUT_S = 120.0

_SERVE = "from nnunet_partial.dataset_conversion.readers.isolated import worker; worker()"


class Crashed(Exception):
    """Report that the subprocess died, or did not answer in time."""


class IsolatedWorker:
    """Call functions in a subprocess."""

    def __init__(self) -> None:
        """Start nothing yet; the first call starts the subprocess."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Return whether the subprocess was started and has not been ended."""
        return self._process is not None

    def call(self, function: Callable[..., Result], *arguments: Any, timeout_s: float | None = None) -> Result:
        """Call a function in the subprocess.

        Args:
            function: Function at the top level of a module.
            arguments: Values that can be pickled.
            timeout_s: Time in s after which the subprocess is ended; None: TIMEOUT_S.

        Returns:
            The value that the function returns.

        Raises:
            PartialLabelError: As the function raises it.
            Crashed: If the subprocess did not survive, or did not answer in time.
        """
        limit_s = TIMEOUT_S if timeout_s is None else timeout_s
        try:
            result, problem = self._ask((function, arguments), limit_s)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.end()
            raise Crashed(f"{function.__name__} crashed or took longer than {limit_s:g} s") from error
        except BaseException:  # interrupted: the late answer must not be taken for that of the next call
            self.end()
            raise
        if problem is not None:
            raise problem
        return result

    def end(self) -> None:
        """End the subprocess, if there is one; the next call starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):  # of a question that did not get through
                process.communicate()

    def kill(self) -> None:
        """Kill the subprocess while another thread waits for its answer, which then gets `Crashed`."""
        process = self._process
        if process is not None:
            process.kill()

    def _ask(self, question: Any, limit_s: float) -> Any:
        """Return the answer, or end of file when the process dies or its time is up."""
        process = self._process = self._process or _start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(limit_s, process.kill)
        timer.start()
        try:
            pickle.dump(question, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        finally:
            timer.cancel()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what a crash prints; the caller names the file
        # an interrupt is for the process that waits for the answer
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
    )


def worker() -> None:
    """Read (function, arguments) and write (result, error) until standard input closes; runs in the subprocess."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers, contextlib.suppress(EOFError, OSError):
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a reader prints is no answer
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)
            try:
                answer: tuple[Any, PartialLabelError | None] = (function(*arguments), None)
            except PartialLabelError as problem:
                answer = (None, problem)
            pickle.dump(answer, answers)
            answers.flush()


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


class IsolatedPool:
    """Call functions at once in several subprocesses; used in a with block, at whose end they end."""

    def __init__(self, processes: int, prepare: Callable[[], object]) -> None:
        """Start nothing yet.

        Args:
            processes: Number of subprocesses.
            prepare: Called first in each subprocess, such as for imports, whose time does not count.
        """
        self._prepare = prepare
        self._workers = [IsolatedWorker() for _ in range(processes)]
        self._idle: queue.SimpleQueue[IsolatedWorker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(processes)

    def __enter__(self) -> IsolatedPool:
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what is not done yet, and end the subprocesses."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown()
        for worker in self._workers:
            worker.end()

    def map(
        self, function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], timeouts_s: Sequence[float]
    ) -> Iterator[Result | PartialLabelError | Crashed]:
        """Call a function for many arguments.

        Args:
            function: Function at the top level of a module.
            calls: The arguments of each call; values that can be pickled.
            timeouts_s: Time in s that each call may take.

        Returns:
            What each call returns, in the order of `calls`; the error where it raises one.
        """
        return self._threads.map(functools.partial(self._call, function), calls, timeouts_s)

    def _call(
        self, function: Callable[..., Result], arguments: tuple[Any, ...], timeout_s: float
    ) -> Result | PartialLabelError | Crashed:
        worker = self._idle.get()
        try:
            if not worker.is_running:
                worker.call(self._prepare)
            return worker.call(function, *arguments, timeout_s=timeout_s)
        except (PartialLabelError, Crashed) as problem:
            return problem
        finally:
            self._idle.put(worker)
