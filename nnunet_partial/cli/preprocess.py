"""`nnunet_partial preprocess`: preprocess a scenario with the plans and images of its source dataset."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "preprocess",
        help="preprocess a scenario with the plans and images of its source dataset",
        description="Replaces nnUNetv2_plan_and_preprocess for a scenario: copies the plans of the dataset that it was "
        "made from, links the cases whose files are equal, and preprocesses (with nnU-Net) only those whose labels "
        "changed. All scenarios of a dataset then share network, spacing and most of the disk space.",
        epilog="Example: nnUNetv2_plan_and_preprocess -d 501 -c 2d; nnunet_partial preprocess -d 601 --like 501 -c 2d",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the scenario")
    parser.add_argument("--like", required=True, metavar="DATASET", help="its source dataset, preprocessed")
    parser.add_argument("-c", "--configuration", nargs="+", default=["2d"], help="configurations (default: 2d)")
    parser.add_argument(
        "-p", "--plans", nargs="+", default=["nnUNetPlans"], help="plans identifiers (default: nnUNetPlans)"
    )
    add_processes_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.preprocess_like import preprocess_like

    scenario, source = find_dataset(args.dataset), find_dataset(args.like)
    done = preprocess_like(scenario, source, args.configuration, args.plans, args.processes, progress=True)
    print(f"{scenario.name}: {done.linked} case(s) linked, {done.preprocessed} preprocessed")
    return 0
