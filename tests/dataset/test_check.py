"""`check` on a sound data set, and on the same with one thing broken at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.raw_datasets import Drawn, write_dataset, write_image
from nnunet_partial.dataset_conversion.derived.files import relabel
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.derived.scenario import scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.declare import DatasetToDeclare, declare
from nnunet_partial.dataset.declare_sources import infer_annotations
from nnunet_partial.dataset.images import header, read_array
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.evaluation.evaluate import find_reference
from nnunet_partial.model_selection.candidates import validated_cases

LABELS = {"LV": 1, "MYO": 2}
MANIFEST, SPLITS = "partial_labels.json", "splits_final.json"
FILES, CONTENT, DATASET = "images and labels", "content of the labels", "dataset.json"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))


@pytest.fixture
def sound(tmp_path: Path) -> RawDataset:
    """Three training cases of two patients and a test case; nothing is wrong with them."""
    cases = [
        Drawn("a_1", [1, 2], {"annotated": ["LV", "MYO"], "domain": "a", "patient": "pa", "split": "train"}),
        Drawn("a_2", [1, 0], {"annotated": ["LV", "MYO"], "domain": "a", "patient": "pa", "split": "train"}),
        Drawn("b_1", [1], {"annotated": ["LV"], "absent": ["MYO"], "domain": "b", "patient": "pb", "split": "val"}),
        Drawn("b_2", [1], {"annotated": ["LV"], "domain": "b", "patient": "pc", "split": "test"}, "Ts"),
    ]
    dataset = write_dataset(tmp_path / "raw", "Dataset001_A", LABELS, cases)
    write_json(dataset.folder / SPLITS, [{"train": ["a_1", "a_2"], "val": ["b_1"]}])
    return dataset


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


def edit_case(dataset: RawDataset, case: str, entry: Mapping[str, Any] | None) -> None:
    """Replaces the entry of a case; None takes it away."""
    path = dataset.folder / MANIFEST
    cases = json.loads(path.read_text())["cases"]
    cases.pop(case, None)
    edit(path, cases={**cases, case: entry} if entry is not None else cases)


def cells(table: str) -> list[list[str]]:
    """The cells of a printed table, without the line under its head."""
    return [re.split(r" {2,}", line) for line in table.splitlines() if "--" not in line]


def findings(dataset: RawDataset, **options: Any) -> Mapping[str, list[str]]:
    return check(dataset.folder, **options).findings


def test_nothing_is_wrong(sound: RawDataset) -> None:
    checked = check(sound.folder)
    assert checked.findings == {}
    assert checked.count == 0
    assert checked.remarks == ()


def test_the_tables(sound: RawDataset) -> None:
    domains, remark, training, test = check(sound.folder).overview.split("\n\n")
    assert cells(domains) == [
        ["domain", "training", "test", "patients", "official train / val / test", "spacing (mm)", "image (mm)"],
        ["a", "2", "0", "1", "2 / 0 / 0", "0.5 x 0.5", "3 x 4"],
        ["b", "1", "1", "2", "0 / 1 / 1", "0.5 x 0.5", "3 x 4"],
    ]
    assert len({len(line) for line in domains.splitlines()}) == 1  # numbers stand below each other
    assert remark == says("medians", "nominal")
    assert cells(training) == [
        [says("training cases", "annotated / absent / unknown")],
        ["domain", "LV", "MYO"],
        ["a", "2 / 0 / 0", "2 / 0 / 0"],
        ["b", "1 / 0 / 0", "0 / 1 / 0"],
    ]
    assert cells(test) == [
        [says("test cases", "annotated / absent / unknown")],
        ["domain", "LV", "MYO"],
        ["b", "1 / 0 / 0", "0 / 0 / 1"],
    ]


def test_one_image_of_two_patients_is_remarked_on(sound: RawDataset) -> None:
    """Two cases of patient pa and one of patient pb have the same image; an image of one gray value links nobody."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 6)).astype(np.uint8)
    training, test = sound.image_files(), sound.image_files("Ts")
    for name in ("a_1", "a_2"):
        write_image(training[name][0], pixels)
    assert check(sound.folder).remarks == ()
    write_image(test["b_2"][0], pixels)
    assert check(sound.folder).remarks == (says("1 image(s)", "a_1 = a_2 = b_2"),)


