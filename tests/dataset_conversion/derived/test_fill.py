"""A model fills what is not annotated: small stories, images of 8 x 6 pixels, numbers by hand."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.raw_datasets import Drawn, read_values, snapshot, write_dataset
from nnunet_partial.dataset_conversion.derived.fill import (
    ACCEPTED,
    HELD_OUT,
    LABELED,
    LOW_CONFIDENCE,
    NO_FOLD,
    NO_USUAL_SIZE,
    NOT_FILLING,
    NOT_PREDICTED,
    SEVERAL_FOLDS,
    SEVERAL_PARTS,
    TOO_LARGE,
    TOO_SMALL,
    CasePrediction,
    FillingModel,
    FillOptions,
    FillResult,
    MaskSize,
    UsualSizes,
    fill,
    judge,
)

from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import FULL_MANIFEST_NAME

NAME, LABELS = "Dataset510_Echo", {"LV": 1, "MYO": 2, "LA": 3}
ALL, LV = {"annotated": [*LABELS], "domain": "a"}, {"annotated": ["LV"], "domain": "b"}
#: LA is one row of 6 pixels in the cases of domain a. Domain b is annotated for LV alone.
CASES = [Drawn(f"a{n}", [1, 2, 3], ALL) for n in (1, 2)] + [Drawn(f"b{n}", [1], LV) for n in (1, 2)]
SPLITS = ({"train": ["a2", "b2"], "val": ["a1", "b1"]}, {"train": ["a1", "b1"], "val": ["a2", "b2"]})
EVERY = frozenset({"a1", "a2", "b1", "b2"})


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def echo(raw: Path, cases: Sequence[Drawn] = CASES, **more: Any) -> RawDataset:
    return write_dataset(raw, NAME, LABELS, cases, **more)


def model(seen: frozenset[str] = EVERY, **changes: Any) -> FillingModel:
    about: dict[str, Any] = {"folds": (0, 1), "splits": SPLITS, **changes}
    return FillingModel("nnUNetTrainerMarginal", "nnUNetPlans", "2d", seen=seen, **about)


class Predictor:
    """Predicts the rows of a case, with one probability for all predicted voxels of a structure."""

    def __init__(self, rows: Mapping[str, Sequence[int]], sureness: float = 0.95) -> None:
        self.rows, self.sureness = rows, sureness
        self.asked: dict[int, list[str]] = {}

    def __call__(self, cases: Mapping[int, Sequence[str]]) -> Iterator[CasePrediction]:
        self.asked = {fold: list(names) for fold, names in cases.items()}
        for fold, names in cases.items():
            for case in names:
                labels = np.zeros((1, 8, 6), np.uint8)  # nnU-Net's arrays of an image have three axes
                for row, value in enumerate(self.rows[case]):
                    labels[0, row] = value
                probability = np.stack([np.where(labels == value, self.sureness, 0.01) for value in (1, 2, 3)])
                yield CasePrediction(case, fold, labels, probability)


def filled(
    source: RawDataset, rows: Mapping[str, Sequence[int]], by: FillingModel | None = None, **options: Any
) -> tuple[RawDataset, FillResult]:
    sureness = options.pop("sureness", 0.95)
    overwrite = options.pop("overwrite", False)
    made = fill(
        source.folder, "Dataset611_Filled", by or model(), Predictor(rows, sureness), FillOptions(**options),
        overwrite=overwrite,
    )  # fmt: skip
    return RawDataset(made.folder), made


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


# The rules, by hand


def test_a_prediction_is_judged_by_confidence_and_components() -> None:
    predicted = np.zeros((6, 6), bool)
    predicted[0, :4] = True  # 4 voxels in one piece
    everywhere, sure = np.ones((6, 6), bool), np.full((6, 6), 0.5)
    sure[0, :4] = [1.0, 1.0, 0.9, 0.7]  # mean 0.9 inside; what is around it does not count
    assert judge(predicted, everywhere, sure, 0.89)[:3] == (ACCEPTED, pytest.approx(0.9), 1.0)
    assert judge(predicted, everywhere, sure, 0.91)[0] == LOW_CONFIDENCE
    assert judge(np.zeros_like(predicted), everywhere, sure, 0.0)[0] == NOT_PREDICTED
    predicted[1, 4] = True  # touches at a corner: 5 voxels of one piece
    assert judge(predicted, everywhere, sure, 0.5)[2] == 1.0
    predicted[5, 0] = True  # 5 of 6 = 0.83 in the largest
    verdict, _, share, component = judge(predicted, everywhere, sure, 0.5)
    assert (verdict, share, component[5, 0], int(component.sum())) == (ACCEPTED, pytest.approx(5 / 6), False, 5)
    predicted[5, 2] = predicted[3, 0] = True  # 5 of 8
    assert judge(predicted, everywhere, sure, 0.5)[0] == SEVERAL_PARTS


def test_voxels_that_a_human_annotated_are_not_written_and_count_against_a_prediction() -> None:
    predicted, writable = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    predicted[:2] = True  # 8 voxels
    sure = np.ones((4, 4))
    writable[0, :2] = False  # 6 of 8 may be written
    verdict, _, share, component = judge(predicted, writable, sure, 0.9)
    assert (verdict, share) == (ACCEPTED, 0.75)
    assert not (component & ~writable).any()
    writable[0, :3] = False  # 5 of 8
    assert judge(predicted, writable, sure, 0.9)[0] == LABELED
    assert judge(predicted, np.zeros((4, 4), bool), sure, 0.9)[0] == LABELED
    assert judge(predicted, np.zeros((4, 4), bool), sure / 2, 0.9)[0] == LOW_CONFIDENCE
    writable[:] = [[True] * 4, [False, True, False, True], [True] * 4, [True] * 4]  # 6 of 8, the largest part all 6
    assert judge(predicted, writable, sure, 0.9)[0] == ACCEPTED
    predicted[3, 0] = True  # 7 of 9 may be written, 6 of 9 in one part
    assert judge(predicted, writable, sure, 0.9)[0] == SEVERAL_PARTS


def test_a_sigmoid_that_cannot_be_told_is_left_out_of_the_mean() -> None:
    predicted = np.ones((2, 2), bool)
    sure = np.array([[math.nan, 0.8], [1.0, 0.9]])
    assert judge(predicted, predicted, sure, 0.9)[:2] == (ACCEPTED, pytest.approx(0.9))
    assert judge(predicted, predicted, np.full((2, 2), math.nan), 0.0)[0] == LOW_CONFIDENCE


def test_the_usual_size_is_the_median_of_the_domain_else_of_all() -> None:
    usual = UsualSizes(
        {
            ("a", "LA"): [MaskSize(0.1, 10.0), MaskSize(0.2, 20.0), MaskSize(0.9, 90.0)],
            ("b", "LA"): [MaskSize(0.4, 40.0)],
            ("c", "LV"): [MaskSize(0.3, None), MaskSize(0.5, 5.0)],
        }
    )
    assert usual.ratio(MaskSize(0.5, 10.0), "LA", "a") == (0.5, "a")  # 10 / 20
    assert usual.ratio(MaskSize(0.5, 60.0), "LA", "c") == (2.0, "(all)")  # of 10, 20, 40, 90 the median is 30
    assert usual.ratio(MaskSize(0.6, None), "LA", "b") == (pytest.approx(1.5), "b")  # 0.6 / 0.4 of the image
    assert usual.ratio(MaskSize(0.8, 8.0), "LV", "c") == (pytest.approx(2.0), "c")  # one spacing is not known
    assert usual.ratio(MaskSize(0.8, 8.0), "MYO", "c")[1] == ""


@pytest.mark.parametrize("bad", [{"min_confidence": 1.2}, {"min_confidence": -0.1}, {"size": (2.0, 0.5)}])
def test_options_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="expected"):
        FillOptions(**bad)


# What comes out


def test_only_voxels_that_are_not_annotated_change(raw: Path) -> None:
    """b1: LV moved by the model, MYO and LA predicted. b2: nothing sure."""
    source = echo(raw)
    before = snapshot(source.folder)
    out, made = filled(source, {"b1": [2, 2, 3], "b2": [1]}, min_confidence=0.9, size=(0.5, 2.0))
    assert snapshot(source.folder) == before
    # MYO: 12 predicted, 6 of them on the annotated LV: half may be written, which is less than three quarters
    assert read_values(out.label_files()["b1"]) == [1, 0, 3, 0, 0, 0, 0, 0]
    assert {(one.case, one.structure): one.outcome for one in made.outcomes} == {
        ("b1", "MYO"): LABELED,
        ("b1", "LA"): ACCEPTED,
        ("b2", "MYO"): NOT_PREDICTED,
        ("b2", "LA"): NOT_PREDICTED,
    }
    for case in ("a1", "a2", "b2"):
        assert out.label_files()[case].samefile(source.label_files()[case])
    assert out.image_files()["b1"][0].samefile(source.image_files()["b1"][0])
    assert (out.manifest.cases["b1"].annotated, out.manifest.cases["b1"].pseudo) == (("LV",), ("LA",))
    assert out.manifest.cases["b2"].pseudo == ()
    assert check(out.folder).findings == {}


@pytest.mark.parametrize(
    ("rows", "sureness", "outcome"),
    [
        ([1, 0, 3], 0.89, LOW_CONFIDENCE),
        ([1, 0, 3, 0, 3], 0.95, SEVERAL_PARTS),  # half and half
        ([1, 3, 3, 3], 0.95, TOO_LARGE),  # 18 / 6
        ([1, 3, 3], 0.95, ACCEPTED),  # 12 / 6 = 2
        ([1], 0.95, NOT_PREDICTED),
    ],
)
def test_each_rule_refuses(raw: Path, rows: list[int], sureness: float, outcome: str) -> None:
    out, made = filled(echo(raw), {"b1": rows, "b2": [1]}, sureness=sureness)
    (one,) = [one for one in made.outcomes if (one.case, one.structure) == ("b1", "LA")]
    assert one.outcome == outcome
    assert out.manifest.cases["b1"].pseudo == (("LA",) if outcome == ACCEPTED else ())
    assert (read_values(out.label_files()["b1"]).count(3) > 0) == (outcome == ACCEPTED)


def test_too_small_and_without_a_usual_size(raw: Path) -> None:
    cases = [Drawn("a1", [1, 2, 3, 3, 3], ALL), *CASES[1:]]
    _, made = filled(echo(raw, cases), {"b1": [1, 0, 3], "b2": [1]}, by=model(frozenset({"a1"})))
    assert next(one.outcome for one in made.outcomes if one.structure == "LA") == TOO_SMALL  # 6 / 18; a2 was not seen
    _, made = filled(echo(raw, cases), {"b1": [1, 0, 3], "b2": [1]}, by=model(frozenset({"b2"})), overwrite=True)
    assert next(one.outcome for one in made.outcomes if one.structure == "LA") == NO_USUAL_SIZE


def test_the_manifest_says_what_filled_and_what_it_had_seen(raw: Path) -> None:
    cases = [*CASES, Drawn("t1", [1, 2, 3], {**ALL, "patient": "t1"}, "Ts")]
    out, _ = filled(echo(raw, cases), {"b1": [1, 0, 3], "b2": [1, 0, 3]}, by=model(frozenset({"a1", "a2", "b2"})))
    manifest = out.manifest
    assert manifest.seen_by_filling_model(manifest.cases) == ["a1", "a2", "b2"]
    assert manifest.fill is not None
    assert {key: manifest.fill[key] for key in ("source", "trainer", "clean_fold", "min_confidence", "size")} == {
        "source": NAME,
        "trainer": "nnUNetTrainerMarginal",
        "clean_fold": None,
        "min_confidence": 0.9,
        "size": [0.5, 2.0],
    }
    assert manifest.fill["counts"] == {"cases": 2, "accepted": {"LA": 2}}
    assert json.loads((out.folder / "splits_final.json").read_text()) == list(SPLITS)
    # what travels with every model names no case
    assert out.dataset_json["pseudo_labels"]["source"] == NAME
    assert out.dataset_json["pseudo_labels"].pop("hash") == manifest.fill_hash  # hexadecimal, "a1" may be in it
    assert not any(case in json.dumps(out.dataset_json) for case in manifest.cases)
    assert out.label_files("Ts")["t1"].exists()


def test_the_nominal_depth_comes_along(raw: Path) -> None:
    out, _ = filled(echo(raw, nominal_depth_mm=120), {"b1": [1, 0, 3], "b2": [1]})
    assert out.dataset_json["nominal_depth_mm"] == 120


def test_tables_count_by_reason_domain_and_class(raw: Path) -> None:
    out, _ = filled(echo(raw), {"b1": [1, 0, 3], "b2": [1, 2]})
    assert [tuple(row.values()) for row in table(out.folder / "fill" / "summary.csv")] == [
        ("b", "LA", "accepted", "1"),
        ("b", "LA", "not predicted", "1"),
        ("b", "MYO", "accepted", "1"),
        ("b", "MYO", "not predicted", "1"),
    ]
    rows = {(row["case"], row["class"]): row for row in table(out.folder / "fill" / "per_case.csv")}
    row = rows["b1", "LA"]
    assert (row["fold"], row["outcome"], row["confidence"], row["size_ratio"]) == ("0", "accepted", "0.95", "1")
    assert (row["usual_size_from"], row["voxels"], row["largest_component"]) == ("(all)", "6", "1")
    assert rows["b2", "MYO"]["fold"] == "1"


def test_cases_that_no_fold_can_fill_are_named(raw: Path) -> None:
    cases = [*CASES, Drawn("b3", [1], LV), Drawn("b4", [1], LV)]
    splits = (
        {"train": ["b2", "b3"], "val": ["a1", "b1", "b4"]},
        {"train": ["b1", "b2", "b3"], "val": ["a2", "b4"]},
        {"train": ["a1", "a2", "b3", "b4"], "val": ["b1", "b2"]},  # does not fill
    )
    predictor = Predictor({"b1": [1, 0, 3]})
    made = fill(echo(raw, cases).folder, "Dataset611_F", model(splits=splits), predictor, FillOptions())
    assert predictor.asked == {0: ["b1"]}
    reasons = {one.case: one.outcome for one in made.outcomes if one.structure == "LA"}
    assert reasons == {"b1": ACCEPTED, "b2": NOT_FILLING, "b3": NO_FOLD, "b4": SEVERAL_FOLDS}
    for case in ("b2", "b3", "b4"):
        assert any(case in line for line in made.warnings)
        assert RawDataset(made.folder).manifest.cases[case].pseudo == ()


def test_a_clean_fold_is_filled_in_training_and_stands_alone(raw: Path) -> None:
    cases = [*CASES, Drawn("b3", [1], LV)]
    splits = ({"train": ["a2", "b2"], "val": ["a1", "b1"]}, {"train": ["a1", "b1", "b3"], "val": ["a2", "b2"]})
    by = model(frozenset({"a2", "b2"}), splits=splits, folds=(0,), clean_fold=0)
    out, made = filled(echo(raw, cases), {"b2": [1, 0, 3]}, by=by)
    manifest = out.manifest
    assert (manifest.cases["b2"].pseudo, manifest.cases["b1"].pseudo) == (("LA",), ())
    assert json.loads((out.folder / "splits_final.json").read_text()) == [splits[0]]
    assert manifest.seen_by_filling_model(splits[0]["val"]) == []
    assert manifest.cases["b3"].left_out  # in the fold on neither side
    assert any("b3" in line for line in made.warnings)
    assert {one.case: one.outcome for one in made.outcomes if one.structure == "LA"} == {
        "b1": HELD_OUT,
        "b2": ACCEPTED,
        "b3": HELD_OUT,
    }
    assert check(out.folder).findings == {}


def test_a_later_fill_takes_nothing_from_an_earlier_one(raw: Path) -> None:
    """Round one fills LA in b1 and b2; in round two the model is not sure any more of b2."""
    first, _ = filled(echo(raw), {"b1": [1, 0, 3], "b2": [1, 0, 3]}, by=model(frozenset({"a1", "b2"})))
    made = fill(
        first.folder, "Dataset612_Again", model(frozenset({"a2"})),
        Predictor({"b1": [1, 0, 0, 3], "b2": [1]}), FillOptions(),
    )  # fmt: skip
    out = RawDataset(made.folder)
    assert read_values(out.label_files()["b1"]) == [1, 0, 0, 3, 0, 0, 0, 0]
    assert read_values(out.label_files()["b2"]) == [1, 0, 0, 0, 0, 0, 0, 0]
    assert out.manifest.cases["b2"].pseudo == ()
    assert out.manifest.seen_by_filling_model(EVERY & {*out.manifest.cases}) != []
    assert {case for case in EVERY if out.manifest.cases[case].seen_by_filling_model} == {"a1", "a2", "b2"}
    assert out.manifest.fill is not None
    assert out.manifest.fill["source_fill"]["source"] == NAME
    # and the usual size of LA is that of the annotated cases: 6 pixels, not of the 6 that were filled
    assert all(one.usual_size_from in ("(all)", "") for one in made.outcomes)


def test_the_complete_labels_of_a_scenario_come_along_without_pseudo_labels(raw: Path) -> None:
    source = echo(raw)
    for case, path in source.label_files().items():
        full = source.folder / "labelsTr_full" / path.name
        full.parent.mkdir(exist_ok=True)
        full.write_bytes(source.label_files()["a1"].read_bytes() if case == "b1" else path.read_bytes())
    content = json.loads((source.folder / "partial_labels.json").read_text())
    content["cases"]["b1"] = ALL
    (source.folder / FULL_MANIFEST_NAME).write_text(json.dumps(content))
    out, _ = filled(source, {"b1": [1, 0, 3], "b2": [1, 0, 3]})
    full = json.loads((out.folder / FULL_MANIFEST_NAME).read_text())["cases"]
    assert (full["b1"]["annotated"], "pseudo" in full["b1"]) == (["LV", "MYO", "LA"], False)
    assert full["b1"]["seen_by_filling_model"]
    assert out.label_files("Tr_full")["b1"].samefile(source.label_files("Tr_full")["b1"])


# What is refused, before anything is written


def refused(raw: Path, source: Path, match: str, name: str = "Dataset611_Filled") -> None:
    before = snapshot(raw)
    with pytest.raises(DatasetError, match=match):
        fill(source, name, model(), Predictor({}), FillOptions())
    assert snapshot(raw) == before


def test_regions_are_refused(raw: Path) -> None:
    labels = {"heart": [1, 2], "LV": 1}
    cases = [Drawn("a1", [1, 2], {"annotated": ["heart", "LV"]}), Drawn("a2", [1], {"annotated": ["LV"]})]
    source = write_dataset(raw, "Dataset520_Regions", labels, cases, regions_class_order=[2, 1])
    refused(raw, source.folder, "regions")


def test_what_cannot_be_filled_is_refused(raw: Path) -> None:
    source = echo(raw)
    refused(raw, source.folder, NAME, name=NAME)
    full = write_dataset(raw, "Dataset511_Full", LABELS, [Drawn("a1", [1, 2, 3], ALL)])
    refused(raw, full.folder, "Dataset511_Full")
    (source.folder / "labelsTr" / "b1.nii.gz").unlink()
    refused(raw, source.folder, "b1")


def test_a_dataset_without_background_has_no_room_for_pseudo_labels(raw: Path) -> None:
    """As --unknown-as ignore makes it: b1 and b2, which lack MYO and LA, hold LV and the ignore label alone."""
    labels, ignored = {**LABELS, "ignore": 4}, [1, *[4] * 7]
    source = write_dataset(raw, NAME, labels, [*CASES[:2], *(Drawn(f"b{n}", ignored, LV) for n in (1, 2))])
    refused(raw, source.folder, "--unknown-as ignore")
    source = write_dataset(raw, NAME, labels, [*CASES[:3], Drawn("b2", ignored, LV)])
    out, made = filled(source, {"b1": [1, 0, 3], "b2": [1, 0, 3]})
    assert {one.case: one.outcome for one in made.outcomes if one.structure == "LA"} == {"b1": ACCEPTED, "b2": LABELED}
    assert read_values(out.label_files()["b2"]) == ignored


@pytest.mark.parametrize("shape", [(9, 6), (6, 8)], ids=["another number of voxels", "the same number"])
def test_a_prediction_of_another_size_is_named(raw: Path, shape: tuple[int, int]) -> None:
    source = echo(raw, [*CASES[:3], Drawn("b2", [1], LV, shape=shape)])
    with pytest.raises(DatasetError, match="b2"):
        filled(source, {"b1": [1], "b2": [1]})
    assert not (raw / "Dataset611_Filled").exists()
