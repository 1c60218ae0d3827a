"""The workflow itself: what would run, what is refused before it runs, locks, and pictures of it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
from helpers.other_systems import pretend
from helpers.raw_datasets import Drawn, write_dataset

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study import locks, runner, workflow
from nnunet_partial.study.checks import data_problems
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.runner import lock_study, run
from nnunet_partial.study.steps import steps as all_steps
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
network: {features: [8, 16, 16], patch: [32, 32]}
"""
NAME = "toy-without-LA-50"
PLAIN_ALONE = STUDY.replace("naive, marginal", "marginal").replace("plain, resenc-m", "plain").replace("[0, 1]", "[0]")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    known = {"annotated": ["LV", "LA"], "domain": "a"}
    cases = [Drawn(f"p{number}", [1, 2], known, part) for number, part in enumerate(["Tr", "Tr", "Tr", "Ts", "Tr"])]
    write_dataset(tmp_path / "raw", "Dataset701_Toy", {"LV": 1, "LA": 2}, cases)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


@pytest.mark.slow
def test_what_would_be_run(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    # two losses, two networks, one seed: four models of two folds each; one of the networks wants plans of its own
    would_run = {
        "prepare": 1,
        "plans": 1,
        "scenario": 1,
        "reuse_preprocessing": 1,
        "train": 8,
        "predict": 4,
        "evaluate": 4,
    }
    assert outlook_in(capfd.readouterr().out) == {step: (0, number, 0) for step, number in would_run.items()}
    assert not (file.parent / "small" / "done").exists()
    assert not (file.parent / "small" / "begun.json").exists()  # a look binds nobody


def outlook_in(said: str) -> dict[str, tuple[int, ...]]:
    """Of each kind of step: done, would run, would be repeated."""
    rows = [line.split() for line in said.splitlines()[2:] if line[-1:].isdigit()]
    found = {kind: tuple(map(int, numbers)) for kind, *numbers in rows}
    assert found.pop("all") == tuple(map(sum, zip(*found.values(), strict=True)))
    return found


@pytest.fixture
def said_by_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of nnU-Net's and our programs, one that writes down how it was called; gives that file."""
    calls = tmp_path / "calls.txt"
    names = ("extract_fingerprint", "plan_experiment", "preprocess", "move_plans_between_datasets", "train", "predict")
    (tmp_path / "bin").mkdir()
    for name in ("nnunet_partial", *(f"nnUNetv2_{name}" for name in names)):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {calls}\n')
        program.chmod(0o755)
    exports = workflow._exports
    monkeypatch.setattr(
        workflow, "_exports", lambda *given: f'{exports(*given)} export PATH={tmp_path / "bin"}:"$PATH"; '
    )
    return calls


@pytest.mark.slow
def test_a_share_without_symbolic_links(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    with pytest.raises(PartialLabelError, match=r"Dataset701_Toy .*'folder'"):
        prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    assert main(["study", "run", str(file), "--dry-run"]) == 0


@pytest.mark.slow
def test_a_network_with_other_plans_may_be_added(
    file: Path, said_by_programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text(PLAIN_ALONE)
    assert main(["study", "run", str(file)]) == 0
    finished = {path: path.stat().st_mtime_ns for path in (file.parent / "small" / "done").rglob("*") if path.is_file()}
    assert len(finished) == 5
    assert StudyFolder(file.parent / "small").predicted_folds(f"predict/{NAME}/marginal/plain/seed0") == {0}
    said_by_programs.unlink()
    capfd.readouterr()

    file.write_text(PLAIN_ALONE.replace("[plain]", "[plain, resenc-m]"))
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    new = {"plans": (0, 1, 0), "reuse_preprocessing": (0, 1, 0)} | dict.fromkeys(
        ("train", "predict", "evaluate"), (1, 1, 0)
    )
    assert outlook_in(capfd.readouterr().out) == {"prepare": (1, 0, 0), "scenario": (1, 0, 0), **new}

    assert main(["study", "run", str(file)]) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    called = [call for call in said_by_programs.read_text().splitlines() if call.startswith("nnUNetv2")]
    residual, cpu = "nnUNetResEncUNetMPlans", "-device cpu -num_gpus 1"
    assert called[:-1] == [
        "nnUNetv2_plan_experiment -d 701 -pl nnUNetPlannerResEncM",
        f"nnUNetv2_move_plans_between_datasets -s 701 -t 601 -sp {residual}",
        f"nnUNetv2_train 601 2d_small 0 -tr nnUNetTrainerMarginal -p {residual} {cpu} --c",
    ]
    assert called[-1].startswith("nnUNetv2_predict -d 601 ")
    assert "nnunet_partial scenario" not in said_by_programs.read_text()


#: In place of a training: it writes how it was started, and ends as the next line of its trainer's file says.
TRAIN = """\
#!/bin/bash
echo "${{0##*/}} $*" >> {calls}
echo begun
trainer=$(echo "$*" | sed 's/.*-tr nnUNetTrainer\\([^ ]*\\).*/\\1/')
read -r code < {folder}/$trainer
sed -i 1d {folder}/$trainer
[ "$code" != signal ] || {{ kill -USR1 $PPID; code=75; }}  # SLURM's reaches all processes
[ "$code" != several ] || {{ echo "process 1 terminated with exit code 75"; code=1; }}  # PyTorch's, with several GPUs
exit "$code"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("naive", "marginal", "outcome", "not_done"),
    [
        (["0"], ["signal", "several", "0"], 0, set()),
        (["1"], ["75", "0"], 1, {"train", "predict", "evaluate"}),  # a failure is one, and is not repeated
    ],
)
def test_a_training_that_a_signal_stopped_is_started_again(
    file: Path, said_by_programs: Path, naive: list[str], marginal: list[str], outcome: int, not_done: set[str]
) -> None:
    file.write_text(PLAIN_ALONE.replace("[marginal]", "[naive, marginal]"))
    ends = {"Naive": naive, "Marginal": marginal}
    for trainer, codes in ends.items():
        said_by_programs.with_name(trainer).write_text("\n".join(codes) + "\n")
    train = TRAIN.format(calls=said_by_programs, folder=said_by_programs.parent)
    (said_by_programs.parent / "bin" / "nnUNetv2_train").write_text(train)
    assert main(["study", "run", str(file)]) == outcome
    called = said_by_programs.read_text().splitlines()
    folder = StudyFolder(file.parent / "small")
    for trainer, codes in ends.items():
        log = folder.log(f"train/{NAME}/{trainer.lower()}/plain/seed0/fold0")
        assert log.read_text().splitlines().count("begun") == len(codes)  # the report reads all epochs from it
        assert sum(call.startswith("nnUNetv2_train") and f"Trainer{trainer} " in call for call in called) == len(codes)
    assert sum(call.startswith("nnUNetv2_preprocess") for call in called) == 1  # what is done is not repeated
    missing = [step for step in all_steps(Study.read(file)) if not folder.done(step).exists()]
    assert {step.partition("/")[0] for step in missing} == not_done
    assert all(f"{NAME}/naive/" in step for step in missing)


def test_a_training_that_gets_nowhere_is_not_started_for_ever(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, starts = replace(Study.read(file), epochs=2), []
    folder = prepare_workflow(study, file, assign_devices=False, save=True)

    def stop(command: list[str]) -> int:
        starts.append(command)
        assert folder.stopped_steps() == []  # of the start before
        (folder.root / "locks" / "train" / "a").mkdir(parents=True, exist_ok=True)
        (folder.root / "locks" / "train" / "a" / "fold0.stopped").touch()
        return 1

    monkeypatch.setattr(runner, "_wait_for", stop)
    assert runner._run_to_end(study, folder, ["snakemake"]) == 1
    assert len(starts) == 2 + 1  # an epoch each at least, so that the third finds nothing left to train


@pytest.mark.slow
def test_a_folder_with_a_space_a_quote_and_brackets(
    tmp_path: Path, file: Path, said_by_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "it's [a] {b} $c;d"
    home.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(shutil.move(tmp_path / "raw", home / "raw")))
    (home / file.name).write_text(PLAIN_ALONE)
    assert main(["study", "run", str(home / file.name)]) == 0
    called = said_by_programs.read_text().splitlines()
    assert called[-1] == f"nnunet_partial study report {home / file.name} -o report.html"
    (predict,) = [call for call in called if call.startswith("nnUNetv2_predict")]
    assert f"-i {home}/small/nnUNet_raw/Dataset601_{NAME}/imagesTs -o " in predict


#: Nobody answers for the made-up SLURM.
AT_ONCE = ("--", "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "1")


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of SLURM's program, one that writes its arguments into the file that is given, and fails."""
    calls = tmp_path / "sbatch.txt"
    (tmp_path / "slurm").mkdir()
    for name, does in {"sbatch": f'printf "%s\\n" "$*" >> {calls}; exit 1', "sinfo": "", "sacct": ""}.items():
        (tmp_path / "slurm" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "slurm" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'slurm'}{os.pathsep}{os.environ['PATH']}")
    return calls


@pytest.mark.slow
@pytest.mark.parametrize(("step", "gpus"), [("train", 2), ("predict", 1)])
def test_a_job_with_gpus_is_one_task_on_one_node(file: Path, sbatch: Path, step: str, gpus: int) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="snakemake-executor-plugin-slurm is not installed")
    file.write_text(PLAIN_ALONE.replace("device: cpu", "device: cuda\ngpus_per_training: 2"))
    study = Study.read(file)
    folder = prepare_workflow(study, file, assign_devices=False, save=True)
    kinds = ["prepare", "scenario", "train", "predict"]
    for done in (name for name in all_steps(study) if name.partition("/")[0] in kinds[: kinds.index(step)]):
        folder.done(done).parent.mkdir(parents=True, exist_ok=True)
        folder.done(done).touch()
    assert main(["study", "run", str(file), "--executor", "slurm", *AT_ONCE]) == 1
    (call,) = sbatch.read_text().splitlines()
    words = call.partition(" --wrap=")[0].split()
    assert {f"--gpus={gpus}", "--nodes=1"} < set(words)
    assert [word for word in words if word.startswith("--ntasks")] == []  # Slurm then starts one


@pytest.mark.slow
def test_a_profile_that_nobody_asked_for_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = write_profile(file.parent / "mine")
    write_profile(file.parent / "default")  # Snakemake looks for one of this name where it is started
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(profile))
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert outlook_in(said)["train"] == (0, 8, 0)
    assert f"SNAKEMAKE_PROFILE={profile}" in said
    assert main(["study", "run", str(file), "--dry-run", "--", "--printshellcmds"]) == 0
    assert "rule train:" in capfd.readouterr().out
    assert main(["study", "run", str(file), "--dry-run", "--", "--profile", str(profile)]) == 0
    said = capfd.readouterr().out
    assert "rule prepare:" in said
    assert "rule train:" not in said
    assert "SNAKEMAKE_PROFILE" not in said


def write_profile(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("executor: dryrun\ncores: 1\nuntil: prepare\n")
    return folder


@pytest.mark.slow
def test_a_setting_may_change_until_a_training_rests_on_it(
    file: Path, said_by_programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text(PLAIN_ALONE.replace("[32, 32]", "[60, 60]"))
    assert main(["study", "run", str(file), "--", "--until", "prepare"]) == 1  # all else is not done
    fingerprint = file.parent / "small" / "nnUNet_preprocessed" / "Dataset701_Toy" / "dataset_fingerprint.json"
    fingerprint.parent.mkdir(parents=True)
    fingerprint.touch()  # nnU-Net would not make it again
    said_by_programs.unlink()
    capfd.readouterr()

    file.write_text(PLAIN_ALONE)
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert '"patch": [60, 60], "batch": 8} when it was begun' in said
    assert "prepare      1          1                  1" in said
    assert fingerprint.exists()

    assert main(["study", "run", str(file)]) == 0
    assert not fingerprint.exists()
    called = said_by_programs.read_text().splitlines()
    (shrink,) = [call for call in called if call.startswith("nnunet_partial shrink ")]
    assert shrink.endswith(" -d Dataset701_Toy -p nnUNetPlans -c 2d --features 8 16 16 --patch 32 32 --batch 8")
    file.write_text(PLAIN_ALONE + "epochs: 5\n")
    capfd.readouterr()
    assert main(["study", "run", str(file)]) == 1
    said = capfd.readouterr().err
    assert "epochs: 250 when it was begun, 5 now" in said


def test_a_checkpoint_rests_on_the_settings_and_a_refused_training_does_not(file: Path) -> None:
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    fold = folder.root / "results" / "seed0" / "Dataset601_x" / "T__nnUNetPlans__2d_small" / "fold_0"
    fold.mkdir(parents=True)
    (folder.log("train/x")).parent.mkdir(parents=True)
    (folder.log("train/x")).write_text("the trainer refused\n")
    folder.done("prepare/toy").parent.mkdir(parents=True)
    folder.done("prepare/toy").touch()
    shorter = replace(Study.read(file), epochs=5)
    prepare_workflow(shorter, file, assign_devices=False, save=True)
    assert not folder.log("train/x").exists()  # its epochs would mingle with those to come
    assert folder.done("prepare/toy").exists()  # no plan rests on the number of epochs
    (fold / "checkpoint_best.pth").touch()
    with pytest.raises(PartialLabelError, match="epochs: 5 when it was begun, 250 now"):
        prepare_workflow(Study.read(file), file, assign_devices=False, save=True)


def test_settings_do_not_change_beneath_a_step_that_runs(file: Path) -> None:
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    running = "still running .*: prepare/toy"
    with locks._open_locked(folder.lock("prepare/toy")), pytest.raises(PartialLabelError, match=running):
        prepare_workflow(replace(Study.read(file), epochs=5), file, assign_devices=False, save=True)


def test_the_default_plans_are_there_whatever_it_was_begun_with(file: Path) -> None:
    file.write_text(PLAIN_ALONE.replace("[plain]", "[resenc-m]"))
    study = Study.read(file)
    prepare_workflow(study, file, assign_devices=False, save=True)
    assert {"plans/toy/nnUNetResEncUNetMPlans", f"reuse_preprocessing/{NAME}/nnUNetResEncUNetMPlans"} < set(
        all_steps(study)
    )
    both = replace(study, architectures=("resenc-m", "plain"))
    prepare_workflow(both, file, assign_devices=False, save=True)
    trained = {f"{step}/{NAME}/marginal/plain/seed0" for step in ("predict", "evaluate")}
    assert set(all_steps(both)) - set(all_steps(study)) == {f"train/{NAME}/marginal/plain/seed0/fold0", *trained}


def test_a_study_whose_first_step_made_other_plans_keeps_it(file: Path) -> None:
    file.write_text(PLAIN_ALONE.replace("[plain]", "[resenc-m, plain]"))
    (file.parent / "small").mkdir()
    (file.parent / "small" / "begun.json").write_text('{"plans": ["nnUNetResEncUNetMPlans"]}')
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    steps = json.loads(folder.workflow.read_text())
    assert {name: model["after"] for name, model in steps["models"].items()} == {
        f"{NAME}/marginal/resenc-m": f"scenario/{NAME}",
        f"{NAME}/marginal/plain": f"reuse_preprocessing/{NAME}/nnUNetPlans",
    }
    assert list(steps["plans"]) == ["toy/nnUNetPlans"]


@pytest.mark.slow
def test_complete_cases_alone_still_predict_the_scenario(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text(STUDY.replace("naive, marginal", "complete-cases").replace("0.5", "0.3"))
    assert main(["study", "run", str(file), "--dry-run", "--", "--printshellcmds"]) == 0
    said = capfd.readouterr().out
    assert "done/scenario/toy-without-LA-30-complete" in said
    assert re.search(r"output: done/scenario/toy-without-LA-30\b(?!-)", said)
    # the scenario itself trains nobody, so that it needs no further plans
    assert "done/reuse_preprocessing/toy-without-LA-30-complete/nnUNetResEncUNetMPlans" in said
    assert "done/reuse_preprocessing/toy-without-LA-30/" not in said


@pytest.mark.slow
def test_what_stands_after_the_dashes_is_for_snakemake(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(file), "--dry-run", "--", "--until", "prepare"]) == 0
    said = capfd.readouterr().out
    assert "prepare" in said
    assert "train" not in said
    with pytest.raises(SystemExit, match="2"):
        main(["study", "status", str(file), "--", "--until", "prepare"])
    assert "study takes nothing after --; got --until prepare" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--dryrun", "-np"])
def test_a_dry_run_asked_of_snakemake_is_no_run(file: Path, option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(file), "--", option]) == 0
    said = capfd.readouterr().out
    assert "rule prepare" in said
    assert "steps are done" not in said
    assert not (Study.read(file).folder / "begun.json").exists()


def test_how_snakemake_may_be_asked_for_a_dry_run() -> None:
    given = ["--dry-run", "--dryrun", "-n", "-np", "-p", "--notemp"]
    assert list(filter(runner._DRY_RUN.fullmatch, given)) == given[:4]


def test_an_option_of_snakemake_without_the_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    for action, hint in (("run", "; Snakemake's options come after --, as in: -- --retries 2"), ("status", "")):
        with pytest.raises(SystemExit, match="2"):
            main(["study", action, "study.yaml", "--retries", "2"])
        assert capsys.readouterr().err.endswith(
            f"nnunet_partial study {action}: error: unrecognized arguments: --retries 2{hint}\n"
        )


def test_every_step_is_an_ordinary_command(file: Path) -> None:
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    steps = json.loads(folder.workflow.read_text())
    small, hidden = "-c 2d --features 8 16 16 --patch 32 32 --batch 8", "--missing LA --fraction 0.5"
    assert steps["sources"]["toy"].split("; ") == [
        "unset nnUNet_n_proc_DA",
        "nnUNetv2_extract_fingerprint -d 701",
        "nnUNetv2_plan_experiment -d 701 -pl ExperimentPlanner",
        "nnUNetv2_preprocess -d 701 -plans_name nnUNetPlans -c 2d -np 1",
        f"nnunet_partial shrink -d Dataset701_Toy -p nnUNetPlans {small}",
    ]
    assert steps["plans"]["toy/nnUNetResEncUNetMPlans"].split("; ") == [
        "unset nnUNet_n_proc_DA",
        "nnUNetv2_plan_experiment -d 701 -pl nnUNetPlannerResEncM",
        f"nnunet_partial shrink -d Dataset701_Toy -p nnUNetResEncUNetMPlans {small}",
    ]
    assert steps["datasets"]["toy-without-LA-50"]["commands"].split("; ") == [
        f"nnunet_partial scenario -i 701 -d 601 --name {NAME} --overwrite {hidden}",
        "nnunet_partial preprocess -d 601 --like 701 -c 2d -p nnUNetPlans",
    ]
    assert steps["reused"] == {
        "toy-without-LA-50/nnUNetResEncUNetMPlans": "nnUNetv2_move_plans_between_datasets -s 701 -t 601 "
        "-sp nnUNetResEncUNetMPlans"
    }
    assert steps["models"]["toy-without-LA-50/marginal/resenc-m"]["arguments"] == (
        "-tr nnUNetTrainerMarginal -p nnUNetResEncUNetMPlans -device cpu"
    )
    exports = steps["exports"].split("; ")
    assert {"export nnUNet_partial_epochs=250", "unset nnUNet_partial_iterations"} < set(exports)


@pytest.mark.parametrize(("folds", "option"), [("[1]", "--fold 1"), ("[1, 0]", "-f 1 0")])
def test_pseudo_labels_are_filled_after_the_trainings_of_their_seed(file: Path, folds: str, option: str) -> None:
    text = STUDY.replace("[naive, marginal]", "[marginal, marginal-fill]").replace("[0, 1]", folds)
    file.write_text(text.replace("device: cpu", "seeds: [3]\ndevice: cpu"))
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    steps = json.loads(folder.workflow.read_text())
    name = f"{NAME}-marginal-fill-plain-seed3-folds{folds[1:-1].replace(', ', '-')}"
    numbers = [int(number) for number in folds[1:-1].split(", ")]
    assert steps["fills"][name] == {
        "trained": [f"done/train/{NAME}/marginal/plain/seed3/fold{number}" for number in numbers],
        "seed": 3,
        "commands": f"nnunet_partial fill -i 601 -d 602 --name {name} --overwrite -tr nnUNetTrainerMarginal "
        f"-c 2d_small -p nnUNetPlans -device cpu {option}; "
        "nnunet_partial preprocess -d 602 --like 601 -c 2d -p nnUNetPlans",
    }
    model = steps["models"][f"{NAME}/marginal-fill/plain/seed3"]
    assert (model["id"], model["after"]) == (602, f"fill/{name}")
    clean = {"1": 0} if len(numbers) == 1 else {}  # a clean fold is alone
    assert (model["folds"], model["fold_numbers"]) == (numbers, clean)
    assert steps["models"][f"{NAME}/marginal/plain"]["id"] == 601


@pytest.mark.slow
def test_pseudo_labels_in_the_workflow(file: Path, said_by_programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        PLAIN_ALONE.replace("losses: [marginal]", "losses: [marginal, marginal-fill]").replace("[0]", "[1]")
    )
    assert main(["study", "run", str(file), "--dry-run"]) == 0
    would_run = {"prepare": 1, "scenario": 1, "fill": 1, "train": 2, "predict": 2, "evaluate": 2}
    assert outlook_in(capfd.readouterr().out) == {step: (0, number, 0) for step, number in would_run.items()}
    assert main(["study", "run", str(file)]) == 0
    called = said_by_programs.read_text().splitlines()
    wanted = ("nnUNetv2_train", "nnunet_partial fill", "nnunet_partial preprocess -d 602")
    kinds = [" ".join(call.split()[:2]) for call in called if call.startswith(wanted)]
    assert kinds == ["nnUNetv2_train 601", "nnunet_partial fill", "nnunet_partial preprocess", "nnUNetv2_train 602"]
    (trained,) = [call for call in called if call.startswith("nnUNetv2_train 602")]
    assert trained.split()[3] == "0"  # of the filled dataset, whose only fold is fold 1 of the scenario
    (predicted,) = [call for call in called if call.startswith("nnUNetv2_predict -d 602")]
    assert " -f 0 " in predicted
    assert NAME in predicted  # the test images of the scenario


def test_further_plans_with_data_of_their_own(file: Path) -> None:
    file.write_text(
        STUDY.replace("32, 32", "8, 32, 32") + "configuration: 3d_lowres\n"
    )  # where nnU-Net's residual plans share no data
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=False)
    steps = json.loads(folder.workflow.read_text())
    own = "nnUNetv2_preprocess -d 701 -plans_name nnUNetResEncUNetMPlans -c 3d_lowres -np 1"
    assert own in steps["plans"]["toy/nnUNetResEncUNetMPlans"]
    assert own not in steps["sources"]["toy"]
    assert steps["reused"]["toy-without-LA-50/nnUNetResEncUNetMPlans"] == (
        "nnunet_partial preprocess -d 601 --like 701 -c 3d_lowres -p nnUNetResEncUNetMPlans"
    )


def test_the_full_phantom_study_goes_on_with_the_small_one() -> None:
    studies = Path(__file__).parents[2] / "studies"
    small, full = (Study.read(studies / f"{name}.yaml") for name in ("phantom", "phantom-full"))
    assert full.folder == small.folder
    assert set(all_steps(small)) < set(all_steps(full))
    for setting in ("configuration", "epochs", "iterations", "val_iterations", "network", "folds"):
        assert getattr(small, setting) == getattr(full, setting)
    assert small.datasets.items() < full.datasets.items()


def begin_and_train(file: Path) -> None:
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    done = folder.done(f"train/{NAME}/naive/plain/seed0/fold0")
    done.parent.mkdir(parents=True)
    done.touch()


def test_labels_that_changed_since_it_was_begun_stop_it(file: Path) -> None:
    begin_and_train(file)
    manifest = file.parent / "raw" / "Dataset701_Toy" / "partial_labels.json"
    manifest.write_text(manifest.read_text().replace('"domain": "a"', '"domain": "b"'))
    with pytest.raises(PartialLabelError, match=r"dataset toy: .*labels \w+\" when"):
        prepare_workflow(Study.read(file), file, assign_devices=False, save=True)


def test_a_test_case_that_came_since_stops_it(file: Path) -> None:
    begin_and_train(file)
    raw = file.parent / "raw" / "Dataset701_Toy"
    (raw / "labelsTs" / "p9.nii.gz").write_bytes((raw / "labelsTs" / "p3.nii.gz").read_bytes())
    with pytest.raises(PartialLabelError, match="files of dataset toy: "):
        prepare_workflow(Study.read(file), file, assign_devices=False, save=True)


def test_a_scenario_of_another_data_set_may_be_added(file: Path) -> None:
    begin_and_train(file)
    known = {"annotated": ["LV", "LA"], "domain": "b"}
    cases = [Drawn(f"q{number}", [1, 2], known, part) for number, part in enumerate(["Tr", "Tr", "Ts"])]
    write_dataset(file.parent / "raw", "Dataset702_More", {"LV": 1, "LA": 2}, cases)
    more = STUDY.replace("{toy: 701}", "{toy: 701, more: 702}")
    file.write_text(more.replace("losses", "  - {from: more, missing: [LA], fraction: 0.5}\nlosses"))
    prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    manifest = file.parent / "raw" / "Dataset702_More" / "partial_labels.json"
    manifest.write_text(manifest.read_text().replace('"domain": "b"', '"domain": "c"'))
    with pytest.raises(PartialLabelError, match="dataset more: "):
        prepare_workflow(Study.read(file), file, assign_devices=False, save=True)


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
        (2, "other: There is no dataset 709"),
        (2, "tr: Dataset702_NoTest has no test cases"),
        (4, "toy-without-RV-50: "),
        (5, "toy-b-without-LA: "),
        (6, "toy-without-LA: No training case "),
        (9, "losses: there is no 'dice'"),
    ):
        assert f"study.yaml, line {line}: {text}" in said
    assert not (file.parent / "small").exists()


