"""The option -np, the same for every command."""

from __future__ import annotations

import argparse
import os


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Adds -np N (also --processes), a whole number above 0; by default one process per core, at most eight."""
    parser.add_argument(
        "-np",
        "--processes",
        type=_processes,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="processes (default: %(default)s)",
    )


def _processes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)
