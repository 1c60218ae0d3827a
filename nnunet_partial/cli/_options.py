"""Add the options that several commands share, and check `-o` before work starts."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nnunet_partial.errors import PartialLabelError


def require_output_folder(folder: Path) -> None:
    """Raise PartialLabelError unless `folder` can be created or written to. Creates nothing."""
    nearest = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not nearest.is_dir():
        raise PartialLabelError(f"-o: {nearest} is a file; expected a folder. Give another one with -o.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PartialLabelError(f"-o: {nearest.resolve()} is not writable. Give another folder with -o.")


def require_output_file(file: Path, example: str) -> None:
    """Raise PartialLabelError unless `file` can be written; `example`: a name for it. Creates nothing."""
    if file.is_dir():
        raise PartialLabelError(f"-o: {file} is a folder; expected the name of a file, such as {file / example}.")
    require_output_folder(file.parent)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Add `-np N` (also `--processes`), a positive integer; by default one process per core, at most eight."""
    parser.add_argument(
        "-np",
        "--processes",
        type=above_zero,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="number of processes (default: %(default)s)",
    )


def above_zero(text: str) -> int:
    """Parse a positive integer of up to four digits, for argparse."""
    if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer above 0, got {text!r}")
    return int(text)


def fold(text: str) -> int | str:
    """Parse the number of a fold, or "all", for argparse."""
    if text == "all":
        return text
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected the number of a fold, or all, got {text!r}")
    return int(text)


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Add `--unknown-as`, `--overwrite` and `-np`."""
    parser.add_argument(
        "--unknown-as",
        choices=("background", "ignore"),
        default="background",
        help="value of the background of partially labeled training cases, where an unknown class may be; "
        "with 'ignore' "
        "(nnU-Net's ignore label) nnU-Net's own trainer can train on them (default: %(default)s)",
    )
    add_overwrite_option(parser)
    add_processes_option(parser)


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite` of a command that makes a dataset."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the new dataset if it exists, and remove what nnU-Net preprocessed of the old one",
    )
