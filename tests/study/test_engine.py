"""The workflow itself: what would run, what is refused before it runs, locks, and pictures of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
from raw_folders import Drawn, write_dataset

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study import hold
from nnunet_partial.study.definition import Study
from nnunet_partial.study.engine import run
from nnunet_partial.study.workflow import prepare_workflow

pytest.importorskip("snakemake", reason="Snakemake is not installed")

STUDY = """\
name: small
datasets: {toy: 701}
scenarios:
  - {from: toy, missing: [LA], fraction: 0.5}
losses: [naive, marginal]
architectures: [plain, resenc-m]
folds: [0, 1]
device: cpu
network: {features: [8, 16], patch: [32, 32]}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    known = {"annotated": ["LV", "LA"], "domain": "a"}
    cases = [Drawn(f"p{number}", [1, 2], known, part) for number, part in enumerate(["Tr", "Tr", "Tr", "Ts"])]
    write_dataset(tmp_path / "raw", "Dataset701_Toy", {"LV": 1, "LA": 2}, cases)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def test_what_would_be_run(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    said = capfd.readouterr().out
    jobs = {line.split()[0]: int(line.split()[1]) for line in said.partition("Job stats:")[2].splitlines()[3:10]}
    # two losses, two networks, one seed: four models of two folds each
    assert jobs == {"prepare": 1, "scenario": 1, "train": 8, "predict": 4, "evaluate": 4, "tables": 1, "total": 19}
    assert not (file.parent / "small" / "done").exists()
    assert not (file.parent / "small" / "begun.json").exists()  # a look binds nobody


def test_complete_cases_alone_still_predict_the_scenario(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text(STUDY.replace("naive, marginal", "complete-cases"))
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert "done/scenario/toy-without-LA-50-complete" in said
    assert re.search(r"output: done/scenario/toy-without-LA-50\b(?!-)", said)


def test_what_stands_after_the_dashes_is_for_snakemake(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(file), "--dry-run", "--", "--until", "prepare"]) == 0
    said = capfd.readouterr().out
    assert "prepare" in said
    assert "train" not in said
    with pytest.raises(SystemExit, match="2"):
        main(["study", "status", str(file), "--", "--until", "prepare"])
    assert "study takes nothing after --; got --until prepare" in capfd.readouterr().err


def test_every_step_is_an_ordinary_command(file: Path) -> None:
    folder = prepare_workflow(Study.read(file), file, hands_out=False, begin=True)
    steps = json.loads(folder.workflow.read_text())
    small = "-c 2d --features 8 16 --patch 32 32 --batch 8"
    assert steps["sources"]["toy"].split("; ") == [
        "unset nnUNet_n_proc_DA",
        "nnUNetv2_extract_fingerprint -d 701",
        "nnUNetv2_plan_experiment -d 701 -pl ExperimentPlanner",
        "nnUNetv2_plan_experiment -d 701 -pl nnUNetPlannerResEncM",
        "nnUNetv2_preprocess -d 701 -plans_name nnUNetPlans -c 2d -np 1",
        f"nnunet_partial shrink -d Dataset701_Toy -p nnUNetPlans {small}",
        f"nnunet_partial shrink -d Dataset701_Toy -p nnUNetResEncUNetMPlans {small}",
    ]
    assert steps["datasets"]["toy-without-LA-50"]["commands"].split("; ") == [
        "nnunet_partial scenario -i 701 -d 601 --name toy-without-LA-50 --overwrite --missing LA --fraction 0.5",
        "nnunet_partial preprocess -d 601 --like 701 -c 2d -p nnUNetPlans nnUNetResEncUNetMPlans",
    ]
    assert steps["models"]["toy-without-LA-50/marginal/resenc-m"]["arguments"] == (
        "-tr nnUNetTrainerMarginal -p nnUNetResEncUNetMPlans -device cpu"
    )
    assert "export nnUNet_partial_epochs=250; unset nnUNet_partial_iterations; " in steps["exports"]


def test_labels_that_changed_since_it_was_begun_stop_it(file: Path) -> None:
    prepare_workflow(Study.read(file), file, hands_out=False, begin=True)
    manifest = file.parent / "raw" / "Dataset701_Toy" / "partial_labels.json"
    manifest.write_text(manifest.read_text().replace('"domain": "a"', '"domain": "b"'))
    with pytest.raises(PartialLabelError, match=r"data set toy: .*labels \w+\" when it was begun"):
        prepare_workflow(Study.read(file), file, hands_out=False, begin=True)


def test_a_test_case_that_came_since_stops_it(file: Path) -> None:
    prepare_workflow(Study.read(file), file, hands_out=False, begin=True)
    raw = file.parent / "raw" / "Dataset701_Toy"
    (raw / "labelsTs" / "p9.nii.gz").write_bytes((raw / "labelsTs" / "p3.nii.gz").read_bytes())
    with pytest.raises(PartialLabelError, match="files of data set toy: "):
        prepare_workflow(Study.read(file), file, hands_out=False, begin=True)


def test_a_scenario_of_another_data_set_may_be_added(file: Path) -> None:
    prepare_workflow(Study.read(file), file, hands_out=False, begin=True)
    known = {"annotated": ["LV", "LA"], "domain": "b"}
    cases = [Drawn(f"q{number}", [1, 2], known, part) for number, part in enumerate(["Tr", "Tr", "Ts"])]
    write_dataset(file.parent / "raw", "Dataset702_More", {"LV": 1, "LA": 2}, cases)
    more = STUDY.replace("{toy: 701}", "{toy: 701, more: 702}")
    file.write_text(more.replace("losses", "  - {from: more, missing: [LA], fraction: 0.5}\nlosses"))
    prepare_workflow(Study.read(file), file, hands_out=False, begin=True)
    manifest = file.parent / "raw" / "Dataset702_More" / "partial_labels.json"
    manifest.write_text(manifest.read_text().replace('"domain": "b"', '"domain": "c"'))
    with pytest.raises(PartialLabelError, match="data set more: "):
        prepare_workflow(Study.read(file), file, hands_out=False, begin=True)


def test_everything_that_does_not_fit_is_told_at_once_by_its_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        """\
name: small
datasets: {toy: 701, other: 709, tr: 702}
scenarios:
  - {from: toy, missing: [RV], fraction: 0.5}
  - {from: toy, domain: b, missing: [LA]}
  - {from: toy, missing: [LA]}
  - {from: other, missing: [LA]}
  - {from: tr, missing: [LA], fraction: 0.5}
losses: [naive, dice]
device: cpu
"""
    )
    (file.parent / "raw" / "Dataset702_NoTest").mkdir()
    shutil.copytree(
        file.parent / "raw" / "Dataset701_Toy", file.parent / "raw" / "Dataset702_NoTest", dirs_exist_ok=True
    )
    shutil.rmtree(file.parent / "raw" / "Dataset702_NoTest" / "labelsTs")
    assert main(["study", "run", str(file)]) == 1
    said = capsys.readouterr().err
    for line, text in (
        (2, "other: There is no data set 709"),
        (2, "tr: Dataset702_NoTest has no test cases with labels"),
        (4, "toy-without-RV-50: "),
        (5, "toy-b-without-LA: "),
        (6, "toy-without-LA: No training case would be annotated for LA any more"),
        (9, "losses: there is no 'dice'"),
    ):
        assert f"study.yaml, line {line}: {text}" in said
    assert not (file.parent / "small").exists()


