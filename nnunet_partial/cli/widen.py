"""`nnunet_partial widen`: start a training with more classes from a model that has fewer."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import fold
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "widen",
        help="start a training with more classes from a model that has fewer",
        description="Writes checkpoint_latest.pth of epoch 0 for a new training, from which nnUNetv2_train goes on "
        "with --c: all weights of an old model, also those of the classes that both have, which -pretrained_weights "
        "leaves out. U-Nets only; the new dataset needs the plans of the old one.",
        epilog="Example: nnunet_partial widen --from MODEL/fold_0/checkpoint_final.pth -d 612 -c 2d "
        "-tr nnUNetTrainerMarginal -f all && nnUNetv2_train 612 2d all -tr nnUNetTrainerMarginal --c",
    )
    parser.add_argument(
        "--from",
        dest="model",
        type=Path,
        required=True,
        metavar="MODEL",
        help="the old model: a checkpoint, or its folder TRAINER__PLANS__CONFIGURATION, which has the same fold",
    )
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="DATASET", help="id or name of the new dataset, preprocessed"
    )
    parser.add_argument("-c", "--configuration", default="2d", help="configuration (default: %(default)s)")
    parser.add_argument("-tr", "--trainer", required=True, help="trainer, of the kind of the old one (softmax or aBCE)")
    parser.add_argument("-p", "--plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    parser.add_argument("-f", "--fold", type=fold, required=True, help="fold to train: a number, or all")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    dataset = find_dataset(args.dataset).name
    from nnunet_partial.training.widen import widen

    with contextlib.redirect_stdout(sys.stderr):  # what nnU-Net says
        widened = widen(args.model, dataset, args.configuration, args.trainer, args.plans, args.fold)
    for what, names in (("copied", widened.copied), ("new", widened.new), ("left out", widened.dropped)):
        if names:
            print(f"{what}: {', '.join(names)}")
    for warning in widened.warnings:
        print(f"Warning: {warning}")
    print(f"Written: {widened.checkpoint}")
    train = f"nnUNetv2_train {args.dataset} {args.configuration} {args.fold} -tr {args.trainer} -p {args.plans} --c"
    print(f"Now: {train}")
    return 0
