"""Calibration over the voxels of cases annotated for a structure; the sigmoids of aBCE from nnU-Net's softmax."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.reference_ece import plain_ece

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.calibration import (
    SIGMOID,
    SOFTMAX,
    Bins,
    probability_kinds,
    read_probabilities,
    structure_probability,
)

from .conftest import CLASSES, TRUTH, Place


def test_the_error_by_hand() -> None:
    # three voxels in the bin from 12/15, one there in the end: |2/3 - 0.8| x 3/4; one of 0.1, not there: 0.1 x 1/4
    bins = Bins.count(np.array([0.8, 0.8, 0.8, 0.1, np.nan]), np.array([True, True, False, False, True]))
    assert bins.ece == pytest.approx((0.8 - 2 / 3) * 3 / 4 + 0.1 / 4)
    assert (bins.undefined, int(bins.voxels.sum())) == (1, 4)
    assert Bins.count(np.array([0.0, 1.0]), np.array([False, True])).ece == 0
    assert math.isnan(Bins.count(np.array([np.nan]), np.array([True])).ece)


def test_a_second_implementation_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    p, there = rng.random(2000), rng.random(2000) < 0.3
    halves = [Bins.count(p[part], there[part]) for part in (slice(500), slice(500, None))]
    assert (halves[0] + halves[1]).ece == pytest.approx(plain_ece(p.tolist(), there.tolist()), abs=1e-12)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def test_the_sigmoid_comes_back_from_logits_that_were_averaged_and_from_no_averaged_softmax() -> None:
    logits = np.random.default_rng(1).normal(0, 4, (5, 4, 1000))  # folds, channels, voxels
    logits[:, 0] = 0  # aBCE's background
    for averaged in (logits[0], logits.mean(axis=0)):  # one fold; nnUNetv2_predict -f 0 1 2 3 4
        saved = softmax(averaged)
        for value in (1, 2, 3):
            sigmoid = 1 / (1 + np.exp(-averaged[value]))
            np.testing.assert_allclose(structure_probability(saved, value, SIGMOID), sigmoid, atol=1e-12)
            assert np.abs(structure_probability(saved, value, SOFTMAX) - sigmoid).max() > 0.4
    ensemble = structure_probability(np.mean([softmax(fold) for fold in logits], axis=0), 1, SIGMOID)
    of_folds = 1 / (1 + np.exp(-logits[:, 1]))
    assert np.abs(ensemble - of_folds.mean(axis=0)).max() > 0.1
    assert np.abs(ensemble - 1 / (1 + np.exp(-logits[:, 1].mean(axis=0)))).max() > 0.1


def test_a_sigmoid_that_float32_has_lost_is_not_guessed() -> None:
    saved = np.array([[0.0, 1e-40, 0.5], [0.0, 1e-40, 0.25], [1.0, 1.0, 0.25]], np.float32)
    assert structure_probability(saved, 1, SIGMOID).tolist() == [pytest.approx(math.nan, nan_ok=True)] * 2 + [
        pytest.approx(1 / 3)
    ]


# ---- through the command ---------------------------------------------------------------------------------------------


def save(place: Place, folder: Path, cases: Sequence[str], seed: int = 2) -> dict[str, np.ndarray]:
    """Probabilities of each case as nnU-Net saves them, (4, 1, 8, 6), and the prediction that they give."""
    rng, saved = np.random.default_rng(seed), {}
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        logits = rng.normal(0, 2, (4, 1, 8, 6))
        logits[0] = 0
        saved[case] = softmax(logits).astype(np.float32)
        image = sitk.GetImageFromArray(saved[case].argmax(axis=0)[0].astype(np.uint8))
        image.SetSpacing([0.5, 0.5])
        sitk.WriteImage(image, str(folder / f"{case}.nii.gz"))
        np.savez_compressed(folder / f"{case}.npz", probabilities=saved[case])
    return saved


def evaluate(place: Place, *options: str) -> int:
    return main(["evaluate", "-d", "510", "-o", str(place.out), "-np", "1", *options])


def rows_of(place: Place) -> list[dict[str, str]]:
    with (place.out / "calibration.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("kind", [SOFTMAX, SIGMOID])
def test_only_what_is_known_counts(place: Place, kind: str) -> None:
    folder = place.root / "predicted"
    saved = save(place, folder, list(TRUTH))
    (folder / "predict_from_raw_data_args.json").write_text("{}")
    assert evaluate(place, "--pred", str(folder), "--probabilities", kind) == 0
    known = {"camus": {"LV": 1, "MYO": 2, "LA": 3}, "echonet": {"LV": 1, "LA": 3}}  # the LA of echonet is absent
    rows = {(row["domain"], row["class"]): row for row in rows_of(place)}
    assert set(rows) == {(domain, name) for domain, names in known.items() for name in names} | {
        ("(all)", name) for name in CLASSES
    }
    for domain, names in known.items():
        cases = [case for case in TRUTH if case.startswith("a" if domain == "camus" else "b")]
        for name, value in names.items():
            p: list[float] = []
            there: list[bool] = []
            for case in cases:
                background, own = (saved[case][channel].astype(float).ravel() for channel in (0, value))
                p += list(own if kind == SOFTMAX else own / (own + background))
                truth = sitk.GetArrayFromImage(sitk.ReadImage(str(place.dataset / "labelsTs" / f"{case}.nii.gz")))
                there += list(truth.ravel() == value)
            row = rows[domain, name]
            assert float(row["ece"]) == pytest.approx(plain_ece(p, there), rel=1e-5)
            assert float(row["frequency"]) == pytest.approx(sum(there) / len(there), rel=1e-5)
            assert (int(row["n_voxels"]), int(row["n_cases"])) == (48 * len(cases), len(cases))


def test_a_later_evaluation_without_them_leaves_none(place: Place) -> None:
    folder = place.root / "predicted"
    save(place, folder, list(TRUTH))
    assert evaluate(place, "--pred", str(folder), "--probabilities", SOFTMAX) == 0
    assert evaluate(place, "--pred", str(folder)) == 0
    assert not (place.out / "calibration.csv").exists()


def test_probabilities_that_cannot_be_used_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place.root / "predicted"
    saved = save(place, folder, list(TRUTH))
    (folder / "a_p1_ED.npz").unlink()
    (folder / "a_p1_ES.npz").write_bytes(b"PK")
    turned = saved["a_p2_ED"][:, :, ::-1]  # the rows from bottom to top
    np.savez_compressed(folder / "a_p2_ED.npz", probabilities=turned)
    np.savez_compressed(folder / "b_p3_ED.npz", probabilities=saved["b_p3_ED"][:3])
    assert evaluate(place, "--pred", str(folder), "--probabilities", SOFTMAX) == 1
    findings = json.loads((place.out / "evaluation.json").read_text())["findings"]
    assert [finding.partition(":")[0] for finding in findings] == ["a_p1_ED", "a_p1_ES", "a_p2_ED", "b_p3_ED"]
    assert {row["domain"] for row in rows_of(place)} == {"echonet"}  # b_p4_ED is left
    assert {row["n_cases"] for row in rows_of(place)} == {"1"}


def test_an_ensemble_has_no_sigmoids(place: Place) -> None:
    folder = place.root / "ensemble"
    save(place, folder, list(TRUTH))
    predictions = {"abce": {"a_p1_ED": folder / "a_p1_ED.nii.gz"}}
    (folder / "dataset.json").write_text("{}")  # nnUNetv2_ensemble writes this one; ensemble_crossvalidations two
    (folder / "plans.json").write_text("{}")
    with pytest.raises(PartialLabelError, match="predict_from_raw_data_args"):
        probability_kinds(["sigmoid"], predictions)
    assert probability_kinds(["softmax"], predictions) == {"abce": SOFTMAX}
    (folder / "predict_from_raw_data_args.json").write_text("{}")
    assert probability_kinds(["sigmoid"], predictions) == {"abce": SIGMOID}


def test_a_validation_says_which_trainer_it_is_of(tmp_path: Path) -> None:
    model = tmp_path / "nnUNetTrainerABCE__nnUNetPlans__2d"
    validation = model / "fold_0" / "validation"
    validation.mkdir(parents=True)
    (model / "plans.json").write_text("{}")
    predictions = {"abce": {"a": validation / "a.nii.gz"}, "other": {"a": tmp_path / "a.nii.gz"}}
    assert probability_kinds(["softmax", "abce=sigmoid"], predictions) == {"abce": SIGMOID, "other": SOFTMAX}
    with pytest.raises(PartialLabelError, match="abce=sigmoid"):
        probability_kinds(["softmax"], predictions)
    marginal = model.rename(tmp_path / "nnUNetTrainerMarginal_5epochs__nnUNetPlans__2d")
    with pytest.raises(PartialLabelError, match="m=softmax"):
        probability_kinds(["sigmoid"], {"m": {"a": marginal / "fold_0" / "validation" / "a.nii.gz"}})


@pytest.mark.parametrize("given", ["sigmoids", "c=softmax", "=softmax"])
def test_words_that_are_none(given: str, tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match=given):
        probability_kinds([given], {"a": {"x": tmp_path / "x.nii.gz"}})


def test_probabilities_out_of_range(tmp_path: Path) -> None:
    for number, wrong in enumerate((np.nan, -0.1, 1.1)):
        values = np.full((2, 3), 0.5, np.float32)
        values[0, 0] = wrong
        np.savez_compressed(tmp_path / f"{number}.npz", probabilities=values)
        assert isinstance(read_probabilities(tmp_path / f"{number}.npz", np.zeros(3, int), 1), str)


def test_a_region_that_rounds_to_one_half_is_no_other_prediction(tmp_path: Path) -> None:
    """Regions with the stored values 2 and 1; without saved probabilities nnU-Net compares logits with 0."""
    predicted = np.array([1, 2, 2, 0])
    inner = np.float32([0.9, 0.5 + 1e-7, 0.1, 0.1])
    np.savez(tmp_path / "near.npz", probabilities=np.stack([np.float32([0.9, 0.9, 0.9, 0.2]), inner])[:, None])
    inner[1] = 0.6
    np.savez(tmp_path / "other.npz", probabilities=np.stack([np.float32([0.9, 0.9, 0.9, 0.2]), inner])[:, None])
    assert isinstance(read_probabilities(tmp_path / "near.npz", predicted[None], 2, (2, 1)), np.ndarray)
    assert isinstance(read_probabilities(tmp_path / "other.npz", predicted[None], 2, (2, 1)), str)