def test_an_executor_that_is_not_installed(file: Path) -> None:
    with pytest.raises(PartialLabelError, match="pip install snakemake-executor-plugin-nowhere"):
        run(Study.read(file), file, "nowhere", None, dry_run=True, more=[])


def test_without_a_graphics_card_the_file_must_say_cpu(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    file.write_text(STUDY.replace("device: cpu", "device: cuda"))
    with pytest.raises(PartialLabelError, match=r"wants 1 graphics card\(s\); here are 0"):
        run(Study.read(file), file, "local", None, dry_run=True, more=[])


def test_the_graph(file: Path, tmp_path: Path) -> None:
    assert main(["study", "graph", str(file), "-o", str(tmp_path / "graph.dot")]) == 0
    drawn = (tmp_path / "graph.dot").read_text()
    assert drawn.startswith("digraph snakemake_dag")
    assert drawn.count("train") == 8
    with pytest.raises(SystemExit, match="2"):
        main(["study", "graph", str(file)])
    assert main(["study", "graph", str(file), "-o", str(tmp_path / "graph.jpg")]) == 1


def test_a_step_that_still_runs_is_waited_for(tmp_path: Path) -> None:
    lock, go = tmp_path / "locks" / "step.lock", tmp_path / "go"
    command = [sys.executable, "-m", "nnunet_partial.study.hold", str(lock), "0", "0"]
    holder = subprocess.Popen([*command, "sh", "-c", f"echo begun; until test -e {go}; do sleep 0.05; done"], stdout=-1)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"begun\n"
        holder.kill()  # what it started goes on, and keeps the lock
        holder.wait()
        assert hold.is_held(lock)
        second = subprocess.Popen([*command, "echo", "second"], stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stdout.readline().startswith("waiting: this step is still running")
        go.touch()
        assert second.communicate(timeout=60)[0] == "second\n"
    assert not hold.is_held(lock)


def test_cards_are_handed_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    held: list[IO[str]] = []
    assert hold._free("card", hold.visible_cards, 2, held) == ["3", "5"]
    assert hold._free("card", hold.visible_cards, 1, held) == ["7"]
    for file in held:
        file.close()
    again: list[IO[str]] = []
    assert hold._free("card", hold.visible_cards, 1, again) == ["3"]
    again[0].close()


def test_a_step_keeps_to_its_core(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nnunet_partial.study.hold", str(tmp_path / "lock"), "0", "1"]
    counting = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    own = {**os.environ, "TMPDIR": str(tmp_path)}  # the locks of studies that run on this machine lie elsewhere
    done = subprocess.run([*command, *counting], env=own, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "1"


def test_a_plain_kill_ends_the_steps_too(file: Path) -> None:
    program = str(Path(sys.executable).with_name("nnunet_partial"))
    study, lock = file.parent / "small", file.parent / "small" / "locks" / "prepare" / "toy.lock"
    with (file.parent / "output").open("wb") as output:
        process = subprocess.Popen([program, "study", "run", str(file)], stdout=output, stderr=output)
        while not hold.is_held(lock):
            assert process.poll() is None, (file.parent / "output").read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=120) == 130
    end = time.monotonic() + 30
    while hold.is_held(lock):
        assert time.monotonic() < end, "the step is still running"
        time.sleep(0.05)
    assert not (study / "done" / "prepare" / "toy").exists()


def test_the_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    assert hold.main([str(tmp_path / "lock"), "0", "0", sys.executable, "-c", "raise SystemExit(7)"]) == 7
