"""Define the command `nnunet_partial`.

One small module per subcommand, each with `add_parser(subparsers)` and `run(args) -> exit code`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import nnunet_partial
from nnunet_partial.cli._json import json_text, stdout_to_stderr
from nnunet_partial.errors import PartialLabelError

COMMANDS = (
    "convert",
    "merge",
    "declare",
    "scenario",
    "fill",
    "balance",
    "splits",
    "check",
    "trainers",
    "preprocess",
    "shrink",
    "widen",
    "evaluate",
    "report",
    "find-best",
    "export",
    "card",
    "disagreement",
    "frames",
    "measure",
    "analyze",
    "study",
    "demo",
)


#: Commands that keep what they have done when they are interrupted.
RESUMING = ("convert", "merge", "scenario", "fill", "frames", "analyze", "study")


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Build the parser, without importing torch or nnunetv2.

    Args:
        names: The subcommands to build; each imports a module, which takes time.

    Returns:
        The parser of these subcommands.
    """
    parser = argparse.ArgumentParser(
        prog="nnunet_partial",
        description="Train nnU-Net v2 on partially labeled data: each case is annotated for some structures only.",
        epilog="A first run without any data: nnunet_partial demo",
    )
    parser.add_argument("--version", action="version", version=f"nnunet-partial {nnunet_partial.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        import_module(f"nnunet_partial.cli.{name.replace('-', '_')}").add_parser(subparsers)
    return parser


def _parse(given: list[str]) -> argparse.Namespace:
    """Parse the options; what follows `--` is stored in `more`, for the program that a command drives."""
    parser = build_parser(given[:1] if given and given[0] in COMMANDS else COMMANDS)
    end = given.index("--") if "--" in given else len(given)
    args = parser.parse_args(given[:end])
    args.more = given[end + 1 :]
    if args.more and not getattr(args, "takes_more", False):
        parser.error(f"{args.command} takes nothing after --; got {' '.join(args.more)}")
    return args


def _use_utf8() -> None:
    """Read file names as UTF-8, whatever the locale, and write to any terminal.

    Python reads names of files and arguments by the locale, so that in one without UTF-8 (LC_ALL=C with PYTHONUTF8=0)
    a case of the manifest would have another name than its files. Only a new start of Python can change that.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: The arguments without the program's name; those of the process if None.

    Returns:
        The exit code: 0 if all is well, 1 if something is wrong with the data, 2 with the call, 130 if interrupted.
    """
    if argv is None:
        _use_utf8()
    args = _parse(list(sys.argv[1:] if argv is None else argv))
    try:
        if not getattr(args, "json", False):
            return int(args.run(args))
        with stdout_to_stderr():
            code = int(args.run(args))
        print(json_text(args.document))
        return code
    except PartialLabelError as problem:
        print(f"nnunet_partial {args.command}: {problem}", file=sys.stderr)
        return 1
    except PermissionError as problem:  # Windows replaces and removes no file that another program has open
        print(
            f"nnunet_partial {args.command}: {problem}. Is it open in another program, or write-protected?",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        again = "goes on where it stopped" if args.command in RESUMING else "starts again"
        print(f"\nnunet_partial {args.command}: interrupted; the same command {again}.", file=sys.stderr)
        return 130
