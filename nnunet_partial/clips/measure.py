"""Measure the predictions of clips: volumes and areas per frame, beats and ejection fraction per clip and patient.

Reads the folder that `frames` wrote and the predictions that nnU-Net made of it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.biomarkers.definitions import VIEW_ORDER, disc_volume
from nnunet_partial.biomarkers.geometry import Discs
from nnunet_partial.biomarkers.measure import (
    ATRIUM,
    CAVITY,
    CUT_OFF,
    FRAME_MEASUREMENTS,
    LV,
    STRUCTURES,
    measure_parts,
)
from nnunet_partial.clips import video
from nnunet_partial.clips.beats import BiplaneBeat, ClipBeats, biplane_ef, find_beats, frame_flags
from nnunet_partial.clips.records import CLIPS_NAME, NOMINAL_DEPTH, Clip, normal_view, read_clips_json
from nnunet_partial.clips.video import Curve
from nnunet_partial.dataset.images import header, read_array
from nnunet_partial.dataset.raw import list_images
from nnunet_partial.dataset_json import class_names
from nnunet_partial.errors import DatasetError
from nnunet_partial.report.html import Figure
from nnunet_partial.utils.colors import class_colors
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.masks import Floats, Scale
from nnunet_partial.utils.text import format_names

OVERLAYS, STILLS = "overlays", "stills"


@dataclass(frozen=True)
class ClipTask:
    """Describe the measurement of one clip.

    Attributes:
        name: Of the clip.
        clip: Its entry of clips.json.
        images: File of each of its cases; None where it is missing.
        predictions: File of each of its cases, in the same order.
        classes: Of the model, in the order of their values.
        output: Receives the figures.
        overlays: Whether a video is drawn.
    """

    name: str
    clip: Clip
    images: tuple[Path | None, ...]
    predictions: tuple[Path, ...]
    classes: tuple[str, ...]
    output: Path
    overlays: bool


@dataclass(frozen=True)
class FrameMeasurements:
    """Hold what was measured in the T frames of a clip; NaN where there is no value.

    Volumes are in mL and areas in cm2; where the spacing is not known, a pixel counts as 1 x 1 mm.

    Attributes:
        lv_volume: (T,), by discs.
        lv_length: (T,), in mm.
        la_volume: (T,), by discs.
        pixels: Number of pixels (T,) by structure; only of those that the model has.
        pixel_area: Area of a pixel.
        discs: Of the ventricle, by frame; None where it could not be measured.
        problems: Why a frame lacks a value, or what to know about one, such as that the ventricle is in two parts;
            empty where there is nothing to say.
        at_border: Whether the ventricle touches the border (T,).
    """

    lv_volume: Floats
    lv_length: Floats
    la_volume: Floats
    pixels: Mapping[str, NDArray[np.int64]]
    pixel_area: float
    discs: tuple[Discs | None, ...]
    problems: tuple[str, ...]
    at_border: NDArray[np.bool_]

    def area(self, name: str) -> Floats:
        """Return the areas of a structure.

        Args:
            name: Of the structure.

        Returns:
            (T,); NaN where it is not found, and everywhere where the model does not have it.
        """
        pixels = self.pixels.get(name)
        if pixels is None:
            return np.full(len(self.lv_volume), math.nan)
        return np.where(pixels > 0, pixels * self.pixel_area, math.nan)


@dataclass(frozen=True)
class MeasuredClip:
    """Hold what was measured in a clip.

    Attributes:
        name: Of the clip.
        clip: Its entry of clips.json.
        frames: Measurements of its frames.
        beats: Its heart beats.
        flags: What makes its numbers doubtful, in words; a clip with one is left out of means.
        thumbnail: End-diastole with contours; None where the image could not be read.
        overlay: Name of the video below the results; None without one.
        problems: What could not be done, a sentence each.
    """

    name: str
    clip: Clip
    frames: FrameMeasurements
    beats: ClipBeats
    flags: tuple[str, ...]
    thumbnail: Figure | None = None
    overlay: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def sized(self) -> bool:
        """Return whether the size of a pixel is known, so that volumes and areas have units."""
        return self.clip.spacing_mm is not None

    @property
    def guessed(self) -> bool:
        """Return whether the size of a pixel is that of a nominal depth, so that volumes are no measurements."""
        return self.clip.spacing_from == NOMINAL_DEPTH

    @property
    def view(self) -> str:
        """Return the view: "2CH" or "4CH" in any spelling, else as given; empty where it is not known."""
        return normal_view(self.clip.view)

    @property
    def edv_ml(self) -> float:
        """Return the median end-diastolic volume; NaN without beats or spacing."""
        return _number(self.beats.median_edv_ml) if self.sized else math.nan

    @property
    def esv_ml(self) -> float:
        """Return the median end-systolic volume; NaN without beats or spacing."""
        return _number(self.beats.median_esv_ml) if self.sized else math.nan

    @property
    def ef_percent(self) -> float:
        """Return the median ejection fraction; NaN without beats."""
        return _number(self.beats.median_ef_percent)

    @property
    def ef_spread_percent(self) -> float:
        """Return the standard deviation of the ejection fractions of the beats; NaN for fewer than two."""
        return _number(self.beats.ef_spread_percent)

    @property
    def rate_bpm(self) -> float:
        """Return the heart rate; NaN where it is not known."""
        return _number(self.beats.rate_bpm)

    @property
    def largest_volume(self) -> float:
        """Return the largest smoothed volume; NaN where there is none above 0."""
        volumes = self.beats.smoothed_ml
        return float(np.max(volumes, initial=0.0, where=np.isfinite(volumes))) or math.nan

    @property
    def curve(self) -> Curve:
        """Return the volume of the ventricle for figures: in mL, or where the spacing is not known of the largest."""
        times = self.clip.frame_times_s
        unit = 1.0 if self.sized else self.largest_volume
        in_ml = "mL, guessed" if self.guessed else "mL"
        return Curve(
            np.arange(self.clip.frames, dtype=float) if times is None else np.asarray(times, dtype=float),
            self.beats.smoothed_ml / unit,
            self.frames.lv_volume / unit,
            tuple(beat.ed for beat in self.beats.beats),
            tuple(beat.es for beat in self.beats.beats),
            "frame" if times is None else "s",
            in_ml if self.sized else "relative",
            f"EF {self.ef_percent:.0f} %" if self.beats.beats else "no beat",
        )


@dataclass(frozen=True)
class FailedClip:
    """Name a clip that could not be measured, and why."""

    name: str
    clip: Clip
    problem: str


@dataclass(frozen=True)
class Biplane:
    """Hold the biplane volumes of an examination, from the reference beats of one clip in each view.

    Attributes:
        patient: Key of the patient; None where it is not known.
        exam: Key of the examination.
        two_chamber: Name of the clip.
        four_chamber: Name of the clip.
        spacing_from: Where the size of a pixel is from, of both clips where they differ.
        beat: Volumes and ejection fraction.
        flags: Those of both clips, and of the pair.
    """

    patient: str | None
    exam: str
    two_chamber: str
    four_chamber: str
    spacing_from: str
    beat: BiplaneBeat
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """Hold the results of a folder: its clips, those that failed, and the biplane pairs."""

    clips: Sequence[MeasuredClip]
    failed: Sequence[FailedClip]
    biplane: Sequence[Biplane]

    @property
    def problems(self) -> list[str]:
        """List what could not be done, a sentence each."""
        return [f"{clip.name}: {clip.problem}" for clip in self.failed] + [
            f"{clip.name}: {problem}" for clip in self.clips for problem in clip.problems
        ]

    @property
    def notes(self) -> list[str]:
        """List what was left out though nothing failed, a sentence each."""
        views: dict[str, set[str]] = {}
        for clip in self.clips:
            if clip.clip.patient is not None and clip.clip.exam is None and _has_biplane_view(clip):
                views.setdefault(clip.clip.patient, set()).add(clip.view)
        patients = [patient for patient, found in views.items() if len(found) == len(VIEW_ORDER)]
        if not patients:
            return []
        return [f"no biplane volumes of both views of {format_names(patients)}: their examination is not known"]


def plan(images: Path, predictions: Path, output: Path, overlays: bool) -> list[ClipTask]:
    """Find the files of all clips.

    Args:
        images: The folder with clips.json.
        predictions: The folder with dataset.json.
        output: Receives the figures.
        overlays: Whether videos are drawn.

    Returns:
        A task per clip, in the order of names.

    Raises:
        DatasetError: clips.json or dataset.json is missing or broken, there is no clip, or the model has no class LV.
    """
    clips = read_clips_json(images)
    if not clips:
        raise DatasetError(f"{images / CLIPS_NAME} lists no clip.")
    description = predictions / "dataset.json"
    if not description.is_file():
        raise DatasetError(
            f"{predictions} has no dataset.json; expected a folder that nnUNetv2_predict_from_modelfolder or "
            "nnUNetv2_predict wrote into."
        )
    content = read_json(description, DatasetError)
    ending = content.get("file_ending") if isinstance(content, dict) else None
    if not isinstance(ending, str):
        raise DatasetError(f"{description} has no 'file_ending'; expected that of a trained model.")
    classes = measured_classes(predictions, content)
    files = list_images(images, ending)
    return [
        ClipTask(
            name,
            clip,
            tuple(files[case][0] if case in files else None for case in clip.cases),
            tuple(predictions / f"{case}{ending}" for case in clip.cases),
            classes,
            output,
            overlays,
        )
        for name, clip in clips.items()
    ]


def measured_classes(where: Path, dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the classes of a model, which must have the left ventricle.

    Args:
        where: What messages speak of.
        dataset_json: Content of the model's dataset.json.

    Returns:
        The classes in the order of their values.

    Raises:
        DatasetError: There is no class LV, or the model has regions.
    """
    try:
        classes = class_names(dataset_json)
    except DatasetError as problem:
        raise DatasetError(f"{where}: {problem}") from None
    if LV not in classes:
        raise DatasetError(
            f"{where}: the model has the classes {format_names(classes)}, but no LV. Beats and ejection fraction "
            "are measured in the left ventricle; predict with a model that has a class of that name."
        )
    return classes