def test_a_training_image_without_label(sound: RawDataset) -> None:
    sound.label_files()["a_1"].unlink()
    assert findings(sound) == {FILES: ["a_1: training image without a label file in labelsTr"]}


def test_labels_without_images(sound: RawDataset) -> None:
    sound.image_files()["a_1"][0].unlink()
    sound.image_files("Ts")["b_2"][0].unlink()
    assert findings(sound)[FILES] == [
        says("a_1", "labelsTr", "without an image in imagesTr"),
        says("b_2", "labelsTs", "without an image in imagesTs"),
    ]


def test_a_test_image_needs_no_label(sound: RawDataset) -> None:
    sound.label_files("Ts")["b_2"].unlink()
    assert findings(sound) == {}


def test_a_file_that_is_no_image_of_a_case(sound: RawDataset) -> None:
    for name in ("a_1.nii.gz", "notes.txt", ".hidden", "Thumbs.db"):
        (sound.folder / "imagesTr" / name).write_bytes(b"")
    assert findings(sound)[FILES] == [
        says("imagesTr/a_1.nii.gz", "CASE_0000.nii.gz"),
        says("imagesTr/notes.txt", "CASE_0000.nii.gz"),
    ]


def test_a_case_that_trains_and_tests(sound: RawDataset) -> None:
    (sound.folder / "imagesTs/a_1_0000.nii.gz").hardlink_to(sound.image_files()["a_1"][0])
    found = findings(sound)
    assert found[FILES] == ["a_1: in imagesTr and in imagesTs"]
    assert found[MANIFEST] == ["patient pa: in training and in test"]


def test_a_training_case_that_is_declared_for_testing(sound: RawDataset) -> None:
    edit_case(sound, "b_1", {"annotated": ["LV"], "domain": "b", "patient": "pb", "split": "test"})
    assert findings(sound) == {
        MANIFEST: [says("1 training case(s)", "split 'test'", "b_1", "imagesTs and labelsTs", "change the entry")]
    }


def test_labels_that_changed_after_preprocessing(sound: RawDataset, tmp_path: Path) -> None:
    copies = tmp_path / "preprocessed/Dataset001_A/gt_segmentations"
    shutil.copytree(sound.folder / "labelsTr", copies)
    assert findings(sound) == {}
    write_image(sound.label_files()["a_2"], np.full((8, 6), 2, np.uint8))
    (line,) = findings(sound)["preprocessed data"]
    assert line == says("Dataset001_A", "1 case(s) have other label files: a_2")


def test_missing_and_superfluous_entries(sound: RawDataset) -> None:
    edit_case(sound, "a_2", None)
    edit_case(sound, "gone", {"annotated": []})
    found = findings(sound)
    assert "a_2" in found[MANIFEST][0]
    assert found[MANIFEST][1:] == ["gone: has an entry, but no image"]
    assert found[CONTENT] == ["a_2: has no entry in partial_labels.json"]
    assert SPLITS not in found  # the split is good, and names a case that is there


def test_a_group_that_matches_nothing(sound: RawDataset) -> None:
    edit(sound.folder / MANIFEST, groups=[{"match": "a_*", "annotated": []}, {"match": "c_*", "annotated": []}])
    assert findings(sound) == {MANIFEST: ["the group 'c_*' matches no case"]}


def test_a_group_that_comes_too_late(sound: RawDataset) -> None:
    late = [{"match": "*", "annotated": ["LV", "MYO"]}, {"match": "b_*", "annotated": ["LV"]}]
    edit(sound.folder / MANIFEST, groups=late)
    (line,) = findings(sound)[MANIFEST]
    assert line == says("group 'b_*'", "'*' stands before it")


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "expected"),
    [
        ((8, 7), 0.5, "size 6 x 8 against 7 x 8"),
        ((8, 6), 0.6, "spacing 0.5 x 0.5 mm against 0.6 x 0.6 mm"),
    ],
)
def test_image_and_label_that_differ(
    sound: RawDataset, shape: tuple[int, int], spacing_mm: float, expected: str
) -> None:
    write_image(sound.label_files()["a_1"], np.zeros(shape, np.uint8), spacing_mm)
    assert findings(sound) == {FILES: [f"a_1: image and label differ: {expected}"]}


