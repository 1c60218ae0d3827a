"""Reading NIfTI frame by frame: the same numbers as SimpleITK, and a clear word for every broken file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.source_datasets import write_nifti
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_partial.dataset_conversion.readers.nifti_video import read_nifti_header

from nnunet_partial.errors import ConversionError

FRAMES = np.arange(3 * 4 * 5).reshape(3, 4, 5)


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_as_simpleitk_reads_it(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"video{ending}"
    write_nifti(path, FRAMES.astype(kind), (0.3, 0.2, 1.0))
    video = read_nifti_header(path)
    assert (video.length, video.shape, video.is_image) == (3, (4, 5), False)
    assert video.spacing_mm == pytest.approx((0.2, 0.3))
    read = np.stack(list(video.frames()))
    assert read.dtype == kind
    assert np.array_equal(read, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def test_other_byte_order_scaled_values_and_a_compressed_file_without_its_ending(tmp_path: Path) -> None:
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 0.3, 0.2, 1, 1, 1, 1, 1)
    struct.pack_into(">3f", header, 108, 352, 0.5, 10)
    header[344:348] = b"n+1\0"
    path = tmp_path / "video.nii"
    path.write_bytes(header + FRAMES.astype(">i2").tobytes())
    assert np.array_equal(np.stack(list(read_nifti_header(path).frames())), FRAMES * 0.5 + 10)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), FRAMES * 0.5 + 10)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(next(read_nifti_header(path).frames()), FRAMES[0] * 0.5 + 10)


def test_the_frames_before_the_end_of_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "video.nii"
    write_nifti(path, FRAMES.astype(np.uint8), (0.3, 0.3, 1.0))
    path.write_bytes(path.read_bytes()[: 352 + 2 * 20 + 19])
    frames = read_nifti_header(path).frames()
    assert [next(frames)[0, 0], next(frames)[0, 0]] == [0, 20]
    with pytest.raises(ConversionError, match=r"video\.nii is cut off .*2 of 3 frames"):
        next(frames)


def test_a_wrong_check_sum_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "video.nii.gz"
    write_nifti(path, FRAMES.astype(np.uint8), (0.3, 0.3, 1.0))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"broken after 3 of 3 frames: CRC check failed"):
        list(read_nifti_header(path).frames())


@pytest.mark.parametrize(
    ("offset", "form", "values", "told"),
    [
        (0, "<i", (540,), "is no NIfTI-1 file"),
        (344, "<4s", (b"ni1\0",), "is no NIfTI-1 file"),
        (40, "<8h", (4, 5, 4, 3, 2, 1, 1, 1), "has the size 5 x 4 x 3 x 2, expected columns x rows x frames"),
        (40, "<8h", (3, 5, -4, 3, 1, 1, 1, 1), "has the size 5 x -4 x 3, expected"),
        (40, "<8h", (3, 32767, 32767, 1, 1, 1, 1, 1), "has the size 32767 x 32767 x 1, expected"),
        (40, "<8h", (99, 5, 4, 3, 1, 1, 1, 1), "has the size 5 x 4 x 3 x 1 x 1 x 1 x 1, expected"),
        (70, "<h", (2304,), "has NIfTI data type 2304"),
        (108, "<f", (float("nan"),), ".* at byte nan"),
        (108, "<f", (0.0,), ".* at byte 0, expected 352"),
    ],
)
def test_headers_of_something_else(
    tmp_path: Path, offset: int, form: str, values: tuple[float | bytes, ...], told: str
) -> None:
    path = tmp_path / "video.nii"
    write_nifti(path, FRAMES.astype(np.uint8), (0.3, 0.3, 1.0))
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=f"video.nii {told}"):
        read_nifti_header(path)


@pytest.mark.slow
@settings(deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 411), st.integers(0, 255)), max_size=8), length=st.integers(0, 412))
def test_whatever_bytes_only_conversion_errors_come_out(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.nii"
    write_nifti(path, FRAMES.astype(np.uint8), (0.3, 0.3, 1.0))
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place] = value
    path.write_bytes(content[:length])
    try:
        for frame in read_nifti_header(path).frames():
            assert frame.ndim == 2
    except ConversionError:
        pass
