"""Trainings that are killed or stopped, and continued as `nnUNetv2_train ... --c` does it: `killed_training.py FOLDER`.

FOLDER holds nnU-Net's three folders, with a planned data set. Each training runs in a fork of this process, which has
imported torch and nnU-Net once; nothing here starts a thread before. Prints what each training came to as JSON, a line
each. Run by test_resume.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal
from nnunet_partial.training.run_record import RECORD_NAME
from nnunet_partial.training.stop_signal import STOPPED

DATASET, EPOCHS = "Dataset701_Toy", 5
SAVE_EVERY = 2


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_epoch(number: int) -> Callable[[Any], None]:
    """Killed at the second of two training iterations of that epoch."""

    def arrange(trainer: Any) -> None:
        step, steps = trainer.train_step, [0]

        def counted(batch: Any) -> Any:
            steps[0] += 1
            if trainer.current_epoch == number and steps[0] % 2 == 0:
                kill()
            return step(batch)

        trainer.train_step = counted

    return arrange


def writing(name: str, number: int) -> Callable[[Any], None]:
    """Killed when half of the checkpoint `name` of that epoch is written."""

    def arrange(trainer: Any) -> None:
        save = torch.save

        def half(content: Any, path: Any) -> None:
            save(content, path)
            if name in str(path) and trainer.current_epoch == number:
                os.truncate(path, Path(path).stat().st_size // 2)
                kill()

        torch.save = half

    return arrange


def asked_to_stop(number: int) -> Callable[[Any], None]:
    """SIGTERM in the first iteration of that epoch."""

    def arrange(trainer: Any) -> None:
        in_iteration(trainer, number, lambda: os.kill(os.getpid(), signal.SIGTERM))

    return arrange


def with_loaders(number: int, happens: Callable[[], None]) -> Callable[[Any], None]:
    """With two loader processes for training and one for validation, as in a job of its own."""

    def arrange(trainer: Any) -> None:
        os.environ["nnUNet_n_proc_DA"] = "2"
        os.setsid()

        def checked() -> None:
            assert len(multiprocessing.active_children()) == 3
            happens()

        in_iteration(trainer, number, checked)

    return arrange


def in_iteration(trainer: Any, number: int, happens: Callable[[], None]) -> None:
    """Call `happens` in the first iteration of that epoch."""
    step, happened = trainer.train_step, []

    def watched(batch: Any) -> Any:
        if trainer.current_epoch == number and not happened:
            happened.append(True)
            happens()
        return step(batch)

    trainer.train_step = watched


def fail() -> None:
    raise RuntimeError("out of memory")


@dataclass(frozen=True)
class Story:
    """How a training ends, its exit code, and the epoch at which `--c` goes on: after the last checkpoint, else 0."""

    arrange: Callable[[Any], None]
    code: int
    goes_on_at: int
    is_seeded: bool = True  # what loader processes draw is not


KILLED, FAILED = -signal.SIGKILL, 1
STORIES = {
    "killed in the first epoch": Story(in_epoch(0), KILLED, 0),
    "killed between checkpoints": Story(in_epoch(3), KILLED, 2),
    # after the best one
    "killed while the first checkpoint_latest is written": Story(writing("checkpoint_latest", 1), KILLED, 1),
    "killed while checkpoint_latest is written over an older one": Story(writing("checkpoint_latest", 3), KILLED, 2),
    "killed while checkpoint_best is written": Story(writing("checkpoint_best", 0), KILLED, 0),
    "killed while checkpoint_final is written": Story(writing("checkpoint_final", EPOCHS - 1), KILLED, 4),
    "stopped in the first epoch": Story(asked_to_stop(0), STOPPED, 1),
    "stopped in an epoch after which nnU-Net saves": Story(asked_to_stop(3), STOPPED, 4),
    "stopped in the last epoch": Story(asked_to_stop(EPOCHS - 1), STOPPED, EPOCHS),
    "stopped with all its loaders": Story(
        with_loaders(1, lambda: os.killpg(0, signal.SIGUSR1)), STOPPED, 2, is_seeded=False
    ),
    "failed beside its loaders": Story(with_loaders(1, fail), FAILED, 1, is_seeded=False),
}


def train(arrange: Callable[[Any], None] | None, go_on: bool) -> None:
    folder = Path(os.environ["nnUNet_preprocessed"]) / DATASET
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": go_on}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer: Any = nnUNetTrainerMarginal(plans, "2d", 0, dataset_json, torch.device("cpu"))
    trainer.save_every = SAVE_EVERY
    trainer.logger.local_logger.plot_progress_png = lambda folder: None  # takes a second
    if arrange is not None:
        arrange(trainer)
    maybe_load_checkpoint(trainer, go_on, False)
    Path(os.environ["nnUNet_results"], "goes_on_at").write_text(str(trainer.current_epoch))
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    try:
        trainer.run_training()
    finally:
        assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == before
        assert multiprocessing.active_children() == []  # Python would wait for them, for ever


def in_a_fork(work: Callable[[], None], log: Path) -> int:
    child = os.fork()
    if child == 0:
        with log.open("a") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                work()
            except SystemExit as end:
                out.flush()
                os._exit(int(str(end.code)))
            except BaseException:
                traceback.print_exc()
                out.flush()
                os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(root: Path) -> dict[str, Any]:
    """What is on disk after a training: its curve, its final weights, the files that say what is known, and others."""
    (results,) = (root / "results" / DATASET).glob("*/fold_0")
    final = results / "checkpoint_final.pth"
    seen: dict[str, Any] = {"files": sorted(path.name for path in results.iterdir() if "log" not in path.name)}
    if final.exists():
        checkpoint = torch.load(final, weights_only=False)
        log = checkpoint["logging"]
        seen["epoch"] = checkpoint["current_epoch"]
        seen["losses"] = [float(loss) for loss in log["train_losses"]]
        seen["lengths"] = sorted({len(values) for values in log.values()})
        weights = b"".join(weight.numpy().tobytes() for weight in checkpoint["network_weights"].values())
        seen["weights"] = hashlib.sha256(weights).hexdigest()
    folders = (root / "raw" / DATASET, root / "preprocessed" / DATASET)
    names = ("partial_labels.json", "splits_final.json")
    record = results / RECORD_NAME
    seen["record"] = json.loads(record.read_text()) if record.exists() else []
    seen["declared"] = [(folder / name).read_text() for folder in folders for name in names if (folder / name).exists()]
    return seen


def main(root: Path) -> None:
    torch.set_num_threads(1)
    print(json.dumps({"story": "undisturbed", **run(root, None)}), flush=True)
    for name, story in STORIES.items():
        killed = run(root, story.arrange)
        again = in_a_fork(lambda: train(None, True), root / "said.txt")
        went_on = {"again": again, "goes_on_at": int((root / "results" / "goes_on_at").read_text())}
        answer = {"story": name, "code": killed["code"], "after": killed["files"], **went_on, **outcome(root)}
        print(json.dumps(answer), flush=True)


def run(root: Path, arrange: Callable[[Any], None] | None) -> dict[str, Any]:
    """A training from the start; how it ended, and what it left."""
    shutil.rmtree(root / "results", ignore_errors=True)
    (root / "results").mkdir()
    code = in_a_fork(lambda: train(arrange, False), root / "said.txt")
    return {"code": code, **outcome(root)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
