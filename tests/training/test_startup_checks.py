"""What a training reads before its first iteration, without a training.

A training does not start on half a preprocessing, nor on labels that were drawn anew since. Without a training.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.raw_datasets import Drawn, write_dataset

from nnunet_partial.dataset.out_of_view import off_as_absent
from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS, read_manifest
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import DatasetError, ManifestError, PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.training import startup_checks
from nnunet_partial.training.run_record import RunSettings
from nnunet_partial.training.startup_checks import TrainingData

CASES = ["p0_a", "p0_b", "p1_a", "p2_a"]
MANIFEST = Manifest({case: CaseLabels(("LV",), patient=case[:2]) for case in CASES})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """preprocessed, raw"""
    for name in ("preprocessed", "raw"):
        (tmp_path / name).mkdir()
    return tmp_path / "preprocessed", tmp_path / "raw"


def training_data(preprocessed: Path, raw: Path | None, manifest: Manifest, cases: list[str]) -> TrainingData:
    labels = {"background": 0, "LV": 1, "RV": 2}
    return TrainingData(preprocessed, raw, None, {}, {"labels": labels}, manifest, tuple(cases))


def test_the_raw_manifest_is_copied_once(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    MANIFEST.write(raw / MANIFEST_NAME)
    assert read_manifest(preprocessed, raw) == MANIFEST
    assert (preprocessed / MANIFEST_NAME).read_bytes() == (raw / MANIFEST_NAME).read_bytes()
    assert read_manifest(preprocessed, None) == MANIFEST


def test_manifests_that_differ_only_in_layout_agree(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    MANIFEST.write(raw / MANIFEST_NAME)
    (preprocessed / MANIFEST_NAME).write_text(json.dumps(MANIFEST.to_json()))
    assert read_manifest(preprocessed, raw) == MANIFEST


def test_the_raw_split_is_taken_and_checked(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    (raw / SPLITS_NAME).write_text(json.dumps([{"train": ["p0_a", "p0_b", "p1_a"], "val": ["p2_a"]}]))
    assert training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(0) == []
    assert json.loads((preprocessed / SPLITS_NAME).read_text())[0]["val"] == ["p2_a"]
    with pytest.raises(SplitError, match="folds 0 to 0; fold 1"):
        training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(1)


def test_a_leaking_raw_split_is_not_taken(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    (raw / SPLITS_NAME).write_text(json.dumps([{"train": ["p0_a", "p1_a"], "val": ["p0_b", "p2_a"]}]))
    with pytest.raises(SplitError, match=r"both sides: p0\."):
        training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(0)
    assert not (preprocessed / SPLITS_NAME).exists()


def test_a_split_that_forgets_a_case_is_refused(folders: tuple[Path, Path]) -> None:
    preprocessed, _ = folders
    (preprocessed / SPLITS_NAME).write_text(json.dumps([{"train": ["p0_a", "p0_b"], "val": ["p2_a"]}]))
    with pytest.raises(SplitError, match=r"1 case.* in no fold: p1_a"):
        training_data(preprocessed, None, MANIFEST, CASES).prepare_splits(0)


def test_a_manifest_without_patients_is_warned_of(folders: tuple[Path, Path]) -> None:
    nameless = Manifest({case: CaseLabels(("LV",)) for case in CASES})
    warnings = training_data(folders[0], None, nameless, CASES).prepare_splits(0)
    assert len(warnings) == 1
    assert "each counts as a patient of its own" in warnings[0]


def test_a_class_that_is_only_declared_absent_is_not_taught() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",), absent=("RV",)), "b": CaseLabels(("LV", "RV"))})
    data = training_data(Path("preprocessed"), None, manifest, ["a", "b"])
    data.with_fold(["a", "b"], []).check_every_class_annotated()
    with pytest.raises(ManifestError, match="was annotated for RV"):
        data.with_fold(["a"], ["b"]).check_every_class_annotated()


def test_one_patient_can_only_be_trained_with_fold_all(folders: tuple[Path, Path]) -> None:
    preprocessed, _ = folders
    with pytest.raises(SplitError, match="Train with fold 'all'"):
        training_data(preprocessed, None, MANIFEST, ["p0_a", "p0_b"]).prepare_splits(0)
    assert training_data(preprocessed, None, MANIFEST, ["p0_a", "p0_b"]).prepare_splits("all") == []


@pytest.mark.parametrize("fold", [0, "all"])
def test_a_case_declared_for_testing_is_not_trained_on(folders: tuple[Path, Path], fold: int | str) -> None:
    cases = {**MANIFEST.cases, "p2_a": CaseLabels(("LV",), patient="p2", info={"split": "test"})}
    with pytest.raises(SplitError, match=r"1 training case.* 'test' in partial_labels\.json: p2_a\."):
        training_data(folders[0], None, Manifest(cases), CASES).prepare_splits(fold)
    assert not (folders[0] / SPLITS_NAME).exists()


def test_a_case_that_is_left_out_is_not_trained_on(folders: tuple[Path, Path]) -> None:
    cases = {**MANIFEST.cases, "p2_a": CaseLabels(("LV",), patient="p2", info={"left_out": True})}
    data = training_data(folders[0], None, Manifest(cases), CASES)
    with pytest.raises(SplitError, match=r"1 are declared left_out .*: p2_a\."):
        data.prepare_splits("all")
    assert not (folders[0] / SPLITS_NAME).exists()
    data.prepare_splits(0)
    splits = json.loads((folders[0] / SPLITS_NAME).read_text())
    assert {case for split in splits for side in split.values() for case in side} == {*CASES} - {"p2_a"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("epochs", "0"), ("iterations", "-1"), ("val_iterations", "2.5"), ("seed", "one"), ("seed", str(2**32))],
)
def test_run_settings_must_be_whole_numbers(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"nnUNet_partial_{variable}", value)
    with pytest.raises(PartialLabelError, match=f"nnUNet_partial_{variable} is '{value}'"):
        RunSettings.from_environment()


def test_run_settings_say_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("epochs", "iterations", "val_iterations", "seed"):
        monkeypatch.delenv(f"nnUNet_partial_{variable}", raising=False)
    assert str(RunSettings.from_environment()) == "none"
    monkeypatch.setenv("nnUNet_partial_seed", "0")
    assert str(RunSettings.from_environment()) == "nnUNet_partial_seed=0"
    assert RunSettings.from_environment().seed == 0


PREPROCESSED_CASES = [f"{site}_{number}" for site in "AB" for number in range(3)]
BOTH, LV = {"annotated": ["LV", "LA"]}, {"annotated": ["LV"]}


@dataclass
class Start:
    """A raw data set of two sites, and what a training reads of it; site B has no LA."""

    raw: RawDataset
    preprocessed: Path

    def data(self, cases: list[str] = PREPROCESSED_CASES, with_raw: bool = True) -> TrainingData:
        dataset_json = json.loads((self.preprocessed / "dataset.json").read_text())
        return TrainingData.from_folders(self.preprocessed, self.raw.folder if with_raw else None, dataset_json, cases)

    def labels(self, cases: list[str] = PREPROCESSED_CASES, with_raw: bool = True) -> None:
        self.data(cases, with_raw).check_labels(processes=1)


def write(root: Path, drawn_in_b: list[int], **others: Any) -> RawDataset:
    cases = [
        Drawn(case, [1, 2] if case[0] == "A" else drawn_in_b, BOTH if case[0] == "A" else LV)
        for case in PREPROCESSED_CASES
    ]
    return write_dataset(root, "Dataset220_Sites", {"LV": 1, "LA": 2}, cases, **others)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    made = Start(write(tmp_path / "raw", [1]), tmp_path / "preprocessed" / "Dataset220_Sites")
    shutil.copytree(made.raw.folder / "labelsTr", made.preprocessed / GT_SEGMENTATIONS)
    for name in ("dataset.json", "partial_labels.json"):
        shutil.copy(made.raw.folder / name, made.preprocessed)
    return made


def test_all_preprocessed_starts_with_and_without_the_raw_folder(start: Start) -> None:
    start.labels()
    start.labels()
    shutil.rmtree(start.raw.folder)
    start.labels()
    start.labels(with_raw=False)


def test_labels_that_are_links_start(start: Start) -> None:
    """As `nnunet_partial preprocess --like` leaves them."""
    shutil.rmtree(start.preprocessed / GT_SEGMENTATIONS)
    shutil.copytree(start.raw.folder / "labelsTr", start.preprocessed / GT_SEGMENTATIONS, copy_function=os.link)
    start.labels()


@pytest.mark.parametrize("name", ["imagesTr/B_1_0000", "labelsTr/B_1"])
def test_a_file_whose_pixels_nnunet_took_from_another_is_noticed(start: Start, name: str) -> None:
    start.labels()
    (start.raw.folder / f"{name}.nii").touch()
    with pytest.raises(DatasetError, match=rf"{name}\.nii\.gz.*nnUNetv2_plan_and_preprocess -d 220"):
        start.labels()


@pytest.mark.parametrize(
    ("drawn", "sampled", "newer", "differ"),
    [
        ([1], [1], 1, ""),
        ([1, 2], [1, 2], 1, ""),
        ([1, 2], [1], 1, "LA"),  # annotated since, and background in what is preprocessed
        ([1], [1, 2], 1, "LA"),
        ([1, 2], [1], -1, ""),  # not the labels of a later time: cut off by resampling, or cropped
    ],
)
def test_a_configuration_that_was_left_behind_is_noticed(
    start: Start, drawn: list[int], sampled: list[int], newer: int, differ: str
) -> None:
    """Of site B the atrium was annotated later, and another configuration preprocessed again."""
    write(start.raw.folder.parent, drawn)
    folder = start.preprocessed / "nnUNetPlans_2d"
    folder.mkdir()
    for case in PREPROCESSED_CASES:
        label = start.preprocessed / GT_SEGMENTATIONS / f"{case}.nii.gz"
        shutil.copy2(start.raw.label_files()[case], label)
        held = [1, 2] if case[0] == "A" else sampled
        record = {"class_locations": {value: [[0, 0, 0]] if value in held else [] for value in (1, 2)}}
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(record))
        time = label.stat().st_mtime - (newer if case[0] == "B" else -1)
        os.utime(folder / f"{case}.pkl", (time, time))
    data = start.data()
    if not differ:
        data.check_configuration(folder)
        return
    with pytest.raises(DatasetError, match=rf"3 of them .* differ in {differ}\..*-d 220"):
        data.check_configuration(folder)


@pytest.mark.parametrize("with_raw", [True, False])
def test_half_a_preprocessing_is_no_data_set(start: Start, with_raw: bool) -> None:
    with pytest.raises(DatasetError, match=r"3 case.*: B_0, B_1, B_2\. .*nnUNetv2_plan_and_preprocess -d 220"):
        start.labels(PREPROCESSED_CASES[:3], with_raw)


def test_a_case_that_was_added_later_is_not_forgotten(start: Start) -> None:
    start.labels()
    for case in ("A_0", "A_0_0000"):
        folder = start.raw.folder / ("imagesTr" if case.endswith("_0000") else "labelsTr")
        shutil.copy(folder / f"{case}.nii.gz", folder / f"{case.replace('A_0', 'A_9')}.nii.gz")
    with pytest.raises(DatasetError, match=r"1 case.* not preprocessed: A_9"):
        start.labels()


def test_a_case_that_was_removed_and_its_copy_that_nnunet_leaves(start: Start) -> None:
    (start.raw.folder / "labelsTr" / "B_2.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"1 preprocessed case.*labelsTr: B_2"):
        start.labels()
    start.labels(PREPROCESSED_CASES[:5])  # after preprocessing again
    with pytest.raises(DatasetError, match=r"delete their files in .*gt_segmentations"):
        start.labels(PREPROCESSED_CASES[:5], with_raw=False)


def test_without_the_copies_the_way_out_is_said(start: Start) -> None:
    (start.preprocessed / GT_SEGMENTATIONS / "A_0.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"gt_segmentations lacks 1 case.*: A_0\."):
        start.labels()
    shutil.rmtree(start.preprocessed / GT_SEGMENTATIONS)
    with pytest.raises(DatasetError, match="gt_segmentations does not exist"):
        start.labels()


def test_a_structure_that_was_drawn_after_preprocessing_is_not_taught_as_background(start: Start) -> None:
    """Also when the labels were found right before, and the manifest is right for the new ones."""
    start.labels()
    shutil.rmtree(start.raw.folder)
    write(start.raw.folder.parent, [1, 2])
    content = {"version": 1, "groups": [{"match": "*", **BOTH}], "cases": {}}
    for folder in (start.raw.folder, start.preprocessed):
        (folder / "partial_labels.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"3 case.* Dataset220_Sites .*: B_0, B_1, B_2\. Delete .*gt_segmentations"):
        start.labels()
    shutil.rmtree(start.preprocessed / GT_SEGMENTATIONS)
    shutil.copytree(start.raw.folder / "labelsTr", start.preprocessed / GT_SEGMENTATIONS)
    start.labels()


def test_labels_are_compared_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start.labels()
    compared: list[TrainingData] = []
    monkeypatch.setattr(startup_checks, "_check_labels_unchanged", lambda data, ending: compared.append(data))
    start.labels()
    assert not compared
    os.utime(start.raw.folder / "labelsTr" / "A_0.nii.gz", ns=(1, 1))
    start.labels()
    assert len(compared) == 1


def test_what_was_found_right_for_some_cases_says_nothing_of_others(start: Start) -> None:
    """A removed case's copy is not looked into; when the case comes back, it is."""
    for folder in (start.raw.folder, start.preprocessed):
        (folder / "partial_labels.json").write_text(json.dumps({"version": 1, "groups": [{"match": "*", **LV}]}))
    for case in PREPROCESSED_CASES[1:3]:
        for folder in (start.raw.folder / "labelsTr", start.preprocessed / GT_SEGMENTATIONS):
            shutil.copy(folder / "B_0.nii.gz", folder / f"{case}.nii.gz")
    away = (start.raw.folder / "labelsTr" / "A_0.nii.gz").rename(start.raw.folder / "A_0.nii.gz")
    start.labels(PREPROCESSED_CASES[1:])
    away.rename(start.raw.folder / "labelsTr" / "A_0.nii.gz")
    with pytest.raises(ManifestError, match="A_0: LA present"):
        start.labels()


