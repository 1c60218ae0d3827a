"""Turn clips (ultrasound in DICOM, videos, NIfTI 2-D+t) into the images that a trained nnU-Net model segments.

Each file is read in a process of its own: a decoder that crashes or hangs on a damaged file costs that file alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.clips.beats import longest_step
from nnunet_partial.clips.images import ImageFormat, is_whole, read_format
from nnunet_partial.clips.names import clip_name, default_key_file, exam_name, keyed_hash, patient_name, read_key
from nnunet_partial.clips.records import NOMINAL_DEPTH, SOURCES, Clip, normal_view, write_clips_json
from nnunet_partial.dataset.images import NIFTI_ENDINGS, without_endings
from nnunet_partial.dataset_conversion.base import Skipped, nominal_spacing_mm, require_depth, require_identifier
from nnunet_partial.dataset_conversion.echonet import VIDEO_ENDINGS
from nnunet_partial.dataset_conversion.readers.dicom import is_dicom, read_dicom_header, read_identity
from nnunet_partial.dataset_conversion.readers.isolated import Crashed, IsolatedPool
from nnunet_partial.dataset_conversion.readers.nifti_video import read_nifti_header
from nnunet_partial.dataset_conversion.readers.video import Video, read_video_header
from nnunet_partial.dataset_conversion.staging import FINGERPRINT_NAME, staged_folder
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.utils.files import files_below, read_json_lines
from nnunet_partial.utils.parallel import progress_bar
from nnunet_partial.utils.tables import read_table
from nnunet_partial.utils.text import format_names, printable
from nnunet_partial.utils.versions import __version__

LOG_NAME = ".written.jsonl"

DICOM, VIDEO, NIFTI = SOURCES
_VIDEO_ENDINGS = (*VIDEO_ENDINGS, ".m4v", ".wmv")
#: Index of a DICOM disk; it holds no image.
_DICOMDIR = "DICOMDIR"

#: Frames and pixels of a part, which nnU-Net holds in memory at once, as floating point numbers for each class.
_PART_FRAMES, _PART_PIXELS = 256, 1 << 26

#: Time that a file may take: far more than is needed.
_SECONDS, _SECONDS_PER_MB = 10.0, 30.0

_VIEW = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _+-]{0,31}")


@dataclass(frozen=True)
class Options:
    """Say how clips are read.

    Attributes:
        per_frame: Write a file per frame, instead of volumes whose slices are frames.
        keep_names: Take the names of the files, which must name no person, instead of keyed hashes.
        key_file: The key of the hashes; None: that in the user's configuration folder.
        view: View of all clips; None: see `table`.
        table: CSV with the column clip, and view, patient and exam or some of them; None: views are not known.
        keep_whole_frame: Cut nothing from DICOM, and take files in which names may be written.
        depth_mm: Nominal depth of clips without a spacing; None: that of the model.
    """

    per_frame: bool = False
    keep_names: bool = False
    key_file: Path | None = None
    view: str | None = None
    table: Path | None = None
    keep_whole_frame: bool = False
    depth_mm: float | None = None


@dataclass(frozen=True)
class FramesResult:
    """Hold what was written.

    Attributes:
        folder: The folder of images.
        clips: What was written of each clip, by name.
        files: Name of each clip by its file, relative to the input. Known to the caller alone, and nowhere on disk.
        skipped: Files that could not be read, and why.
        others: Files that are no clips.
        new_key: The file of a key that was made; None where there was one, or none was needed.
    """

    folder: Path
    clips: Mapping[str, Clip]
    files: Mapping[str, str]
    skipped: Sequence[Skipped]
    others: Sequence[str]
    new_key: Path | None


@dataclass(frozen=True)
class ClipFile:
    """Describe a file before it is read.

    Attributes:
        path: The file.
        shown: Its path below the input folder.
        kind: "DICOM", "video" or "NIfTI".
        view: View by option or table; None where neither says.
        patient: Patient by the table; None where it does not say.
        exam: Examination of this patient by the table; None where it does not say.
        size: Of the file in bytes, when it was found.
        changed_ns: When the file was last changed before that.
    """

    path: Path
    shown: str
    kind: str
    view: str | None = None
    patient: str | None = None
    exam: str | None = None
    size: int = 0
    changed_ns: int = 0


@dataclass(frozen=True)
class ClipJob:
    """Tell a process which clip to write, and how.

    Attributes:
        file: The file.
        name: Name of the clip.
        patient: Name of the patient; None where it is not known.
        exam: Name of the examination; None where it is not known.
        folder: Where the images go.
        format: Of the images.
        per_frame: See `Options`.
        keep_whole_frame: See `Options`.
    """

    file: ClipFile
    name: str
    patient: str | None
    exam: str | None
    folder: Path
    format: ImageFormat
    per_frame: bool
    keep_whole_frame: bool


@dataclass(frozen=True)
class FramesPlan:
    """Hold what is to be read, and how; nothing is written yet.

    Attributes:
        files: The clips.
        others: Names of files that are no clips.
        unread: Files and folders that cannot be looked at, and why.
        format: Of the images.
        options: How to read.
        key: Of the hashes; empty where no name needs one.
        new_key: The file of a key that was made; None where there was one, or none was needed.
        made_with: Hash of what decides the result, which tells nothing of it.
    """

    files: Sequence[ClipFile]
    others: Sequence[str]
    unread: Sequence[tuple[str, str]]
    format: ImageFormat
    options: Options
    key: bytes = field(repr=False)
    new_key: Path | None
    made_with: str


def plan_frames(source: Path, folder: Path, model: Path, options: Options = Options()) -> FramesPlan:
    """Find the clips, and check model and options.

    Args:
        source: Folder with clips, also in folders below it, or one clip.
        folder: Folder to write, which the key must not lie in.
        model: Folder of the trained model that shall segment the frames.
        options: How to read.

    Returns:
        What `write_frames` needs.

    Raises:
        DatasetError: The model segments something else than single images of one channel.
        ConversionError: There is no clip, the table does not fit, or the key lies in the folder to write.
    """
    image_format = read_format(model)
    if options.depth_mm is not None:
        require_depth(options.depth_mm)
        image_format = dataclasses.replace(image_format, depth_mm=options.depth_mm)
    files, others, unread = find_clips(source)
    files = _with_table(files, options)
    key, new_key = _key(files, folder, options)
    made_with = _fingerprint(source, image_format, options, key)
    return FramesPlan(files, others, unread, image_format, options, key, new_key, made_with)


def write_frames(
    plan: FramesPlan,
    folder: Path,
    *,
    processes: int = 1,
    progress: bool = False,
    log: Callable[[Skipped], None] | None = None,
) -> FramesResult:
    """Write the frames of clips as images for a model, and clips.json beside them; as a whole or not at all.

    A clip that cannot be read is left out and named in the result. If interrupted, the same call goes on where it
    stopped.

    Args:
        plan: What to read, and how.
        folder: Folder to write; must not exist, or be empty.
        processes: Number of processes.
        progress: Show a progress bar.
        log: Called at once with each clip that cannot be read.

    Returns:
        What was written.

    Raises:
        DatasetError: The folder to write exists, or the disk refuses.
        ConversionError: No clip can be read.
    """
    skipped: list[Skipped] = []

    def skip(file: str, reason: str) -> None:
        skipped.append(Skipped(printable(file), printable(reason)))
        if log is not None:
            log(skipped[-1])

    for name, reason in plan.unread:
        skip(name, reason)
    pool = IsolatedPool(min(processes, len(plan.files)), import_readers)
    with staged_folder(folder, {"made_with": plan.made_with}) as staging, pool:
        jobs = _name_clips(pool, plan, staging, skip)
        clips = _write_all(pool, jobs, staging, plan.key, progress, skip)
        if not clips:
            reasons = [f"{one.case}: {one.reason}" for one in skipped]
            raise ConversionError(f"No clip could be read; nothing is written. {format_names(reasons, 5)}")
        _remove_other_files(staging, clips, plan.format)
        write_clips_json(staging, clips)
    written = {job.file.shown: job.name for job in jobs if job.name in clips}
    return FramesResult(folder, clips, written, skipped, plan.others, plan.new_key)


def find_clips(source: Path) -> tuple[list[ClipFile], list[str], list[tuple[str, str]]]:
    """Find the clips in a folder and below it; hidden files are none.

    Args:
        source: The folder, or one clip.

    Returns:
        The clips in the order of their names, the names of other files, and those of files and folders that cannot be
        looked at, with the reason.

    Raises:
        ConversionError: There is no such folder, or no clip in it.
    """
    if not source.exists():
        raise ConversionError(f"-i: {printable(str(source))} does not exist; expected a folder of clips, or a clip.")
    root = source if source.is_dir() else source.parent
    paths, left_out = files_below(source) if source.is_dir() else ([source], [])
    clips: list[ClipFile] = []
    others: list[str] = []
    unread: list[tuple[str, str]] = []
    reasons = dict(left_out)
    for path in sorted([*paths, *reasons]):
        relative = path.relative_to(root)
        shown = relative.as_posix()
        if path.name == _DICOMDIR or any(part.startswith(".") for part in relative.parts):
            others.append(printable(shown))
            continue
        if path in reasons:
            unread.append((shown, reasons[path]))
            continue
        try:
            state = path.stat()
            kind = _kind(path) if stat.S_ISREG(state.st_mode) else None
        except OSError as problem:
            unread.append((shown, f"cannot be read: {problem.strerror}"))
            continue
        if kind is None:
            others.append(printable(shown))
        else:
            clips.append(ClipFile(path, shown, kind, size=state.st_size, changed_ns=state.st_mtime_ns))
    if not clips:
        named = [printable(f"{name}: {reason}") for name, reason in unread]
        found = [f"{len(others)} other file(s): {format_names(others, 5)}"] if others else []
        found += [f"{len(unread)} that cannot be looked at: {format_names(named, 5)}"] if unread else []
        raise ConversionError(
            f"-i: {printable(str(source))} holds no clip but {'; '.join(found) or 'no file'}. Expected DICOM, NIfTI or "
            f"videos ({', '.join(_VIDEO_ENDINGS)})."
        )
    return clips, others, unread


def _kind(path: Path) -> str | None:
    """Return the kind of a clip; None for another file. Raises OSError where it cannot be read."""
    with path.open("rb"):  # raises
        pass
    name = path.name.lower()
    if name.endswith(_VIDEO_ENDINGS):
        return VIDEO
    if name.endswith(NIFTI_ENDINGS):
        return NIFTI
    return DICOM if is_dicom(path) else None


def _with_table(files: Sequence[ClipFile], options: Options) -> list[ClipFile]:
    """Add view, patient and examination, which the options or the table give."""
    if options.table is None:
        view = None if options.view is None else _view(options.view, "--view")
        return [dataclasses.replace(file, view=view) for file in files]
    rows: dict[str, ClipFile] = {}
    unknown = []
    called: dict[str, list[ClipFile]] = {}
    for file in files:
        for form in _forms(file.shown):
            called.setdefault(form, []).append(file)
    for line, row in read_table(options.table, ("clip",), ("view", "patient", "exam")):
        where = f"{printable(options.table.name)}, line {line}"
        named = called.get(row["clip"], [])
        if not named:
            unknown.append(printable(row["clip"]))
        elif len(named) > 1 or named[0].shown in rows:
            shown = printable(format_names([file.shown for file in named]))
            text = f"{where}: the clip {printable(row['clip'])!r} is {shown}"
            raise ConversionError(f"{text}; expected one file, and one row for it. Write the path below -i.")
        else:
            view, patient, exam = (row.get(column) or None for column in ("view", "patient", "exam"))
            if exam and not patient:
                raise ConversionError(f"{where}: the exam is {printable(exam)!r} of no patient; expected both.")
            view = _view(view, where) if view else None
            rows[named[0].shown] = dataclasses.replace(named[0], view=view, patient=patient, exam=exam)
    if unknown:
        raise ConversionError(
            f"{printable(options.table.name)} names {len(unknown)} clip(s) that are not there: "
            f"{format_names(unknown)}; expected file names, with or without ending."
        )
    return [rows.get(file.shown, file) for file in files]


def _forms(shown: str) -> set[str]:
    """Return what a table may call a file."""
    return {name for path in (shown, shown.rpartition("/")[2]) for name in (path, _stem(path))}


def _stem(path: str) -> str:
    name = without_endings(path)
    ending = next((one for one in (*_VIDEO_ENDINGS, ".dcm", ".dicom") if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def kept_name(shown: str) -> str:
    """Return the name that `--names keep` gives to the clip of a file.

    Args:
        shown: The path of the file below the input folder, with or without its ending.

    Returns:
        The name.
    """
    return _stem(shown).replace("/", "_")


def _view(text: str, where: str) -> str:
    """Return a view as the biomarkers call it. Others than apical two and four chambers are not measured, but kept."""
    if not _VIEW.fullmatch(text):
        raise ConversionError(f"{where}: the view is {printable(text)!r}; expected a short name, such as 4CH or 2CH.")
    return normal_view(text)


def _key(files: Sequence[ClipFile], folder: Path, options: Options) -> tuple[bytes, Path | None]:
    """Return the key (empty where no name needs one), and its file if it is new."""
    if options.keep_names and not any(file.kind == DICOM for file in files):
        return b"", None
    file = options.key_file or default_key_file()
    if file.resolve().is_relative_to(folder.resolve()):
        raise ConversionError(
            f"The key {file} lies in the folder that is written, and would be given away with it. Give another place "
            "with --key."
        )
    key, is_new = read_key(file)
    return key, file if is_new else None


def _fingerprint(source: Path, image_format: ImageFormat, options: Options, key: bytes) -> str:
    """Return what decides the result as a hash, which tells nothing of it."""
    table = options.table.read_bytes() if options.table is not None else b""
    content = [str(source.resolve()), str(image_format), str(options), hashlib.sha256(table).hexdigest(), __version__]
    return keyed_hash(key, "options", json.dumps(content))


# ---- names -----------------------------------------------------------------------------------------------------------


def _name_clips(pool: IsolatedPool, plan: FramesPlan, staging: Path, skip: Callable[[str, str], None]) -> list[ClipJob]:
    """Name the clips; those whose name cannot be made, or is taken, are skipped."""
    jobs: dict[str, ClipJob] = {}
    files, options, key = plan.files, plan.options, plan.key
    needed = [file for file in files if not options.keep_names or file.kind == DICOM]
    identities = _isolated(pool, identify, [(file, key) for file in needed])
    found = dict(zip([file.shown for file in needed], identities, strict=True))
    for file in files:
        identity = found.get(file.shown, (None, None, ""))
        if isinstance(identity, Exception):
            skip(file.shown, _reason(identity))
            continue
        patient, exam, content = identity
        if file.patient is not None:
            patient = file.patient if options.keep_names else patient_name(key, file.patient)
        if file.exam is not None:
            exam = file.exam if options.keep_names else exam_name(key, patient, file.exam)
        elif exam is None and file.patient is not None:
            exam = patient  # who writes a table without examinations names a patient for each
        try:
            name = require_identifier(kept_name(file.shown)) if options.keep_names else clip_name(key, patient, content)
        except ConversionError as problem:
            skip(file.shown, str(problem))
            continue
        same = jobs.get(name.casefold())  # capitals make no difference to disks of Windows and macOS
        if same is not None:
            reason = "the same clip twice?" if name == same.name else "they differ in capitals alone; rename one"
            skip(file.shown, f"has the name of {same.file.shown}, {same.name}: {reason}")
            continue
        rest = (plan.format, options.per_frame, options.keep_whole_frame)
        jobs[name.casefold()] = ClipJob(file, name, patient, exam, staging, *rest)
    return list(jobs.values())


def identify(file: ClipFile, key: bytes) -> tuple[str | None, str | None, str]:
    """Find out what the name of a clip is made of; runs in a process of its own.

    Args:
        file: The file.
        key: The key.

    Returns:
        Names of the patient and the examination, None where the file does not say, and what identifies the clip:
        SOPInstanceUID, or a hash of the file.

    Raises:
        ConversionError: The file cannot be read.
    """
    patient, study, clip = read_identity(file.path) if file.kind == DICOM else ("", "", "")
    if not clip:
        try:
            with file.path.open("rb") as opened:
                clip = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as problem:
            raise ConversionError(f"cannot be read: {problem.strerror}") from None
    named = patient_name(key, patient) if patient else None
    return named, exam_name(key, named or "", study) if study else None, clip


# ---- writing ---------------------------------------------------------------------------------------------------------


def _write_all(
    pool: IsolatedPool,
    jobs: Sequence[ClipJob],
    staging: Path,
    key: bytes,
    progress: bool,
    skip: Callable[[str, str], None],
) -> dict[str, Clip]:
    """Write the clips that an earlier run has not written; return all by name."""
    stamps = {job.name: _stamp(job, key) for job in jobs}
    log_file = staging / LOG_NAME
    clips = {
        name: clip
        for name, (stamp, clip) in _read_log(log_file).items()
        if stamps.get(name) == stamp
        and all(is_whole(image_file(staging, case, jobs[0].format.file_ending)) for case in clip.cases)
    }
    todo = [job for job in jobs if job.name not in clips]
    results = _isolated(pool, write_clip, [(job,) for job in todo])
    with log_file.open("a", encoding="utf-8") as log:
        log.write("\n")  # ends a line that a killed run may have left unfinished
        bar = progress_bar(results, len(todo), "frames" if progress else None, "clip")
        for job, clip in zip(todo, bar, strict=True):
            if isinstance(clip, DatasetError):  # the disk
                raise clip
            if isinstance(clip, Exception):
                skip(job.file.shown, _reason(clip))
                continue
            log.write(json.dumps([job.name, stamps[job.name], clip.to_json()]) + "\n")
            log.flush()
            clips[job.name] = clip
    _require_own_cases(clips)
    return clips


def _isolated(pool: IsolatedPool, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Call a function in other processes; the first argument is, or has, a `ClipFile`."""
    files = [call[0] if isinstance(call[0], ClipFile) else call[0].file for call in calls]
    limits = [_SECONDS + _SECONDS_PER_MB * file.size / 2**20 for file in files]
    return pool.map(function, calls, limits)


