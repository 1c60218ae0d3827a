"""Regions hidden on purpose: no label file may tell what the manifest says is unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.raw_datasets import Drawn, read_values, snapshot, write_dataset
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.derived.scenario import scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import Manifest

HEART = {"EPI": [1, 2], "LV": 1, "LA": 3}
LUNGS = {"LUNGS": [1, 2], "LEFT": 1, "RIGHT": 2}


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def dataset(raw: Path, labels: Any, order: list[int], domains: str = "ab", **about: Any) -> RawDataset:
    """Two patients of each domain and a test patient; each holds 0, 1, 2, 3, row by row."""
    names = [name for name in labels if name != "ignore"]
    rows = [0, *sorted({v for values in labels.values() for v in (values if isinstance(values, list) else [values])})]
    cases = [
        Drawn(f"{domain}{n}", rows, {"annotated": names, "domain": domain, "patient": f"{domain}{n}", **about})
        for domain in domains
        for n in (1, 2)
    ]
    test = Drawn("t1", rows, {"annotated": names, "domain": "a", "patient": "t1"}, "Ts")
    return write_dataset(raw, "Dataset501_Regions", labels, [*cases, test], regions_class_order=order)


def hidden(source: RawDataset, *missing: str, **options: Any) -> RawDataset:
    chosen = ScenarioOptions(missing, **{"domain": "b", **options})
    out = RawDataset(scenario(source.folder, "Dataset601_Hidden", chosen).folder)
    assert "content of the labels" not in check(out.folder).findings
    assert json.loads((out.folder / "dataset.json").read_text())["labels"] == source.dataset_json["labels"]
    assert out.dataset_json["regions_class_order"] == source.dataset_json["regions_class_order"]
    assert read_values(out.label_files("Tr_full")["b1"]) == read_values(source.label_files()["b1"])
    assert read_values(out.label_files("Ts")["t1"]) == read_values(source.label_files("Ts")["t1"])
    assert out.label_files()["a1"].samefile(source.label_files()["a1"])
    return out


@pytest.mark.parametrize(
    ("missing", "stored"),
    [
        (["LV"], [0, 2, 2, 3]),  # the ventricle becomes part of the epicardium that holds it
        (["EPI"], [0, 1, 0, 3]),  # the ventricle stays, what is only epicardium goes
        (["LA"], [0, 1, 2, 0]),
        (["EPI", "LV"], [0, 0, 0, 3]),
        (["LV", "EPI", "LA"], [0, 0, 0, 0]),
    ],
)
def test_nothing_is_stored_of_what_is_hidden(raw: Path, missing: list[str], stored: list[int]) -> None:
    out = hidden(dataset(raw, HEART, [2, 1, 3]), *missing)
    assert read_values(out.label_files()["b1"])[:4] == stored
    assert set(out.manifest.labels_of("b1").annotated) == {*HEART} - {*missing}
    assert set(Manifest.read(out.folder / "partial_labels_full.json").labels_of("b1").annotated) == {*HEART}


@pytest.mark.parametrize(
    ("missing", "stored"),
    [
        (["LEFT", "RIGHT"], [0, 1, 1]),  # there is no value of both lungs alone: one value for both does not tell
        (["LEFT"], [0, 1, 2]),  # what is lung and not right is left: both lungs are known, and the right one is
        (["LUNGS", "LEFT"], [0, 0, 2]),
    ],
)
def test_a_region_without_a_value_of_its_own(raw: Path, missing: list[str], stored: list[int]) -> None:
    out = hidden(dataset(raw, LUNGS, [1, 1, 2]), *missing)
    assert read_values(out.label_files()["b1"])[:3] == stored


def test_the_ignore_label_stays(raw: Path) -> None:
    out = hidden(dataset(raw, {"EPI": [1, 2], "LV": 1, "ignore": 3}, [2, 1]), "EPI")
    assert read_values(out.label_files()["b1"])[:4] == [0, 1, 0, 3]


def test_a_region_that_nobody_knows_any_more(raw: Path) -> None:
    """Complete cases alone: the atrium, which only the cases left out know, is no region of the scenario."""
    source = dataset(raw, HEART, [2, 1, 3])
    file = source.folder / "partial_labels.json"
    content = json.loads(file.read_text())
    for case in ("b1", "b2"):
        content["cases"][case]["annotated"] = ["LV", "LA"]
    for case in ("a1", "a2"):
        content["cases"][case]["annotated"] = ["EPI"]
    file.write_text(json.dumps(content))
    write_dataset(raw, "Dataset501_Regions", HEART, [Drawn(c, [0, 1, 2], content["cases"][c]) for c in ("a1", "a2")],
                  regions_class_order=[2, 1, 3])  # fmt: skip
    write_dataset(raw, "Dataset501_Regions", HEART, [Drawn(c, [0, 1, 3], content["cases"][c]) for c in ("b1", "b2")],
                  regions_class_order=[2, 1, 3])  # fmt: skip
    file.write_text(json.dumps(content))
    source = RawDataset(source.folder)
    before = snapshot(raw)
    options = ScenarioOptions(("LV",), domain="b", keep_only_complete=True)
    with pytest.raises(DatasetError, match="LV"):  # which would be gone itself
        scenario(source.folder, "Dataset601_Hidden", options)
    assert snapshot(raw) == before
    content["cases"]["a1"]["annotated"] = content["cases"]["a2"]["annotated"] = ["EPI", "LV"]
    file.write_text(json.dumps(content))
    out = RawDataset(scenario(source.folder, "Dataset601_Hidden", options).folder)
    assert out.dataset_json["labels"] == {"background": 0, "EPI": [1, 2], "LV": 1}
    assert out.dataset_json["regions_class_order"] == [2, 1]
    assert read_values(out.label_files("Ts")["t1"])[:4] == [0, 1, 2, 0]  # without the atrium
    assert [*out.label_files()] == ["a1", "a2"]


def test_a_random_part_and_a_merge(raw: Path) -> None:
    source = dataset(raw, HEART, [2, 1, 3])
    out = hidden(source, "random", seed=3)
    entries = out.manifest
    for case in ("b1", "b2"):
        annotated = {*entries.labels_of(case).annotated}
        assert annotated < {*HEART}
        values = read_values(out.label_files()[case])[:4]
        # each stored voxel tells exactly what is annotated
        for before, after in zip([0, 1, 2, 3], values, strict=True):
            for name in annotated:
                stored = HEART[name] if isinstance(HEART[name], list) else [HEART[name]]
                assert (before in stored) == (after in stored)
    other = write_dataset(raw, "Dataset502_Other", {"LV": 1}, [
        Drawn(f"c{n}", [1], {"annotated": ["LV"], "domain": "c"}) for n in (1, 2)
    ])  # fmt: skip
    merged = RawDataset(merge([out.folder, other.folder], "Dataset510_All").folder)
    assert read_values(merged.label_files("Tr_full")["b1"])[:4] == [0, 1, 2, 3]
    assert read_values(merged.label_files()["b1"]) == read_values(out.label_files()["b1"])
    assert read_values(merged.label_files()["c1"])[0] == 1


@pytest.mark.parametrize(
    ("missing", "stored"),
    [
        (["LV"], [0, 4, 4, 3]),  # it may be anywhere in the epicardium, and nowhere else
        (["EPI"], [4, 1, 4, 3]),  # the ventricle lies in it, the atrium does not
        (["LA"], [4, 1, 2, 4]),
        (["EPI", "LV"], [4, 4, 4, 3]),
    ],
)
def test_where_an_unknown_region_may_be_is_ignored(raw: Path, missing: list[str], stored: list[int]) -> None:
    source = dataset(raw, HEART, [2, 1, 3])
    options = ScenarioOptions(tuple(missing), domain="b", unknown_as_ignore=True)
    out = RawDataset(scenario(source.folder, "Dataset601_Hidden", options).folder)
    assert out.dataset_json["labels"] == {"background": 0, **HEART, "ignore": 4}
    assert "content of the labels" not in check(out.folder).findings
    assert read_values(out.label_files()["b1"])[:4] == stored
    assert read_values(out.label_files()["a1"])[:4] == [0, 1, 2, 3]
    assert read_values(out.label_files("Tr_full")["b1"])[:4] == [0, 1, 2, 3]
