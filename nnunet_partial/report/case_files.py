"""The files of one case, read for a picture: grey image, reference, and what each model predicted, on one slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import Geometry, read_array
from nnunet_partial.evaluation.metrics import without_thin_axes
from nnunet_partial.report.results_folder import Results
from nnunet_partial.report.trained_on import source_folder

Grey = NDArray[np.float64]
Labels = NDArray[np.integer]

#: Grey values beyond these percentiles are shown as black and white.
WINDOW = (0.5, 99.5)


@dataclass(frozen=True)
class Slice:
    """What is shown of a case, each (rows, cols). `image`, from 0 to 1, and predictions are None where they cannot be
    read. `aspect`: height of a pixel / its width; `where`: "slice 12 of 40", empty in 2-D; `problems`: what could not
    be read, a sentence each."""

    image: Grey | None
    reference: Labels
    predictions: Mapping[str, Labels | None]
    aspect: float
    where: str
    problems: Sequence[str]


def read_slice(results: Results, case: str, value: int) -> Slice | str:
    """The picture, or of a volume the slice (along the first axis) that shows most of label `value` in the reference.

    Where the reference cannot be read: why, as a sentence.
    """
    try:
        geometry, reference = read_array(results.reference / f"{case}{results.file_ending}")
    except OSError as problem:
        return f"{case}: the reference cannot be read: {problem}"
    reference, spacing = without_thin_axes(reference, geometry.spacing_mm[::-1])
    problems: list[str] = []
    files = {f"{case}: the image": _image_file(results, case)}
    for model, folder in results.models.items():
        files[f"{case}: the prediction of {model}"] = folder / f"{case}{results.file_ending}"
    arrays = [_read(path, what, geometry, problems) for what, path in files.items()]
    arrays = [None if array is None else array.reshape(reference.shape) for array in arrays]
    where = ""
    if reference.ndim > 2:
        index = int(np.argmax((reference == value).reshape(len(reference), -1).sum(axis=1)))
        where = f"slice {index + 1} of {len(reference)}"
        reference, *arrays = (None if array is None else array[index] for array in (reference, *arrays))
    return Slice(
        None if arrays[0] is None else _windowed(arrays[0]),
        reference,
        dict(zip(results.models, arrays[1:], strict=True)),
        spacing[-2] / spacing[-1],
        where,
        problems,
    )


def _read(path: Path, what: str, reference: Geometry, problems: list[str]) -> NDArray[Any] | None:
    """The values, of colours their mean; None where they cannot be read or do not fit, which is added to `problems`."""
    try:
        geometry, array = read_array(path)
    except OSError as problem:
        problems.append(f"{what} cannot be read: {problem}")
        return None
    if geometry.size != reference.size:
        problems.append(f"{what} has another size than the reference: {path}")
        return None
    return array.mean(axis=-1) if geometry.components > 1 else array


def _image_file(results: Results, case: str) -> Path:
    """Its first channel, in the first folder that has it."""
    name = f"{case}_0000{results.file_ending}"
    files = [folder / name for folder in image_folders(results)]
    return next((file for file in files if file.is_file()), files[0])


def image_folders(results: Results) -> list[Path]:
    """Where images may lie: beside the labels, in the data set of the manifest, where predictions were made from."""
    part = results.reference.name.removeprefix("labels").removesuffix("_full")
    folders = [
        results.reference.parent / f"images{part}",
        *(results.manifest.parent / f"images{p}" for p in ("Ts", "Tr")),
    ]
    folders += [source for folder in results.models.values() if (source := source_folder(folder)) is not None]
    return folders


def _windowed(image: NDArray[Any]) -> Grey:
    """Grey values (rows, cols) from 0 to 1; a picture of one value is black."""
    low, high = np.percentile(image, WINDOW)
    grey: Grey = np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros(image.shape)
    return grey
