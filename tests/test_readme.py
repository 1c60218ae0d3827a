"""The README's commands and code run as they stand there, on small synthetic datasets and on the CPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import readme
from helpers.nnunet_in_process import InProcess
from helpers.toy_dataset import shrink

from nnunet_partial.cli import build_parser
from nnunet_partial.labels import Manifest
from nnunet_partial.phantom.writers import write_camus, write_echonet_dynamic

COMMANDS = [words for block in readme.blocks("bash") for words in readme.commands(block)]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "nnunet_partial"], ids=" ".join)
def test_the_parser_takes_each_command(words: list[str]) -> None:
    assert build_parser().parse_args(words[1:]).command == words[1]


@pytest.mark.slow
def test_the_losses_run_as_shown_and_import_nothing_of_nnunet() -> None:
    (code,) = readme.blocks("python")
    assert "from nnunet_partial.losses import MarginalLoss" in code
    loaded = "import sys\nprint([name for name in sys.modules if name.startswith(('nnunetv2', 'batchgenerators'))])"
    done = subprocess.run([sys.executable, "-c", code + loaded], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_manifest_by_hand_says_what_the_page_says() -> None:
    (text,) = readme.blocks("json")
    manifest = Manifest.from_json(json.loads(text))
    classes = ("kidney", "liver")  # after the background
    known = {case: manifest.known(case, classes).tolist() for case in ("siteB_001", "siteA_001", "siteA_017")}
    assert known == {"siteB_001": [True, True, False], "siteA_001": [True] * 3, "siteA_017": [True] * 3}
    assert manifest.labels_of("siteA_017").absent == ("liver",)


def test_every_block_has_a_language_and_every_file_exists() -> None:
    text = readme.README.read_text(encoding="utf-8")
    opened = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
    assert opened.count("") == 0
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert [link for link in links if not (readme.README.parent / link).exists()] == []


def run(project: InProcess, commands: list[list[str]]) -> None:
    """Run commands in the folder of the project; the plans are made small, and a training lasts an epoch."""
    for words in commands:
        command = readme.as_run(words, project.environment)
        if command[0] == "nnUNetv2_train":
            project.train(*command[1:-2], nnUNet_partial_epochs="1")
        elif command[0] == "nnUNetv2_plan_and_preprocess":
            project.must(*command, "-np", "1", "-npfp", "1")
            (plans,) = (project.root / "preprocessed").glob("*/nnUNetPlans.json")
            shrink(plans, "2d")
        else:  # nnU-Net's prediction in this process
            project.must(*command, *(("-npp", "0", "-nps", "0") if command[0] == "nnUNetv2_predict" else ()))


@pytest.mark.slow
def test_the_commands_for_the_readers_own_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = InProcess(tmp_path)
    readme.write_own_dataset(tmp_path / "raw")
    run(project, readme.block_with("declare"))
    manifest = Manifest.read(tmp_path / "raw" / readme.OWN / "partial_labels.json")
    assert manifest.labels_of("siteB_p1_0").annotated == ("kidney",)
    assert manifest.labels_of("siteA_p0_0").annotated == ("kidney", "liver")
    assert [file.name for file in (tmp_path / "predictions").glob("*.nii.gz")] == ["new.nii.gz"]


@pytest.mark.slow
def test_the_commands_for_echocardiography(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_camus(tmp_path / "CAMUS_public", 6, seed=1, shape=(48, 48), half_sequence=False)
    write_echonet_dynamic(tmp_path / "EchoNet-Dynamic", 6, seed=2, shape=(48, 48), frames=8)
    project = InProcess(tmp_path)
    run(project, readme.block_with("convert camus"))
    images = {file.name.replace("_0000", "") for file in (tmp_path / "raw/Dataset510_Echo/imagesTs").iterdir()}
    assert {file.name for file in (tmp_path / "predictions").glob("*.nii.gz")} == images
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
