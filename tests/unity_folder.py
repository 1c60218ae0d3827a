"""A tiny copy of Unity, made by hand: stills of 40 x 40 pixels, and label files with whatever a test wants in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

#: An open outline from hinge to hinge; closed below, its points are the corners of columns 10 to 30, rows 10 to 30.
CUP = {"type": "curve", "x": "10 10 10 20 30 30 30", "y": "30 20 10 10 10 20 30"}
OFF = {"type": "off", "x": "", "y": ""}
BLURRED = {"type": "blurred", "x": "", "y": ""}


def name_of(video: str, frame: int = 1) -> str:
    """The file name of a picture, with a hash made of `video`."""
    return f"01-{hashlib.sha256(video.encode()).hexdigest()}-{frame:04d}.png"


def place_of(root: Path, name: str) -> Path:
    """Where a picture lies: below the source and the first two pairs of digits of its hash."""
    return root / "png-cache" / name[:2] / name[3:5] / name[5:7] / name


def write_still(path: Path, grey: int = 50) -> None:
    """(40, 40), `grey` all over, a white mark in row 1, column 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((40, 40), grey, np.uint8)
    image[1, 2] = 255
    sitk.WriteImage(sitk.GetImageFromArray(image), str(path))


def unity(root: Path, **parts: Mapping[str, Mapping[str, Any]]) -> Path:
    """`parts`: for train, tune, ival (or all) the labels by picture, with a picture for each."""
    (root / "png-cache").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    for part, pictures in parts.items():
        content = {name: {"labels": labels} for name, labels in pictures.items()}
        (root / "labels" / f"labels-{part}.json").write_text(json.dumps(content))
        for name in pictures:
            write_still(place_of(root, name.split(".")[0].split("_")[0] + ".png"))
    return root
