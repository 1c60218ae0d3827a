"""`nnunet_partial merge`: merge several datasets into one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import add_writing_options
from nnunet_partial.dataset.raw import dataset_name, find_dataset
from nnunet_partial.errors import DatasetError


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "merge",
        help="merge several datasets into one",
        description="Merges nnU-Net datasets that have a partial_labels.json. The classes are the union; each case "
        "stays "
        "annotated for the classes of its own dataset only. Images are hard-linked where possible.",
        epilog="Example: nnunet_partial merge -i 501 502 -d 510 --name Echo",
    )
    parser.add_argument(
        "-i",
        "--input",
        nargs="+",
        action="extend",
        required=True,
        metavar="DATASET",
        help="ids or names of the datasets, two or more",
    )
    parser.add_argument(
        "-d", "--dataset-id", type=int, required=True, metavar="ID", help="id of the new dataset, 1 to 999"
    )
    parser.add_argument("--name", default="Merged", help="name of the new dataset (default: %(default)s)")
    parser.add_argument(
        "--balance",
        action="store_true",
        help="sample small datasets more often: each domain with a probability proportional to the square root of its "
        "number of training cases (default: every case equally often)",
    )
    parser.add_argument(
        "--prefix",
        nargs="+",
        action="extend",
        default=[],
        metavar="DATASET:PREFIX",
        help="put this before the case names of a dataset, where two datasets have the same, as in --prefix 502:B_",
    )
    parser.add_argument(
        "--rename",
        nargs="+",
        action="extend",
        default=[],
        metavar="DATASET:CLASS=NEW",
        help="give a class of a dataset another name, where two datasets mean different things by one name, or one "
        "thing by two, as in --rename 502:LV=LV_inner; classes of one name become one class",
    )
    add_writing_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset_conversion.derived.merge import merge

    merged = merge(
        [find_dataset(dataset) for dataset in args.input],
        dataset_name(args.dataset_id, args.name),
        unknown_as_ignore=args.unknown_as == "ignore",
        balance=args.balance,
        prefixes=_prefixes(args.prefix),
        renames=_renames(args.rename),
        overwrite=args.overwrite,
        processes=args.processes,
        progress=True,
    )
    print(f"{merged.folder} holds {' + '.join(args.input)}\n")
    print(merged.overview)
    if merged.weights:
        chances = ", ".join(f"{domain} {100 * weight:.0f} %" for domain, weight in merged.weights.items())
        print(f"Training samples the domains with these probabilities: {chances}")
    for warning in merged.warnings:
        print(f"Warning: {warning}")
    return 0


def _prefixes(given: list[str]) -> dict[Path, str]:
    """Parse DATASET:PREFIX; the prefix by the folder of the dataset."""
    prefixes: dict[Path, str] = {}
    for text in given:
        dataset, colon, prefix = text.partition(":")
        if not (dataset and colon and prefix):
            raise DatasetError(f"--prefix {text}: expected a dataset and its prefix, such as 502:B_.")
        prefixes[find_dataset(dataset)] = prefix
    return prefixes


def _renames(given: list[str]) -> dict[Path, dict[str, str]]:
    """Parse DATASET:CLASS=NEW; the new names by class, by the folder of the dataset."""
    renames: dict[Path, dict[str, str]] = {}
    for text in given:
        dataset, _, names = text.partition(":")
        old, _, new = names.partition("=")
        if not (dataset and old and new):
            raise DatasetError(f"--rename {text}: expected a dataset, a class and its new name: 502:LV=LV_inner.")
        of_dataset = renames.setdefault(find_dataset(dataset), {})
        if of_dataset.setdefault(old, new) != new:
            raise DatasetError(f"--rename {text}: the class {old} has the new name {of_dataset[old]} too; give one.")
    return renames
