"""A manifest is written only where it can be and where it is true: not beside labels that were preprocessed before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from facts import says
from raw_folders import Drawn, label_array, snapshot, write_dataset, write_image

from nnunet_partial.cli import main
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.labels import MANIFEST_NAME

DECLARE = ["declare", "-d", "220", "--match", "*", "LV", "LA", "--overwrite"]


@pytest.fixture
def preprocessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a data set is preprocessed in which LA is drawn in A, but not in B."""
    for place in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{place}", str(tmp_path / place))
    cases = [Drawn("A_1", [1, 2]), Drawn("A_2", [1, 2]), Drawn("B_1", [1]), Drawn("B_2", [1])]
    dataset = write_dataset(tmp_path / "raw", "Dataset220_Echo", {"LV": 1, "LA": 2}, cases)
    folder = tmp_path / "preprocessed" / "Dataset220_Echo"
    shutil.copytree(dataset.folder / "labelsTr", folder / "gt_segmentations")
    return folder


def raw_of(preprocessed: Path) -> RawDataset:
    return RawDataset(preprocessed.parents[1] / "raw" / preprocessed.name)


def test_preprocessing_needs_no_repeating_while_the_labels_are_the_same(preprocessed: Path) -> None:
    assert main(DECLARE) == 0
    written = raw_of(preprocessed).folder / MANIFEST_NAME
    assert (preprocessed / MANIFEST_NAME).read_bytes() == written.read_bytes()


def test_labels_drawn_after_preprocessing(preprocessed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody draws LA in B. Trained on what was preprocessed, LA would be background in B_1 and B_2, as if known."""
    raw = raw_of(preprocessed).folder
    for name in ("B_1", "B_2"):
        write_image(raw / "labelsTr" / f"{name}.nii.gz", label_array(Drawn(name, [1, 2])))
    before = snapshot(preprocessed.parents[1])
    assert main(DECLARE) == 1
    assert snapshot(preprocessed.parents[1]) == before
    said = capsys.readouterr().err
    assert said == says("Dataset220_Echo", "2 case(s) have other label files: B_1, B_2", "preprocess it again")
    assert said.endswith("Then declare.\n")
    shutil.rmtree(preprocessed / "gt_segmentations")  # what nnU-Net's preprocessing puts there again
    shutil.copytree(raw / "labelsTr", preprocessed / "gt_segmentations")
    assert main(DECLARE) == 0


def test_a_folder_that_is_closed(
    preprocessed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before the label files are read. (Nothing is closed to root, whom the tests may run as.)"""
    raw = raw_of(preprocessed).folder
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != raw)
    assert main(DECLARE) == 1
    assert capsys.readouterr().err == says("declare:", f"{raw} is not writable", "partial_labels.json")


def test_what_stands_in_the_way_of_the_file(preprocessed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = raw_of(preprocessed).folder / MANIFEST_NAME
    target.unlink()
    target.mkdir()
    assert main(DECLARE) == 1
    said = capsys.readouterr().err
    assert said == says(f"declare: {target} cannot be written", "Is a directory")
    assert not (preprocessed / MANIFEST_NAME).exists()
