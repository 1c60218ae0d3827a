"""Writes drawn echo images in the folder layouts of two public data sets, to try everything without a patient.

This is drawn data, not patient data: only names, folders and file formats are those of CAMUS (Leclerc et al. 2019,
https://doi.org/10.1109/TMI.2019.2900516) and EchoNet-Dynamic (Ouyang et al. 2020,
https://doi.org/10.1038/s41586-020-2145-8). The same seed always gives the same files.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.anatomy import Floats, HeartModel, Line, View, long_axis
from nnunet_partial.phantom.scanner import (
    LV,
    SCANNER_A,
    SCANNER_B,
    Bytes,
    Scanner,
    draw_heart,
)

VIEWS: tuple[View, ...] = ("2CH", "4CH")
CHORDS = 20
NOTE = "Drawn by nnunet-partial in the folder layout of CAMUS: no patient, no scanner. Free to use and to pass on.\n"


def write_camus(
    root: Path,
    patients: int,
    *,
    seed: int,
    scanner: Scanner = SCANNER_A,
    shape: tuple[int, int] = (96, 96),
    half_sequence: bool = True,
    half_frames: int = 8,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
) -> dict[str, list[str]]:
    """Draws `patients` patients, both views, as `root/database_nifti` and `root/database_split`, like CAMUS_public.

    Stills are 2-D (rows, cols) with square pixels in mm; half sequences 2-D+t, whose third spacing is no length, run
    from ED (first frame) to ES (last) and contain the stills. Without `half_sequence` only the cfg speaks of them.
    Labels 1 LV, 2 MYO, 3 LA. The first patients are for training, the last for testing; validation and testing get at
    least one each where their fraction is above 0. ImageQuality is true: Medium and Poor are hazier. The EF in both cfg
    files is biplane, from the drawn outlines.

    Returns the patient ids of "training", "validation" and "testing". PartialLabelError: see `_split`, half_frames < 2.
    """
    if half_frames < 2:
        raise PartialLabelError(f"write_camus: half_frames is {half_frames}, expected at least 2 (ED and ES)")
    ids = [f"patient{number:04d}" for number in range(1, patients + 1)]
    split = _split(ids, val_fraction, test_fraction, ("training", "validation", "testing"))
    for number, patient in enumerate(ids, start=1):
        folder = root / "database_nifti" / patient
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, number])
        _write_camus_patient(rng, folder, scanner, shape, half_frames, half_sequence)
    lists = root / "database_split"
    lists.mkdir(parents=True, exist_ok=True)
    for part, names in split.items():
        (lists / f"subgroup_{part}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (lists / "information.txt").write_text(NOTE, encoding="utf-8")
    return split


def write_echonet_dynamic(
    root: Path,
    patients: int,
    *,
    seed: int,
    scanner: Scanner = SCANNER_B,
    shape: tuple[int, int] = (112, 112),
    frames: int = 20,
    fps: int = 50,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    truth_dir: Path | None = None,
) -> dict[str, list[str]]:
    """Draws `patients` videos (4CH) as `root/FileList.csv`, `root/VolumeTracings.csv` and `root/Videos/*.avi`.

    Each video is a beating heart, motion JPEG, `frames` frames; two of them, one at ED and one at ES in either order,
    are traced: a long axis and 20 chords of the LV in pixels, frame numbers from 0. Volumes (mL) are those of the
    chords, taking the image as 150 mm deep; the layout itself has no pixel size.

    With `truth_dir`, which must lie outside `root`, the whole truth of the traced frames (1 LV, 2 MYO, 3 LA) is
    written there as `<stem>_<frame>.nii.gz`, for measuring what the tracings do not tell.

    Returns the stems of "TRAIN", "VAL" and "TEST". PartialLabelError: see `_split`; fewer than 8 frames; odd shape.
    """
    _check_video(root, shape, frames, truth_dir)
    rng = np.random.default_rng([seed, 0])
    stems = [f"0X{int(number):016X}" for number in rng.integers(2**60, 2**63, size=patients)]
    split = _split(stems, val_fraction, test_fraction, ("TRAIN", "VAL", "TEST"))
    part_of = {stem: part for part, names in split.items() for stem in names}
    (root / "Videos").mkdir(parents=True, exist_ok=True)
    files: list[Sequence[object]] = []
    tracings: list[Sequence[object]] = []
    for number, stem in enumerate(stems, start=1):
        images, lines, labels = _beating(np.random.default_rng([seed, number]), scanner, shape, frames)
        _write_video(root / "Videos" / f"{stem}.avi", images, fps)
        edv, esv = sorted((_volume_ml(rows, rows, 150.0 / shape[0]) for rows in lines.values()), reverse=True)
        ef = 100.0 * (1.0 - esv / edv)
        files.append((stem, f"{ef:.2f}", f"{esv:.2f}", f"{edv:.2f}", *shape, fps, frames, part_of[stem]))
        for frame in sorted(lines):
            tracings += [(f"{stem}.avi", *(f"{value:.4f}" for value in row), frame) for row in lines[frame]]
            if truth_dir is not None:
                truth_dir.mkdir(parents=True, exist_ok=True)
                _write_nifti(truth_dir / f"{stem}_{frame}.nii.gz", labels[frame], 150.0 / shape[0])
    header = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split")
    _write_csv(root / "FileList.csv", header, files)
    _write_csv(root / "VolumeTracings.csv", ("FileName", "X1", "Y1", "X2", "Y2", "Frame"), tracings)
    return split


def tracing(labels: Bytes, axis: Line) -> Floats:
    """The LV of `labels` (rows, cols) as EchoNet-Dynamic traces it: (21, 4) rows of x1, y1, x2, y2 in pixels.

    Row 1 is the long axis, apex first; then 20 chords across it, evenly spaced from apex to base, from the left
    edge of the cavity to the right. A level at which the cavity has no pixel gives a chord of length 0 on the axis.
    """
    apex, base = np.asarray(axis[0]), np.asarray(axis[1])
    along = base - apex
    across = np.array([along[1], -along[0]]) / np.hypot(*along)
    reach = np.arange(-max(labels.shape), max(labels.shape), 0.25)
    rows = [np.concatenate([apex, base])]
    for level in (np.arange(CHORDS) + 0.5) / CHORDS:
        centre = apex + level * along
        points = centre + reach[:, None] * across
        cols_rows = np.rint(points).astype(int)
        inside = np.all((cols_rows >= 0) & (cols_rows < labels.shape[::-1]), axis=1)
        points, cols_rows = points[inside], cols_rows[inside]
        hit = points[labels[cols_rows[:, 1], cols_rows[:, 0]] == LV]
        rows.append(np.concatenate([hit[0], hit[-1]] if len(hit) else [centre, centre]))
    return np.stack(rows)


def _volume_ml(tracing_a: Floats, tracing_b: Floats, spacing_mm: float) -> float:
    """Volume of the LV by discs: elliptic ones from two views, round ones where both tracings are the same."""
    length, _ = _lengths(tracing_a)
    diameters = _lengths(tracing_a)[1] * _lengths(tracing_b)[1]
    return float(np.pi / 4.0 * diameters.sum() * length / CHORDS * spacing_mm**3 / 1000.0)


def _lengths(rows: Floats) -> tuple[float, Floats]:
    """Length of the long axis and of the chords (20,)."""
    lengths = np.hypot(rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1])
    return float(lengths[0]), lengths[1:]


def _split(ids: list[str], val: float, test: float, names: tuple[str, str, str]) -> dict[str, list[str]]:
    """Training, validation and test part of `ids`, in this order; a fraction above 0 gives at least one.

    PartialLabelError where nothing is left to train on, or a fraction is negative.
    """
    n_val, n_test = (max(1, round(f * len(ids))) if f > 0 else 0 for f in (val, test))
    n_train = len(ids) - n_val - n_test
    if n_train < 1 or min(val, test) < 0:
        raise PartialLabelError(
            f"{len(ids)} patients, validation fraction {val} and test fraction {test} leave {n_train} for training; "
            "expected at least 1: ask for more patients or smaller fractions"
        )
    return {names[0]: ids[:n_train], names[1]: ids[n_train : n_train + n_val], names[2]: ids[n_train + n_val :]}


def _write_camus_patient(
    rng: np.random.Generator, folder: Path, scanner: Scanner, shape: tuple[int, int], half_frames: int, sequence: bool
) -> None:
    """Both views of one patient and their cfg files."""
    heart, spacing_mm = HeartModel.random(rng), float(rng.uniform(140.0, 165.0)) / shape[0]
    sex, age, rate = str(rng.choice(["F", "M"])), int(rng.integers(25, 90)), float(rng.uniform(45, 65))
    tracings: dict[tuple[View, str], Floats] = {}
    quality = {view: str(rng.choice(["Good", "Medium", "Poor"], p=[0.5, 0.35, 0.15])) for view in VIEWS}
    for view in VIEWS:
        veiled = replace(scanner, haze=scanner.haze * {"Good": 1.0, "Medium": 1.3, "Poor": 1.7}[quality[view]])
        moments = np.linspace(0.0, 1.0, half_frames) if sequence else np.array([0.0, 1.0])
        drawn = [
            draw_heart(rng, anatomy=heart, scanner=veiled, shape=shape, view=view, contraction=float(moment))
            for moment in moments
        ]
        stem = f"{folder.name}_{view}"
        for phase, (image, labels) in (("ED", drawn[0]), ("ES", drawn[-1])):
            _write_nifti(folder / f"{stem}_{phase}.nii.gz", image, spacing_mm)
            _write_nifti(folder / f"{stem}_{phase}_gt.nii.gz", labels, spacing_mm)
            axis = long_axis(heart, view, float(phase == "ES"), shape)
            tracings[view, phase] = tracing(labels, axis)
        if sequence:
            for suffix, stack in zip(("", "_gt"), zip(*drawn, strict=True), strict=True):
                _write_nifti(folder / f"{stem}_half_sequence{suffix}.nii.gz", np.stack(stack), spacing_mm)
    edv, esv = (_volume_ml(tracings["2CH", phase], tracings["4CH", phase], spacing_mm) for phase in ("ED", "ES"))
    for view in VIEWS:
        info = {"ED": 1, "ES": half_frames, "NbFrame": half_frames, "Sex": sex, "Age": age}
        info |= {"ImageQuality": quality[view], "EF": round(100 * (1 - esv / edv)), "FrameRate": round(rate, 1)}
        text = "".join(f"{key}: {value}\n" for key, value in info.items())
        (folder / f"Info_{view}.cfg").write_text(text, encoding="utf-8")


def _write_nifti(path: Path, array: Bytes, spacing_mm: float) -> None:
    """(rows, cols) or (t, rows, cols) with square pixels; the spacing along t is a plain 1.0."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing_mm, spacing_mm, 1.0)[: array.ndim])
    sitk.WriteImage(image, str(path))