def import_readers() -> None:
    """Import what reads clips, so that it does not count as time of the first one."""
    import importlib

    for name in ("av", "SimpleITK", "pydicom.pixels"):
        try:
            importlib.import_module(name)
        except ImportError:  # said for each file that needs it
            continue


def _reason(problem: Exception) -> str:
    if isinstance(problem, Crashed):
        return f"cannot be read: its decoder {str(problem).partition(' ')[2]}"
    return str(problem)


def _stamp(job: ClipJob, key: bytes) -> str:
    """Return what tells a file from another, or from what it was before."""
    file = job.file
    content = [file.shown, file.size, file.changed_ns, job.patient, job.exam]
    return keyed_hash(key, "file", json.dumps(content))


def _read_log(log_file: Path) -> dict[str, tuple[str, Clip]]:
    """Read what an interrupted run has written; a line that was cut off does not count."""
    written: dict[str, tuple[str, Clip]] = {}
    for line in read_json_lines(log_file):
        with contextlib.suppress(ValueError, TypeError):
            name, stamp, content = line
            written[name] = (stamp, Clip.from_json(content))
    return written


def image_file(folder: Path, case: str, file_ending: str) -> Path:
    """Return the image of a case, named as nnU-Net wants it.

    Args:
        folder: The folder of images.
        case: The case.
        file_ending: Such as .nii.gz.

    Returns:
        The file of the only channel.
    """
    return folder / f"{case}_0000{file_ending}"


