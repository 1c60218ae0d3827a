"""Values read from a file stay what they were when the image that they came from is gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_partial.image_file import look, read_array


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
    facts = look(tmp_path / "a.nii.gz", with_values=True)
    assert facts.problem is None
    assert facts.geometry is not None
    assert (facts.geometry.size, facts.geometry.spacing_mm) == ((3, 2), (0.5, 0.25))
    assert facts.values == (0, 1, 3)