def test_origin_and_direction_that_differ(sound: RawDataset) -> None:
    path = sound.label_files("Ts")["b_2"]
    image = sitk.ReadImage(str(path))
    image.SetOrigin((1.5, 0.0))
    image.SetDirection((0.0, 1.0, 1.0, 0.0))
    sitk.WriteImage(image, str(path))
    first, second = findings(sound)[FILES]
    assert first == says("b_2", "origin 0 x 0 mm", "1.5 x 0 mm")
    assert second.startswith("b_2: image and label differ: direction 1 x 0 x 0 x 1 against ")


def test_rounding_of_headers_is_no_difference(sound: RawDataset) -> None:
    write_image(sound.label_files()["a_2"], np.zeros((8, 6), np.uint8), 0.5 + 1e-6)
    assert findings(sound) == {}


def test_unreadable_files(sound: RawDataset) -> None:
    image, label = sound.image_files()["a_1"][0], sound.label_files()["a_2"]
    image.write_bytes(image.read_bytes()[:40])
    label.write_bytes(b"")
    found = findings(sound)
    assert found[FILES][0].startswith("a_1: imagesTr/a_1_0000.nii.gz cannot be read: ")
    assert len(found[FILES]) == 1
    assert found[CONTENT][0].startswith("a_2: the label file cannot be read: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (".nii.gz", ("cannot be read", "taken for 0")),
        (".nrrd", ()),
    ],
)
def test_pixels_that_are_no_numbers(tmp_path: Path, ending: str, told: tuple[str, ...], value: float) -> None:
    """In training and in test images. ITK, and nnU-Net with it, reads them in NIfTI files as 0."""
    cases = [Drawn("a_1", [1], {"annotated": ["LV"]}), Drawn("b_2", [1], {"annotated": ["LV"]}, "Ts")]
    dataset = write_dataset(tmp_path / "raw", "Dataset002_B", {"LV": 1}, cases, ending=ending)
    assert findings(dataset) == {}
    pixels = np.ones((8, 6), np.float32)
    pixels[7, 4:] = value
    for case, part in (("a_1", "Tr"), ("b_2", "Ts")):
        write_image(dataset.image_files(part)[case][0], pixels)
    wrong = [
        says(f"{case}: images{part}/{case}_0000{ending}", "2 pixel(s)", "NaN or infinite", *told)
        for case, part in (("a_1", "Tr"), ("b_2", "Ts"))
    ]
    assert findings(dataset) == {FILES: wrong}


def test_a_class_drawn_without_being_declared(sound: RawDataset) -> None:
    edit_case(sound, "b_1", {"annotated": ["MYO"], "domain": "b", "patient": "pb"})
    edit_case(sound, "b_2", {"annotated": [], "domain": "b", "patient": "pc"})
    assert findings(sound) == {
        CONTENT: [
            "b_1: LV present, but declared as annotated: MYO",
            "b_2: LV present, but declared as annotated: nothing",
        ]
    }


def test_a_value_that_dataset_json_does_not_have(sound: RawDataset) -> None:
    write_image(sound.label_files()["a_1"], np.full((8, 6), 9, np.uint8))
    (line,) = findings(sound)[CONTENT]
    assert line == says("a_1", "holds 9", "dataset.json")


def test_a_class_that_no_training_case_knows(sound: RawDataset) -> None:
    edit(sound.folder / DATASET, labels={"background": 0, **LABELS, "LA": 3})
    assert findings(sound) == {DATASET: [says("LA", "no training case")]}


@pytest.mark.parametrize("declared", [2, 4, None, "3"])
def test_a_wrong_number_of_cases(sound: RawDataset, declared: object) -> None:
    edit(sound.folder / DATASET, numTraining=declared)
    assert findings(sound) == {DATASET: [f"numTraining is {declared}; imagesTr holds 3 case(s)"]}


