"""Process many files in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from nnunet_partial.errors import PartialLabelError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Below this number of items starting further processes takes longer than the work.
MIN_FILES_FOR_POOL = 64


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int = 1,
    title: str | None = None,
    fewest: int = MIN_FILES_FOR_POOL,
) -> Iterator[Result]:
    """Apply a function to each item.

    Args:
        function: Picklable where `processes` is more than 1.
        items: Likewise. Few items are processed without further processes.
        processes: How many processes work.
        title: Title of the progress bar; None shows none.
        fewest: With fewer items no further processes are started.

    Yields:
        The results in the order of the items. An error in a process reaches the caller as it is; a process that the
        system kills (memory) raises PartialLabelError.
    """
    results = map(function, items) if processes <= 1 or len(items) < fewest else _pooled(function, items, processes)
    yield from progress_bar(results, len(items), title)


def progress_bar(items: Iterable[Item], total: int, title: str | None, unit: str = "file") -> Iterable[Item]:
    """Show a progress bar while items are taken.

    Args:
        items: The items.
        total: Their number.
        title: Title of the bar; None shows none.
        unit: What is counted.

    Returns:
        The same items.
    """
    if title is None:
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, total=total, desc=title, unit=unit, mininterval=0.5)
    return bar


def _pooled(function: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    chunk = max(1, min(64, len(items) // (4 * processes)))
    # spawn, not fork: the caller may be a training, and a forked process inherits the locks of its threads
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _leave_interrupts_to_the_parent)
    try:
        yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool:
        raise PartialLabelError(
            "A worker process was killed, probably because it ran out of memory. Use fewer processes (-np)."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """End with the parent: a worker would otherwise wait forever for work from a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
