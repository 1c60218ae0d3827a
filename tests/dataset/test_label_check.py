"""Label files against what their cases declare, and the memory of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.facts import says
from helpers.raw_datasets import Drawn, write_dataset, write_image

from nnunet_partial.dataset.label_check import (
    CACHE_NAME,
    LabelCache,
    LabelFile,
    check_label_files,
    inspect_label_files,
)
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import CaseLabels

CLASSES = ("LV", "MYO")


def label_files(dataset: RawDataset, ignore: int | None = None) -> list[LabelFile]:
    find = dataset.manifest.find
    return [LabelFile(case, path, find(case), CLASSES, ignore) for case, path in dataset.label_files().items()]


def lines(dataset: RawDataset, ignore: int | None = None, processes: int = 1) -> list[str]:
    infos = inspect_label_files(label_files(dataset, ignore), processes)
    return [info.problem for info in infos if info.problem]


def problem_of(path: Path, labels: CaseLabels | None = None) -> str | None:
    """Return what is wrong with the label file of a case "a"."""
    (info,) = inspect_label_files([LabelFile("a", path, labels or CaseLabels(("LV",)), CLASSES, None)])
    return info.problem


def one_case(tmp_path: Path, values: list[float], annotated: list[str], **entry: list[str]) -> RawDataset:
    case = Drawn("a", values, {"annotated": annotated, **entry})
    return write_dataset(tmp_path, "Dataset001_A", {"LV": 1, "MYO": 2}, [case])


def test_what_is_declared_may_be_drawn_or_left_empty(tmp_path: Path) -> None:
    assert lines(one_case(tmp_path, [0, 1], ["LV", "MYO"])) == []


def test_a_class_that_the_case_does_not_declare(tmp_path: Path) -> None:
    assert lines(one_case(tmp_path, [1, 2], ["LV"])) == ["a: MYO present, but declared as annotated: LV"]


def test_a_class_declared_absent_is_not_annotated(tmp_path: Path) -> None:
    assert lines(one_case(tmp_path, [2], [], absent=["MYO"])) == ["a: MYO present, but declared as annotated: nothing"]


def test_a_filled_class_may_be_in_the_file(tmp_path: Path) -> None:
    assert lines(one_case(tmp_path, [1, 2], ["LV"], pseudo=["MYO"])) == []


def test_a_value_that_the_data_set_does_not_have(tmp_path: Path) -> None:
    (line,) = lines(one_case(tmp_path, [1, 3, 7], ["LV"]))
    assert line == says("a:", "holds 3, 7", "dataset.json", "(0 background, 1 LV, 2 MYO)")


def test_the_ignore_label_belongs_to_nobody(tmp_path: Path) -> None:
    dataset = one_case(tmp_path, [1, 3], ["LV"])
    assert lines(dataset, ignore=3) == []
    assert len(lines(dataset, ignore=None)) == 1


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_numbers_that_are_not_whole(tmp_path: Path, value: float) -> None:
    # .mha: ITK reads NaN in a NIfTI file as 0
    write_image(tmp_path / "a.mha", np.array([[1, value]], np.float32))
    assert problem_of(tmp_path / "a.mha") == f"a: the label file holds {value}, expected integers"


def test_nan_in_a_nifti_file_is_not_taken_for_background(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", np.array([[1, float("nan"), float("inf")]], np.float64))
    assert problem_of(tmp_path / "a.nii.gz") == says("a:", "cannot be read", "2 pixel(s)", "NaN or infinite")


def test_whole_numbers_stored_as_floats_are_fine(tmp_path: Path) -> None:
    dataset = one_case(tmp_path, [1], ["LV"])
    write_image(dataset.label_files()["a"], np.ones((8, 6), np.float32))
    assert lines(dataset) == []


def test_a_case_without_entry(tmp_path: Path) -> None:
    path = one_case(tmp_path, [1], ["LV"]).label_files()["a"]
    (info,) = inspect_label_files([LabelFile("a", path, None, CLASSES, None)])
    assert info.problem == "a: has no entry in partial_labels.json"


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".png"])
def test_half_a_file_is_noticed(tmp_path: Path, ending: str) -> None:
    # ITK itself reads half a NIfTI file as if the rest were background
    path = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8)
    write_image(path, noise)
    assert problem_of(path) is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(problem_of(path)).startswith("a: the label file cannot be read: ")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path, np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum at the end
    path.write_bytes(content)
    assert problem_of(path) == says("a:", "cannot be read", "CRC check failed")


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_no_image_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    assert str(problem_of(path)).startswith("a: the label file cannot be read: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert str(problem_of(tmp_path / "a.nii.gz")).startswith("a: the label file cannot be read: ")


def test_a_color_picture(tmp_path: Path) -> None:
    import SimpleITK as sitk

    path = tmp_path / "a.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 6, 3), np.uint8), isVector=True), str(path))
    assert problem_of(path) == says("a:", "3 values per pixel", "not one")


def test_three_dimensions(tmp_path: Path) -> None:
    case = Drawn("a", [1, 2], {"annotated": ["LV"]}, shape=(4, 5, 6))
    (line,) = lines(write_dataset(tmp_path, "Dataset001_A", {"LV": 1, "MYO": 2}, [case]))
    assert "MYO present" in line


@pytest.mark.slow
def test_several_processes_say_the_same_in_the_same_order(tmp_path: Path) -> None:
    # 70 cases, each third draws MYO without saying so: cases 0, 3, ..., 69 are 24
    cases = [Drawn(f"c{i:02d}", [1, 2] if i % 3 == 0 else [1], {"annotated": ["LV"]}) for i in range(70)]
    dataset = write_dataset(tmp_path, "Dataset001_A", {"LV": 1, "MYO": 2}, cases)
    found = lines(dataset, processes=2)
    assert found == lines(dataset)
    assert [line[:3] for line in found] == [f"c{i:02d}" for i in range(0, 70, 3)]


def test_require_declared_names_the_first_ten_and_counts_the_rest(tmp_path: Path) -> None:
    cases = [Drawn(f"c{i:02d}", [2], {"annotated": ["LV"]}) for i in range(12)]
    dataset = write_dataset(tmp_path, "Dataset001_A", {"LV": 1, "MYO": 2}, cases)
    with pytest.raises(ManifestError, match=r"12 of 12 label files(.|\n)*c00: MYO(.|\n)*c09: MYO(.|\n)*and 2 more"):
        check_label_files(label_files(dataset))


def test_require_declared_is_silent_where_all_is_well(tmp_path: Path) -> None:
    check_label_files(label_files(one_case(tmp_path, [1], ["LV"])))


@pytest.fixture
def remembered(tmp_path: Path) -> tuple[Path, Path, Path, str]:
    dataset = one_case(tmp_path, [1], ["LV"])
    where = (
        tmp_path / "preprocessed" / CACHE_NAME,
        dataset.folder / "partial_labels.json",
        dataset.folder / "labelsTr",
        ".nii.gz",
    )
    assert not LabelCache(*where).is_valid()
    LabelCache(*where).write()
    return where


def test_what_was_checked_is_remembered(remembered: tuple[Path, Path, Path, str]) -> None:
    assert LabelCache(*remembered).is_valid()


def test_the_memory_names_no_case(remembered: tuple[Path, Path, Path, str]) -> None:
    content = json.loads(remembered[0].read_text())
    sums = {"manifest_sha256", "cases_sha256", "label_files_sha256", "raw_label_files_sha256"}
    assert set(content) == {"version", "labels", "contents", *sums}


def test_other_cases_and_a_raw_folder_that_changed_are_looked_at_again(
    remembered: tuple[Path, Path, Path, str], tmp_path: Path
) -> None:
    raw = {"a": tmp_path / "raw" / "a.nii.gz"}
    raw["a"].parent.mkdir()
    raw["a"].touch()
    assert not LabelCache(*remembered, ["a"]).is_valid()
    (remembered[2] / "b.nii.gz").write_bytes(b"b")
    LabelCache(*remembered, ["b", "a"], raw).write()
    assert LabelCache(*remembered, ["a", "b"], raw).is_valid()
    assert not LabelCache(*remembered, ["a"], raw).is_valid()
    assert not LabelCache(*remembered, ["a", "b"]).is_valid()
    raw["a"].write_bytes(b"longer")
    assert not LabelCache(*remembered, ["a", "b"], raw).is_valid()


def test_the_content_of_label_files_is_remembered_by_case(remembered: tuple[Path, Path, Path, str]) -> None:
    (remembered[2] / "b.nii.gz").write_bytes(b"b")
    read = LabelCache(*remembered, ["b", "a"])
    read.write()
    (remembered[2] / "b.nii.gz").touch()
    again = LabelCache(*remembered, ["a", "b"])
    assert not again.is_valid()
    assert again.contents == read.contents  # the time is none of the content
    assert read.contents["b"] == hashlib.sha256(b"b").hexdigest()[:16]
    again.write()
    assert LabelCache(*remembered, ["a", "b"]).contents == read.contents
    (remembered[2] / "b.nii.gz").write_bytes(b"c")
    assert {c for c, h in LabelCache(*remembered, ["a", "b"]).contents.items() if h != read.contents[c]} == {"b"}


def test_a_changed_manifest_is_looked_at_again(remembered: tuple[Path, Path, Path, str]) -> None:
    remembered[1].write_text(remembered[1].read_text() + "\n")
    assert not LabelCache(*remembered).is_valid()


def test_changed_labels_in_dataset_json_are_looked_at_again(remembered: tuple[Path, Path, Path, str]) -> None:
    file = remembered[1].parent / "dataset.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "description": "new"}))
    assert LabelCache(*remembered).is_valid()
    file.write_text(json.dumps({**content, "labels": {"background": 0, "MYO": 1, "LV": 2}}))
    assert not LabelCache(*remembered).is_valid()


def test_a_changed_label_file_is_looked_at_again(remembered: tuple[Path, Path, Path, str]) -> None:
    file = remembered[2] / "a.nii.gz"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert not LabelCache(*remembered).is_valid()


def test_a_new_and_a_missing_label_file_are_noticed(remembered: tuple[Path, Path, Path, str]) -> None:
    (remembered[2] / "note.txt").write_text("no label file")
    assert LabelCache(*remembered).is_valid()
    (remembered[2] / "b.nii.gz").write_bytes(b"")
    assert not LabelCache(*remembered).is_valid()
    (remembered[2] / "b.nii.gz").unlink()
    (remembered[2] / "a.nii.gz").unlink()
    assert not LabelCache(*remembered).is_valid()


def test_a_file_that_changes_during_the_check_is_looked_at_again(remembered: tuple[Path, Path, Path, str]) -> None:
    cache = LabelCache(*remembered, ["a"])
    assert not cache.is_valid()
    (remembered[2] / "a.nii.gz").write_bytes(b"longer than before")
    cache.write()
    assert not LabelCache(*remembered, ["a"]).is_valid()


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_broken_memory_is_none(remembered: tuple[Path, Path, Path, str], content: str) -> None:
    remembered[0].write_text(content)
    assert not LabelCache(*remembered).is_valid()


def test_missing_folders_give_no_memory(tmp_path: Path) -> None:
    where = (tmp_path / CACHE_NAME, tmp_path / "partial_labels.json", tmp_path / "labelsTr", ".nii.gz")
    assert not LabelCache(*where).is_valid()


def test_a_memory_that_cannot_be_written_is_no_error(remembered: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    LabelCache(tmp_path / "file" / CACHE_NAME, *remembered[1:]).write()


@pytest.mark.slow
def test_twenty_thousand_files_are_compared_in_well_under_a_second(tmp_path: Path) -> None:
    folder = tmp_path / "labelsTr"
    folder.mkdir()
    for number in range(20_000):
        (folder / f"case_{number:05d}.nii.gz").touch()
    (tmp_path / "partial_labels.json").write_text("{}")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0}}')
    where = (tmp_path / CACHE_NAME, tmp_path / "partial_labels.json", folder, ".nii.gz")
    LabelCache(*where).write()
    start = time.perf_counter()
    assert LabelCache(*where).is_valid()
    assert time.perf_counter() - start < 1.0


def test_neither_torch_nor_nnunet_is_imported() -> None:
    code = (
        "import sys, nnunet_partial.dataset.label_check, nnunet_partial.dataset.check, nnunet_partial.cli.check, "
        "nnunet_partial.cli.merge, nnunet_partial.dataset_conversion.derived.merge; "
        "print([m for m in ('torch', 'nnunetv2', 'SimpleITK') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