@pytest.mark.slow
def test_regions_want_losses_that_can_learn_them(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"EPI": [1, 2], "LV": 1, "LA": 3}
    known = {"annotated": [*labels], "domain": "a"}
    cases = [Drawn(f"p{number}", [1, 2, 3], known, part) for number, part in enumerate(["Tr", "Tr", "Tr", "Ts", "Tr"])]
    write_dataset(file.parent / "raw", "Dataset701_Toy", labels, cases, regions_class_order=[2, 1, 3])
    file.write_text(STUDY.replace("naive, marginal", "naive, marginal, abce-exclusive, abce"))
    assert main(["study", "run", str(file), "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert re.search(r"line 2: toy: .*abce-exclusive, marginal cannot .*nnUNetTrainerABCE", said)
    file.write_text(STUDY.replace("naive, marginal", "naive, abce-label-dropout, abce-no-mirroring"))
    assert main(["study", "run", str(file), "--dry-run"]) == 0


def test_a_fold_that_a_scenario_does_not_have(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # two of the four patients lack LA, so that each fold keeps another who is annotated for it
    file.write_text(STUDY.replace("[0, 1]", "[0, 4]"))
    assert main(["study", "run", str(file)]) == 1
    assert re.search(f"line 4: {NAME}: has 4 fold.*'folds' asks for 4 ", capsys.readouterr().err)


def test_a_fold_in_which_no_case_is_annotated_for_a_hidden_structure(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of four patients lose LA; the last validates one of the folds, which then trains on no LA."""
    file.write_text(STUDY.replace("fraction: 0.5", "fraction: 0.7").replace("[0, 1]", "[0, 1, 2, 3]"))
    assert main(["study", "run", str(file)]) == 1
    said = re.findall(r"line 4: toy-without-LA-70: .*fold (\d) .* LA,", capsys.readouterr().err)
    assert len(said) == 1
    others = sorted({"0", "1", "2", "3"} - {*said})
    file.write_text(file.read_text().replace("[0, 1, 2, 3]", f"[{', '.join(others)}]"))
    assert data_problems(Study.read(file)) == []


def test_names_too_long_for_a_dataset_are_told_before_the_trainings(file: Path) -> None:
    """The filled dataset has 47 characters more than the source: -without-LA-50-marginal-fill-plain-seed0-folds0."""
    text = PLAIN_ALONE.replace("losses: [marginal]", "losses: [marginal, marginal-fill]")
    for length, problems in ((100 - 47, []), (101 - 47, [4])):
        file.write_text(text.replace("toy", "t" * length))
        assert [line for line, _ in data_problems(Study.read(file))] == problems


def test_two_names_of_one_dataset(file: Path) -> None:
    """Both would be planned and preprocessed in the same folder, at the same time."""
    file.write_text(STUDY.replace("{toy: 701}", "{toy: 701, other: 702, same: 701.0}"))
    with pytest.raises(PartialLabelError, match="line 2: same and toy "):
        Study.read(file)


def test_patients_who_may_be_on_both_sides_or_have_no_name_are_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = file.parent / "raw" / "Dataset701_Toy" / "partial_labels.json"
    content = json.loads(manifest.read_text())
    for case, patient in (("p0", "P01"), ("p1", "P02"), ("p2", "P05"), ("p4", "P07"), ("p3", "p1")):
        content["cases"][case]["patient"] = patient
    for patient, said in (
        ("p1", "'P01' = 'p1'"),
        (None, "1 of 1 cases do not .*p3"),
        ("p9", None),
    ):  # p3 is a test case
        content["cases"]["p3"]["patient"] = patient
        manifest.write_text(json.dumps(content))
        folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=False)
        notes = json.loads(folder.workflow.read_text())["patient_notes"]
        assert [bool(re.search(f"toy: .*{said}", note)) for note in notes] == ([True] if said else [])
        assert all(f"NOTE: {note}" in capsys.readouterr().out for note in notes)


@pytest.mark.parametrize(
    ("tested", "measured"),
    [
        ({"annotated": ["LV"]}, False),
        ({"annotated": ["LV", "LA"], "interpolated": True}, False),
        ({"annotated": [], "absent": ["LA"]}, True),
    ],
)
def test_a_hidden_structure_that_no_test_case_shows_is_named(
    file: Path, tested: dict[str, list[str]], measured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = file.parent / "raw" / "Dataset701_Toy" / "partial_labels.json"
    content = json.loads(manifest.read_text())
    content["cases"]["p3"] = {**tested, "domain": "a"}
    manifest.write_text(json.dumps(content))
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=False)
    assert (json.loads(folder.workflow.read_text())["test_notes"] == []) == measured
    assert (f"NOTE: {NAME}: " in capsys.readouterr().out) != measured


def test_a_study_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(tmp_path / "nosuch.yaml")]) == 1
    assert re.search(r"nosuch\.yaml cannot be read .*/compare-losses\.md", capsys.readouterr().err)


def test_an_executor_that_is_not_installed(file: Path) -> None:
    with pytest.raises(PartialLabelError, match="pip install snakemake-executor-plugin-nowhere"):
        run(Study.read(file), file, "nowhere", None, dry_run=True, snakemake_options=[])


def test_without_a_gpu_the_file_must_say_cpu(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    file.write_text(STUDY.replace("device: cpu", "device: cuda"))
    with pytest.raises(PartialLabelError, match=r"needs 1 GPU\(s\); this machine has 0"):
        run(Study.read(file), file, "local", None, dry_run=True, snakemake_options=[])


def test_a_study_that_is_being_run_is_left_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepare_workflow(Study.read(file), file, assign_devices=False, save=True)
    before = folder.workflow.read_text()
    file.write_text(PLAIN_ALONE)
    with lock_study(folder):
        for action in (["run", str(file)], ["run", str(file), "--dry-run"]):
            assert main(["study", *action]) == 1
            assert "This study is already running" in capsys.readouterr().err
    assert folder.workflow.read_text() == before  # which jobs on a cluster read


def test_a_step_that_still_runs_is_waited_for(tmp_path: Path) -> None:
    lock, go = tmp_path / "locks" / "step.lock", tmp_path / "go"
    command = [sys.executable, "-m", "nnunet_partial.study.locks", str(lock), "0", "0"]
    holder = subprocess.Popen([*command, "sh", "-c", f"echo begun; until test -e {go}; do sleep 0.05; done"], stdout=-1)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline().startswith(b'Versions: {"nnunet-partial": ')
        assert holder.stdout.readline() == b"begun\n"
        holder.kill()  # what it started goes on, and keeps the lock
        holder.wait()
        assert locks.is_held(lock)
        second = subprocess.Popen([*command, "echo", "second"], stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stdout.readline().startswith("waiting: this step is still running")
        go.touch()
        assert second.communicate(timeout=60)[0].splitlines()[1:] == ["second"]
    assert not locks.is_held(lock)


def test_gpus_are_assigned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    held: list[IO[str]] = []
    assert locks._acquire("GPU", locks.visible_gpus, 2, held) == ["3", "5"]
    assert locks._acquire("GPU", locks.visible_gpus, 1, held) == ["7"]
    for file in held:
        file.close()
    again: list[IO[str]] = []
    assert locks._acquire("GPU", locks.visible_gpus, 1, again) == ["3"]
    again[0].close()


@pytest.mark.parametrize(
    ("variable", "cards"),
    [
        ("-1", []),
        ("NoDevFiles", []),  # SLURM's, for a job without a card
        ("1,-1,2", ["1"]),  # CUDA stops there, too
        ("GPU-8932f937,MIG-1b2c", ["GPU-8932f937", "MIG-1b2c"]),
        (" 3, 5", ["3", "5"]),
    ],
)
def test_what_is_no_card_is_not_counted(monkeypatch: pytest.MonkeyPatch, variable: str, cards: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert locks.visible_gpus() == cards


def test_a_step_keeps_to_its_core(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nnunet_partial.study.locks", str(tmp_path / "lock"), "0", "1"]
    counting = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    own = {**os.environ, "TMPDIR": str(tmp_path)}  # the locks of studies that run on this machine lie elsewhere
    done = subprocess.run([*command, *counting], env=own, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "1"


@pytest.mark.slow
def test_on_macos_a_study_runs(
    tmp_path: Path, file: Path, said_by_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be bound to cores there; Snakemake tells each step how many it has."""
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name)
    (tmp_path / "site").mkdir()
    for name, value in pretend("macos", tmp_path / "site").items():  # for the steps
        monkeypatch.setenv(name, value)
    file.write_text(PLAIN_ALONE + "cpus_per_training: 1\n")
    train = said_by_programs.parent / "bin" / "nnUNetv2_train"
    train.write_text(f"#!/bin/sh\necho threads $OMP_NUM_THREADS >> {said_by_programs}\n")
    assert main(["study", "run", str(file)]) == 0
    assert "threads 1" in said_by_programs.read_text().splitlines()


@pytest.mark.slow
def test_a_plain_kill_ends_the_steps_too(file: Path) -> None:
    program = str(Path(sys.executable).with_name("nnunet_partial"))
    study, lock = file.parent / "small", file.parent / "small" / "locks" / "prepare" / "toy.lock"
    with (file.parent / "output").open("wb") as output:
        process = subprocess.Popen([program, "study", "run", str(file)], stdout=output, stderr=output)
        while not locks.is_held(lock):
            assert process.poll() is None, (file.parent / "output").read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=120) == 130
    end = time.monotonic() + 30
    while locks.is_held(lock):
        assert time.monotonic() < end, "the step is still running"
        time.sleep(0.05)
    assert not (study / "done" / "prepare" / "toy").exists()


def test_the_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    assert locks.main([str(tmp_path / "lock"), "0", "0", sys.executable, "-c", "raise SystemExit(7)"]) == 7
