"""Killed, or out of disk space, at every single step of a conversion and a merge: nothing is half there, nothing lost.

fault_injection.py runs the command once for each step on disk, stops it there, looks, and runs the same command again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
#: While an old data set is replaced: its manifest or folds in nnUNet_preprocessed are those of the new one already, and
#: what was preprocessed of it is partly gone; a training that starts then is stopped.
BETWEEN = {"partial_labels.json", "splits_final.json", "preprocessed data"}


def stopped_at_each_step(story: str, how: str, folder: Path) -> list[dict[str, Any]]:
    """What fault_injection.py says of each step; the first line, about the undisturbed run, is left out."""
    done = subprocess.run(
        [sys.executable, str(HERE.parent / "helpers" / "fault_injection.py"), story, how, str(folder)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, *steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["state"] == {"there": True, "findings": [], "old": False, "hidden": []}
    assert len(steps) == first["steps"] > 30
    return steps


@pytest.mark.parametrize("story", ["convert", "merge --overwrite"])
@pytest.mark.parametrize("how", ["kill", "ENOSPC"])
def test_whole_or_not_there_and_the_same_command_goes_on(story: str, how: str, tmp_path: Path) -> None:
    for step in stopped_at_each_step(story, how, tmp_path):
        seen, again = step["after"], step["again"]["error"]
        assert_visible(step, story)
        if how == "kill":
            assert step["code"] == 9, step
        else:
            assert_told(step)
        if story == "convert" and seen["there"]:  # it was whole before the end, and is not written twice
            assert "exists. Choose another id" in again, step
        else:
            assert again is None, step
            assert step["same"], step  # every file as after an undisturbed run, and no other


def assert_visible(step: dict[str, Any], story: str) -> None:
    """Whole or not there; the old data set until the new one takes its place."""
    seen = step["after"]
    if not seen["there"]:
        # between two renames neither has the name, and both are there
        both_kept = {".building_Dataset501_New", ".replaced_Dataset501_New"} <= set(seen["hidden"])
        assert story == "convert" or both_kept, step
    elif seen["old"]:
        assert set(seen["findings"]) <= BETWEEN, step
    else:
        assert seen["findings"] == [], step


def assert_told(step: dict[str, Any]) -> None:
    """An error is one of ours and says what to do; removing the old data set at the very end may fail in silence."""
    error = step["ended"]["error"]
    if error is None:
        assert not step["after"]["old"], step
        assert ".replaced_" in step["step"] or step["step"].startswith(("os.remove", "os.rmdir")), step
    else:
        assert error.startswith("DatasetError: Cannot write"), step
        assert "No space left on device" in error, step
        assert "Is the disk full" in error, step
