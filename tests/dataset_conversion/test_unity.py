"""Unity: an open curve becomes a chamber; what is off, or doubtful, stays unknown unless somebody has checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.facts import says
from helpers.raw_datasets import Drawn, write_dataset
from helpers.source_datasets import BLURRED, CUP, OFF, name_of, place_of, read_nifti, unity
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.derived.scenario import scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions
from nnunet_partial.dataset_conversion.unity import Unity, chambers, labels_of, smooth
from nnunet_partial.dataset_conversion.writer import Report, convert

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.errors import ConversionError

ONE = name_of("one")
CASE = f"unity_{ONE[:-4]}"
POINT = {"type": "point", "x": "3", "y": "4"}


def converted(root: Path, **options: Any) -> tuple[Report, RawDataset]:
    report = convert(Unity(root, **options), "Dataset508_Unity")
    return report, RawDataset(report.folder)


def skips(report: Report) -> dict[str, str]:
    return {skipped.case: skipped.reason for skipped in report.skipped}


def told(report: Report, about: str) -> list[str]:
    return [note.text for note in report.notes if note.about == about]


def curve(x: str, y: str) -> dict[str, str]:
    return {"type": "curve", "x": x, "y": y}


# ---- from a curve to pixels ------------------------------------------------------------------------------------------


def test_a_curve_of_three_points_on_a_line_stays_that_line() -> None:
    path = smooth(np.array([[0.0, 0.0], [0.0, 10.0], [0.0, 30.0]]))
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == pytest.approx([0, 30])
    assert np.abs(path[:, 0]).max() == 0
    assert np.diff(path[:, 1]).max() <= 1


def test_the_ends_are_joined_by_a_straight_line() -> None:
    # an arch over three points: from (10, 30) over (20, 10) to (30, 30); below row 30 nothing, the line itself counts
    masks, doubts = chambers({"LV": np.array([[10.0, 30.0], [20.0, 10.0], [30.0, 30.0]])}, (40, 40))
    rows, cols = np.nonzero(masks["LV"])
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (10, 30, 10, 30)
    assert masks["LV"][30].sum() == 21
    assert doubts == []


def test_neighbors_share_the_valve_and_the_first_has_it() -> None:
    # LV from row 10 to 20, LA from row 20 to 30, both from column 10 to 20: the 11 pixels of row 20 are in both
    upper = np.array([[10.0, 20.0], [10.0, 10.0], [20.0, 10.0], [20.0, 20.0]])
    lower = upper * [1, -1] + [0, 40]
    masks, doubts = chambers({"LV": upper, "LA": lower}, (40, 40))
    assert doubts == []
    assert not (masks["LV"] & masks["LA"]).any()
    assert masks["LV"][20].sum() == 11


def test_chambers_that_overlap_and_one_beside_the_picture_are_unknown() -> None:
    cup = np.array([[10.0, 20.0], [10.0, 10.0], [20.0, 10.0], [20.0, 20.0]])
    masks, doubts = chambers({"LV": cup, "RV": cup + 1, "LA": cup + 100}, (40, 40))
    assert masks == {}
    assert doubts == [says("contour of LA", "no pixel", "unknown"), says("LV, RV overlap", "unknown")]


# ---- what labels say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "outlined", "off", "doubt"),
    [
        (CUP, True, False, None),
        ([CUP], True, False, None),
        (OFF, False, True, None),
        ([OFF], False, True, None),
        (BLURRED, False, False, None),
        (None, False, False, None),
        ([], False, False, None),
        ({"x": "1 2 3", "y": "1 2 3"}, False, False, None),  # no type: unknown
        ({"type": None}, False, False, None),
        (curve("1 2", "1 2"), False, False, "has 2 point(s), expected 3 or more"),
        (curve("", ""), False, False, "has 0 point(s), expected 3 or more"),
        (curve("5 5 5 9", "5 5 5 9"), False, False, "has 2 point(s), expected 3 or more"),  # one three times
        (curve("1 2 3", "1 2"), False, False, "has 3 numbers for x and 2 for y"),
        (curve("1 2 x", "1 2 3"), False, False, "has coordinates that are not numbers"),
        (curve("1 2 nan", "1 2 3"), False, False, "has coordinates far from any image"),
        (curve("1 2 1e9", "1 2 3"), False, False, "has coordinates far from any image"),
        ({"type": "point", "x": "3", "y": "4"}, False, False, "has the type 'point'"),
        ([CUP, CUP], False, False, "is there 2 times"),
        (7, False, False, None),
    ],
)
def test_the_states_of_a_label(label: Any, outlined: bool, off: bool, doubt: str | None) -> None:
    found = labels_of({"labels": {"curve-lv-endo": label}})
    assert ("LV" in found.curves, "LV" in found.off) == (outlined, off)
    assert found.doubts == (() if doubt is None else (says("curve-lv-endo", doubt, "LV counts as unknown"),))


@pytest.mark.parametrize("other", ["lv-apex-endo", "curve-lv-trabec", "mv-ant-hinge"])
@pytest.mark.parametrize("shown", [POINT, BLURRED, [POINT, POINT]])
def test_a_curve_that_is_off_where_the_chamber_is_seen_is_unknown(other: str, shown: Any) -> None:
    found = labels_of({"labels": {"curve-lv-endo": OFF, "curve-ra-endo": OFF, other: shown}})
    assert found.off == ("RA",)
    assert found.doubts == (says("curve-lv-endo is off", other, "LV counts as unknown"),)
    assert labels_of({"labels": {"curve-lv-endo": OFF, other: OFF}}).off == ("LV",)


@pytest.mark.parametrize("entry", [None, [], {}, {"labels": []}, {"labels": None}])
def test_an_entry_without_labels(entry: Any) -> None:
    assert labels_of(entry).doubts == ("its entry has no labels",)


# ---- a whole copy ----------------------------------------------------------------------------------------------------


def test_what_comes_out(tmp_path: Path) -> None:
    root = unity(
        tmp_path / "in",
        train={ONE: {"curve-lv-endo": CUP, "curve-rv-endo": OFF, "curve-ra-endo": BLURRED}},
        tune={name_of("two"): {"curve-lv-endo": [CUP]}},
        ival={name_of("three", 12): {"curve-lv-endo": CUP}},
    )
    (root / "view_index_20220705.csv").write_text(f"file,view\n{ONE},A4C\n")
    (root / "01_database_physical.csv").write_text(
        f"FileHash,PhysicalDeltaX,PhysicalDeltaY\n{ONE[:67]},0.03,0.04\n{name_of('two')[:67]},,\n"
    )
    report, made = converted(root)
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1}
    labels = made.manifest.labels_of(CASE)
    assert (labels.annotated, labels.absent, labels.domain) == (("LV",), (), "unity")
    assert labels.patient == f"unity_{ONE[:67]}"
    assert labels.info == {
        "split": "train",
        "view": "4CH",
        "frame": 1,
        "interpolated": False,
        "spacing_known": True,
        "off": "unknown",
    }
    mask, spacing = read_nifti(made.label_files()[CASE])
    image, _ = read_nifti(made.image_files()[CASE][0])
    assert spacing == pytest.approx((0.4, 0.3))  # cm in the table; height, width
    assert (image[1, 2], image[0, 0]) == (255, 50)
    assert mask[20, 20] == 1
    assert mask[20, 5] == 0
    two = made.manifest.labels_of(f"unity_{name_of('two')[:-4]}")
    assert (two.info["split"], two.info["spacing_known"]) == ("val", False)
    assert read_nifti(made.label_files()[f"unity_{name_of('two')[:-4]}"])[1] == pytest.approx((3.75, 3.75))  # 150 / 40
    assert list(made.label_files("Ts")) == [f"unity_{name_of('three', 12)[:-4]}"]
    assert made.manifest.labels_of(f"unity_{name_of('three', 12)[:-4]}").info["frame"] == 12
    assert skips(report) == {}
    assert told(report, "curve-rv-endo") == ["annotated in 0 image(s), off in 1; absent in 0, else unknown"]
    assert check(report.folder).findings == {}


def test_other_chambers_only_where_asked_for(tmp_path: Path) -> None:
    low = curve("10 10 20 30 30", "32 38 38 38 32")
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP, "curve-la-endo": low}})
    report, made = converted(root)
    assert made.manifest.labels_of(CASE).annotated == ("LV",)
    assert told(report, "curve-la-endo") == [says("1 image(s)", "off in 0", "absent in 0", "--structures LA")]
    report = convert(Unity(root, structures=("LA", "LV")), "Dataset509_Both")
    made = RawDataset(report.folder)
    assert made.dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2}
    assert np.unique(read_nifti(made.label_files()[CASE])[0]).tolist() == [0, 1, 2]


def test_a_chamber_that_nobody_outlined_cannot_be_converted(tmp_path: Path) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP, "curve-la-endo": OFF}})
    with pytest.raises(ConversionError, match=r"contour of LA; .* contours of LV"):
        converted(root, structures=("LV", "LA"))


@pytest.mark.parametrize("off", ["unknown", "absent"])
def test_a_picture_that_only_says_off_is_no_case_and_is_named(tmp_path: Path, off: str) -> None:
    pictures = {
        ONE: {"curve-lv-endo": CUP, "curve-la-endo": curve("10 10 20 30 30", "32 38 38 38 32")},
        name_of("off"): {"curve-lv-endo": OFF, "curve-la-endo": OFF},
        name_of("half"): {"curve-lv-endo": BLURRED, "curve-la-endo": OFF, "curve-rv-endo": CUP},
        name_of("dim"): {"curve-rv-endo": OFF},
    }
    report, made = converted(unity(tmp_path / "in", train=pictures), structures=("LV", "LA"), off=off)
    assert list(made.label_files()) == [CASE]
    assert {defect.case: defect.reason.partition("off: ")[2] for defect in report.known_defects} == {
        f"unity_{name_of('off')[:-4]}": "LV, LA",
        f"unity_{name_of('half')[:-4]}": "LA",
    }
    assert says("1 image(s)", "LV, LA", "left out") in told(report, "labels")
    assert skips(report) == {}


#: By view, what is absent where the labels say that RV, RA and LA are off, for each meaning of off: the two-chamber
#: view does not show the right heart; every other view may.
OFF_IN = [
    ("A2C", "unknown", ("RV", "RA")),
    ("A4C", "unknown", ()),
    ("A3C", "unknown", ()),
    ("PLAX", "unknown", ()),
    (None, "unknown", ()),
    ("A2C", "absent", ("LA", "RV", "RA")),
    ("A4C", "absent", ("LA", "RV", "RA")),
    (None, "absent", ("LA", "RV", "RA")),
]


@pytest.mark.parametrize(("view", "off", "absent"), OFF_IN)
def test_off_is_unknown_but_for_the_view_and_for_who_has_checked(
    tmp_path: Path, view: str | None, off: str, absent: tuple[str, ...]
) -> None:
    labels = {"curve-lv-endo": CUP, "curve-la-endo": OFF, "curve-rv-endo": OFF, "curve-ra-endo": OFF}
    root = unity(tmp_path / "in", train={ONE: labels})
    if view:
        (root / "view_index_20220705.csv").write_text(f"file,view\n{ONE},{view}\n")
    report, made = converted(root, off=off)
    found = made.manifest.labels_of(CASE)
    assert (found.annotated, found.absent, found.info["off"]) == (("LV",), absent, off)
    assert json.loads((report.folder / "conversion_report.json").read_text())["made_with"]["off"] == off
    # background, LV, LA, RV, RA
    known = [True, True, *(name in absent for name in ("LA", "RV", "RA"))]
    assert made.manifest.known(CASE, ("LV", "LA", "RV", "RA")).tolist() == known
    assert check(report.folder).findings == {}


def test_the_view_tells_what_is_absent_where_no_label_says_anything(tmp_path: Path) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP}})
    (root / "view_index_20220705.csv").write_text(f"file,view\n{ONE},A2C\n")
    assert converted(root)[1].manifest.labels_of(CASE).absent == ("RV", "RA")


@pytest.mark.parametrize(
    ("label", "shown", "absent"),
    [
        ("curve-rv-endo", CUP, ("RA",)),
        ("curve-rv-endo", BLURRED, ("RA",)),
        ("curve-rv-endo", [CUP, CUP], ("RA",)),
        ("ra-lat", POINT, ("RV",)),
        ("tv-sep-hinge", POINT, ()),  # at the border of both
        ("curve-la-endo", CUP, ("RV", "RA")),
    ],
)
def test_a_chamber_that_a_label_shows_is_not_absent_by_its_view(
    tmp_path: Path, label: str, shown: Any, absent: tuple[str, ...]
) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP, label: shown}})
    (root / "view_index_20220705.csv").write_text(f"file,view\n{ONE},A2C\n")
    report, made = converted(root)
    assert made.manifest.labels_of(CASE).absent == absent
    doubts = [text for text in told(report, "labels") if f"the view is 2CH, but {label} is in the image" in text]
    assert len(doubts) == 2 - len(absent)


def test_the_right_ventricle_outlined_in_what_is_called_2ch_is_annotated(tmp_path: Path) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-rv-endo": CUP}})
    (root / "view_index_20220705.csv").write_text(f"file,view\n{ONE},A2C\n")
    found = converted(root, structures=("RV",))[1].manifest.labels_of(CASE)
    assert (found.annotated, found.absent) == (("RV",), ("RA",))


def test_how_off_was_read_goes_along_into_merges_and_scenarios(tmp_path: Path) -> None:
    labels = {"curve-lv-endo": CUP, "curve-ra-endo": OFF}
    root = unity(tmp_path / "in", train={name_of(video): labels for video in ("one", "two", "three")})
    report, _ = converted(root, off="absent")
    theirs = [Drawn(f"b_{n}", [1], {"annotated": ["LV"], "domain": "b", "patient": f"b{n}"}) for n in range(2)]
    other = write_dataset(report.folder.parent, "Dataset509_B", {"LV": 1}, theirs)
    merged = merge([report.folder, other.folder], "Dataset510_Merged").folder
    hidden = scenario(merged, "Dataset511_Half", ScenarioOptions(("LV",), 0.5)).folder
    for folder in (merged, hidden):
        found = RawDataset(folder).manifest.labels_of(CASE)
        assert (found.absent, found.info["off"]) == (("RA",), "absent")
        assert check(folder).findings == {}


def test_the_command_offers_what_off_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP, "curve-ra-endo": OFF}})
    for number, given, absent in ((508, [], ()), (509, ["--off", "absent"], ("RA",))):
        assert main(["convert", "unity", "-i", str(root), "-d", str(number), *given]) == 0
        made = RawDataset(nnunet_folder("nnUNet_raw") / f"Dataset{number}_Unity")
        assert made.manifest.labels_of(CASE).absent == absent
    with pytest.raises(SystemExit):
        main(["convert", "unity", "--help"])
    assert "--off {unknown,absent}" in capsys.readouterr().out


def test_a_picture_without_a_usable_outline_does_not_stay_for_another_chamber_that_is_absent(tmp_path: Path) -> None:
    beside = curve("100 100 120", "100 120 120")
    pictures = {
        ONE: {"curve-lv-endo": CUP, "curve-ra-endo": curve("10 10 20 30 30", "32 38 38 38 32")},
        name_of("two"): {"curve-lv-endo": beside, "curve-ra-endo": OFF},
    }
    report, made = converted(unity(tmp_path / "in", train=pictures), structures=("LV", "RA"), off="absent")
    assert list(made.label_files()) == [CASE]
    assert skips(report) == {f"unity_{name_of('two')[:-4]}": "none of its contours can be used"}


def test_defects_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    twice, elsewhere = name_of("twice"), name_of("elsewhere")
    root = unity(
        tmp_path / "in",
        train={
            ONE: {"curve-lv-endo": CUP},
            twice: {"curve-lv-endo": CUP},
            twice.replace(".png", "_(1).png"): {"curve-lv-endo": CUP},
            elsewhere: {"curve-lv-endo": CUP},
            "../../etc/passwd": {"curve-lv-endo": CUP},
            name_of("bad row"): {"curve-lv-endo": curve("1 2", "1 2")},
            name_of("beside"): {"curve-lv-endo": curve("90 91 92", "90 80 90")},
        },
        ival={name_of("gone"): {"curve-lv-endo": CUP}, name_of("torn"): {"curve-lv-endo": CUP}},
    )
    place_of(root, name_of("gone")).unlink()
    place_of(root, name_of("torn")).write_bytes(b"no picture")
    place_of(root, elsewhere).rename(root / "png-cache" / elsewhere)
    report, made = converted(root)
    assert sorted(made.label_files()) == sorted(f"unity_{name[:-4]}" for name in (ONE, twice, elsewhere))
    found = skips(report)
    assert found.pop(twice.replace(".png", "_(1).png")) == f"the same image is labeled as {twice} too"
    assert found.pop("../../etc/passwd") == says("its name", "01-<64 hexadecimal digits>-<frame>.png")
    assert found.pop(name_of("gone")) == "its image is not in png-cache"
    assert "cannot be read: no image" in found.pop(name_of("torn"))
    assert found.pop(f"unity_{name_of('beside')[:-4]}") == "none of its contours can be used"
    assert found == {}
    assert says("1 image(s)", "curve-lv-endo", "2 point(s)", name_of("bad row")) in told(report, "labels")


def test_the_one_training_picture_that_the_release_lacks_is_a_known_defect(tmp_path: Path) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP}, name_of("gone"): {"curve-lv-endo": CUP}})
    place_of(root, name_of("gone")).unlink()
    report, _ = converted(root)
    assert skips(report) == {}
    assert [defect.case for defect in report.known_defects] == [name_of("gone")]


def test_one_file_of_all_labels_with_lists(tmp_path: Path) -> None:
    pictures = {name: {"curve-lv-endo": CUP} for name in (ONE, name_of("two"), name_of("three"))}
    root = unity(tmp_path / "in", all=pictures)
    (root / "labels" / "labels-tune.txt").write_text(name_of("two") + "\n")
    (root / "labels" / "labels-ival.txt").write_text("\ufeff" + name_of("three") + "\r\n")
    report, made = converted(root)
    splits = {case: labels.split for case, labels in made.manifest.cases.items()}
    assert splits == {
        CASE: None,
        f"unity_{name_of('two')[:-4]}": "val",
        f"unity_{name_of('three')[:-4]}": "test",
    }
    assert "1 image(s) are in no list" in told(report, "split")[0]


def test_all_labels_beside_some_of_the_parts_lose_no_image(tmp_path: Path) -> None:
    """Of the parts alone, the images of tune and ival would be missing without a word."""
    pictures = {name: {"curve-lv-endo": CUP} for name in (ONE, name_of("two"))}
    root = unity(tmp_path / "in", all=pictures, train={ONE: pictures[ONE]})
    with pytest.raises(ConversionError, match=r"labels-all\.json .* ival, tune"):
        converted(root)
    (root / "labels" / "labels-train.json").unlink()
    assert len(converted(root)[1].label_files()) == 2


def test_frames_of_one_video_stay_on_one_side(tmp_path: Path) -> None:
    frames = [name_of("one", number) for number in (1, 2)]
    labels = {"curve-lv-endo": CUP}
    root = unity(tmp_path / "in", train={frames[0]: labels, name_of("two"): labels}, ival={frames[1]: labels})
    report, made = converted(root)
    assert sorted(made.label_files("Ts")) == [f"unity_{name[:-4]}" for name in sorted(frames)]
    assert "1 video(s) have frames in several parts" in told(report, "split")[0]


def test_a_picture_in_two_parts_is_an_error(tmp_path: Path) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP}}, ival={ONE: {"curve-lv-endo": CUP}})
    with pytest.raises(ConversionError, match=r"1 image\(s\) .*train, ival"):
        converted(root)


@pytest.mark.parametrize("size", ["3,3", "0.0001,0.03", "x,0.03", "0.03,0.03\n{0},0.04,0.04"])
def test_pixel_sizes_that_cannot_be_are_not_known(tmp_path: Path, size: str) -> None:
    root = unity(tmp_path / "in", train={ONE: {"curve-lv-endo": CUP}})
    text = f"FileHash,PhysicalDeltaX,PhysicalDeltaY\n{ONE[:67]},{size.format(ONE[:67])}\n"
    (root / "01_database_physical.csv").write_text(text)
    _, made = converted(root, depth_mm=80)
    assert made.manifest.labels_of(CASE).info["spacing_known"] is False
    assert read_nifti(made.label_files()[CASE])[1] == (2, 2)


@pytest.mark.parametrize("level", [".", "..", "labels"])
def test_any_level_may_be_named(tmp_path: Path, level: str) -> None:
    root = unity(tmp_path / "in" / "unity", train={ONE: {"curve-lv-endo": CUP}})
    _, made = converted(root / level)
    assert list(made.label_files()) == [CASE]


def test_wrong_folders_and_options(tmp_path: Path) -> None:
    (tmp_path / "in" / "labels").mkdir(parents=True)
    with pytest.raises(ConversionError, match="folders labels and png-cache"):
        converted(tmp_path / "in")
    (tmp_path / "in" / "png-cache").mkdir()
    with pytest.raises(ConversionError, match=r"looked for labels-train\.json.*found: nothing"):
        converted(tmp_path / "in")
    (tmp_path / "in" / "labels" / "labels-train.json").write_text(json.dumps([1]))
    with pytest.raises(ConversionError, match=r"labels-train\.json must hold an object"):
        converted(tmp_path / "in")
    with pytest.raises(ConversionError, match=r"structures is \('MYO',\).* LV, LA, RV, RA"):
        Unity(tmp_path, structures=("MYO",))
    with pytest.raises(ConversionError, match="off is 'blurred', expected unknown or absent"):
        Unity(tmp_path, off="blurred")
