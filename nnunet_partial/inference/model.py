"""Load a trained model once, and predict arrays with nnU-Net's own predictor.

    from nnunet_partial import load_model

    model = load_model("model.zip")
    labels = model.predict(image, spacing_mm=(0.3, 0.3))

PyTorch and nnU-Net are imported when a model is loaded, not before.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.checkpoints import load_checkpoint
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.trainers import trainers_can_be_found

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

#: The only files that are taken out of a zip, each under this very name: none can lead out of the folder.
_MEMBER = re.compile(r"(?P<model>.*/)?(?P<file>plans\.json|dataset\.json|fold_(?:[0-9]+|all)/\w[\w.-]*\.pth)")
#: What nnU-Net's readers give a single slice as its distance to the next, in multiples of its larger pixel spacing.
_SLICE_DISTANCE = 999


@dataclass(frozen=True)
class SegmentationModel:
    """Segment images; made by `load_model`.

    An image is an array (C, Y, X) or, for volumes, (C, Z, Y, X): channels first, also where there is one, then the axes
    as SimpleITK's `GetArrayFromImage` gives them. The spacing has the order of these axes: (y, x) or (z, y, x) in mm,
    SimpleITK's `GetSpacing()[::-1]`. Gray values are those of the files that the model was trained on, not normalized.

    Attributes:
        predictor: nnU-Net's predictor, with the network and the weights of each fold.
        channel_names: Name of each channel, in their order in an image.
        labels: Value of each class, background among them; for regions the list of values that make each up.
        folds: The folds whose predictions are averaged.
    """

    predictor: Any
    channel_names: tuple[str, ...]
    labels: dict[str, Any]
    folds: tuple[int | str, ...]

    def predict(self, image: ArrayLike, spacing_mm: Sequence[float]) -> NDArray[np.integer[Any]]:
        """Segment an image, with the result of `nnUNetv2_predict`.

        Args:
            image: Gray values (C, Y, X) or (C, Z, Y, X).
            spacing_mm: Spacing along each axis of the image but the first, in mm.

        Returns:
            Label values, uint8 (uint16 from 255 classes on), (Y, X) or (Z, Y, X).

        Raises:
            PartialLabelError: Shape, channels, gray values or spacing do not fit the model.
        """
        return self._predict(image, spacing_mm, False)

    def predict_with_probabilities(
        self, image: ArrayLike, spacing_mm: Sequence[float]
    ) -> tuple[NDArray[np.integer[Any]], NDArray[np.float32]]:
        """Segment an image, with the result of `nnUNetv2_predict --save_probabilities`.

        Args:
            image: Gray values (C, Y, X) or (C, Z, Y, X).
            spacing_mm: Spacing along each axis of the image but the first, in mm.

        Returns:
            Label values (Y, X) or (Z, Y, X), and the probabilities of the classes, background first (of the regions
            where the model has regions), (K, Y, X) or (K, Z, Y, X). Those of an aBCE model are nnU-Net's softmax, in
            the right order but not the sigmoids of its loss; p / (p + p[0]) are.

        Raises:
            PartialLabelError: Shape, channels, gray values or spacing do not fit the model.
        """
        labels, probabilities = self._predict(image, spacing_mm, True)
        return labels, probabilities

    def _predict(self, image: ArrayLike, spacing_mm: Sequence[float], with_probabilities: bool) -> Any:
        volume, spacing, is_slice = self._as_volume(image, spacing_mm)
        properties = {"spacing": spacing}
        result = self.predictor.predict_single_npy_array(volume, properties, None, None, with_probabilities)
        if not is_slice:
            return result
        return (result[0][0], result[1][:, 0]) if with_probabilities else result[0]

    def _as_volume(
        self, image: ArrayLike, spacing_mm: Sequence[float]
    ) -> tuple[NDArray[np.float32], list[float], bool]:
        """Check an image; return it as (C, Z, Y, X) with three spacings, and whether it had no Z."""
        import numpy as np

        array, channels = np.asarray(image), len(self.channel_names)
        axes = array.ndim - 1
        if axes not in (2, 3) or array.shape[0] != channels or array.size == 0:
            names = ", ".join(self.channel_names)
            raise PartialLabelError(
                f"The image has the shape {array.shape}; expected ({channels}, Y, X) or ({channels}, Z, Y, X): the "
                f"channels ({names}) first, also a single one, as image[None]."
            )
        if axes < len(self.predictor.configuration_manager.patch_size):
            raise PartialLabelError(f"The image has the shape {array.shape}; expected (C, Z, Y, X): the model is 3-D.")
        if array.dtype.kind not in "iuf":
            raise PartialLabelError(f"The image holds {array.dtype}; expected integers or floats.")
        spacing = [float(step) for step in spacing_mm]
        if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
            raise PartialLabelError(f"spacing_mm is {spacing}; expected {axes} numbers above 0, in the order of axes.")
        volume = array.astype(np.float32)
        if not np.isfinite(volume).all():
            raise PartialLabelError("The image holds NaN or infinite values; nnU-Net would segment nothing in it.")
        if axes == 3:
            return volume, spacing, False
        return volume[:, None], [_SLICE_DISTANCE * max(spacing), *spacing], True


def load_model(
    path: str | os.PathLike[str],
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str | None = None,
) -> SegmentationModel:
    """Load a trained model, of this package or of nnU-Net itself.

    A zip is unpacked into a temporary folder, which is gone when the function returns. A checkpoint that holds anything
    but weights and plain values is refused before nnU-Net, which would run code in it, reads it.

    Args:
        path: A zip with one trained model, as `nnUNetv2_export_model_to_zip` writes it, or the folder of a model,
            `.../TRAINER__PLANS__CONFIGURATION`.
        folds: Numbers of folds, or "all", whose predictions are averaged; None: every numbered fold that is there,
            else fold "all".
        checkpoint: File name of the checkpoint in each fold.
        device: "cuda", "cuda:1", "mps" or "cpu"; None: a GPU with CUDA if there is one, else the CPU.

    Returns:
        The model.

    Raises:
        PartialLabelError: There is no such model, fold, checkpoint or device, the model is not whole, its trainer is
            not installed, or it is the second stage of a cascade.
    """
    import tempfile

    source = Path(path)
    if source.is_dir():
        return _load_folder(source, source, folds, checkpoint, device)
    if not source.is_file():
        raise PartialLabelError(f"{source} does not exist; expected the zip or the folder of a trained model.")
    with tempfile.TemporaryDirectory(prefix="nnunet_partial_") as temporary:
        _unpack(source, Path(temporary))
        return _load_folder(Path(temporary), source, folds, checkpoint, device)


def _unpack(source: Path, folder: Path) -> None:
    """Take plans.json, dataset.json and the checkpoints of the only model out of a zip."""
    import zipfile

    try:
        with zipfile.ZipFile(source) as archive:
            models: dict[str, dict[str, zipfile.ZipInfo]] = {}
            for info in archive.infolist():
                match = _MEMBER.fullmatch(info.filename)
                if match:
                    models.setdefault(match["model"] or "", {})[match["file"]] = info
            # nnU-Net writes plans.json and dataset.json beside ensembles, too
            models = {name: files for name, files in models.items() if any(file.endswith(".pth") for file in files)}
            if len(models) != 1:
                found = ", ".join(sorted(models)) or "none"
                raise PartialLabelError(
                    f"{source} holds {len(models)} trained models ({found}); expected one. Unpack it, and give the "
                    "folder of the model."
                )
            for file, info in next(iter(models.values())).items():
                target = folder / file
                target.parent.mkdir(exist_ok=True)
                with archive.open(info) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as problem:  # RuntimeError: encrypted
        raise PartialLabelError(f"{source} cannot be unpacked: {problem}") from problem


def _load_folder(
    folder: Path, source: Path, folds: Sequence[int | str] | None, checkpoint: str, device: str | None
) -> SegmentationModel:
    """Load the model in a folder; messages speak of `source`."""
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise PartialLabelError(
                f"{source} has no {name}; expected the folder of a trained model, .../TRAINER__PLANS__CONFIGURATION."
            )
    chosen = _choose_folds(folder, source, folds, checkpoint)
    # nnU-Net reads them next, and would run what they say
    contents = [load_checkpoint(folder / f"fold_{fold}" / checkpoint, source) for fold in chosen]
    previous = _previous_stage(folder, source, contents[0]["init_args"]["configuration"])
    del contents  # mapped files
    if previous is not None:
        raise PartialLabelError(
            f"{source} is the second stage of a cascade, which needs the segmentation of {previous}. Predict with "
            "nnUNetv2_predict -prev_stage_predictions."
        )
    predictor = load_predictor(folder, source, chosen, checkpoint, device)
    content = read_json(folder / "dataset.json")
    names = content.get("channel_names", content.get("modality"))
    channels = tuple(str(names[key]) for key in sorted(names, key=int))
    return SegmentationModel(predictor, channels, content["labels"], chosen)


def _choose_folds(
    folder: Path, source: Path, folds: Sequence[int | str] | None, checkpoint: str
) -> tuple[int | str, ...]:
    present = [path.parent.name.removeprefix("fold_") for path in folder.glob("fold_*/*") if path.name == checkpoint]
    numbers = sorted(int(name) for name in present if name.isdecimal())
    if folds is None:
        chosen: list[int | str] = [*numbers] or [name for name in present if name == "all"]
    else:
        given = [folds] if isinstance(folds, str) else folds
        chosen = list(dict.fromkeys(int(fold) if str(fold).isdecimal() else fold for fold in given))
    missing = [fold for fold in chosen if str(fold) not in present]
    if missing or not chosen:
        others = sorted({path.name for path in folder.glob("fold_*/*.pth")} - {checkpoint})
        raise PartialLabelError(
            f"{source} has {checkpoint} in fold {', '.join(sorted(present)) or 'none'}; asked for: "
            f"{', '.join(map(str, chosen)) or 'every fold'}. Other checkpoints: {', '.join(others) or 'none'}."
        )
    return tuple(chosen)


def _previous_stage(folder: Path, source: Path, configuration: str) -> str | None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        name: str | None = (
            PlansManager(read_json(folder / "plans.json")).get_configuration(configuration).previous_stage_name
        )
    except (RuntimeError, LookupError, TypeError) as problem:
        raise PartialLabelError(f"{source}: plans.json has no usable configuration {configuration}.") from problem
    return name


def load_predictor(folder: Path, source: Path, folds: Sequence[int | str], checkpoint: str, device: str | None) -> Any:
    """Make nnU-Net's predictor and load network and weights.

    Args:
        folder: Of the model.
        source: What messages speak of, such as the zip that the model lay in.
        folds: That have the checkpoint.
        checkpoint: Its file name.
        device: As of `load_model`.

    Returns:
        The predictor.

    Raises:
        PartialLabelError: The device is not there, the trainer is not found, or the model is broken.
    """
    chosen = _choose_device(device)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    try:
        with trainers_can_be_found(), contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints its search
            predictor = nnUNetPredictor(device=chosen, allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(folder), tuple(folds), checkpoint)
    except PartialLabelError:
        raise
    except (RuntimeError, KeyError, TypeError, ValueError, AssertionError, ModuleNotFoundError) as problem:
        raise PartialLabelError(f"{source} cannot be loaded: {type(problem).__name__}: {problem}") from problem
    return predictor


def _choose_device(name: str | None) -> Any:
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.partition(":")[0]
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not available.get(kind):
        usable = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise PartialLabelError(f"The device {name!r} is not available here; expected one of {usable}.")
    return torch.device(name)
