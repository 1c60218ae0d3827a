"""`nnunet_partial scenario`: hide labels on purpose, to study partial-label training."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.cli._options import add_writing_options
from nnunet_partial.dataset.raw import dataset_name, find_dataset, plain_name, short_name


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "scenario",
        help="hide labels of some patients on purpose",
        description="Makes a dataset in which some patients lack the labels of some structures, from one that has "
        "them. "
        "Images are hard links, and only label files that change are written. The complete labels are kept in "
        "labelsTr_full, which nnU-Net never reads.",
        epilog="Example: nnunet_partial scenario -i 501 -d 601 --missing LA --fraction 0.5 --seed 0",
    )
    parser.add_argument("-i", "--input", required=True, metavar="DATASET", help="id or name of the source dataset")
    parser.add_argument(
        "-d", "--dataset-id", type=int, required=True, metavar="ID", help="id of the new dataset, 1 to 999"
    )
    parser.add_argument(
        "--missing",
        nargs="+",
        action="extend",
        required=True,
        metavar="CLASS",
        help="the classes to hide; or 'random': a random part of the classes of each chosen patient",
    )
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="fraction of patients whose labels are hidden (default: 1)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="random seed; smaller fractions are subsets of larger ones (default: %(default)s)",
    )
    parser.add_argument("--domain", help="hide labels of this domain only (default: of every domain)")
    parser.add_argument(
        "--keep-only-complete",
        action="store_true",
        help="leave out the cases that would lose a label instead of hiding it: the complete-case baseline",
    )
    parser.add_argument("--name", help="name of the new dataset (default: such as CAMUS_without_LA)")
    add_writing_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset_conversion.derived.scenario import scenario
    from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions

    source = find_dataset(args.input)
    default_name = plain_name("_".join([short_name(source.name), "without", *args.missing]))
    made = scenario(
        source,
        dataset_name(args.dataset_id, args.name or default_name),
        ScenarioOptions(
            tuple(args.missing),
            args.fraction,
            args.seed,
            args.domain,
            args.keep_only_complete,
            args.unknown_as == "ignore",
        ),
        overwrite=args.overwrite,
        processes=args.processes,
        progress=True,
    )
    how = "without the cases that would lose labels" if args.keep_only_complete else "with labels hidden"
    print(f"{made.folder} is {source.name} {how}\n")
    print(made.summary)
    for warning in made.warnings:
        print(f"Warning: {warning}")
    return 0