def measure_clip(task: ClipTask) -> MeasuredClip | FailedClip:
    """Measure a clip and draw it. Problems with its files are returned, not raised.

    Args:
        task: The clip.

    Returns:
        What was measured, or why nothing could be.
    """
    try:
        labels = read_clip_labels(task)
    except OSError as problem:
        return FailedClip(task.name, task.clip, str(problem))
    frames = measure_frames(labels, task.classes, task.clip.spacing_mm)
    beats = find_beats(frames.lv_volume, task.clip.frame_times_s)
    of_frames = frame_flags(frames.pixels[LV], frames.at_border, frames.lv_volume)
    flags = (*task.clip.flags, *_view_flags(normal_view(task.clip.view)), *of_frames, *beats.flags)
    return _drawn(task, labels, MeasuredClip(task.name, task.clip, frames, beats, flags))


def _view_flags(view: str) -> list[str]:
    """Flag a known view in which the ventricle is no stack of discs."""
    if not view or view in VIEW_ORDER:
        return []
    return [f"volumes by discs hold for {' and '.join(VIEW_ORDER)}, not for {view}"]


def read_clip_labels(task: ClipTask) -> NDArray[np.uint8]:
    """Read the predictions of a clip.

    Args:
        task: The clip.

    Returns:
        Label values (T, rows, cols).

    Raises:
        OSError: A prediction is missing or broken, has another shape or place than its image, or values that are no
            class of the model; worded for the user.
    """
    parts = [
        _read_part(case, image, prediction, len(task.classes))
        for case, image, prediction in zip(task.clip.cases, task.images, task.predictions, strict=True)
    ]
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise OSError(f"its predictions differ in size: {' and '.join(sorted(map(_by, shapes)))} pixels")
    count = sum(map(len, parts))
    if count != task.clip.frames:
        raise OSError(f"its predictions have {count} frames; expected {task.clip.frames}, as {CLIPS_NAME} says")
    return np.concatenate(parts)


