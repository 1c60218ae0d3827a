"""Write frames as the images that a trained model expects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.images import read_array, simpleitk, write_itk
from nnunet_partial.dataset.plans import configuration_settings
from nnunet_partial.dataset_conversion.base import DEPTH_KEY, DEPTH_MM
from nnunet_partial.dataset_conversion.readers.images import to_smallest_dtype, write_image
from nnunet_partial.dataset_json import channel_names
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.utils.files import read_json

#: nnU-Net's readers that can read frames as they are, and whether they read volumes. Those that turn images into one
#: orientation are not among them: of a clip it is not known.
_READS_VOLUMES = {"SimpleITKIO": True, "NibabelIO": True, "NaturalImage2DIO": False}
#: The only readers that read a single slice without a third axis.
_READS_SLICES = ("SimpleITKIO", "NaturalImage2DIO")

#: Formats of integers from 0 to 255.
_HOLD_BYTES = (".png", ".bmp")

#: Distance of the slices of a volume in multiples of the larger pixel spacing. From 3 on nnU-Net resamples slice by
#: slice, as it does with single images.
_SLICE_DISTANCE = 10


@dataclass(frozen=True)
class ImageFormat:
    """Describe the images that a model reads.

    Attributes:
        file_ending: Such as .nii.gz.
        reads_volumes: Whether frames can be the slices of a volume.
        reads_slices: Whether a frame can be a 2-D image.
        depth_mm: Nominal image depth of images without a spacing, from the top to the bottom row.
    """

    file_ending: str
    reads_volumes: bool
    reads_slices: bool
    depth_mm: float

    def write(self, path: Path, frames: NDArray[Any], spacing_mm: tuple[float, float]) -> None:
        """Write one file.

        Args:
            path: The file; its ending decides the format.
            frames: Array of shape (t, rows, cols) for a volume, or (rows, cols).
            spacing_mm: Height and width of a pixel.

        Raises:
            ConversionError: If the format cannot hold the gray values.
            DatasetError: If the disk is full or not writable.
        """
        pixels = to_smallest_dtype(frames)
        if pixels.dtype != np.uint8 and self.file_ending in _HOLD_BYTES:
            raise ConversionError(
                f"holds gray values below 0, above 255 or with fractions, which {self.file_ending} files, as the model "
                "reads them, cannot hold"
            )
        if pixels.ndim == 2 and not self.reads_slices:
            pixels = pixels[None]
        spacing = spacing_mm if pixels.ndim == 2 else (_SLICE_DISTANCE * max(spacing_mm), *spacing_mm)
        if self.file_ending == ".nii.gz":
            write_image(path, pixels, spacing)
            return
        image = simpleitk().GetImageFromArray(pixels)
        image.SetSpacing(spacing[::-1])
        write_itk(image, path)


def is_whole(path: Path) -> bool:
    """Check whether a file that an interrupted run has written can be read to its end.

    Args:
        path: The file.

    Returns:
        Whether it can.
    """
    try:
        read_array(path)
    except OSError:
        return False
    return True


def read_format(model: Path) -> ImageFormat:
    """Read from a trained model which images it wants.

    Args:
        model: Folder of the model, .../TRAINER__PLANS__CONFIGURATION.

    Returns:
        The format.

    Raises:
        DatasetError: It is no folder of a model, or a model of volumes, of several channels, of slices across another
            axis than the frames of a clip, or of images that are turned when nnU-Net reads them.
    """
    if not model.is_dir():
        raise DatasetError(
            f"-m: {model} is no folder; expected that of a trained model, TRAINER__PLANS__CONFIGURATION."
        )
    dataset, plans = (read_json(model / name, DatasetError) for name in ("dataset.json", "plans.json"))
    configuration = model.resolve().name.rpartition("__")[2]
    try:
        settings = configuration_settings(plans["configurations"], configuration)
        axes, transposed = len(settings["patch_size"]), list(plans.get("transpose_forward", [0, 1, 2]))
        reader, ending = str(plans["image_reader_writer"]), str(dataset["file_ending"])
        channels = list(channel_names(dataset).values())
    except (KeyError, TypeError, AttributeError) as problem:
        raise DatasetError(
            f"-m: {model} has no usable configuration {configuration!r} ({problem}); expected the folder of a trained "
            "model under its own name, TRAINER__PLANS__CONFIGURATION."
        ) from None
    if axes != 2:
        raise DatasetError(f"-m: {configuration} segments in {axes}-D, where time is no axis; expected a model of 2d.")
    if len(channels) != 1:
        raise DatasetError(f"-m: the model has the channels {', '.join(channels)}; a clip has one, the gray values.")
    if transposed != [0, 1, 2]:
        raise DatasetError(
            f"-m: the model was trained on slices across another axis than the third (transpose_forward {transposed}); "
            "expected a model of 2-D images."
        )
    if reader not in _READS_VOLUMES:
        raise DatasetError(
            f"-m: the model reads its images by {reader}, which turns them or takes other files; expected one of "
            f"{', '.join(_READS_VOLUMES)}."
        )
    depth_mm = dataset.get(DEPTH_KEY, DEPTH_MM)
    if isinstance(depth_mm, bool) or not isinstance(depth_mm, (int, float)) or not 0 < depth_mm < math.inf:
        raise DatasetError(f"-m: {model / 'dataset.json'} has {DEPTH_KEY} {depth_mm!r}; expected a number above 0.")
    return ImageFormat(ending, _READS_VOLUMES[reader], reader in _READS_SLICES, float(depth_mm))
