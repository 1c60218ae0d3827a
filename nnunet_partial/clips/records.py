"""Read and write clips.json: which nnU-Net cases are the frames of which clip, when and how large they are.

It lies in the folder of images that `frames` writes. It names no person and no file that a clip was read from.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.biomarkers.measure import VIEW_SYNONYMS
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.files import read_json, write_json

CLIPS_NAME = "clips.json"
VERSION = 1

#: `spacing_from` where the size of a pixel is a guess: volumes are then no measurements.
NOMINAL_DEPTH = "nominal depth"

SOURCES = ("DICOM", "video", "NIfTI")
LAYOUTS = ("volume", "frames")


@dataclass(frozen=True)
class Clip:
    """Describe a clip.

    Attributes:
        patient: Key of the patient, the same for all clips of a person; None where it is not known.
        view: Such as "4CH" or "2CH"; None where it is not known.
        source: One of SOURCES.
        cases: The nnU-Net cases that the frames lie in, in the order of time.
        layout: "volume": each case is a volume whose slices are frames; "frames": each case is a frame.
        frames: Number of frames.
        frame_times_s: Time of each frame after the first one; None where it is not known.
        frame_times_from: Where the times are from, such as "FrameTime", "container" or "header"; None without times.
        spacing_mm: Height and width of a pixel; None where it is not known: the images then have 1 x 1.
        spacing_from: Where it is from: "SequenceOfUltrasoundRegions", "header" or NOMINAL_DEPTH; None without it.
        flags: What the reader noticed, in words.
        exam: Key of the examination of the patient, in which views belong together; None where it is not known.
    """

    patient: str | None
    view: str | None
    source: str
    cases: tuple[str, ...]
    layout: str
    frames: int
    frame_times_s: tuple[float, ...] | None
    frame_times_from: str | None
    spacing_mm: tuple[float, float] | None
    spacing_from: str | None
    flags: tuple[str, ...] = ()
    exam: str | None = None

    def __post_init__(self) -> None:
        """Check that the values fit together."""
        if self.source not in SOURCES or self.layout not in LAYOUTS:
            raise DatasetError(
                f"source is {self.source!r} and layout {self.layout!r}; expected one of {', '.join(SOURCES)}, and one "
                f"of {', '.join(LAYOUTS)}"
            )
        if not self.cases or len(set(self.cases)) < len(self.cases):
            raise DatasetError(f"cases is {list(self.cases)}; expected at least one, and each once")
        if self.frames < len(self.cases) or (self.layout == "frames" and self.frames > len(self.cases)):
            raise DatasetError(f"{self.frames} frames in {len(self.cases)} cases with the layout {self.layout!r}")
        times = self.frame_times_s
        if times is not None:
            if len(times) != self.frames:
                raise DatasetError(f"frame_times_s has {len(times)} numbers; expected one for each of {self.frames}")
            steps = [later - earlier for earlier, later in itertools.pairwise(times)]
            if not all(map(math.isfinite, times)) or not all(step > 0 for step in steps):
                raise DatasetError("frame_times_s does not increase from frame to frame")
        if self.spacing_mm is not None and not all(math.isfinite(mm) and mm > 0 for mm in self.spacing_mm):
            raise DatasetError(f"spacing_mm is {list(self.spacing_mm)}; expected two numbers above 0")

    def to_json(self) -> dict[str, Any]:
        """Return the entry of clips.json."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        }

    @classmethod
    def from_json(cls, content: Any) -> Clip:
        """Parse an entry of clips.json; keys of a later version are ignored.

        Args:
            content: What `to_json` returned.

        Returns:
            The clip.

        Raises:
            DatasetError: A value is missing, has another type, or does not fit the others.
        """
        if not isinstance(content, Mapping):
            raise DatasetError(f"expected an object, got {type(content).__name__}")
        spacing = _numbers(content, "spacing_mm")
        if spacing is not None and len(spacing) != 2:
            raise DatasetError(f"spacing_mm has {len(spacing)} numbers; expected [row, column]")
        return cls(
            patient=_text(content, "patient"),
            view=_text(content, "view"),
            source=str(_text(content, "source")),
            cases=_texts(content, "cases"),
            layout=str(_text(content, "layout")),
            frames=_count(content, "frames"),
            frame_times_s=_numbers(content, "frame_times_s"),
            frame_times_from=_text(content, "frame_times_from"),
            spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
            spacing_from=_text(content, "spacing_from"),
            flags=_texts(content, "flags"),
            exam=_text(content, "exam"),
        )


def normal_view(view: str | None) -> str:
    """Normalize the name of a view.

    Args:
        view: Such as "A4C"; None where it is not known.

    Returns:
        "2CH", "4CH", or the name as it was given; empty where it is not known.
    """
    return VIEW_SYNONYMS.get(view.strip().upper(), view.strip()) if view else ""


def write_clips_json(folder: Path, clips: Mapping[str, Clip]) -> None:
    """Write clips.json, whole or not at all.

    Args:
        folder: The folder of images.
        clips: Clip by name; written in the order of names.
    """
    entries = {name: clip.to_json() for name, clip in sorted(clips.items())}
    write_json(folder / CLIPS_NAME, {"version": VERSION, "clips": entries})


def read_clips_json(folder: Path) -> dict[str, Clip]:
    """Read clips.json.

    Args:
        folder: The folder of images.

    Returns:
        Clip by name, in the order of names.

    Raises:
        DatasetError: The file is missing or broken, or of another version; the message names the clip.
    """
    path = folder / CLIPS_NAME
    if not path.is_file():
        raise DatasetError(f"{folder} has no {CLIPS_NAME}; expected a folder that `nnunet_partial frames` wrote.")
    content = read_json(path, DatasetError)
    if not isinstance(content, dict) or not isinstance(content.get("clips"), dict):
        raise DatasetError(f"{path} has no object 'clips'. Write it again with `nnunet_partial frames`.")
    if content.get("version") != VERSION:
        raise DatasetError(f"{path} has version {content.get('version')!r}; expected {VERSION}.")
    clips = {}
    for name, entry in sorted(content["clips"].items()):
        try:
            clips[name] = Clip.from_json(entry)
        except DatasetError as problem:
            raise DatasetError(f"{path}: clip {name}: {problem}") from None
    _require_own_cases(path, clips)
    return clips


def _require_own_cases(path: Path, clips: Mapping[str, Clip]) -> None:
    owner: dict[str, str] = {}
    for name, clip in clips.items():
        for case in clip.cases:
            if owner.setdefault(case, name) != name:
                raise DatasetError(f"{path}: case {case} belongs to two clips, {owner[case]} and {name}")


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise DatasetError(f"{key} is {value!r}; expected text or null")
    return value


def _texts(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = content.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DatasetError(f"{key} is {values!r}; expected a list of texts")
    return tuple(values)


def _numbers(content: Mapping[str, Any], key: str) -> tuple[float, ...] | None:
    values = content.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise DatasetError(f"{key} is no list of numbers")
    return tuple(float(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _count(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DatasetError(f"{key} is {value!r}; expected an integer above 0")
    return value
