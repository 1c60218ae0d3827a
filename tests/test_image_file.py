"""Values read from a file stay what they were when its image is gone, and none that is no number is read as one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_partial.dataset.images import (
    NiftiHeader,
    inspect_image,
    parse_nifti_header,
    read_array,
    require_whole_nifti,
)


def test_values_outlive_the_image_they_were_read_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = {}
    for number in range(20):
        written[tmp_path / f"{number}.nii.gz"] = array = rng.integers(0, 4, (24, 20 + number)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{number}.nii.gz"))
    for _ in range(5):
        read = {path: read_array(path)[1] for path in written}  # all of them kept: freed memory would be used again
        for path, array in written.items():
            assert np.array_equal(read[path], array)


def test_look_gives_geometry_and_values(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.array([[0, 0, 3], [1, 1, 0]], np.uint8))
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    facts = inspect_image(tmp_path / "a.nii.gz", with_values=True)
    assert facts.problem is None
    assert facts.geometry is not None
    assert (facts.geometry.size, facts.geometry.spacing_mm) == ((3, 2), (0.5, 0.25))
    assert facts.values == (0, 1, 3)


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
@pytest.mark.parametrize("offset", [352, 2**20 + 352])
def test_each_number_of_a_nifti_file_is_looked_at(tmp_path: Path, dtype: str, offset: int) -> None:
    """First, last, and either side of the 2**20 bytes that are read at once; not what lies before and behind."""
    pixels = np.zeros(641 * 409, dtype)  # 262,169 numbers, of which 2**18 or 2**17 are read at once
    pixels[[0, -1, 2**20 // pixels.itemsize - 1, 2**20 // pixels.itemsize]] = np.nan, np.inf, -np.inf, np.nan
    order, no_number = dtype[0], np.full(3, np.nan, dtype).tobytes()
    header = bytearray(348)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 2, 641, 409, 1, 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, {"f4": 16, "f8": 64}[dtype[1:]], 8 * pixels.itemsize)
    struct.pack_into(order + "f", header, 108, offset)
    before = (no_number * offset)[: offset - len(header)]
    (tmp_path / "a.nii").write_bytes(bytes(header) + before + pixels.tobytes() + no_number)
    with pytest.raises(OSError, match=r"4 pixel\(s\) .*NaN or infinite"):
        require_whole_nifti(tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes(bytes(header) + before + np.zeros_like(pixels).tobytes() + no_number)
    require_whole_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("order", "<>")
def test_a_nifti_header_in_either_byte_order(order: str) -> None:
    start = bytearray(348)
    struct.pack_into(order + "i", start, 0, 348)
    struct.pack_into(order + "8h", start, 40, 3, 5, 4, 2, 1, 1, 1, 1)
    struct.pack_into(order + "2h", start, 70, 16, 32)  # float32
    struct.pack_into(order + "4f", start, 76, 1, 0.25, 0.5, 1)
    struct.pack_into(order + "3f", start, 108, 352, 2, -1)
    start[344:348] = b"n+1\0"
    parsed = parse_nifti_header(bytes(start))
    assert parsed == NiftiHeader(order, 3, (5, 4, 2, 1, 1, 1, 1), 16, 32, (0.25, 0.5), 352, 2, -1, single_file=True)
    assert parse_nifti_header(bytes(348)) is None
