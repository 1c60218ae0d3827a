"""`nnunet_partial declare`: declare which structures the cases of an nnU-Net dataset are annotated for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import find_dataset


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "declare",
        help="declare which structures the cases of an nnU-Net dataset are annotated for",
        description="Writes partial_labels.json for a dataset in nnU-Net's format (2-D or 3-D, any modality) and "
        "checks it against every label file.",
        epilog="Examples: nnunet_partial declare -d 220 --csv labels.csv; "
        "nnunet_partial declare -d 220 --match 'siteB_*' kidney; nnunet_partial declare -d 220 --from-masks",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="id or name of the dataset")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="one row per case; columns case, annotated (several names separated by spaces) and, where wanted, absent, "
        "domain, patient, split",
    )
    how.add_argument(
        "--match",
        nargs="+",
        action="append",
        metavar=("PATTERN", "CLASS"),
        help="cases whose names match are annotated for these classes only; may be given several times, the first "
        "match wins; cases that match none are annotated for everything",
    )
    how.add_argument(
        "--from-masks",
        nargs="*",
        metavar="PATTERN",
        help="infer it: a class without a voxel in any case of a group is unknown there; what test cases alone show is "
        "unknown in the training cases. A group is the cases whose names begin alike (siteA_001, siteA_002), or that "
        "match a pattern. Shows the result and asks",
    )
    parser.add_argument("--yes", action="store_true", help="accept the result of --from-masks without asking")
    parser.add_argument("--overwrite", action="store_true", help="replace partial_labels.json if it exists")
    add_processes_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.dataset.declare import DatasetToDeclare, declare, require_target
    from nnunet_partial.dataset.declare_sources import (
        infer_annotations,
        manifest_from_patterns,
        manifest_from_table,
        unread_columns,
    )
    from nnunet_partial.dataset.raw import RawDataset

    data = DatasetToDeclare(RawDataset(find_dataset(args.dataset)), args.processes, progress=True)
    require_target(data.dataset.folder, args.overwrite)
    remarks: list[str] = []
    if args.csv:
        manifest, remarks = manifest_from_table(data, args.csv), unread_columns(args.csv)
    elif args.match:
        manifest, remarks = manifest_from_patterns(data, args.match)
    else:
        inferred = infer_annotations(data, args.from_masks)
        print(f"What the label files suggest:\n{inferred.text}\n")
        if not args.yes and not _agreed():
            print("nnunet_partial declare: nothing was written.", file=sys.stderr)
            return 1
        manifest = inferred.manifest
    declared = declare(data, manifest, args.overwrite)
    print(f"Wrote {' and '.join(str(file) for file in declared.files)}\n")
    print(declared.overview)
    for remark in remarks:
        print(f"Note: {remark}")
    for warning in declared.warnings:
        print(f"Warning: {warning}")
    return 0


def _agreed() -> bool:
    """Ask the user; without an answer (no terminal) the answer is no."""
    print("Classes listed as unknown will be excluded from the loss. Continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
