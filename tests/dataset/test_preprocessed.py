"""What changed in a raw data set after it was preprocessed is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.facts import says
from helpers.toy_dataset import write_toy

from nnunet_partial.cli import main
from nnunet_partial.dataset.preprocessed import (
    GT_SEGMENTATIONS,
    describe_stale_labels,
    read_manifest,
    update_manifest,
)
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest


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


@pytest.fixture
def edited(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    """Preprocessed and started; then MYO was found unreliable in two cases of domain a, and p1 is named anew."""
    raw, preprocessed = folders
    read_manifest(preprocessed, raw)  # as the first start of a training does
    edit(raw, lambda m: [m["cases"][case].update(annotated=["LV"]) for case in ("a_p0_0", "a_p0_1")])
    edit(raw, lambda m: m["cases"]["b_p1_0"].update(absent=["MYO"], patient="p1b"))
    age(preprocessed, seconds=10)
    return raw, preprocessed


def edit(folder: Path, change: Callable[[Any], Any]) -> None:
    file = folder / MANIFEST_NAME
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def age(folder: Path, seconds: int) -> None:
    """Make a manifest older."""
    file = folder / MANIFEST_NAME
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - seconds))


def test_a_start_names_the_command_that_takes_an_edited_manifest_over(edited: tuple[Path, Path]) -> None:
    raw, preprocessed = edited
    with pytest.raises(ManifestError, match="nnunet_partial check -d 701 --update-preprocessed"):
        read_manifest(preprocessed, raw)
    assert update_manifest(raw, preprocessed) == says(
        "3 pair(s)", "MYO annotated -> unknown: 2", "MYO unknown -> absent: 1", "1 case(s)", "patient"
    )
    assert read_manifest(preprocessed, raw) == Manifest.read(raw / MANIFEST_NAME)
    assert (preprocessed / MANIFEST_NAME).read_bytes() == (raw / MANIFEST_NAME).read_bytes()
    assert "nothing was copied" in update_manifest(raw, preprocessed)


def test_an_edited_manifest_of_regions_is_taken_over(edited: tuple[Path, Path]) -> None:
    raw, preprocessed = edited
    content = json.loads((raw / "dataset.json").read_text())
    regions = {"labels": {"background": 0, "MYO": [1, 2], "LV": 1}, "regions_class_order": [2, 1]}
    (raw / "dataset.json").write_text(json.dumps({**content, **regions}))
    assert update_manifest(raw, preprocessed) == says("3 pair(s)", "MYO annotated -> unknown: 2")
    assert (preprocessed / MANIFEST_NAME).read_bytes() == (raw / MANIFEST_NAME).read_bytes()


def test_a_label_file_of_one_other_byte_is_to_be_preprocessed_again_first(edited: tuple[Path, Path]) -> None:
    raw, preprocessed = edited
    before = (preprocessed / MANIFEST_NAME).read_bytes()
    label = raw / "labelsTr" / "a_p0_0.nii.gz"
    content = label.read_bytes()
    label.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DatasetError, match=r"1 case\(s\) .*: a_p0_0\. .*nnUNetv2_plan_and_preprocess -d 701"):
        update_manifest(raw, preprocessed)
    shutil.rmtree(preprocessed / GT_SEGMENTATIONS)
    with pytest.raises(DatasetError, match="gt_segmentations does not exist"):
        update_manifest(raw, preprocessed)
    assert (preprocessed / MANIFEST_NAME).read_bytes() == before


def test_a_newer_copy_is_left_alone(edited: tuple[Path, Path]) -> None:
    raw, preprocessed = edited
    before = (preprocessed / MANIFEST_NAME).read_bytes()
    age(raw, seconds=20)
    with pytest.raises(ManifestError, match=r"is newer than .*nothing was copied") as caught:
        update_manifest(raw, preprocessed)
    assert str(caught.value).startswith(str(preprocessed / MANIFEST_NAME))
    assert (preprocessed / MANIFEST_NAME).read_bytes() == before


def test_a_broken_raw_manifest_is_not_copied(edited: tuple[Path, Path]) -> None:
    raw, preprocessed = edited
    before = (preprocessed / MANIFEST_NAME).read_bytes()
    edit(raw, lambda m: m["cases"]["a_p0_0"].pop("annotated"))
    with pytest.raises(ManifestError, match="a_p0_0"):
        update_manifest(raw, preprocessed)
    assert (preprocessed / MANIFEST_NAME).read_bytes() == before


def test_the_command_copies_and_then_checks(
    edited: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, preprocessed = edited
    monkeypatch.setenv("nnUNet_raw", str(raw.parent))
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed.parent))
    assert main(["check", "-d", "701", "-np", "1"]) == 1
    assert "check -d 701 --update-preprocessed" in capsys.readouterr().out
    assert main(["check", "-d", "701", "-np", "1", "--update-preprocessed"]) == 1
    said = capsys.readouterr().out
    assert "3 pair(s)" in said  # and the check finds what is still wrong: labels that hold what is not declared
    assert "a_p0_0: MYO present" in said
    assert "differs" not in said
    shutil.rmtree(preprocessed)
    assert main(["check", "-d", "701", "--update-preprocessed"]) == 1
    assert "nnUNet_preprocessed" in capsys.readouterr().err
