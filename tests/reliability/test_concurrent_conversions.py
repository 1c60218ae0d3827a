"""Several conversions into one data set at once: one of them writes it, the others say so, and it is whole."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.source_datasets import camus_view
from nnunet_partial.dataset_conversion.staging import staged_dataset

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError

NAME = "Dataset501_CAMUS"
TOGETHER = 3


@pytest.mark.slow
def test_of_several_that_start_together_one_writes(raw: Path, tmp_path: Path) -> None:
    for number in range(4):
        camus_view(tmp_path / "in", f"patient{number:04d}")
    program = str(Path(sys.executable).with_name("nnunet_partial"))
    call = [program, "convert", "camus", "-i", str(tmp_path / "in"), "-d", "501", "-np", "1"]
    started = [
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ.copy())
        for _ in range(TOGETHER)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0] + [1] * (TOGETHER - 1), said
    for code, text in zip(codes, said, strict=True):
        late = f"Another process is writing {NAME} right now" in text or "exists. Choose another id" in text
        assert late == (code == 1), text
    assert check(raw / NAME).findings == {}
    assert len(RawDataset(raw / NAME).label_files()) == 8  # four patients, ED and ES
    assert [path.name for path in raw.iterdir()] == [NAME]


def test_a_lock_that_its_owner_removes_while_we_take_it_does_not_count(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a third process would make the file anew, lock that one, and write the same data set beside us."""
    real = fcntl.flock

    def owner_ends_now(file: Any, operation: int) -> None:
        (raw / f".{NAME}.lock").unlink()
        real(file, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", owner_ends_now)
        with pytest.raises(DatasetError, match="Another process is writing"), staged_dataset(NAME, {}):
            pytest.fail("two processes may write now")
    with staged_dataset(NAME, {}):
        pass
    assert (raw / NAME).is_dir()


def test_an_overwritten_data_set_is_not_written_twice_at_once(raw: Path) -> None:
    with staged_dataset(NAME, {"run": 1}):
        pass
    with staged_dataset(NAME, {"run": 2}, overwrite=True) as folder:
        (folder / "file").write_text("second")
        with pytest.raises(DatasetError, match="Another process"), staged_dataset(NAME, {"run": 3}, overwrite=True):
            pytest.fail("two processes may write now")
    assert (raw / NAME / "file").read_text() == "second"
