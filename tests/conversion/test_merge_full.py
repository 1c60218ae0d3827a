"""A merge of a scenario: what was hidden comes along, with the numbers of the merged data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.derived.scenario import scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions
from raw_folders import Drawn, read_values, write_dataset

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import Manifest


@pytest.fixture
def sources(raw: Path) -> list[Path]:
    """A scenario without LA in one of two patients, and a data set that numbers the LA 2 and has RV."""
    about = {"annotated": ["LV", "MYO", "LA"], "domain": "camus"}
    cases = [Drawn(f"c{n}", [1, 2, 3], {**about, "patient": f"c{n}"}) for n in (1, 2)]
    cases.append(Drawn("c3", [1, 2, 3], {**about, "patient": "c3", "split": "test"}, "Ts"))
    camus = write_dataset(raw, "Dataset501_CAMUS", {"LV": 1, "MYO": 2, "LA": 3}, cases)
    hidden = scenario(camus.folder, "Dataset601_Hidden", ScenarioOptions(("LA",), 0.5))
    uda = {"annotated": ["LV", "LA", "RV"], "domain": "uda"}
    cases = [Drawn(f"u{n}", [1, 2, 3], {**uda, "patient": f"u{n}"}) for n in (1, 2)]
    other = write_dataset(raw, "Dataset502_UDA", {"LV": 1, "LA": 2, "RV": 3}, cases)
    return [hidden.folder, other.folder]


def merged(sources: list[Path], **options: Any) -> RawDataset:
    return RawDataset(merge(sources, "Dataset510_Both", **options).folder)


@pytest.mark.parametrize("as_ignore", [False, True])
def test_the_complete_labels_of_all_come_along(sources: list[Path], as_ignore: bool) -> None:
    made = merged(sources, unknown_as_ignore=as_ignore)
    (case,) = [case for case, labels in made.manifest.cases.items() if labels.annotated == ("LV", "MYO")]
    nowhere = 5 if as_ignore else 0
    assert read_values(made.label_files()[case])[:4] == [1, 2, nowhere, nowhere]  # LV 1, MYO 2, LA 3, RV 4
    full = made.label_files("Tr_full")
    assert list(full) == ["c1", "c2", "u1", "u2"]
    assert read_values(full[case])[:4] == [1, 2, 3, 0]
    assert read_values(full["u1"])[:4] == [1, 3, 4, 0]
    knows = Manifest.read(made.folder / "partial_labels_full.json")
    assert knows.labels_of(case).annotated == ("LV", "MYO", "LA")
    assert knows.labels_of("u1") == made.manifest.labels_of("u1")
    assert set(knows.cases) == {"c1", "c2", "c3", "u1", "u2"}
    assert check(made.folder).findings == {}


def test_labels_that_keep_their_numbers_are_linked(sources: list[Path]) -> None:
    made = merged(sources)
    assert made.label_files("Tr_full")["c1"].samefile(RawDataset(sources[0]).label_files("Tr_full")["c1"])


def test_without_a_scenario_there_are_none(sources: list[Path], raw: Path) -> None:
    made = merged([raw / "Dataset501_CAMUS", sources[1]])
    assert not (made.folder / "labelsTr_full").exists()
    assert not (made.folder / "partial_labels_full.json").exists()


def test_a_scenario_of_the_merge_still_has_the_first_complete_labels(sources: list[Path]) -> None:
    made = merged(sources)
    again = RawDataset(scenario(made.folder, "Dataset602_Again", ScenarioOptions(("RV",), 0.5, domain="uda")).folder)
    assert all(read_values(again.label_files("Tr_full")[case])[:3] == [1, 2, 3] for case in ("c1", "c2"))


def test_complete_labels_that_are_missing_or_wrong_stop_the_merge(sources: list[Path], raw: Path) -> None:
    full = RawDataset(sources[0]).label_files("Tr_full")
    path = sources[0] / "partial_labels_full.json"
    content = json.loads(path.read_text())
    content["cases"]["c1"]["annotated"] = ["LV"]
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"Dataset601_Hidden, labelsTr_full: .*c1"):
        merged(sources)
    full["c2"].unlink()
    with pytest.raises(DatasetError, match=r"labelsTr_full lacks 1 training case\(s\): c2"):
        merged(sources)
    assert not (raw / "Dataset510_Both").exists()
