"""Read and write small files so that no half-written file is ever visible."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import filecmp
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError

#: What a file system answers that has no file modes (shares, NTFS).
_NOT_SUPPORTED = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
#: What it answers where it cannot link; EINVAL: FAT on Windows.
_NO_LINKS = (*_NOT_SUPPORTED, errno.EXDEV, errno.EMLINK, errno.EINVAL)


#: Files that Windows and macOS put into a folder that somebody looks at; macOS also puts ._NAME beside NAME.
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", ".ds_store")


def files_of_users(folder: Path) -> list[Path]:
    """List what is in a folder, without the files that Windows and macOS put there.

    Args:
        folder: The folder.

    Returns:
        The paths, sorted; empty where there is nothing else.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.casefold() not in _SYSTEM_FILES and not path.name.startswith("._")
    )


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name that becomes `path` when the block ends without an error.

    The block must write the file. It is synced to disk before the rename: not even a power cut leaves half of it.

    Args:
        path: The file to write or replace; its folder is created.

    Yields:
        A name beside `path`, with the same ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp_", suffix="_" + path.name[-100:], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        sync_file(temporary)
        _make_readable(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Flush a file to disk.

    Args:
        path: The file; it must be writable.

    Raises:
        OSError: The disk refuses.
    """
    with path.open("rb+") as file:  # Windows flushes no file that is open for reading
        os.fsync(file.fileno())


def sync_to_disk(folder: Path) -> None:
    """Flush to disk all files below a folder; where the system can do so, all on its file system at once.

    Thousands of small files at once take seconds, one by one minutes.

    Args:
        folder: The folder.

    Raises:
        OSError: The disk refuses.
    """
    if not hasattr(os, "sync"):  # Windows
        for path in folder.rglob("*"):
            with contextlib.suppress(PermissionError):  # write-protected: a link to a file that was there before
                if path.is_file():
                    sync_file(path)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # macOS: all disks
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


def _make_readable(path: Path) -> None:
    """Give a file the mode of the user's other files; mkstemp makes it private. Some shares have no modes."""
    mask = os.umask(0)
    os.umask(mask)
    try:
        path.chmod(0o666 & ~mask)
    except OSError as problem:
        if problem.errno not in _NOT_SUPPORTED:
            raise


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all.

    Args:
        path: The file to write or replace.
        text: Its content.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, ascii_only: bool = False) -> None:
    """Write indented JSON, whole or not at all; keys keep their order.

    Args:
        path: The file to write or replace.
        content: Its content.
        ascii_only: Whether to escape other letters. For files that nnU-Net reads: it decodes by the locale, on Windows
            another than UTF-8.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=ascii_only) + "\n")


def read_json(path: Path, error: type[PartialLabelError] = PartialLabelError) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        error: Class of the error to raise.

    Returns:
        The content.

    Raises:
        PartialLabelError: The file is missing, unreadable, not JSON, or has a duplicate key in one object (of which
            Python's reader would silently drop the first). Raised as `error`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise error(f"{path}: duplicate key {key!r} in one object. Remove one of them.")
            content[key] = value
        return content

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem}") from problem
    except PartialLabelError:
        raise
    except (ValueError, RecursionError) as problem:  # not JSON, not UTF-8, a number of thousands of digits, ...
        raise error(f"{path} is not valid JSON: {problem}. Fix or recreate the file.") from problem


def read_object(path: Path, error: type[PartialLabelError] = PartialLabelError) -> dict[str, Any]:
    """Read a JSON file that may be missing.

    Args:
        path: The file.
        error: Class of the error to raise.

    Returns:
        The object in it; empty where there is no file, or something else in it.

    Raises:
        PartialLabelError: As of `read_json`.
    """
    content = read_json(path, error) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def read_json_lines(path: Path) -> Iterator[Any]:
    """Read a log with a JSON value per line, as far as a killed run has written it.

    Args:
        path: The file; need not exist.

    Yields:
        The value of each line; lines that are no JSON, such as one that was cut off, are left out.
    """
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def byte_order_mark(path: Path) -> str | None:
    """Describe a byte order mark (BOM), which Windows programs put before a text.

    `read_json` skips it; nnU-Net's reader stops at it and names no file.

    Args:
        path: A JSON file that nnU-Net reads.

    Returns:
        What is wrong and what to do; None where there is no mark, or no file.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            return None
    return f"{path} begins with a byte order mark (BOM), of which nnU-Net dies. Save it as UTF-8 without BOM"


