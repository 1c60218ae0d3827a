"""The command `nnunet_partial`: its help teaches, its exit codes mean something, its errors can be acted on."""

from __future__ import annotations

import argparse
import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.facts import says

import nnunet_partial
from nnunet_partial import cli
from nnunet_partial.cli import COMMANDS, build_parser, main
from nnunet_partial.cli._json import json_text

HELP = {
    (): [*COMMANDS, "--version", "nnunet_partial demo"],
    ("convert",): ["camus", "echonet-dynamic", "partial_labels.json", "Nothing is downloaded"],
    ("convert", "camus"): ["-i FOLDER", "-d ID", "--name", "--frames", "--views", "-np", "--strict", "--overwrite", "https://"],
    ("convert", "echonet-dynamic"): ["-i FOLDER", "-d ID", "--name", "--apex", "--depth-mm", "-np", "--strict", "https://"],
    ("merge",): ["-i DATASET", "-d ID", "--name", "--overwrite", "nnunet_partial merge -i 501 502 -d 510"],
    ("check",): ["-d DATASET", "--json", "--update-preprocessed", "Exit code 0", "nnunet_partial check -d 510"],
    ("evaluate",): ["-d DATASET", "--pred [NAME=]FOLDER", "--ref", "-o FOLDER", "--strict", "--probabilities", "-np"],
    ("trainers",): ["--path", 'export nnUNet_extTrainer="$(nnunet_partial trainers --path)"'],
    ("preprocess",): ["-d DATASET", "--like DATASET", "-c", "-p", "-np"],
    ("balance",): ["-d DATASET", "--weights DOMAIN=WEIGHT", "--off", "nnunet_partial balance -d 510"],
    ("splits",): ["-d DATASET", "--leave-domain-out", "--by-patient", "--folds N", "left_out", "-d 510 --by"],
    ("shrink",): ["-d DATASET", "--features", "--patch", "--batch"],
    ("export",): ["-d DATASET", "-c CONFIGURATION", "-tr TRAINER", "-p", "-f", "-chk", "-o FILE", "--as", "onnx"],
    ("card",): ["-d DATASET", "-c CONFIGURATION", "-tr TRAINER", "-p", "-f", "-chk", "-o FILE", "-np", "MODEL_CARD.md"],
    ("widen",): ["--from MODEL", "-d DATASET", "-c", "-tr", "-p", "-f", "--c", "nnunet_partial widen --from MODEL"],
    ("find-best",): ["-d DATASET", "-tr", "-p", "-c", "-f", "--disable-ensembling", "--no-overwrite", "-np"],
    ("disagreement",): ["-d DATASET", "-tr TRAINER", "-p", "-c", "-f", "-chk", "-i FOLDER", "-o FOLDER", "-device"],
    ("measure",): ["-i FOLDER", "--pred FOLDER", "-o FOLDER", "--no-overlays", "-np", "measure -i in --pred out"],
    ("study",): ["run", "status", "report"],
    ("study", "run"): ["STUDY.yaml", "--executor", "--jobs", "--dry-run", "Options after -- go to Snakemake"],
    ("study", "status"): ["STUDY.yaml", "--json"],
    ("study", "report"): ["STUDY.yaml", "-o FILE", "--format"],
    ("demo",): ["--loss", "-device", "-o FOLDER", "marginal", "real commands"],
}  # fmt: skip


