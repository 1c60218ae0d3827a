"""`nnunet_partial trainers`: list the trainers of this package and the folder that holds them."""

from __future__ import annotations

import argparse
import re
from typing import Any

from nnunet_partial.utils.trainers import trainers_folder

#: Trainers of other lengths are not listed one by one.
_CLASS = re.compile(r"^class (nnUNetTrainer\w+?)(?<!epochs)\(", re.MULTILINE)


def add_parser(subparsers: Any) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "trainers",
        help="list the trainers; --path prints the folder for nnUNet_extTrainer",
        description="Lists the trainers for nnUNetv2_train -tr NAME. After a regular `pip install` nnU-Net finds them "
        'by itself; after `pip install -e` run: export nnUNet_extTrainer="$(nnunet_partial trainers --path)"',
    )
    parser.add_argument("--path", action="store_true", help="print the folder only")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    folder = trainers_folder()
    if args.path:
        print(folder)
        return 0
    for file in sorted(folder.glob("nnUNetTrainer*.py")):
        # read, not imported: that would take PyTorch's seconds
        for name in _CLASS.findall(file.read_text(encoding="utf-8")):
            print(name)
    print("Marginal, ACCE, ABCE and Naive also with _5epochs, _20epochs, _50epochs, _100epochs, _250epochs")
    return 0