def test_a_wrong_number_of_channels(sound: RawDataset) -> None:
    first = sound.image_files()["a_1"][0]
    first.with_name("a_1_0001.nii.gz").hardlink_to(first)
    assert findings(sound) == {FILES: ["a_1: 2 channel(s); dataset.json names 1"]}


def test_a_channel_with_the_wrong_number(sound: RawDataset) -> None:
    first = sound.image_files()["a_1"][0]
    first.rename(first.with_name("a_1_0002.nii.gz"))
    assert findings(sound) == {FILES: ["a_1: channel files 0002; expected 0000, 0001, ..."]}


def test_channels_that_differ(tmp_path: Path) -> None:
    case = Drawn("a", [1], {"annotated": ["LV"]})
    dataset = write_dataset(tmp_path / "raw", "Dataset002_B", {"LV": 1}, [case], channels=("t1", "t2"))
    assert findings(dataset) == {}
    write_image(dataset.image_files()["a"][1], np.zeros((9, 6), np.uint8))
    assert findings(dataset) == {FILES: ["a: channels differ: size 6 x 8 against 6 x 9"]}


def test_a_color_picture_has_three_channels_in_one_file(tmp_path: Path) -> None:
    case = Drawn("a", [1], {"annotated": ["LV"]}, spacing_mm=1.0)
    dataset = write_dataset(tmp_path / "raw", "Dataset002_B", {"LV": 1}, [case], ending=".png")
    color = sitk.GetImageFromArray(np.zeros((8, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(color, str(dataset.image_files()["a"][0]))
    assert findings(dataset) == {FILES: ["a: 3 channel(s); dataset.json names 1"]}
    edit(dataset.folder / DATASET, channel_names={"0": "R", "1": "G", "2": "B"})
    assert findings(RawDataset(dataset.folder)) == {}


def test_2d_and_3d_images_in_one_data_set(sound: RawDataset) -> None:
    write_image(sound.image_files()["a_1"][0], np.zeros((2, 3, 4), np.uint8))
    write_image(sound.label_files()["a_1"], np.zeros((2, 3, 4), np.uint8))
    assert findings(sound) == {FILES: [says("2-D: 3 case(s), a_2, b_1, b_2", "3-D: 1 case(s), a_1")]}


def test_a_patient_in_training_and_in_test(sound: RawDataset) -> None:
    edit_case(sound, "b_2", {"annotated": ["LV"], "patient": "pa"})
    assert findings(sound) == {MANIFEST: ["patient pa: in training and in test"]}


@pytest.mark.parametrize("place", ["raw", "preprocessed"])
@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ([{"train": ["a_1", "b_1"], "val": ["a_2"]}], says("fold 0", "1 patient(s) on both sides: pa")),
        ([{"train": ["a_1", "a_2"], "val": ["b_1", "zz"]}], says("fold 0 names 1 case(s)", "not in the dataset: zz")),
        ([{"train": ["a_1"], "val": ["b_1"]}], says("1 case(s)", "in no fold: a_2")),
        ({"train": []}, says("must be a list")),
    ],
)
def test_splits_that_are_wrong(sound: RawDataset, tmp_path: Path, place: str, splits: Any, expected: says) -> None:
    folder = tmp_path / place / "Dataset001_A"
    write_json(folder / SPLITS, splits)
    (line,) = findings(sound)[SPLITS]
    assert line.startswith(f"{folder}: ")
    assert line == expected


def test_splits_that_are_no_json(sound: RawDataset) -> None:
    (sound.folder / SPLITS).write_text("[{")
    (line,) = findings(sound)[SPLITS]
    assert "is not valid JSON" in line


def test_a_data_set_without_splits_is_pointed_out(sound: RawDataset) -> None:
    (sound.folder / SPLITS).unlink()
    checked = check(sound.folder)
    assert checked.findings == {}
    assert "there is no splits_final.json" in checked.remarks[0]


def test_a_preprocessed_manifest_that_differs(sound: RawDataset, tmp_path: Path) -> None:
    copy = tmp_path / "preprocessed/Dataset001_A" / MANIFEST
    write_json(copy, json.loads((sound.folder / MANIFEST).read_text()))
    assert findings(sound) == {}
    edit_case(RawDataset(copy.parent), "a_2", {"annotated": ["LV"]})
    (line,) = findings(sound)[MANIFEST]
    assert line == says("differs", "raw dataset", "case(s) a_2")


def test_a_preprocessed_manifest_that_is_broken(sound: RawDataset, tmp_path: Path) -> None:
    write_json(tmp_path / "preprocessed/Dataset001_A" / MANIFEST, {"version": 9})
    (line,) = findings(sound)[MANIFEST]
    assert "has version 9" in line


def test_measured_and_made_up_pixels(sound: RawDataset) -> None:
    edit_case(sound, "b_1", {"annotated": ["LV"], "patient": "pb", "domain": "b", "spacing_known": False})
    checked = check(sound.folder)
    assert checked.findings == {}
    (remark,) = checked.remarks
    assert "b: 0.5 x 0.5 (partly nominal) mm" in remark


def test_without_manifest_or_dataset_json(sound: RawDataset) -> None:
    (sound.folder / MANIFEST).unlink()
    with pytest.raises(ManifestError, match="does not exist"):
        check(sound.folder)
    (sound.folder / DATASET).unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        check(sound.folder)


def test_without_channel_names(sound: RawDataset) -> None:
    edit(sound.folder / DATASET, channel_names=None)
    with pytest.raises(DatasetError, match="has no 'channel_names'"):
        check(sound.folder)


def test_without_a_preprocessed_folder(sound: RawDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_preprocessed")
    assert findings(sound) == {}


@pytest.mark.slow
def test_many_files_in_several_processes(tmp_path: Path) -> None:
    cases = [Drawn(f"c{n:02d}", [1, 2], {"annotated": ["LV"] + ["MYO"] * (n > 1)}) for n in range(70)]
    dataset = write_dataset(tmp_path / "raw", "Dataset002_B", LABELS, cases)
    found = findings(dataset, processes=2)
    assert [line[:3] for line in found[CONTENT]] == ["c00", "c01"]
    assert found == findings(dataset)


def test_each_file_is_read_once(sound: RawDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = sitk.ReadImage
    monkeypatch.setattr(sitk, "ReadImage", lambda path: read.append(Path(path).name) or original(path))
    check(sound.folder)
    # four images, four labels; from five cases on, up to a hundred label files are read again for mirrored classes
    assert len(read) == len(set(read)) == 8


def test_mirrored_classes_are_a_remark(tmp_path: Path) -> None:
    cases = [Drawn(f"a_{i}", [1, 0, 2], {"annotated": ["LV", "MYO"], "domain": "a"}) for i in range(5)]
    (remark,) = (
        r for r in check(write_dataset(tmp_path / "raw", "Dataset002_B", LABELS, cases).folder).remarks if "mirror" in r
    )
    assert "LV and MYO" in remark
    assert "NoMirroring" in remark


def test_the_command(sound: RawDataset, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["check", "-d", "1", "-np", "1"]
    assert main(call) == 0
    assert capsys.readouterr().out.endswith("\nNothing is wrong.\n")
    sound.label_files()["a_1"].unlink()
    assert main(call) == 1
    text = capsys.readouterr().out
    assert "images and labels: 1 finding(s)\n  a_1: " in text
    assert text.endswith("\n1 finding(s).\n")
    assert main([*call, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["dataset"], document["folder"]) == ("Dataset001_A", str(sound.folder))
    assert document["findings"] == {FILES: ["a_1: training image without a label file in labelsTr"]}
    assert (document["count"], document["updated"]) == (1, None)


# ---- Unity as earlier versions converted it --------------------------------------------------------------------------

UNITY_CASE = f"unity_01-{'ab' * 32}-0001"


@pytest.mark.parametrize(
    ("case", "entry", "flagged"),
    [
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RA"]}, True),
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RA"], "view": "4CH"}, True),
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["LA", "RA"], "view": "2CH"}, True),
        (UNITY_CASE, {"annotated": [], "absent": ["LV"]}, True),  # a case that said nothing but off
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RA"], "domain": "renamed"}, True),
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RA"], "view": ["2CH"]}, True),
        (UNITY_CASE, {"annotated": ["LV"]}, False),
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RV", "RA"], "view": "2CH"}, False),  # true of any such image
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RV", "RA"], "view": "2CH", "off": "unknown"}, False),
        (UNITY_CASE, {"annotated": ["LV"], "absent": ["RA"], "off": "absent"}, False),
        ("unity_mine", {"annotated": ["LV"], "absent": ["RA"], "domain": "unity"}, False),
    ],
)
@pytest.mark.parametrize("part", ["Tr", "Ts"])
def test_unity_with_off_read_as_absent_is_found_also_after_a_merge(
    sound: RawDataset, case: str, entry: Mapping[str, Any], flagged: bool, part: str
) -> None:
    # beside the cases of other data sets, as a merge by an earlier version left it
    values = [1] if entry["annotated"] else []
    entry = {"domain": "unity", "patient": "pu", **entry}
    cases = [
        Drawn("a_1", [1, 2], {"annotated": ["LV", "MYO"], "domain": "a", "patient": "pa"}),
        Drawn(case, values, entry, part),
    ]
    dataset = write_dataset(sound.folder.parent, "Dataset002_Merged", LABELS, cases)
    found = findings(dataset)
    assert list(found) == ([MANIFEST] if flagged else [])
    assert [case in line for line in found.get(MANIFEST, [])] == [True] * flagged
    assert main(["check", "-d", "2", "-np", "1"]) == int(flagged)
    if flagged and part == "Tr":
        other = write_dataset(sound.folder.parent, "Dataset003_B", LABELS, [Drawn("c_1", [1], {"annotated": ["LV"]})])
        with pytest.raises(DatasetError, match=case):
            merge([dataset.folder, other.folder], "Dataset004_Again")
        with pytest.raises(DatasetError, match=case):
            scenario(dataset.folder, "Dataset004_Again", ScenarioOptions(("MYO",)))


def test_hidden_files_of_a_mac_that_nnunet_takes_for_cases(sound: RawDataset) -> None:
    for name in ("imagesTr/._a_1_0000.nii.gz", "labelsTr/._a_1.nii.gz"):
        (sound.folder / name).write_bytes(b"\0\5\x16\7")
    found = findings(sound)[FILES]
    assert len(found) == 2
    assert "._a_1_0000.nii.gz" in found[0]
    assert "labelsTr" in found[1]


@pytest.mark.parametrize("name", ["dataset.json", SPLITS])
def test_a_byte_order_mark(sound: RawDataset, name: str) -> None:
    file = sound.folder / name
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    (line,) = findings(sound)[name]
    assert line.startswith(str(file))
    assert "without BOM" in line


def test_a_byte_order_mark_in_the_preprocessed_folder(sound: RawDataset, tmp_path: Path) -> None:
    plans = tmp_path / "preprocessed" / sound.folder.name / "nnUNetPlans.json"
    plans.parent.mkdir(parents=True)
    plans.write_bytes(b"\xef\xbb\xbf{}")
    (line,) = findings(sound)["preprocessed data"]
    assert line.startswith(str(plans))


def test_channel_names_the_wrong_way_round(sound: RawDataset) -> None:
    edit(sound.folder / DATASET, channel_names={"ultrasound": "0"})
    with pytest.raises(DatasetError, match=re.escape('{"0": "ultrasound"}')):
        check(sound.folder)


def test_a_case_that_is_named_as_a_file(tmp_path: Path) -> None:
    cases = [Drawn(name, [1], {"annotated": ["LV"]}) for name in ("a.nii", "b")]
    dataset = write_dataset(tmp_path / "raw", "Dataset001_A", {"LV": 1}, cases, ending=".nrrd")
    (line,) = findings(dataset)[FILES]
    assert line.startswith("a.nii:")
    assert "Rename it to a:" in line


def test_the_dataset_json_of_older_tools(sound: RawDataset) -> None:
    content = json.loads((sound.folder / DATASET).read_text())
    content["modality"] = content.pop("channel_names")
    content["labels"] = {"background": "0", "LV": "1", "MYO": 2}
    write_json(sound.folder / DATASET, content)
    report = check(sound.folder)
    assert report.findings == {}
    older = [line for line in report.remarks if line.startswith("dataset.json")]
    assert len(older) == 2
    assert "channel_names" in older[0]
    assert "LV, background" in older[1]


@pytest.mark.parametrize(
    ("shape", "spacing", "fine"),
    [  # shape z, y, x; spacing x, y, z; nnU-Net plans 2-D patches of (1, 48) for the first, of (64, 48) for the third
        ((1, 64, 48), (1.34, 1.34, 1.0), False),
        ((64, 48, 1), (1.0, 1.34, 1.34), False),
        ((1, 64, 48), (1.34, 1.34, 1.35), True),
        ((1, 64, 48), (1.0, 1.0, 1.0), True),
        ((64, 48, 1), (1.0, 1.0, 1.0), False),
        ((2, 64, 48), (1.34, 1.34, 1.0), True),
    ],
)
def test_one_slice_that_is_thinner_than_a_pixel(
    tmp_path: Path, shape: tuple[int, ...], spacing: tuple[float, ...], fine: bool
) -> None:
    dataset = write_dataset(
        tmp_path / "raw", "Dataset001_A", {"LV": 1}, [Drawn("a", [1], {"annotated": ["LV"]}, "Tr", shape)]
    )
    for file in (*dataset.image_files()["a"], dataset.label_files()["a"]):
        image = sitk.ReadImage(str(file))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(file))
    found = findings(dataset).get(FILES, [])
    assert len(found) == (0 if fine else 1)
    assert fine or "1.34 mm" in found[0] or "1 mm" in found[0]


def skew(file: Path) -> None:
    """Turn the z axis of a volume by a hundredth towards x, with which ITK refuses it."""
    image = nibabel.load(file)
    affine = image.affine.copy()
    affine[0, 2] = 0.01
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), file)