def words(text: str) -> str:
    """argparse breaks lines where the terminal ends."""
    return " ".join(text.split())


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_names_every_option_and_says_what_the_command_does(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    shown = words(capsys.readouterr().out)
    assert [expected for expected in HELP[command] if expected not in shown] == []


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all commands below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def test_every_command_says_what_it_does_and_every_option_what_it_is_for() -> None:
    found = list(parsers(build_parser()))
    assert {parser.prog.split()[1] for parser in found[1:]} == set(COMMANDS)
    silent = [parser.prog for parser in found if not parser.description]
    silent += [
        f"{parser.prog} {action.dest}"
        for parser in found
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


def test_what_cannot_be_written_to_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results"
    file.write_text("")
    for command in (["evaluate", "-d", "1", "--pred", "x", "-o", str(file)], ["report", "x", "-o", str(file / "a.md")]):
        assert main(command) == 1
        assert f"-o: {file} is a file; expected a folder" in capsys.readouterr().err
    assert main(["report", "x", "-o", str(tmp_path)]) == 1
    assert f"-o: {tmp_path} is a folder; expected the name of a file" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"nnunet-partial {nnunet_partial.__version__}"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ([], "required: COMMAND"),
        (["segment"], "invalid choice: 'segment'"),
        (["convert", "-i", "there", "-d", "501"], "argument DATASET: invalid choice"),
        (["convert", "mri", "-i", "there", "-d", "501"], "invalid choice: 'mri'"),
        (["convert", "camus", "-i", "there"], "required: -d"),
        (["convert", "camus", "-i", "there", "-d", "five"], "invalid int value: 'five'"),
        (["merge", "-d", "510"], "required: -i/--input"),
        (["trainers", "--paths"], "unrecognized arguments: --paths"),
    ],
)
def test_a_wrong_call_exits_2_and_says_why(call: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(call)
    assert said in words(capsys.readouterr().err)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders, empty."""
    for variable in ("raw", "preprocessed"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    return tmp_path


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["check", "-d", "510"], "nnunet_partial check: There is no dataset 510"),
        (["merge", "-i", "501", "502", "-d", "510"], "nnunet_partial merge: There is no dataset 501"),
        (["convert", "camus", "-i", "nowhere", "-d", "501"], "nnunet_partial convert: nowhere does not exist"),
        (["convert", "camus", "-i", "nowhere", "-d", "1000"], "The dataset id is 1000; expected 1 to 999"),
        (["convert", "echonet-dynamic", "-i", "x", "-d", "1", "--depth-mm", "-3"], "the image depth is -3.0 mm"),
    ],
)
def test_wrong_data_exits_1_with_one_message_and_no_traceback(
    folders: Path, call: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call) == 1
    shown = capsys.readouterr()
    assert said in words(shown.err)
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert list((folders / "raw").glob("Dataset*")) == []


def test_without_nnunets_variables_the_message_names_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert main(["check", "-d", "510"]) == 1
    assert "export nnUNet_raw=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [(["check", "-d", "510"], "starts again"), (["merge", "-i", "1", "2", "-d", "3"], "goes on where it stopped")],
)
def test_interrupted_it_says_what_the_same_command_does_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    def interrupted(dataset: str) -> Path:
        raise KeyboardInterrupt

    for module in (cli.check, cli.merge):
        monkeypatch.setattr(module, "find_dataset", interrupted)
    assert main(command) == 130
    assert f"interrupted; the same command {says}." in capsys.readouterr().err


def test_an_error_of_ours_that_is_no_mistake_of_the_user_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(dataset: str) -> Path:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli.check, "find_dataset", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["check", "-d", "510"])


def test_trainers_are_listed_and_their_folder_is_one_nnunet_can_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers", "--path"]) == 0
    folder = Path(capsys.readouterr().out.rstrip("\n"))
    assert folder.is_absolute()
    files = sorted(file.stem for file in folder.glob("*.py"))
    networks = ["nnUNetTrainerPrimusM", "nnUNetTrainerSwinUNETR"]
    assert sorted({*files} - {*networks}) == [f"nnUNetTrainer{loss}" for loss in ("ABCE", "ACCE", "Marginal", "Naive")]
    assert main(["trainers"]) == 0
    *listed, last = capsys.readouterr().out.splitlines()
    assert {"nnUNetTrainerMarginal", "nnUNetTrainerACCEIgnore", "nnUNetTrainerABCELabelDropoutSwinUNETR"} <= {*listed}
    assert not [name for name in listed if name.endswith("epochs") or not name.startswith("nnUNetTrainer")]
    assert "_5epochs" in last


@pytest.mark.parametrize(
    "program", [[str(Path(sys.executable).with_name("nnunet_partial"))], [sys.executable, "-m", "nnunet_partial"]]
)
def test_the_installed_command_gives_the_exit_code_to_the_shell(tmp_path: Path, program: list[str]) -> None:
    environment = {"nnUNet_raw": str(tmp_path), "PATH": ""}
    done = subprocess.run([*program, "check", "-d", "1"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("nnunet_partial check: ")
    assert done.stderr == says("no dataset 1")


def test_a_file_that_another_program_has_open_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(args: argparse.Namespace) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "results/per_case.csv")

    monkeypatch.setattr("nnunet_partial.cli.check.run", refuse)
    assert main(["check", "-d", "501"]) == 1
    assert capsys.readouterr().err == says("results/per_case.csv", "Permission denied")


def test_with_json_nothing_but_the_document_is_on_stdout() -> None:
    """Not what libraries print, nor what other processes do; in a process of its own, as it is about its stdout."""
    code = """if True:
        import os, subprocess, sys
        from nnunet_partial import cli
        from nnunet_partial.cli import check
        from nnunet_partial.errors import DatasetError

        def run(args):
            print("text")
            os.write(1, b"library")
            subprocess.run([sys.executable, "-c", "print('process')"], check=True)
            if args.dataset == "2":
                raise DatasetError("no such dataset")
            args.document = {"dice": [0.5, float("nan")], "name": "na\\u00efve"}
            return 1

        check.run = run
        sys.exit(cli.main(["check", "-d", sys.argv[1], "--json"]))
    """

    def call(dataset: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, dataset], capture_output=True, text=True, check=False)

    done = call("1")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"dice": [0.5, None], "name": "na\u00efve"}
    assert [word for word in ("text", "library", "process") if word not in done.stderr] == []
    stopped = call("2")
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert stopped.stderr.endswith("nnunet_partial check: no such dataset\n")


def test_the_page_of_exit_codes_has_each_command() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "reference" / "exit-codes-and-output.md"
    rows = [line.split("|")[1] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [command for command in COMMANDS if not any(f"`{command}" in row for row in rows)] == []


def test_numbers_of_numpy_and_paths_are_plain() -> None:
    document = {"a": np.float32(0.5), "b": np.int64(3), "c": (np.nan, np.inf), "d": Path("x"), "e": True, 1: None}
    expected = {"a": 0.5, "b": 3, "c": [None, None], "d": "x", "e": True, "1": None}
    assert json.loads(json_text(document)) == expected
