"""Saying what was annotated in somebody else's nnU-Net data set: two sites and their habits.

Who trains must not be tested: what a table says of splits and patients, against the folders the images lie in.

A manifest is written only where it can be and where it is true: not beside labels that were preprocessed before.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.raw_datasets import Drawn, label_array, snapshot, write_dataset, write_image
from helpers.toy_dataset import shrink, write_toy

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.declare import DatasetToDeclare
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.labels import MANIFEST_NAME, Manifest

CT = {"liver": 1, "kidney": 2, "left lung": 3}
VOLUME = (4, 5, 6)


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def sites(raw: Path, more: Sequence[Drawn] = (), **changes: object) -> RawDataset:
    """Three volumes of site A, with all organs in two of them, and two of site B, who drew the kidney only."""
    cases = [
        Drawn("siteA_001", [1, 2, 3], None, shape=VOLUME),
        Drawn("siteA_002", [1, 2, 3], None, shape=VOLUME),
        Drawn("siteA_003", [1], None, shape=VOLUME),
        Drawn("siteB_001", [2], None, shape=VOLUME),
        Drawn("siteB_002", [2], None, shape=VOLUME),
        *more,
    ]
    dataset = write_dataset(raw, "Dataset220_CT", {**CT, **changes}, cases, channels=("CT",))
    (dataset.folder / MANIFEST_NAME).unlink()
    return dataset


def declared(dataset: RawDataset) -> dict[str, tuple[tuple[str, ...], str]]:
    """By case what it is annotated for, and its domain."""
    manifest = Manifest.read(dataset.folder / MANIFEST_NAME)
    cases = [case for part in ("Tr", "Ts") for case in dataset.image_files(part)]
    return {case: (manifest.labels_of(case).annotated, manifest.labels_of(case).domain) for case in cases}


ALL = ("liver", "kidney", "left lung")
TWO_SITES = {
    **{f"siteA_00{n}": (ALL, "siteA") for n in (1, 2, 3)},
    **{f"siteB_00{n}": (("kidney",), "siteB") for n in (1, 2)},
}


def refused(dataset: RawDataset, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message; exit code 1, nothing written."""
    before = snapshot(dataset.folder)
    assert main(["declare", "-d", "220", *arguments]) == 1
    assert snapshot(dataset.folder) == before
    shown = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in shown
    return shown


def table(tmp_path: Path, text: str) -> str:
    file = tmp_path / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


ROWS = """case,annotated,absent,domain,patient
siteA_001,"liver, kidney, left lung",,siteA,anna
siteA_002,liver;kidney;left lung,,siteA,anna
siteA_003,liver|kidney,left lung,siteA,bert
siteB_001,kidney,,siteB,carl
siteB_002,kidney,RV,siteB,dora
"""


# A table


