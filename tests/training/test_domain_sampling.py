"""Weights of domains: training draws from them as often as the manifest says, and nothing else changes."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.dataset.domains import case_probabilities, square_root_weights
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal
from nnunet_partial.training.nnunet_patches import patch_domain_sampling

DATASET = "Dataset701_Toy"

pytestmark = WARNINGS_OF_NNUNET


def manifest_of(weights: dict[str, float] | None) -> Manifest:
    """Three cases of domain a, one of domain b."""
    domains = {"a1": "a", "a2": "a", "a3": "a", "b1": "b"}
    return Manifest({c: CaseLabels(("LV",), domain=d) for c, d in domains.items()}, domain_weights=weights)


def weigh(project: Project, weights: dict[str, float]) -> None:
    for folder in (project.raw(DATASET), project.preprocessed(DATASET)):
        path = folder / MANIFEST_NAME
        if path.exists():
            path.write_text(json.dumps({**json.loads(path.read_text()), "domain_weights": weights}))


def trainer_of(project: Project, fold: int | str = 0, trainer_class: type[Any] = nnUNetTrainerMarginal) -> Any:
    folder = project.preprocessed(DATASET)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = trainer_class(plans, "2d", fold, dataset_json, device=torch.device("cpu"))
    trainer.initialize()
    return trainer


def drawn(loader: Any, batches: int) -> Counter[str]:
    """How often each domain (the first letter of a case) is in that many batches."""
    return Counter(str(case)[0] for _ in range(batches) for case in next(loader)["keys"])


def test_square_roots() -> None:
    # sqrt(100) = 10 and sqrt(900) = 30 add up to 40
    assert square_root_weights({"large": 900, "small": 100}) == {"large": 0.75, "small": 0.25}
    with pytest.raises(ManifestError, match="expected at least one in each"):
        square_root_weights({"none": 0})


def test_within_a_domain_every_case_is_as_likely() -> None:
    found = case_probabilities(manifest_of({"a": 3, "b": 1}), ["a1", "b1", "a2", "a3"])
    assert found is not None
    assert found.tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25])  # 3/4 over three cases, 1/4 for the one
    found = case_probabilities(manifest_of({"a": 1, "b": 1}), ["a1", "b1"])
    assert found is not None
    assert found.tolist() == [0.5, 0.5]
    assert case_probabilities(manifest_of(None), ["a1"]) is None


def test_a_domain_that_is_not_in_the_fold_takes_no_share() -> None:
    found = case_probabilities(manifest_of({"a": 1, "b": 9}), ["a1", "a2"])
    assert found is not None
    assert found.tolist() == [0.5, 0.5]


def test_a_domain_without_a_weight_is_an_error() -> None:
    with pytest.raises(ManifestError, match=r"no weight for b .*'domain_weights'"):
        case_probabilities(manifest_of({"a": 1}), ["a1", "b1"])


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"c": 1}, r"weights for c .* domains are a, b"),
        ({"a": 0}, r"weight 0 for domain 'a'"),
        ({"a": -1}, "expected a number above 0"),
        ({"a": math.inf}, "expected a number above 0"),
        ({"a": math.nan}, "expected a number above 0"),
        ({"a": "1"}, "expected a number above 0"),
        ({"a": True}, "expected a number above 0"),
        ([1], "expected an object"),
    ],
)
def test_weights_that_are_none(weights: Any, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        Manifest.from_json({**manifest_of(None).to_json(), "domain_weights": weights})


@pytest.mark.slow
def test_batches_hold_the_domains_as_often_as_their_weights(project: Project) -> None:
    weigh(project, {"a": 0.9, "b": 0.1})
    trainer = trainer_of(project)
    train, _ = trainer.get_dataloaders()
    number = 100 * trainer.batch_size
    counted = drawn(train, 100)
    expected, deviation = 0.9 * number, math.sqrt(number * 0.9 * 0.1)
    assert abs(counted["a"] - expected) < 5 * deviation  # by chance once in two million
    assert counted["a"] + counted["b"] == number
    log = next(Path(trainer.output_folder).glob("training_log*")).read_text().splitlines()
    (line,) = [line for line in log if "domain_weights" in line]
    assert "{'a': 0.9, 'b': 0.1}" in line


@pytest.mark.parametrize("fold", [0, "all"])
def test_validation_is_not_touched(project: Project, fold: int | str) -> None:
    weigh(project, {"a": 0.9, "b": 0.1})
    train, val = trainer_of(project, fold).get_dataloaders()
    assert train.data_loader.sampling_probabilities is not None
    assert val.data_loader.sampling_probabilities is None


def test_without_weights_the_batches_are_nnunets_own(project: Project) -> None:
    batches = []
    for trainer_class in (nnUNetTrainerMarginal, nnUNetTrainer):
        trainer = trainer_of(project, trainer_class=trainer_class)
        np.random.seed(0)  # noqa: NPY002  (batchgenerators draws from the global state)
        torch.manual_seed(0)
        train, _ = trainer.get_dataloaders()
        assert train.data_loader.sampling_probabilities is None
        batches.append([next(train) for _ in range(3)])
    for ours, theirs in zip(*batches, strict=True):
        assert ours["keys"].tolist() == theirs["keys"].tolist()
        assert torch.equal(ours["data"], theirs["data"])


def test_a_trainer_with_loaders_of_its_own_is_refused_and_nnunets_class_is_as_before() -> None:
    before = nnUNetDataLoader.__init__
    with (
        pytest.raises(NotImplementedError, match="does not use nnU-Net's data loader"),
        patch_domain_sampling(manifest_of({"a": 1, "b": 1}), ["a1", "b1"]),
    ):
        assert nnUNetDataLoader.__init__ is not before
    assert nnUNetDataLoader.__init__ is before
