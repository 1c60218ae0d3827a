"""Options of the commands that make a data set out of others: `merge` and `scenario`.

The option -o: whether it can be written to is asked before the work, not after it.

The option -np, the same for every command.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nnunet_partial.errors import PartialLabelError


def require_output_folder(folder: Path) -> None:
    """Raises PartialLabelError where `folder` is a file, or neither is writable nor can be made. Makes nothing."""
    nearest = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not nearest.is_dir():
        raise PartialLabelError(f"-o: {nearest} is a file; expected a folder. Give another one with -o.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PartialLabelError(f"-o: nothing may be written into {nearest.resolve()}. Give another folder with -o.")


def require_output_file(file: Path) -> None:
    """Raises PartialLabelError where `file` is a folder, or cannot be written to its own. Makes nothing."""
    if file.is_dir():
        raise PartialLabelError(f"-o: {file} is a folder; expected the name of a file, such as {file / 'report.html'}.")
    require_output_folder(file.parent)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Adds -np N (also --processes), a whole number above 0; by default one process per core, at most eight."""
    parser.add_argument(
        "-np",
        "--processes",
        type=above_zero,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="processes (default: %(default)s)",
    )


def above_zero(text: str) -> int:
    """A whole number of up to four digits, for argparse."""
    if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


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