def _check_video(root: Path, shape: tuple[int, int], frames: int, truth_dir: Path | None) -> None:
    """Raises PartialLabelError where a video cannot be written, or the truth would lie in the data set."""
    if frames < 8:
        raise PartialLabelError(f"write_echonet_dynamic: frames is {frames}, expected at least 8 for half a beat")
    if shape[0] % 2 or shape[1] % 2:
        raise PartialLabelError(f"write_echonet_dynamic: shape is {shape}, expected even numbers (the video format)")
    if truth_dir is not None and truth_dir.resolve().is_relative_to(root.resolve()):
        raise PartialLabelError(f"write_echonet_dynamic: truth_dir {truth_dir} lies in {root}, expected it outside")


def _beating(
    rng: np.random.Generator, scanner: Scanner, shape: tuple[int, int], frames: int
) -> tuple[Bytes, dict[int, Floats], dict[int, Bytes]]:
    """A video (t, rows, cols), and the tracing and the whole truth of its ED and its ES frame, by frame number."""
    heart, half_beat = HeartModel.random(rng), min(20, frames // 3)
    first = int(rng.integers(0, frames - half_beat))
    start = first if rng.random() < 0.5 else first + half_beat  # an ED frame; ES comes first where it is the later one
    moments = 0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) - start) / half_beat)
    moments = np.clip(np.round(moments, 9), 0.0, 1.0)
    drawn = [
        draw_heart(rng, anatomy=heart, scanner=scanner, shape=shape, view="4CH", contraction=float(moment))
        for moment in moments
    ]
    labels = {frame: drawn[frame][1] for frame in (first, first + half_beat)}
    lines = {
        frame: tracing(truth, long_axis(heart, "4CH", float(moments[frame]), shape)) for frame, truth in labels.items()
    }
    return np.stack([image for image, _ in drawn]), lines, labels


def _write_video(path: Path, images: Bytes, fps: int) -> None:
    """(t, rows, cols) as motion JPEG in an AVI file, nearly lossless; brightness alone, the colour planes are flat."""
    import av  # only here: drawing and the CAMUS layout need no video library
    import av.video

    count, rows, cols = images.shape
    grey = np.full((rows // 2, cols), 128, np.uint8)  # both colour planes of YUV 4:2:0
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=fps, options={"qmin": "1", "qmax": "1", "flags": "+bitexact"})
        stream.width, stream.height, stream.pix_fmt = cols, rows, "yuvj420p"
        stream.codec_context.thread_count = 1
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(np.concatenate([images[index], grey]), format="yuvj420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
