"""What changed in a raw data set after it was preprocessed is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.facts import says
from helpers.toy_dataset import write_toy

from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS, describe_stale_labels


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A raw data set, and the copies that nnU-Net keeps of its label files."""
    raw, preprocessed = (tmp_path / place / "Dataset701_Toy" for place in ("raw", "preprocessed"))
    write_toy(raw)
    shutil.copytree(raw / "labelsTr", preprocessed / GT_SEGMENTATIONS)
    return raw, preprocessed


def test_nothing_changed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    raw, preprocessed = folders
    assert describe_stale_labels(raw, preprocessed) is None
    assert describe_stale_labels(raw, tmp_path / "never preprocessed") is None


def test_all_that_changed_is_named(folders: tuple[Path, Path]) -> None:
    raw, preprocessed = folders
    first, second, third, *_ = sorted((raw / "labelsTr").iterdir())
    shutil.copy(first, raw / "labelsTr" / f"new{''.join(first.suffixes)}")
    image = next((raw / "imagesTr").iterdir())
    shutil.copy(image, raw / "imagesTr" / f"new_0000{''.join(image.suffixes)}")
    second.write_bytes(third.read_bytes() + b" ")
    third.unlink()
    names = [path.name.removesuffix("".join(path.suffixes)) for path in (second, third)]
    assert describe_stale_labels(raw, preprocessed) == says(
        "Dataset701_Toy",
        "1 case(s) were added: new",
        f"1 case(s) are gone: {names[1]}",
        f"1 case(s) have other label files: {names[0]}",
        "nnUNetv2_plan_and_preprocess -d 701",
        f"Delete {preprocessed / GT_SEGMENTATIONS}",
    )


def test_a_label_file_without_an_image_is_no_case(folders: tuple[Path, Path]) -> None:
    """nnU-Net never copies it, however often it preprocesses."""
    raw, preprocessed = folders
    first = min((raw / "labelsTr").iterdir())
    shutil.copy(first, raw / "labelsTr" / f"spare{''.join(first.suffixes)}")
    assert describe_stale_labels(raw, preprocessed) is None
