"""`nnunet_partial scenario`: hide labels on purpose, to see what training with partial labels makes of it."""

from __future__ import annotations

import argparse
import re
from typing import Any

from nnunet_partial.cli._options import add_writing_options
from nnunet_partial.dataset.raw import dataset_name, find_dataset


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "scenario",
        help="hide labels of some patients on purpose",
        description="Makes a data set in which some patients lack some structures, from one that has them. Nothing is "
        "copied: images are hard links, and only label files that change are written. The complete labels stay in "
        "labelsTr_full, which nnU-Net never reads.",
        epilog="Example: nnunet_partial scenario -i 501 -d 601 --missing LA --fraction 0.5 --seed 0",
    )
    parser.add_argument("-i", "--input", required=True, metavar="DATASET", help="id or name of the data set")
    parser.add_argument(
        "-d", "--dataset-id", type=int, required=True, metavar="ID", help="id of the new data set, 1 to 999"
    )
    parser.add_argument(
        "--missing",
        nargs="+",
        required=True,
        metavar="CLASS",
        help="the structures to hide; or 'random': of each chosen patient some, but not all",
    )
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the patients that lose them (default: 1, all patients)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="decides which patients; 0.25 of them are among 0.5 (default: %(default)s)"
    )
    parser.add_argument("--domain", help="only patients of this domain lose labels (default: of every domain)")
    parser.add_argument(
        "--keep-only-complete",
        action="store_true",
        help="leave out the cases that would lose a label, in place of hiding it: a baseline",
    )
    parser.add_argument("--name", help="name of the new data set (default: such as CAMUS_without_LA)")
    add_writing_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from nnunet_partial.dataset_conversion.derived.scenario import scenario
    from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions

    source = find_dataset(args.input)
    made = scenario(
        source,
        dataset_name(args.dataset_id, args.name or _name(source.name, args.missing)),
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


def _name(source: str, missing: list[str]) -> str:
    """CAMUS_without_LA; what a name of nnU-Net's cannot hold becomes '-'."""
    text = "_".join([source.partition("_")[2] or source, "without", *missing])
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)
