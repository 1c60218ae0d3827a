"""`nnunet_partial demo`: show in minutes, on synthetic data, what partial-label losses change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

LOSSES = ("marginal", "acce", "abce")


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "demo",
        help="a first run on synthetic data: two to four minutes on two CPU cores",
        description="Makes two small synthetic echo datasets, one of which is annotated for the left ventricle "
        "only, and runs the real commands on them: convert, merge, check, nnU-Net's planning, training with "
        "nnU-Net's own loss "
        "and with a partial-label loss, prediction of unseen images. Prints every command before it runs, then the "
        "Dice of both models, and saves a figure. An earlier demo in the same folder is replaced.",
    )
    parser.add_argument(
        "--loss", choices=LOSSES, default="marginal", help="the loss for partial labels (default: %(default)s)"
    )
    parser.add_argument(
        "-device", choices=("cpu", "cuda"), default="cpu", help="where nnU-Net computes (default: %(default)s)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo_output"), metavar="FOLDER", help="(default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from nnunet_partial.demo.run import demo

    try:
        demo(args.output, loss=args.loss, device=args.device, log=_log)
    except KeyboardInterrupt:
        print("\nnnunet_partial demo: interrupted; the same command starts it again.", file=sys.stderr)
        return 130
    return 0


def _log(text: str) -> None:
    """Print at once, so that text and progress bars keep their order in a file too."""
    print(text, flush=True)
