"""`nnunet_partial balance`: set how often training samples each domain."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "balance",
        help="set how often training samples each domain of a dataset",
        description="Writes sampling weights of the domains (domain_weights) into the partial_labels.json of the raw "
        "dataset and, if there is one, of the preprocessed dataset. Without options a domain weighs the square root of "
        "its number of training cases, as with merge --balance, so that small domains are sampled more often than by "
        "their share.",
        epilog="Example: nnunet_partial balance -d 510 --weights camus=2 echonet=1",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--weights",
        nargs="+",
        action="extend",
        metavar="DOMAIN=WEIGHT",
        help="weight of each domain, relative to the others: camus=2 echonet=1 samples camus in two of three cases",
    )
    choice.add_argument("--off", action="store_true", help="remove the weights: every case is sampled equally often")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.domains import balance, parse_weights
    from nnunet_partial.utils.text import NO_DOMAIN, text_table

    weights = parse_weights(args.weights) if args.weights else None
    balanced = balance(find_dataset(args.dataset), weights, args.off)
    rows = [
        [
            domain or NO_DOMAIN,
            str(cases),
            f"{balanced.weights[domain]:g}" if balanced.weights else "-",
            f"{share:.3f}",
        ]
        for domain, cases, share in balanced.domains
    ]
    print(text_table(["domain", "training cases", "weight", "share of the samples"], rows), end="")
    for file in balanced.files:
        print(f"Written: {file}")
    return 0
