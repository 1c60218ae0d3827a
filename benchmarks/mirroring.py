"""Train on structures that are each other's mirror image, mirrored and not (with PYTHONPATH=tests)."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from helpers.nnunet_in_process import InProcess
from helpers.twins import CLASSES, dice_after_training, plan_twins

from nnunet_partial.utils.text import text_table

TRAINERS = tuple(f"nnUNetTrainer{loss}{ending}" for loss in ("ABCE", "Marginal") for ending in ("", "NoMirroring"))


def main() -> None:
    """Print the mean Dice of each class on ten test images, by trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=300, help="training iterations of 8 images")
    parser.add_argument("--trainers", nargs="+", default=TRAINERS)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        project = InProcess(Path(folder))
        plan_twins(project, batch_size=8)
        for trainer in args.trainers:
            dice = dice_after_training(project, trainer, args.iterations)
            rows.append([trainer, *(f"{dice[name]:.2f}" for name in CLASSES)])
    print(text_table(["trainer", *CLASSES], rows))


if __name__ == "__main__":
    main()
