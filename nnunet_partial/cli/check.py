"""`nnunet_partial check`: what a data set holds, and where it contradicts itself."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="show what a data set holds, and every contradiction in it",
        description="Reads every image and label of a raw data set (pixels that are NaN or infinite are named) and "
        "compares them with dataset.json, partial_labels.json and splits_final.json. Exit code 0: all is well; 1: "
        "something is wrong.",
        epilog="Example: nnunet_partial check -d 510",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the data set")
    add_processes_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from nnunet_partial.dataset.check import check

    folder = find_dataset(args.dataset)
    checked = check(folder, args.processes, progress=True)
    print(f"{folder}\n")
    print(checked.overview)
    for remark in checked.remarks:
        print(f"Note: {remark}")
    for subject, lines in checked.findings.items():
        print(f"\n{subject}: {len(lines)} finding(s)")
        for line in lines:
            print(f"  {line}")
    print(f"\n{checked.count} finding(s)." if checked.count else "\nNothing is wrong.")
    return 1 if checked.count else 0