def test_a_raw_folder_without_its_label_files_is_not_asked(start: Start) -> None:
    """As where only the manifest and dataset.json were brought along, or the files lie elsewhere."""
    shutil.rmtree(start.raw.folder / "labelsTr")
    start.labels()
    (start.raw.folder / "labelsTr").mkdir()
    start.labels()


def check_entries(manifest: Manifest, raw: RawDataset | None, cases: list[str]) -> list[str]:
    return TrainingData(Path("Dataset220_Sites"), None, raw, {}, {}, manifest, tuple(cases)).check_entries()


GROUPS = [{"match": "B_*", **LV}, {"match": "*", **BOTH}]


@pytest.mark.parametrize(
    ("groups", "entries", "said"),
    [
        (GROUPS[::-1], {}, r"'B_\*' counts for no case, since '\*'"),
        ([{"match": "B-*", **LV}, GROUPS[1]], {}, r"'B-\*' matches no case"),
        (GROUPS[1:], {f"B_{n}.nii.gz": LV for n in range(3)}, r"3 case\(s\) .* no image: B_0\.nii"),
    ],
)
def test_a_mistyped_manifest_stops_the_start(
    start: Start, groups: list[dict[str, Any]], entries: dict[str, Any], said: str
) -> None:
    manifest = Manifest.from_json({"version": 1, "groups": groups, "cases": entries})
    with pytest.raises(ManifestError, match=said) as caught:
        check_entries(manifest, start.raw, PREPROCESSED_CASES)
    (warning,) = check_entries(manifest, None, PREPROCESSED_CASES)  # nobody can tell: they may be test cases
    assert warning in str(caught.value)


