"""EchoNet-Dynamic: stories with eight-frame videos of 32 x 48 pixels and rectangular ventricles."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.facts import says
from helpers.source_datasets import chords, echonet, read_nifti, tracing_text, write_video
from nnunet_partial.dataset_conversion.echonet import (
    EchoNetDynamic,
    contour_from_chords,
    is_long_axis,
    phases_by_area,
    stem,
)
from nnunet_partial.dataset_conversion.readers import polygon
from nnunet_partial.dataset_conversion.readers.video import read_frames
from nnunet_partial.dataset_conversion.writer import Report, convert

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import ConversionError

NAME = "Dataset502_EchoNetDynamic"
WIDE, NARROW = chords(10, 20), chords(12, 18)
PAIR = {6: WIDE, 2: NARROW}


def converted(root: Path, **options: str | float) -> tuple[Report, RawDataset]:
    report = convert(EchoNetDynamic(root, **options), NAME)  # type: ignore[arg-type]
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def notes(report: Report) -> list[str]:
    """Without those about folds, which have tests of their own."""
    return [f"{note.about}: {note.text}" for note in report.notes if note.about != "folds"]


def test_two_traced_frames_become_two_cases(tmp_path: Path) -> None:
    report, made = converted(echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TRAIN"}))
    assert list(made.label_files()) == ["echonet_0XA_4CH_ED", "echonet_0XA_4CH_ES"]
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1}
    assert made.dataset_json["nominal_depth_mm"] == 150
    labels = made.manifest.labels_of("echonet_0XA_4CH_ED")
    assert (labels.annotated, labels.absent) == (("LV",), ())
    assert (labels.domain, labels.patient) == ("echonet", "echonet_0XA")
    assert labels.info == {
        "split": "train",
        "view": "4CH",
        "phase": "ED",
        "frame": 6,  # the larger one, although it comes later in the video and first in the table
        "interpolated": False,
        "spacing_known": False,
        "ef": 60.5,
    }
    assert made.manifest.labels_of("echonet_0XA_4CH_ES").info["frame"] == 2
    for phase, gray, last in (("ED", 60, 20), ("ES", 20, 18)):
        image, spacing = read_nifti(made.image_files()[f"echonet_0XA_4CH_{phase}"][0])
        mask, mask_spacing = read_nifti(made.label_files()[f"echonet_0XA_4CH_{phase}"])
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (32, 48)
        assert np.unique(image).tolist() == [gray]  # frame 6 is gray 60, frame 2 gray 20
        expected = np.zeros((32, 48), np.uint8)
        expected[5:25, 30 - last : last + 1] = 1  # chords on the rows 5 to 24; columns 10-20 and 12-18
        assert np.array_equal(mask, expected)
        assert spacing == mask_spacing == pytest.approx((150 / 32, 150 / 32))
    assert (skips(report), notes(report)) == ({}, [])


def test_the_image_depth_is_an_option(tmp_path: Path) -> None:
    _, made = converted(echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TRAIN"}), depth_mm=160.0)
    _, spacing = read_nifti(made.label_files()["echonet_0XA_4CH_ED"])
    assert spacing == pytest.approx((5.0, 5.0))  # 160 mm over 32 rows; pixels are square


@pytest.mark.parametrize("depth_mm", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_depth_is_refused(depth_mm: float) -> None:
    with pytest.raises(ConversionError, match=r"depth is .* mm.* above 0"):
        EchoNetDynamic(Path(), depth_mm=depth_mm)


def test_capped_adds_the_triangle_up_to_the_apex(tmp_path: Path) -> None:
    # apex at (15, 1), first chord on row 5 from column 11 to 19: a triangle of 4 rows above it
    tall = [[15, 1, 15, 25], *chords(11, 19)[1:]]
    root = echonet(tmp_path / "in", {"0XA": {6: tall, 2: NARROW}}, {"0XA": "TRAIN"})
    _, made = converted(root, apex="capped")
    capped, _ = read_nifti(made.label_files()["echonet_0XA_4CH_ED"])
    assert [int(row.sum()) for row in capped[:7]] == [0, 1, 3, 5, 7, 9, 9]
    assert int(capped[5:].sum()) == 9 * 20  # below, the same as the official one


def test_the_apex_is_the_end_of_the_axis_that_lies_at_the_first_chord() -> None:
    upside_down = np.array([[15, 25, 15, 1], *chords(11, 19)[1:]], float)
    assert contour_from_chords(upside_down, "capped").points[-1].tolist() == [15, 1]


def test_official_split_in_any_case(tmp_path: Path) -> None:
    splits = {"0XA": "train", "0XB": "Val", "0XC": "TEST", "0XD": "TRAIN"}
    report, made = converted(echonet(tmp_path / "in", dict.fromkeys(splits, PAIR), splits))
    assert list(made.label_files("Ts")) == ["echonet_0XC_4CH_ED", "echonet_0XC_4CH_ES"]
    assert list(made.image_files("Ts")) == list(made.label_files("Ts"))
    assert made.manifest.labels_of("echonet_0XB_4CH_ED").split == "val"
    assert (report.counts["train"], report.counts["val"], report.counts["test"]) == (4, 2, 2)
    assert skips(report) == {}


def test_a_split_nobody_knows_is_named_and_not_guessed(tmp_path: Path) -> None:
    report, _ = converted(echonet(tmp_path / "in", {"0XA": PAIR, "0XB": PAIR}, {"0XA": "TRAIN", "0XB": "3"}))
    assert skips(report) == {"echonet_0XB": says("Split '3'", "FileList.csv", "TRAIN, VAL or TEST")}


def test_without_a_split_column_everything_trains_and_a_note_says_so(tmp_path: Path) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TEST"})
    (root / "FileList.csv").write_text("FileName\n0XA\n")
    report, made = converted(root)
    assert made.manifest.labels_of("echonet_0XA_4CH_ED").split is None
    assert notes(report) == [says("FileList.csv", "no column Split", "training")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0XA", "0XA"), ("0XA.avi", "0XA"), ("0XA.AVI", "0XA"), ("0XA.mp4", "0XA"), ("0.5", "0.5"), ("", "")],
)
def test_names_with_and_without_ending_are_one(name: str, expected: str) -> None:
    assert stem(name) == expected


@pytest.mark.parametrize("separator", [";", "\t", ","])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_from_a_spreadsheet(tmp_path: Path, separator: str, encoding: str) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TEST"})
    for file in (root / "FileList.csv", root / "VolumeTracings.csv"):
        text = file.read_text().replace("0XA,", "0XA.avi,").replace("FileName", "filename ")
        if separator == ";":  # a decimal comma goes with the semicolon
            text = text.replace(",", ";").replace(".0000", ",0000").replace("60.5", "60,5")
        file.write_bytes((text if separator == ";" else text.replace(",", separator)).encode(encoding))
    _, made = converted(root)
    mask, _ = read_nifti(made.label_files("Ts")["echonet_0XA_4CH_ED"])
    assert int(mask.sum()) == 220  # 20 rows of 11
    assert made.manifest.labels_of("echonet_0XA_4CH_ED").info["ef"] == 60.5


@pytest.mark.parametrize(("file", "column"), [("FileList.csv", "FileName"), ("VolumeTracings.csv", "X2")])
def test_a_missing_column_is_named(tmp_path: Path, file: str, column: str) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TEST"})
    (root / file).write_text((root / file).read_text().replace(column, "other"))
    with pytest.raises(ConversionError, match=rf"{file} has no column {column}; its columns are: .*other"):
        converted(root)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_of_several_tracings_in_a_frame_the_first_counts(tmp_path: Path, number: int) -> None:
    rows = WIDE + NARROW * (number - 1)
    report, made = converted(echonet(tmp_path / "in", {"0XA": {6: rows, 2: NARROW}}, {"0XA": "TRAIN"}))
    mask, _ = read_nifti(made.label_files()["echonet_0XA_4CH_ED"])
    assert int(mask.sum()) == 220
    assert notes(report) == [says("echonet_0XA_4CH_ED", f"{21 * number} rows", "first 21")]
    assert "irregular" not in made.manifest.labels_of("echonet_0XA_4CH_ED").info


def test_an_irregular_tracing_is_used_and_flagged(tmp_path: Path) -> None:
    sixteen = chords(10, 20, number=15)  # the axis and 15 chords, on the rows 5 to 24
    report, made = converted(echonet(tmp_path / "in", {"0XA": {6: sixteen, 2: NARROW}}, {"0XA": "TRAIN"}))
    mask, _ = read_nifti(made.label_files()["echonet_0XA_4CH_ED"])
    assert int(mask.sum()) == 220
    assert made.manifest.labels_of("echonet_0XA_4CH_ED").info["irregular"] is True
    assert notes(report) == [says("echonet_0XA_4CH_ED", "16 rows", "not 21")]


def test_a_contour_that_crosses_itself_is_noted(tmp_path: Path) -> None:
    """The ends of the fifth chord are exchanged, as by a second reader; the polygon runs back and forth there."""
    swapped = [*WIDE[:5], [*WIDE[5][2:], *WIDE[5][:2]], *WIDE[6:]]
    report, _ = converted(echonet(tmp_path / "in", {"0XA": {6: swapped, 2: NARROW}}, {"0XA": "TRAIN"}))
    assert notes(report) == [says("echonet_0XA_4CH_ED", "crosses itself")]


@pytest.mark.parametrize(
    ("corners", "crosses"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4)], False),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], True),
        ([(0, 0), (4, 0), (2, 2), (4, 4), (0, 4)], False),  # not convex
        ([(0, 0), (4, 0), (4, 4), (2, 0), (0, 4)], False),  # touches
        ([(0, 0), (4, 0), (0, 0)], False),
    ],
)
def test_when_a_polygon_crosses_itself(corners: list[tuple[int, int]], crosses: bool) -> None:
    assert polygon.crosses_itself(np.array(corners, float)) == crosses


def test_41_rows_never_make_one_polygon() -> None:
    found = contour_from_chords(np.array(WIDE + NARROW[1:], float))
    assert found.irregular
    assert found.points.shape == (40, 2)
    assert polygon.polygon_area(found.points) == 190  # 10 x 19: the first tracing alone


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (chords(number=7), "its tracing has 7 chords; expected 20, at least 8"),
        (chords(number=1), "its tracing has fewer than three points: 2"),
        ([*chords()[:-1], [1e7, 5, 20, 5]], "its tracing has a coordinate of 1e+07 pixels"),
    ],
)
def test_a_tracing_that_is_no_outline_is_skipped_and_the_other_frame_kept(
    tmp_path: Path, rows: list[list[float]], reason: str
) -> None:
    report, made = converted(echonet(tmp_path / "in", {"0XA": {6: rows, 2: NARROW}}, {"0XA": "TRAIN"}))
    assert skips(report) == {"echonet_0XA frame 6": reason}
    # alone, it cannot be told whether it is ED or ES
    assert list(made.label_files()) == ["echonet_0XA_4CH_F002"]
    assert "phase" not in made.manifest.labels_of("echonet_0XA_4CH_F002").info
    assert len(notes(report)) == 1


def test_points_outside_the_frame_clip_the_mask_and_not_the_points(tmp_path: Path) -> None:
    outside = chords(-5, 20)
    _, made = converted(echonet(tmp_path / "in", {"0XA": {6: outside, 2: NARROW}}, {"0XA": "TRAIN"}))
    mask, _ = read_nifti(made.label_files()["echonet_0XA_4CH_ED"])
    assert [int(row.sum()) for row in mask[4:26]] == [0, *[21] * 20, 0]  # columns 0 to 20


def test_a_ventricle_outside_the_frame_is_skipped(tmp_path: Path) -> None:
    report, made = converted(echonet(tmp_path / "in", {"0XA": {6: chords(100, 140), 2: NARROW}}, {"0XA": "TRAIN"}))
    assert skips(report) == {"echonet_0XA_4CH_ED": says("frame 6", "no pixel")}
    assert list(made.label_files()) == ["echonet_0XA_4CH_ES"]


def test_a_tiny_ventricle_and_a_strange_axis_are_noted(tmp_path: Path) -> None:
    tiny = chords(10, 11)
    across = [[10, 15, 20, 15], *WIDE[1:]]
    report, made = converted(echonet(tmp_path / "in", {"0XA": {6: across, 2: tiny}}, {"0XA": "TRAIN"}))
    assert len(made.label_files()) == 2
    assert notes(report) == [
        says("echonet_0XA_4CH_ED", "row 1", "long axis"),
        says("echonet_0XA_4CH_ES", "40 pixels"),
    ]


def test_what_a_long_axis_looks_like() -> None:
    rows = np.array(WIDE, float)  # middles of the chords spread over 19 pixels
    assert is_long_axis(np.array([15, 5, 15, 24.0]), rows[1:])
    assert not is_long_axis(np.array([15, 5, 15, 14.0]), rows[1:])  # 9 is less than half of 19
    assert not is_long_axis(np.array([5, 5, 25, 15.0]), rows[1:])  # 27 degrees from the chords
    assert not is_long_axis(np.array([15, 5, 15, 5.0]), rows[1:])


def test_a_frame_beyond_the_end_is_skipped_and_the_other_kept(tmp_path: Path) -> None:
    report, made = converted(echonet(tmp_path / "in", {"0XA": {8: WIDE, 7: NARROW}}, {"0XA": "TRAIN"}))
    assert skips(report) == {"echonet_0XA_4CH_ED": says("no frame 8", "8 frames", "from 0")}
    image, _ = read_nifti(made.image_files()["echonet_0XA_4CH_ES"][0])
    assert np.unique(image).tolist() == [70]  # frame 7, the last one


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ({30: 5.0, 46: 9.0}, {30: "ES", 46: "ED"}),
        ({30: 9.0, 46: 5.0}, {30: "ED", 46: "ES"}),
        ({46: 5.0, 30: 5.0}, {46: "ES", 30: "ED"}),
        ({46: 5.0}, {46: None}),
        ({1: 5.0, 2: 7.0, 3: 9.0}, {1: "ES", 2: None, 3: "ED"}),
        ({}, {}),
    ],
)
def test_the_area_decides_the_phase(areas: dict[int, float], expected: dict[int, str | None]) -> None:
    assert phases_by_area(areas) == expected


def test_the_known_defects_of_the_release_are_listed_apart(tmp_path: Path) -> None:
    splits = {"0XA": "TRAIN", "0X5DD5283AC43CCDD1": "TEST"}
    report, _ = converted(echonet(tmp_path / "in", {"0XA": PAIR, "0X4F8859C8AB4DA9CB": PAIR}, splits))
    assert skips(report) == {}
    assert {defect.case: defect.reason for defect in report.known_defects} == {
        "echonet_0X5DD5283AC43CCDD1": says("no tracing", "VolumeTracings.csv"),
        "echonet_0X4F8859C8AB4DA9CB": says("VolumeTracings.csv", "not in FileList.csv"),
    }


def test_the_same_defects_elsewhere_are_failures(tmp_path: Path) -> None:
    splits = {"0XA": "TRAIN", "0XB": "TRAIN", "0XC": "TRAIN", "0XD": "TRAIN"}
    root = echonet(tmp_path / "in", {"0XA": PAIR, "0XC": PAIR, "0XD": PAIR, "0XE": PAIR}, splits)
    (root / "Videos" / "0XC.avi").unlink()
    (root / "Videos" / "0XD.avi").write_bytes(b"no video at all")
    report, made = converted(root)
    found = skips(report)
    assert list(found) == ["echonet_0XB", "echonet_0XC", "echonet_0XD", "echonet_0XE"]
    assert found["echonet_0XB"] == "has no tracing in VolumeTracings.csv"
    assert found["echonet_0XC"] == says("no video 0XC.avi", "Videos")
    assert found["echonet_0XD"].startswith("0XD.avi cannot be read as a video: ")
    assert found["echonet_0XE"] == says("VolumeTracings.csv", "not in FileList.csv")
    assert len(made.label_files()) == 2
    assert report.known_defects == []


def test_a_video_that_no_table_names_is_noted(tmp_path: Path) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TRAIN"})
    (root / "Videos" / "0XZ.avi").touch()
    (root / "Videos" / "._0XA.avi").touch()  # what macOS leaves behind
    report, _ = converted(root)
    assert notes(report) == [says("Videos", "1 video(s)", "FileList.csv", "0XZ")]


def test_a_video_listed_twice(tmp_path: Path) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR, "0XB": PAIR}, {"0XA": "TRAIN", "0XB": "TRAIN"})
    text = (root / "FileList.csv").read_text()
    (root / "FileList.csv").write_text(text + text.splitlines()[1] + "\n0XB.avi,60.5,40,100,32,48,50,8,TEST\n")
    report, made = converted(root)
    assert skips(report) == {"echonet_0XB": says("more than once", "FileList.csv", "different entries")}
    assert len(made.label_files()) == 2


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape", "a b", "..", "0XB\\x", "ä"])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, raw: Path, name: str) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TRAIN"})
    with (root / "FileList.csv").open("a", encoding="utf-8") as file:
        file.write(f"{name},60.5,40,100,32,48,50,8,TRAIN\n")
    text = tracing_text({f"{name}.avi": PAIR}).split("\n", 1)[1]
    with (root / "VolumeTracings.csv").open("a", encoding="utf-8") as file:
        file.write(text)
    report, _ = converted(root)
    assert skips(report) == {f"echonet_{name}": f"there is no video {name}.avi in Videos"}
    assert [path.name for path in raw.iterdir()] == [NAME]


def test_a_video_whose_name_cannot_name_a_case_is_refused(tmp_path: Path) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR, "a b": PAIR}, {"0XA": "TRAIN", "a b": "TRAIN"})
    report, _ = converted(root)
    assert list(skips(report)) == ["echonet_a b"]
    assert "'echonet_a b' cannot name a case" in skips(report)["echonet_a b"]


@pytest.mark.parametrize(
    ("old", "new", "case", "reason"),
    [
        ("10.0000,5.0000", "x,5.0000", "echonet_0XA frame 6", says("line 3 of VolumeTracings.csv", "X1 is 'x'")),
        ("10.0000,5.0000", "10,", "echonet_0XA frame 6", says("line 3 of VolumeTracings.csv", "Y1 is ''")),
        ("10.0000,5.0000", "nan,5", "echonet_0XA frame 6", says("line 3 of VolumeTracings.csv", "X1 is 'nan'")),
        (
            "20.0000,5.0000,6",
            "20.0000,5.0000,-6",
            "echonet_0XA",
            says("line 3 of VolumeTracings.csv", "Frame is '-6'", "from 0"),
        ),
    ],
)
def test_a_broken_line_costs_its_frame_alone(tmp_path: Path, old: str, new: str, case: str, reason: says) -> None:
    root = echonet(tmp_path / "in", {"0XA": PAIR}, {"0XA": "TRAIN"})
    text = (root / "VolumeTracings.csv").read_text()
    assert old in text
    (root / "VolumeTracings.csv").write_text(text.replace(old, new, 1))
    report, made = converted(root)
    assert skips(report) == {case: reason}
    assert made.label_files()


@pytest.mark.parametrize("missing", ["FileList.csv", "VolumeTracings.csv", "Videos"])
def test_a_wrong_folder_is_explained(tmp_path: Path, missing: str) -> None:
    root = echonet(tmp_path / "in", {}, {})
    (root / missing).rename(root / "other")
    with pytest.raises(ConversionError, match=rf"looked for .*{missing} of EchoNet-Dynamic; found: .*other"):
        converted(root)


def test_gray_values_of_a_video_whose_frames_build_on_each_other(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 8, codec="mpeg4")
    frames = read_frames(tmp_path / "v.mp4", {1, 6, 9})
    # stored as 16 to 235; comes back as 0 to 255, to within the rounding of a lossy codec
    assert {number: round(float(frame.mean()) / 10) for number, frame in frames.images.items()} == {1: 1, 6: 6}
    assert frames.why_missing == {9: says("no frame 9", "8 frames", "from 0")}


def test_a_broken_frame_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 8)
    content = bytearray((tmp_path / "v.avi").read_bytes())
    starts = [
        i for i in range(len(content) - 4) if content[i : i + 4] == b"00dc" and content[i + 8 : i + 10] == b"\xff\xd8"
    ]
    start, end = starts[3] + 8, starts[4]
    content[start:end] = bytes(end - start)
    (tmp_path / "v.avi").write_bytes(content)
    frames = read_frames(tmp_path / "v.avi", {2, 3, 4})
    assert {number: int(frame[0, 0]) for number, frame in frames.images.items()} == {2: 20, 4: 40}
    assert list(frames.why_missing) == [3]
    assert "frame 3" in frames.why_missing[3]


def test_the_real_sample(real_echo: Path) -> None:
    report, made = converted(real_echo / "EchoNet-Dynamic")
    assert (skips(report), notes(report), report.known_defects) == ({}, [], [])
    assert (report.counts["labelsTr"], report.counts["labelsTs"], report.counts["patients"]) == (8, 2, 5)
    traced: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    with (real_echo / "EchoNet-Dynamic" / "VolumeTracings.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            ends = tuple(float(row[name]) for name in ("X1", "Y1", "X2", "Y2"))
            traced.setdefault((row["FileName"].removesuffix(".avi"), int(row["Frame"])), []).append(ends)
    assert len(traced) == 10
    areas: dict[str, dict[str, float]] = {}
    for case, path in {**made.label_files(), **made.label_files("Ts")}.items():
        info = made.manifest.labels_of(case).info
        name = case.split("_")[1]
        mask, spacing = read_nifti(path)
        assert mask.shape == (112, 112)
        assert spacing == pytest.approx((150 / 112, 150 / 112))
        # the area by a sum over the strips between neighboring chords, not by filling a polygon
        chord = np.array(traced[name, info["frame"]][1:])
        area = sum(polygon.polygon_area(np.array([a[:2], b[:2], b[2:], a[2:]])) for a, b in itertools.pairwise(chord))
        # pixels on the outline are filled in full, so the mask is larger by half of its length
        steps = np.diff(np.concatenate([chord[:, :2], chord[::-1, 2:], chord[:1, :2]]), axis=0)
        assert int(mask.sum()) == pytest.approx(area + np.abs(steps).max(axis=1).sum() / 2, rel=0.03)
        areas.setdefault(name, {})[info["phase"]] = area
    assert all(area["ED"] > area["ES"] for area in areas.values())
