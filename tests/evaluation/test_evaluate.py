"""`nnunet_partial evaluate`, as a user calls it: tables out, bad input named, nothing counted that nobody annotated.

Masks that were computed from those of other frames are nobody's annotation: nothing is evaluated on them.
"""

from __future__ import annotations

import csv
import errno
import gzip
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.raw_datasets import write_image

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation import results
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.report.results import read_results
from nnunet_partial.training.validation import mask_unknown

from .conftest import CLASSES, GOOD, POOR, TRUTH, Place, change_manifest


def evaluate(place: Place, *predictions: str | Path, more: tuple[str, ...] = ()) -> int:
    models = [word for prediction in predictions for word in ("--pred", str(prediction))]
    return main(["evaluate", "-d", "510", *models, "-o", str(place.out), "-np", "1", *more])


def table(place: Place, name: str) -> list[dict[str, str]]:
    with (place.out / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def only(rows: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    (row,) = [row for row in rows if all(row[key.rstrip("_")] == value for key, value in wanted.items())]
    return row


# ---- what is measured ------------------------------------------------------------------------------------------------


def test_one_row_for_each_structure_that_a_case_knows(place: Place) -> None:
    assert evaluate(place, f"poor={place.predict('p', POOR)}") == 0
    rows = table(place, "per_case")
    assert sorted((row["case"], row["class"]) for row in rows) == sorted(
        [(case, name) for case in TRUTH for name in CLASSES if case.startswith("a") or name != "MYO"]
    )
    lv = only(rows, case="a_p1_ED", class_="LV")  # 2 rows drawn, 3 predicted, 6 pixels each of 0.25 mm2
    assert (lv["model"], lv["domain"], lv["patient"], lv["phase"], lv["state"]) == (
        "poor", "camus", "a_p1", "ED", "annotated",
    )  # fmt: skip
    assert float(lv["dice"]) == pytest.approx(2 * 12 / 30)
    assert (float(lv["hausdorff"]), lv["distance_unit"]) == (0.5, "mm")
    assert (float(lv["reference_size"]), float(lv["size_difference"]), lv["size_unit"]) == (0.03, 0.015, "cm2")
    myo = only(rows, case="a_p1_ED", class_="MYO")
    assert (myo["outcome"], myo["dice"], myo["hausdorff"], myo["precision"]) == ("missed", "0", "inf", "")


def test_absent_counts_and_unknown_does_not(place: Place) -> None:
    assert evaluate(place, f"poor={place.predict('p', POOR)}") == 0
    rows = table(place, "per_case")
    right, wrong = (only(rows, case=case, class_="LA") for case in ("b_p3_ED", "b_p4_ED"))
    assert (right["state"], right["outcome"], right["dice"]) == ("absent", "correctly empty", "")
    assert (wrong["state"], wrong["outcome"], wrong["dice"]) == ("absent", "false positive", "0")
    assert not [row for row in rows if row["case"] == "b_p4_ED" and row["class"] == "MYO"]


def test_declared_drawn_but_empty_in_both_is_not_the_same_as_unknown(place: Place) -> None:
    change_manifest(place.dataset, "b_p3_ED", annotated=["LV", "MYO"])
    assert evaluate(place, place.predict("p", {**GOOD, "b_p3_ED": [1, 1]})) == 0
    rows = table(place, "per_case")
    assert only(rows, case="b_p3_ED", class_="MYO")["outcome"] == "correctly empty"
    summary = only(table(place, "summary"), domain="echonet", class_="MYO", metric="dice")
    assert (summary["n_evaluated"], summary["n_correctly_empty"], summary["n_values"], summary["mean"]) == (
        "1",
        "1",
        "0",
        "",
    )


def test_where_the_pixel_size_is_not_known_pixels_are_counted(place: Place) -> None:
    evaluate(place, place.predict("p", POOR), more=("--tolerance-mm", "1"))
    row = only(table(place, "per_case"), case="b_p3_ED", class_="LV")  # row 1 of 2 is missing
    assert (row["hausdorff"], row["distance_unit"], row["size_difference"], row["size_unit"]) == (
        "1",
        "pixels",
        "-6",
        "pixels",
    )
    assert (row["tolerance"], row["surface_dice"]) == ("1", "1")


def test_millimetres_and_pixels_are_never_averaged(place: Place) -> None:
    evaluate(place, place.predict("p", POOR))
    rows = [
        r for r in table(place, "summary") if (r["domain"], r["class"], r["metric"]) == ("(all)", "LV", "hausdorff")
    ]
    assert {(row["unit"], row["n_values"], float(row["mean"])) for row in rows} == {
        ("mm", "3", 0.5),
        ("pixels", "2", 0.5),  # 1 and 0
    }


@pytest.mark.slow
def test_surface_dice_at_millimetres_and_at_pixels_are_never_averaged(place: Place) -> None:
    """LV of camus is a row of 0.5 mm too large, of b_p3 a row of 1 pixel too small: within 0.6 mm, not 0.6 pixels.

    b_p3: of 12 + 6 outline pixels the 6 of the missing row lie 1 pixel off: 12 / 18; b_p4: 1.
    """
    good, poor = place.predict("g", GOOD), place.predict("p", POOR)
    evaluate(place, f"good={good}", f"poor={poor}", more=("--tolerance-mm", "0.6"))
    where = {"metric": "surface_dice", "domain": "(all)", "class": "LV"}
    summary, compared, ranks = (
        [row for row in table(place, name) if where.items() <= row.items()]
        for name in ("summary", "comparisons", "ranks")
    )
    assert [(row["unit"], row["n_values"], float(row["mean"])) for row in summary if row["model"] == "poor"] == [
        ("0.6 mm", "3", 1.0),
        ("0.6 pixels", "2", pytest.approx((12 / 18 + 1) / 2, abs=1e-6)),
    ]
    # in millimetres both are right everywhere; of the pixels one patient differs
    assert {(row["unit"], row["n_patients"], row["n_differ"]) for row in compared} == {
        ("0.6 mm", "2", "0"),
        ("0.6 pixels", "2", "1"),
    }
    assert {(row["unit"], row["n_patients"]) for row in ranks} == {("0.6 mm", "2"), ("0.6 pixels", "2")}


def test_no_metric_pools_values_of_several_units(place: Place) -> None:
    """Of 5 cases 3 are measured in mm and cm2, 2 in pixels: what has a unit has a row for each in "(all)"."""
    evaluate(place, place.predict("p", POOR))
    units: dict[str, set[str]] = {}
    for row in table(place, "summary"):
        if (row["domain"], row["class"]) == ("(all)", "LV"):
            units.setdefault(row["metric"], set()).add(row["unit"])
    assert units == {
        **{metric: {""} for metric in ("dice", "iou", "precision", "recall")},
        "surface_dice": {"2 mm", "2 pixels"},
        **{metric: {"mm", "pixels"} for metric in ("hausdorff", "hd95", "assd")},
        "size_difference": {"cm2", "pixels"},
    }


def test_the_two_overall_means_are_told_apart(place: Place) -> None:
    """Dice of LV: 0.8, 2/3, 0.8, 2/3, 1; of MYO: 0, 0, 0; of LA: 1, 1, 1, 0. Their means: 0.7867, 0 and 0.75."""
    evaluate(place, f"poor={place.predict('p', POOR)}")
    content = json.loads((place.out / "poor" / "summary.json").read_text())
    assert content["foreground_mean"]["Dice"] == pytest.approx((3.93333 / 5 + 0 + 3 / 4) / 3, abs=1e-5)
    assert "summary.csv" in content["how_averaged"]
    rows = table(place, "summary")
    row = only(rows, domain="(all)", class_="(all)", metric="dice")
    assert (float(row["mean"]), row["mean_over"]) == (pytest.approx(6.93333 / 12, abs=1e-5), "case-class pairs")
    assert {row["mean_over"] for row in rows if row["class"] != "(all)"} == {"cases"}


def test_the_summary_by_hand(place: Place) -> None:
    """LV of camus: Dice 24/30 twice (patients 1 and 2, ED) and 12/18 (patient 1, ES)."""
    evaluate(place, f"poor={place.predict('p', POOR)}")
    row = only(table(place, "summary"), domain="camus", class_="LV", metric="dice")
    values = [0.8, 0.8, 2 / 3]
    assert float(row["mean"]) == pytest.approx(sum(values) / 3, abs=1e-6)
    assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert (float(row["median"]), row["n_values"], row["n_cases"], row["n_patients"]) == (0.8, "3", "3", "2")
    assert (row["ci95_low"], row["ci95_high"]) == ("", "")  # of two patients
    missed = only(table(place, "summary"), domain="camus", class_="MYO", metric="assd")
    assert (missed["n_evaluated"], missed["n_missed"], missed["n_infinite"], missed["mean"]) == ("3", "3", "3", "")
    every = only(table(place, "summary"), domain="(all)", class_="(all)", metric="dice")
    assert (every["n_evaluated"], every["n_values"], every["n_false_positive"], every["n_correctly_empty"]) == (
        "13",
        "12",
        "1",
        "1",
    )


def test_summary_json_is_nnunets_own_where_all_is_known(place: Place) -> None:
    """Compared with nnU-Net's own function, file by file; unknown is NaN, and left out of the means."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics, load_summary_json
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    evaluate(place, f"poor={place.predict('p', POOR)}")
    ours = load_summary_json(str(place.out / "poor" / "summary.json"))
    assert len(ours["metric_per_case"]) == 5
    for entry in ours["metric_per_case"]:
        theirs = compute_metrics(entry["reference_file"], entry["prediction_file"], SimpleITKIO(), [1, 2, 3])["metrics"]
        if "b_p" in entry["prediction_file"]:
            assert all(math.isnan(value) for value in entry["metrics"].pop(2).values())
            theirs.pop(2)
        assert {c: pytest.approx(m, nan_ok=True) for c, m in theirs.items()} == entry["metrics"]
    assert ours["mean"][2]["Dice"] == 0  # missed in domain a; not the two cases of b that do not know it
    assert ours["mean"][2]["n_ref"] == 6
    assert ours["mean"][3]["Dice"] == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert ours["foreground_mean"]["Dice"] == pytest.approx(sum(ours["mean"][c]["Dice"] for c in (1, 2, 3)) / 3)


def test_volumes_and_single_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume is measured in mL; the same file with a single slice is a picture, in cm2."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    folder = tmp_path / "Dataset001_Solid"
    for case, depth in (("volume", 4), ("slice", 1)):
        labels = np.zeros((depth, 10, 10), np.uint8)
        labels[:, 2:6, 2:6] = 1
        write_image(folder / "labelsTs" / f"{case}.nii.gz", labels, 2.0)
        write_image(tmp_path / "p" / f"{case}.nii.gz", np.roll(labels, 1, axis=2), 2.0)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "LV": 1}, "file_ending": ".nii.gz"}))
    (folder / "partial_labels.json").write_text('{"version": 1, "groups": [{"match": "*", "annotated": ["LV"]}]}')
    place = Place(tmp_path, folder)
    assert main(["evaluate", "-d", "1", "--pred", str(tmp_path / "p"), "-o", str(place.out), "-np", "1"]) == 0
    rows = {row["case"]: row for row in table(place, "per_case")}
    assert (rows["volume"]["reference_size"], rows["volume"]["size_unit"]) == ("0.512", "mL")  # 64 x 8 mm3
    assert (rows["slice"]["reference_size"], rows["slice"]["size_unit"]) == ("0.64", "cm2")  # 16 x 4 mm2
    assert (rows["volume"]["domain"], rows["volume"]["patient"]) == ("(no domain)", "volume")
    # inner pixels of a slice are no outline: 4 + 2 of its 12 outline pixels are 2 mm off, as in a picture
    assert float(rows["slice"]["assd"]) == 1.0


@pytest.mark.parametrize("shapes", [((1, 10, 10), (10, 10)), ((10, 10), (1, 10, 10))])
def test_a_volume_of_one_slice_lies_on_its_picture(
    tmp_path: Path, shapes: tuple[tuple[int, ...], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in nnU-Net's evaluation. NIfTI does not tell the two apart, MetaImage does."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    folder = tmp_path / "Dataset001_Slice"
    truth = np.zeros((10, 10), np.uint8)
    truth[2:6, 2:6] = 1
    predicted = np.roll(truth, 1, axis=1)
    write_image(folder / "labelsTs" / "case.mha", truth.reshape(shapes[0]), 2.0)
    write_image(tmp_path / "p" / "case.mha", predicted.reshape(shapes[1]), 2.0)
    write_image(tmp_path / "moved" / "case.mha", predicted.reshape(shapes[1]), 1.0)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "LV": 1}, "file_ending": ".mha"}))
    (folder / "partial_labels.json").write_text('{"version": 1, "groups": [{"match": "*", "annotated": ["LV"]}]}')
    place = Place(tmp_path, folder)
    evaluate = ["evaluate", "-d", "1", "-o", str(place.out), "-np", "1", "--pred"]
    assert main([*evaluate, str(tmp_path / "p")]) == 0
    (row,) = table(place, "per_case")
    assert (row["dice"], row["size_unit"]) == ("0.75", "cm2")  # 2 * 12 / (16 + 16)
    assert main([*evaluate, str(tmp_path / "moved")]) == 1  # another spacing is still told


# ---- several models --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_models_are_compared_on_the_same_patients(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    good, poor = place.predict("g", GOOD), place.predict("p", POOR)
    assert evaluate(place, f"good={good}", f"poor={poor}") == 0
    rows = table(place, "comparisons")
    lv = only(rows, metric="dice", domain="camus", class_="LV")
    # patients 1 (two frames) and 2: 1 - 0.7333 and 1 - 0.8, both for good; p = 2 / 2^2 is no proof that it is better
    assert (lv["model_a"], lv["model_b"], lv["better"], lv["n_patients"], lv["n_cases"]) == (
        "good",
        "poor",
        "",
        "2",
        "3",
    )
    assert float(lv["mean_b"]) == pytest.approx(((0.8 + 2 / 3) / 2 + 0.8) / 2, abs=1e-6)
    assert (float(lv["rank_biserial"]), float(lv["p"])) == (1, 0.5)
    # the missed wall is infinitely far: worse, not left out
    wall = only(rows, metric="hd95", domain="camus", class_="MYO")
    assert (wall["rank_biserial"], wall["mean_a"], wall["mean_b"], wall["n_patients"]) == ("1", "0", "inf", "2")
    # good is right to see no LA in b_p4, where poor sees one; in b_p3 neither says anything
    atrium = only(rows, metric="dice", domain="echonet", class_="LA")
    assert (atrium["mean_a"], atrium["mean_b"], atrium["n_patients"], atrium["rank_biserial"]) == ("1", "0", "1", "1")
    assert not [row for row in rows if row["domain"] == "echonet" and row["class"] == "MYO"]
    # MYO is known in camus alone: "(all)" would test the same numbers again
    assert [row["domain"] for row in rows if (row["metric"], row["class"]) == ("dice", "MYO")] == ["camus"]
    assert [row["domain"] for row in rows if (row["metric"], row["class"]) == ("dice", "LV")] == [
        "camus",
        "echonet",
        "(all)",
    ]
    dice = [row for row in rows if row["metric"] == "dice"]
    assert {row["n_tests"] for row in dice} == {str(len(dice))}
    assert all(float(row["p_holm"]) >= float(row["p"]) for row in rows)
    ranks = table(place, "ranks")
    assert only(ranks, metric="assd", domain="camus", class_="LV", model="good")["mean_rank"] == "1"
    assert only(ranks, metric="assd", domain="camus", class_="LV", model="poor")["rank"] == "2"
    shown = capsys.readouterr().out
    assert "good - poor" in shown
    assert "p (Holm)" in shown


@pytest.mark.slow
def test_a_single_model_has_no_comparison_and_removes_an_old_one(place: Place) -> None:
    good, poor = place.predict("g", GOOD), place.predict("p", POOR)
    evaluate(place, good, poor)
    assert (place.out / "ranks.csv").exists()
    evaluate(place, good)
    assert sorted(path.name for path in place.out.glob("*.csv")) == ["per_case.csv", "summary.csv", "warning_signs.csv"]


@pytest.mark.slow
def test_models_of_an_earlier_evaluation_leave_no_summary(place: Place) -> None:
    """good/ holds nothing else and goes; poor/ holds a file of the user's, who keeps it; a new model stays."""
    good, poor = place.predict("g", GOOD), place.predict("p", POOR)
    evaluate(place, f"good={good}", f"poor={poor}", f"same={good}")
    (place.out / "poor" / "notes.txt").write_text("mine")
    evaluate(place, f"same={good}", f"new={poor}")
    there = sorted(str(path.relative_to(place.out)) for path in place.out.glob("*/*"))
    assert there == ["new/summary.json", "poor/notes.txt", "same/summary.json"]
    assert not (place.out / "good").exists()


@pytest.mark.parametrize("content", ["[]", "no json", "{}", '{"models": 3}', '{"models": {"..": "", "gone": ""}}'])
def test_an_earlier_list_of_models_that_is_none_removes_nothing(place: Place, content: str) -> None:
    place.out.mkdir()
    (place.root / "summary.json").write_text("mine")
    (place.out / "evaluation.json").write_text(content)
    assert evaluate(place, place.predict("g", GOOD)) == 0
    assert (place.root / "summary.json").exists()


# ---- warning signs ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_structure_that_was_handed_the_background_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """MYO covers 1 row of 8 where it was drawn; poor predicts 6 and 5 rows where nobody drew it: 5.5 times as much."""
    assert evaluate(place, f"good={place.predict('g', GOOD)}", f"poor={place.predict('p', POOR)}") == 0
    rows = table(place, "warning_signs")
    assert {(row["domain"], row["class"]) for row in rows} == {("echonet", "MYO")}
    poor = only(rows, model="poor")
    assert (poor["unit"], poor["n_unannotated"], poor["n_reference"], poor["reference_source"]) == (
        "fraction of image",
        "2",
        "3",
        "camus",
    )
    assert float(poor["predicted_size_unannotated"]) == pytest.approx(5.5 / 8)
    assert (float(poor["size_ratio"]), poor["warning"]) == (5.5, "too large")
    assert (float(only(rows, model="good")["size_ratio"]), only(rows, model="good")["warning"]) == (1, "")
    shown = capsys.readouterr().out
    assert re.search(r"poor: in echonet, MYO .* 5\.5 times .*area in 2 ", shown)
    assert re.search("poor: LA .* 1 of 2 .* echonet .*: b_p4_ED", shown)
    assert "good: in echonet" not in shown


def test_a_structure_that_was_lost_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(place, f"lost={place.predict('p', TRUTH)}") == 0
    assert only(table(place, "warning_signs"))["warning"] == "not predicted"
    assert re.search("in echonet, MYO .*not predicted .* 2 of 2 ", capsys.readouterr().out)


# ---- which reference, which manifest ---------------------------------------------------------------------------------


def test_hidden_labels_count_against_labelstr_full(place: Place) -> None:
    """A scenario hides MYO of one patient: labelsTr and partial_labels.json do not know it, the full ones do."""
    shutil.copytree(place.dataset / "labelsTs", place.dataset / "labelsTr_full")
    shutil.copytree(place.dataset / "labelsTs", place.dataset / "labelsTr")
    shutil.copy(place.dataset / "partial_labels.json", place.dataset / "partial_labels_full.json")
    hidden = sitk.ReadImage(str(place.dataset / "labelsTr" / "a_p2_ED.nii.gz"))
    sitk.WriteImage(sitk.ChangeLabel(hidden, {2: 0}), str(place.dataset / "labelsTr" / "a_p2_ED.nii.gz"))
    change_manifest(place.dataset, "a_p2_ED", annotated=["LV", "LA"])
    rows = {}
    for reference in ("labelsTr", "labelsTr_full", str(place.dataset / "labelsTr_full")):
        assert evaluate(place, place.predict("p", GOOD), more=("--ref", reference)) == 0
        rows[reference] = [row["class"] for row in table(place, "per_case") if row["case"] == "a_p2_ED"]
    assert rows["labelsTr"] == ["LV", "LA"]
    assert list(rows.values())[1:] == [["LV", "MYO", "LA"]] * 2


def test_a_folder_of_another_data_set_brings_its_own_manifest(place: Place) -> None:
    other = place.root / "raw" / "Dataset511_Other"
    shutil.copytree(place.dataset, other)
    change_manifest(other, "a_p1_ED", annotated=["LV", "MYO", "LA"], domain="elsewhere")
    assert evaluate(place, place.predict("p", GOOD), more=("--ref", str(other / "labelsTs"))) == 0
    assert only(table(place, "per_case"), case="a_p1_ED", class_="LV")["domain"] == "elsewhere"
    content = json.loads((other / "dataset.json").read_text())
    content["labels"] = {"background": 0, "MYO": 1, "LV": 2, "LA": 3}
    (other / "dataset.json").write_text(json.dumps(content))
    assert evaluate(place, place.predict("p", GOOD), more=("--ref", str(other / "labelsTs"))) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pred", "nowhere"], "the folder nowhere does not exist"),
        (["--pred", "{empty}"], "there is no prediction (*.nii.gz)"),
        (["--pred", "{p}", "--pred", "{p}"], "two models are called 'p'. Give each a name"),
        (["--pred", "a/b={p}"], "the name is 'a/b'; expected a plain name"),
        (["--pred", "={p}"], "the name is ''"),
        (["--pred", "{p}", "--ref", "labelsTr"], "Folders with labels: labelsTs"),
        (["--pred", "{p}", "--tolerance-mm", "-1"], "The tolerance is -1.0 mm; expected a number from 0"),
        (["--pred", "{p}", "--tolerance-mm", "nan"], "The tolerance is nan mm"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    place: Place, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.root / "empty").mkdir()
    folders = {"p": place.predict("p", GOOD), "empty": place.root / "empty"}
    filled = [word.format(**folders) for word in arguments]
    assert main(["evaluate", "-d", "510", "-o", str(place.out), *filled]) == 1
    assert said in capsys.readouterr().err
    assert not place.out.exists()


# ---- bad input -------------------------------------------------------------------------------------------------------


def damage(place: Place, kind: str) -> None:
    """Does something to one prediction, one reference or the manifest."""
    file = place.root / "p" / "a_p1_ED.nii.gz"
    truth = place.dataset / "labelsTs" / "a_p1_ED.nii.gz"
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    if kind == "missing":
        file.unlink()
    elif kind == "extra":
        shutil.copy(file, file.with_name("z_new.nii.gz"))
    elif kind == "shape":
        write_image(file, np.zeros((8, 7), np.uint8), 0.5)
    elif kind == "dimensions":
        write_image(file, labels[None].repeat(2, 0), 0.5)
    elif kind == "spacing":
        write_image(file, labels, 0.6)
    elif kind == "range":
        write_image(file, np.where(labels == 3, 7, labels), 0.5)
    elif kind == "fraction":
        write_image(file, labels.astype(np.float32) / 2, 0.5)
    elif kind == "color":
        sitk.WriteImage(sitk.GetImageFromArray(np.stack([labels] * 3, axis=-1), isVector=True), str(file))
    elif kind == "cut off":
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-10]))
    elif kind == "no image":
        file.write_text("not an image")
    elif kind == "reference":
        truth.write_text("not an image")
    elif kind == "undeclared":
        change_manifest(place.dataset, "a_p1_ED", annotated=["LV", "MYO"])
    elif kind == "no entry":
        content = json.loads((place.dataset / "partial_labels.json").read_text())
        del content["cases"]["a_p1_ED"]
        (place.dataset / "partial_labels.json").write_text(json.dumps(content))


