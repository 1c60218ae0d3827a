"""`nnunet_partial check`: validate a dataset."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "check",
        help="validate a dataset and summarize it",
        description="Reads every image and label of a raw dataset, compares them with dataset.json, "
        "partial_labels.json and splits_final.json, and names every contradiction, and pixels that are NaN "
        "or infinite. "
        "Exit code 0: no finding; 1: something is wrong.",
        epilog="Example: nnunet_partial check -d 510",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    add_processes_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.check import check

    folder = find_dataset(args.dataset)
    report = check(folder, args.processes, progress=True)
    print(f"{folder}\n")
    print(report.overview)
    for remark in report.remarks:
        print(f"Note: {remark}")
    for subject, lines in report.findings.items():
        print(f"\n{subject}: {len(lines)} finding(s)")
        for line in lines:
            print(f"  {line}")
    print(f"\n{report.count} finding(s)." if report.count else "\nNothing is wrong.")
    return 1 if report.count else 0
