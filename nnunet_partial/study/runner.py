"""Run a study with Snakemake: preview it, run what is not done yet, and say how far it came and what failed."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_partial.errors import PartialLabelError, install_hint
from nnunet_partial.study.config import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.locks import visible_gpus
from nnunet_partial.study.results import is_outdated
from nnunet_partial.study.state import data_are_outdated, step_state
from nnunet_partial.study.steps import folds_of, models, steps
from nnunet_partial.study.workflow import prepare_workflow
from nnunet_partial.utils.locks import try_lock
from nnunet_partial.utils.process import available_cores
from nnunet_partial.utils.text import format_names, text_table

#: The executor that runs everything on this machine.
LOCAL = "local"

_SNAKEFILE = Path(__file__).with_name("Snakefile")
_JOBS_ON_CLUSTER = 100
_LOG_LINES = 5
#: Snakemake's option for a dry run, also joined with others, as in -np.
_DRY_RUN = re.compile(r"--dry-?run|-[a-zA-Z]*n[a-zA-Z]*")


def run(
    study: Study, file: Path, executor: str, jobs: int | None, dry_run: bool, snakemake_options: Sequence[str]
) -> int:
    """Run what is not done yet.

    Args:
        study: The study.
        file: Path of study.yaml.
        executor: LOCAL, or the name of an installed Snakemake executor plugin ("slurm", "kubernetes", ...).
        jobs: Locally the number of CPU cores (None: all), on a cluster the number of jobs at a time (None: 100).
        dry_run: Show what would be run, and run nothing: a short table, or Snakemake's own list of every step where
            there are `snakemake_options`.
        snakemake_options: Further options for Snakemake; its own --dry-run counts as `dry_run`.

    Returns:
        0 if everything is done, else 1 after what failed has been named. For a dry run, the exit code of Snakemake.

    Raises:
        PartialLabelError: For what can be known before anything runs, and while another `run` of the study goes on.
    """
    dry_run = dry_run or any(map(_DRY_RUN.fullmatch, snakemake_options))
    if os.name == "nt" and not dry_run:
        raise PartialLabelError(
            "A study runs on Linux and macOS. On Windows start it in WSL (wsl --install); --dry-run works here, too."
        )
    _require(executor, study)
    StudyFolder(study.folder).root.mkdir(parents=True, exist_ok=True)
    with lock_study(StudyFolder(study.folder)):
        folder = prepare_workflow(study, file, assign_devices=executor == LOCAL, save=not dry_run)
        if dry_run and not snakemake_options:
            print(_preview(study, folder))
            return 0
        if not dry_run:
            _reset_incomplete_models(study, folder)
        options = [
            *_resource_options(study, executor, jobs),
            *_profile_options(snakemake_options),
            *(["--dry-run"] if dry_run else []),
            *snakemake_options,
        ]
        command = _snakemake_command(folder, options)
        code = _wait_for(command) if dry_run else _run_to_end(study, folder, command)
    return code if dry_run else _print_outcome(study, folder, code)


@contextmanager
def lock_study(folder: StudyFolder) -> Iterator[None]:
    """Keep others from running the study, or writing what its steps read. The lock ends with the process.

    Args:
        folder: Folder of the study; it must exist.

    Yields:
        Nothing.

    Raises:
        PartialLabelError: If another process holds the lock.
    """
    path = folder.root / "run.lock"
    with path.open("ab") as file:
        if not try_lock(file):
            raise PartialLabelError(
                f"This study is already running ({path} is locked). Wait, or stop it; see "
                "`nnunet_partial study status`."
            )
        yield


def _require(executor: str, study: Study) -> None:
    if importlib.util.find_spec("snakemake") is None:
        raise PartialLabelError(f"A study needs Snakemake: {install_hint('study')}.")
    if executor == LOCAL:
        n_gpus = len(visible_gpus())
        if study.device == "cuda" and n_gpus < study.gpus_per_training:
            raise PartialLabelError(
                f"A training needs {study.gpus_per_training} GPU(s); this machine has {n_gpus}. "
                "Write 'device: cpu' into the study, or send it to a cluster with --executor."
            )
    elif importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        raise PartialLabelError(
            f"Snakemake has no executor {executor!r} here: pip install snakemake-executor-plugin-{executor}"
        )


def _snakemake_command(folder: StudyFolder, options: Sequence[str]) -> list[str]:
    """Return the Snakemake command for the workflow in this folder.

    A step counts as done by its file alone: neither dates nor a newer version of this package repeat a training.
    `lock_study` replaces Snakemake's own lock, which outlives a killed process.
    """
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(_SNAKEFILE), "--directory", str(folder.root)),
        *("--nolock", "--keep-going", "--rerun-incomplete", "--rerun-triggers", "input", *options),
    ]


def _resource_options(study: Study, executor: str, jobs: int | None) -> list[str]:
    if executor != LOCAL:
        # a file that a node wrote may take a while to be visible here
        return ["--executor", executor, "--jobs", str(jobs or _JOBS_ON_CLUSTER), "--latency-wait", "60"]
    gpus = ["--resources", f"gpu={len(visible_gpus())}"] if study.device == "cuda" else []
    return ["--executor", LOCAL, "--cores", str(jobs or available_cores()), *gpus]


def _profile_options(given: Sequence[str]) -> list[str]:
    """Leave out profiles that the user did not ask for: they change which steps run, where, and how often."""
    names = [word.partition("=")[0] for word in given]
    profile = os.environ.get("SNAKEMAKE_PROFILE", "none")
    if "--profile" not in names and profile != "none":
        print(f"NOTE: SNAKEMAKE_PROFILE={profile} is not used. To use it: -- --profile {shlex.quote(profile)}")
    return [word for option in ("--profile", "--workflow-profile") if option not in names for word in (option, "none")]


def _reset_incomplete_models(study: Study, folder: StudyFolder) -> None:
    """Repeat prediction and evaluation of a model whose folds are others by now, or trained again.

    Snakemake repeats what follows a training, but no longer where it was stopped in between.
    """
    for model in models(study):
        if is_outdated(study, model):
            _reset(folder, model.predict_step)
        if not folder.done(model.predict_step).exists():
            _reset(folder, model.evaluate_step)


def _reset(folder: StudyFolder, step: str) -> None:
    """Delete the log too: a step with a log that is not done counts as failed."""
    for file in (folder.done(step), folder.log(step)):
        file.unlink(missing_ok=True)


def _run_to_end(study: Study, folder: StudyFolder, command: Sequence[str]) -> int:
    """Run Snakemake, and again as long as a signal (SLURM's warning) stopped trainings, which can go on.

    Each of them has trained an epoch at least since its last start, which bounds the number of starts.
    """
    targets: list[str] = []
    for _ in range(study.epochs + 1):
        folder.forget_stopped_steps()
        code = _wait_for([*command, *targets])
        stopped = [step for step in folder.stopped_steps() if not folder.done(step).exists()]
        if not stopped:
            break
        print(f"\nStopped by a signal, to be continued now: {format_names(stopped)}", flush=True)
        targets = _targets(study, folder, set(stopped))
    return code


def _targets(study: Study, folder: StudyFolder, stopped: set[str]) -> list[str]:
    """Return Snakemake's arguments that continue stopped trainings and what follows them, and repeat no failed step."""
    unfinished = {step for step in steps(study) if not folder.done(step).exists()}
    if not any(step_state(folder, step) == "stopped" for step in unfinished - stopped):
        return []  # everything
    wanted = sorted(stopped)
    for model in models(study):
        folds = unfinished.intersection(map(model.train_step, folds_of(study, model.dataset)))
        if folds and folds <= stopped:
            wanted.append(model.evaluate_step)
    return ["--", *(f"done/{step}" for step in wanted)]


def _wait_for(command: Sequence[str]) -> int:
    """Run a command to its end. Ctrl-C and a plain `kill` end Snakemake and all its steps, and are waited for.

    On a cluster Snakemake then cancels its jobs.
    """
    # set for SIGINT too: a shell starts its background commands, and the steps with them, deaf to it
    previous = {kind: signal.signal(kind, signal.default_int_handler) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                return process.wait()
            except KeyboardInterrupt:
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGINT)
                else:  # a dry run on Windows
                    process.terminate()
                process.wait()
                raise
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


# Before and after a run


def _preview(study: Study, folder: StudyFolder) -> str:
    """Count the steps of each kind that are done, would run, and would be repeated although they are done."""
    pending = set(steps(study)) if data_are_outdated(study, folder) else _pending_steps(folder)
    by_kind = defaultdict[str, list[str]](list)
    for step in steps(study):
        by_kind[step.partition("/")[0]].append(step)
    rows = []
    for kind, names in {**by_kind, "all": steps(study)}.items():
        done = {step for step in names if folder.done(step).exists()}
        rows.append([kind, *(str(len(counted)) for counted in (done, pending.intersection(names), pending & done))])
    table = text_table(["step", "done", "would run", "of these repeated"], rows)
    return f"{table}\nNothing was started. Each step with its command: --dry-run -- --printshellcmds"


def _pending_steps(folder: StudyFolder) -> set[str]:
    """Ask Snakemake for the steps that it would run; without the report, which is made each time."""
    command = _snakemake_command(folder, ["--cores", "1", "--summary", *_profile_options([])])
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise PartialLabelError(f"Snakemake failed:\n{completed.stderr}")
    rows = csv.DictReader(completed.stdout.splitlines(), delimiter="\t")
    return {row["output_file"].removeprefix("done/") for row in rows if row["plan"] == "update pending"}


def _print_outcome(study: Study, folder: StudyFolder, code: int) -> int:
    all_steps = steps(study)
    unfinished = [step for step in all_steps if not folder.done(step).exists()]
    failed = [step for step in unfinished if step_state(folder, step) == "stopped"]
    print(f"\n{len(all_steps) - len(unfinished)} of {len(all_steps)} steps are done.")
    for step in failed:
        print(f"\nFAILED: {step}\n  {folder.log(step)}")
        for line in _last_lines(folder.log(step), _LOG_LINES):
            print(f"  | {line}")
    if unfinished and not failed:
        print(f"Not finished: {format_names(unfinished)}")
    if unfinished:
        print("\nThe same command repeats what failed and continues; finished steps are kept.")
    return 1 if unfinished else code


def _last_lines(log: Path, number: int) -> list[str]:
    with log.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip() for line in file.readlines()[-number:]]
