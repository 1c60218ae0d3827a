"""Reading videos: frames turned as players show them, whichever function reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from nnunet_partial.dataset_conversion.readers.video import read_frames, read_video_header
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError

ROWS, COLS = 32, 48
#: A bright mark at the top left, a gray one at the top right.
STORED = np.full((ROWS, COLS), 20, np.uint8)
STORED[:8, :16], STORED[:8, 32:] = 200, 100


def write(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Two frames, `STORED`; matrix: a, b, c, d of the track header (tkhd), in units of 1/65536."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=50, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = COLS, ROWS, "yuv420p"
        planes = np.full((ROWS * 3 // 2, COLS), 128, np.uint8)
        planes[:ROWS] = STORED
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
