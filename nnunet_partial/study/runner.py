"""Drives the workflow: Snakemake does the work, this says how far it is and names what failed.

The Snakemake command for the workflow of a study.

What the next `run` of a study would do: per kind of step how many are done, and how many would run.
"""

from __future__ import annotations

import csv
import fcntl
import importlib.util
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.locks import visible_gpus
from nnunet_partial.study.state import data_are_outdated, ended_badly
from nnunet_partial.study.steps import models, steps
from nnunet_partial.study.workflow import prepare_workflow
from nnunet_partial.utils.text import format_names, text_table

_SNAKEFILE = Path(__file__).with_name("Snakefile")


def snakemake(folder: StudyFolder, options: Sequence[str]) -> list[str]:
    """The Snakemake command for the workflow in this folder.

    A step counts as done by its file alone: neither dates nor a newer version of this package repeat a training. Our
    own lock (`engine.only_run`) replaces Snakemake's, which outlives a killed process.
    """
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(_SNAKEFILE), "--directory", str(folder.root)),
        *("--configfile", str(folder.workflow), "--nolock", "--keep-going", "--rerun-incomplete"),
        *("--rerun-triggers", "input", *options),
    ]


def ask_snakemake(folder: StudyFolder, options: Sequence[str]) -> str:
    """What it prints about the workflow, nothing being run. Raises PartialLabelError where it fails."""
    done = subprocess.run(snakemake(folder, options), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PartialLabelError(f"Snakemake failed:\n{done.stderr}")
    return done.stdout


def preview(study: Study, folder: StudyFolder) -> str:
    """A table as plain text. Repeated is what is done and will be anew, such as a prediction whose folds changed."""
    pending = set(steps(study)) if data_are_outdated(study, folder) else _pending(folder)
    of_kind = defaultdict[str, list[str]](list)
    for step in steps(study):
        of_kind[step.partition("/")[0]].append(step)
    rows = []
    for kind, named in {**of_kind, "all": steps(study)}.items():
        done = {step for step in named if folder.done(step).exists()}
        rows.append([kind, *(str(len(chosen)) for chosen in (done, pending.intersection(named), pending & done))])
    table = text_table(["step", "done", "would run", "of these repeated"], rows)
    return f"{table}\nNothing was started. Each step with its command: --dry-run -- --printshellcmds"


def _pending(folder: StudyFolder) -> set[str]:
    """The steps that Snakemake would run; the report, which is made anew each time, is not among them."""
    lines = ask_snakemake(folder, ["--cores", "1", "--summary"]).splitlines()
    rows = csv.DictReader(lines, delimiter="\t")
    return {row["output_file"].removeprefix("done/") for row in rows if row["plan"] == "update pending"}


LOCAL = "local"


def run(study: Study, file: Path, executor: str, jobs: int | None, dry_run: bool, more: Sequence[str]) -> int:
    """Runs what is not done yet. Returns 0 where everything is done, else 1, after naming what failed.

    executor: LOCAL, or the name of an installed Snakemake executor plugin ("slurm", "kubernetes", ...). jobs: how many
    at a time on a cluster; locally the number of cores (None: all). more: options for Snakemake itself; with them a
    dry run is Snakemake's own, which lists every step, without them a table of ours. Raises
    PartialLabelError for what can be known before anything runs, and where another `run` of the study is under way.
    """
    _require(executor, study)
    StudyFolder(study.folder).root.mkdir(parents=True, exist_ok=True)
    with only_run(StudyFolder(study.folder)):
        folder = prepare_workflow(study, file, hands_out=executor == LOCAL, begin=not dry_run)
        if dry_run and not more:
            print(preview(study, folder))
            return 0
        if not dry_run:
            _forget_outdated(study, folder)
        command = snakemake(folder, [*_where(study, executor, jobs), *(["--dry-run"] if dry_run else []), *more])
        code = _run_to_the_end(command)
    return code if dry_run else _say_how_it_ended(study, folder, code)


def _forget_outdated(study: Study, folder: StudyFolder) -> None:
    """A model that lacks a fold (one was added, or is repeated) is to be predicted and evaluated with all of them.

    Snakemake repeats what follows a training, but no more where it was stopped in between.
    """
    for model in models(study):
        if not all(folder.done(model.train_step(fold)).exists() for fold in study.folds):
            _forget(folder, model.predict_step)
        if not folder.done(model.predict_step).exists():
            _forget(folder, model.evaluate_step)


def _forget(folder: StudyFolder, step: str) -> None:
    """Its log too: a step with a log that is not done counts as failed."""
    for file in (folder.done(step), folder.log(step)):
        file.unlink(missing_ok=True)


def _require(executor: str, study: Study) -> None:
    if importlib.util.find_spec("snakemake") is None:
        raise PartialLabelError("Snakemake is not installed: pip install 'snakemake>=9'")
    if executor == LOCAL:
        if study.device == "cuda" and len(visible_gpus()) < study.gpus_per_training:
            raise PartialLabelError(
                f"A training wants {study.gpus_per_training} graphics card(s); here are {len(visible_gpus())}. "
                "Write 'device: cpu' into the study, or send it to a cluster with --executor."
            )
    elif importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        raise PartialLabelError(
            f"Snakemake has no executor {executor!r} here: pip install snakemake-executor-plugin-{executor}"
        )


def _where(study: Study, executor: str, jobs: int | None) -> list[str]:
    if executor != LOCAL:
        # a file that a node wrote may take a while to be seen here
        return ["--executor", executor, "--jobs", str(jobs or 100), "--latency-wait", "60"]
    cards = ["--resources", f"gpu={len(visible_gpus())}"] if study.device == "cuda" else []
    return ["--cores", str(jobs or len(os.sched_getaffinity(0))), *cards]


@contextmanager
def only_run(folder: StudyFolder) -> Iterator[None]:
    """Nobody else runs the study, or writes what its steps read, meanwhile. Ends with the process, however it ends.

    Raises PartialLabelError where somebody does.
    """
    with (folder.root / "run.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PartialLabelError(
                f"This study is being run already ({folder.root / 'run.lock'} is held). Wait, or stop it; see "
                "`nnunet_partial study status`."
            ) from None
        yield


def _run_to_the_end(command: Sequence[str]) -> int:
    """Ctrl-C, and a plain `kill`, end Snakemake and all its steps here; waited for, so that nothing is left running.

    On a cluster Snakemake then cancels its jobs.
    """
    # set for SIGINT too, as a shell starts what runs in its background deaf to it, and the steps with it
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                return process.wait()
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGINT)
                process.wait()
                raise
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _say_how_it_ended(study: Study, folder: StudyFolder, code: int, out: IO[str] = sys.stdout) -> int:
    todo = [step for step in steps(study) if not folder.done(step).exists()]
    failed = [step for step in todo if ended_badly(folder, step)]
    print(f"\n{len(steps(study)) - len(todo)} of {len(steps(study))} steps are done.", file=out)
    for step in failed:
        print(f"\nFAILED: {step}\n  {folder.log(step)}", file=out)
        for line in _last_lines(folder.log(step), 5):
            print(f"  | {line}", file=out)
    if todo and not failed:
        print(f"Not finished: {format_names(todo)}", file=out)
    if todo:
        print("\nThe same command repeats what failed and goes on; finished steps stay.", file=out)
    return 1 if todo else code


def _last_lines(log: Path, number: int) -> list[str]:
    with log.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip() for line in file.readlines()[-number:]]