def test_cases_of_unity_that_an_earlier_version_converted_stop_the_start() -> None:
    case = f"unity_01-{'a' * 64}-0001"
    entry = {"annotated": ["LV"], "absent": ["LA"]}  # the atrium was labeled off, and may be in the image
    manifest = Manifest.from_json({"version": 1, "cases": {case: entry}})
    with pytest.raises(ManifestError, match=case) as caught:
        check_entries(manifest, None, [case])
    assert off_as_absent(manifest.cases)[0] in str(caught.value)  # what `check` says
    new = Manifest.from_json({"version": 1, "cases": {case: {**entry, "off": "absent"}}})
    assert check_entries(new, None, [case]) == []


def test_patterns_and_entries_of_test_cases_are_used(start: Start, tmp_path: Path) -> None:
    cases = [Drawn("A_0", [1], LV), Drawn("new_0", [1], LV, "Ts"), Drawn("odd", [1], None, "Ts")]
    groups = [{"match": "odd*", **LV}, {"match": "gone*", "split": "test", **LV}]
    raw = write_dataset(tmp_path / "tested", "Dataset221_Tested", {"LV": 1}, cases, groups=groups)
    assert check_entries(raw.manifest, raw, ["A_0"]) == []
    group, entry = check_entries(raw.manifest, None, ["A_0"])
    assert "'odd*'" in group
    assert entry.startswith("1 case(s) ")
    assert entry.endswith(": new_0")


