"""`nnunet_partial shrink`: add a smaller network to nnU-Net's plans, for computers without a GPU."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.dataset.raw import dataset_id, find_dataset, nnunet_folder
from nnunet_partial.errors import DatasetError


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "shrink",
        help="add a smaller network to nnU-Net's plans, for CPUs",
        description="Adds the configuration NAME_small to nnU-Net's plans of a dataset: the same preprocessed data, "
        "fewer stages and features, smaller patches and batches. Trains on two CPU cores in minutes.",
        epilog="Example: nnunet_partial shrink -d 501 --patch 96 96; nnUNetv2_train 501 2d_small 0 -device cpu ...",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name, planned by nnU-Net")
    parser.add_argument(
        "-c", "--configuration", default="2d", metavar="NAME", help="the configuration to copy (default: %(default)s)"
    )
    parser.add_argument("-p", "--plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    parser.add_argument(
        "--features",
        type=int,
        nargs="+",
        default=[16, 32, 64, 64],
        help="features of each stage (default: 16 32 64 64)",
    )
    parser.add_argument("--patch", type=int, nargs="+", help="patch size in pixels (default: 96 along each axis)")
    parser.add_argument("--batch", type=int, default=8, help="images per batch (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.plans import add_small_configuration

    dataset = find_dataset(args.dataset)
    file = nnunet_folder("nnUNet_preprocessed") / dataset.name / f"{args.plans}.json"
    if not file.exists():
        raise DatasetError(f"{file} does not exist. First: nnUNetv2_plan_and_preprocess -d {dataset_id(dataset)}")
    name = f"{args.configuration}_small"
    add_small_configuration(
        file, name, base=args.configuration, features=args.features, batch_size=args.batch, patch_size=args.patch
    )
    print(f"{file} has the configuration {name}")
    return 0
