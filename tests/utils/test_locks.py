"""A lock keeps others away, ends with its holder, and is no reason to stop where the file system has none."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunet_partial.dataset_conversion.staging import staged_dataset

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study import locks as study_locks
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.runner import lock_study
from nnunet_partial.utils.locks import exclusive_lock, lock_or_fail, try_lock

#: Of Lustre without -o flock, of DVS, and of NFS without its lock daemon.
NO_LOCKS = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]


def refuse_with(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(file: Any, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_one_holds_it_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with exclusive_lock(path) as first, exclusive_lock(path) as second:
        assert (first, second) == (True, False)
    assert list(path.parent.iterdir()) == []
    with exclusive_lock(path) as again:
        assert again


@pytest.mark.parametrize("code", NO_LOCKS)
def test_where_there_are_no_locks_commands_warn_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse_with(monkeypatch, code)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    with pytest.warns(RuntimeWarning, match=os.strerror(code)), staged_dataset("Dataset501_A", {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["Dataset501_A"]
    with pytest.warns(RuntimeWarning, match=os.strerror(code)), lock_study(StudyFolder(tmp_path)):
        pass


@pytest.mark.filterwarnings("ignore:This file system cannot lock:RuntimeWarning")
@pytest.mark.parametrize("code", NO_LOCKS)
def test_where_there_are_no_locks_a_step_of_a_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse_with(monkeypatch, code)
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    assert study_locks.main([str(tmp_path / "lock"), "0", "0", *command]) == 7
    assert not study_locks.is_held(tmp_path / "lock")


def test_without_locks_two_steps_do_not_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    refuse_with(monkeypatch, errno.ENOSYS)
    with pytest.raises(PartialLabelError, match="TMPDIR"):
        study_locks._acquire("GPU", study_locks.visible_gpus, 1, [])


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES])
def test_somebody_else_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse_with(monkeypatch, code)
    with (tmp_path / "lock").open("ab") as file:
        assert not try_lock(file)


def test_any_other_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_with(monkeypatch, errno.EIO)
    for take in (try_lock, lock_or_fail):
        with (tmp_path / "lock").open("ab") as file, pytest.raises(OSError, match=os.strerror(errno.EIO)):
            take(file)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    with pytest.raises(PartialLabelError, match=os.strerror(errno.EIO)), staged_dataset("Dataset501_A", {}):
        pytest.fail("the disk fails")


def test_windows_locks_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int, int]] = []

    def locking(descriptor: int, mode: int, size: int) -> None:
        taken.append((mode, size, os.lseek(descriptor, 0, os.SEEK_CUR)))
        if len(taken) == 2:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))  # type: ignore[arg-type]
    (tmp_path / "lock").write_text("not empty")
    with (tmp_path / "lock").open("ab") as file:
        assert try_lock(file)
        assert not try_lock(file)
    assert taken == [(2, 1, 0)] * 2


def test_a_lock_file_that_windows_does_not_let_go_is_removed_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt), exclusive_lock(tmp_path / "lock"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def refuse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., None] = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        monkeypatch.setattr(Path, "unlink", real)
        raise PermissionError(errno.EACCES, "used by another process")

    monkeypatch.setattr(Path, "unlink", unlink)
