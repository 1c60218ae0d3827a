"""Clips broken at random, read as `frames` reads them: written whole, or refused with an error of ours, in time.

A few in an ordinary run; CLIPS_TO_BREAK=10000 breaks as many.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_files import IDENTITY, region, write_dicom
from helpers.source_datasets import write_video
from nnunet_partial.dataset_conversion.readers.isolated import Crashed, IsolatedPool
from pydicom import uid

from nnunet_partial.clips.frames import DICOM, VIDEO, ClipFile, ClipJob, import_readers, write_clip
from nnunet_partial.clips.images import ImageFormat
from nnunet_partial.clips.records import Clip
from nnunet_partial.errors import ConversionError, PartialLabelError

COUNT = int(os.environ.get("CLIPS_TO_BREAK", "60"))
FORMAT = ImageFormat(".nii.gz", True, True, 150.0)
#: No file may take longer.
SECONDS = 10.0


def sound(folder: Path) -> list[tuple[str, bytes]]:
    """Clips of each kind, by their ending."""
    rows, cols = np.mgrid[:24, :32]
    colors = np.stack([np.stack([4 * rows, 3 * cols, 200 - rows + 9 * t], axis=-1) for t in range(4)]).astype(np.uint8)
    inside = [region((2, 21), (4, 27), (0.05, 0.04))]
    gray = {"FrameTimeVector": [0, 30, 30, 30]}
    for name, frames, options in (
        ("raw", colors[..., 0], gray),
        ("rle", colors[..., 0], {"syntax": uid.RLELossless, "CineRate": 25}),
        ("jpeg", colors, {"kind": "YBR_FULL_422", "syntax": uid.JPEGBaseline8Bit, "FrameTime": 40}),
        ("jpeg2000", colors[..., 0], {"syntax": uid.JPEG2000Lossless, "FrameTime": 40}),
    ):
        write_dicom(folder / f"{name}.dcm", frames, inside, **options)
    write_video(folder / "a.avi", 6)
    write_video(folder / "b.avi", 6, codec="mpeg4")
    write_video(folder / "c.avi", 6)
    write_video(folder / "d.avi", 6, codec="mpeg4")
    return [(path.suffix, path.read_bytes()) for path in sorted(folder.iterdir())]


def damage(chance: random.Random, content: bytes) -> bytes:
    """One to five accidents, at the beginning as often as anywhere; a tenth of the files is cut off besides."""
    broken = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        start = chance.randrange(min(len(broken), chance.choice([64, 600, len(broken)])) or 1)
        length = chance.choice([1, 1, 2, 4, 8, 40])
        new = chance.choice(
            [b"", b"\0" * length, b"\xff" * length, chance.randbytes(length), bytes(broken[start:][:length]) * 2]
        )
        broken[start : start + (length if chance.random() < 0.8 else 0)] = new
    return bytes(broken[: chance.randrange(len(broken) + 1)]) if chance.random() < 0.1 else bytes(broken)


@pytest.mark.slow
def test_broken_clips_are_read_or_refused(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("CLIPS_SEED", "0")))
    (tmp_path / "sound").mkdir()
    whole, out = sound(tmp_path / "sound"), tmp_path / "out"
    out.mkdir()
    took: list[float] = []
    results: list[object] = []
    with IsolatedPool(1, import_readers) as pool:
        for number in range(COUNT):
            ending, content = whole[number % len(whole)]
            path = tmp_path / f"m{number}{ending}"
            path.write_bytes(damage(chance, content))
            kind = DICOM if ending == ".dcm" else VIDEO
            started = time.monotonic()
            file = ClipFile(path, path.name, kind)
            job = ClipJob(file, path.stem, None, None, out, FORMAT, False, True)
            (result,) = pool.map(write_clip, [(job,)], [SECONDS])
            took.append(time.monotonic() - started)
            results.append(result)
            written = sorted(out.iterdir())
            if isinstance(result, Clip):
                assert [found.name for found in written] == [f"{case}_0000.nii.gz" for case in result.cases]
            else:
                assert isinstance(result, PartialLabelError), (path, result)  # and no crash, and not too late
                assert not any(value in str(result) for value in IDENTITY.values())
                assert written == []
            for found in written:
                found.unlink()
            path.unlink()
    kinds = [type(result) for result in results]
    print(f"{len(kinds)} files: {kinds.count(Clip)} read, {kinds.count(ConversionError)} refused, "
          f"{kinds.count(Crashed)} crashed; {max(took[1:]):.2f} s at most, {sum(took):.0f} s in all")  # fmt: skip
    assert set(kinds) == {Clip, ConversionError}
    assert all(seconds < SECONDS for seconds in took[1:])  # the first starts the process
