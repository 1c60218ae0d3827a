"""A reader that crashes takes its own process with it, not ours."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nnunet_partial.dataset_conversion.hmc_qu import decode_masks
from nnunet_partial.dataset_conversion.readers import isolated
from nnunet_partial.dataset_conversion.readers.isolated import Crashed, IsolatedPool, IsolatedWorker, run_isolated

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


def test_a_pool_goes_on_after_errors_crashes_and_hangs() -> None:
    """Results come in the order of the calls, and nothing is left running."""
    calls = [(int, "1"), (decode_masks, Path("no.mat")), (os.abort,), (time.sleep, 100), (int, "2"), (int, "3")]
    with IsolatedPool(2, os.getpid) as pool:
        results = list(pool.map(operator.call, calls, [60, 60, 60, 0.5, 60, 60]))
        processes = [worker._process for worker in pool._workers]
    assert [results[0], *results[4:]] == [1, 2, 3]
    assert [type(one) for one in results[1:4]] == [ConversionError, Crashed, Crashed]
    assert str(results[3]).endswith("0.5 s")
    assert all(process is None or process.poll() is not None for process in processes)


def test_a_pool_that_is_left_drops_the_rest() -> None:
    started = time.monotonic()
    with IsolatedPool(1, os.getpid) as pool:
        assert next(pool.map(operator.call, [(int, "1"), *[(time.sleep, 30)] * 9], [60] * 10)) == 1
    assert time.monotonic() - started < 30
