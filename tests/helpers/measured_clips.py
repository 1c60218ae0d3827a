"""Clips whose volumes are known in closed form, with perfect predictions, as `frames` and nnU-Net leave them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from helpers.synthetic_hearts import CLASSES, Bullet
from numpy.typing import NDArray

from nnunet_partial.clips.records import Clip, write_clips_json

HEART = Bullet(long=36.0, wide=20.0, base=24.0, wall=7.0, atrium=(20.0, 16.0), tilt_deg=8.0)


@dataclass
class ClipFolders:
    """The folder that `frames` writes, and that of the predictions."""

    images: Path
    predictions: Path
    clips: dict[str, Clip] = field(default_factory=dict)

    @classmethod
    def create(cls, root: Path, labels: dict[str, Any] | None = None) -> ClipFolders:
        folders = cls(root / "in", root / "out")
        for folder in (folders.images, folders.predictions):
            folder.mkdir(parents=True)
        names = labels or {"background": 0, **{name: value for value, name in enumerate(CLASSES, start=1)}}
        content = {"channel_names": {"0": "US"}, "labels": names, "file_ending": ".nii.gz"}
        (folders.predictions / "dataset.json").write_text(json.dumps(content))
        return folders

    def add(self, name: str, labels: NDArray, spacing: tuple[float, float] | None = (1.0, 1.0), **entry: Any) -> None:
        """Add a clip of labels (T, rows, cols) with 25 frames a second, in parts of at most 40 frames."""
        rng = np.random.default_rng(len(self.clips))
        images = np.array([40, 15, 150, 20], np.uint8)[labels] + rng.integers(0, 40, labels.shape, np.uint8)
        count = len(labels)
        width = 1 if entry.get("layout") == "frames" else 40
        starts = range(0, count, width)
        cases = tuple(f"{name}_{number:03d}" for number in range(len(starts)))
        for case, start in zip(cases, starts, strict=True):
            part = slice(start, start + width)
            write_nifti(self.images / f"{case}_0000.nii.gz", images[part], spacing or (1.0, 1.0), width == 1)
            write_nifti(self.predictions / f"{case}.nii.gz", labels[part], spacing or (1.0, 1.0), width == 1)
        clip = Clip(
            patient=None,
            view="4CH",
            source="video",
            cases=cases,
            layout=entry.pop("layout", "volume"),
            frames=count,
            frame_times_s=tuple(index / 25 for index in range(count)),
            frame_times_from="container",
            spacing_mm=spacing,
            spacing_from="header" if spacing else None,
        )
        self.clips[name] = replace(clip, **entry)
        write_clips_json(self.images, self.clips)

    def arguments(self, output: Path, *more: str) -> list[str]:
        paths = ["-i", str(self.images), "--pred", str(self.predictions), "-o", str(output)]
        return ["measure", *paths, "-np", "1", *more]


def write_nifti(path: Path, values: NDArray, spacing: tuple[float, float], flat: bool = False) -> None:
    image = SimpleITK.GetImageFromArray(values[0] if flat else values)
    image.SetSpacing((spacing[1], spacing[0]) if flat else (spacing[1], spacing[0], 1.0))
    SimpleITK.WriteImage(image, str(path))


def beating(
    ef: float = 0.5,
    beats: float = 3.0,
    frames: int = 75,
    shape: tuple[int, int] = (112, 112),
    spacing: tuple[float, float] = (1.0, 1.0),
    heart: Bullet = HEART,
) -> NDArray[np.uint8]:
    """Return labels (T, rows, cols) of a ventricle whose volume goes from V to (1 - ef) V and back, as a cosine.

    Its length stays, so that the volume goes with the square of its width.
    """
    center = (shape[0] * spacing[0] * 0.45, shape[1] * spacing[1] * 0.5)
    contracted = 0.5 - 0.5 * np.cos(2 * math.pi * beats * np.arange(frames) / frames)
    return np.stack(
        [
            replace(heart, wide=heart.wide * math.sqrt(1 - ef * share)).labels(shape, spacing, center)
            for share in contracted
        ]
    )
