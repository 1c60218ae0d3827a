"""Folders of models that were never trained: what `frames` reads of one, and clips to go with it."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATASET = {"channel_names": {"0": "ultrasound"}, "labels": {"background": 0, "LV": 1}, "file_ending": ".nii.gz"}
PLANS = {
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "configurations": {"2d": {"patch_size": [64, 64]}, "small": {"inherits_from": "2d"}, "3d": {"patch_size": [9] * 3}},
}


def write_model(folder: Path, configuration: str = "2d", plans: dict[str, Any] | None = None, **dataset: Any) -> Path:
    """The folder of a model; `plans` and `dataset` replace entries."""
    model = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    model.mkdir(parents=True)
    (model / "dataset.json").write_text(json.dumps({**DATASET, **dataset}))
    (model / "plans.json").write_text(json.dumps({**PLANS, **(plans or {})}))
    return model


def write_nifti(
    path: Path, frames: NDArray[np.uint8], spacing: Sequence[float], step: float = 0.0, units: int = 10, axis: int = 3
) -> Path:
    """Frames (t, rows, cols); `spacing`: width and height; time is the third axis or, with a size of 1 in between, the
    fourth."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    count, rows, cols = frames.shape
    size = [cols, rows, count] if axis == 3 else [cols, rows, 1, count]
    struct.pack_into("<8h", header, 40, len(size), *size, *[1] * (7 - len(size)))
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<5f", header, 76, 1.0, *spacing, 1.0, step)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
    header[123] = units
    header[344:348] = b"n+1\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(header) + frames.tobytes())
    return path
