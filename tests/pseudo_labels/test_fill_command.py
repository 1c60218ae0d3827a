"""`nnunet_partial fill` on drawn trainings of two folds, and on a real one with nnU-Net's own commands."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.raw_datasets import Drawn, label_array, read_values, snapshot
from helpers.toy_dataset import Project
from helpers.trained_models import (
    BEST,
    FINAL,
    NAME,
    TRUTH,
    Place,
    draw,
    record_checkpoint,
    save_probabilities,
    write_plans,
)
from nnunet_partial.dataset_conversion.derived.fill import Outcome
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_partial.active_learning.folds import FoldPredictions
from nnunet_partial.cli import main
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.pseudo_labels import predictions
from nnunet_partial.pseudo_labels.overlays import select_by_confidence
from nnunet_partial.pseudo_labels.predictions import FoldSource
from nnunet_partial.utils.process import Commands

#: Finds the MYO of domain b, too, where nobody annotated it.
FINDS = {"a1": [1, 1, 2], "a2": [1, 1, 2], "b3": [1, 1, 0, 2], "b4": [1, 1, 0, 2]}
SURE, MARGINAL = {0: 0.9, 1: 0.9, 2: 0.95}, "nnUNetTrainerMarginal"

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    return draw(tmp_path)


def run_fill(*more: str, trainer: str = MARGINAL) -> int:
    return main(["fill", "-i", "510", "-d", "611", "-tr", trainer, "-c", "2d", "-np", "1", "-device", "cpu", *more])


def probabilities(model: Path) -> set[str]:
    return {path.name for ending in ("npz", "pkl") for path in model.glob(f"fold_*/validation/*.{ending}")}


def outcomes(dataset: RawDataset) -> dict[str, dict[str, str]]:
    with (dataset.folder / "fill" / "per_case.csv").open(newline="") as lines:
        return {row["case"]: row for row in csv.DictReader(lines)}


@pytest.mark.slow
def test_saved_probabilities_fill_the_cases_of_their_folds(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.train(MARGINAL, FINDS, SURE)
    monkeypatch.setattr(Commands, "run", lambda *_, **__: pytest.fail("nothing is missing"))
    before = snapshot(place.results)
    assert run_fill() == 0
    assert snapshot(place.results) == before  # what was there before stays
    assert len(probabilities(model)) == 8
    out = RawDataset(place.root / "raw" / "Dataset611_Echo_filled")
    assert {case: read_values(path)[:4] for case, path in out.label_files().items() if case > "b"} == {
        "b3": [1, 1, 0, 2],
        "b4": [1, 1, 0, 2],
    }
    assert [out.manifest.cases[case].pseudo for case in ("a1", "b3", "b4")] == [(), ("MYO",), ("MYO",)]
    assert all(labels.seen_by_filling_model for labels in out.manifest.cases.values())
    rows = outcomes(out)
    assert {case: row["fold"] for case, row in rows.items()} == {"b3": "0", "b4": "1"}
    assert float(rows["b3"]["confidence"]) == pytest.approx(0.95, abs=1e-3)
    assert (out.folder / "fill" / "overlays.png").stat().st_size > 1000
    assert "not independent" in capsys.readouterr().out.lower()


@pytest.mark.slow
def test_a_volume_keeps_its_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skew MYO in 5 x 7 x 9 voxels of 3 x 0.8 x 0.5 mm, which nnU-Net exports from transposed, cropped logits."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    place = draw(tmp_path, shape=(5, 7, 9))
    z, y, x = np.indices(place.shape)
    myo = (z > 0) & (z < 3) & (y > 0) & (y < 3 + z) & (x >= 2 * z) & (x < 7)
    assert int(myo.sum()) == 3 * 5 + 4 * 3  # of slices 1 and 2, rows times columns
    labels = np.where(myo, 2, (z == 4) & (y > 4)).astype(np.uint8)
    for case in TRUTH:
        write_volume(place.raw / "imagesTr" / f"{case}_0000.nii.gz", labels)
        write_volume(place.raw / "labelsTr" / f"{case}.nii.gz", labels if case < "b" else labels % 2)
    logits = np.stack([5.0 * (labels == 0), 5.0 * (labels == 1), np.where(myo, 4 + 0.3 * x - 0.2 * y + 0.1 * z, 0)])
    model = place.results / f"{MARGINAL}__nnUNetPlans__3d_fullres"
    for fold, case in enumerate(("b3", "b4")):
        folder = model / f"fold_{fold}"
        (folder / "validation").mkdir(parents=True)
        (folder / FINAL).touch()
        record_checkpoint(folder, None)
        export_as_nnunet(folder / "validation" / case, place, logits)
    write_plans(model / "plans.json", **VOLUME_PLANS)
    (model / "dataset.json").write_text((place.raw / "dataset.json").read_text())
    assert run_fill("-c", "3d_fullres") == 0
    out = RawDataset(tmp_path / "raw" / "Dataset611_Echo_filled")
    for case in ("b3", "b4"):
        image = sitk.ReadImage(str(out.label_files()[case]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
        assert image.GetSpacing() == pytest.approx((0.5, 0.8, 3))
    row = outcomes(out)["b3"]
    e = np.exp(logits[2][myo])  # the other two logits are 0 there
    assert float(row["confidence"]) == pytest.approx(float((e / (e + 2)).mean()), abs=1e-5)
    assert (row["size_ratio"], row["largest_component"], row["voxels"]) == ("1", "1", "27")
    assert (out.folder / "fill" / "overlays.png").stat().st_size > 1000


VOLUME_PLANS: dict[str, Any] = {
    "transpose_forward": [2, 0, 1],
    "transpose_backward": [1, 2, 0],
    "configurations": {
        "3d_fullres": {
            "architecture": {},
            "spacing": [0.5, 3.0, 0.8],
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {
                "is_seg": False,
                "order": 1,
                "order_z": 0,
                "force_separate_z": None,
            },
        }
    },
}


def write_volume(file: Path, values: np.ndarray) -> None:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.8, 3.0))
    sitk.WriteImage(image, str(file))


def export_as_nnunet(stem: Path, place: Place, logits: np.ndarray) -> None:
    """What nnU-Net's validation saves of a case, from logits (C, z, y, x), of which columns 1 to 7 alone are seen."""
    plans = {"dataset_name": NAME, "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO"}
    manager = PlansManager({**plans, "label_manager": "LabelManager", **VOLUME_PLANS})
    _, properties = SimpleITKIO().read_images([str(place.raw / "imagesTr" / f"{stem.name}_0000.nii.gz")])
    seen = logits.transpose(0, 3, 1, 2)[:, 1:8]
    properties["shape_before_cropping"] = (9, 5, 7)
    properties["bbox_used_for_cropping"] = [[1, 8], [0, 5], [0, 7]]
    properties["shape_after_cropping_and_before_resampling"] = seen.shape[1:]
    export_prediction_from_logits(
        torch.from_numpy(seen.astype(np.float32)),
        properties,
        manager.get_configuration("3d_fullres"),
        manager,
        json.loads((place.raw / "dataset.json").read_text()),
        str(stem),
        save_probabilities=True,
        num_threads_torch=1,
    )


