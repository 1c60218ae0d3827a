"""`nnunet_partial convert`: convert a public echo dataset, or the user's images and masks, to an nnU-Net dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_partial.cli._options import add_processes_option
from nnunet_partial.dataset.raw import dataset_name
from nnunet_partial.dataset_conversion import DATASETS
from nnunet_partial.dataset_conversion.base import Skipped
from nnunet_partial.dataset_conversion.writer import REPORT_NAME, Report, convert
from nnunet_partial.utils.text import first_lines

#: Number of skipped cases and notes shown at the end; the report has all of them.
SHOWN = 10


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "convert",
        help="convert a public echo dataset, or your own images and masks, to an nnU-Net dataset",
        description="Converts a public echo dataset that you have on disk, or (`folder`) your own images and masks, "
        "to an nnU-Net raw dataset with a partial_labels.json that says which structures each case is annotated for. "
        "Nothing is downloaded, the source is only read. "
        "If interrupted, the same command continues where it stopped.",
    )
    names = parser.add_subparsers(dest="source_dataset", required=True, metavar="DATASET")
    for name, dataset in DATASETS.items():
        own = names.add_parser(name, help=dataset.title, description=dataset.description)
        _common_options(own, dataset.default_name)
        dataset.add_options(own)
        own.set_defaults(run=run)


def _common_options(parser: argparse.ArgumentParser, default_name: str) -> None:
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="FOLDER", help="the dataset on disk")
    parser.add_argument(
        "-d", "--dataset-id", type=int, required=True, metavar="ID", help="id of the new dataset, 1 to 999"
    )
    parser.add_argument("--name", default=default_name, help="its name (default: %(default)s)")
    add_processes_option(parser)
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="convert only the first N videos, patient views or images, for a first look",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first case that cannot be converted")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the dataset if it exists, and remove what nnU-Net preprocessed of the old one",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    report = convert(
        DATASETS[args.source_dataset].from_options(args.input, args),
        dataset_name(args.dataset_id, args.name),
        processes=args.processes,
        strict=args.strict,
        overwrite=args.overwrite,
        limit=args.limit,
        progress=True,
        log=show_skipped,
    )
    _show(report)
    return 1 if report.skipped else 0


def show_skipped(skipped: Skipped) -> None:
    """Print above the progress bar."""
    from tqdm import tqdm

    tqdm.write(f"skipped {skipped.case}: {skipped.reason}")


def _show(report: Report) -> None:
    counts = report.counts
    print(
        f"{report.folder}: {counts['imagesTr']} training and {counts['imagesTs']} test cases "
        f"of {counts['patients']} patients"
    )
    notes = [f"{note.about}: {note.text}" for note in report.notes]
    defects = [f"{defect.case}: {defect.reason}" for defect in report.known_defects]
    _list("noted, cases converted all the same", notes)
    _list("known defect of the official release, left out", defects)
    if report.skipped:
        print(f"{len(report.skipped)} case(s) could not be converted and were left out, named above and in the report")
    print(f"All of it: {report.folder / REPORT_NAME}")


def _list(title: str, lines: list[str]) -> None:
    if not lines:
        return
    print(f"{len(lines)} x {title}:")
    for line in first_lines(lines, SHOWN, " in the report"):
        print(f"  {line}")
