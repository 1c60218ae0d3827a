"""Training on regions, which overlap: what each case knows of them, from the manifest to the prediction."""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet_in_process import InProcess, plan, preprocess
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import shrink, write_toy
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_partial import load_model
from nnunet_partial.active_learning.folds import FoldPredictor
from nnunet_partial.cli import main
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.losses import REGION_LOSSES, RegionBCELoss
from nnunet_partial.model_selection.candidates import find_models
from nnunet_partial.study.config import METHODS
from nnunet_partial.trainers.nnUNetTrainerABCE import (
    nnUNetTrainerABCE,
    nnUNetTrainerABCEExclusive,
    nnUNetTrainerABCELabelDropout,
)
from nnunet_partial.trainers.nnUNetTrainerACCE import nnUNetTrainerACCE, nnUNetTrainerACCEIgnore
from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal, nnUNetTrainerMarginalLeafDice
from nnunet_partial.training.loss_wrapper import masked_counts, region_counts

DATASET = "Dataset704_Regions"
SHAPES = {"2d": (32, 32), "3d_fullres": (16, 24, 24)}
LABELS = {"background": 0, "EPI": [1, 2], "LV": 1}

pytestmark = [pytest.mark.slow, *WARNINGS_OF_NNUNET]


def write_regions(folder: Path, shape: tuple[int, ...], ignore: bool) -> None:
    """Domain a knows the filled epicardium and the ventricle in it; domain b the epicardium alone, filled with 2."""
    write_toy(folder, shape, ignore=ignore)
    cases = {}
    for path in sorted((folder / "labelsTr").iterdir()):
        case = path.name.removesuffix(".nii.gz")
        if case.startswith("b"):  # of which the toy dataset has the ventricle
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            array[array == 1] = 2
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        known = ("EPI", "LV") if case.startswith("a") else ("EPI",)
        cases[case] = CaseLabels(known, domain=case[0], patient=case.split("_")[1])
    Manifest(cases).write(folder / MANIFEST_NAME)
    content = json.loads((folder / "dataset.json").read_text())
    labels = {**LABELS, **({"ignore": 3} if ignore else {})}
    (folder / "dataset.json").write_text(json.dumps({**content, "labels": labels, "regions_class_order": [2, 1]}))