@pytest.fixture
def skewed(tmp_path: Path) -> RawDataset:
    case = Drawn("a", [1, 0, 1], {"annotated": ["LV"]}, "Tr", (4, 8, 6), 1.0)
    dataset = write_dataset(tmp_path / "raw", "Dataset001_A", {"LV": 1}, [case])
    for file in (*dataset.image_files()["a"], dataset.label_files()["a"]):
        skew(file)
    return dataset


def test_axes_that_are_not_orthonormal_are_read(skewed: RawDataset) -> None:
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(skewed.label_files()["a"]))
    (line,) = findings(skewed)[FILES]
    assert "NibabelIO" in line
    assert line.endswith(": a")
    edit(skewed.folder / DATASET, overwrite_image_reader_writer="NibabelIO")
    assert findings(skewed) == {}
    geometry, values = read_array(skewed.label_files()["a"])
    assert geometry.size == (6, 8, 4)
    assert header(skewed.label_files()["a"]) == geometry
    assert [int(plane.max()) for plane in values] == [1, 0, 1, 0]


def test_axes_that_are_not_orthonormal_are_relabeled(skewed: RawDataset, tmp_path: Path) -> None:
    source, target = skewed.label_files()["a"], tmp_path / "new.nii.gz"
    relabel(source, target, {0: 0, 1: 2})
    assert read_array(target)[0] == read_array(source)[0]
    assert [int(plane.max()) for plane in read_array(target)[1]] == [2, 0, 2, 0]