def _read_part(case: str, image: Path | None, prediction: Path, classes: int) -> NDArray[np.uint8]:
    """Return the label values (frames, rows, cols) of a case.

    Raises:
        OSError: As `read_clip_labels`.
    """
    if not prediction.is_file():
        raise OSError(f"the prediction {prediction.name} is missing")
    try:
        geometry, values = read_array(prediction)
        if geometry.several_values:
            raise OSError(geometry.several_values)
        if image is not None:
            expected = header(image)
            differences = geometry.with_axes_of(expected).differences(expected.with_axes_of(geometry))
            if differences:
                raise OSError(f"does not lie on its image: {'; '.join(differences)} (the image)")
    except OSError as problem:
        raise OSError(f"the prediction {prediction.name}: {problem}") from None
    if values.ndim not in (2, 3):
        raise OSError(f"the prediction {prediction.name} has {values.ndim} axes; expected 2 or 3")
    values = values.reshape(-1, *values.shape[-2:])
    largest = values.max(initial=0)
    if values.min(initial=0) < 0 or largest > classes or (values.dtype.kind == "f" and (values % 1).any()):
        raise OSError(f"the prediction {prediction.name} has the value {largest:g}; expected integers 0 to {classes}")
    return values.astype(np.uint8)


def measure_frames(
    labels: NDArray[np.uint8], classes: Sequence[str], spacing_mm: tuple[float, float] | None
) -> FrameMeasurements:
    """Measure every frame of a clip.

    Args:
        labels: Label values (T, rows, cols).
        classes: Of the model, in the order of their values.
        spacing_mm: Height and width of a pixel; None where it is not known.

    Returns:
        The measurements.
    """
    scale = Scale.from_spacing(spacing_mm or (1.0, 1.0))
    length = len(labels)
    lv_volume, lv_length, la_volume = (np.full(length, math.nan) for _ in range(3))
    at_border = np.zeros(length, bool)
    discs: list[Discs | None] = []
    problems = []
    for index, values in enumerate(labels):
        frame = measure_parts(values, classes, classes, FRAME_MEASUREMENTS, scale)
        cavity = frame.discs.get(CAVITY)
        discs.append(cavity)
        if cavity is not None:
            lv_volume[index] = disc_volume([cavity]) / 1000
            lv_length[index] = cavity.length
        if ATRIUM in frame.discs:
            la_volume[index] = disc_volume([frame.discs[ATRIUM]]) / 1000
        at_border[index] = CUT_OFF in frame.notes.get(LV, "")
        problems.append("; ".join(dict.fromkeys([*frame.why_not.values(), *frame.notes.values()])))
    counts = np.stack([np.bincount(frame.ravel(), minlength=len(classes) + 1) for frame in labels])
    pixels = {name: counts[:, classes.index(name) + 1] for name in STRUCTURES if name in classes}
    return FrameMeasurements(
        lv_volume, lv_length, la_volume, pixels, scale.voxel_size, tuple(discs), tuple(problems), at_border
    )