@pytest.fixture(scope="module", params=list(SHAPES))
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A planned and preprocessed dataset: 2-D with an ignore label, 3-D without."""
    made = InProcess(tmp_path_factory.mktemp("regions"))
    made.configuration = request.param  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in made.environment.items():
            patch.setenv(variable, value)
        shape = SHAPES[request.param]
        write_regions(made.raw(DATASET), shape, ignore=request.param == "2d")
        shrink(plan(made.raw(DATASET), made.preprocessed(DATASET), shape), request.param, features=4)
        preprocess(made.raw(DATASET), made.preprocessed(DATASET), request.param)
        made.enter(patch)
        yield made


def trainer_of(project: Any, trainer_class: type[Any] = nnUNetTrainerABCE) -> Any:
    folder = project.preprocessed(DATASET)
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = trainer_class(plans, project.configuration, 0, dataset_json, device=torch.device("cpu"))
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 2
    return trainer


@pytest.mark.parametrize(
    "refused",
    [
        nnUNetTrainerMarginal,
        nnUNetTrainerMarginalLeafDice,
        nnUNetTrainerACCE,
        nnUNetTrainerACCEIgnore,
        nnUNetTrainerABCEExclusive,
    ],
)
def test_other_losses_name_the_one_that_can(project: Any, refused: type[Any]) -> None:
    with pytest.raises(DatasetError, match=f"{refused.__name__} .*nnUNetTrainerABCE,"):
        trainer_of(project, refused).initialize()


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerABCE, nnUNetTrainerABCELabelDropout])
def test_what_the_loss_is_told(project: Any, trainer_class: type[Any]) -> None:
    class NotNested(trainer_class):  # type: ignore[misc]
        nested = False

    for chosen, inside in ((trainer_class, ((1, 0),)), (NotNested, ())):
        trainer = trainer_of(project, chosen)
        trainer.initialize()
        loss = trainer.partial_loss.loss
        assert type(loss) is RegionBCELoss
        assert (loss.inside, loss.has_ignore_channel) == (inside, project.configuration == "2d")
        masks = trainer.annotated_classes.for_cases(["a_p0_0", "b_p1_0"])
        assert masks.tolist() == [[True, True], [True, False]]
        image = torch.randn(1, 1, *trainer.configuration_manager.patch_size)
        logits = trainer.network(image)
        assert logits[0].shape[1] == 2
        assert logits[0][:, 0].any()  # no background, so nothing is set to 0


def test_train_validate_and_predict(project: Any) -> None:
    configuration = project.configuration
    project.train("704", configuration, "0", "-tr", "nnUNetTrainerABCE")
    model = project.root / "results" / DATASET / f"nnUNetTrainerABCE__nnUNetPlans__{configuration}"
    summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    # nnU-Net's own keys; the ventricle of domain b counts nowhere
    assert set(summary["mean"]) == {"(1, 2)", "1"}
    for case in summary["metric_per_case"]:
        of_b = Path(case["prediction_file"]).name.startswith("b")
        assert math.isnan(case["metrics"]["1"]["TP"]) == of_b
        assert not math.isnan(case["metrics"]["(1, 2)"]["TP"])
    output = project.root / "predicted"
    project.must(
        "nnUNetv2_predict", "-d", "704", "-c", configuration, "-f", "0", "-tr", "nnUNetTrainerABCE", "-device", "cpu",
        "-i", str(project.raw(DATASET) / "imagesTs"), "-o", str(output), "-npp", "0", "-nps", "0",
        "--save_probabilities",
    )  # fmt: skip
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "new.nii.gz")))
    epi, lv = np.load(output / "new.npz")["probabilities"].reshape(2, *predicted.shape) > 0.5
    assert np.array_equal(predicted, np.where(lv, 1, np.where(epi, 2, 0)))  # regions_class_order: EPI is 2, then LV 1

    chosen = ("-d", "704", "-c", configuration, "-f", "0", "-tr", "nnUNetTrainerABCE")
    assert main(["card", *chosen, "-np", "1", "-o", str(project.root / "card.md")]) == 0
    card = (project.root / "card.md").read_text(encoding="utf-8")
    assert "Not measured" not in card
    assert re.search(r"^\|.*\bEPI\b.*\d\.\d", card, re.MULTILINE)

    file = project.root / "model.zip"  # of nnU-Net's own trainer
    assert main(["export", *chosen, "-o", str(file)]) == 0
    image = sitk.ReadImage(str(project.raw(DATASET) / "imagesTs" / "new_0000.nii.gz"))
    traveled = load_model(file, device="cpu")
    assert traveled.predictor.trainer_name == "nnUNetTrainer"
    labels = traveled.predict(sitk.GetArrayFromImage(image)[None], image.GetSpacing()[::-1])
    np.testing.assert_array_equal(labels, predicted)
    # and what `disagreement` predicts
    (model,) = find_models(project.root / "results" / DATASET, ["nnUNetTrainerABCE"], [configuration], ["nnUNetPlans"])
    own = FoldPredictor(model, [0], "cpu").predict([project.raw(DATASET) / "imagesTs" / "new_0000.nii.gz"])
    np.testing.assert_array_equal(own.labels[0].reshape(predicted.shape), predicted)
    saved = np.load(output / "new.npz")["probabilities"]
    np.testing.assert_allclose(own.probability, saved, atol=2e-3)


def test_a_part_that_is_not_known_changes_nothing(project: Any) -> None:
    # In domain b the epicardium is filled with 2; with the ventricle in it the training is the same, bit for bit.
    results = []
    for drawn in (False, True):
        trainer = trainer_of(project)
        trainer.initialize()
        generator = torch.Generator().manual_seed(1)
        batch = {
            "data": torch.randn(2, 1, *trainer.configuration_manager.patch_size, generator=generator),
            "keys": ["b_p1_0", "b_p1_1"],
        }
        shape = (2, 3 if project.configuration == "2d" else 2, *batch["data"].shape[2:])
        target = torch.zeros(shape, dtype=torch.bool)
        target[:, 0, 4:12] = True
        target[:, 1, 6:9] = drawn
        scales = [target]
        for output in trainer.network(batch["data"])[1:]:
            scales.append(torch.nn.functional.interpolate(target.float(), output.shape[2:]).bool())
        torch.manual_seed(0)
        trainer.partial_loss.class_mask = trainer.training_class_mask(batch)
        with torch.no_grad():
            for parameter in trainer.network.parameters():
                parameter.fill_(0.01)
            results.append(trainer.loss(trainer.network(batch["data"]), scales).item())
    assert results[0] == results[1]


def test_the_pseudo_dice_counts_as_nnunet_does() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 2, 5, 4, generator=generator)
    target = torch.rand(3, 3, 5, 4, generator=generator) < 0.4  # the last channel is ignored
    known = torch.tensor([[True, True], [True, False], [False, False]])
    counts = region_counts(logits, target, has_ignore_channel=True)
    predicted = (torch.sigmoid(logits) > 0.5).long()
    for b in range(3):
        tp, fp, fn, tn = get_tp_fp_fn_tn(predicted[b : b + 1], target[b : b + 1, :-1], mask=~target[b : b + 1, -1:])
        for ours, theirs in zip(counts[:, b], (tp, fp, fn, tn), strict=True):
            assert ours.tolist() == theirs[0].int().tolist()
    masked = masked_counts(counts, known)
    assert masked[:, 0].tolist() == counts[:3, :2, 0].sum(1).tolist()
    assert masked[:, 1].tolist() == counts[:3, 0, 1].tolist()


def test_a_study_knows_which_losses_take_regions() -> None:
    for name, method in METHODS.items():
        loss_class = recursive_find_trainer_class_by_name(method.trainer).loss_class
        assert method.takes_regions == (loss_class in (None, *REGION_LOSSES)), name


def test_a_scenario_is_preprocessed_like_its_source(project: Any, tmp_path: Path) -> None:
    """The ventricle hidden in domain a: neither its voxels nor where they lie may reach the training."""
    changed = project.copy(tmp_path)
    manifest = Manifest.read(changed.raw(DATASET) / MANIFEST_NAME)
    Manifest({**manifest.cases, "new": CaseLabels(("EPI",), domain="a")}).write(changed.raw(DATASET) / MANIFEST_NAME)
    with pytest.MonkeyPatch.context() as patch:
        changed.enter(patch)
        hide = ("--missing", "LV", "--fraction", "0.5", "--domain", "a", "-np", "1")
        changed.must("nnunet_partial", "scenario", "-i", "704", "-d", "705", "--name", "Hidden", *hide)
        like = ("--like", "704", "-c", project.configuration, "-p", "nnUNetPlans", "-np", "1")
        changed.must("nnunet_partial", "preprocess", "-d", "705", *like)
        made = Manifest.read(changed.raw("Dataset705_Hidden") / MANIFEST_NAME)
        lost = [case for case in manifest.cases if made.labels_of(case).annotated != manifest.labels_of(case).annotated]
        assert lost
        for case in lost:
            assert made.labels_of(case).annotated == ("EPI",)
            (folder,) = [f for f in changed.preprocessed("Dataset705_Hidden").iterdir() if (f / f"{case}.pkl").exists()]
            properties = pickle.loads((folder / f"{case}.pkl").read_bytes())
            assert len(properties["class_locations"][1]) == 0
            assert len(properties["class_locations"][(1, 2)]) > 0


def test_what_cases_hold_is_checked_at_the_start(project: Any, tmp_path: Path) -> None:
    changed = project.copy(tmp_path)
    changed.configuration = project.configuration
    for folder in (changed.raw(DATASET), changed.preprocessed(DATASET)):
        manifest = Manifest.read(changed.raw(DATASET) / MANIFEST_NAME)
        cases = {**manifest.cases, "b_p1_0": CaseLabels(("LV",), domain="b", patient="p1")}
        Manifest(cases).write(folder / MANIFEST_NAME)
    with pytest.MonkeyPatch.context() as patch:
        changed.enter(patch)
        with pytest.raises(ManifestError, match=r"b_p1_0: .*\b2\b.*: LV"):
            trainer_of(changed).initialize()


def test_nnunets_own_loss_stays_the_baseline(project: Any) -> None:
    from nnunet_partial.trainers.nnUNetTrainerNaive import nnUNetTrainerNaive

    trainer, stock = trainer_of(project, nnUNetTrainerNaive), trainer_of(project, nnUNetTrainer)
    trainer.initialize()
    stock.initialize()
    assert type(trainer.partial_loss.loss.loss) is type(stock.loss.loss)
