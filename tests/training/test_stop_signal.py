"""SIGUSR1 and SIGTERM end a training after its running epoch; a single process is in test_resume.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.ddp_start import RANKS

from nnunet_partial.training.stop_signal import STOPPED, StopSignal

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_the_signal_is_noted_as_long_as_a_training_runs(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.is_received
        os.kill(os.getpid(), number)
        assert stop.is_received
    assert signal.getsignal(number) is before


def test_a_training_in_a_thread_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def train() -> None:
        with StopSignal() as stop:
            seen.append((stop.is_received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.slow
def test_all_processes_stop_after_the_epoch_in_which_one_was_asked(tmp_path: Path) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(TESTS / "helpers" / "ddp_start.py"), str(tmp_path), "stop"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    stopped_at = str(1 + 1)  # asked in epoch 1, counted from 0
    assert [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(RANKS)] == [stopped_at] * RANKS
    assert (tmp_path / "checkpoint_latest.pth").read_text() == stopped_at
    # of PyTorch, which studies read
    assert any(line.endswith(f"terminated with exit code {STOPPED}") for line in done.stderr.splitlines()), done.stderr
