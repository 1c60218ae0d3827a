"""Trainings that are killed, and continued as `nnUNetv2_train ... --c` does it: `killed_training.py FOLDER`.

FOLDER holds nnU-Net's three folders, with a planned data set. Each training runs in a fork of this process, which has
imported torch and nnU-Net once; nothing here starts a thread before. Prints what each training came to as JSON, a line
each. Run by test_resume.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal
from nnunet_partial.training.run_record import RECORD_NAME

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


#: How each is killed, and the epoch at which it goes on: after the last checkpoint that was whole, else from the start.
STORIES: dict[str, tuple[Callable[[Any], None], int]] = {
    "in the first epoch": (in_epoch(0), 0),
    "between checkpoints": (in_epoch(3), 2),
    "while checkpoint_latest is written for the first time": (writing("checkpoint_latest", 1), 1),  # after the best
    "while checkpoint_latest is written over an older one": (writing("checkpoint_latest", 3), 2),
    "while checkpoint_best is written": (writing("checkpoint_best", 0), 0),
    "while checkpoint_final is written": (writing("checkpoint_final", EPOCHS - 1), 4),
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
    trainer.run_training()


def in_a_fork(work: Callable[[], None], log: Path) -> int:
    child = os.fork()
    if child == 0:
        with log.open("a") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                work()
            except BaseException:
                traceback.print_exc()
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
    for story, (arrange, _) in STORIES.items():
        killed = run(root, arrange)
        again = in_a_fork(lambda: train(None, True), root / "said.txt")
        went_on = {"again": again, "goes_on_at": int((root / "results" / "goes_on_at").read_text())}
        answer = {"story": story, "code": killed["code"], "after": killed["files"], **went_on, **outcome(root)}
        print(json.dumps(answer), flush=True)


def run(root: Path, arrange: Callable[[Any], None] | None) -> dict[str, Any]:
    """A training from the start; how it ended, and what it left."""
    shutil.rmtree(root / "results", ignore_errors=True)
    (root / "results").mkdir()
    code = in_a_fork(lambda: train(arrange, False), root / "said.txt")
    return {"code": code, **outcome(root)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
