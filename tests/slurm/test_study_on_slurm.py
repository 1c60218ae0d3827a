"""A small study on a real SLURM: every step goes through sbatch, a job is warned, another killed, `run` does the rest.

The folder has a name with a space, a quote and brackets.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.slurm_cluster import CannotStart, cluster
from helpers.toy_dataset import CLASSES, draw, write_toy

from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest

pytestmark = pytest.mark.slurm
pytest.importorskip("snakemake_executor_plugin_slurm", reason="snakemake-executor-plugin-slurm is not installed")

STUDY = """\
name: tiny
datasets: {toy: 701}
scenarios:
  - {from: toy, domain: a, missing: [MYO], fraction: 0.5}
losses: [naive, marginal]
seeds: [0]
folds: [0]
epochs: 8
iterations: 25
val_iterations: 2
network: {features: [8, 16, 16], patch: [32, 32], batch: 4}
device: cpu
cpus_per_training: 2
"""
SCENARIO = "toy-a-without-MYO-50"
MODELS = {f"{SCENARIO}/{loss}/plain/seed0" for loss in ("naive", "marginal")}
KILLED = f"{SCENARIO}/marginal/plain/seed0"
WARNED = f"{SCENARIO}/naive/plain/seed0"
LOOK_OFTEN = str(Path(__file__).parents[1] / "helpers" / "look_often")
# nobody keeps accounts on this cluster, and it answers at once
PATIENCE = (
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
    "--seconds-between-status-checks", "1", "--slurm-no-account", "--slurm-keep-successful-logs",
)  # fmt: skip


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder:
        try:
            running = cluster(Path(folder))
            environment = running.__enter__()
        except CannotStart as problem:
            pytest.skip(f"SLURM cannot be started here: {problem}")
        try:
            yield environment
        finally:
            running.__exit__(None, None, None)


def write_data_set(folder: Path) -> None:
    """The toy, with two test cases whose labels are complete."""
    write_toy(folder, patients=12)  # six of domain a, of which three keep the ring
    cases = dict(Manifest.read(folder / MANIFEST_NAME).cases)
    (folder / "labelsTs").mkdir()
    (folder / "imagesTs" / "new_0000.nii.gz").unlink()
    for number in range(2):
        case = f"a_test{number}"
        image, labels = draw(np.random.default_rng(number), (32, 32), with_ring=True)
        sitk.WriteImage(sitk.GetImageFromArray(image), str(folder / "imagesTs" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / "labelsTs" / f"{case}.nii.gz"))
        cases[case] = CaseLabels(CLASSES, domain="a", patient=f"test{number}")
    Manifest(cases).write(folder / MANIFEST_NAME)


class Run:
    """`nnunet_partial study run` in a cluster."""

    def __init__(self, home: Path, slurm: dict[str, str]) -> None:
        self.home, self.study, self.output = home, home / "tiny", home / "output.txt"
        self.environment = {
            **slurm,
            "nnUNet_raw": str(home / "raw"),
            "nnUNet_preprocessed": str(home / "preprocessed"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([LOOK_OFTEN, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The command; where the test fails while it runs it is given Ctrl-C, and gives it to Snakemake."""
        program = str(Path(sys.executable).with_name("nnunet_partial"))
        command = [program, "study", "run", "--executor", "slurm", str(self.home / "study.yaml"), "--", *PATIENCE]
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                command, env={**os.environ, **self.environment}, cwd=self.home, stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=120)

    def ask(self, *command: str) -> str:
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """SLURM's number of each job that waits, runs or ended of late: its rule with wildcards, its state."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%A|%k|%T").splitlines()
        return {number: (comment, state) for number, comment, state in (line.split("|") for line in lines)}

    def done(self) -> dict[str, int]:
        """When each finished step finished, in nanoseconds."""
        folder = self.study / "done"
        return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def cancel_training(
    run: Run, process: subprocess.Popen[bytes], model: str, begun: str, *options: str, seconds: float = 900
) -> None:
    """scancel, for the SLURM job of a training as soon as its log says that it has begun."""
    log = run.study / "logs" / "train" / model / "fold0.log"
    end = time.monotonic() + seconds
    while not (log.exists() and begun in log.read_text()):
        assert time.monotonic() < end, f"{log} does not begin"
        assert process.poll() is None, run.output.read_text()[-4000:]
        time.sleep(0.1)
    ending = model.replace("/seed", "_").replace("/", "_") + "_0"  # scenario_loss_network_seed_fold
    (number,) = [number for number, (comment, _) in run.jobs().items() if comment.endswith(ending)]
    run.ask("scancel", *options, number)


def test_a_warned_job_goes_on_and_a_killed_one_is_repeated(tmp_path: Path, slurm: dict[str, str]) -> None:
    run = Run(tmp_path / "it's [a] {b}", slurm)
    write_data_set(run.home / "raw" / "Dataset701_Toy")
    (run.home / "study.yaml").write_text(STUDY)

    with run.running() as process:
        with ThreadPoolExecutor() as pool:  # either may begin first
            killed = pool.submit(cancel_training, run, process, KILLED, "Run length:")
            # to all processes of the job's steps
            warned = pool.submit(cancel_training, run, process, WARNED, "Epoch 0", "--signal=USR1")
            killed.result()
            warned.result()
        process.wait(timeout=900)
    said = run.output.read_text()
    assert process.returncode == 1, said[-4000:]
    assert f"FAILED: train/{KILLED}/fold0" in said
    finished = run.done()
    assert {model for model in MODELS if f"evaluate/{model}" in finished} == MODELS - {KILLED}
    first = run.jobs()
    assert len(first) == 1 + 1 + 2 + 1 + 1 + 1  # prepare, scenario, two trainings; one of them again, with what follows
    said = (run.study / "logs" / "train" / WARNED / "fold0.log").read_text()
    assert said.count("with exit code 75") == 1
    assert [said.count(f"Epoch {epoch}\n") for epoch in range(8)] == [1] * 8

    with run.running() as process:
        process.wait(timeout=900)
    assert process.returncode == 0, run.output.read_text()[-4000:]
    now = run.done()
    assert {model for model in MODELS if f"evaluate/{model}" in now} == MODELS
    assert {step: now[step] for step in finished} == finished  # finished work was not repeated
    assert set(now) - set(finished) == {f"train/{KILLED}/fold0", f"predict/{KILLED}", f"evaluate/{KILLED}"}
    assert len(run.jobs()) - len(first) == 3
    for model in MODELS:
        evaluation = json.loads((run.study / "evaluations" / model / "evaluation.json").read_text())
        assert evaluation["classes"] == ["LV", "MYO"]