@pytest.mark.slow
def test_a_clean_fold_says_whether_its_validation_is_independent(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.train(MARGINAL, FINDS, SURE)

    class Predictor:
        def __init__(self, model: Any, folds: Sequence[int], device: str) -> None:
            assert folds == [0]

        def predict(self, images: Sequence[Path]) -> FoldPredictions:
            labels = label_array(Drawn("b4", FINDS[images[0].name.partition("_")[0]]))
            return FoldPredictions(labels[None, None], np.stack([labels == 1, labels == 2])[:, None] * 0.95)

    monkeypatch.setattr(predictions, "FoldPredictor", Predictor)
    assert run_fill("--fold", "0") == 0
    said = capsys.readouterr().out
    assert "Fold 0 of Dataset510_Echo" in said
    assert "not independent" not in said.lower()
    out = RawDataset(place.root / "raw" / "Dataset611_Echo_filled")
    assert (out.manifest.cases["b4"].pseudo, out.manifest.cases["b3"].pseudo) == (("MYO",), ())  # fold 0 validates b3
    # models behind an earlier fill of the source saw a1, which fold 0 validates
    for folder in (place.raw, place.preprocessed):
        content = json.loads((place.raw / "partial_labels.json").read_text())
        content["cases"]["a1"]["seen_by_filling_model"] = True
        (folder / "partial_labels.json").write_text(json.dumps(content))
    assert run_fill("--fold", "0", "--overwrite") == 0
    said = capsys.readouterr().out
    assert "not independent" in said
    assert "1 of the 2 case(s)" in said


def test_probabilities_of_a_trainer_that_is_not_there(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What they mean cannot be told: they may be of a softmax or of sigmoids."""
    place.train("nnUNetTrainerNowhere", FINDS, SURE)
    before = snapshot(place.root)
    assert run_fill(trainer="nnUNetTrainerNowhere") == 1
    assert "There is no trainer nnUNetTrainerNowhere" in capsys.readouterr().err
    assert snapshot(place.root) == before


def test_what_is_missing_is_validated_fold_by_fold_and_deleted_after_use(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.train(MARGINAL, FINDS, SURE)
    saved = {path: path.read_bytes() for path in model.glob("fold_*/validation/*.[np][pk][zl]")}
    kept = {"b3.npz", "b3.pkl"}
    for path in saved:
        if path.name not in kept:
            path.unlink()
    ran: list[tuple[str, set[str]]] = []

    def validate(self: Any, *command: str, **_: Any) -> None:
        ran.append((" ".join(command), probabilities(model)))
        for path, content in saved.items():
            if f"fold_{command[3]}" in str(path):
                path.write_bytes(content)

    monkeypatch.setattr(Commands, "run", validate)
    assert run_fill() == 0
    ((command, there),) = ran  # fold 0 has those of b3, the only case of it that is to be filled
    assert command == f"nnUNetv2_train {NAME} 2d 1 -tr {MARGINAL} -p nnUNetPlans --val --npz -device cpu"
    assert there == kept
    assert probabilities(model) == kept
    out = RawDataset(place.root / "raw" / "Dataset611_Echo_filled")
    assert {case for case, row in outcomes(out).items() if row["outcome"] == "accepted"} == {"b3", "b4"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["did not end", "is of the best checkpoint", "is old", "has old probabilities"])
def test_a_validation_that_does_not_count_is_run_again(place: Place, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    model = place.train(MARGINAL, FINDS, SURE)
    if how == "did not end":
        (model / "fold_0" / "validation" / "summary.json").unlink()
    elif how == "is of the best checkpoint":
        record_checkpoint(model / "fold_0", BEST)
    else:
        file = "summary.json" if how == "is old" else "b3.npz"
        os.utime(model / "fold_0" / "validation" / file, (0, 0))
    ran = []

    def validate(self: Any, *command: str, **_: Any) -> None:
        ran.append(command[3])
        record_checkpoint(model / "fold_0", None)

    monkeypatch.setattr(Commands, "run", validate)
    assert run_fill() == 0
    assert ran == ["0"]


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_predictions_made_with_other_plans_are_not_gone_on_with(place: Place, name: str) -> None:
    """The filling model is told apart by the content, which a further fold writes again, as it was."""

    def checkpoints() -> Mapping[str, str]:
        results, preprocessed = place.results, place.preprocessed
        source = FoldSource.find(RawDataset(place.raw), results, preprocessed, (MARGINAL, "nnUNetPlans", "2d"), "cpu")
        return source.filling.checkpoints

    file, before = place.train(MARGINAL, FINDS, SURE) / name, checkpoints()
    os.utime(file, (0, 0))
    assert checkpoints() == before
    file.write_text(json.dumps({**json.loads(file.read_text()), "changed": True}))
    assert not set(checkpoints().values()) & set(before.values())


def test_what_a_validation_wrote_is_deleted_also_where_it_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    model = place.train(MARGINAL, FINDS, SURE)
    saved = {path: path.read_bytes() for path in model.glob("fold_0/validation/*.npz")}
    for path in saved:
        path.unlink()

    def validate(self: Any, *_: str, **__: Any) -> None:
        for path in saved:
            path.write_bytes(b"no archive")

    monkeypatch.setattr(Commands, "run", validate)
    assert run_fill() == 1
    assert not [name for name in probabilities(model) if name in ("a1.npz", "b3.npz")]
    assert not (place.root / "raw" / "Dataset611_Echo_filled").exists()


@pytest.mark.parametrize(("trainer", "confidence"), [("nnUNetTrainerABCE", 0.5 / 0.51), (MARGINAL, 0.5)])
def test_the_confidence_of_sigmoids_is_told_from_the_softmax(place: Place, trainer: str, confidence: float) -> None:
    """p_c = 0.5, background 0.01, another structure 0.49: the sigmoid of c is 0.98."""
    model = place.train(trainer, FINDS, SURE)
    for fold, case in enumerate(("b3", "b4")):
        labels = label_array(Drawn(case, FINDS[case]))
        p = np.empty((3, 1, *labels.shape), np.float32)
        p[:, 0] = np.where(labels == 2, np.array([0.01, 0.49, 0.5])[:, None, None], p[:, 0])
        p[:, 0] = np.where(labels == 1, np.array([0.1, 0.8, 0.1])[:, None, None], p[:, 0])
        p[:, 0] = np.where(labels == 0, np.array([0.8, 0.1, 0.1])[:, None, None], p[:, 0])
        save_probabilities(model / f"fold_{fold}" / "validation" / case, p)
    assert run_fill(trainer=trainer) == 0
    rows = outcomes(RawDataset(place.root / "raw" / "Dataset611_Echo_filled"))
    assert float(rows["b3"]["confidence"]) == pytest.approx(confidence, abs=1e-5)
    assert rows["b3"]["outcome"] == ("accepted" if confidence > 0.9 else "low confidence")


def test_a_case_of_no_fold_or_of_several_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.train(MARGINAL, FINDS, SURE)
    splits = [{"train": ["a2", "b4"], "val": ["a1", "b3"]}, {"train": ["a1", "b4"], "val": ["a2", "b3"]}]
    (place.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    assert run_fill() == 0
    rows = outcomes(RawDataset(place.root / "raw" / "Dataset611_Echo_filled"))
    assert {case: row["outcome"] for case, row in rows.items()} == {
        "b3": "in several validation folds",
        "b4": "in no validation fold",
    }
    said = capsys.readouterr().out
    assert "b3" in said
    assert "b4" in said


def test_folds_that_were_not_asked_for_fill_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.train(MARGINAL, FINDS, SURE)
    assert run_fill("-f", "0") == 0
    out = RawDataset(place.root / "raw" / "Dataset611_Echo_filled")
    assert {case: row["fold"] for case, row in outcomes(out).items()} == {"b3": "0", "b4": ""}  # fold 1 validates b4
    assert out.manifest.cases["b4"].pseudo == ()
    assert out.manifest.seen_by_filling_model(out.manifest.cases) == ["a2", "b4"]  # what fold 0 was trained on
    assert out.manifest.fill is not None
    assert out.manifest.fill["folds"] == [0]
    assert "b4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--fold", "4"], "fold 4"),
        (["-f", "0", "4"], "fold 4"),
        (["-p", "nnUNetOther"], "nnUNetOther"),
        (["--min-confidence", "2"], "2"),
        (["--size", "2", "1"], "2 1"),
        (["--name", "no name"], "no name"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    place: Place, more: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.train(MARGINAL, FINDS, SURE)
    before = snapshot(place.root)
    assert run_fill(*more) == 1
    assert named in capsys.readouterr().err
    assert snapshot(place.root) == before


def test_probabilities_of_another_prediction_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    model = place.train(MARGINAL, FINDS, SURE)
    folder = model / "fold_0" / "validation"
    (folder / "b3.npz").write_bytes((folder / "a1.npz").read_bytes())
    assert run_fill() == 1
    assert "b3" in capsys.readouterr().err
    assert not (place.root / "raw" / "Dataset611_Echo_filled").exists()


def test_ten_cases_from_the_least_to_the_most_confident_are_drawn() -> None:
    accepted = [Outcome(f"c{n:02}", CaseLabels(()), "LA", "0", "accepted", 0.9 + n / 1000) for n in range(28)]
    assert select_by_confidence(accepted) == [f"c{n:02}" for n in range(0, 28, 3)]
    assert select_by_confidence(accepted[:3]) == ["c00", "c01", "c02"]
    assert select_by_confidence([]) == []


# nnU-Net does not close the images that it preprocesses in this process
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_both_ways_with_a_real_training(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Filled from a real validation and by a real prediction, both by nnU-Net; the clean fold is trained on."""
    for folder in (project.raw("Dataset701_Toy"), project.preprocessed("Dataset701_Toy")):
        content = json.loads((project.raw("Dataset701_Toy") / "partial_labels.json").read_text())
        (folder / "partial_labels.json").write_text(
            json.dumps({**content, "cases": {**content["cases"], "new": {"annotated": []}}})
        )
    for fold in "01":
        project.train("701", "2d", fold, "-tr", MARGINAL, nnUNet_partial_epochs="1", nnUNet_partial_iterations="30")
    ran = []

    def run(self: Any, *command: str, **_: Any) -> None:
        ran.append(command)
        project.must(*command, nnUNet_n_proc_DA="0")

    monkeypatch.setattr(Commands, "run", run)
    easy = ["--min-confidence", "0", "--size", "0", "1000", "-tr", MARGINAL, "-c", "2d", "-device", "cpu", "-np", "1"]
    assert main(["fill", "-i", "701", "-d", "711", *easy]) == 0
    out = RawDataset(project.raw("Dataset711_Toy_filled"))
    model = project.root / "results" / "Dataset701_Toy" / f"{MARGINAL}__nnUNetPlans__2d"
    assert probabilities(model) == set()
    splits = json.loads((project.preprocessed("Dataset701_Toy") / "splits_final.json").read_text())
    rows = outcomes(out)
    assert {row["class"] for row in rows.values()} == {"MYO"}
    assert set(rows) == {f"b_p{p}_{f}" for p in (1, 3, 5) for f in (0, 1)}
    predicted = [case for fold in (0, 1) for case in splits[fold]["val"] if case[0] == "b"]
    assert len(ran) == len({fold for fold in (0, 1) for case in splits[fold]["val"] if case[0] == "b"})
    for case in predicted:
        (fold,) = [fold for fold in (0, 1) if case in splits[fold]["val"]]
        file = model / f"fold_{fold}" / "validation" / f"{case}.nii.gz"
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        assert (rows[case]["outcome"] == "not predicted") == (not (values == 2).any())
        assert rows[case]["fold"] == str(fold)

    # a clean fold: the training cases of fold 0, predicted by its own network
    assert main(["fill", "-i", "701", "-d", "712", "--name", "Clean", "--fold", "0", *easy]) == 0
    clean = RawDataset(project.raw("Dataset712_Clean"))
    assert set(outcomes(clean)) == set(rows)
    assert {case for case, row in outcomes(clean).items() if row["fold"]} == {
        case for case in splits[0]["train"] if case[0] == "b"
    }
    assert json.loads((clean.folder / "splits_final.json").read_text()) == [splits[0]]
    assert clean.manifest.seen_by_filling_model(splits[0]["val"]) == []
    assert any(labels.pseudo for labels in clean.manifest.cases.values())

    # both are trained on and validated: only the clean one's figures are independent
    for dataset in ("711", "712"):
        assert main(["preprocess", "-d", dataset, "--like", "701", "-c", "2d", "-p", "nnUNetPlans", "-np", "1"]) == 0
        said = project.train(dataset, "2d", "0", "-tr", MARGINAL, nnUNet_partial_epochs="1")
        (summary,) = (project.root / "results").glob(f"Dataset{dataset}_*/*/fold_0/validation/summary.json")
        assert ("not_independent" in json.loads(summary.read_text())) == (dataset == "711")
        assert ("not independent" in said) == (dataset == "711")
    (record,) = (project.root / "results").glob("Dataset712_*/*/fold_0/partial_label_folds.json")
    n_filled = sum("MYO" in clean.manifest.cases[case].pseudo for case in splits[0]["train"])
    assert json.loads(record.read_text())["checkpoint_final.pth"]["pseudo"] == {"MYO": n_filled}
    capsys.readouterr()


def test_a_model_of_other_classes_fills_nothing(place: Place) -> None:
    """Its values 1 and 2 are the classes in the other order."""
    from nnunet_partial.pseudo_labels.predictions import FoldSource

    model = place.train("nnUNetTrainerMarginal", TRUTH)
    content = json.loads((model / "dataset.json").read_text())
    labels = content["labels"] | {"LV": content["labels"]["MYO"], "MYO": content["labels"]["LV"]}
    (model / "dataset.json").write_text(json.dumps({**content, "labels": labels}))
    dataset, names = RawDataset(place.raw), ("nnUNetTrainerMarginal", "nnUNetPlans", "2d")
    with pytest.raises(PartialLabelError, match="trained with labels"):
        FoldSource.find(dataset, place.results, place.preprocessed, names, "cpu")


def test_a_model_that_is_not_there(place: Place) -> None:
    from nnunet_partial.pseudo_labels.predictions import FoldSource

    dataset = RawDataset(place.raw)
    with pytest.raises(PartialLabelError, match="nnUNetTrainerACCE"):
        FoldSource.find(dataset, place.results, place.preprocessed, ("nnUNetTrainerACCE", "nnUNetPlans", "2d"), "cpu")
