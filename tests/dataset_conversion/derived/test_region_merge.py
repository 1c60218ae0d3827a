"""Datasets of regions become one: a region means the same everywhere, whatever the numbers in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.raw_datasets import Drawn, read_values, snapshot, write_dataset
from nnunet_partial.dataset_conversion.derived.merge import merge

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError

#: The ventricle lies inside the filled epicardium.
HEART = ({"EPI": [1, 2], "LV": 1}, [2, 1])


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def dataset(
    raw: Path, name: str, labels: Any, values: list[int], order: Any = None, *, annotated: Any = None, **about: Any
) -> Path:
    """A dataset of two patients whose label files hold these values, row by row."""
    names = [name for name in labels if name != "ignore"] if annotated is None else annotated
    prefix = name.partition("_")[2]
    cases = [
        Drawn(f"{prefix}_{n}", values, {"annotated": names, "domain": prefix, "patient": f"{prefix}{n}", **about})
        for n in (1, 2)
    ]
    entries = {} if order is None else {"regions_class_order": order}
    return write_dataset(raw, name, labels, cases, **entries).folder


def merged(folders: list[Path], **options: Any) -> tuple[RawDataset, dict[str, Any]]:
    out = RawDataset(merge(folders, "Dataset510_All", **options).folder)
    assert "content of the labels" not in check(out.folder).findings
    return out, json.loads((out.folder / "dataset.json").read_text())


def refused(raw: Path, folders: list[Path]) -> str:
    before = snapshot(raw)
    with pytest.raises(DatasetError) as caught:
        merge(folders, "Dataset510_All")
    assert snapshot(raw) == before
    return str(caught.value)


def test_the_same_regions_with_other_numbers(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", *HEART[:1], [0, 1, 2], HEART[1])
    b = dataset(raw, "Dataset502_B", {"EPI": [1, 2], "LV": [2]}, [0, 1, 2], [1, 2], annotated=["EPI"])
    out, content = merged([a, b])
    assert content["labels"] == {"background": 0, "EPI": [1, 2], "LV": 1}
    assert content["regions_class_order"] == [2, 1]
    assert read_values(out.label_files()["A_1"])[:3] == [0, 1, 2]
    assert read_values(out.label_files()["B_1"])[:3] == [0, 2, 1]  # its ventricle is 2
    assert out.manifest.labels_of("B_1").annotated == ("EPI",)
    assert out.label_files()["A_1"].samefile(a / "labelsTr" / "A_1.nii.gz")


def test_values_that_no_region_tells_apart_become_one(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", {"EPI": [1, 2, 3], "LV": 1}, [1, 2, 3], [2, 1])
    b = dataset(raw, "Dataset502_B", *HEART[:1], [1, 2], HEART[1])
    result = merge([a, b], "Dataset510_All")
    out = RawDataset(result.folder)
    assert read_values(out.label_files()["A_1"])[:3] == [1, 2, 2]
    assert any("2, 3" in line for line in result.warnings)


def test_an_ignore_label_is_the_highest_value(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", {**HEART[0], "ignore": 3}, [1, 2, 3], HEART[1])
    b = dataset(raw, "Dataset502_B", {"EPI": 1, "LA": 2}, [1, 2])  # LV lies inside EPI, so it is apart from LA
    out, content = merged([a, b])
    assert content["labels"] == {"background": 0, "EPI": [1, 2], "LV": 1, "LA": 3, "ignore": 4}
    assert read_values(out.label_files()["A_1"])[:3] == [1, 2, 4]
    assert read_values(out.label_files()["B_1"])[:2] == [2, 3]


def test_a_class_that_lies_inside_a_region_elsewhere(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", {"EPI": [1, 2], "LV": 1, "LA": 3}, [1, 2], [2, 1, 3], annotated=["EPI", "LV"])
    b = dataset(raw, "Dataset502_B", {"LV": 1, "LA": 2}, [1, 2])
    out, content = merged([b, a])
    assert content["labels"] == {"background": 0, "LA": 2, "EPI": [1, 3], "LV": 1}
    assert [*content["labels"]][1:] == ["LA", "EPI", "LV"]  # what is inside stands behind what is around it
    assert content["regions_class_order"] == [2, 3, 1]
    assert read_values(out.label_files()["B_1"])[:2] == [1, 2]
    assert read_values(out.label_files()["A_1"])[:2] == [1, 3]


def test_a_region_as_a_plain_class(raw: Path) -> None:
    """Both lungs as one class: where left and right are not told apart, a value of its own."""
    a = dataset(raw, "Dataset501_A", {"LUNGS": [1, 2], "LEFT": 1, "RIGHT": 2}, [1, 2], [1, 1, 2])
    b = dataset(raw, "Dataset502_B", {"LUNGS": 1}, [0, 1])
    out, content = merged([a, b])
    assert content["labels"] == {"background": 0, "LUNGS": [1, 2, 3], "LEFT": 1, "RIGHT": 2}
    assert content["regions_class_order"] == [3, 1, 2]
    assert read_values(out.label_files()["B_1"])[:2] == [0, 3]


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ({"EPI": 2, "LV": 1}, None),
        ({"LV": [1, 2], "EPI": 2}, [1, 2]),
        ({"EPI": [1, 2], "LV": [2, 3], "BOTH": 2}, [1, 3, 2]),
    ],
)
def test_a_region_that_means_something_else(raw: Path, labels: Any, order: Any) -> None:
    a = dataset(raw, "Dataset501_A", *HEART[:1], [1, 2], HEART[1])
    b = dataset(raw, "Dataset502_B", labels, [1, 2], order)
    said = refused(raw, [a, b])
    assert all(word in said for word in ("EPI", "LV", "Dataset501_A", "Dataset502_B", "--rename"))


def test_nothing_says_how_two_structures_lie(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", *HEART[:1], [1, 2], HEART[1])
    b = dataset(raw, "Dataset502_B", {"LV": 1, "MYO": 2}, [1, 2])
    said = refused(raw, [a, b])
    assert "MYO and EPI" in said
    assert "'regions_class_order'" in said
    # the way out: the epicardium is named where the myocardium is
    content = json.loads((b / "dataset.json").read_text())
    content.update(labels={"background": 0, "EPI": [1, 2], "LV": 1, "MYO": 2}, regions_class_order=[1, 1, 2])
    (b / "dataset.json").write_text(json.dumps(content))
    out, content = merged([a, b])
    assert content["labels"] == {"background": 0, "EPI": [1, 2, 3], "LV": 1, "MYO": 3}
    assert content["regions_class_order"] == [2, 1, 3]
    assert read_values(out.label_files()["A_1"])[:2] == [1, 2]  # A's wall may be more than myocardium
    assert read_values(out.label_files()["B_1"])[:2] == [1, 3]


def test_renamed_regions(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(raw, "Dataset501_A", *HEART[:1], [1, 2], HEART[1])
    dataset(raw, "Dataset502_B", {"HEART": [1, 2], "CAVITY": 2}, [1, 2], [1, 2])
    call = ["merge", "-i", "501", "502", "-d", "510", "--name", "All", "-np", "1"]
    assert main([*call, "--rename", "502:HEART=EPI", "502:CAVITY=LV"]) == 0
    out = RawDataset(raw / "Dataset510_All")
    assert out.structures == ("EPI", "LV")
    assert read_values(out.label_files()["B_1"])[:2] == [2, 1]
    assert out.manifest.labels_of("B_1").annotated == ("EPI", "LV")


def test_a_case_that_contradicts_another_dataset(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", *HEART[:1], [1, 2], HEART[1])
    b = dataset(raw, "Dataset502_B", {"LV": 1}, [1], absent=["EPI"])
    said = refused(raw, [a, b])
    assert "B_1" in said
    assert "EPI" in said


def test_where_an_unknown_region_may_be_is_ignored(raw: Path) -> None:
    a = dataset(raw, "Dataset501_A", *HEART[:1], [1, 2, 0], HEART[1])
    b = dataset(raw, "Dataset502_B", *HEART[:1], [1, 2, 0], HEART[1], annotated=["EPI"])
    c = dataset(raw, "Dataset503_C", {"LV": 1}, [1, 0])
    out, content = merged([a, b, c], unknown_as_ignore=True)
    assert content["labels"] == {"background": 0, "EPI": [1, 2], "LV": 1, "ignore": 3}
    assert read_values(out.label_files()["A_1"])[:3] == [1, 2, 0]
    assert read_values(out.label_files()["B_1"])[:3] == [3, 3, 0]  # no ventricle outside of the epicardium
    assert read_values(out.label_files()["C_1"])[:2] == [1, 3]
    # only background that is in no training case is worth a warning
    assert not [line for line in merge([a, b], "Dataset511_Two", unknown_as_ignore=True).warnings if "ignore" in line]


def test_order_of_regions_is_kept_or_asked_for(raw: Path) -> None:
    """Regions that cross: the one that stands last is stored where both are."""
    first = {"P": [1, 3], "Q": [2, 3], "BOTH": 3}
    second = {"Q": [2, 3], "P": [1, 3], "BOTH": 3}
    a = dataset(raw, "Dataset501_A", first, [1, 2, 3], [1, 2, 3])
    b = dataset(raw, "Dataset502_B", second, [1, 2, 3], [2, 1, 3])
    said = refused(raw, [a, b])
    assert "P, Q" in said
    assert "regions_class_order" in said
    c = dataset(raw, "Dataset503_C", {"P": [1, 2], "Q": [2, 3], "BOTH": 2}, [1, 2, 3], [1, 3, 2])
    out, content = merged([a, c])
    assert content["labels"] == {"background": 0, "P": [1, 3], "Q": [2, 3], "BOTH": 3}
    assert read_values(out.label_files()["C_1"])[:3] == [1, 3, 2]
