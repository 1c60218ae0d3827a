"""A made-up image depth for pictures without a pixel size, so that nnU-Net brings all data sets to about one scale."""

from __future__ import annotations

import argparse
import math

from nnunet_partial.errors import ConversionError

#: From the top to the bottom row; docs/datasets.md says why, and how to check it on a copy of the data.
DEPTH_MM = 150.0


def add_depth_option(parser: argparse.ArgumentParser, when: str = "the data set has no pixel size") -> None:
    """Adds --depth-mm."""
    parser.add_argument(
        "--depth-mm",
        type=float,
        default=DEPTH_MM,
        metavar="MM",
        help=f"{when}: take images as this deep, top to bottom; marked in the manifest as not known "
        "(default: %(default)s)",
    )


def require_depth(depth_mm: float) -> None:
    """Raises ConversionError for a depth that is no number above 0."""
    if not (math.isfinite(depth_mm) and depth_mm > 0):
        raise ConversionError(f"the image depth is {depth_mm} mm, expected a number above 0, such as 150")
