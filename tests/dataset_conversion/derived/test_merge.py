"""Several data sets become one: small stories with two scanners, in which every number can be checked by hand.

A merge of a scenario: what was hidden comes along, with the numbers of the merged data set.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.raw_datasets import Drawn, list_files, read_values, snapshot, write_dataset, write_image
from nnunet_partial.dataset_conversion.derived import files as files_module
from nnunet_partial.dataset_conversion.derived import merge as merge_module
from nnunet_partial.dataset_conversion.derived.files import relabel
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.derived.scenario import scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.labels import Manifest, common_order

CAMUS = {"LV": 1, "MYO": 2, "LA": 3}
UDA = {"LV": 1, "LA": 2, "RV": 3, "RA": 4}
FOUR_CHAMBERS = ["LV", "LA", "RV", "RA"]


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def camus(raw: Path, **changes: Any) -> RawDataset:
    """Two patients in both views, a third one as official test."""
    cases = []
    for patient, split, part in (("p1", "train", "Tr"), ("p2", "val", "Tr"), ("p3", "test", "Ts")):
        about = {"annotated": ["LV", "MYO", "LA"], "domain": "camus", "patient": f"camus_{patient}", "split": split}
        two = {**about, "absent": ["RV", "RA"], "view": "2CH", "ef": 54.0}
        cases += [
            Drawn(f"camus_{patient}_2CH", [1, 2, 3], two, part),
            Drawn(f"camus_{patient}_4CH", [3, 2, 1], {**about, "view": "4CH"}, part),
        ]
    return write_dataset(raw, "Dataset501_CAMUS", CAMUS, cases, **{"licence": "non-commercial", **changes})


def uda(raw: Path, **changes: Any) -> RawDataset:
    """Three patients, one of whom shows the left ventricle only."""
    about = {"annotated": FOUR_CHAMBERS, "domain": "uda", "spacing_known": False}
    cases = [
        Drawn("uda_1", [1, 2, 3, 4], {**about, "patient": "uda_1"}, spacing_mm=0.8),
        Drawn("uda_2", [1, 1], {**about, "patient": "uda_2"}, spacing_mm=0.8),
        Drawn("uda_3", [4, 3, 2, 1], {**about, "patient": "uda_3"}, "Ts", spacing_mm=0.8),
    ]
    return write_dataset(raw, "Dataset502_UDA", UDA, cases, **changes)


def merged(raw: Path, *names: str, **options: Any) -> RawDataset:
    names = names or ("Dataset501_CAMUS", "Dataset502_UDA")
    return RawDataset(merge([raw / name for name in names], "Dataset510_Echo", **options).folder)


def refused(raw: Path, *names: str) -> str:
    """The message with which a merge is refused; nothing may have been written."""
    before = snapshot(raw)
    with pytest.raises(DatasetError, match="cannot be merged; nothing was written") as caught:
        merged(raw, *names)
    assert snapshot(raw) == before
    return str(caught.value)


# What comes out


def test_classes_are_the_union_in_the_common_order(raw: Path) -> None:
    camus(raw), uda(raw)
    labels = {"background": 0, "LV": 1, "MYO": 2, "LA": 3, "RV": 4, "RA": 5}
    assert merged(raw).dataset_json["labels"] == labels
    assert merged(raw, "Dataset502_UDA", "Dataset501_CAMUS", overwrite=True).dataset_json["labels"] == labels


def test_other_classes_follow_as_they_first_appear() -> None:
    assert common_order(["spleen", "RA", "aorta", "LV", "spleen"]) == ("LV", "RA", "spleen", "aorta")


def test_label_values_get_the_numbers_of_the_union(raw: Path) -> None:
    camus(raw), uda(raw)
    out = merged(raw)
    # LV 1, LA 2, RV 3, RA 4 become 1, 3, 4, 5
    assert read_values(out.label_files()["uda_1"]) == [1, 3, 4, 5, 0, 0, 0, 0]
    assert read_values(out.label_files("Ts")["uda_3"]) == [5, 4, 3, 1, 0, 0, 0, 0]
    assert read_values(out.label_files()["camus_p1_2CH"]) == [1, 2, 3, 0, 0, 0, 0, 0]


def test_only_labels_whose_numbers_change_are_rewritten(raw: Path) -> None:
    first, second = camus(raw), uda(raw)
    out = merged(raw)

    def same_file(source: RawDataset, case: str, part: str = "Tr") -> bool:
        return source.label_files(part)[case].samefile(out.label_files(part)[case])

    assert same_file(first, "camus_p1_2CH")
    assert same_file(first, "camus_p3_4CH", "Ts")
    assert same_file(second, "uda_2")  # LV only: 1 stays 1
    assert not same_file(second, "uda_1")
    assert not same_file(second, "uda_3", "Ts")


def test_a_rewritten_label_keeps_geometry_and_type(raw: Path) -> None:
    camus(raw)
    source = uda(raw).label_files()["uda_1"]
    before, after = (sitk.ReadImage(str(path)) for path in (source, merged(raw).label_files()["uda_1"]))
    assert after.GetSpacing() == before.GetSpacing() == pytest.approx((0.8, 0.8))
    assert after.GetOrigin() == before.GetOrigin()
    assert after.GetDirection() == before.GetDirection()
    assert after.GetPixelID() == before.GetPixelID() == sitk.sitkUInt8


def test_images_are_hard_links(raw: Path) -> None:
    first, second = camus(raw), uda(raw)
    out = merged(raw)
    for part, number in (("Tr", 6), ("Ts", 3)):
        files = {**first.image_files(part), **second.image_files(part)}
        assert sorted(out.image_files(part)) == sorted(files)
        assert len(files) == number
        for case, paths in files.items():
            assert out.image_files(part)[case][0].samefile(paths[0])


def test_sources_stay_as_they_are(raw: Path) -> None:
    camus(raw), uda(raw)
    before = {name: snapshot(raw / name) for name in ("Dataset501_CAMUS", "Dataset502_UDA")}
    merged(raw)
    merged(raw, overwrite=True)
    assert {name: snapshot(raw / name) for name in before} == before


def test_where_linking_is_impossible_files_are_copied(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    first, _ = camus(raw), uda(raw)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    out = merged(raw)
    source, copy = first.image_files()["camus_p1_2CH"][0], out.image_files()["camus_p1_2CH"][0]
    assert not copy.samefile(source)
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o444 == source.stat().st_mode & 0o444


def test_symbolic_links_are_followed(raw: Path, tmp_path: Path) -> None:
    first, _ = camus(raw), uda(raw)
    image = first.image_files()["camus_p1_2CH"][0]
    elsewhere = tmp_path / "elsewhere.nii.gz"
    image.rename(elsewhere)
    image.symlink_to(elsewhere)
    out = merged(raw).image_files()["camus_p1_2CH"][0]
    assert not out.is_symlink()
    assert out.samefile(elsewhere)


def test_each_case_knows_what_its_own_data_set_knew(raw: Path) -> None:
    camus(raw), uda(raw)
    manifest, classes = merged(raw).manifest, ("LV", "MYO", "LA", "RV", "RA")
    expected = {
        "camus_p1_2CH": [True, True, True, True, True, True],  # RV and RA are absent from a two-chamber view
        "camus_p1_4CH": [True, True, True, True, False, False],  # there, but nobody drew them
        "uda_1": [True, True, False, True, True, True],
        "camus_p3_2CH": [True, True, True, True, True, True],
        "uda_3": [True, True, False, True, True, True],
    }
    assert {case: manifest.known(case, classes).tolist() for case in expected} == expected


def test_entries_are_kept_word_by_word(raw: Path) -> None:
    first, second = camus(raw), uda(raw)
    assert merged(raw).manifest.cases == {**first.manifest.cases, **second.manifest.cases}


def test_groups_become_entries_of_cases(raw: Path) -> None:
    camus(raw)
    cases = [Drawn("siteB_1", [1], None), Drawn("siteB_2", [2], {"annotated": ["RV"]}), Drawn("siteC_1", [2], None)]
    groups = [
        {"match": "siteB_*", "annotated": ["LV"], "domain": "b", "view": "4CH"},
        {"match": "*", "annotated": ["RV"], "absent": ["LA"]},
    ]
    write_dataset(raw, "Dataset503_Sites", {"LV": 1, "RV": 2}, cases, groups=groups)
    manifest = merged(raw, "Dataset501_CAMUS", "Dataset503_Sites").manifest
    assert manifest.groups == ()
    assert manifest.cases["siteB_1"].to_json() == {"annotated": ["LV"], "domain": "b", "view": "4CH"}
    # a case without domain is given the name of its data set
    assert manifest.cases["siteB_2"].to_json() == {"annotated": ["RV"], "domain": "Sites"}
    assert manifest.cases["siteC_1"].to_json() == {"annotated": ["RV"], "absent": ["LA"], "domain": "Sites"}


def test_the_ignore_label_keeps_the_highest_value(raw: Path) -> None:
    camus(raw)
    case = Drawn("x_1", [1, 2, 0, 2], {"annotated": ["RV"]})
    write_dataset(raw, "Dataset503_X", {"RV": 1, "ignore": 2}, [case])
    out = merged(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert out.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2, "LA": 3, "RV": 4, "ignore": 5}
    assert read_values(out.label_files()["x_1"]) == [4, 5, 0, 5, 0, 0, 0, 0]


def test_dataset_json_says_where_it_comes_from_and_how_many(raw: Path) -> None:
    camus(raw), uda(raw, licence="Apache-2.0")
    content = merged(raw).dataset_json
    assert content["numTraining"] == 6  # 4 of camus, 2 of uda
    assert content["name"] == "Echo"
    assert content["description"] == "Merged from Dataset501_CAMUS, Dataset502_UDA"
    assert content["licence"] == "Dataset501_CAMUS: non-commercial; Dataset502_UDA: Apache-2.0"
    assert content["channel_names"] == {"0": "ultrasound"}


def test_a_source_without_a_license_is_named(raw: Path) -> None:
    camus(raw), uda(raw)
    assert merged(raw).dataset_json["licence"] == "Dataset501_CAMUS: non-commercial; Dataset502_UDA: not stated"


@pytest.mark.parametrize(("own", "expected"), [(None, 120), (120, 120), (150, None)])
def test_the_nominal_depth_is_kept_where_there_is_one(raw: Path, own: int | None, expected: int | None) -> None:
    camus(raw, **({} if own is None else {"nominal_depth_mm": own})), uda(raw, nominal_depth_mm=120)
    assert merged(raw).dataset_json.get("nominal_depth_mm") == expected


def test_the_merged_data_set_is_sound(raw: Path) -> None:
    camus(raw), uda(raw)
    out = merged(raw)
    assert check(out.folder).findings == {}


def test_splits_go_by_patient_and_lie_in_both_folders(raw: Path, tmp_path: Path) -> None:
    camus(raw), uda(raw)
    out = merged(raw)
    splits = json.loads((out.folder / "splits_final.json").read_text())
    assert splits == json.loads((tmp_path / "preprocessed/Dataset510_Echo/splits_final.json").read_text())
    assert splits[-1] == {
        "train": ["camus_p1_2CH", "camus_p1_4CH", "uda_1", "uda_2"],
        "val": ["camus_p2_2CH", "camus_p2_4CH"],
    }
    for split in splits:
        patients = [{out.manifest.patient_of(case) for case in split[side]} for side in ("train", "val")]
        assert not patients[0] & patients[1]


def test_three_data_sets(raw: Path) -> None:
    camus(raw), uda(raw)
    write_dataset(raw, "Dataset503_HMC", {"MYO": 1}, [Drawn("hmc_1", [1], {"annotated": ["MYO"]})])
    out = merged(raw, "Dataset501_CAMUS", "Dataset502_UDA", "Dataset503_HMC")
    assert read_values(out.label_files()["hmc_1"])[0] == 2
    assert len(out.label_files()) == 7


def test_one_patient_in_two_data_sets_stays_together(raw: Path) -> None:
    camus(raw)
    cases = [Drawn(f"ted_{n}", [1], {"annotated": ["LV"], "patient": f"camus_p{n}"}) for n in (1, 2)]
    write_dataset(raw, "Dataset503_TED", {"LV": 1}, cases)
    out = merged(raw, "Dataset501_CAMUS", "Dataset503_TED")
    for split in json.loads((out.folder / "splits_final.json").read_text()):
        for case in ("ted_1", "ted_2"):
            partner = f"camus_p{case[-1]}_2CH"
            assert (case in split["train"]) == (partner in split["train"])


def test_test_images_without_labels_come_along(raw: Path) -> None:
    camus(raw)
    second = uda(raw)
    second.label_files("Ts")["uda_3"].unlink()
    out = merged(raw)
    assert "uda_3" in out.image_files("Ts")
    assert "uda_3" not in out.label_files("Ts")


def test_several_channels_come_along(raw: Path) -> None:
    for number, name in enumerate("AB", start=1):
        case = Drawn(f"{name}_1", [1], {"annotated": ["LV"]})
        write_dataset(raw, f"Dataset00{number}_{name}", {"LV": 1}, [case], channels=("t1", "t2"))
    out = merged(raw, "Dataset001_A", "Dataset002_B")
    assert [path.name for path in out.image_files()["B_1"]] == ["B_1_0000.nii.gz", "B_1_0001.nii.gz"]


def test_volumes(raw: Path) -> None:
    for number, (name, labels) in enumerate({"A": {"LV": 1}, "B": {"RV": 1}}.items(), start=1):
        case = Drawn(f"{name}_1", [0, 1], {"annotated": list(labels)}, shape=(3, 4, 5))
        write_dataset(raw, f"Dataset00{number}_{name}", labels, [case])
    out = merged(raw, "Dataset001_A", "Dataset002_B")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(out.label_files()["B_1"])))
    assert array.sum(axis=(1, 2)).tolist() == [0, 2 * 20, 0]  # the second slice, 4 x 5 voxels, of value 2


@pytest.mark.slow
def test_several_processes_write_the_same(raw: Path) -> None:
    camus(raw)
    cases = [Drawn(f"u{n:03d}", [2], {"annotated": ["LA"], "patient": f"u{n}"}) for n in range(70)]
    write_dataset(raw, "Dataset502_UDA", UDA, cases)
    alone = snapshot(merged(raw).folder)
    together = snapshot(merged(raw, overwrite=True, processes=2).folder)
    assert {name: content for name, (_, content) in alone.items()} == {n: c for n, (_, c) in together.items()}


# Interrupted, repeated


def test_interrupted_and_resumed_gives_the_same_files(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camus(raw), uda(raw)
    whole = snapshot(merged(raw).folder)
    subprocess.run(["rm", "-r", str(raw / "Dataset510_Echo")], check=True)
    link_or_relabel, written = files_module._link_or_relabel, []

    def stop_after_eight(file: Any) -> None:
        if len(written) == 8:
            raise KeyboardInterrupt
        written.append(file)
        link_or_relabel(file)

    monkeypatch.setattr(files_module, "_link_or_relabel", stop_after_eight)
    with pytest.raises(KeyboardInterrupt):
        merged(raw)
    assert not (raw / "Dataset510_Echo").exists()
    monkeypatch.undo()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    resumed = snapshot(merged(raw).folder)
    assert {n: c for n, (_, c) in resumed.items()} == {n: c for n, (_, c) in whole.items()}
    assert not list(raw.glob(".*"))


def test_a_source_that_changed_in_between_starts_afresh(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camus(raw)
    source = uda(raw)

    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(merge_module, "write_metadata", stop)
        with pytest.raises(KeyboardInterrupt):
            merged(raw)
    changed = np.zeros((8, 6), np.uint8)
    changed[5] = 4
    source.label_files()["uda_1"].unlink()
    write_image(source.folder / "labelsTr/uda_1.nii.gz", changed)
    assert read_values(merged(raw).label_files()["uda_1"]) == [0, 0, 0, 0, 0, 5, 0, 0]


def test_an_existing_data_set_is_not_touched(raw: Path) -> None:
    camus(raw), uda(raw)
    before = snapshot(merged(raw).folder)
    with pytest.raises(DatasetError, match=r"exists\..* -d, .*--overwrite"):
        merged(raw)
    assert snapshot(raw / "Dataset510_Echo") == before
    next((raw / "Dataset501_CAMUS" / "labelsTr").iterdir()).write_text("no picture")
    with pytest.raises(DatasetError, match="exists"):  # said before the sources are looked at
        merged(raw)


def test_overwrite_replaces_the_whole_data_set(raw: Path) -> None:
    camus(raw), uda(raw)
    out = merged(raw)
    (out.folder / "old.txt").write_text("from before")
    assert not (merged(raw, overwrite=True).folder / "old.txt").exists()


def test_a_source_is_never_the_target(raw: Path) -> None:
    camus(raw), uda(raw)
    with pytest.raises(DatasetError, match=r"Dataset502_UDA is .*to be merged"):
        merge([raw / "Dataset501_CAMUS", raw / "Dataset502_UDA"], "Dataset502_UDA", overwrite=True)


# What is refused, with the names of the culprits


def test_fewer_than_two_data_sets(raw: Path) -> None:
    camus(raw)
    for names in (["Dataset501_CAMUS"], ["Dataset501_CAMUS"] * 2):
        with pytest.raises(DatasetError, match="expected at least two different datasets"):
            merged(raw, *names)


def test_the_same_case_twice(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("camus_p3_2CH", [1], {"annotated": ["LV"]})])
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert message == says("1 case(s)", "same identifier", "Dataset501_CAMUS and Dataset503_X: camus_p3_2CH")
    assert "--prefix 503:B_" in message


def test_names_that_are_one_file_on_other_disks_are_not_merged(raw: Path) -> None:
    """There, the second case would be taken for done, and have the image of the first."""
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("Camus_P3_2ch", [1], {"annotated": ["LV"]})])
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert message == says("1 case(s)", "Dataset501_CAMUS and Dataset503_X: camus_p3_2CH and Camus_P3_2ch")


def test_patients_who_may_have_two_names_are_warned_of(raw: Path) -> None:
    camus(raw)
    entry = {"annotated": ["LV"], "domain": "x", "patient": "CAMUS_p1"}
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("x_1", [1], entry)])
    out = merge([raw / "Dataset501_CAMUS", raw / "Dataset503_X"], "Dataset510_Echo")
    assert says("1 patient(s)", "'CAMUS_p1' = 'camus_p1'") in out.warnings


def test_patients_of_one_name_in_two_datasets_are_warned_of(raw: Path) -> None:
    """Two hospitals number their patients from 1: in every number their patients 1 would be one person."""
    camus(raw)
    for name, domain, patients in (("Dataset503_A", "a", "123"), ("Dataset504_B", "b", "234")):
        entries = [{"annotated": ["LV"], "domain": domain, "patient": patient} for patient in patients]
        write_dataset(raw, name, {"LV": 1}, [Drawn(f"{domain}_{e['patient']}", [1], e) for e in entries])
    out = merge([raw / name for name in ("Dataset501_CAMUS", "Dataset503_A", "Dataset504_B")], "Dataset510_Echo")
    assert says("2 patient(s)", "Dataset503_A and Dataset504_B", "2, 3") in out.warnings
    assert "camus_p1" not in str(out.warnings)


def test_patients_who_are_declared_the_same_are_not_warned_of(raw: Path) -> None:
    camus(raw)
    entry = {"annotated": ["LV"], "domain": "ted", "patient": "camus_p1", "same_people_as": "camus"}
    write_dataset(raw, "Dataset503_TED", {"LV": 1}, [Drawn("ted_1", [1], entry)])
    out = merge([raw / "Dataset501_CAMUS", raw / "Dataset503_TED"], "Dataset510_Echo")
    assert "camus_p1" not in str(out.warnings)


def same_names(raw: Path) -> None:
    """Two datasets whose cases are p1, p2 and p3; in the second, two of them without a patient entry."""
    known = {"annotated": ["LV"]}
    cases = [Drawn("p1", [1], known), Drawn("p2", [1, 1], known), Drawn("p3", [1], {**known, "patient": "A3"})]
    write_dataset(raw, "Dataset504_A", {"LV": 1}, cases)
    known = {"annotated": ["MYO"]}
    cases = [Drawn("p1", [1, 1, 1], known), Drawn("p2", [0, 1], known), Drawn("p3", [1], {**known, "patient": "B3"})]
    write_dataset(raw, "Dataset505_B", {"MYO": 1}, cases, channels=("ultrasound",))


def test_a_prefix_keeps_cases_of_the_same_name_apart(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same_names(raw)
    assert main(["merge", "-i", "504", "505", "-d", "510", "--name", "Echo", "--prefix", "505:B_", "-np", "1"]) == 0
    out = RawDataset(raw / "Dataset510_Echo")
    assert sorted(out.image_files()) == ["B_p1", "B_p2", "B_p3", "p1", "p2", "p3"]
    assert {case: read_values(path)[:3] for case, path in out.label_files().items()} == {
        "p1": [1, 0, 0], "p2": [1, 1, 0], "p3": [1, 0, 0],
        "B_p1": [2, 2, 2], "B_p2": [0, 2, 0], "B_p3": [2, 0, 0],
    }  # fmt: skip
    source, image = raw / "Dataset505_B" / "imagesTr" / "p2_0000.nii.gz", out.image_files()["B_p2"][0]
    assert image.read_bytes() == source.read_bytes()
    manifest = out.manifest
    assert manifest.labels_of("B_p1").annotated == ("MYO",)
    assert manifest.labels_of("p1").annotated == ("LV",)
    # only the name tells the patient, and it may be the same person: never in training and validation at once
    patients = {case: manifest.patient_of(case) for case in manifest.cases}
    assert patients == {"p1": "p1", "B_p1": "p1", "p2": "p2", "B_p2": "p2", "p3": "A3", "B_p3": "B3"}
    assert "2 patient(s) of Dataset504_A and Dataset505_B" in capsys.readouterr().out
    assert not check(raw / "Dataset510_Echo").findings


def test_a_prefix_brings_the_hidden_labels_along(raw: Path) -> None:
    same_names(raw)
    camus(raw)
    scenario(raw / "Dataset501_CAMUS", "Dataset506_Hidden", ScenarioOptions(missing=("LA",), fraction=0.5))
    folders = [raw / "Dataset506_Hidden", raw / "Dataset501_CAMUS"]
    out = merge(folders, "Dataset510_Echo", prefixes={folders[0]: "H_"}).folder
    full = RawDataset(out).label_files("Tr_full")
    assert read_values(full["H_camus_p1_2CH"])[:3] == [1, 2, 3]
    assert Manifest.read(out / "partial_labels_full.json").labels_of("H_camus_p1_2CH").annotated == ("LV", "MYO", "LA")
    hidden = [RawDataset(out).manifest.labels_of(f"H_camus_{p}_2CH").annotated for p in ("p1", "p2")]
    assert sorted(hidden) == [("LV", "MYO"), ("LV", "MYO", "LA")]


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        (["505:"], "--prefix 505:"),
        (["B_"], "--prefix B_"),
        (["505:../"], r"'\.\./'"),
        (["501:B_"], "Dataset501_CAMUS, which is not merged"),
        (["504:B_", "505:B_"], "same identifier in Dataset504_A and Dataset505_B: B_p1"),
    ],
)
def test_a_wrong_prefix(raw: Path, prefix: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    same_names(raw)
    camus(raw)
    assert main(["merge", "-i", "504", "505", "-d", "510", "--prefix", *prefix]) == 1
    assert re.search(said, capsys.readouterr().err)
    assert not list(raw.glob("*510*"))


def test_a_renamed_class_stays_a_class_of_its_own(raw: Path) -> None:
    """LV of the second dataset becomes LV_inner, RV becomes MYO, which the first one has."""
    camus(raw), uda(raw)
    call = ["merge", "-i", "501", "502", "-d", "510", "--name", "Echo", "-np", "1"]
    assert main([*call, "--rename", "502:LV=LV_inner", "--rename", "502:RV=MYO"]) == 0  # as in one --rename
    out = RawDataset(raw / "Dataset510_Echo")
    assert out.classes == ("LV", "MYO", "LA", "RA", "LV_inner")
    # LV 1, LA 2, RV 3, RA 4 become 5, 3, 2, 4
    assert read_values(out.label_files()["uda_1"])[:4] == [5, 3, 2, 4]
    assert read_values(out.label_files("Ts")["uda_3"])[:4] == [4, 2, 3, 5]
    assert read_values(out.label_files()["camus_p1_2CH"])[:3] == [1, 2, 3]
    assert out.manifest.labels_of("uda_1").annotated == ("LV_inner", "LA", "MYO", "RA")
    assert out.manifest.labels_of("camus_p1_2CH").annotated == ("LV", "MYO", "LA")
    assert out.manifest.labels_of("camus_p1_2CH").absent == ("RV", "RA")
    assert "Dataset502_UDA (LV is LV_inner, RV is MYO)" in out.dataset_json["description"]
    assert not check(out.folder).findings


def test_names_can_be_exchanged_and_hidden_labels_follow(raw: Path) -> None:
    camus(raw), uda(raw)
    scenario(raw / "Dataset501_CAMUS", "Dataset506_Hidden", ScenarioOptions(missing=("LA",), fraction=0.5))
    folders = [raw / "Dataset506_Hidden", raw / "Dataset502_UDA"]
    renames = {folders[0]: {"LV": "MYO", "MYO": "LV", "LA": "LA_camus"}}
    out = merge(folders, "Dataset510_Echo", renames=renames).folder
    assert RawDataset(out).classes == ("LV", "MYO", "LA", "RV", "RA", "LA_camus")
    assert read_values(RawDataset(out).label_files("Tr_full")["camus_p1_2CH"])[:3] == [2, 1, 6]
    cases = [f"camus_{patient}_2CH" for patient in ("p1", "p2")]
    assert sorted(read_values(RawDataset(out).label_files()[case])[:3] for case in cases) == [[2, 1, 0], [2, 1, 6]]
    annotated = sorted(RawDataset(out).manifest.labels_of(case).annotated for case in cases)
    assert annotated == [("MYO", "LV"), ("MYO", "LV", "LA_camus")]
    full = Manifest.read(out / "partial_labels_full.json").labels_of("camus_p1_2CH")
    assert full.annotated == ("MYO", "LV", "LA_camus")


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (["502:LV"], "--rename 502:LV:"),
        (["LV=A"], "--rename LV=A:"),
        (["502:MYO=A"], "Dataset502_UDA has no class MYO"),
        (["502:LV=LA"], "two things by LA"),
        (["502:LV=A", "502:LA=A"], "two things by A"),
        (["501:LV=RV"], "two things by RV"),  # absent from its cases
        (["502:LV=A", "502:LV=B"], "LV has the new name A too"),
        (["502:LV=background"], "'background'"),
        (["502:LV= A"], "' A'"),
        (["503:LV=A"], "Dataset503_TED, which is not merged"),
    ],
)
def test_a_wrong_new_name(raw: Path, rename: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    camus(raw), uda(raw)
    write_dataset(raw, "Dataset503_TED", {"LV": 1}, [Drawn("ted_1", [1], {"annotated": ["LV"]})])
    before = snapshot(raw)
    assert main(["merge", "-i", "501", "502", "-d", "510", "-np", "1", "--rename", *rename]) == 1
    assert said in capsys.readouterr().err
    assert snapshot(raw) == before


@pytest.mark.parametrize(("patient", "part"), [("camus_p3", "Tr"), ("camus_p1", "Ts")])
def test_a_patient_who_trains_here_and_tests_there(raw: Path, patient: str, part: str) -> None:
    camus(raw)
    case = Drawn("ted_1", [1], {"annotated": ["LV"], "patient": patient}, part)
    other = Drawn("ted_2", [1], {"annotated": ["LV"]})
    write_dataset(raw, "Dataset503_TED", {"LV": 1}, [case, other])
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_TED")
    sides = {"Tr": "test in Dataset501_CAMUS, training in", "Ts": "training in Dataset501_CAMUS, test in"}
    assert message == says("1 patient(s)", f"({sides[part]} Dataset503_TED): {patient}")


def test_a_patient_who_trains_and_tests_in_one_data_set(raw: Path) -> None:
    camus(raw)
    known = {"annotated": ["LV"], "patient": "p7"}
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("x_1", [1], known), Drawn("x_2", [1], known, "Ts")])
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert message == says("1 patient(s)", "(test and training in Dataset503_X): p7")


def test_a_test_case_among_the_training_images(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("x", [1], {"annotated": ["LV"], "split": "test"})])
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert message == says("Dataset503_X: 1 training case(s)", "split 'test'", "partial_labels.json: x")


def test_channels_go_by_their_numbers(raw: Path) -> None:
    """JSON keeps no order that counts: {"1": flow, "0": ultrasound} is ultrasound, then flow."""
    for number, name in ((503, "X"), (504, "Y")):
        case = Drawn(f"case{number}", [1], {"annotated": ["LV"]})
        write_dataset(raw, f"Dataset{number}_{name}", {"LV": 1}, [case], channels=("ultrasound", "flow"))
    file = raw / "Dataset504_Y" / "dataset.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "channel_names": {"1": "ultrasound", "0": "flow"}}))
    message = refused(raw, "Dataset503_X", "Dataset504_Y")
    assert message == says("different channels", "Dataset503_X: ultrasound, flow", "Dataset504_Y: flow, ultrasound")


def test_different_file_endings(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("x", [1], {"annotated": ["LV"]})], ending=".mha")
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert message == says("different file endings", "Dataset501_CAMUS: .nii.gz", "Dataset503_X: .mha")


@pytest.mark.parametrize("channels", [("ultrasound", "flow"), ("CT",)])
def test_different_channels(raw: Path, channels: tuple[str, ...]) -> None:
    camus(raw)
    case = Drawn("x", [1], {"annotated": ["LV"]})
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [case], channels=channels)
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert f"different channels: Dataset501_CAMUS: ultrasound; Dataset503_X: {', '.join(channels)}" in message


def test_a_case_that_lacks_a_channel(raw: Path) -> None:
    for number, name in enumerate("AB", start=1):
        case = Drawn(f"{name}_1", [1], {"annotated": ["LV"]})
        write_dataset(raw, f"Dataset00{number}_{name}", {"LV": 1}, [case], channels=("t1", "t2"))
    (raw / "Dataset002_B/imagesTr/B_1_0001.nii.gz").unlink()
    message = refused(raw, "Dataset001_A", "Dataset002_B")
    assert message == says("Dataset002_B: case B_1", "1 channel(s)", "dataset.json names 2")


def test_2d_with_3d(raw: Path) -> None:
    camus(raw)
    case = Drawn("mitea_1", [1], {"annotated": ["LV"]}, shape=(3, 4, 5))
    write_dataset(raw, "Dataset503_MITEA", {"LV": 1}, [case])
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_MITEA")
    assert message == says("2-D: 6 case(s) of Dataset501_CAMUS", "3-D: 1 case(s) of Dataset503_MITEA (mitea_1)")


def test_a_missing_manifest(raw: Path) -> None:
    camus(raw), uda(raw)
    (raw / "Dataset502_UDA/partial_labels.json").unlink()
    message = refused(raw)
    assert "Dataset502_UDA: " in message
    assert "partial_labels.json does not exist" in message


def test_missing_labels_and_images(raw: Path) -> None:
    first, _ = camus(raw), uda(raw)
    first.label_files()["camus_p1_2CH"].unlink()
    first.image_files()["camus_p1_4CH"][0].unlink()
    first.image_files("Ts")["camus_p3_4CH"][0].unlink()
    message = refused(raw)
    lines = message.splitlines()
    assert says("Dataset501_CAMUS", "1 training image(s)", "camus_p1_2CH") in lines
    assert says("Dataset501_CAMUS", "1 label file(s)", "labelsTr", "camus_p1_4CH") in lines
    assert says("Dataset501_CAMUS", "1 label file(s)", "labelsTs", "camus_p3_4CH") in lines


def test_regions_without_an_order(raw: Path) -> None:
    camus(raw)
    case = Drawn("x", [1], {"annotated": []})
    write_dataset(raw, "Dataset503_X", {"whole": [1, 2], "LV": 2}, [case])
    assert "Dataset503_X: dataset.json has regions_class_order None" in refused(raw, "Dataset501_CAMUS", "Dataset503_X")


def test_cases_without_entry_and_classes_that_are_not_there(raw: Path) -> None:
    camus(raw)
    cases = [Drawn("x_1", [1], None), Drawn("x_2", [1], {"annotated": ["LV", "RV"]})]
    write_dataset(raw, "Dataset503_X", {"LV": 1}, cases)
    message = refused(raw, "Dataset501_CAMUS", "Dataset503_X")
    assert "x_1" in message
    assert message == says("class 'RV'", "1 case(s) (x_2)")


def test_a_class_drawn_without_being_declared(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1, "RV": 2}, [Drawn("x", [1, 2], {"annotated": ["LV"]})])
    assert "Dataset503_X: x: RV present, but declared as annotated" in refused(raw, "Dataset501_CAMUS", "Dataset503_X")


def test_an_unreadable_image(raw: Path) -> None:
    camus(raw), uda(raw)
    (raw / "Dataset502_UDA/imagesTr/uda_1_0000.nii.gz").write_bytes(b"not an image")
    assert refused(raw) == says("Dataset502_UDA", "imagesTr/uda_1_0000.nii.gz cannot be read")


def test_class_names_that_differ_in_spelling_only(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"lv": 1}, [Drawn("x", [1], {"annotated": ["lv"]})])
    assert "differ in spelling only: LV, lv" in refused(raw, "Dataset501_CAMUS", "Dataset503_X")


def test_several_mistakes_are_named_at_once(raw: Path) -> None:
    camus(raw)
    case = Drawn("camus_p1_2CH", [1], {"annotated": ["LV"], "patient": "camus_p3"})
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [case], ending=".mha", channels=("CT",))
    assert refused(raw, "Dataset501_CAMUS", "Dataset503_X").count("\n- ") == 4


# What the user is told


def test_the_table_and_the_scale(raw: Path) -> None:
    camus(raw), uda(raw)
    out = merge([raw / "Dataset501_CAMUS", raw / "Dataset502_UDA"], "Dataset510_Echo")
    first = out.overview.splitlines()[:4]
    # domain, training, test, patients, official, pixel, image (6 x 8 pixels of 0.5 and 0.8 mm)
    assert first[2].split() == ["camus", "4", "2", "3", "2", "/", "2", "/", "2", "0.5", "x", "0.5", "3", "x", "4"]
    assert first[3].split() == ["uda", "2", "1", "3", "none", "0.8", "x", "0.8", "(nominal)", "5", "x", "6"]
    training = out.overview.split("Number of training cases")[1].splitlines()
    assert "4 / 0 / 0  4 / 0 / 0  4 / 0 / 0  0 / 2 / 2  0 / 2 / 2" in training[3]
    assert "2 / 0 / 0  0 / 0 / 2  2 / 0 / 0  2 / 0 / 0  2 / 0 / 0" in training[4]
    test = out.overview.split("Number of test cases")[1].splitlines()
    assert "2 / 0 / 0  2 / 0 / 0  2 / 0 / 0  0 / 1 / 1  0 / 1 / 1" in test[3]
    assert "1 / 0 / 0  0 / 0 / 1  1 / 0 / 0  1 / 0 / 0  1 / 0 / 0" in test[4]
    (scale,) = [warning for warning in out.warnings if "nominal spacing" in warning]
    assert "camus: 0.5 x 0.5 mm" in scale
    assert "uda: 0.8 x 0.8 (nominal) mm" in scale


def test_one_kind_of_spacing_is_no_warning(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1}, [Drawn("x", [1], {"annotated": ["LV"], "spacing_known": True})])
    out = merge([raw / "Dataset501_CAMUS", raw / "Dataset503_X"], "Dataset510_Echo")
    assert not [warning for warning in out.warnings if "nominal spacing" in warning]


def test_what_is_left_behind_is_said(raw: Path) -> None:
    first, _ = camus(raw), uda(raw)
    first.image_files()["camus_p1_2CH"][0].unlink()
    first.label_files()["camus_p1_2CH"].unlink()
    out = merge([raw / "Dataset501_CAMUS", raw / "Dataset502_UDA"], "Dataset510_Echo")
    assert says("Dataset501_CAMUS", "1 case(s)", "left out", "camus_p1_2CH") in out.warnings
    assert "camus_p1_2CH" not in RawDataset(out.folder).manifest.cases


def test_a_class_that_nobody_drew_is_said(raw: Path) -> None:
    camus(raw)
    write_dataset(raw, "Dataset503_X", {"LV": 1, "RV": 2}, [Drawn("x", [1], {"annotated": ["LV"]})])
    out = merge([raw / "Dataset501_CAMUS", raw / "Dataset503_X"], "Dataset510_Echo")
    assert says("no training case", "RV") in out.warnings


# The pieces


def test_relabel_never_writes_through_a_link(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", np.full((4, 4), 1, np.uint8))
    (tmp_path / "b.nii.gz").hardlink_to(tmp_path / "a.nii.gz")
    relabel(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", {0: 0, 1: 5})
    assert read_values(tmp_path / "a.nii.gz") == [1, 1, 1, 1]
    assert read_values(tmp_path / "b.nii.gz") == [5, 5, 5, 5]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".png"])
def test_a_full_disk_leaves_no_half_label_file(tmp_path: Path, ending: str) -> None:
    """In some formats ITK does not notice; a part of the file would be taken for done by the next start."""
    resource = pytest.importorskip("resource")
    values = np.random.default_rng(0).integers(0, 3, (600, 600)).astype(np.uint8)
    write_image(tmp_path / f"a{ending}", values)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DatasetError, match=rf"b{ending}"):
            relabel(tmp_path / f"a{ending}", tmp_path / f"b{ending}", {0: 0, 1: 2, 2: 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


def test_relabel_refuses_a_value_it_was_not_told(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", np.array([[0, 1], [7, 9]], np.uint8))
    with pytest.raises(DatasetError, match=r"label value\(s\) \[7, 9\]; expected \[0, 1\]"):
        relabel(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", {0: 0, 1: 5})
    assert not (tmp_path / "b.nii.gz").exists()


def test_relabel_finds_room_for_many_classes(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", np.array([[0, 1]], np.uint8))
    relabel(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", {0: 0, 1: 300})
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nii.gz"))).tolist() == [[0, 300]]


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import argparse, sys\n"
        "from nnunet_partial.cli import check, merge\n"
        "parser = argparse.ArgumentParser()\n"
        "commands = parser.add_subparsers()\n"
        "check.add_parser(commands), merge.add_parser(commands)\n"
        "args = parser.parse_args(sys.argv[1:])\n"
        "code = args.run(args)\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_commands_without_torch(raw: Path) -> None:
    camus(raw), uda(raw)
    done = run_command("merge", "-i", "501", "502", "-d", "510", "--name", "Echo")
    assert done.returncode == 0, done.stderr
    assert "Number of training cases per structure" in done.stdout
    assert says("Warning", "measured and nominal") in done.stdout.splitlines()
    checked = run_command("check", "-d", "510")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Nothing is wrong." in checked.stdout


def test_every_refusal_is_an_error_of_ours(raw: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"dataset\.json does not exist"):
        merged(raw, "Dataset001_Nothing", "Dataset002_Neither")


# Unknown as ignore


def test_unknown_as_ignore_marks_the_background_of_partially_labeled_training_cases(raw: Path) -> None:
    first, second = camus(raw), uda(raw)
    out = merged(raw, unknown_as_ignore=True)
    assert out.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2, "LA": 3, "RV": 4, "RA": 5, "ignore": 6}
    # RV and RA are absent in two-chamber views and unknown in the others; uda does not know the wall
    assert read_values(out.label_files()["camus_p1_2CH"]) == [1, 2, 3, 0, 0, 0, 0, 0]
    assert read_values(out.label_files()["camus_p1_4CH"]) == [3, 2, 1, 6, 6, 6, 6, 6]
    assert read_values(out.label_files()["uda_1"]) == [1, 3, 4, 5, 6, 6, 6, 6]
    assert out.label_files()["camus_p1_2CH"].samefile(first.label_files()["camus_p1_2CH"])
    assert read_values(second.label_files()["uda_1"]) == [1, 2, 3, 4, 0, 0, 0, 0]
    # test labels stay what they are, and the manifest still says who knows what
    assert read_values(out.label_files("Ts")["uda_3"]) == [5, 4, 3, 1, 0, 0, 0, 0]
    assert read_values(out.label_files("Ts")["camus_p3_4CH"]) == [3, 2, 1, 0, 0, 0, 0, 0]
    assert out.manifest.labels_of("uda_1").annotated == tuple(FOUR_CHAMBERS)
    assert check(out.folder).findings == {}


def test_unknown_as_ignore_says_when_no_background_is_left(raw: Path) -> None:
    uda(raw)
    lv = [Drawn(f"e_{n}", [1], {"annotated": ["LV"], "domain": "e"}, spacing_mm=0.8) for n in range(2)]
    write_dataset(raw, "Dataset503_Echo", {"LV": 1}, lv)
    folders = [raw / "Dataset502_UDA", raw / "Dataset503_Echo"]
    found = merge(folders, "Dataset511_Echo", unknown_as_ignore=True)
    # uda knows every class of this merge
    assert not any("ignore label has replaced" in warning for warning in found.warnings)
    write_dataset(raw, "Dataset504_Wall", {"MYO": 1}, [Drawn("w_1", [1], {"annotated": ["MYO"], "domain": "w"})])
    found = merge([*folders, raw / "Dataset504_Wall"], "Dataset512_Echo", unknown_as_ignore=True)
    assert any("ignore label has replaced all background" in warning for warning in found.warnings)


def test_tiff_volumes_with_pixel_sizes_in_files_of_their_own_are_refused(raw: Path) -> None:
    dataset = camus(raw, ending=".tif")
    uda(raw, ending=".tif")
    for case in dataset.image_files():
        (dataset.folder / "imagesTr" / f"{case}.json").write_text('{"spacing": [2, 0.5, 0.5]}')
    with pytest.raises(DatasetError, match=r"Dataset501_CAMUS .*json files"):
        merged(raw)
    assert not (raw / "Dataset510_Echo").exists()


# ---- weights -------------------------------------------------------------------------------------------------------


def weights_of(made: RawDataset) -> dict[str, float] | None:
    found = made.manifest.domain_weights
    return None if found is None else dict(found)


def test_balance_writes_the_square_root_of_the_training_cases_of_each_domain(raw: Path) -> None:
    for name, number, start in (("Dataset521_Large", 9, "l"), ("Dataset522_Small", 4, "s")):
        cases = [
            Drawn(f"{start}{index}", [1], {"annotated": ["LV"], "domain": start}, "Ts" if index == 0 else "Tr")
            for index in range(number + 1)
        ]
        write_dataset(raw, name, {"LV": 1}, cases)
    made = merged(raw, "Dataset521_Large", "Dataset522_Small", balance=True)
    assert weights_of(made) == {"l": 0.6, "s": 0.4}  # sqrt(9) = 3 and sqrt(4) = 2, of 5; test cases do not count


def test_without_balance_there_are_no_weights_and_those_of_a_source_are_said_to_be_left_out(raw: Path) -> None:
    source = camus(raw)
    path = source.folder / "partial_labels.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "domain_weights": {"camus": 2}}))
    uda(raw)
    folders = [raw / "Dataset501_CAMUS", raw / "Dataset502_UDA"]
    made = merge(folders, "Dataset510_Both")
    assert says("Dataset501_CAMUS", "domain weights", "left out") in made.warnings
    assert weights_of(RawDataset(made.folder)) is None
    balanced = merge(folders, "Dataset510_Both", balance=True, overwrite=True)
    assert "weights" not in str(balanced.warnings)
    assert weights_of(RawDataset(balanced.folder)) == balanced.weights


def test_one_domain_cannot_be_balanced(raw: Path) -> None:
    for name, case in (("Dataset521_One", "x"), ("Dataset522_Two", "y")):
        write_dataset(raw, name, {"LV": 1}, [Drawn(case, [1], {"annotated": ["LV"], "domain": "same"})])
    made = merge([raw / "Dataset521_One", raw / "Dataset522_Two"], "Dataset510_Both", balance=True)
    assert says("--balance", "domain same") in made.warnings
    assert weights_of(RawDataset(made.folder)) is None


@pytest.mark.parametrize("command", ["merge -i 1 2 -d 3", "scenario -i 1 -d 2 --missing LA", "convert camus -i x -d 1"])
@pytest.mark.parametrize("processes", ["0", "-1", "two", "²"])
def test_the_number_of_processes_is_an_integer_above_0(
    command: str, processes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command.split(), "-np", processes])
    assert "expected an integer above 0" in capsys.readouterr().err


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


def merged_with_full(sources: list[Path], **options: Any) -> RawDataset:
    return RawDataset(merge(sources, "Dataset510_Both", **options).folder)


@pytest.mark.parametrize("as_ignore", [False, True])
def test_the_complete_labels_of_all_come_along(sources: list[Path], as_ignore: bool) -> None:
    made = merged_with_full(sources, unknown_as_ignore=as_ignore)
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
    made = merged_with_full(sources)
    assert made.label_files("Tr_full")["c1"].samefile(RawDataset(sources[0]).label_files("Tr_full")["c1"])


def test_without_a_scenario_there_are_none(sources: list[Path], raw: Path) -> None:
    made = merged_with_full([raw / "Dataset501_CAMUS", sources[1]])
    assert not (made.folder / "labelsTr_full").exists()
    assert not (made.folder / "partial_labels_full.json").exists()


def test_a_scenario_of_the_merge_still_has_the_first_complete_labels(sources: list[Path]) -> None:
    made = merged_with_full(sources)
    again = RawDataset(scenario(made.folder, "Dataset602_Again", ScenarioOptions(("RV",), 0.5, domain="uda")).folder)
    assert all(read_values(again.label_files("Tr_full")[case])[:3] == [1, 2, 3] for case in ("c1", "c2"))


def test_complete_labels_that_are_missing_or_wrong_stop_the_merge(sources: list[Path], raw: Path) -> None:
    full = RawDataset(sources[0]).label_files("Tr_full")
    path = sources[0] / "partial_labels_full.json"
    content = json.loads(path.read_text())
    content["cases"]["c1"]["annotated"] = ["LV"]
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"Dataset601_Hidden, labelsTr_full: .*c1"):
        merged_with_full(sources)
    full["c2"].unlink()
    with pytest.raises(DatasetError, match=r"labelsTr_full lacks 1 training case\(s\): c2"):
        merged_with_full(sources)
    assert not (raw / "Dataset510_Both").exists()


def test_files_that_dataset_json_lists_are_merged_under_the_names_of_their_cases(raw: Path, tmp_path: Path) -> None:
    list_files(camus(raw), tmp_path / "elsewhere")
    uda(raw)
    dataset = merged(raw)
    assert "dataset" not in dataset.dataset_json
    assert set(dataset.label_files()) >= {"camus_p1_2CH", "uda_1"}
    assert [path.name for path in dataset.image_files()["camus_p1_2CH"]] == ["camus_p1_2CH_0000.nii.gz"]
    assert check(dataset.folder).findings == {}


def test_a_listed_file_that_is_gone_is_named(raw: Path, tmp_path: Path) -> None:
    source = camus(raw)
    list_files(source, tmp_path / "elsewhere")
    uda(raw)
    RawDataset(source.folder).label_files()["camus_p2_4CH"].unlink()
    assert "camus_p2_4CH" in refused(raw)
