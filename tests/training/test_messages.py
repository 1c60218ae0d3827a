"""A mistake that stops `nnUNetv2_train` is the end of what it prints, without a traceback where that is possible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_dataset import Project

from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.training.nnunet_patches import TRACEBACK_VARIABLE, patch_traceback

DATASET = "Dataset701_Toy"
TESTS = Path(__file__).resolve().parents[1]


def hook_of(program: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What a process that `program` began calls at its end, and what it would have called."""

    def usual(*_: Any) -> None:
        print("Traceback", file=sys.stderr)

    monkeypatch.setattr(sys, "argv", [program, "701"])
    monkeypatch.setattr(sys, "excepthook", usual)
    patch_traceback()
    patch_traceback()  # a second trainer in the same process
    return sys.excepthook, usual


@pytest.mark.parametrize("program", ["/venv/bin/nnUNetv2_train", "nnUNetv2_train.exe"])
def test_only_our_errors_end_in_their_message(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)
    hook, _ = hook_of(program, monkeypatch)
    error = ManifestError("siteB_007 has no entry")
    hook(ManifestError, error, None)
    assert capsys.readouterr().err == "siteB_007 has no entry\n"
    hook(ValueError, ValueError("siteB_007"), None)
    assert capsys.readouterr().err == "Traceback\n"


@pytest.mark.parametrize(("program", "value"), [("nnUNetv2_train", "1"), ("pytest", ""), ("mine.py", ""), ("", "")])
def test_the_traceback_on_demand_and_in_all_other_processes(
    program: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACEBACK_VARIABLE, value)
    hook, usual = hook_of(program, monkeypatch)
    assert hook is usual


@pytest.fixture(scope="module")
def ended(planned: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Trainings on a dataset in which a case has no entry: what standard error got, and the folder of ddp_start.py."""
    mistaken, folder = planned.copy(tmp_path_factory.mktemp("mistaken")), tmp_path_factory.mktemp("said")
    file = mistaken.raw(DATASET) / MANIFEST_NAME
    content = json.loads(file.read_text())
    del content["cases"]["a_p0_1"]
    file.write_text(json.dumps(content))
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **mistaken.environment, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, str(TESTS / "helpers" / "ddp_start.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr, folder


@pytest.mark.slow
def test_a_mistake_ends_the_command_in_its_message(ended: tuple[str, Path]) -> None:
    _, folder = ended
    assert (folder / "code.txt").read_text() == "1"
    said = (folder / "command.txt").read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"{MANIFEST_NAME}: 1 case(s) have no entry: a_p0_1.")


@pytest.mark.slow
def test_with_several_processes_the_message_is_the_last_line(ended: tuple[str, Path]) -> None:
    shown, folder = ended
    said = [(folder / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]  # whichever process PyTorch shows
    assert said[0].startswith(f"ManifestError: {MANIFEST_NAME}: 1 case(s) have no entry: a_p0_1.")
    assert shown.rstrip().splitlines()[-1] == f"nnunet_partial.errors.{said[0]}"
