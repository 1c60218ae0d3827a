"""Is the sector the right way up? Triangles whose pixels can be counted, and real pictures where they are available."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from nnunet_partial.dataset_conversion.readers.images import read_image
from nnunet_partial.dataset_conversion.readers.orientation import (
    AS_STORED,
    DOUBTFUL,
    TRANSPOSED,
    is_upright,
    orientation,
)
from numpy.typing import NDArray


def triangle(rows: int = 100, cols: int = 120, half_width: float = 0.5) -> NDArray[np.uint8]:
    """A sector with its tip in the middle of the top row; row r is about 2 * half_width * r wide."""
    y, x = np.indices((rows, cols))
    return np.where(np.abs(x - cols / 2) <= y * half_width, 100, 0).astype(np.uint8)


def test_upright_on_its_side_and_upside_down() -> None:
    upright = triangle()
    assert orientation(upright) == AS_STORED
    assert orientation(upright.T) == TRANSPOSED
    assert orientation(upright[:, ::-1].T) == TRANSPOSED  # a mirror cannot be seen
    assert orientation(upright[::-1]) == DOUBTFUL
    assert orientation(upright[::-1].T) == DOUBTFUL


@pytest.mark.parametrize(("top", "upright"), [(10, True), (11, False)])
def test_the_top_has_at_most_half_the_width_of_the_bottom(top: int, upright: bool) -> None:
    picture = np.zeros((20, 40))
    picture[:, :1] = 100
    picture[:3, :top] = 100  # 15 % of 20 rows are 3
    picture[-3:, :20] = 100
    assert is_upright(picture) is upright


def test_margins_and_faint_noise_are_no_part_of_the_sector() -> None:
    picture = np.zeros((200, 120), np.uint8)
    picture[30:130] = triangle()  # black above and below: the last 15 % of all rows are empty
    noise = np.random.default_rng(0).integers(0, 6, picture.shape).astype(np.uint8)  # at most 5 of 100
    assert orientation(np.maximum(picture, noise)) == AS_STORED


@pytest.mark.parametrize("picture", [np.zeros((10, 12)), np.full((10, 12), 7), np.zeros((0, 0)), np.ones((1, 1))])
def test_pictures_without_a_sector_are_doubtful(picture: NDArray[np.float64]) -> None:
    assert orientation(picture) == DOUBTFUL


def test_real_pictures_are_upright(real_echo: Path) -> None:
    camus = real_echo / "CAMUS_public" / "database_nifti" / "patient0001"
    brightest = [read_image(camus / "patient0001_2CH_half_sequence.nii.gz")[0].max(axis=0)]
    for path in sorted((real_echo / "EchoNet-Dynamic" / "Videos").glob("*.avi")):
        with av.open(str(path)) as container:
            brightest.append(np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)]).max(axis=0))
    assert [orientation(picture) for picture in brightest] == [AS_STORED] * len(brightest)
    assert [orientation(picture[::-1]) for picture in brightest].count(AS_STORED) == 0
