"""What nobody annotated teaches nothing: with the unknown structure drawn or not, a training is the same bit for bit.

Two data sets are drawn that differ in the label files of domain b alone. In one its ring, which no case of b declares
annotated, is background, as it should be; in the other every ring is drawn all the same. The check that refuses such
label files is switched off, and three things are kept equal that see labels before a loss does: nnU-Net's plans, the
places at which foreground is sampled, and the grid (no rotation or scaling, which interpolate labels).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from helpers import toy_dataset
from helpers.nnunet_in_process import plan, preprocess
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project, shrink, write_toy
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_partial.errors import ManifestError
from nnunet_partial.losses import LOSSES
from nnunet_partial.trainers.nnUNetTrainerABCE import (
    nnUNetTrainerABCE,
    nnUNetTrainerABCEExclusive,
    nnUNetTrainerABCELabelDropout,
)
from nnunet_partial.trainers.nnUNetTrainerACCE import (
    nnUNetTrainerACCE,
    nnUNetTrainerACCEIgnore,
    nnUNetTrainerACCELabelDropout,
)
from nnunet_partial.trainers.nnUNetTrainerMarginal import (
    nnUNetTrainerMarginal,
    nnUNetTrainerMarginalLabelDropout,
    nnUNetTrainerMarginalLeafDice,
)
from nnunet_partial.trainers.nnUNetTrainerNaive import nnUNetTrainerNaive
from nnunet_partial.training import startup_checks

DATASET = "Dataset703_Rings"
SHAPES = {"2d": (32, 32), "3d_fullres": (16, 24, 24)}

pytestmark = [pytest.mark.slow, *WARNINGS_OF_NNUNET]


TRAINERS = [
    nnUNetTrainerMarginal,
    nnUNetTrainerACCE,
    nnUNetTrainerACCEIgnore,
    nnUNetTrainerABCE,
    nnUNetTrainerMarginalLabelDropout,
    nnUNetTrainerACCELabelDropout,
    nnUNetTrainerABCELabelDropout,
    nnUNetTrainerMarginalLeafDice,
    nnUNetTrainerABCEExclusive,
]


# ---- the two data sets ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """The same data set twice; `drawn`: with the ring of domain b in the label files."""

    configuration: str
    clean: Project
    drawn: Project


@pytest.fixture(scope="module", params=list(SHAPES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    configuration, root = request.param, tmp_path_factory.mktemp("no_leak")
    made = Pair(configuration, Project(root / "clean"), Project(root / "drawn"))
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in made.clean.environment.items():
            patch.setenv(variable, value)
        write_toy(made.clean.raw(DATASET), SHAPES[configuration])
        plans = plan(made.clean.raw(DATASET), made.clean.preprocessed(DATASET), SHAPES[configuration])
        shrink(plans, configuration, features=4)
        shutil.copytree(made.clean.preprocessed(DATASET), made.drawn.preprocessed(DATASET))
        draw = toy_dataset.draw
        patch.setattr(toy_dataset, "draw", lambda rng, shape, with_ring: draw(rng, shape, True))
        write_toy(made.drawn.raw(DATASET), SHAPES[configuration])
        clean, drawn = (
            preprocess(project.raw(DATASET), project.preprocessed(DATASET), configuration)
            for project in (made.clean, made.drawn)
        )
    for properties in clean.glob("*.pkl"):  # where foreground is sampled
        shutil.copy(properties, drawn)
    return made


def labels(project: Project, configuration: str) -> dict[str, list[int]]:
    """Label values of each preprocessed case."""
    cases = nnUNetDatasetBlosc2(str(project.preprocessed(DATASET) / f"nnUNetPlans_{configuration}"))
    return {case: np.unique(cases.load_case(case)[1]).tolist() for case in sorted(cases.identifiers)}


def test_the_data_sets_differ_in_the_unknown_structure_alone(pair: Pair) -> None:
    clean, drawn = labels(pair.clean, pair.configuration), labels(pair.drawn, pair.configuration)
    assert all(values == [0, 1, 2] for values in drawn.values())
    assert clean == {case: [0, 1, 2] if case.startswith("a_") else [0, 1] for case in drawn}
    for image in pair.clean.raw(DATASET).glob("imagesTr/*"):
        assert image.read_bytes() == (pair.drawn.raw(DATASET) / "imagesTr" / image.name).read_bytes()


def test_no_loss_is_left_out() -> None:
    assert {trainer.loss_class for trainer in TRAINERS} == set(LOSSES.values())


# ---- trainings -----------------------------------------------------------------------------------------------------


def trainer_of(project: Project, configuration: str, trainer_class: type[Any]) -> Any:
    class OnTheGrid(trainer_class):  # type: ignore[misc]
        """All of nnU-Net's augmentation but rotation and scaling."""

        @staticmethod
        def get_training_transforms(*args: Any, **kwargs: Any) -> Any:
            chain = trainer_class.get_training_transforms(*args, **kwargs)
            (spatial,) = [step for step in chain.transforms if isinstance(step, SpatialTransform)]
            spatial.p_rotation = spatial.p_scaling = 0
            return chain

    folder = project.preprocessed(DATASET)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset_json = json.loads((project.raw(DATASET) / "dataset.json").read_text())
    return OnTheGrid(plans, configuration, 0, dataset_json, device=torch.device("cpu"))


def begin(project: Project, configuration: str, trainer_class: type[Any], patch: pytest.MonkeyPatch) -> Any:
    project.enter(patch)
    patch.setenv("nnUNet_partial_seed", "5")
    trainer = trainer_of(project, configuration, trainer_class)
    trainer.initialize()
    return trainer


def curve(project: Project, configuration: str, trainer_class: type[Any], patch: pytest.MonkeyPatch) -> list[Any]:
    """A short training: losses in training and validation, what pseudo Dice counts, the bytes of the final weights."""
    trainer = begin(project, configuration, trainer_class, patch)
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    seen: list[Any] = []
    for epoch in range(2):
        trainer._seed_epoch(epoch)
        trainer.network.train()
        seen += [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(2)]
        trainer.network.eval()
        with torch.no_grad():
            result = trainer.validation_step(next(trainer.dataloader_val))
        seen += [value.tolist() for value in result.values()]
    return [*seen, *(weight.detach().numpy().tobytes() for weight in trainer.network.parameters())]


def test_such_label_files_are_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(pair.clean, pair.configuration, nnUNetTrainerMarginal, monkeypatch)
    with pytest.raises(ManifestError, match=r"(?s)6 of 12 label files .*b_p1_0: MYO"):
        begin(pair.drawn, pair.configuration, nnUNetTrainerMarginal, monkeypatch)


@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_the_unknown_structure_changes_no_bit(
    pair: Pair, trainer_class: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_checks, "check_label_files", lambda *args, **kwargs: None)
    clean, drawn = (curve(p, pair.configuration, trainer_class, monkeypatch) for p in (pair.clean, pair.drawn))
    assert clean == drawn
    assert len(set(map(str, clean[:2]))) == 2  # the losses are those of a training, not a constant


def test_the_naive_loss_is_changed_by_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the comparison can fail: nnU-Net's own loss learns what stands in the label files."""
    monkeypatch.setattr(startup_checks, "check_label_files", lambda *args, **kwargs: None)
    clean, drawn = (curve(p, pair.configuration, nnUNetTrainerNaive, monkeypatch) for p in (pair.clean, pair.drawn))
    assert all(one != other for one, other in zip(clean[:2], drawn[:2], strict=True))