def biplane_pairs(clips: Sequence[MeasuredClip]) -> list[Biplane]:
    """Combine the two apical views of each examination. Clips of which it is not known are left out.

    Of several clips in a view the one with the fewest flags is taken, then that with the most beats, then the first by
    name. Where the spacing is not known, or guessed, the views have no common scale: such clips are left out.

    Args:
        clips: All measured clips.

    Returns:
        One entry per examination with a measured beat in both views, in the order of patients.
    """
    best: dict[tuple[str, str], dict[str, MeasuredClip]] = {}
    usable = filter(_has_biplane_view, clips)
    for clip in sorted(usable, key=lambda clip: (len(clip.flags), -len(clip.beats.beats), clip.name)):
        if clip.clip.exam is not None:
            best.setdefault((clip.clip.patient or "", clip.clip.exam), {}).setdefault(clip.view, clip)
    pairs = []
    for (patient, exam), views in sorted(best.items()):
        if len(views) == len(VIEW_ORDER):
            two, four = views["2CH"], views["4CH"]
            beat = biplane_ef(two.beats, two.frames.discs, four.beats, four.frames.discs)
            if beat is not None:
                flags = [f"{clip.view}: {flag}" for clip in (four, two) for flag in clip.flags]
                spacing_from = " and ".join(dict.fromkeys(str(clip.clip.spacing_from) for clip in (four, two)))
                names = two.name, four.name
                pairs.append(Biplane(patient or None, exam, *names, spacing_from, beat, (*flags, *beat.flags)))
    return pairs


