"""`nnunet_partial demo`: see in minutes, on drawn data, what training on partial labels is about."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

LOSSES = ("marginal", "acce", "abce")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="a first look on drawn data: five to ten minutes on two CPU cores",
        description="Draws two small echo data sets, one of which has the left ventricle alone labelled, and takes "
        "them through the real commands: convert, merge, check, nnU-Net's planning, training with nnU-Net's own loss "
        "and with one for partial labels, prediction of unseen images. Prints every command before it runs, then the "
        "Dice of both models, and saves a picture. An earlier demo in the same folder is replaced.",
    )
    parser.add_argument(
        "--loss", choices=LOSSES, default="marginal", help="the loss for partial labels (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where nnU-Net computes (default: %(default)s)"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("demo_output"), metavar="FOLDER", help="(default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from nnunet_partial.demo.run import demo

    try:
        demo(args.out, loss=args.loss, device=args.device, tell=_tell)
    except KeyboardInterrupt:
        print("\nnnunet_partial demo: interrupted; the same command starts it afresh.", file=sys.stderr)
        return 130
    return 0


def _tell(text: str) -> None:
    """At once, so that text and progress bars keep their order in a file too."""
    print(text, flush=True)
