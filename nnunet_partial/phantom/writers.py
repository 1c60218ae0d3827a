"""Write synthetic echo images in the folder layouts of two public datasets, and clips, to try all without patient data.

Only names, folders and file formats are those of CAMUS (Leclerc et al. 2019,
https://doi.org/10.1109/TMI.2019.2900516) and EchoNet-Dynamic (Ouyang et al. 2020,
https://doi.org/10.1038/s41586-020-2145-8). The same seed always gives the same files.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_partial.dataset.images import simpleitk, write_itk
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.phantom.anatomy import Floats, HeartModel, Line, View, lv_long_axis
from nnunet_partial.phantom.clips import Rhythm, simulate_clip
from nnunet_partial.phantom.scanner import LV, SCANNER_A, SCANNER_B, Bytes, Scanner, draw_heart, draw_labels

VIEWS: tuple[View, ...] = ("2CH", "4CH")
N_CHORDS = 20
CAMUS_NOTE = (
    "Synthetic data made by nnunet-partial in the folder layout of CAMUS: no patient data. Free to use and share.\n"
)


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
    """Write synthetic patients as `root/database_nifti` and `root/database_split`, like CAMUS_public.

    Still images are 2-D (rows, cols) with square pixels in mm. Half sequences are 2-D+t (their third spacing is no
    length), run from ED (first frame) to ES (last) and contain the still images. Labels: 1 LV, 2 MYO, 3 LA.
    ImageQuality is real: Medium and Poor images are hazier. The EF in both cfg files is biplane, from the synthetic
    contours.

    Args:
        root: folder to write; created where missing.
        patients: number of patients. The first ones are for training, the last ones for testing.
        seed: of everything random.
        scanner: the domain.
        shape: of the images, (rows, cols).
        half_sequence: whether to write the half sequences; without them only the cfg files mention them.
        half_frames: frames of a half sequence, at least 2.
        val_fraction: fraction of patients for validation; above 0 at least one patient.
        test_fraction: fraction of patients for testing; above 0 at least one patient.

    Returns:
        The patient ids of "training", "validation" and "testing".

    Raises:
        PartialLabelError: for half_frames below 2, a negative fraction, or no patient left for training.
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
    (lists / "information.txt").write_text(CAMUS_NOTE, encoding="utf-8")
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
    """Write synthetic 4CH videos as `root/FileList.csv`, `root/VolumeTracings.csv` and `root/Videos/*.avi`.

    Each video is a beating heart as motion JPEG. Two of its frames, one at ED and one at ES in either order, are
    traced: a long axis and 20 chords of the LV in pixels, frame numbers from 0. Volumes (mL) are those of the chords at
    an image depth of 150 mm; the layout itself has no spacing.

    Args:
        root: folder to write; created where missing.
        patients: number of videos.
        seed: of everything random.
        scanner: the domain.
        shape: of the frames, (rows, cols), even numbers.
        frames: of a video, at least 8.
        fps: frames per second.
        val_fraction: fraction of videos for validation; above 0 at least one video.
        test_fraction: fraction of videos for testing; above 0 at least one video.
        truth_dir: where to write the complete labels of the traced frames (1 LV, 2 MYO, 3 LA) as
            `<stem>_<frame>.nii.gz`, to measure what the tracings do not contain; must lie outside `root`.

    Returns:
        The file stems of "TRAIN", "VAL" and "TEST".

    Raises:
        PartialLabelError: for fewer than 8 frames, an odd shape, truth_dir inside root, a negative fraction, or no
            video left for training.
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
        images, lines, labels = _beating_heart(np.random.default_rng([seed, number]), scanner, shape, frames)
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


def write_clips(
    root: Path,
    patients: int,
    *,
    seed: int,
    scanner: Scanner = SCANNER_A,
    shape: tuple[int, int] = (112, 112),
    efs_percent: Sequence[float] = (25.0, 55.0, 70.0),
    beats: float = 3.0,
    irregularity: float = 0.05,
    views: Sequence[View] = VIEWS,
) -> list[str]:
    """Write synthetic clips of several beats, and apart from them the truth, to try how clips are measured.

    `root/clips/<patient>_<view>.avi`: motion JPEG, at 25 to 80 frames per second, 50 to 110 beats per minute, and
    beginning anywhere in the cycle. `root/views.csv`: clip, view and patient. `root/truth/<patient>_<view>.nii.gz`: the
    labels of all frames (t, rows, cols), 1 LV, 2 MYO, 3 LA. `root/truth.csv`: of each clip the ejection fraction, the
    volumes by discs in this view at an image depth of 150 mm, rate, and the frames of ED and ES of the whole beats,
    from 0.

    Args:
        root: folder to write; created where missing.
        patients: number of patients.
        seed: of everything random.
        scanner: the domain.
        shape: of the frames, (rows, cols), even numbers.
        efs_percent: ejection fractions, of the patients in turn.
        beats: length of a clip in beats.
        irregularity: SD of the length of a beat as a fraction of its mean.
        views: of each patient; the rhythm of each view is its own.

    Returns:
        The names of the clips.

    Raises:
        PartialLabelError: for an odd shape, another view, or what `HeartModel.with_ef` and `Rhythm.random` refuse.
    """
    _check_shape("write_clips", shape)
    for folder in (root / "clips", root / "truth"):
        folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    table: list[Sequence[object]] = []
    truth: list[Sequence[object]] = []
    for number in range(1, patients + 1):
        rng = np.random.default_rng([seed, number])
        patient = f"patient{number:04d}"
        heart = HeartModel.random(rng).with_ef(efs_percent[(number - 1) % len(efs_percent)])
        for view in views:
            name, fps, rate = f"{patient}_{view}", int(rng.integers(25, 81)), float(rng.uniform(50.0, 110.0))
            count = max(8, round(beats * 60.0 / rate * fps))
            rhythm = Rhythm.random(
                rng,
                seconds=count / fps,
                rate_bpm=rate,
                irregularity=irregularity,
                start=float(rng.uniform(0.0, 1.0)),
            )
            clip = simulate_clip(
                rng, anatomy=heart, rhythm=rhythm, frames=count, fps=fps, scanner=scanner, shape=shape, view=view
            )
            _write_video(root / "clips" / f"{name}.avi", clip.images, fps)
            _write_nifti(root / "truth" / f"{name}.nii.gz", clip.labels, 150.0 / shape[0])
            edv, esv = (_single_plane_ml(heart, scanner, shape, view, contraction) for contraction in (0.0, 1.0))
            whole = rhythm.whole_beats(clip.times_s)
            ed_frames, es_frames = (" ".join(str(beat[phase]) for beat in whole) for phase in (0, 1))
            names.append(name)
            table.append((name, view, patient))
            volumes = (f"{value:.2f}" for value in (heart.ef_percent, edv, esv, rate))
            truth.append((name, *volumes, fps, count, len(whole), ed_frames, es_frames))
    _write_csv(root / "views.csv", ("clip", "view", "patient"), table)
    header = ("clip", "ef_percent", "edv_ml", "esv_ml", "rate_bpm", "fps", "frames", "beats", "ed_frames", "es_frames")
    _write_csv(root / "truth.csv", header, truth)
    return names


def _single_plane_ml(
    heart: HeartModel, scanner: Scanner, shape: tuple[int, int], view: View, contraction: float
) -> float:
    """Compute the volume of the LV in one view at a depth of 150 mm."""
    labels = draw_labels(anatomy=heart, scanner=scanner, shape=shape, view=view, contraction=contraction)
    rows = trace_ventricle(labels, lv_long_axis(heart, view, contraction, shape))
    return _volume_ml(rows, rows, 150.0 / shape[0])


def trace_ventricle(labels: Bytes, axis: Line) -> Floats:
    """Trace the LV as EchoNet-Dynamic does: the long axis and 20 chords across it.

    Args:
        labels: label map (rows, cols) with LV = 1.
        axis: apex and base, each (x, y) in pixels.

    Returns:
        (21, 4) rows of x1, y1, x2, y2 in pixels. Row 0 is the long axis, apex first; then the chords, evenly spaced
        from apex to base, from the left edge of the cavity to the right. A level without a pixel of the cavity gives a
        chord of length 0 on the axis.
    """
    apex, base = np.asarray(axis[0]), np.asarray(axis[1])
    along = base - apex
    across = np.array([along[1], -along[0]]) / np.hypot(*along)
    reach = np.arange(-max(labels.shape), max(labels.shape), 0.25)
    rows = [np.concatenate([apex, base])]
    for level in (np.arange(N_CHORDS) + 0.5) / N_CHORDS:
        center = apex + level * along
        points = center + reach[:, None] * across
        cols_rows = np.rint(points).astype(int)
        inside = np.all((cols_rows >= 0) & (cols_rows < labels.shape[::-1]), axis=1)
        points, cols_rows = points[inside], cols_rows[inside]
        hit = points[labels[cols_rows[:, 1], cols_rows[:, 0]] == LV]
        rows.append(np.concatenate([hit[0], hit[-1]] if len(hit) else [center, center]))
    return np.stack(rows)


def _volume_ml(tracing_a: Floats, tracing_b: Floats, spacing_mm: float) -> float:
    """Compute the volume of the LV by discs: elliptic ones from two views, round ones if both tracings are the same."""
    length, _ = _lengths(tracing_a)
    diameters = _lengths(tracing_a)[1] * _lengths(tracing_b)[1]
    return float(np.pi / 4.0 * diameters.sum() * length / N_CHORDS * spacing_mm**3 / 1000.0)


def _lengths(rows: Floats) -> tuple[float, Floats]:
    """Return the lengths of the long axis and of the chords (20,)."""
    lengths = np.hypot(rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1])
    return float(lengths[0]), lengths[1:]


def _split(ids: list[str], val: float, test: float, names: tuple[str, str, str]) -> dict[str, list[str]]:
    """Split `ids` in order into training, validation and test; a fraction above 0 gives at least one.

    Raises PartialLabelError if none is left for training, or a fraction is negative.
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
    """Write both views of one patient and their cfg files."""
    heart, spacing_mm = HeartModel.random(rng), float(rng.uniform(140.0, 165.0)) / shape[0]
    sex, age, rate = str(rng.choice(["F", "M"])), int(rng.integers(25, 90)), float(rng.uniform(45, 65))
    tracings: dict[tuple[View, str], Floats] = {}
    quality = {view: str(rng.choice(["Good", "Medium", "Poor"], p=[0.5, 0.35, 0.15])) for view in VIEWS}
    for view in VIEWS:
        hazy = replace(scanner, haze=scanner.haze * {"Good": 1.0, "Medium": 1.3, "Poor": 1.7}[quality[view]])
        contractions = np.linspace(0.0, 1.0, half_frames) if sequence else np.array([0.0, 1.0])
        simulated = [
            draw_heart(rng, anatomy=heart, scanner=hazy, shape=shape, view=view, contraction=float(contraction))
            for contraction in contractions
        ]
        stem = f"{folder.name}_{view}"
        for phase, (image, labels) in (("ED", simulated[0]), ("ES", simulated[-1])):
            _write_nifti(folder / f"{stem}_{phase}.nii.gz", image, spacing_mm)
            _write_nifti(folder / f"{stem}_{phase}_gt.nii.gz", labels, spacing_mm)
            axis = lv_long_axis(heart, view, float(phase == "ES"), shape)
            tracings[view, phase] = trace_ventricle(labels, axis)
        if sequence:
            for suffix, stack in zip(("", "_gt"), zip(*simulated, strict=True), strict=True):
                _write_nifti(folder / f"{stem}_half_sequence{suffix}.nii.gz", np.stack(stack), spacing_mm)
    edv, esv = (_volume_ml(tracings["2CH", phase], tracings["4CH", phase], spacing_mm) for phase in ("ED", "ES"))
    for view in VIEWS:
        info = {"ED": 1, "ES": half_frames, "NbFrame": half_frames, "Sex": sex, "Age": age}
        info |= {"ImageQuality": quality[view], "EF": round(100 * (1 - esv / edv)), "FrameRate": round(rate, 1)}
        text = "".join(f"{key}: {value}\n" for key, value in info.items())
        (folder / f"Info_{view}.cfg").write_text(text, encoding="utf-8")