def test_a_full_disk_leaves_no_file_with_such_axes(
    skewed: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, file: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr(nibabel, "save", fail)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match=r"new\.nii\.gz"):
        relabel(skewed.label_files()["a"], tmp_path / "new.nii.gz", {0: 0, 1: 2})
    assert sorted(tmp_path.iterdir()) == before


def test_flat_images_that_nnunet_cannot_read(tmp_path: Path) -> None:
    case = Drawn("a", [1], {"annotated": ["LV"]})
    dataset = write_dataset(tmp_path / "raw", "Dataset001_A", {"LV": 1}, [case], ending=".nii")
    (line,) = findings(dataset)[FILES]
    assert "NibabelIO" in line


def test_layers_of_a_segmentation(tmp_path: Path) -> None:
    case = Drawn("a", [1], {"annotated": ["LV"]}, "Tr", (4, 8, 6))
    dataset = write_dataset(tmp_path / "raw", "Dataset001_A", {"LV": 1}, [case], ending=".nrrd")
    file = dataset.label_files()["a"]
    one = sitk.ReadImage(str(file))
    both = sitk.Compose(one, one)
    both.SetMetaData("Segment0_Name", "LV")
    both.SetMetaData("Segment1_Name", "wall")
    sitk.WriteImage(both, str(file))
    (line,) = findings(dataset)[CONTENT]
    assert line.startswith("a:")
    assert "LV, wall" in line
    assert "labelmap" in line
    with pytest.raises(ManifestError, match="labelmap"):
        infer_annotations(DatasetToDeclare(dataset))