def test_a_table_says_it_case_by_case(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    assert main(["declare", "-d", "220", "--csv", table(tmp_path, ROWS)]) == 0
    manifest = Manifest.read(dataset.folder / MANIFEST_NAME)
    assert manifest.cases["siteA_001"].annotated == ALL
    assert manifest.cases["siteA_002"].annotated == ALL
    third = manifest.cases["siteA_003"]
    assert (third.annotated, third.absent, third.patient) == (("liver", "kidney"), ("left lung",), "bert")
    assert manifest.cases["siteB_002"].absent == ("RV",)  # known not to be there, though no class of this data set
    shown = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "siteA 3 / 0 / 0 3 / 0 / 0 2 / 1 / 0" in rows  # liver, kidney, left lung: annotated / absent / unknown
    assert "siteB 0 / 0 / 2 2 / 0 / 0 0 / 0 / 2" in rows
    assert "siteA 3 0 2 none 0.5 x 0.5 x 0.5 3 x 2 x 2" in rows  # cases, patients, voxel and volume in mm
    assert check(dataset.folder).findings == {}


def test_a_table_of_a_spreadsheet_program(raw: Path, tmp_path: Path) -> None:
    """Semicolons, a byte order mark, other columns, capitals in the head; one row less for a class that is one word."""
    dataset = sites(raw)
    text = "Remark;Case;Annotated\n" + "".join(
        f"ok;{name};{what}\n"
        for name, what in [
            ("siteA_001", "left lung,liver,kidney"),
            ("siteA_002", "liver,kidney,left lung"),
            ("siteA_003", "left lung , liver"),
            ("siteB_001", "kidney"),
            ("siteB_002", "kidney"),
        ]
    )
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode("utf-8-sig"))
    assert main(["declare", "-d", "220", "--csv", str(file)]) == 0
    assert [annotated for annotated, _ in declared(dataset).values()] == [
        ALL, ALL, ("liver", "left lung"), ("kidney",), ("kidney",)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("siteB_001,kidney", "siteB_001,spleen", "line 5, case 'siteB_001': spleen: "),
        ("siteB_001,kidney,,siteB,carl\n", "", "1 case(s) have no row: siteB_001"),
        ("siteB_001", "siteC_001", "line 5, case 'siteC_001': there is no image"),
        ("siteB_001", "siteB_1", "line 5, case 'siteB_1': there is no image of this case; is it siteB_001?"),
        ("siteB_001", "siteB_001_0000.nii.gz", "without file ending and channel: siteB_001"),
        ("siteB_001", "siteB_001.nii.gz", "without file ending and channel: siteB_001"),
        ("siteB_002", "siteB_001", "line 6, case 'siteB_001': has two rows"),
        ("siteB_001,kidney,,", "siteB_001,kidney,kidney,", "case 'siteB_001': declares kidney both annotated and"),
        ("siteB_001,kidney", "siteB_001,liver", "siteB_001: kidney present, but declared as annotated"),
        ("case,annotated", "case,drawn", "has no column annotated"),
        ("siteA,anna\nsiteA_003", "siteA,\nsiteA_003", "1 case(s) have no patient: siteA_002"),
        ("siteA_003,liver|kidney", "siteA_003,kidney", "siteA_003: liver present, but declared as annotated"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    assert old in ROWS
    assert said in refused(sites(raw), capsys, "--csv", table(tmp_path, ROWS.replace(old, new)))


def test_a_table_in_another_encoding(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(ROWS.replace("bert", "jürgen").encode("latin-1"))
    said = refused(sites(raw), capsys, "--csv", str(file))
    assert said == says("line 4, case 'siteA_003'", r"'j\udcfcrgen'", "UTF-8")


def test_columns_that_nobody_reads_are_named(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column patient_id is no column patient: the folds would not keep anna on one side."""
    sites(raw)
    assert main(["declare", "-d", "220", "--csv", table(tmp_path, ROWS.replace("patient", "patient_id"))]) == 0
    shown = capsys.readouterr().out
    read = "case, annotated, absent, domain, patient, split"
    assert says("Note", "labels.csv", "not read: patient_id", f"are read: {read}") in shown.splitlines()
    assert "Warning: no case names a patient" in shown
    assert main(["declare", "-d", "220", "--csv", table(tmp_path, ROWS), "--overwrite"]) == 0
    shown = capsys.readouterr().out
    assert "not read" not in shown
    assert "no case names a patient" not in shown


def test_a_column_that_is_there_twice(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second, empty one would win."""
    twice = ROWS.replace("patient\n", "patient,Patient\n")
    assert "has the column patient more than once" in refused(sites(raw), capsys, "--csv", table(tmp_path, twice))


@pytest.mark.parametrize(
    ("head", "row", "said"),
    [
        ("absent,patient", "liver,RV,anna", "line 2: 5 cells, but 4 columns"),
        (
            "absent,patient,domain",
            "liver,RV,anna,",
            "line 2, case 'siteA_001': patient is 'RV'",
        ),
    ],
)
def test_a_list_without_quotes_does_not_push_the_patient_aside(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str, row: str, said: str
) -> None:
    """liver,RV are two absent structures, not one and a patient called RV."""
    text = f"case,annotated,{head}\nsiteA_001,kidney,{row}\n"
    assert said in refused(sites(raw), capsys, "--csv", table(tmp_path, text))


def test_a_table_that_is_not_there(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.csv does not exist" in refused(sites(raw), capsys, "--csv", "nowhere.csv")


# Patterns


def test_site_b_drew_the_kidney_only(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    assert main(["declare", "-d", "220", "--match", "siteB_*", "kidney"]) == 0
    assert declared(dataset) == {
        **{f"siteA_00{n}": (ALL, "") for n in (1, 2, 3)},
        **{f"siteB_00{n}": (("kidney",), "siteB") for n in (1, 2)},
    }
    content = json.loads((dataset.folder / MANIFEST_NAME).read_text())
    assert [group["match"] for group in content["groups"]] == ["siteB_*", "*"]
    said = says("3 case(s)", "annotated for everything: siteA_001, siteA_002, siteA_003")
    assert said in capsys.readouterr().out.splitlines()
    assert check(dataset.folder).findings == {}


def test_several_patterns_the_first_wins(raw: Path) -> None:
    dataset = sites(raw)
    match = ["--match", "siteA_003", "liver", "--match", "siteB_*", "kidney"]
    assert main(["declare", "-d", "220", *match, "--match", "*", *reversed(ALL)]) == 0
    assert declared(dataset)["siteA_003"] == (("liver",), "siteA_003")
    assert declared(dataset)["siteA_001"] == (ALL, "")
    assert declared(dataset)["siteB_001"] == (("kidney",), "siteB")


def test_nobody_is_silently_taken_as_annotated_for_what_was_never_drawn(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(sites(raw), capsys, "--match", "siteA_*", "liver", "kidney", "left lung")
    assert said == says("2 training case(s)", "left lung, liver", "siteB_001, siteB_002")


@pytest.mark.parametrize(
    ("match", "said"),
    [
        (["siteB_*", "spleen"], says("--match 'siteB_*' names spleen", "liver, kidney, left lung")),
        (["siteB_*"], says("--match 'siteB_*' names no class")),
        (["siteC_*", "kidney"], says("--match 'siteC_*' matches no case", "siteA_001")),
        (["*", "kidney", "--match", "siteB_*", "kidney"], says("--match 'siteB_*' matches no case", "earlier pattern")),
        (["siteB_*", "liver"], says("siteB_001: kidney present")),
        (["*", "liver", "kidney"], says("left lung present")),
    ],
)
def test_patterns_that_do_not_fit(raw: Path, capsys: pytest.CaptureFixture[str], match: list[str], said: says) -> None:
    assert refused(sites(raw), capsys, "--match", *match) == said


def test_a_class_that_no_training_case_was_annotated_for(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw, spleen=4)
    said = refused(dataset, capsys, "--match", "siteB_*", "kidney", "--match", "*", *ALL)
    assert "No training case is annotated for spleen" in said


# A guess


def test_a_guess_is_shown_and_taken_with_yes(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert declared(dataset) == TWO_SITES
    shown = capsys.readouterr().out.splitlines()
    # siteA_003 shows no kidney: it may be empty there, since others of its site have it drawn
    drawn = ("liver (in 3)", "kidney (in 2)", "left lung (in 2)")
    assert says("siteA: 3 case(s)", *drawn, "unknown: nothing") in shown
    assert says("siteB: 2 case(s)", "annotated: kidney (in 2)", "unknown: liver, left lung") in shown


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_guess_is_asked_about(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, agreed: bool
) -> None:
    dataset = sites(raw)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["declare", "-d", "220", "--from-masks"]) == (0 if agreed else 1)
    assert (dataset.folder / MANIFEST_NAME).exists() == agreed
    shown = capsys.readouterr()
    assert "Continue? [y/N]" in shown.out
    assert ("nothing was written" in shown.err) == (not agreed)


COMPLETE_TEST = [Drawn("siteB_003", [1, 2, 3], None, "Ts", VOLUME)]


def test_test_cases_are_annotated_for_more(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else their liver would make liver "annotated" in the training cases of site B, and background to the network."""
    dataset = sites(raw, COMPLETE_TEST)
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert declared(dataset) == {**TWO_SITES, "siteB_003": (ALL, "siteB")}
    shown = capsys.readouterr().out.splitlines()
    assert says("siteB: 2 training case(s)", "annotated: kidney (in 2)", "unknown: liver, left lung") in shown
    assert says("siteB: 1 test case(s)", "liver (in 1), kidney (in 1), left lung (in 1)", "unknown: nothing") in shown
    assert refused(dataset, capsys, "--match", "siteA_*", *ALL, "--overwrite") == says(
        "2 training case(s)", "left lung, liver", "siteB_001, siteB_002"
    )
    assert refused(dataset, capsys, "--match", "siteB_*", "kidney", "--overwrite") == says("siteB_003", "test cases")
    match = ["--match", "siteB_003", *ALL, "--match", "siteB_*", "kidney"]
    assert main(["declare", "-d", "220", *match, "--overwrite"]) == 0


def test_what_training_cases_show_is_annotated_in_test_cases(raw: Path) -> None:
    dataset = sites(raw, [Drawn("siteA_004", [2], None, "Ts", VOLUME)])
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert declared(dataset) == {**TWO_SITES, "siteA_004": (ALL, "siteA")}


def test_annotated_but_nowhere_to_be_seen(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw, COMPLETE_TEST)
    assert main(["declare", "-d", "220", "--match", "siteB_*", "liver", "kidney", "--match", "*", *ALL]) == 1
    match = ["--match", "siteB_003", *ALL, "--match", "siteB_*", "liver", "kidney"]
    assert main(["declare", "-d", "220", *match]) == 0
    never = says("liver", "2 training case(s) of siteB")
    assert [line for line in capsys.readouterr().out.splitlines() if "declared annotated in" in line] == [never]
    report = check(dataset.folder)
    assert (report.findings, [line for line in report.remarks if "declared annotated in" in line]) == ({}, [never])


def test_groups_of_a_guess_can_be_named(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    assert main(["declare", "-d", "220", "--from-masks", "siteA_003", "siteB*", "*", "--yes"]) == 0
    found = declared(dataset)
    assert found["siteA_003"] == (("liver",), "siteA_003")
    assert found["siteA_001"] == (ALL, "")
    assert found["siteB_001"] == (("kidney",), "siteB")
    said = refused(dataset, capsys, "--from-masks", "siteB_*", "siteC_*", "--yes", "--overwrite")
    assert said == says("match no case: siteC_*", "no pattern matches: siteA_001")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["siteA_1", "siteA_2", "siteB_1"], ["siteA", "siteB"]),
        (["site1_1", "site1_2", "site2_1"], ["site1", "site2"]),
        (["kits00001", "kits00002", "la1"], ["kits", "la"]),
        (["001_x", "002_x", "003"], [""]),
        ([f"P{number:03d}_ED" for number in range(11)], ["P"]),  # eleven numbers are patients, not sites
    ],
)
def test_cases_whose_names_begin_alike_are_a_group(raw: Path, names: list[str], groups: list[str]) -> None:
    dataset = write_dataset(raw, "Dataset220_CT", {"liver": 1}, [Drawn(name, [1], None) for name in names])
    assert main(["declare", "-d", "220", "--from-masks", "--yes", "--overwrite"]) == 0
    assert sorted({domain for _, domain in declared(dataset).values()}) == groups


# Regions

TUMOR = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
REGIONS = ("whole", "core", "enhancing")


def tumors(raw: Path, labels: dict[str, int | Sequence[int]] = TUMOR, **values: Sequence[int]) -> RawDataset:
    """Site A annotated every region, B the whole tumor, C the enhancing one alone; or other labels and values."""
    values = values or {"siteA_001": [1, 2, 3], "siteA_002": [1], "siteB_001": [1], "siteC_001": [3]}
    order = [value[0] if isinstance(value, list) else value for value in labels.values()]
    cases = [Drawn(name, held, None, shape=VOLUME) for name, held in values.items()]
    dataset = write_dataset(raw, "Dataset220_Tumor", labels, cases, regions_class_order=order)
    (dataset.folder / MANIFEST_NAME).unlink()
    return dataset


SITES_OF_TUMORS = {
    "siteA_001": REGIONS,
    "siteA_002": REGIONS,
    "siteB_001": ("whole",),
    "siteC_001": ("enhancing",),
}


def annotated(dataset: RawDataset) -> dict[str, tuple[str, ...]]:
    assert check(dataset.folder).findings == {}
    return {case: names for case, (names, _) in declared(dataset).items()}


def test_a_guess_of_regions(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The value 3 of site C lies in all regions, but whoever annotates the whole tumor stores more than its core."""
    dataset = tumors(raw)
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert annotated(dataset) == SITES_OF_TUMORS
    shown = capsys.readouterr().out.splitlines()
    assert says("siteA: 2 case(s)", "whole (in 2), core (in 1), enhancing (in 1)", "unknown: nothing") in shown
    assert says("siteC: 1 case(s)", "annotated: enhancing (in 1)", "unknown: whole, core") in shown


@pytest.mark.parametrize(
    ("labels", "held", "shown"),
    [
        (TUMOR, [2, 3], {"core", "enhancing"}),
        (TUMOR, [1, 3], {"whole", "enhancing"}),
        ({"lungs": [1, 2], "left": 1, "right": 2}, [1, 2], {"lungs", "left", "right"}),
        ({"lungs": [1, 2], "left": 1, "right": 2}, [1], {"left"}),
        ({"all": [1, 2, 3], "two": [1, 2], "a": 1, "b": 2, "c": 3}, [1, 2, 3], {"all", "two", "a", "b", "c"}),
        ({"all": [1, 2, 3], "two": [1, 2], "a": 1, "b": 2, "c": 3}, [1, 2], {"two", "a", "b"}),
        ({"first": [1, 2], "second": [2, 3], "third": 3}, [1, 2], {"first"}),
        ({"first": [1, 2], "second": [2, 3], "third": 3}, [2], set()),
    ],
)  # fmt: skip
def test_what_a_label_file_shows_of_regions(
    raw: Path, labels: dict[str, int | Sequence[int]], held: list[int], shown: set[str]
) -> None:
    data = DatasetToDeclare(tumors(raw, labels, a=held))
    assert data.present_classes("a") == shown


def test_a_guess_that_leaves_a_value_without_a_region(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tumors(raw, {"first": [1, 2], "second": [2, 3], "third": 3}, a_1=[1, 2, 3], b_1=[2])
    assert "b_1: holds 2, in none of the regions" in refused(dataset, capsys, "--from-masks", "--yes")


def test_regions_by_pattern(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tumors(raw)
    match = ["--match", "siteB_*", "whole", "--match", "siteC_*", "enhancing"]
    assert main(["declare", "-d", "220", *match]) == 0
    assert annotated(dataset) == SITES_OF_TUMORS
    # Whoever knows the whole tumor alone may have stored it as any of its values.
    whole = ["--match", "siteA_*", "enhancing", "core", "whole", "--match", "*", "whole"]
    assert main(["declare", "-d", "220", *whole, "--overwrite"]) == 0
    assert annotated(dataset) == {**SITES_OF_TUMORS, "siteC_001": ("whole",)}


@pytest.mark.parametrize(
    ("match", "said"),
    [
        (["siteA_*", *REGIONS, "--match", "siteB_*", "whole"], says("1 training case(s)", "core, whole", "siteC_001")),
        (["*", "core"], says("3 label file(s)", "siteB_001: holds 1", "declared as annotated: core")),
        (["siteB_*", "edema"], says("names edema", "whole, core, enhancing")),
        (["*", "whole"], says("core, enhancing")),
    ],
)
def test_patterns_that_do_not_fit_regions(
    raw: Path, capsys: pytest.CaptureFixture[str], match: list[str], said: says
) -> None:
    assert refused(tumors(raw), capsys, "--match", *match) == said


def test_regions_in_a_table(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tumors(raw)
    rows = "case,annotated,absent\nsiteA_001,enhancing core whole,\nsiteA_002,whole,core\nsiteB_001,whole,\n"
    wrong = table(tmp_path, f"{rows}siteC_001,enhancing,core\n")
    assert "siteC_001: holds 3, but core is declared absent" in refused(dataset, capsys, "--csv", wrong)
    assert main(["declare", "-d", "220", "--csv", table(tmp_path, f"{rows}siteC_001,enhancing,\n")]) == 0
    assert annotated(dataset) == {**SITES_OF_TUMORS, "siteA_002": ("whole",)}
    assert Manifest.read(dataset.folder / MANIFEST_NAME).cases["siteA_002"].absent == ("core",)


# Every way


@pytest.mark.parametrize("how", [["--match", "siteB_*", "kidney"], ["--from-masks", "--yes"]])
def test_test_images(raw: Path, capsys: pytest.CaptureFixture[str], how: list[str]) -> None:
    """With labels they are declared as the others; without, nobody drew anything in them."""
    dataset = sites(raw, [Drawn("siteB_008", [2], None, "Ts", VOLUME), Drawn("siteB_009", [], None, "Ts", VOLUME)])
    (dataset.folder / "labelsTs/siteB_009.nii.gz").unlink()
    assert main(["declare", "-d", "220", *how]) == 0
    assert "Warning: no case names a patient" in capsys.readouterr().out
    assert declared(dataset)["siteB_008"] == (("kidney",), "siteB")
    assert declared(dataset)["siteB_009"][0] == ()
    assert check(dataset.folder).findings == {}


def test_flat_pictures(raw: Path) -> None:
    cases = [Drawn("a_1", [1, 2], None), Drawn("a_2", [1], None), Drawn("b_1", [2], None)]
    dataset = write_dataset(raw, "Dataset220_Echo", {"LV": 1, "MYO": 2}, cases, ending=".png")
    (dataset.folder / MANIFEST_NAME).unlink()
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert declared(dataset) == {"a_1": (("LV", "MYO"), "a"), "a_2": (("LV", "MYO"), "a"), "b_1": (("MYO",), "b")}


def test_an_ignore_label_is_no_class(raw: Path) -> None:
    dataset = sites(raw, [Drawn("siteB_003", [4, 2], None, shape=VOLUME)], ignore=4)
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert declared(dataset)["siteB_003"] == (("kidney",), "siteB")


def test_a_manifest_that_is_there_stays_without_overwrite(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    assert main(["declare", "-d", "220", "--match", "siteB_*", "kidney"]) == 0
    said = refused(dataset, capsys, "--from-masks", "--yes")
    assert said == says("partial_labels.json exists", "--overwrite")
    assert main(["declare", "-d", "220", "--from-masks", "--yes", "--overwrite"]) == 0
    assert declared(dataset) == TWO_SITES


def test_the_preprocessed_folder_gets_a_copy_if_there_is_one(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    copy = raw.parent / "preprocessed" / "Dataset220_CT" / MANIFEST_NAME
    assert main(["declare", "-d", "220", "--from-masks", "--yes"]) == 0
    assert not copy.parent.exists()
    copy.parent.mkdir(parents=True)
    assert main(["declare", "-d", "220", "--from-masks", "--yes", "--overwrite"]) == 0
    assert copy.read_bytes() == (dataset.folder / MANIFEST_NAME).read_bytes()
    (dataset.folder / MANIFEST_NAME).unlink()
    assert f"{copy} exists" in refused(dataset, capsys, "--from-masks", "--yes")


def test_a_split_that_parts_a_patient_is_said(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    names = sorted(dataset.image_files())
    (dataset.folder / "splits_final.json").write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    assert main(["declare", "-d", "220", "--csv", table(tmp_path, ROWS)]) == 0
    assert "fold 0 has 1 patient(s) on both sides: anna" in capsys.readouterr().out


def test_regions_that_nnunet_would_not_take(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw)
    content = json.loads((dataset.folder / "dataset.json").read_text())
    content["labels"] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "lung": 3}
    (dataset.folder / "dataset.json").write_text(json.dumps(content))
    assert "regions_class_order None" in refused(dataset, capsys, "--from-masks", "--yes")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("labelsTr/siteB_002.nii.gz", "1 training image(s) without a label file: siteB_002"),
        ("imagesTr", "has no training images in imagesTr"),
    ],
)
def test_incomplete_data_sets_are_refused(raw: Path, capsys: pytest.CaptureFixture[str], gone: str, said: str) -> None:
    dataset = sites(raw)
    target = dataset.folder / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert said in refused(dataset, capsys, "--from-masks", "--yes")


def test_label_files_that_cannot_be_read_or_hold_strange_values(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = sites(raw, [Drawn("siteB_003", [9], None, shape=VOLUME)])
    assert "siteB_003: the label file holds 9" in refused(dataset, capsys, "--from-masks", "--yes")
    (dataset.folder / "labelsTr/siteB_003.nii.gz").write_bytes(b"no image")
    assert "siteB_003: cannot be read" in refused(dataset, capsys, "--from-masks", "--yes")


def test_ways_exclude_each_other(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ways in ([], ["--from-masks", "--csv", "labels.csv"]):
        with pytest.raises(SystemExit, match="2"):
            main(["declare", "-d", "220", *ways])
    assert "not allowed with argument" in capsys.readouterr().err


# From a planned data set to a training


@pytest.mark.slow
def test_a_volume_data_set_that_was_planned_before_is_declared_and_trained(tmp_path: Path) -> None:
    """As people come to it: 3d_fullres is preprocessed, then it turns out that some scans lack some labels."""
    from helpers.nnunet_in_process import InProcess  # PyTorch, which the other tests do without

    project, name = InProcess(tmp_path), "Dataset221_Rings"
    write_toy(project.raw(name), shape=(16, 32, 32), patients=4)
    (project.raw(name) / MANIFEST_NAME).unlink()
    project.must("nnUNetv2_plan_and_preprocess", "-d", "221", "-c", "3d_fullres", "-np", "1", "-npfp", "1")
    shrink(project.preprocessed(name) / "nnUNetPlans.json", "3d_fullres", batch_size=2)
    said = project.must("nnunet_partial", "declare", "-d", "221", "--from-masks", "--yes")
    assert says("a: 4 case(s)", "LV (in 4), MYO (in 4)", "unknown: nothing") in said.splitlines()
    assert "b: 4 case(s), annotated: LV (in 4); unknown: MYO" in said
    trained = project.train("221", "3d_fullres", "all", "-tr", "nnUNetTrainerMarginal", nnUNet_partial_epochs="1")
    rows = [" ".join(line.split()) for line in trained.splitlines()]
    assert "b 4 / 0 / 0 0 / 0 / 4" in rows  # domain, LV, MYO: annotated / absent / unknown


SIDES = {"A_0": "train", "A_1": "val", "A_2": "", "A_9": "test"}
PATIENTS = {"A_0": "anna", "A_1": "bert", "A_2": "carl", "A_9": "dora"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A_0, A_1 and A_2 lie in imagesTr, A_9 in imagesTs."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    cases = [*(Drawn(f"A_{n}", [1]) for n in range(3)), Drawn("A_9", [1], part="Ts")]
    dataset = write_dataset(tmp_path, "Dataset220_Echo", {"LV": 1}, cases)
    (dataset.folder / MANIFEST_NAME).unlink()
    return dataset.folder


def declare(folder: Path, splits: dict[str, str] = SIDES, patients: dict[str, str] = PATIENTS) -> int:
    table = folder.parent / "labels.csv"
    rows = "".join(f"{case},LV,{patients[case]},{splits[case]}\n" for case in PATIENTS)
    table.write_text("case,annotated,patient,split\n" + rows)
    return main(["declare", "-d", "220", "--csv", str(table)])


def test_sides_that_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert declare(folder) == 0
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"A_1": "test", "A_2": "test"}, says("2 training case(s)", "'test': A_1, A_2", "nothing was written", "Move")),
        ({"A_9": "train"}, says("1 case(s) of imagesTs", "A_9", "nothing was written", "Move")),
        ({"A_9": "val"}, says("1 case(s) of imagesTs", "A_9")),
    ],
)
def test_a_split_that_contradicts_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], said: says
) -> None:
    before = snapshot(folder)
    assert declare(folder, splits={**SIDES, **changed}) == 1
    assert capsys.readouterr().err == said
    assert snapshot(folder) == before


def test_a_patient_who_trains_and_is_tested(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest is right, the data set is not: written, as with a fold that parts a patient, and said."""
    assert declare(folder, patients={**PATIENTS, "A_9": "anna"}) == 0
    assert says("Warning: 1 patient(s)", "imagesTr", "imagesTs: anna") in capsys.readouterr().out.splitlines()
    assert (folder / MANIFEST_NAME).exists()


def test_nobody_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert declare(folder, patients=dict.fromkeys(PATIENTS, "")) == 0
    assert says("Warning", "no case names a patient") in capsys.readouterr().out.splitlines()


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


def test_slices_that_nnunet_would_not_see_are_said(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(raw, "Dataset220_CT", {"liver": 1}, [Drawn("a", [1], None, shape=(1, 8, 6))])
    (dataset.folder / MANIFEST_NAME).unlink()
    assert main(["declare", "-d", "220", "--match", "*", "liver", "--overwrite"]) == 0
    assert "one slice" not in capsys.readouterr().out  # 0.5 mm along each axis: nnU-Net takes z of equal ones
    for file in (*dataset.image_files()["a"], dataset.label_files()["a"]):
        image = sitk.ReadImage(str(file))
        image.SetSpacing((1.34, 1.34, 1.0))
        sitk.WriteImage(image, str(file))
    assert main(["declare", "-d", "220", "--match", "*", "liver", "--overwrite"]) == 0
    assert "one slice along z" in capsys.readouterr().out
