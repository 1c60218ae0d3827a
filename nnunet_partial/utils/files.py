"""Reading and writing small files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with the same ending, that becomes `path` when the block ends without an error.

    The block must write the file. It is synced to disk before the rename: not even a power cut leaves half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp_", suffix="_" + path.name[-100:], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; a data set is as readable as the user's other files
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_to_disk(folder: Path) -> None:
    """Has the system write to disk what it still holds in memory of all files on the disk that `folder` is on.

    Thousands of small files at once take it seconds, one by one minutes. Raises OSError where the disk refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # Linux has it; elsewhere all disks are written to
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, indented, whole or not at all; keys keep their order."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, error: type[PartialLabelError] = PartialLabelError) -> Any:
    """The content of a JSON file.

    Raises `error` where the file is missing, unreadable, not JSON, or holds the same key twice in one object (of which
    Python's reader would silently drop the first).
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise error(f"{path}: the key {key!r} stands twice in one object. Remove one of them.")
            found[key] = value
        return found

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem}") from problem
    except PartialLabelError:
        raise
    except (ValueError, RecursionError) as problem:  # not JSON, not UTF-8, a number of thousands of digits, ...
        raise error(f"{path} is not valid JSON: {problem}. Mend it by hand or write it again.") from problem


def same_bytes(ours: Path, theirs: Path) -> bool:
    """Whether two files hold the same; links to one file are not read. Raises OSError where one is not there."""
    return ours.samefile(theirs) or filecmp.cmp(ours, theirs, shallow=False)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-links `source` to `target` where the file system can, else copies it, atomically; replaces `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError as problem:
        if problem.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.ENOSYS):
            raise
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
