"""Where data sets lie, what they are called, and what is in their folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.raw_datasets import Drawn, list_files, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_partial.dataset.raw import RawDataset, dataset_name, find_dataset, nnunet_folder
from nnunet_partial.errors import DatasetError, ManifestError


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in ("Dataset001_A", "Dataset501_CAMUS", "Dataset502_Echo", "Dataset502_Other"):
        (tmp_path / name).mkdir()
    (tmp_path / "Dataset503_File").touch()
    return tmp_path


def test_a_folder_of_nnunet(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nnunet_folder("nnUNet_raw") == raw
    for value in ("", None):
        monkeypatch.setenv("nnUNet_raw", value) if value is not None else monkeypatch.delenv("nnUNet_raw")
        with pytest.raises(DatasetError, match="nnUNet_raw is not set"):
            nnunet_folder("nnUNet_raw")


@pytest.mark.parametrize("dataset", [501, "501", "Dataset501_CAMUS"])
def test_a_data_set_by_id_or_name(raw: Path, dataset: int | str) -> None:
    assert find_dataset(dataset) == raw / "Dataset501_CAMUS"


@pytest.mark.parametrize("dataset", [1, "1", "001", "Dataset001_A"])
def test_short_ids_have_three_digits(raw: Path, dataset: int | str) -> None:
    assert find_dataset(dataset) == raw / "Dataset001_A"


@pytest.mark.parametrize(
    ("dataset", "match"),
    [
        (502, "id 502: Dataset502_Echo, Dataset502_Other"),
        (503, "There is no dataset 503"),
        (7, "no dataset 7 .*: Dataset001_A, Dataset501_CAMUS"),
        ("Dataset501_CAMU", "There is no dataset Dataset501_CAMU"),
        ("CAMUS", "expected an id such as 501 or a name"),
        ("-1", "expected an id such as 501 or a name"),
        ("", "expected an id such as 501 or a name"),
        ("²", "expected an id such as 501 or a name"),
    ],
)
def test_data_sets_that_are_not_found(dataset: int | str, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        find_dataset(dataset)


def test_no_raw_folder_at_all(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(raw / "missing"))
    with pytest.raises(DatasetError, match="There: none"):
        find_dataset(501)


def test_names() -> None:
    assert dataset_name(1, "A") == "Dataset001_A"
    assert dataset_name(999, "Echo-2_b") == "Dataset999_Echo-2_b"


@pytest.mark.parametrize("number", [0, -1, 1000])
def test_ids_out_of_range(number: int) -> None:
    with pytest.raises(DatasetError, match=f"id is {number}; expected 1 to 999"):
        dataset_name(number, "A")


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", "ä", "a.b", "a\n"])
def test_names_that_are_no_plain_file_names(name: str) -> None:
    with pytest.raises(DatasetError, match="expected letters, digits"):
        dataset_name(1, name)


@settings(deadline=None, derandomize=True)
@given(st.integers(-5, 1005), st.text(max_size=6))
def test_a_name_never_leaves_its_folder(number: int, name: str) -> None:
    try:
        found = dataset_name(number, name)
    except DatasetError:
        return
    assert Path("/raw", found).resolve().parent == Path("/raw")


def test_the_files_of_a_data_set(raw: Path) -> None:
    cases = [Drawn("b_x", [1]), Drawn("a", [1]), Drawn("t", [1], part="Ts")]
    dataset = write_dataset(raw, "Dataset007_X", {"LV": 1, "ignore": 2}, cases, channels=("t1", "t2"))
    for name in ("imagesTr/noise.nii.gz", "imagesTr/a_000.nii.gz", "imagesTr/.tmp_a_0000.nii.gz", "labelsTr/a.txt"):
        (dataset.folder / name).touch()
    assert dataset.classes == ("LV",)
    assert dataset.ignore_label == 2
    assert dataset.file_ending == ".nii.gz"
    assert list(dataset.label_files()) == ["a", "b_x"]
    images = dataset.image_files()
    assert list(images) == ["a", "b_x"]
    assert [path.name for path in images["b_x"]] == ["b_x_0000.nii.gz", "b_x_0001.nii.gz"]
    assert list(dataset.label_files("Ts")) == list(dataset.image_files("Ts")) == ["t"]


def test_folders_that_are_not_there_are_empty(raw: Path) -> None:
    dataset = write_dataset(raw, "Dataset007_X", {"LV": 1}, [])
    assert dataset.label_files() == dataset.image_files("Ts") == {}


@pytest.mark.parametrize("content", ["[]", "{}", '{"file_ending": 1}'])
def test_a_dataset_json_of_something_else(raw: Path, content: str) -> None:
    (raw / "Dataset001_A" / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=r"no 'file_ending'.* nnU-Net v2"):
        _ = RawDataset(raw / "Dataset001_A").file_ending


def test_without_dataset_json_and_manifest(raw: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json does not exist"):
        _ = RawDataset(raw / "Dataset001_A").classes
    with pytest.raises(ManifestError, match=r"partial_labels\.json does not exist"):
        _ = RawDataset(raw / "Dataset001_A").manifest


def test_files_that_dataset_json_lists_count_instead_of_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [Drawn("a", [1]), Drawn("b", [1]), Drawn("c", [1], part="Ts")]
    dataset = write_dataset(tmp_path, "Dataset001_A", {"LV": 1}, cases)
    list_files(dataset, tmp_path / "elsewhere")
    monkeypatch.setenv("SCANS", str(tmp_path / "elsewhere"))
    file = dataset.folder / "dataset.json"
    content = json.loads(file.read_text())
    content["dataset"]["a"]["images"] = ["$SCANS/scan0-0.nii.gz"]
    file.write_text(json.dumps(content))
    dataset = RawDataset(dataset.folder)
    folder = tmp_path / "elsewhere"
    assert dataset.label_files() == {"a": folder / "mask0.nii.gz", "b": folder / "mask1.nii.gz"}
    assert dataset.image_files() == {"a": [folder / "scan0-0.nii.gz"], "b": [folder / "scan1-0.nii.gz"]}
    theirs = get_filenames_of_train_images_and_targets(str(dataset.folder))
    assert {case: Path(files["label"]) for case, files in theirs.items()} == dataset.label_files()
    assert {case: list(map(Path, files["images"])) for case, files in theirs.items()} == dataset.image_files()
    assert list(dataset.label_files("Ts")) == ["c"]


@pytest.mark.parametrize(
    "listed", [["a"], {"a": "a.nii.gz"}, {"a": {"images": [], "label": "a"}}, {"a": {"images": ["a"], "label": None}}]
)
def test_a_list_of_files_that_is_none_is_refused(tmp_path: Path, listed: Any) -> None:
    dataset = write_dataset(tmp_path, "Dataset001_A", {"LV": 1}, [Drawn("a", [1])], dataset=listed)
    with pytest.raises(DatasetError, match="'dataset'"):
        dataset.label_files()
