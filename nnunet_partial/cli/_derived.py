"""Options of the commands that make a data set out of others: `merge` and `scenario`."""

from __future__ import annotations

import argparse

from nnunet_partial.cli._processes import add_processes_option


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Adds --unknown-as, --overwrite and -np."""
    parser.add_argument(
        "--unknown-as",
        choices=("background", "ignore"),
        default="background",
        help="what to write where nobody looked for a class, i.e. into the background of partially labelled training "
        "cases; with nnU-Net's ignore label its own trainer can train on them (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the new data set if it exists, and remove what nnU-Net preprocessed of the old one",
    )
    add_processes_option(parser)