def files_below(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find the files in a folder and in those below it. Links to folders are not followed: they may lead in a circle.

    Args:
        folder: The folder; may itself be a link.

    Returns:
        What is no folder, in the order of the paths; and the folders that were not looked into, each with the reason.
    """
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []

    def note(problem: OSError) -> None:
        left_out.append((Path(problem.filename), f"a folder that cannot be read: {problem.strerror}"))

    for where, folders, names in os.walk(folder, onerror=note):
        files += [Path(where, name) for name in names]
        links = [path for name in folders if (path := Path(where, name)).is_symlink()]
        left_out += [(path, "a link to a folder, which is not followed") for path in links]
    return sorted(files), sorted(left_out)


def file_hash(path: Path) -> str:
    """Hash the content of a file, read piece by piece.

    Args:
        path: The file.

    Returns:
        Its SHA-256, 64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_bytes(path: Path, other: Path) -> bool:
    """Compare two files; links to the same file are not read.

    Args:
        path: A file.
        other: Another. OSError where one of them is missing.

    Returns:
        Whether their bytes are the same.
    """
    return path.samefile(other) or filecmp.cmp(path, other, shallow=False)


def equal_files(files: Mapping[str, Path], others: Mapping[str, Path]) -> dict[str, list[str]]:
    """Find files of equal bytes in two collections, and read as few as can be.

    Only files of a size that is on both sides are opened, and of these only those read whole whose middle is on both.

    Args:
        files: File by name.
        others: File by name; in both, a file that is missing or cannot be read equals none.

    Returns:
        Names of the equal files among `others`, by the name of each of `files` that has one.
    """
    contents: dict[object, _Content] = {}
    for side, named in enumerate((files, others)):
        for name, path in named.items():
            with contextlib.suppress(OSError):
                stat = path.stat()
                link = (stat.st_dev, stat.st_ino) if stat.st_ino else path
                contents.setdefault(link, _Content(path, stat.st_size)).names[side].append(name)
    groups = [list(contents.values())]
    for key in (_Content.length, _Content.middle, _Content.whole):
        groups = [part for group in groups for part in _split(group, key)]
    return {
        name: [other for content in group for other in content.names[1]]
        for group in groups
        for content in group
        for name in content.names[0]
    }


@dataclass(frozen=True)
class _Content:
    """Hold what links to the same file share: a path, the size, and the names on both sides."""

    path: Path
    size: int
    names: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def length(self) -> object:
        return self.size

    def middle(self) -> object:
        with self.path.open("rb") as file:
            file.seek(self.size // 2)
            return file.read(4096)

    def whole(self) -> object:
        return file_hash(self.path)


def _split(group: Sequence[_Content], key: Callable[[_Content], object]) -> list[list[_Content]]:
    """Split contents by a key, which is not asked of a single one, and keep the parts with names on both sides."""
    parts: dict[object, list[_Content]] = {}
    for content in group:
        with contextlib.suppress(OSError):
            parts.setdefault(key(content) if len(group) > 1 else None, []).append(content)
    return [part for part in parts.values() if all(any(content.names[side] for content in part) for side in (0, 1))]


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file, whole or not at all.

    Args:
        source: The existing file.
        target: The new file; replaced where it exists, its folder is created.
    """
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file where the file system can, else copy it, atomically.

    Args:
        source: The existing file.
        target: The new link or copy; replaced where it exists, its folder is created.

    Raises:
        OSError: Neither works.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        copy_file(source, target)