def _has_biplane_view(clip: MeasuredClip) -> bool:
    return clip.sized and not clip.guessed and clip.view in VIEW_ORDER and bool(clip.beats.beats)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _drawn(task: ClipTask, labels: NDArray[np.uint8], measured: MeasuredClip) -> MeasuredClip:
    """Draw stills, thumbnail and, where asked for, the video; what could not be drawn is added as a problem."""
    beat = measured.beats.reference_beat
    stills = {"ED": beat.ed, "ES": beat.es} if beat else {}
    shown = beat.ed if beat else int(np.argmax(measured.frames.pixels[LV]))
    wanted = range(len(labels)) if task.overlays else sorted({*stills.values(), shown})
    try:
        images = dict(zip(wanted, _read_images(task, wanted, labels.shape), strict=True))
    except OSError as problem:
        return replace(measured, problems=(f"no figures: {problem}",))
    named = class_colors(task.classes)
    colors = {task.classes.index(name) + 1: video.rgb(color) for name, color in named.items()}
    spacing = task.clip.spacing_mm or (1.0, 1.0)
    for phase, frame in stills.items():
        size = video.video_size(labels.shape[1:], spacing)
        picture = video.draw_frame(images[frame], labels[frame], size, colors)
        (task.output / STILLS / f"{task.name}_{phase}.png").write_bytes(video.picture_bytes(picture, "png"))
    size = video.display_size(labels.shape[1:], spacing, video.THUMBNAIL_SIDE)
    content = video.picture_bytes(video.draw_frame(images[shown], labels[shown], size, colors), "jpg")
    source = "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
    alt = f"{task.name}, frame {shown}{' (end-diastole)' if beat else ''}, with contours"
    thumbnail = Figure(source, alt, "", size[1], size[0])
    overlay = None
    if task.overlays:
        stem = task.output / OVERLAYS / task.name
        frames = np.stack([images[frame] for frame in wanted])
        curve = replace(measured.curve, structures=named)
        overlay = f"{OVERLAYS}/{video.write_overlay(stem, frames, labels, curve, spacing, colors).name}"
    return replace(measured, thumbnail=thumbnail, overlay=overlay)


def _read_images(task: ClipTask, wanted: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read frames of a clip, of the first channel where the model has several.

    Returns:
        The wanted frames (n, rows, cols).

    Raises:
        OSError: An image is missing or broken, or not of `shape` (T, rows, cols).
    """
    by_file = task.clip.layout == "frames"
    frames = []
    for index in wanted if by_file else range(len(task.images)):
        image = task.images[index]
        if image is None:
            raise OSError(f"the image of {task.clip.cases[index]} is missing")
        geometry, values = read_array(image)
        if geometry.components > 1:
            values = values.mean(axis=-1)
        frames.append(values.reshape(-1, *values.shape[-2:]))
    if {frame.shape[1:] for frame in frames} != {shape[1:]}:
        raise OSError(f"its images have another size than its predictions, {_by(shape[1:])} pixels")
    images = np.concatenate(frames)
    if len(images) != (len(wanted) if by_file else shape[0]):
        raise OSError(f"its images have {len(images)} frames; expected {shape[0]}")
    return video.to_gray(images if by_file else images[list(wanted)])


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