def _write_nifti(path: Path, array: Bytes, spacing_mm: float) -> None:
    """Write (rows, cols) or (t, rows, cols) with square pixels; the spacing along t is 1.0."""
    image = simpleitk().GetImageFromArray(array)
    image.SetSpacing((spacing_mm, spacing_mm, 1.0)[: array.ndim])
    write_itk(image, path)


def _check_video(root: Path, shape: tuple[int, int], frames: int, truth_dir: Path | None) -> None:
    """Raise PartialLabelError if a video cannot be written, or the complete labels would lie inside the dataset."""
    if frames < 8:
        raise PartialLabelError(f"write_echonet_dynamic: frames is {frames}, expected at least 8 for half a beat")
    _check_shape("write_echonet_dynamic", shape)
    if truth_dir is not None and truth_dir.resolve().is_relative_to(root.resolve()):
        raise PartialLabelError(f"write_echonet_dynamic: truth_dir {truth_dir} lies in {root}, expected it outside")


def _check_shape(function: str, shape: tuple[int, int]) -> None:
    if shape[0] % 2 or shape[1] % 2:
        raise PartialLabelError(f"{function}: shape is {shape}, expected even numbers (the video format)")


def _beating_heart(
    rng: np.random.Generator, scanner: Scanner, shape: tuple[int, int], frames: int
) -> tuple[Bytes, dict[int, Floats], dict[int, Bytes]]:
    """Simulate a video (t, rows, cols); also return tracing and complete labels of its ED and ES frame, by number."""
    heart, half_beat = HeartModel.random(rng), min(20, frames // 3)
    first = int(rng.integers(0, frames - half_beat))
    start = first if rng.random() < 0.5 else first + half_beat  # an ED frame; ES comes first where it is the later one
    contractions = 0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) - start) / half_beat)
    contractions = np.clip(np.round(contractions, 9), 0.0, 1.0)
    simulated = [
        draw_heart(rng, anatomy=heart, scanner=scanner, shape=shape, view="4CH", contraction=float(contraction))
        for contraction in contractions
    ]
    labels = {frame: simulated[frame][1] for frame in (first, first + half_beat)}
    lines = {
        frame: trace_ventricle(truth, lv_long_axis(heart, "4CH", float(contractions[frame]), shape))
        for frame, truth in labels.items()
    }
    return np.stack([image for image, _ in simulated]), lines, labels


def _write_video(path: Path, images: Bytes, fps: int) -> None:
    """Write (t, rows, cols) as motion JPEG in an AVI file, nearly lossless; only luma varies, chroma is constant."""
    import av  # only here: drawing and the CAMUS layout need no video library

    count, rows, cols = images.shape
    gray = np.full((rows // 2, cols), 128, np.uint8)  # both chroma planes of YUV 4:2:0
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=fps, options={"qmin": "1", "qmax": "1", "flags": "+bitexact"})
        stream.width, stream.height, stream.pix_fmt = cols, rows, "yuvj420p"
        stream.codec_context.thread_count = 1
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(np.concatenate([images[index], gray]), format="yuvj420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