def _require_own_cases(clips: Mapping[str, Clip]) -> None:
    """Raise ConversionError where the parts of a clip have the name of another."""
    counts = Counter(case.casefold() for clip in clips.values() for case in clip.cases)
    twice = {case for clip in clips.values() for case in clip.cases if counts[case.casefold()] > 1}
    if twice:
        raise ConversionError(
            f"{format_names(twice)} would stand for two clips. Rename a file, or use no --names keep."
        )


def _remove_other_files(staging: Path, clips: Mapping[str, Clip], image_format: ImageFormat) -> None:
    """Remove the log, and files that an interrupted run began and this one skipped."""
    wanted = {image_file(staging, case, image_format.file_ending) for clip in clips.values() for case in clip.cases}
    for path in staging.iterdir():
        if path not in wanted and path.name != FINGERPRINT_NAME:
            path.unlink()


# ---- one clip, in a process of its own -------------------------------------------------------------------------------


@dataclass
class _Opened:
    """Hold a clip that is being read. What its header does not say is filled in while `frames` is consumed."""

    frames: Iterator[NDArray[Any]]
    length: int
    aspect: float = 1.0
    spacing_mm: tuple[float, float] | None = None
    spacing_from: str | None = None
    times_s: tuple[float, ...] | None = None
    times_from: str | None = None
    end_s: float | None = None
    flags: list[str] = field(default_factory=list)


