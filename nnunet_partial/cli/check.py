"""`nnunet_partial check`: validate a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_partial.cli._json import add_json_option
from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import find_dataset, preprocessed_folder
from nnunet_partial.errors import DatasetError


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
    parser.add_argument(
        "--update-preprocessed",
        action="store_true",
        help="first copy an edited partial_labels.json over the one of the preprocessed dataset, which training reads; "
        "only where the label files are those that were preprocessed and the raw manifest is the newer one",
    )
    add_processes_option(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.check import check

    folder = find_dataset(args.dataset)
    updated = _update(folder) if args.update_preprocessed else None
    if updated:
        print(f"{updated}\n")
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
    args.document = {
        "dataset": folder.name,
        "folder": folder,
        "updated": updated,
        "count": report.count,
        "findings": report.findings,
        "remarks": report.remarks,
        "overview": report.overview,
    }
    return 1 if report.count else 0


def _update(folder: Path) -> str:
    """Take an edited raw manifest over to the preprocessed dataset, and return what was done."""
    from nnunet_partial.dataset.preprocessed import update_manifest

    preprocessed = preprocessed_folder(folder.name)
    if preprocessed is None:
        raise DatasetError(
            f"{folder.name} has no folder in nnUNet_preprocessed, or that variable is not set: there is no manifest to "
            "update."
        )
    return update_manifest(folder, preprocessed)
