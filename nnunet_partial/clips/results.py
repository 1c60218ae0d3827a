"""Measure the predictions of a folder of clips and write tables, figures and a page, all of them or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nnunet_partial.clips.measure import (
    OVERLAYS,
    STILLS,
    FailedClip,
    Measured,
    MeasuredClip,
    biplane_pairs,
    measure_clip,
    plan,
)
from nnunet_partial.clips.page import PAGE_NAME, write_page
from nnunet_partial.clips.records import CLIPS_NAME
from nnunet_partial.clips.tables import TABLE_NAMES, write_clip_tables
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.files import files_of_users, sync_to_disk, write_text
from nnunet_partial.utils.locks import exclusive_lock
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names

#: From this number of clips on, they are measured in several processes.
MIN_CLIPS_FOR_POOL = 4
FINGERPRINT_NAME = ".measured"
#: All that is written into a results folder.
WRITTEN = (*TABLE_NAMES, PAGE_NAME, OVERLAYS, STILLS, FINGERPRINT_NAME)


def measure_folder(
    images: Path, predictions: Path, output: Path, overlays: bool = True, processes: int = 1, progress: bool = False
) -> Measured:
    """Measure all clips of a folder and write tables, figures and a page.

    Args:
        images: The folder that `frames` wrote, with clips.json.
        predictions: The folder that nnU-Net predicted into, with its dataset.json.
        output: The new folder; it may also be empty or hold the results of an earlier run for the same clips.
        overlays: Whether to draw a video of each clip.
        processes: How many clips are measured at once.
        progress: Whether to show a progress bar.

    Returns:
        What was measured. A clip without a usable prediction is named in it, and the others are measured.

    Raises:
        DatasetError: clips.json or dataset.json is missing or broken, the model has no class LV, no clip could be
            measured, or `output` holds other files.
    """
    tasks = plan(images, predictions, output, overlays)
    with _staged(output, _fingerprint(images, predictions)) as staging:
        tasks = [replace(task, output=staging) for task in tasks]
        results = list(
            parallel_map(measure_clip, tasks, processes, "measuring" if progress else None, MIN_CLIPS_FOR_POOL)
        )
        clips = [result for result in results if isinstance(result, MeasuredClip)]
        failed = [result for result in results if isinstance(result, FailedClip)]
        if not clips:
            raise DatasetError(
                f"None of the {len(failed)} clip(s) of {images} could be measured. "
                f"The first: {failed[0].name}: {failed[0].problem}."
            )
        measured = Measured(clips, failed, biplane_pairs(clips))
        write_clip_tables(staging, measured)
        write_page(staging, measured)
    return measured


def _fingerprint(images: Path, predictions: Path) -> str:
    """Identify what results are of: clips, and the folder of the predictions; neither can be read from it."""
    content = (images / CLIPS_NAME).read_bytes() + os.fsencode(predictions.resolve())
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _staged(output: Path, fingerprint: str) -> Iterator[Path]:
    """Give a hidden folder beside `output`, which becomes `output` if the block ends without an error.

    Raises:
        DatasetError: `output` holds anything but results with this fingerprint, or another process writes them.
    """
    output = output.resolve()
    _refuse_other_files(output, fingerprint)
    staging, old = (output.with_name(f".{state}_{output.name}") for state in ("building", "replaced"))
    with exclusive_lock(output.with_name(f".{output.name}.lock")) as is_held:
        if not is_held:
            raise DatasetError(f"Another process is writing {output} right now. Wait for it, or stop it.")
        _clear(output, staging, old)
        for folder in (staging / STILLS, staging / OVERLAYS):
            folder.mkdir(parents=True)
        try:
            yield staging
            with contextlib.suppress(OSError):
                (staging / OVERLAYS).rmdir()  # without videos
            write_text(staging / FINGERPRINT_NAME, fingerprint + "\n")
            sync_to_disk(staging)
            if output.exists():
                output.rename(old)
            staging.rename(output)
        finally:
            _clear(output, staging, old)


def _clear(output: Path, staging: Path, old: Path) -> None:
    """Remove what a run left; earlier results come back where the new ones did not take their place."""
    if old.exists() and not output.exists():
        old.rename(output)
    for leftover in (staging, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _refuse_other_files(output: Path, fingerprint: str) -> None:
    if not output.is_dir() or not files_of_users(output):
        return
    stamp = output / FINGERPRINT_NAME
    if not stamp.is_file():
        raise DatasetError(f"{output} is not empty. Give a new folder with -o.")
    others = [
        path.name for path in files_of_users(output) if path.name not in WRITTEN and not path.name.startswith(".")
    ]
    if others:
        raise DatasetError(
            f"{output} holds, beside the results of an earlier run, what would be lost: {format_names(others)}. Move "
            "it, or give a new folder with -o."
        )
    if stamp.read_text(encoding="utf-8", errors="replace").strip() != fingerprint:
        raise DatasetError(
            f"{output} holds the results of other clips or other predictions. Give a new folder with -o, or remove it."
        )
