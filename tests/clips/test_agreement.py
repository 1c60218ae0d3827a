"""EF of clips against a table of it: which clips are compared, and numbers by a second computation."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.stats import t

from nnunet_partial.cli import main
from nnunet_partial.clips.agreement import compare_with_table, read_ef_table, write_agreement
from nnunet_partial.clips.tables import BIPLANE_COLUMNS, CLIP_COLUMNS
from nnunet_partial.errors import ConversionError, DatasetError, PartialLabelError
from nnunet_partial.evaluation.biomarker_tables import Biomarkers
from nnunet_partial.evaluation.evaluate import named_paths
from nnunet_partial.utils.tables import write_csv

#: Clip, patient, view, EF, flags, EF of the table. The patient p5 has two clips.
CLIPS = (
    ("a", "p1", "4CH", 52.0, "", 50.0),
    ("b", "p2", "4CH", 61.0, "", 64.0),
    ("c", "p3", "4CH", 33.5, "", 30.0),
    ("d", "p4", "4CH", 70.0, "", 66.0),
    ("e", "p5", "4CH", 55.0, "", 50.0),
    ("f", "p5", "4CH", 57.0, "", 52.0),
    ("g", "p6", "4CH", 20.0, "no clear peaks", 60.0),
    ("h", "p1", "2CH", 48.0, "", 50.0),
)
#: Of the patients with a clip of 4CH without flags: p5 has 56 and 51.
PAIRS = ((52.0, 50.0), (61.0, 64.0), (33.5, 30.0), (70.0, 66.0), (56.0, 51.0))


def clips_csv(folder: Path, clips: Any = CLIPS) -> Path:
    folder.mkdir()
    rows = [
        {
            "clip": clip,
            "patient": patient,
            "view": view,
            "method": f"single-plane {view}",
            "ef_percent": ef,
            "flags": flags,
        }
        for clip, patient, view, ef, flags, _ in clips
    ]
    write_csv(folder / "clips.csv", rows, CLIP_COLUMNS)
    return folder / "clips.csv"


def file_list(path: Path, clips: Any = CLIPS, ending: str = ".avi") -> Path:
    """As that of EchoNet, with another column."""
    lines = [f"{clip}{ending if index % 2 else ''},{ef},TRAIN\n" for index, (clip, *_, ef) in enumerate(clips)]
    path.write_text("FileName,EF,Split\n" + "".join(lines))
    return path


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.slow
def test_numbers_are_those_of_a_second_computation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips_csv(tmp_path / "mine")
    reference, out = file_list(tmp_path / "FileList.csv"), tmp_path / "out"
    arguments = ["--pred", str(tmp_path / "mine" / "clips.csv"), "--ref", str(reference), "-o", str(out)]
    assert main(["evaluate", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["models"], document["left_out"], document["findings"]) == (["mine"], {"mine": 1}, [])
    rows = read(out / "biomarker_agreement.csv")
    row = next(row for row in rows if (row["domain"], row["method"]) == ("(all)", "single-plane 4CH"))
    differences = [measured - known for measured, known in PAIRS]
    bias, sd = fmean(differences), stdev(differences)
    half = t.ppf(0.975, 4) * sd / math.sqrt(5)
    of_limit = t.ppf(0.975, 4) * sd * math.sqrt(1 / 5 + 1.96**2 / (2 * 4))
    expected = {
        "n": 5,
        "n_reference": 6,
        "n_no_prediction": 1,
        "mean_prediction": fmean(measured for measured, _ in PAIRS),
        "mean_reference": fmean(known for _, known in PAIRS),
        "bias": bias,
        "sd": sd,
        "bias_ci95_low": bias - half,
        "bias_ci95_high": bias + half,
        "loa_low": bias - 1.96 * sd,
        "loa_high": bias + 1.96 * sd,
        "loa_low_ci95_low": bias - 1.96 * sd - of_limit,
        "loa_high_ci95_high": bias + 1.96 * sd + of_limit,
        "mae": fmean(map(abs, differences)),
    }
    assert {key: float(row[key]) for key in expected} == pytest.approx(expected, rel=1e-5)
    assert {key: next(one for one in document["biomarker_agreement"] if one["method"] == "single-plane 4CH")[key]
            for key in expected} == pytest.approx(expected)  # fmt: skip
    other = next(row for row in rows if row["method"] == "single-plane 2CH")
    assert (other["n"], float(other["bias"])) == ("1", -2)
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"bland_altman_EF_percent_single-plane-{view}.{ending}" for view in ("2CH", "4CH") for ending in ("png", "pdf")
    }


def test_flagged_clips_have_no_prediction(tmp_path: Path) -> None:
    result = compare_with_table({"m": clips_csv(tmp_path / "m")}, file_list(tmp_path / "ref.csv"))
    flagged = [row for row in result.biomarkers.rows if math.isnan(float(row["prediction"]))]
    assert [(row["patient"], row["reference"], row["problem"]) for row in flagged] == [("p6", 60, "g: no clear peaks")]


def test_who_is_missing_on_a_side_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips_csv(tmp_path / "m", CLIPS[:4])
    reference = file_list(tmp_path / "ref.csv", CLIPS[1:5])
    reference.write_text(reference.read_text().replace("64.0", "high"))
    arguments = [
        "--pred",
        f"marginal={tmp_path / 'm' / 'clips.csv'}",
        "--ref",
        str(reference),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(["evaluate", *arguments]) == 1
    findings = json.loads((tmp_path / "out" / "evaluation.json").read_text())["findings"]
    assert [line.split()[1 if line.startswith("marginal") else 6] for line in findings] == ["b", "a", "e"]
    printed = capsys.readouterr().out
    assert all(line in printed for line in findings)
    assert main(["evaluate", *arguments[:-1], str(tmp_path / "strict"), "--strict"]) == 1
    assert not (tmp_path / "strict").exists()


def test_keyed_names_join_by_the_names_of_the_clips(tmp_path: Path) -> None:
    """And files below a folder by the names that `--names keep` gives them."""
    hashed = (("p3f9a01c2b7d4_8b1e22aa90cd", "p3f9a01c2b7d4", "4CH", 50.0, "", 52.0),)
    (tmp_path / "ref.csv").write_text("Clip;LVEF\np3f9a01c2b7d4_8b1e22aa90cd;52,0\n")
    (row,) = compare_with_table({"m": clips_csv(tmp_path / "m", hashed)}, tmp_path / "ref.csv").biomarkers.rows
    assert (row["reference"], row["prediction"]) == (52, 50)
    (tmp_path / "ref.csv").write_text("file,ef\nsub/c.nii.gz,40\nsub/d.1.MP4,41\nsub/e.1,42\n")
    assert read_ef_table(tmp_path / "ref.csv").percent == {"sub_c": 40, "sub_d.1": 41, "sub_e.1": 42}


@pytest.mark.parametrize(
    ("text", "kind", "fact"),
    [
        ("clip,ef\na,0.5\nb,0.7\n", DatasetError, "percent"),
        ("clip,ef\na,50\na.avi,51\n", DatasetError, "line 3"),
        ("clip,volume\na,50\n", DatasetError, "lvef"),
        ("clip,FileName,ef\na,a,50\n", DatasetError, "filename"),
        ("clip,ef\n", DatasetError, r"ref\.csv"),
        ("clip,ef\nx,50\n", DatasetError, r"clips\.csv"),
        ("clip,ef\na,50,60\n", ConversionError, "line 2"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, kind: type[Exception], fact: str) -> None:
    (tmp_path / "ref.csv").write_text(text)
    with pytest.raises(kind, match=fact):
        compare_with_table({"m": clips_csv(tmp_path / "m")}, tmp_path / "ref.csv")


#: Patient, examination, EF, flags.
PAIRED = (("p1", "e1", 52.0, ""), ("p2", "e2", 61.0, ""), ("p2", "e3", 57.0, ""), ("", "e4", 40.0, "LV touches"))


def biplane_csv(folder: Path, pairs: Any = PAIRED) -> Path:
    folder.mkdir()
    rows = [
        {"patient": patient, "exam": exam, "method": "biplane", "ef_percent": ef, "flags": flags}
        for patient, exam, ef, flags in pairs
    ]
    write_csv(folder / "biplane.csv", rows, BIPLANE_COLUMNS)
    return folder / "biplane.csv"


def test_biplane_ef_is_compared_by_examination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Patient p2 counts once: 59 measured, 61 in the table."""
    biplane_csv(tmp_path / "m")
    (tmp_path / "ref.csv").write_text("Patient,Exam,EF\np1,e1,50\np2,e2,64\np2,e3,58\n,e4,55\np9,e9,60\n")
    arguments = ["--pred", str(tmp_path / "m" / "biplane.csv"), "--ref", str(tmp_path / "ref.csv")]
    assert main(["evaluate", *arguments, "-o", str(tmp_path / "out"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["left_out"], len(document["findings"])) == ({"m": 1}, 1)
    assert "p9 e9" in document["findings"][0]
    row = next(row for row in document["biomarker_agreement"] if row["domain"] == "(all)")
    assert (row["method"], row["n"], row["n_reference"], row["bias"]) == ("biplane", 2, 3, 0)  # 2 and -2


def test_biplane_ef_is_compared_by_patient_where_each_has_one_examination(tmp_path: Path) -> None:
    (tmp_path / "ref.csv").write_text("patient,ef\np1,50\np2,64\n")
    result = compare_with_table({"m": biplane_csv(tmp_path / "one", PAIRED[:2])}, tmp_path / "ref.csv")
    assert [(row["prediction"], row["reference"]) for row in result.biomarkers.rows] == [(52, 50), (61, 64)]
    with pytest.raises(DatasetError, match=r"p2 .*exam"):
        compare_with_table({"m": biplane_csv(tmp_path / "two")}, tmp_path / "ref.csv")
    with pytest.raises(ConversionError, match="patient"):
        compare_with_table({"m": tmp_path / "one" / "biplane.csv"}, file_list(tmp_path / "clips.csv"))
    with pytest.raises(DatasetError, match=r"clips\.csv .*biplane\.csv"):
        compare_with_table({"a": clips_csv(tmp_path / "a"), "m": tmp_path / "one" / "biplane.csv"}, tmp_path / "x")
    with pytest.raises(DatasetError, match=r"none.biplane\.csv"):
        compare_with_table({"m": biplane_csv(tmp_path / "none", ())}, tmp_path / "ref.csv")


def test_another_table_than_clips_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "beats.csv").write_text("clip,ef_percent\na,50\n")
    with pytest.raises(ConversionError, match=r"clips\.csv"):
        compare_with_table({"m": tmp_path / "beats.csv"}, file_list(tmp_path / "ref.csv"))


def test_tables_and_label_files_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips, reference = str(clips_csv(tmp_path / "m")), str(file_list(tmp_path / "ref.csv"))
    out = tmp_path / "out"
    out.mkdir()
    for arguments in (["--ref", reference, "-d", "1"], [], ["--ref", reference, "--pred", str(tmp_path)]):
        assert main(["evaluate", "--pred", clips, *arguments, "-o", str(out)]) == 1
    (out / "per_case.csv").write_text("x")
    assert main(["evaluate", "--pred", clips, "--ref", reference, "-o", str(out)]) == 1
    assert "per_case" not in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["per_case.csv"]
    with pytest.raises(SystemExit) as problem:
        main(["evaluate", "--pred", str(tmp_path), "-o", str(out)])
    assert problem.value.code == 2


def test_tables_of_two_comparisons_are_not_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full while the tables of the second one are written."""
    models, reference, out = {"m": clips_csv(tmp_path / "m")}, file_list(tmp_path / "ref.csv"), tmp_path / "out"
    out.mkdir()
    (out / "evaluation.json").write_text("of the first one")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Biomarkers, "write", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_agreement(out, models, reference, compare_with_table(models, reference))
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_what_measure_writes_can_be_compared(measured: Any, tmp_path: Path) -> None:
    """Four-chamber clips: two without flags, whose EF is 50; one is flagged, one could not be measured."""
    names = [row["clip"] for row in measured.rows("clips.csv")]
    (tmp_path / "ef.csv").write_text("clip,ef\n" + "".join(f"{name},50\n" for name in names))
    result = compare_with_table({"m": measured.folder / "clips.csv"}, tmp_path / "ef.csv")
    assert (result.left_out, result.findings) == ({"m": 2}, [])
    row = next(row for row in result.biomarkers.agreement if row["method"] == "single-plane 4CH")
    assert (row["n"], row["n_reference"], row["n_no_prediction"]) == (2, 4, 2)
    assert float(row["mae"]) < 2


def test_two_models_need_names(tmp_path: Path) -> None:
    clips = str(clips_csv(tmp_path / "m"))
    with pytest.raises(PartialLabelError, match="'m'"):
        named_paths([clips, clips])
