"""A reader that crashes takes its own process with it, not ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from nnunet_partial.dataset_conversion.hmc_qu import decode_masks
from nnunet_partial.dataset_conversion.readers import isolated
from nnunet_partial.dataset_conversion.readers.isolated import Crashed, IsolatedWorker, run_isolated

from nnunet_partial.errors import ConversionError


def test_one_process_serves_many_calls_and_another_takes_over_after_a_crash() -> None:
    first = run_isolated(os.getpid)
    assert first != os.getpid()
    assert run_isolated(os.getpid) == first
    with pytest.raises(Crashed, match="abort crashed or took longer"):
        run_isolated(os.abort)
    second = run_isolated(os.getpid)
    assert second not in (first, os.getpid())


def test_errors_for_the_user_arrive_as_they_are(tmp_path: object) -> None:
    with pytest.raises(ConversionError, match=r"no\.mat cannot be read.*MATLAB"):
        run_isolated(decode_masks, __import__("pathlib").Path("no.mat"))


def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "TIMEOUT_S", 0.2)
    with pytest.raises(Crashed):
        run_isolated(time.sleep, 60)
    monkeypatch.undo()
    assert run_isolated(int, "7") == 7


def test_it_ends_with_a_parent_that_was_killed() -> None:
    script = "import os; from nnunet_partial.dataset_conversion.readers.isolated import run_isolated as c; "
    script += "print(c(os.getpid)); "
    done = subprocess.run(
        [sys.executable, "-c", script + "import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"],
        capture_output=True,
        text=True,
    )
    child = int(done.stdout)
    end = time.monotonic() + 20
    while _lives(child):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.02)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:  # noqa: PTH123
        return stat.read().split()[2] != "Z"  # nobody may be there to bury it


def test_ending_twice_is_no_error() -> None:
    one = IsolatedWorker()
    assert one.call(int, "3") == 3
    one.end()
    one.end()