def test_a_split_with_a_byte_order_mark_is_named(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    content = json.dumps([{"train": ["p0_a", "p0_b", "p1_a"], "val": ["p2_a"]}])
    (preprocessed / SPLITS_NAME).write_text(content, encoding="utf-8-sig")
    with pytest.raises(SplitError, match=rf"{preprocessed / SPLITS_NAME} .*BOM"):
        training_data(preprocessed, None, MANIFEST, CASES).prepare_splits(0)
    (preprocessed / SPLITS_NAME).unlink()
    (raw / SPLITS_NAME).write_text(content, encoding="utf-8-sig")
    training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(0)  # nnU-Net reads the copy, which has none
    assert (preprocessed / SPLITS_NAME).read_bytes().startswith(b"[")


def test_hidden_files_are_no_cases(start: Start) -> None:
    with pytest.raises(DatasetError, match=r"1 hidden.*: \._A_0\. Delete"):
        start.labels([*PREPROCESSED_CASES, "._A_0"])


def test_files_that_dataset_json_lists_are_compared(start: Start) -> None:
    content = json.loads((start.raw.folder / "dataset.json").read_text())
    (start.raw.folder / "labelsTr").rename(start.raw.folder / "masks")
    content["dataset"] = {
        case: {"images": [f"imagesTr/{case}_0000.nii.gz"], "label": f"masks/{case}.nii.gz"}
        for case in PREPROCESSED_CASES
    }
    (start.raw.folder / "dataset.json").write_text(json.dumps(content))
    start.labels()
    with pytest.raises(DatasetError, match="B_2"):
        start.labels(PREPROCESSED_CASES[:5])
    shutil.copy(start.raw.folder / "masks" / "A_0.nii.gz", start.raw.folder / "masks" / "B_0.nii.gz")
    with pytest.raises(DatasetError, match=r"changed.*: B_0\."):
        start.labels()


def test_a_patch_that_is_a_line() -> None:
    with pytest.raises(DatasetError, match=r"2d has patches of 1 x 48"):
        startup_checks.require_wide_patch([1, 48], "2d")
    for patch in ([64, 48], [64, 1, 48]):
        startup_checks.require_wide_patch(patch, "2d")
