"""Print the result of a command as one JSON document, for programs that call it."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`; the command stores its result in `args.document`, which `main` prints."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON document and nothing else to stdout; the text goes to stderr. Keys: "
        "docs/reference/exit-codes-and-output.md",
    )


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what is printed inside the block, by other processes and libraries too."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def json_text(document: Any) -> str:
    """Format a document as JSON, in which a number that JSON does not have (NaN, infinite) is null.

    Args:
        document: Mappings, sequences, text and numbers, also NumPy's; anything else as text.

    Returns:
        Indented JSON in ASCII, so that every terminal can show it.
    """
    return json.dumps(_plain(document), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of NumPy
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
