"""The option -np, the same for every command."""

from __future__ import annotations

import argparse
import os


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