def write_clip(job: ClipJob) -> Clip:
    """Read a clip and write its frames; runs in a process of its own.

    Args:
        job: Which clip.

    Returns:
        What was written. Where anything is wrong, no file is left.

    Raises:
        ConversionError: The clip cannot be read as a whole.
        DatasetError: The disk refuses.
    """
    opened = {DICOM: _open_dicom, VIDEO: _open_video, NIFTI: _open_nifti}[job.file.kind](job)
    temporary: list[Path] = []
    try:
        count, spacing_mm, spacing_from = 0, opened.spacing_mm, opened.spacing_from
        per_frame = job.per_frame or not job.format.reads_volumes
        for frames in _parts(opened, 1 if per_frame else _PART_FRAMES):
            if spacing_mm is None:
                spacing_mm = nominal_spacing_mm(job.format.depth_mm, frames.shape[1], opened.aspect)
                spacing_from = NOMINAL_DEPTH
            path = job.folder / f".tmp_{job.name}_{len(temporary)}{job.format.file_ending}"
            temporary.append(path)
            job.format.write(path, frames[0] if per_frame else frames, spacing_mm)
            count += len(frames)
        if not count:
            raise ConversionError("holds no frame")
        clip = Clip(
            patient=job.patient,
            view=job.file.view,
            source=job.file.kind,
            cases=_case_names(job.name, len(temporary), per_frame),
            layout="frames" if per_frame else "volume",
            frames=count,
            frame_times_s=opened.times_s,
            frame_times_from=opened.times_from,
            spacing_mm=spacing_mm,
            spacing_from=spacing_from,
            flags=(*opened.flags, *_lost_end(opened.times_s or (), opened.end_s)),
            exam=job.exam,
        )
        for path, case in zip(temporary, clip.cases, strict=True):
            path.replace(image_file(job.folder, case, job.format.file_ending))
        return clip
    except OSError as problem:
        raise DatasetError(f"Cannot write {job.folder}: {problem}. Is the disk full or write-protected?") from problem
    except (ConversionError, DatasetError):
        raise
    except Exception as problem:  # whatever a decoder raises
        raise ConversionError(f"cannot be read: {type(problem).__name__}") from None
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _case_names(name: str, count: int, per_frame: bool) -> tuple[str, ...]:
    if per_frame:
        return tuple(f"{name}_frame{number:04d}" for number in range(count))
    return (name,) if count == 1 else tuple(f"{name}_part{number:02d}" for number in range(count))