def test_files_that_dataset_json_lists(sound: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list_files(sound, tmp_path / "elsewhere", monkeypatch)
    dataset = RawDataset(sound.folder)
    assert list(dataset.image_files()) == ["a_1", "a_2", "b_1"]
    assert [path.name for path in dataset.image_files()["a_1"]] == ["image_a_1.nii.gz"]
    assert findings(dataset) == {}
    assert declare(DatasetToDeclare(dataset), dataset.manifest, overwrite=True).files
    assert validated_cases(dataset, dataset.folder, None).fold_of == {"b_1": 0}
    assert find_reference(dataset.folder, "labelsTr").files["a_1"] == dataset.label_files()["a_1"]
    (tmp_path / "elsewhere" / "label_a_2.nii.gz").unlink()
    (line,) = findings(RawDataset(sound.folder))[FILES]
    assert line.startswith("a_2:")


def test_listed_files_are_merged_and_hidden(sound: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list_files(sound, tmp_path / "elsewhere", monkeypatch)
    other = write_dataset(tmp_path / "raw", "Dataset002_B", LABELS, [Drawn("c", [1], {"annotated": ["LV"]})])
    merged = RawDataset(merge([sound.folder, other.folder], "Dataset003_AB").folder)
    hidden = RawDataset(scenario(sound.folder, "Dataset004_S", ScenarioOptions(("LV",), 1.0, domain="b")).folder)
    assert list(merged.label_files()) == ["a_1", "a_2", "b_1", "c"]
    assert list(hidden.label_files()) == list(hidden.image_files()) == ["a_1", "a_2", "b_1"]
    for dataset in (merged, hidden):
        assert dataset.listed is None
        assert dataset.image_files()["a_1"][0].name == "a_1_0000.nii.gz"
        assert FILES not in findings(dataset)


def list_files(dataset: RawDataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the training files of a dataset away, under other names, and list them in its dataset.json."""
    monkeypatch.setenv("ELSEWHERE", str(folder))
    folder.mkdir()
    entries = {}
    for case, (image,) in RawDataset(dataset.folder).image_files().items():
        image.rename(folder / f"image_{case}.nii.gz")
        RawDataset(dataset.folder).label_files()[case].rename(folder / f"label_{case}.nii.gz")
        relative = os.path.relpath(folder, dataset.folder)
        entries[case] = {
            "images": [f"$ELSEWHERE/image_{case}.nii.gz"],
            "label": f"{relative}/label_{case}.nii.gz",
        }
    for name in ("imagesTr", "labelsTr"):
        (dataset.folder / name).rmdir()
    edit(dataset.folder / DATASET, dataset=entries)


def test_a_case_that_nnunet_would_take_for_labels(sound: RawDataset) -> None:
    for file in (sound.folder / "imagesTr" / "a_1_0000.nii.gz", sound.folder / "labelsTr" / "a_1.nii.gz"):
        file.rename(file.with_name(file.name.replace("a_1", "a_1_seg")))
    assert [line for line in check(sound.folder).findings[FILES] if line.startswith("a_1_seg: nnU-Net takes")]
