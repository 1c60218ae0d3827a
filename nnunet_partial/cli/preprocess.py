"""`nnunet_partial preprocess`: a scenario gets the plans and preprocessed images of the data set it was made from."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "preprocess",
        help="preprocess a scenario with the plans and images of the data set it was made from",
        description="In place of nnUNetv2_plan_and_preprocess for a scenario: takes over the plans of the data set "
        "that it was made from, links the cases whose files are the same, and preprocesses, with nnU-Net, only those "
        "whose labels changed. All scenarios of a data set then share network, pixel size and most of the disk space.",
        epilog="Example: nnUNetv2_plan_and_preprocess -d 501 -c 2d; nnunet_partial preprocess -d 601 --like 501 -c 2d",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the scenario")
    parser.add_argument("--like", required=True, metavar="DATASET", help="the data set it was made from, preprocessed")
    parser.add_argument("-c", "--configuration", nargs="+", default=["2d"], help="(default: 2d)")
    parser.add_argument("-p", "--plans", nargs="+", default=["nnUNetPlans"], help="(default: nnUNetPlans)")
    add_processes_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from nnunet_partial.dataset.preprocess_like import preprocess_like

    scenario, source = find_dataset(args.dataset), find_dataset(args.like)
    done = preprocess_like(scenario, source, args.configuration, args.plans, args.processes, progress=True)
    print(f"{scenario.name}: {done.linked} case(s) linked, {done.preprocessed} preprocessed")
    return 0
