"""The command `nnunet_partial convert`: what a user types, reads and gets back."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.facts import says
from helpers.source_datasets import camus_view, chords, echonet
from nnunet_partial.dataset_conversion import DATASETS

from nnunet_partial.cli import convert
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError


def call(*words: str | Path) -> int:
    """`nnunet_partial convert ...`; the exit code."""
    parser = argparse.ArgumentParser(prog="nnunet_partial")
    convert.add_parser(parser.add_subparsers())
    args = parser.parse_args(["convert", *map(str, words)])
    return int(args.run(args))


def test_camus(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camus_view(tmp_path / "in", "patient0001")
    words = ["camus", "-i", tmp_path / "in", "-d", "501", "--frames", "half-sequence", "--views", "2CH", "-np", "1"]
    assert call(*words) == 0
    assert len(RawDataset(raw / "Dataset501_CAMUS").label_files()) == 3
    out = capsys.readouterr().out
    assert f"{raw / 'Dataset501_CAMUS'}: 3 training and 0 test cases of 1 patients" in out
    assert "split: there is no database_split folder" in out


def test_echonet(tmp_path: Path, raw: Path) -> None:
    frames = {6: chords(10, 20), 2: chords(12, 18)}
    root = echonet(tmp_path / "in", {"0XA": frames, "0XB": frames}, {"0XA": "TRAIN", "0XB": "TRAIN"})
    words = ["echonet-dynamic", "-i", root, "-d", "7", "--name", "Echo", "--apex", "capped", "--depth-mm", "160"]
    assert call(*words, "--limit", "1") == 0
    assert list(RawDataset(raw / "Dataset007_Echo").label_files()) == ["echonet_0XA_4CH_ED", "echonet_0XA_4CH_ES"]


def test_a_skip_is_named_on_the_screen_and_makes_the_exit_code_1(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = camus_view(tmp_path / "in", "patient0001")
    (folder / "patient0001_2CH_ES_gt.nii.gz").unlink()
    assert call("camus", "-i", tmp_path / "in", "-d", "501") == 1
    out = capsys.readouterr().out
    assert says("skipped camus_patient0001_2CH_ES", "patient0001_2CH_ES_gt.nii.gz") in out.splitlines()
    assert "1 case(s) could not be converted" in out
    assert list(RawDataset(raw / "Dataset501_CAMUS").label_files()) == ["camus_patient0001_2CH_ED"]


def test_known_defects_leave_the_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = {6: chords(10, 20), 2: chords(12, 18)}
    splits = {"0XA": "TRAIN", "0X234005774F4CB5CD": "TRAIN"}
    root = echonet(tmp_path / "in", {"0XA": frames, "0X4F8859C8AB4DA9CB": frames}, splits)
    assert call("echonet-dynamic", "-i", root, "-d", "502") == 0
    out = capsys.readouterr().out
    assert "2 x known defect" in out
    assert says("echonet_0X234005774F4CB5CD", "no tracing") in out.splitlines()


def test_long_lists_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        camus_view(tmp_path / "in", f"patient{number:04d}", cfg=None)
    assert call("camus", "-i", tmp_path / "in", "-d", "501", "--views", "2CH") == 0
    out = capsys.readouterr().out
    assert "13 x noted, cases converted all the same:" in out  # 12 without cfg, and no split
    assert "... and 3 more in the report" in out


@pytest.mark.parametrize("words", [["-d", "0"], ["-d", "1000"], ["-d", "501", "--name", "../x"]])
def test_a_wrong_name_or_id(tmp_path: Path, words: Sequence[str]) -> None:
    with pytest.raises(DatasetError, match=r"The dataset (id|name) is "):
        call("camus", "-i", tmp_path, *words)


@pytest.mark.parametrize("processes", ["0", "-2", "x"])
def test_a_wrong_number_of_processes(tmp_path: Path, processes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        call("camus", "-i", tmp_path, "-d", "501", "-np", processes)
    assert "argument -np/--processes: expected an integer above 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", DATASETS)
def test_the_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(name, "--help")
    out = " ".join(capsys.readouterr().out.split())
    assert "Ask for it at https://" in out or name == "folder"  # one's own need not be asked for
    assert "--strict" in out
    assert "(default: )" not in out


def test_neither_help_nor_a_conversion_waits_for_torch(tmp_path: Path, raw: Path) -> None:
    camus_view(tmp_path / "in", "patient0001")
    script = f"""
import argparse, sys
from nnunet_partial.cli import convert
parser = argparse.ArgumentParser()
convert.add_parser(parser.add_subparsers())
heavy = {{"torch", "SimpleITK", "av", "skimage", "scipy"}} & set(sys.modules)
assert not heavy, heavy
args = parser.parse_args(["convert", "camus", "-i", {str(tmp_path / "in")!r}, "-d", "501"])
assert args.run(args) == 0
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert (raw / "Dataset501_CAMUS").is_dir()