def _parts(opened: _Opened, limit: int) -> Iterator[NDArray[Any]]:
    """Yield arrays (t, rows, cols) of as equal a length as can be, since nnU-Net normalizes each by itself."""
    first = next(opened.frames, None)
    if first is None:
        return
    limit = max(1, min(limit, _PART_PIXELS // first.size))
    parts = math.ceil(max(opened.length, 1) / limit)
    size = math.ceil(max(opened.length, 1) / parts)
    frames: list[NDArray[Any]] = []
    for number, frame in enumerate(itertools.chain([first], opened.frames)):
        if frame.shape != first.shape:
            raise ConversionError(f"frame {number} has {frame.shape} pixels, the first one {first.shape}")
        if frame.dtype.kind not in "iub" and not np.isfinite(frame).all():
            raise ConversionError(f"frame {number} holds NaN or infinite values")
        frames.append(frame)
        if len(frames) == size:
            yield np.stack(frames)
            frames = []
    if frames:
        yield np.stack(frames)


def _open_dicom(job: ClipJob) -> _Opened:
    clip = read_dicom_header(job.file.path)
    opened = _Opened(clip.frames(None, job.keep_whole_frame), clip.length)
    if clip.region is not None:
        opened.spacing_mm, opened.spacing_from = clip.region.spacing_mm, "SequenceOfUltrasoundRegions"
    else:
        opened.flags.append(f"{clip.region_problem}: spacing unknown, nothing cut")
    if clip.frame_times_ms is not None:
        opened.times_s = tuple(time / 1000 for time in clip.frame_times_ms)
        opened.times_from = clip.frame_times_from
    return opened


def _open_nifti(job: ClipJob) -> _Opened:
    video = read_nifti_header(job.file.path)
    opened = _Opened(video.frames(), video.length)
    if video.spacing_mm is not None:
        opened.spacing_mm, opened.spacing_from = video.spacing_mm, "header"
    if video.step_s is not None:
        opened.times_s = tuple(number * video.step_s for number in range(video.length))
        opened.times_from = "header"
    return opened


def _open_video(job: ClipJob) -> _Opened:
    video = read_video_header(job.file.path)
    opened = _Opened(iter(()), video.length)
    opened.frames = _video_frames(video, opened)
    return opened


def _video_frames(video: Video, opened: _Opened) -> Iterator[NDArray[Any]]:
    """Yield the frames, and fill in the shape of their pixels, their times and what is missing at the end."""
    times: list[float | None] = []
    for frame, time, opened.aspect in video.frames():
        times.append(time)
        yield frame
    known = [time for time in times if time is not None]
    if len(known) == len(times) and all(a < b for a, b in itertools.pairwise(known)):
        opened.times_s = tuple(time - known[0] for time in known)
        opened.end_s = None if video.end_s is None else video.end_s - known[0]
    elif video.frames_per_s:
        opened.times_s = tuple(number / video.frames_per_s for number in range(len(times)))
        opened.flags.append("frame times by the mean frame rate: those of the frames do not increase")
    if opened.times_s is not None:
        opened.times_from = "container"
    missing = video.length + video.lost - len(times)
    if missing > 0:
        opened.flags.append(f"{missing} of {video.length + video.lost} frames are missing, perhaps between others")


def _lost_end(times_s: Sequence[float], end_s: float | None) -> list[str]:
    """Flag that frames are lost before the end that the container states; `find_beats` sees gaps between frames."""
    if end_s is None or len(times_s) < 2:
        return []
    usual, missing = float(np.median(np.diff(times_s))), end_s - times_s[-1]
    if missing <= longest_step(usual):
        return []
    return [f"no frame for {missing:.2f} s after the last, frame {len(times_s) - 1}; most follow by {usual:.3f} s"]
