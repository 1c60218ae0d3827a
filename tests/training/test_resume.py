"""A training that is killed or stopped goes on with --c and ends where an undisturbed one ends, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.killed_training import EPOCHS, STORIES
from helpers.toy_dataset import Project

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def outcomes(planned: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each training of killed_training.py came to, by story."""
    import shutil

    copy = Project(tmp_path_factory.mktemp("killed"))
    for folder in ("raw", "preprocessed"):
        shutil.copytree(planned.root / folder, copy.root / folder)
    short = {"epochs": str(EPOCHS), "iterations": "2", "val_iterations": "1", "seed": "1"}
    variables = {f"nnUNet_partial_{name}": value for name, value in short.items()}
    done = subprocess.run(
        [sys.executable, str(HERE.parent / "helpers" / "killed_training.py"), str(copy.root)],
        env={**os.environ, **copy.environment, **variables, "nnUNet_n_proc_DA": "0", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    said = copy.root / "said.txt"
    assert done.returncode == 0, done.stderr[-2000:] + (said.read_text()[-3000:] if said.exists() else "")
    return {line["story"]: line for line in map(json.loads, done.stdout.splitlines())}


def test_the_undisturbed_training_is_what_it_should_be(outcomes: dict[str, dict[str, Any]]) -> None:
    undisturbed = outcomes["undisturbed"]
    assert (undisturbed["code"], undisturbed["epoch"], undisturbed["lengths"]) == (0, EPOCHS, [EPOCHS])
    assert len(set(undisturbed["losses"])) == EPOCHS
    settings = {"epochs": EPOCHS, "iterations": 2, "val_iterations": 1, "seed": 1}
    assert undisturbed["record"] == [{"from_epoch": 0, **settings}]


@pytest.mark.parametrize("name", STORIES)
def test_ended_and_continued_it_ends_as_if_undisturbed(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    ended, undisturbed, story = outcomes[name], outcomes["undisturbed"], STORIES[name]
    assert (ended["code"], ended["again"]) == (story.code, 0)
    if story.goes_on_at < EPOCHS:
        assert "checkpoint_final.pth" not in ended["after"]
    # not all over again, which would end in the same numbers
    assert ended["goes_on_at"] == story.goes_on_at
    # losses of every epoch, none twice or missing, the weights, and the record of length and seed
    for what in ("epoch", "losses", "lengths", "weights", "record") if story.is_seeded else ("epoch", "lengths"):
        assert ended[what] == undisturbed[what]
    assert ended["declared"] == undisturbed["declared"]  # manifest and split, raw and preprocessed
    assert not [name for name in ended["files"] if name.endswith(".tmp")]
