"""Builds small nnU-Net raw data sets, file by file, for the tests of merge and check."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_partial.dataset.raw import RawDataset


@dataclass
class Drawn:
    """One case: the label values that are drawn (a row each), and its entry in the manifest (None: no entry)."""

    name: str
    values: Sequence[float] = ()
    entry: Mapping[str, Any] | None = field(default_factory=lambda: {"annotated": []})
    part: str = "Tr"
    shape: tuple[int, ...] = (8, 6)
    spacing_mm: float = 0.5


def write_image(path: Path, array: np.ndarray, spacing_mm: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing_mm] * array.ndim)
    sitk.WriteImage(image, str(path), True)


def write_layers(path: Path, layers: Sequence[np.ndarray], as_axis: bool = False) -> None:
    """A segmentation of 3D Slicer with overlapping segments: several values per voxel, or a fourth axis."""
    images = [sitk.GetImageFromArray(layer) for layer in layers]
    sitk.WriteImage(sitk.JoinSeries(images) if as_axis else sitk.Compose(images), str(path))


def label_array(case: Drawn) -> np.ndarray:
    """Row i (or slice i) holds values[i], the rest is background."""
    whole = all(float(value).is_integer() for value in case.values)
    array = np.zeros(case.shape, np.uint8 if whole else np.float32)
    for row, value in enumerate(case.values):
        array[row] = value
    return array


def read_values(path: Path) -> list[int]:
    """The values in the first column, row by row."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return [int(value) for value in array[..., 0].ravel()]


def write_dataset(
    root: Path,
    name: str,
    labels: Mapping[str, int | Sequence[int]],
    cases: Sequence[Drawn],
    *,
    groups: Sequence[Mapping[str, Any]] = (),
    ending: str = ".nii.gz",
    channels: Sequence[str] = ("ultrasound",),
    **about: Any,
) -> RawDataset:
    folder = root / name
    for number, case in enumerate(cases):
        for channel in range(len(channels)):
            gray = np.full(case.shape, (10 * number + channel) % 256, np.uint8)
            write_image(folder / f"images{case.part}" / f"{case.name}_{channel:04d}{ending}", gray, case.spacing_mm)
        write_image(folder / f"labels{case.part}" / f"{case.name}{ending}", label_array(case), case.spacing_mm)
    dataset = {
        "channel_names": {str(index): channel for index, channel in enumerate(channels)},
        "labels": {"background": 0, **labels},
        "numTraining": sum(case.part == "Tr" for case in cases),
        "file_ending": ending,
        **about,
    }
    manifest = {
        "version": 1,
        "groups": list(groups),
        "cases": {case.name: dict(case.entry) for case in cases if case.entry is not None},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "partial_labels.json").write_text(json.dumps(manifest))
    return RawDataset(folder)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file, by path: to see that nothing was touched."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def list_files(dataset: RawDataset, elsewhere: Path) -> None:
    """Move the training files to another folder, under other names, and list them in dataset.json as nnU-Net can."""
    elsewhere.mkdir()
    listed: dict[str, Any] = {}
    for number, (case, label) in enumerate(dataset.label_files().items()):
        images = []
        for channel, path in enumerate(dataset.image_files()[case]):
            images.append(str(path.rename(elsewhere / f"scan{number}-{channel}{dataset.file_ending}")))
        moved = label.rename(elsewhere / f"mask{number}{dataset.file_ending}")
        listed[case] = {"images": images, "label": os.path.relpath(moved, dataset.folder)}
    file = dataset.folder / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dataset": listed}))
