"""Commands in a locale without UTF-8, on names beyond ASCII."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.raw_datasets import Drawn, write_dataset

#: Python reads names of files as ASCII and writes ASCII.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0"}
CASES = ("\u5fc3\u810f_1", "p\u00e4_2", "p3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two datasets, in a folder with such a name; the predictions of the first are its labels."""
    root = tmp_path / "\u00fcbung"
    for number, prefix in ((501, ""), (502, "x")):
        cases = []
        for part in ("Tr", "Ts"):
            for name in CASES:
                about = {"annotated": ["LV", "\u58c1"], "domain": "\u5317\u4eac", "patient": f"{prefix}{name} {part}"}
                cases.append(Drawn(f"{prefix}{part}{name}", [1, 1, 2], about, part))
        write_dataset(root / "raw", f"Dataset{number}_\u00c4", {"LV": 1, "\u58c1": 2}, cases)
    shutil.copytree(root / "raw" / "Dataset501_\u00c4" / "labelsTs", root / "\u9884\u6d4b")
    return root


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "LANG", "LC_CTYPE")}
    folders = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    program = str(Path(sys.executable).with_name("nnunet_partial"))
    environment = {**clean, **folders, **ASCII, **variables}
    options = {"encoding": "utf-8", "errors": "surrogateescape", "timeout": 300}
    return subprocess.run([program, *command], env=environment, capture_output=True, text=True, check=False, **options)


@pytest.mark.slow
def test_commands_read_and_write_such_names(root: Path) -> None:
    commands: list[tuple[str, ...]] = [
        ("check", "-d", "501"),
        ("merge", "-i", "501", "502", "-d", "510"),
        ("scenario", "-i", "501", "-d", "511", "--missing", "LV", "--fraction", "0.5"),
        ("evaluate", "-d", "501", "--pred", f"\u00fcber={root / chr(0x9884)}\u6d4b", "-o", str(root / "r\u00e9s")),
        ("report", str(root / "r\u00e9s"), "-o", str(root / "\u62a5.html")),
    ]
    for command in commands:
        done = run(root, *command)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "raw" / "Dataset510_Merged" / "labelsTr" / f"Tr{CASES[0]}.nii.gz").is_file()
    manifest = json.loads((root / "raw" / "Dataset510_Merged" / "partial_labels.json").read_text(encoding="utf-8"))
    assert f"Tr{CASES[1]}" in manifest["cases"]
    assert "\u5317\u4eac" in (root / "\u62a5.html").read_text(encoding="utf-8")


def test_a_terminal_that_lacks_the_characters_gets_their_codes(root: Path) -> None:
    done = run(root, "check", "-d", "501", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    assert "\\u5317" in done.stdout
