"""Write the frames of clips, segment them with a model that is loaded once, and measure them.

The same as the commands `frames`, `nnUNetv2_predict_from_modelfolder` and `measure`, one after the other.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_partial.clips.frames import FramesResult, Options, plan_frames, write_frames
from nnunet_partial.clips.images import is_whole, read_format
from nnunet_partial.clips.measure import Measured, measured_classes
from nnunet_partial.clips.results import measure_folder
from nnunet_partial.dataset.images import read_array, simpleitk, write_itk
from nnunet_partial.dataset.raw import list_images
from nnunet_partial.dataset_conversion.base import Skipped
from nnunet_partial.dataset_conversion.staging import staged_folder
from nnunet_partial.errors import DatasetError
from nnunet_partial.inference.model import SegmentationModel, load_model
from nnunet_partial.utils.files import file_hash, read_json, read_json_lines
from nnunet_partial.utils.parallel import progress_bar

#: Folders in the results: what each of the three commands writes.
FRAMES, PREDICTIONS, MEASURED = "frames", "predictions", "measured"
_LOG_NAME = ".predicted.jsonl"


@dataclass(frozen=True)
class Prediction:
    """Say how the model predicts; see `load_model`.

    Attributes:
        folds: Whose predictions are averaged; None for all that were trained.
        checkpoint: File name of the checkpoint.
        device: "cuda", "cpu" or "mps"; None: a GPU with CUDA if there is one, else the CPU.
    """

    folds: tuple[str, ...] | None = None
    checkpoint: str = "checkpoint_final.pth"
    device: str | None = None


@dataclass(frozen=True)
class Analysis:
    """Hold what was done.

    Attributes:
        frames: What was read.
        measured: What was measured.
        folds: Folds of the model that predicted.
        device: What it predicted on.
    """

    frames: FramesResult
    measured: Measured
    folds: tuple[int | str, ...]
    device: str


def analyze(
    source: Path,
    folder: Path,
    model: Path,
    options: Options,
    prediction: Prediction,
    *,
    overlays: bool = True,
    processes: int = 1,
    progress: bool = False,
    log: Callable[[Skipped], None] | None = None,
) -> Analysis:
    """Read, segment and measure clips; as a whole or not at all.

    If interrupted, the same call goes on where it stopped.

    Args:
        source: Folder with clips, or one clip.
        folder: Folder to write, with the subfolders frames, predictions and measured; must not exist, or be empty.
        model: Folder of the trained model.
        options: How clips are read.
        prediction: How the model predicts.
        overlays: Whether to draw a video of each clip.
        processes: Number of processes that read and measure.
        progress: Show progress bars.
        log: Called at once with each clip that cannot be read.

    Returns:
        What was done.

    Raises:
        PartialLabelError: As the three commands; of a model whose segmentations cannot be measured before it predicts.
    """
    plan = plan_frames(source, folder, model, options)
    measured_classes(model, read_json(model / "dataset.json", DatasetError))
    loaded = load_model(model, prediction.folds, prediction.checkpoint, prediction.device)
    decides = {"read": plan.made_with, "predict": [prediction.checkpoint, *map(str, loaded.folds), *_state(model)]}
    with staged_folder(folder, decides) as staging:
        for name in (FRAMES, MEASURED):  # made again: quick beside the prediction
            shutil.rmtree(staging / name, ignore_errors=True)
        frames = write_frames(plan, staging / FRAMES, processes=processes, progress=progress, log=log)
        predict_folder(loaded, model, staging / FRAMES, staging / PREDICTIONS, progress)
        measured = measure_folder(
            staging / FRAMES, staging / PREDICTIONS, staging / MEASURED, overlays, processes, progress
        )
        (staging / PREDICTIONS / _LOG_NAME).unlink()
    return Analysis(replace(frames, folder=folder / FRAMES), measured, loaded.folds, str(loaded.predictor.device))


def _state(model: Path) -> list[str]:
    """Return what changes when the model does: size and time of its weights, plans and classes."""
    files = [model / "dataset.json", model / "plans.json", *sorted(model.glob("fold_*/*.pth"))]
    return [f"{file.relative_to(model)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def predict_folder(model: SegmentationModel, folder: Path, images: Path, predictions: Path, progress: bool) -> None:
    """Segment a folder of images, with the files that `nnUNetv2_predict_from_modelfolder` would write.

    What an earlier run has predicted of the same images is kept; the log that tells stays in the folder.

    Args:
        model: The loaded model.
        folder: Its folder.
        images: Images of one channel.
        predictions: Folder for the segmentations.
        progress: Show a progress bar.

    Raises:
        DatasetError: An image cannot be read.
    """
    ending = read_format(folder).file_ending
    predictions.mkdir(exist_ok=True)
    for name in ("dataset.json", "plans.json"):
        shutil.copyfile(folder / name, predictions / name)
    log_file = predictions / _LOG_NAME
    cases = {case: files[0] for case, files in list_images(images, ending).items()}
    digests = {case: file_hash(file) for case, file in cases.items()}
    done = {
        case
        for case, digest in _predicted(log_file).items()
        if digests.get(case) == digest and is_whole(predictions / f"{case}{ending}")
    }
    with log_file.open("a", encoding="utf-8") as log:
        log.write("\n")  # ends a line that a killed run may have left unfinished
        todo = [case for case in cases if case not in done]
        for case in progress_bar(todo, len(todo), "predicting" if progress else None, "image"):
            target = predictions / f"{case}{ending}"
            temporary = predictions / f".tmp_{case}{ending}"
            try:
                _predict_file(model, cases[case], temporary)
            except OSError as problem:
                raise DatasetError(f"{cases[case]} cannot be read: {problem}") from problem
            temporary.replace(target)
            log.write(json.dumps([case, digests[case]]) + "\n")
            log.flush()
    wanted = {f"{case}{ending}" for case in cases} | {"dataset.json", "plans.json", _LOG_NAME}
    for path in predictions.iterdir():
        if path.name not in wanted:
            path.unlink()


def _predicted(log_file: Path) -> dict[str, str]:
    """Return the hash of the image that each case was last predicted of."""
    digests: dict[str, str] = {}
    for line in read_json_lines(log_file):
        with contextlib.suppress(ValueError, TypeError):
            case, digest = line
            digests[case] = digest
    return digests


def _predict_file(model: SegmentationModel, image: Path, target: Path) -> None:
    """Segment an image file; the segmentation has its geometry. Raises OSError where it cannot be read."""
    geometry, pixels = read_array(image)
    labels = simpleitk().GetImageFromArray(model.predict(pixels[None], geometry.spacing_mm[::-1]))
    labels.SetSpacing(geometry.spacing_mm)
    labels.SetOrigin(geometry.origin_mm)
    labels.SetDirection(geometry.direction)
    write_itk(labels, target, compressed=True)


def three_commands(
    source: Path,
    folder: Path,
    model: Path,
    frames_options: Sequence[str],
    analysis: Analysis,
    prediction: Prediction,
    measure_options: Sequence[str] = (),
) -> list[str]:
    """Write the commands that do the same.

    Args:
        source: The clips.
        folder: The results.
        model: Folder of the model.
        frames_options: Further options of `frames`, as they were typed.
        analysis: What was done.
        prediction: How the model predicted.
        measure_options: Further options of `measure`.

    Returns:
        Three lines for a shell.
    """
    frames, predictions, measured = (str(folder / name) for name in (FRAMES, PREDICTIONS, MEASURED))
    how = ["-f", *map(str, analysis.folds), "-chk", prediction.checkpoint, "-device", analysis.device.partition(":")[0]]
    return [
        shlex.join(["nnunet_partial", "frames", "-i", str(source), "-o", frames, "-m", str(model), *frames_options]),
        shlex.join(["nnUNetv2_predict_from_modelfolder", "-i", frames, "-o", predictions, "-m", str(model), *how]),
        shlex.join(
            ["nnunet_partial", "measure", "-i", frames, "--pred", predictions, "-o", measured, *measure_options]
        ),
    ]