BAD = {
    "missing": "p: 1 of 5 predictions are missing: a_p1_ED",
    "extra": "p: 1 .*without a reference: z_new",
    "shape": "a_p1_ED: the prediction of p .* 7 x 8 against 6 x 8",
    "dimensions": "a_p1_ED: the prediction of p .* 6 x 8 x 2 against 6 x 8",
    "spacing": "spacing 0.6 x 0.6 mm against 0.5 x 0.5 mm",
    "range": "a_p1_ED: the prediction of p holds 7; expected 0 to 3",
    "fraction": "a_p1_ED: the prediction of p holds 0.5, 1.5; expected 0 to 3",
    "color": "a_p1_ED: the prediction of p has 3 values per pixel",
    "cut off": "a_p1_ED: .* of p cannot be read: .*cut off",
    "no image": "a_p1_ED: the prediction of p cannot be read",
    "reference": "a_p1_ED: the reference cannot be read",
    "undeclared": "a_p1_ED: LA present, .* annotated: LV, MYO",
    "no entry": "1 .* no entry in partial_labels.json: a_p1_ED",
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named_and_the_rest_is_evaluated(
    place: Place, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.predict("p", GOOD)
    damage(place, kind)
    assert evaluate(place, place.root / "p") == 1
    assert re.search(BAD[kind], capsys.readouterr().out)
    evaluated = {row["case"] for row in table(place, "per_case")}
    assert evaluated == set(TRUTH) - ({"a_p1_ED"} if kind != "extra" else set())
    assert re.search(BAD[kind], "\n".join(json.loads((place.out / "evaluation.json").read_text())["findings"]))


@pytest.mark.parametrize("kind", BAD)
def test_strict_stops(place: Place, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    place.predict("p", GOOD)
    damage(place, kind)
    assert evaluate(place, place.root / "p", more=("--strict",)) == 1
    assert re.search(BAD[kind], capsys.readouterr().err)
    assert not place.out.exists()


def test_a_class_that_dataset_json_does_not_have_stops_everything(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    change_manifest(place.dataset, "a_p1_ED", annotated=["LV", "Aorta"])
    assert evaluate(place, place.predict("p", GOOD)) == 1
    assert re.search("Aorta .*dataset.json has LV, MYO, LA", capsys.readouterr().err)


def test_a_network_with_other_classes_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place.predict("good", GOOD)
    about = {"labels": {"background": 0, "LV": 1, "LA": 2}}
    (folder / "dataset.json").write_text(json.dumps(about))
    assert evaluate(place, folder) == 1
    assert "the network was trained on LV, LA" in capsys.readouterr().err
    assert not place.out.exists()


def test_a_validation_of_other_classes_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no dataset.json beside it; that of the model has LA as 2, the reference MYO."""
    model = place.root / "nnUNetTrainerMarginal__nnUNetPlans__2d"
    (model / "fold_0").mkdir(parents=True)
    folder = place.predict(f"{model.name}/fold_0/validation", {case: [1, 2] for case in TRUTH})
    (folder / "dataset.json").unlink()
    (model / "plans.json").write_text("{}")
    for labels, code in (({"LV": 1, "LA": 2}, 1), ({"LV": 1, "LA": 3, "MYO": 2}, 0)):
        (model / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))
        assert evaluate(place, folder) == code
        assert ("the network was trained on LV, LA" in capsys.readouterr().err) == bool(code)


def test_cases_that_name_no_patient_are_counted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    predicted = place.predict("p", {case: rows for case, rows in GOOD.items() if case != "b_p4_ED"})
    evaluate(place, predicted)
    assert "cautions" not in json.loads((place.out / "evaluation.json").read_text())
    for case in ("a_p1_ED", "b_p4_ED"):  # one of them is not predicted
        change_manifest(place.dataset, case, patient=None)
    evaluate(place, predicted)
    (text,) = json.loads((place.out / "evaluation.json").read_text())["cautions"]
    assert text.startswith("1 of 4 cases")
    assert "(a_p1_ED)" in text
    assert f"NOTE: {text}." in capsys.readouterr().out


def test_tables_of_two_evaluations_are_no_results(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after the first table of the second one."""
    evaluate(place, place.predict("good", GOOD))
    read_results(place.out)
    write = results.write_csv

    def fail(file: Path, *given: Any) -> None:
        if file.name != "per_case.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        write(file, *given)

    monkeypatch.setattr(results, "write_csv", fail)
    with pytest.raises(OSError, match=r"summary\.csv"):
        evaluate(place, place.predict("poor", POOR))
    with pytest.raises(PartialLabelError, match=r"evaluation\.json .*`nnunet_partial evaluate`"):
        read_results(place.out)


def test_nothing_to_evaluate_is_an_error(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(place, place.predict("p", {"z_new": [1]})) == 1
    said = capsys.readouterr().err
    assert "Nothing can be evaluated" in said
    assert "without a reference: z_new" in said
    assert not place.out.exists()


def test_where_no_case_knows_any_structure_that_is_the_reason(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for case in TRUTH:
        write_image(place.dataset / "labelsTs" / f"{case}.nii.gz", np.zeros((8, 6), np.uint8), 0.5)
        change_manifest(place.dataset, case, annotated=[], absent=[])
    assert evaluate(place, place.predict("p", GOOD)) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"Nothing can be evaluated.* LV, MYO, LA\b", said)
    assert f"{place.dataset / 'partial_labels.json'} lists them neither" in said


@pytest.mark.slow
def test_a_prediction_missing_for_one_model_is_no_loss_for_the_other(place: Place) -> None:
    place.predict("g", GOOD)
    place.predict("p", {case: rows for case, rows in POOR.items() if case != "a_p2_ED"})
    assert evaluate(place, place.root / "g", place.root / "p") == 1
    lv = only(table(place, "comparisons"), metric="dice", domain="camus", class_="LV")
    assert (lv["n_patients"], lv["n_cases"]) == ("1", "2")
    assert len({row["case"] for row in table(place, "per_case") if row["model"] == "g"}) == 5


@pytest.mark.slow
def test_several_processes_give_the_same_tables(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunet_partial.utils import parallel

    folder = place.predict("p", POOR)
    evaluate(place, folder)
    alone = {path.name: path.read_bytes() for path in place.out.glob("*.csv")}
    monkeypatch.setattr(parallel, "MIN_FILES_FOR_POOL", 1)
    assert evaluate(place, folder, more=("-np", "2")) == 0
    assert {path.name: path.read_bytes() for path in place.out.glob("*.csv")} == alone


def test_the_printed_table(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(place, f"poor={place.predict('p', POOR)}")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    # ASSD of LV: ED (4 + 6) x 0.5 mm over 12 + 14 outline pixels, twice; ES 6 x 0.5 mm over 6 + 12
    assert "poor camus LV 0.756 1.000 (2 mm) 0.50 mm 0.18 mm 3 2 0 0" in lines
    assert "poor camus MYO 0.000 0.000 (2 mm) - mm - mm 3 2 3 0" in lines
    # HD95 in mm: 0.5 three times; in pixels: 1 (b_p3) and 0; ASSD there: 6 of 18 outline pixels are 1 off
    every = "0.787 1.000 (2 mm) / 1.000 (2 pixels) 0.50 mm / 0.50 pixels 0.18 mm / 0.17 pixels"
    assert f"poor (all) LV {every} 5 4 0 0" in lines
    assert [line for line in lines if line.startswith("poor (all) MYO")] == []  # known in camus alone
    assert len([line for line in lines if line.startswith("poor (all) LV")]) == 1


def test_a_warning_sign_about_volumes_is_in_their_own_unit() -> None:
    """All images in mL: 30 mL predicted where nobody drew it, 10 mL where somebody did."""
    from nnunet_partial.evaluation.records import PredictedSize, Subject
    from nnunet_partial.evaluation.warning_signs import warning_signs

    home, away = Subject("a1", "a", "a1"), Subject("b1", "b", "b1")
    sizes = [
        PredictedSize("m", home, "LV", 11.0, 0.2, "mL", 10.0, 0.1),
        PredictedSize("m", away, "LV", 30.0, 0.1, "mL", None, None),
    ]
    (row,) = warning_signs(sizes, ["LV"])
    assert (row["unit"], row["reference_size"], row["predicted_size_annotated"], row["size_ratio"]) == ("mL", 10, 11, 3)
    assert re.fullmatch(r"m: in b, LV .* 3 times .*volume in 1 .* 1 case.* of a\)\.", str(row["message"]))


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (("pixels", "cm2"), "area"),
        (("cm2", "cm2"), "area"),
        (("voxels", "voxels"), "size"),
        (("voxels", "mL"), "size"),
    ],
)
def test_a_share_of_volumes_is_no_area(units: tuple[str, str], said: str) -> None:
    from nnunet_partial.evaluation.records import PredictedSize, Subject
    from nnunet_partial.evaluation.warning_signs import warning_signs

    sizes = [
        PredictedSize("m", Subject("a1", "a", "a1"), "LV", 10.0, 0.1, units[0], 10.0, 0.1),
        PredictedSize("m", Subject("b1", "b", "b1"), "LV", 30.0, 0.3, units[1], None, None),
    ]
    (row,) = warning_signs(sizes, ["LV"])
    assert f"predicted at 3 times its reference {said}" in str(row["message"])


def test_a_structure_nobody_drew_anywhere_has_no_usual_size() -> None:
    from nnunet_partial.evaluation.records import PredictedSize, Subject
    from nnunet_partial.evaluation.warning_signs import warning_signs

    (row,) = warning_signs(
        [PredictedSize("m", Subject("b", "b", "b"), "RV", 3.0, 0.1, "cm2", None, None)], ["LV", "RV"]
    )
    assert (row["n_reference"], row["warning"], row["message"]) == (0, "", "")
    assert math.isnan(float(row["size_ratio"]))


def test_they_are_no_reference_and_their_predictions_are_no_finding(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    change_manifest(place.dataset, "a_p1_ES", interpolated=True)
    change_manifest(place.dataset, "a_p1_ED", interpolated=False)
    words = ["evaluate", "-d", "510", "--pred", str(place.predict("p", POOR)), "-o", str(place.out), "-np", "1"]
    assert main(words) == 0
    text = (place.out / "per_case.csv").read_text()
    assert [case for case in TRUTH if f",{case}," not in text] == ["a_p1_ES"]
    assert "1 case(s) with interpolated masks" in capsys.readouterr().out


def test_they_leave_the_means_of_the_final_validation() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",)), "b": CaseLabels(("LV",), info={"interpolated": True})})
    summary = {
        "metric_per_case": [
            {"prediction_file": f"/p/{case}.nii.gz", "reference_file": "", "metrics": {1: {"Dice": dice}}}
            for case, dice in (("a", 0.5), ("b", 0.9))
        ],
        "mean": {1: {"Dice": -1.0}},
        "foreground_mean": {"Dice": -1.0},
    }
    mask_unknown(summary, manifest, {1: "LV"}, ".nii.gz", {"a", "b"})
    assert summary["mean"][1]["Dice"] == summary["foreground_mean"]["Dice"] == 0.5  # type: ignore[index]
    assert math.isnan(summary["metric_per_case"][1]["metrics"][1]["Dice"])  # type: ignore[index]


def test_as_one_json_document(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    predicted = place.predict("p", POOR)
    assert evaluate(place, f"poor={predicted}", more=("--json",)) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["models"] == ["poor"]
    assert document["findings"] == []
    rows = table(place, "summary")
    assert len(document["summary"]) == len(rows)
    assert [float(row["mean"]) for row in rows if row["mean"] not in ("", "inf")] == [
        pytest.approx(row["mean"], abs=1e-6) for row in document["summary"] if row["mean"] is not None
    ]
    assert "poor" in shown.err  # the text
    next(iter(sorted(predicted.iterdir()))).unlink()
    assert evaluate(place, f"poor={predicted}", more=("--json",)) == 1
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 1
