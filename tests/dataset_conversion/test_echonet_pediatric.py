"""EchoNet-Pediatric: stories with eight-frame videos of 32 x 48 pixels and ventricles that are rectangles."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.facts import says
from helpers.source_datasets import read_nifti, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_partial.dataset_conversion.echonet_pediatric import (
    EchoNetPediatric,
    read_clips,
    read_contours,
    without_repeats,
)
from nnunet_partial.dataset_conversion.readers.video import read_video_header
from nnunet_partial.dataset_conversion.writer import Report, convert

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import check_splits
from nnunet_partial.errors import ConversionError, PartialLabelError

NAME = "Dataset503_EchoNetPediatric"
ANNA, BEN, CLARA = "CRa-CRs1-000001", "CRb-CRs2-000002", "CRc-CRs3-000003"

Corners = Sequence[tuple[float, float] | tuple[str, str]]
#: 11 columns x 20 rows = 220 pixels, and 7 x 20 = 140.
WIDE: Corners = [(10, 5), (20, 5), (20, 24), (10, 24)]
NARROW: Corners = [(12, 5), (18, 5), (18, 24), (12, 24)]
PAIR: Mapping[int | str, Corners] = {2: NARROW, 6: WIDE}


def view(
    root: Path, tracings: Mapping[str, Mapping[int | str, Corners]], folds: Mapping[str, str], length: int = 8
) -> Path:
    """One view with a video of `length` frames (32, 48) for each stem of `folds`, and the tracings by stem."""
    (root / "Videos").mkdir(parents=True)
    lines = [
        "FileName,EF,Sex,Age,Weight,Height,Split",
        *(f"{n}.avi,61.5,F,7,25,120,{fold}" for n, fold in folds.items()),
    ]
    (root / "FileList.csv").write_text("\n".join(lines) + "\n")
    lines = ["FileName,X,Y,Frame"]
    for name, frames in tracings.items():
        for frame, corners in frames.items():
            lines += [f"{name}.avi,{x},{y},{frame}" for x, y in corners]
    (root / "VolumeTracings.csv").write_text("\n".join(lines) + "\n")
    for name in folds:
        write_video(root / "Videos" / f"{name}.avi", length)
    return root


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def converted(root: Path, **options: Any) -> tuple[Report, RawDataset]:
    report = convert(EchoNetPediatric(root, **options), NAME)
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report, *about: str) -> list[str]:
    """Those about `about`; or all but those that every conversion has, which have tests of their own."""
    usual = ("folds", "folds of the release", "frame numbers", "A4C", "PSAX")
    return [
        n.text if about else f"{n.about}: {n.text}"
        for n in report.notes
        if (n.about in (about or usual)) == bool(about)
    ]


def one_frame(frames: Mapping[int | str, Corners], root: Path, **options: Any) -> tuple[Report, RawDataset]:
    """Converts these tracings of one clip in four-chamber view."""
    view(root / "A4C", {ANNA: frames}, {ANNA: "3"})
    return converted(root, **options)


def test_two_traced_frames_in_each_view_become_four_cases(tmp_path: Path) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR}, {ANNA: "3"})
    view(tmp_path / "in" / "PSAX", {ANNA.replace("1", "7"): PAIR}, {ANNA.replace("1", "7"): "3"})
    report, made = converted(tmp_path / "in")
    four, short = f"pediatric_{ANNA}_4CH", "pediatric_CRa-CRs7-000007_PSAX"
    assert list(made.label_files()) == [f"{four}_ED", f"{four}_ES", f"{short}_ED", f"{short}_ES"]
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1}
    labels = made.manifest.labels_of(f"{four}_ED")
    assert (labels.annotated, labels.absent) == (("LV",), ())
    assert made.manifest.labels_of(f"{short}_ED").absent == ("LA", "RA")  # RV and MYO: unknown
    assert {labels.patient for labels in made.manifest.cases.values()} == {"pediatric_CRa"}
    assert labels.domain == "pediatric"
    assert labels.info == {
        "view": "4CH",
        "phase": "ED",
        "frame": 6,
        "interpolated": False,
        "spacing_known": False,
        "ef": 61.5,
        "fold": 3,
    }
    for phase, gray, pixels in (("ED", 60, 220), ("ES", 20, 140)):
        image, spacing = read_nifti(made.image_files()[f"{four}_{phase}"][0])
        mask, _ = read_nifti(made.label_files()[f"{four}_{phase}"])
        assert np.unique(image).tolist() == [gray]  # frame 6 is gray 60, frame 2 gray 20
        assert int(mask.sum()) == pixels
        assert spacing == pytest.approx((150 / 32, 150 / 32))
    assert (skips(report), notes(report)) == ({}, [])
    assert check(made.folder).findings == {}


@pytest.mark.parametrize("above", ["", "pediatric_echo_avi", "pediatric_echo_avi/pediatric_echo_avi", "a/b c/d"])
def test_the_views_are_found_in_doubled_folders(tmp_path: Path, above: str) -> None:
    view(tmp_path / "in" / above / "A4C", {ANNA: PAIR}, {ANNA: "3"})
    view(tmp_path / "in" / above / "PSAX", {BEN: PAIR}, {BEN: "4"})
    _, made = converted(tmp_path / "in")
    assert len(made.label_files()) == 4


def test_one_view_alone_is_converted_and_the_other_noted(tmp_path: Path) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR}, {ANNA: "3"})
    report, made = converted(tmp_path / "in" / "A4C")
    assert len(made.label_files()) == 2
    assert notes(report, "PSAX") == [says("PSAX", "FileList.csv", "left out")]


def test_two_copies_of_a_view_are_refused(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        view(tmp_path / "in" / copy / "A4C", {ANNA: PAIR}, {ANNA: "3"})
    with pytest.raises(ConversionError, match=r"more than one copy.*one/A4C, .*two/A4C"):
        converted(tmp_path / "in")


@pytest.mark.parametrize("missing", ["FileList.csv", "VolumeTracings.csv", "Videos"])
def test_a_wrong_folder_is_explained(tmp_path: Path, missing: str) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR}, {ANNA: "3"})
    (tmp_path / "in" / "A4C" / missing).rename(tmp_path / "in" / "A4C" / "other")
    with pytest.raises(ConversionError, match=rf"looked for .*{missing}"):
        converted(tmp_path / "in")


def test_an_archive_that_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "echonetpediatric.zip").touch()
    with pytest.raises(ConversionError, match=r"Unpack echonetpediatric.zip first"):
        converted(tmp_path / "in")


@pytest.mark.parametrize("word", ["No Systolic", "No Diastolic", "no systolic"])
def test_a_moment_that_the_video_does_not_show_is_a_known_defect(tmp_path: Path, word: str) -> None:
    report, made = one_frame({6: WIDE, word: [("", "")]}, tmp_path / "in")
    assert list(made.label_files()) == [f"pediatric_{ANNA}_4CH_F006"]
    assert "phase" not in made.manifest.labels_of(f"pediatric_{ANNA}_4CH_F006").info
    assert skips(report) == {}
    assert [defect.reason for defect in report.known_defects] == [f"one frame less: the table says '{word}'"]


@pytest.mark.parametrize(
    ("frame", "corners", "reason"),
    [
        ("6", [*WIDE, ("", "")], "line 6 of VolumeTracings.csv: X is '', not a number"),
        ("6", [*WIDE, ("12", "")], "line 6 of VolumeTracings.csv: Y is '', not a number"),
        ("6", [("", "")], "line 2 of VolumeTracings.csv: X is '', not a number"),
        ("6", [(10, 5), (20, 5)], "its tracing has fewer than three points: 2"),
        ("6", [(10, 5), (20, 5), (20, 5), (10, 5)], "its tracing has fewer than three points: 2"),
        ("6", [(10, 5)] * 5, "its tracing has fewer than three points: 1"),
        ("6", [(10, 5), (20, 1e9), (3, 3)], "its tracing has a coordinate of 1e+09 pixels"),
    ],
)
def test_an_outline_that_is_none_costs_its_frame_alone(
    tmp_path: Path, frame: str, corners: Corners, reason: str
) -> None:
    report, made = one_frame({frame: corners, 2: NARROW}, tmp_path / "in")
    assert skips(report) == {f"pediatric_{ANNA}_4CH frame 6": reason}
    assert list(made.label_files()) == [f"pediatric_{ANNA}_4CH_F002"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("systole", says("line 2 of VolumeTracings.csv", "Frame is 'systole'", "'No Systolic' or 'No Diastolic'")),
        ("46.5", says("line 2 of VolumeTracings.csv", "Frame is '46.5'", "'No Systolic' or 'No Diastolic'")),
        ("", says("line 2 of VolumeTracings.csv", "Frame is ''", "'No Systolic' or 'No Diastolic'")),
        ("No Systolic", says("line 2 of VolumeTracings.csv", "Frame is 'No Systolic'", "vertex")),
    ],
)
def test_a_frame_nobody_understands_is_named(tmp_path: Path, frame: str, reason: says) -> None:
    report, made = one_frame({frame: WIDE, 2: NARROW}, tmp_path / "in")
    assert skips(report) == {f"pediatric_{ANNA}_4CH": reason}
    assert len(made.label_files()) == 1


def test_a_negative_frame_is_named(tmp_path: Path) -> None:
    report, _ = one_frame({-1: WIDE, 2: NARROW}, tmp_path / "in")
    text = says("line 2 of VolumeTracings.csv", "Frame is '-1'", "from 0")
    assert skips(report) == {f"pediatric_{ANNA}_4CH frame -1": text}


def test_frames_written_as_decimals_and_repeated_vertices(tmp_path: Path) -> None:
    report, made = one_frame({"6.0": [p for p in WIDE for _ in range(2)] + [WIDE[0]], 2: NARROW}, tmp_path / "in")
    assert int(read_nifti(made.label_files()[f"pediatric_{ANNA}_4CH_ED"])[0].sum()) == 220
    assert skips(report) == {}


def test_without_repeats() -> None:
    assert without_repeats(np.array([[1, 1], [1, 1], [2, 1], [2, 2], [1, 1.0]])).tolist() == [[2, 1], [2, 2], [1, 1]]
    assert without_repeats(np.array([[1, 1], [2, 1], [1, 1], [2, 2.0]])).tolist() == [[1, 1], [2, 1], [1, 1], [2, 2]]
    assert without_repeats(np.array([[1, 1.0]] * 3)).tolist() == [[1, 1]]


def test_points_outside_the_frame_clip_the_mask_and_not_the_points(tmp_path: Path) -> None:
    _, made = one_frame({6: [(-5, 5), (20, 5), (20, 40), (-5, 40)], 2: NARROW}, tmp_path / "in")
    mask, _ = read_nifti(made.label_files()[f"pediatric_{ANNA}_4CH_ED"])
    assert [int(line.sum()) for line in mask] == [0] * 5 + [21] * 27  # columns 0 to 20, rows 5 to 31


def test_a_ventricle_outside_the_frame_is_skipped_and_a_tiny_one_noted(tmp_path: Path) -> None:
    far = [(100, 5), (120, 5), (120, 24), (100, 24)]
    tiny = [(10, 5), (11, 5), (11, 14), (10, 14)]
    report, made = one_frame({6: far, 2: tiny}, tmp_path / "in")
    assert skips(report) == {f"pediatric_{ANNA}_4CH_ED": says("frame 6", "no pixel")}
    assert notes(report) == [says(f"pediatric_{ANNA}_4CH_ES", "20 pixels")]
    assert len(made.label_files()) == 1


def test_the_area_and_not_the_number_of_vertices_decides_the_phase(tmp_path: Path) -> None:
    many = [*NARROW, (12, 20), (12, 15), (12, 10)]
    _, made = one_frame({2: many, 6: WIDE}, tmp_path / "in")
    assert made.manifest.labels_of(f"pediatric_{ANNA}_4CH_ES").info["frame"] == 2


def test_counted_from_0_a_frame_equal_to_the_frame_count_is_skipped_and_speaks_for_1(tmp_path: Path) -> None:
    report, _ = one_frame({8: WIDE, 2: NARROW}, tmp_path / "in")
    text = "there is no frame 8: the video has only 8 frames, numbered from 0"
    assert skips(report) == {f"pediatric_{ANNA}_4CH_ED": text}
    assert notes(report, "frame numbers") == [
        says("counted from 0", "In 0 video(s)", "in 1 a traced frame", "--frame-base 1")
    ]


def test_counted_from_1_the_same_frame_is_the_last(tmp_path: Path) -> None:
    report, made = one_frame({8: WIDE, 2: NARROW}, tmp_path / "in", frame_base=1)
    assert skips(report) == {}
    assert made.manifest.labels_of(f"pediatric_{ANNA}_4CH_ED").info["frame"] == 7
    assert np.unique(read_nifti(made.image_files()[f"pediatric_{ANNA}_4CH_ED"][0])[0]).tolist() == [70]
    assert np.unique(read_nifti(made.image_files()[f"pediatric_{ANNA}_4CH_ES"][0])[0]).tolist() == [10]
    assert "Convert again" not in notes(report, "frame numbers")[0]


def test_frame_0_speaks_for_0(tmp_path: Path) -> None:
    report, made = one_frame({0: WIDE, 2: NARROW}, tmp_path / "in", frame_base=1)
    assert skips(report) == {f"pediatric_{ANNA}_4CH frame 0": says("--frame-base 1", "no frame 0")}
    assert list(made.label_files()) == [f"pediatric_{ANNA}_4CH_F001"]
    assert "In 1 video(s) frame 0 is traced" in notes(report, "frame numbers")[0]
    assert notes(report, "frame numbers")[0].endswith("Convert again with --frame-base 0?")


def test_frames_are_counted_by_packets(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 8)
    assert read_video_header(tmp_path / "v.avi").length == 8
    (tmp_path / "x.avi").write_bytes(b"no video")
    with pytest.raises(ConversionError, match=r"x.avi cannot be read as a video"):
        read_video_header(tmp_path / "x.avi")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    odd = "noname"
    root = view(tmp_path / "in" / "A4C", {ANNA: PAIR, CLARA: PAIR, odd: PAIR}, {ANNA: "3", BEN: "3", odd: "3"})
    append((root / "FileList.csv"), "CRd-CRs4-000004.avi,60,F,7,25,120,3\nCRe-CRs5-000005.avi,60,F,7,25,120,3\n")
    text = "".join(f"{n}.avi,{x},{y},6\n" for n in ("CRd-CRs4-000004", "CRe-CRs5-000005") for x, y in WIDE)
    append((root / "VolumeTracings.csv"), text)
    (root / "Videos" / "CRe-CRs5-000005.avi").write_bytes(b"no video at all")
    (root / "Videos" / "CRz-CRs5-000009.avi").touch()
    report, made = converted(tmp_path / "in")
    found = skips(report)
    reason = says("its name", "CR32a7555-CR32a7582-000039")
    assert found.pop("A4C CRe-CRs5-000005") == says("CRe-CRs5-000005.avi", "cannot be read as a video")
    assert found == {
        f"pediatric_{BEN}_4CH": "has no tracing in VolumeTracings.csv",
        "pediatric_noname_4CH": reason,
        "pediatric_CRd-CRs4-000004_4CH": says("no video CRd-CRs4-000004.avi", "A4C/Videos"),
        f"pediatric_{CLARA}_4CH": says("VolumeTracings.csv", "not in FileList.csv"),
    }
    assert notes(report, "A4C") == [says("1 video(s)", "FileList.csv", "CRz-CRs5-000009")]
    assert len(made.label_files()) == 2


def test_a_clip_listed_twice(tmp_path: Path) -> None:
    root = view(tmp_path / "in" / "A4C", {ANNA: PAIR, BEN: PAIR}, {ANNA: "3", BEN: "3"})
    text = (root / "FileList.csv").read_text()
    (root / "FileList.csv").write_text(text + text.splitlines()[1] + f"\n{BEN}.avi,60,F,7,25,120,9\n")
    report, made = converted(tmp_path / "in")
    assert skips(report) == {f"pediatric_{BEN}_4CH": says("more than once", "FileList.csv", "different entries")}
    assert len(made.label_files()) == 2


@pytest.mark.parametrize("fold", ["TRAIN", "10", "-1", ""])
def test_a_fold_nobody_knows_is_noted_and_left_out(tmp_path: Path, fold: str) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR}, {ANNA: fold})
    report, made = converted(tmp_path / "in")
    assert "fold" not in made.manifest.labels_of(f"pediatric_{ANNA}_4CH_ED").info
    assert notes(report) == [says(f"pediatric_{ANNA}_4CH", f"Split in FileList.csv is {fold!r}", "0 to 9")]


def test_folds_are_kept_and_none_is_taken_for_testing_unless_asked_for(tmp_path: Path) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR, BEN: PAIR}, {ANNA: "9", BEN: "0"})
    report, made = converted(tmp_path / "in")
    assert {labels.split for labels in made.manifest.cases.values()} == {None}
    text = says("none is used for testing", "--val-folds", "--test-folds")
    assert notes(report, "folds of the release") == [text]


def test_folds_can_be_chosen_and_no_patient_is_on_two_sides(tmp_path: Path) -> None:
    view(tmp_path / "in" / "A4C", dict.fromkeys((ANNA, BEN, CLARA), PAIR), {ANNA: "9", BEN: "8", CLARA: "0"})
    other = "CRa-CRs9-000009"  # Anna's short axis is in a training fold
    view(tmp_path / "in" / "PSAX", {other: PAIR}, {other: "0"})
    report, made = converted(tmp_path / "in", val_folds=(8,), test_folds=(9,))
    sides = {case.split("_", 1)[1]: labels.split for case, labels in made.manifest.cases.items()}
    assert sides == {
        **dict.fromkeys((f"{ANNA}_4CH_ED", f"{ANNA}_4CH_ES", f"{other}_PSAX_ED", f"{other}_PSAX_ES"), "test"),
        **dict.fromkeys((f"{BEN}_4CH_ED", f"{BEN}_4CH_ES"), "val"),
        **dict.fromkeys((f"{CLARA}_4CH_ED", f"{CLARA}_4CH_ES"), "train"),
    }
    assert made.manifest.labels_of(f"pediatric_{other}_PSAX_ED").info["fold"] == 0
    assert notes(report, "folds of the release") == [says("1 of 3 patient(s)", "CRa", "test, val, train")]
    assert check(made.folder).findings == {}


def test_both_views_of_a_patient_stay_in_one_fold_of_the_training(tmp_path: Path) -> None:
    names = [f"CR{letter}-CRs-00000{i}" for i, letter in enumerate("abcdef")]
    for folder in ("A4C", "PSAX"):
        view(tmp_path / "in" / folder, dict.fromkeys(names, PAIR), dict.fromkeys(names, "1"))
    report, made = converted(tmp_path / "in")
    splits = json.loads((report.folder / "splits_final.json").read_text())
    assert len(splits) == 5
    check_splits(splits, made.manifest, list(made.label_files()))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"frame_base": 2}, "frame_base is 2, expected 0 or 1"),
        ({"val_folds": (10,)}, "from 0 to 9, each once"),
        ({"val_folds": (8,), "test_folds": (8, 9)}, "from 0 to 9, each once"),
        ({"depth_mm": math.inf}, r"depth is inf mm.* above 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConversionError, match=reason):
        EchoNetPediatric(Path(), **options)


def test_options_reach_the_data_set() -> None:
    parser = argparse.ArgumentParser()
    EchoNetPediatric.add_options(parser)
    words = ["--frame-base", "1", "--val-folds", "8", "--test-folds", "9", "0", "--depth-mm", "120"]
    assert EchoNetPediatric.from_options(Path("x"), parser.parse_args(words)) == EchoNetPediatric(
        Path("x"), 1, (8,), (9, 0), 120.0
    )


@pytest.mark.parametrize("name", ["../escape-x-y", "/tmp/escape-x-y", "..-..-.."])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, raw: Path, name: str) -> None:
    root = view(tmp_path / "in" / "A4C", {ANNA: PAIR, name: PAIR}, {ANNA: "3"})
    append((root / "FileList.csv"), f"{name}.avi,60,F,7,25,120,3\n")
    report, _ = converted(tmp_path / "in")
    assert skips(report) == {f"pediatric_{name}_4CH": f"there is no video {name}.avi in A4C/Videos"}
    assert [path.name for path in raw.iterdir()] == [NAME]


def test_a_name_that_cannot_name_a_case_is_refused(tmp_path: Path) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR, "CR x-y-z": PAIR}, {ANNA: "3", "CR x-y-z": "3"})
    report, _ = converted(tmp_path / "in")
    assert list(skips(report)) == ["A4C CR x-y-z"]
    assert "cannot name a case" in skips(report)["A4C CR x-y-z"]


@pytest.mark.parametrize(("file", "column"), [("FileList.csv", "FileName"), ("VolumeTracings.csv", "X")])
def test_a_missing_column_is_named(tmp_path: Path, file: str, column: str) -> None:
    root = view(tmp_path / "in" / "A4C", {ANNA: PAIR}, {ANNA: "3"})
    (root / file).write_text((root / file).read_text().replace(column, "other", 1))
    with pytest.raises(ConversionError, match=rf"{file} has no column {column}; its columns are: .*other"):
        converted(tmp_path / "in")


def test_the_command_leaves_the_exit_code_0_for_a_known_defect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view(tmp_path / "in" / "A4C", {ANNA: PAIR, BEN: {6: WIDE, "No Systolic": [("", "")]}}, {ANNA: "3", BEN: "3"})
    assert main(["convert", "echonet-pediatric", "-i", str(tmp_path / "in"), "-d", "503", "-np", "2"]) == 0
    out = capsys.readouterr().out
    assert "1 x known defect" in out
    assert "frame numbers: taken as counted from 0." in out


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_tables_hold_only_our_error_comes_out(tmp_path: Path, data: st.DataObject) -> None:
    tables = {
        "list.csv": f"FileName,EF,Sex,Age,Weight,Height,Split\n{ANNA}.avi,61.5,F,7,25,120,3\n{BEN}.avi,,F,,,,9\n",
        "tracings.csv": "FileName,X,Y,Frame\n" + f"{ANNA}.avi,10,5,6\n{ANNA}.avi,2,5,6\n{ANNA}.avi,,,No Systolic\n" * 2,
    }
    for name, text in tables.items():
        start, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 20))
        content = text.encode()[:start] + data.draw(st.binary(max_size=20)) + text.encode()[start + length :]
        (tmp_path / name).write_bytes(content)
    try:
        clips = read_clips(tmp_path / "list.csv")
        assert all(clip.problem or clip.patient for clip in clips.values())
        for outlines in read_contours(tmp_path / "tracings.csv").values():
            assert all(len(points) >= 3 and frame >= 0 for frame, points in outlines.frames.items())
    except PartialLabelError:
        return
