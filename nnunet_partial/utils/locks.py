"""Lock files, so that no two processes write the same. A lock ends with the process that holds it, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: What a lock that somebody else holds is refused with; Windows says EACCES.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
#: What file systems without locks answer (some Lustre, NFS and DVS).
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def try_lock(file: IO[Any]) -> bool:
    """Take the lock of an open file unless somebody else holds it. Closing the file ends the lock.

    On Linux and macOS a child that inherits the file keeps the lock, too. Where the file system has no locks, warn and
    go on.

    Args:
        file: Opened for writing.

    Returns:
        Whether the caller may go on.

    Raises:
        OSError: The system refuses for another reason.
    """
    try:
        return lock_or_fail(file)
    except OSError as problem:
        if problem.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"This file system cannot lock files ({os.strerror(problem.errno)}). Nothing notices two commands that "
            "write the same dataset or study; start them one after the other.",
            RuntimeWarning,
            stacklevel=2,
        )
        return True


def lock_or_fail(file: IO[Any]) -> bool:
    """Do the same as `try_lock`, but raise where the file system has no locks.

    Args:
        file: Opened for writing.

    Returns:
        Whether the caller now holds the lock; False where somebody else does.

    Raises:
        OSError: The system refuses for another reason.
    """
    try:
        _lock(file)
    except OSError as problem:
        if problem.errno in _HELD:
            return False
        raise
    return True


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[bool]:
    """Hold a lock file, and remove it at the end.

    Args:
        path: The lock file; its folder is created.

    Yields:
        Whether the lock is held; False where somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    to_remove = False
    try:
        with path.open("ab") as file:
            to_remove = try_lock(file) and _is_there(path, file)
            try:
                yield to_remove
            finally:
                to_remove = to_remove and not _remove(path)
    finally:
        if to_remove:  # Windows removes no open file
            _remove(path)


def _lock(file: IO[Any]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        os.lseek(file.fileno(), 0, os.SEEK_SET)  # it locks from here
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_there(path: Path, file: IO[Any]) -> bool:
    """Return whether the path still names the file: its last owner removes it, and then its lock excludes nobody."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True
