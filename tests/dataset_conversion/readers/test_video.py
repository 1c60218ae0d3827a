"""Reading videos: frames turned as players show them, whichever function reads them."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.source_datasets import write_video
from nnunet_partial.dataset_conversion.readers.video import read_frames, read_video_header
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError

ROWS, COLS = 32, 48
#: A bright mark at the top left, a gray one at the top right.
STORED = np.full((ROWS, COLS), 20, np.uint8)
STORED[:8, :16], STORED[:8, 32:] = 200, 100


def write(path: Path, matrix: tuple[int, int, int, int], stored: NDArray[np.uint8] = STORED, aspect: int = 1) -> Path:
    """Two frames; matrix: a, b, c, d of the track header (tkhd), in units of 1/65536; aspect: width / height of a
    pixel."""
    rows, cols = stored.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=50, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = cols, rows, "yuv420p"
        stream.sample_aspect_ratio = Fraction(aspect)
        planes = np.full((rows * 3 // 2, cols), 128, np.uint8)
        planes[:rows] = stored
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    a, b, c, d = matrix
    # after the name: version, flags, two times, track and reserved, duration, reserved, layer to volume: 44 bytes
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def levels(image: NDArray[np.uint8]) -> list[int]:
    """Corners from the top left with the clock: 2 bright, 1 gray, 0 dark."""
    return [int(value > 60) + int(value > 150) for value in (image[4, 4], image[4, -5], image[-5, -5], image[-5, 4])]


ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "shape", "corners"),
    [
        ((ONE, 0, 0, ONE), (32, 48), [2, 1, 0, 0]),
        ((-ONE, 0, 0, ONE), (32, 48), [1, 2, 0, 0]),  # mirrored
        ((-ONE, 0, 0, -ONE), (32, 48), [0, 0, 2, 1]),
        ((0, ONE, -ONE, 0), (48, 32), [0, 2, 1, 0]),  # a quarter with the clock: the left becomes the top
        ((0, -ONE, ONE, 0), (48, 32), [1, 0, 0, 2]),
    ],
)
def test_frames_are_turned_as_players_show_them(
    tmp_path: Path, matrix: tuple[int, int, int, int], shape: tuple[int, int], corners: list[int]
) -> None:
    path = write(tmp_path / "a.mov", matrix)
    for image in (next(read_video_header(path).frames())[0], read_frames(path, [1]).images[1]):
        assert image.shape == shape
        assert levels(image) == corners


def test_other_angles_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", (ONE // 2, ONE // 2, -ONE // 2, ONE // 2))
    with pytest.raises(ConversionError, match="270"):
        next(read_video_header(path).frames())


@pytest.mark.parametrize("stored", [STORED, STORED[:, :ROWS]])
@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((ONE, 0, 0, ONE), 2.0),
        ((-ONE, 0, 0, -ONE), 2.0),
        ((0, ONE, -ONE, 0), 0.5),  # what was wide is high, in square frames too
        ((0, -ONE, ONE, 0), 0.5),
        ((0, ONE, ONE, 0), 0.5),  # mirrored as well
    ],
)
def test_pixels_are_turned_with_their_frame(
    tmp_path: Path, matrix: tuple[int, int, int, int], expected: float, stored: NDArray[np.uint8]
) -> None:
    """Stored pixels are twice as wide as high."""
    path = write(tmp_path / "a.mov", matrix, stored, aspect=2)
    assert [aspect for _, _, aspect in read_video_header(path).frames()] == [expected] * 2
    assert read_frames(path, [1]).aspect == expected


def test_a_frame_that_is_turned_and_stretched_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", (0, ONE, -2 * ONE, 0))
    with pytest.raises(ConversionError, match=r"a\.mov .*stretched"):
        next(read_video_header(path).frames())


@pytest.mark.parametrize(
    ("name", "codec", "lost", "first"),
    [
        ("a.avi", "mjpeg", (5, 6), 5),
        ("a.avi", "mpeg4", (5, 6), 5),
        ("a.mkv", "mpeg4", (5, 6), 5),
        ("a.avi", "mjpeg", (18, 19), None),  # at the end
        ("a.mp4", "mpeg4", (5, 6), None),  # counts 18 frames, of which one is shown for longer
    ],
)
def test_frames_after_lost_ones_are_not_read_under_another_number(
    tmp_path: Path, name: str, codec: str, lost: tuple[int, ...], first: int | None
) -> None:
    """Frame i is 10 * i; the file has 18 of 20 frames."""
    write_video(tmp_path / name, 20, codec=codec, lost=lost)
    frames = read_frames(tmp_path / name, [3, 4, 5, 12, 18])
    kept = [number for number in range(20) if number not in lost]
    readable = [number for number in (3, 4, 5, 12) if first is None or number < first]
    assert {number: round(image.mean() / 10) for number, image in frames.images.items()} == {
        number: kept[number] for number in readable
    }
    assert sorted(frames.why_missing) == [number for number in (3, 4, 5, 12, 18) if number not in readable]
    assert "no frame 18" in frames.why_missing[18]
    assert all(f"before frame {first}" in frames.why_missing[number] for number in (5, 12) if number not in readable)


@pytest.mark.skipif("libx264" not in av.codecs_available, reason="FFmpeg has no encoder of H.264")
@pytest.mark.parametrize("wanted", [[3], [0, 1, 2, 3, 4, 5, 19]])
def test_frames_that_build_on_later_ones_in_a_container_without_times(tmp_path: Path, wanted: list[int]) -> None:
    """The times of an AVI follow the order in which the frames are stored."""
    write_video(tmp_path / "a.avi", 20, (64, 64), codec="libx264")
    frames = read_frames(tmp_path / "a.avi", wanted)
    assert {number: round(image.mean() / 10) for number, image in frames.images.items()} == {n: n for n in wanted}


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_frames_that_an_edit_list_hides_have_no_number(tmp_path: Path, codec: str) -> None:
    write_video(tmp_path / "a.mov", 20, codec=codec, hidden=12)
    images = read_frames(tmp_path / "a.mov", [0, 2]).images
    assert {number: round(image.mean() / 10) for number, image in images.items()} == {0: 12, 2: 14}
