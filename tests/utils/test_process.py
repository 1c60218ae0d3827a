"""How many cores there are for this process; commands that run with a bar, alone and together."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils import process
from nnunet_partial.utils.process import Command, Commands, Progress, available_cores

PYTHON = Path(sys.executable).name


def test_what_a_scheduler_gave_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert available_cores() == available_cores("8") == 2
    assert available_cores("1") == 1


def test_without_a_scheduler_the_number_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert [available_cores(threads) for threads in (None, "", "0", "2,1", "4", "8")] == [6, 6, 6, 6, 4, 6]


# ---- one command ----------------------------------------------------------------------------------------------------


def commands(tmp_path: Path, said: list[str], **variables: str | None) -> Commands:
    return Commands(variables, tmp_path / "logs", said.append)


def test_command_is_told_shown_and_logged(tmp_path: Path) -> None:
    said: list[str] = []
    script = "import os; print(os.environ['A'], os.environ['B']); print('50%|#####     | 1/2')"
    commands(tmp_path, said, A="one two").run(PYTHON, "-c", script, B="3")
    assert said[0].startswith(f"\n$ B=3 {PYTHON} -c ")
    assert said[1] == "  one two 3"
    assert said[2].startswith("  (")  # the bar is in the log only
    assert len(said) == 3
    log = next((tmp_path / "logs").iterdir()).read_text().splitlines()
    assert log[1:] == ["one two 3", "50%|#####     | 1/2"]


def test_failing_command_stops_with_its_output(tmp_path: Path) -> None:
    script = "print('out of memory'); raise SystemExit(3)"
    with pytest.raises(PartialLabelError, match=r"exit code 3:(?s:.*)\n  out of memory\n(?s:.*)logs"):
        commands(tmp_path, []).run(PYTHON, "-c", script)


def test_missing_program(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match="there is no program nnUNetv9_train in"):
        commands(tmp_path, []).run("nnUNetv9_train")


def test_bar_follows_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    script = "print('now: Epoch 0'); print('loss'); print('now: Epoch 3')"
    progress = Progress("training", r": Epoch (\d+)$", 4, "epoch")
    commands(tmp_path, said).run(PYTHON, "-c", script, progress=progress)
    assert "loss" not in "".join(said[1:])
    assert "training:  75%" in capsys.readouterr().err
    counted = Progress("cases", "^done", 2, "case")
    commands(tmp_path, said).run(PYTHON, "-c", "print('done')\nprint('done')", progress=counted)
    assert "cases: 100%" in capsys.readouterr().err


def test_exports_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GONE", "1")
    monkeypatch.delenv("NEVER", raising=False)
    exports = commands(tmp_path, [], FOLDER="/a b", GONE=None, NEVER=None).exports().splitlines()
    assert exports == ["export FOLDER='/a b'", "unset GONE", f'export PATH={Path(sys.executable).parent}:"$PATH"']


# ---- two commands at the same time ----------------------------------------------------------------------------------

#: Ends with the text of its second argument once the file of the first is there.
WAIT = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
sys.exit(sys.argv[2] or 0)
"""


def waiting(file: Path, said: str = "", title: str = "title") -> Command:
    """A command that waits for a file; it fails if it has something to say."""
    return Command((PYTHON, "-c", WAIT, str(file), said), Progress(title, "^never", 2, "epoch"))


def test_two_commands_run_at_the_same_time(tmp_path: Path) -> None:
    said: list[str] = []
    meet = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.argv[1:] = [sys.argv[2], 0]\n" + WAIT
    names = [str(tmp_path / name) for name in "ab"]
    both = [
        Command((PYTHON, "-c", meet, *order), Progress("title", "^never", 2, "epoch")) for order in (names, names[::-1])
    ]
    commands(tmp_path, said).run_together(*both)
    assert said[:2] == [f"\n$ {command.typed}" for command in both]
    logs = [str(tmp_path / "logs" / f"0{number}_{PYTHON}.txt") for number in (1, 2)]
    assert [log in line for log, line in zip(logs, said[2:], strict=True)] == [True, True]


@pytest.mark.parametrize("failing", [0, 1])
def test_the_one_that_fails_is_named_and_the_other_ended(failing: int, tmp_path: Path) -> None:
    both = [waiting(tmp_path / "never"), waiting(tmp_path / "never")]
    both[failing] = waiting(tmp_path, "out of memory")
    with pytest.raises(PartialLabelError, match=rf"exit code 1:(?s:.*)\n  out of memory\n(?s:.*)0{failing + 1}_"):
        commands(tmp_path, []).run_together(*both)


def test_an_interrupt_ends_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = process._start
    monkeypatch.setattr(process, "_start", lambda *given: started.append(start(*given)) or started[-1])

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        commands(tmp_path, []).run_together(waiting(tmp_path / "never"), waiting(tmp_path / "never"))
    assert [each.returncode is None for each in started] == [False, False]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_of_two_stand_below_each_other(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    commands(tmp_path, []).run_together(*(waiting(tmp_path, title=title) for title in ("first", "second")))
    bars = capsys.readouterr().err
    assert ("\x1b[A" in bars) == is_terminal  # moves of the cursor, which a file had better not have
    last = [line.split("\r")[-1].strip().split(":")[0] for line in bars.strip().split("\n")[-2:]]
    assert last == ["first", "second"]
