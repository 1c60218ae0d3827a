"""Makes a process as narrow as Windows or macOS for whoever in our packages asks: what they lack is hidden, or fails.

    environment = pretend("windows", folder)        # for Pythons that are started with it

Only importers inside our packages are shown less: nnU-Net, torch and Snakemake have been taught by others. What a real
system does otherwise (separators, encodings of a console, case of names) is not shown.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
OURS = "nnunet_partial"
#: Our trainers are imported by nnU-Net's search as modules of their own.
TRAINER = "nnUNetTrainer"

MODULES = {"windows": {"fcntl", "pwd", "grp", "resource", "termios", "pty"}, "macos": set[str]()}
SCHEDULING = {"sched_getaffinity", "sched_setaffinity"}
FUNCTIONS = {
    "windows": SCHEDULING
    | {"getuid", "geteuid", "getgid", "killpg", "getpgid", "setsid", "sync", "fork", "fchmod", "chown", "O_NOFOLLOW"},
    "macos": SCHEDULING,
}
SIGNALS = {
    "windows": {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGCHLD", "pause", "siginterrupt"},
    "macos": set[str](),
}

NNUNET_VARIABLES = ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer", "nnUNet_def_n_proc"]


def pretend(system: str, folder: Path) -> dict[str, str]:
    """The variables with which a Python, and all that it starts, takes itself for another system."""
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(TESTS)!r})\nfrom helpers.other_systems import install\ninstall({system!r})\n"
    )
    return {"PYTHONPATH": str(folder), "PYTHONWARNDEFAULTENCODING": "1", "PYTHONIOENCODING": "cp1252"}


def install(system: str) -> None:
    """Hide from our packages what a system lacks, and refuse to them what it refuses."""
    real = builtins.__import__
    shown = {
        "os": _Partial(os, FUNCTIONS[system], _os(system)),
        "signal": _Partial(signal, SIGNALS[system], {}),
        "ctypes": _Partial(ctypes, set(), _ctypes(system)),
    }
    if system == "windows":
        shown["msvcrt"] = types.SimpleNamespace(locking=_locking, LK_NBLCK=2)  # type: ignore[assignment]

    def show(name: str, globals: Any = None, *arguments: Any, **options: Any) -> Any:
        if is_ours((globals or {}).get("__name__")):
            if name.partition(".")[0] in MODULES[system]:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name.partition(".")[0] in shown:
                return shown[name.partition(".")[0]]
        return real(name, globals, *arguments, **options)

    builtins.__import__ = show  # type: ignore[assignment]
    warnings.filterwarnings("error", category=EncodingWarning, module=rf"{OURS}(\.|$)")
    multiprocessing.set_start_method("spawn", force=True)  # of both systems
    if system == "windows":
        checks = {"unlink": _removable, "remove": _removable, "rename": _movable, "replace": _replaceable}
        for function, check in checks.items():
            setattr(os, function, _checked(getattr(os, function), check))
        for variable in NNUNET_VARIABLES:  # whose names have no case
            if variable.upper() in os.environ:
                os.environ[variable] = os.environ.pop(variable.upper())
        os.symlink = _checked(os.symlink, lambda *_, **__: _refuse(errno.EPERM))
        subprocess.Popen.__init__ = _checked(subprocess.Popen.__init__, _startable)  # type: ignore[method-assign]


def is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == OURS or (module or "").startswith(TRAINER)


class _Partial(types.ModuleType):
    """A module that lacks some names, and has others in a version of its own."""

    def __init__(self, whole: types.ModuleType, hidden: set[str], own: dict[str, Any]) -> None:
        super().__init__(whole.__name__)
        self._whole, self._hidden = whole, hidden
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._whole, name)


def _os(system: str) -> dict[str, Any]:
    if system == "macos":
        return {}

    def open_file(path: Any, *arguments: Any, **options: Any) -> int:
        if os.path.isdir(path):  # noqa: PTH112
            _refuse(errno.EACCES, path)
        return os.open(path, *arguments, **options)

    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            _refuse(errno.EBADF)
        os.fsync(descriptor)

    return {"name": "nt", "open": open_file, "fsync": fsync}


def _ctypes(system: str) -> dict[str, Any]:
    def library(name: str | None, *arguments: Any, **options: Any) -> Any:
        if name is None and system == "windows":
            raise TypeError("argument of type 'NoneType' is not iterable")
        # macOS has no syncfs
        return types.SimpleNamespace() if name is None else ctypes.CDLL(name, *arguments, **options)

    return {"CDLL": library}


def _locking(descriptor: int, mode: int, size: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _refuse(errno.EACCES)


def _refuse(code: int, *path: Any) -> None:
    raise OSError(code, os.strerror(code), *path)


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    """The function, refused to our packages (also where another module calls it for them) as `check` says."""

    def checked(*arguments: Any, **options: Any) -> Any:
        frame = sys._getframe(1)
        for _ in range(8):
            if is_ours(frame.f_globals.get("__name__")):
                check(*arguments, **options)
                break
            if frame.f_back is None:
                break
            frame = frame.f_back
        return function(*arguments, **options)

    return checked


def _removable(path: Any, *, dir_fd: int | None = None) -> None:
    full = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path) if dir_fd is not None else path  # noqa: PTH115, PTH118
    if os.path.realpath(full) in _open_files():
        _refuse(errno.EACCES, full)


def _movable(source: Any, target: Any) -> None:
    if os.path.lexists(target):
        _refuse(errno.EEXIST, target)
    _replaceable(source, target)


def _replaceable(source: Any, target: Any) -> None:
    here = os.path.realpath(source)
    for path in _open_files():
        if path in (here, os.path.realpath(target)) or path.startswith(here + os.sep):
            _refuse(errno.EACCES, path)


def _open_files() -> set[str]:
    """All files that this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISREG(os.fstat(int(link.name)).st_mode):
                found.add(os.readlink(link))  # noqa: PTH115
        except OSError:  # the folder that is being listed
            continue
    return found


def _startable(_: Any, *__: Any, **options: Any) -> None:
    assert not options.get("pass_fds"), "pass_fds not supported on Windows."
    if options.get("preexec_fn") is not None:
        raise ValueError("preexec_fn is not supported on Windows platforms")
