"""clips.json: read as it was written, or refused with the name of the clip."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.facts import says

from nnunet_partial.clips.records import CLIPS_NAME, Clip, read_clips_json, write_clips_json
from nnunet_partial.errors import DatasetError

CLIP = Clip(
    patient="p1",
    view="4CH",
    source="DICOM",
    cases=("a_part00", "a_part01"),
    layout="volume",
    frames=3,
    frame_times_s=(0.0, 0.02, 0.05),
    frame_times_from="FrameTimeVector",
    spacing_mm=(0.5, 0.4),
    spacing_from="SequenceOfUltrasoundRegions",
    flags=("a flag",),
    exam="e1",
)
BARE = Clip(None, None, "video", ("b",), "volume", 7, None, None, None, None)


def changed(folder: Path, **values: Any) -> Path:
    write_clips_json(folder, {"a": CLIP})
    content = json.loads((folder / CLIPS_NAME).read_text())
    content["clips"]["a"].update(values)
    (folder / CLIPS_NAME).write_text(json.dumps(content))
    return folder


def test_clips_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_clips_json(tmp_path, {"b": BARE, "a": CLIP})
    assert read_clips_json(tmp_path) == {"a": CLIP, "b": BARE}
    assert list(read_clips_json(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"frames": 4}, ("frame_times_s", "3", "4")),
        ({"frames": "3"}, ("frames", "'3'")),
        ({"frame_times_s": [0, 2, 1]}, ("frame_times_s",)),
        ({"frame_times_s": [0, 1, "2"]}, ("frame_times_s",)),
        ({"spacing_mm": [0.5]}, ("spacing_mm", "1")),
        ({"spacing_mm": [0.5, -1]}, ("spacing_mm", "-1")),
        ({"cases": []}, ("cases",)),
        ({"cases": "a"}, ("cases",)),
        ({"cases": ["a", "a"]}, ("cases",)),
        ({"layout": "frames"}, ("3", "2", "frames")),
        ({"layout": None}, ("layout",)),
        ({"source": "MRI"}, ("source", "MRI")),
        ({"view": 4}, ("view", "4")),
    ],
)
def test_a_broken_clip_is_named(tmp_path: Path, values: dict[str, Any], facts: tuple[str, ...]) -> None:
    with pytest.raises(DatasetError) as problem:
        read_clips_json(changed(tmp_path, **values))
    assert str(problem.value) == says("clips.json", "clip a", *facts)


def test_a_case_belongs_to_one_clip(tmp_path: Path) -> None:
    write_clips_json(tmp_path, {"a": CLIP, "b": replace(BARE, cases=("a_part01",))})
    with pytest.raises(DatasetError, match="a_part01"):
        read_clips_json(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "clips": []}', '{"version": 2, "clips": {}}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CLIPS_NAME).write_text(text)
    with pytest.raises(DatasetError, match=CLIPS_NAME):
        read_clips_json(tmp_path)


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nnunet_partial frames"):
        read_clips_json(tmp_path)
