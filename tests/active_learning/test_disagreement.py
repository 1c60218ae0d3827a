"""What the folds disagree about: measured on drawn predictions, and on two folds that nnU-Net trained."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.toy_dataset import Project, write_toy
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_partial.active_learning.disagreement import (
    Disagreement,
    case_disagreements,
    mean_entropy,
    mean_pairwise_dice,
    rank_cases,
    summarize_domains,
)
from nnunet_partial.active_learning.folds import (
    FoldPredictions,
    FoldPredictor,
    find_model,
    require_channels,
    require_own_names,
    trained_cases,
)
from nnunet_partial.cli import main
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import DatasetError, SplitError
from nnunet_partial.evaluation.records import Subject
from nnunet_partial.labels import CaseLabels

DATASET = "Dataset701_Toy"


def test_dice_and_entropy_by_hand() -> None:
    masks = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    # of the pairs 2 x 1 / (2 + 1), 0 and 0
    assert mean_pairwise_dice(masks) == pytest.approx(2 / 9)
    assert math.isnan(mean_pairwise_dice(np.zeros((3, 4), bool)))
    # over the two voxels that some fold predicts: 1 bit at one half, and 0.811 at a quarter
    expected = (1 + 0.25 * 2 + 0.75 * math.log2(4 / 3)) / 2
    assert mean_entropy(masks, np.array([0.5, 0.25, 0.5, 1.0])) == pytest.approx(expected)
    assert mean_entropy(masks, np.array([1.0, 0.0, 0.5, 0.5])) == 0
    assert math.isnan(mean_entropy(np.zeros((3, 4), bool), np.ones(4)))


def of(case: str, structure: str, state: str, is_trained_on: bool, dice: float, entropy: float = 0.5) -> Disagreement:
    return Disagreement(Subject(case, case[0], case), structure, state, is_trained_on, dice, entropy)


def test_where_a_fold_was_trained_only_unknown_structures_are_ranked() -> None:
    predictions = FoldPredictions(np.array([[1, 2, 3], [1, 2, 3]]), np.ones((3, 3)))
    labels = CaseLabels(("LV",), absent=("LA",))
    ranked = {
        is_trained_on: [
            d.structure
            for d in case_disagreements("a", labels, is_trained_on, predictions, ("LV", "MYO", "LA"))
            if d.is_ranked
        ]
        for is_trained_on in (True, False)
    }
    assert ranked == {True: ["MYO"], False: ["LV", "MYO", "LA"]}
    assert [d.state for d in case_disagreements("a", None, False, predictions, ("LV",))] == ["unknown"]
    filled = CaseLabels((), pseudo=("LV",))  # trained on it too, so that agreement says nothing
    for is_trained_on in (True, False):
        (of_filled,) = case_disagreements("a", filled, is_trained_on, predictions, ("LV",))
        assert (of_filled.state, of_filled.is_ranked) == ("pseudo", not is_trained_on)


def test_a_region_is_all_of_its_values() -> None:
    """Two folds, four voxels; the epicardium (1, 2) holds the ventricle (1)."""
    labels, p = np.array([[1, 2, 2, 0], [2, 2, 0, 0]]), np.array([[0.9, 0.75, 0.5, 0.1], [0.25, 0.0, 0.0, 0.0]])
    epi, lv = case_disagreements(
        "a", CaseLabels(("EPI",)), False, FoldPredictions(labels, p), ("EPI", "LV"), ((1, 2), (1,))
    )
    assert (epi.structure, epi.state, lv.structure, lv.state) == ("EPI", "annotated", "LV", "unknown")
    assert epi.dice == pytest.approx(2 * 2 / (3 + 2))  # three voxels and two, both in common
    assert lv.dice == 0  # one voxel, and none
    bits = [-q * math.log2(q) - (1 - q) * math.log2(1 - q) for q in (0.9, 0.75, 0.5)]
    assert epi.entropy == pytest.approx(sum(bits) / 3)  # where a fold predicts it
    assert lv.entropy == pytest.approx(-0.25 * math.log2(0.25) - 0.75 * math.log2(0.75))


def test_the_order_of_the_cases() -> None:
    nan = math.nan
    rows = rank_cases(
        [
            of("a1", "LV", "annotated", True, 0.0),  # trained on: not ranked
            of("a1", "MYO", "unknown", True, 0.6),
            of("a2", "LV", "unknown", False, nan, nan),  # no fold predicts it
            of("a2", "MYO", "unknown", False, 0.4, 0.2),
            of("b1", "LV", "unknown", False, 0.4, 0.9),
            of("b2", "LV", "unknown", False, nan, nan),
            of("b3", "LV", "annotated", True, 0.1),
        ]
    )
    assert [(row["rank"], row["case"], row["class"], row["others"]) for row in rows] == [
        (1, "b1", "LV", ""),
        (2, "a2", "MYO", "LV"),
        (3, "a1", "MYO", ""),
        (4, "b2", "LV", ""),
    ]


def test_means_of_domains_keep_trained_and_untrained_apart() -> None:
    rows = summarize_domains(
        [
            of("a1", "LV", "annotated", True, 1.0, 0.0),
            of("a2", "LV", "unknown", True, 0.2, 0.4),
            of("a3", "LV", "unknown", False, 0.4, 0.8),
            of("b1", "LV", "unknown", False, math.nan, math.nan),
        ],
        ["LV"],
    )
    means = {(row["domain"], row["ranked"]): row for row in rows}
    assert set(means) == {("a", "yes"), ("a", "no"), ("b", "yes"), ("(all)", "yes"), ("(all)", "no")}
    assert means["a", "yes"]["dice"] == pytest.approx((0.2 + 0.4) / 2)
    assert means["(all)", "yes"]["entropy"] == pytest.approx((0.4 + 0.8) / 2)  # b1 has none
    assert (means["(all)", "yes"]["n_cases"], means["(all)", "yes"]["n_not_predicted"]) == (3, 1)
    assert means["a", "no"]["dice"] == 1.0


def test_images_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=str(tmp_path)):
        require_channels({}, 1, tmp_path)
    with pytest.raises(DatasetError, match="p7"):
        require_channels({"p6": [tmp_path, tmp_path], "p7": [tmp_path]}, 2, tmp_path)


def test_another_image_with_the_name_of_a_training_case_is_refused(tmp_path: Path) -> None:
    """It would count as trained on, and what a human annotated in that case would not be ranked."""
    write_toy(tmp_path / DATASET, patients=2)
    dataset = RawDataset(tmp_path / DATASET)
    training = dataset.image_files()
    require_own_names(training, dataset)
    other = tmp_path / "new" / training["a_p0_0"][0].name
    other.parent.mkdir()
    sitk.WriteImage(sitk.ReadImage(str(training["a_p0_0"][0])), str(other), False)  # the same pixels, other bytes
    require_own_names({"a_p0_0": [other], "new": [other]}, dataset)
    shutil.copyfile(training["b_p1_0"][0], other)
    with pytest.raises(DatasetError, match="a_p0_0"):
        require_own_names({"a_p0_0": [other], "new": [other]}, dataset)
    other.write_bytes(other.read_bytes()[:400])  # half of a copy is named, and left out, when it is to be predicted
    require_own_names({"a_p0_0": [other]}, dataset)


@pytest.mark.parametrize(
    ("reader", "shape", "skew", "said"), [(SimpleITKIO, (6, 5, 4), 0.01, "orthonormal"), (NibabelIO, (6, 5), 0, "3d")]
)
def test_an_image_that_nnunet_refuses_is_named_with_the_reason(
    tmp_path: Path, reader: Any, shape: tuple[int, ...], skew: float, said: str
) -> None:
    """Axes that are not at right angles, and a 2-D image: neither has another channel."""
    file, affine = tmp_path / "a_0000.nii.gz", np.eye(4)
    affine[0, 2] = skew
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), affine), file)
    predictor = FoldPredictor.__new__(FoldPredictor)
    predictor._reader = reader()
    with pytest.raises(DatasetError, match=rf"a_0000\.nii\.gz .*{said}"):
        predictor.predict([file])


def test_a_color_image_for_a_model_of_gray_ones_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a_0000.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((6, 5, 3), np.uint8), isVector=True), str(file))
    predictor = FoldPredictor.__new__(FoldPredictor)
    predictor._reader = NaturalImage2DIO()
    predictor._predictor = SimpleNamespace(configuration_manager=SimpleNamespace(normalization_schemes=["ZScore"]))
    predictor._folds = []
    with pytest.raises(DatasetError, match=r"a_0000\.png .*3 channel.* 1$"):
        predictor.predict([file])


@pytest.mark.slow
def test_two_folds_of_a_training(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    trained = ("2d", "-tr", "nnUNetTrainerABCE", "-p", "nnUNetPlans")
    for fold in "01":
        project.train("701", trained[0], fold, *trained[1:], "--npz", nnUNet_partial_epochs="1")
    raw, model = project.raw(DATASET), project.root / "results" / DATASET / "nnUNetTrainerABCE__nnUNetPlans__2d"
    dataset = RawDataset(raw)

    # the training cases: those of domain b do not know the ring, and each case is trained on by a fold or both
    assert main(["disagreement", "-d", "701", "-tr", "nnUNetTrainerABCE", "-device", "cpu"]) == 0
    assert "MYO" in capsys.readouterr().out
    rows = read(model / "disagreement" / "per_case.csv")
    assert len(rows) == 2 * 12
    assert {(row["domain"], row["class"]) for row in rows if row["ranked"] == "yes"} == {("b", "MYO")}
    assert {row["case"] for row in read(model / "disagreement" / "next.csv")} == {
        f"b_p{p}_{f}" for p in (1, 3, 5) for f in (0, 1)
    }

    # new images, against nnU-Net's own commands
    out = project.root / "next"
    images = Path(shutil.copytree(raw / "imagesTs", project.root / "images"))
    content = (images / "new_0000.nii.gz").read_bytes()
    (images / "cut_0000.nii.gz").write_bytes(content[: len(content) // 2])
    given = ["-i", str(images), "-o", str(out)]
    assert main(["disagreement", "-d", "701", "-tr", "nnUNetTrainerABCE", "-device", "cpu", *given]) == 1
    assert "cut_0000.nii.gz" in capsys.readouterr().out
    (images / "new_0000.nii.gz").unlink()
    assert main(["disagreement", "-d", "701", "-tr", "nnUNetTrainerABCE", "-device", "cpu", *given]) == 1
    assert "cut_0000.nii.gz" in capsys.readouterr().err
    predicted, sigmoids = {}, {}
    for folds in (("0",), ("1",), ("0", "1")):
        folder = project.root / "predicted" / "".join(folds)
        project.must(
            *("nnUNetv2_predict", "-d", "701", "-c", "2d", "-tr", "nnUNetTrainerABCE", "-f", *folds),
            *("-i", str(raw / "imagesTs"), "-o", str(folder), "-device", "cpu", "--save_probabilities"),
            *("-npp", "0", "-nps", "0"),
        )
        predicted[folds] = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "new.nii.gz")))
        with np.load(folder / "new.npz") as content:
            p = content["probabilities"].astype(float)
        sigmoids[folds] = p[1:] / (p[1:] + p[:1])
    rows = read(out / "per_case.csv")
    assert [(row["case"], row["class"], row["ranked"]) for row in rows] == [("new", "LV", "yes"), ("new", "MYO", "yes")]
    assert any(row["dice"] for row in rows)
    for value, row in enumerate(rows, 1):
        first, second = (predicted[fold,] == value for fold in "01")
        size = int(first.sum() + second.sum())
        assert float(row["dice"] or "nan") == pytest.approx(
            2 * (first & second).sum() / size if size else math.nan, rel=1e-5, nan_ok=True
        )
        p = ((sigmoids["0",] + sigmoids["1",]) / 2)[value - 1, 0][first | second]
        entropy = [-(q * math.log2(q) + (1 - q) * math.log2(1 - q)) for q in p]
        mean = math.fsum(entropy) / len(entropy) if entropy else math.nan
        assert float(row["entropy"] or "nan") == pytest.approx(mean, rel=1e-4, nan_ok=True)
    # nnU-Net averages logits, so that the sigmoids of the average come back as well (in half precision)
    logits = [np.log(s / (1 - s)) for s in (sigmoids["0",], sigmoids["1",])]
    np.testing.assert_allclose(sigmoids["0", "1"], 1 / (1 + np.exp(-(logits[0] + logits[1]) / 2)), atol=2e-3)

    # its probabilities are those that are evaluated: validation, and the average of folds
    validation = model / "fold_0" / "validation"
    evaluate = ["evaluate", "-d", "701", "--ref", "labelsTr", "-o", str(project.root / "evaluated"), "-np", "1"]
    assert main([*evaluate, "--pred", f"m={validation}", "--probabilities", "sigmoid"]) == 1  # cases of other folds
    calibrated = read(project.root / "evaluated" / "calibration.csv")
    domains = {path.name[0] for path in validation.glob("*.npz")}
    expected = {("a", "LV"), ("a", "MYO"), ("b", "LV")}
    found = {(row["domain"], row["class"]) for row in calibrated} - {("(all)", "LV"), ("(all)", "MYO")}
    assert found == {pair for pair in expected if pair[0] in domains}

    # what cannot be
    results = project.root / "results" / DATASET
    found = (results, "nnUNetTrainerABCE", None, "nnUNetPlans", "checkpoint_final.pth")
    for folds in (["0"], ["0", "3"]):
        with pytest.raises(DatasetError, match="fold"):
            find_model(*found, folds)
    prepared, (trained, _) = project.preprocessed(DATASET), find_model(*found, None)
    assert trained_cases(dataset, prepared, trained, [0, "all"]) == set(dataset.image_files())
    assert trained_cases(dataset, prepared, trained, [0]) < set(dataset.image_files())
    with pytest.raises(SplitError, match="9"):
        trained_cases(dataset, prepared, trained, [9])
    splits = json.loads((prepared / "splits_final.json").read_text())
    (prepared / "splits_final.json").write_text(json.dumps(splits[::-1]))
    with pytest.raises(SplitError, match="fold 0"):
        trained_cases(dataset, prepared, trained, [0])


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))
