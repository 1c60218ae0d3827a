"""A training in two processes, of which one is asked to stop; see ddp_start.py.

nnU-Net trains in several processes on GPUs only, so its epochs are empty here.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.training.mixin import PartialLabelMixin
from nnunet_partial.training.run_record import TrainedOn
from nnunet_partial.training.stop_signal import StopSignal

ASKED_IN = 1


class EmptyEpochs(nnUNetTrainer):
    def __init__(self, folder: Path, rank: int) -> None:
        self.output_folder, self.output_folder_base = str(folder), str(folder.parent)
        self.local_rank, self.is_ddp = rank, True
        self.device = torch.device("cpu")
        self.current_epoch, self.num_epochs = 0, 5
        self.num_iterations_per_epoch = self.num_val_iterations_per_epoch = 0
        self.dataloader_train = self.dataloader_val = None
        self.disable_checkpointing = False

    def print_to_log_file(self, *args: Any, **options: Any) -> None:
        pass

    def on_train_start(self) -> None:
        pass

    on_epoch_start = on_train_epoch_start = on_validation_epoch_start = on_train_start

    def on_train_epoch_end(self, train_outputs: Any) -> None:
        if (self.local_rank, self.current_epoch) == (1, ASKED_IN):
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_validation_epoch_end(self, val_outputs: Any) -> None:
        pass

    def on_epoch_end(self) -> None:
        self.current_epoch += 1

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank == 0:
            time.sleep(1)  # the other process waits, or PyTorch would end this one
            Path(filename).write_text(str(self.current_epoch + 1))


class Trainer(PartialLabelMixin, EmptyEpochs):
    def __init__(self, folder: Path, rank: int) -> None:
        EmptyEpochs.__init__(self, folder, rank)
        self.stop_signal, self._best_ema = StopSignal(), 0.5
        self.training_data: Any = SimpleNamespace(trained_on=TrainedOn("0"))
        self.other_annotations = ""
        self.run_settings: Any = SimpleNamespace(seed=None)

    def _record_run(self) -> None:
        pass


def train(rank: int, folder: Path) -> None:
    trainer = Trainer(folder, rank)
    try:
        trainer.run_training()
    finally:
        (folder / f"rank{rank}.txt").write_text(str(trainer.current_epoch))
