"""The study of methods beyond the three losses: what it compares, on the data and with the network of phantom.yaml."""

from __future__ import annotations

from pathlib import Path

from nnunet_partial.study.config import Study
from nnunet_partial.study.steps import models

STUDIES = Path(__file__).resolve().parents[2] / "studies"


def test_it_has_the_data_and_the_network_of_the_phantom_study_and_half_its_iterations() -> None:
    beyond, phantom = (Study.read(STUDIES / f"{name}.yaml") for name in ("beyond", "phantom"))
    assert set(beyond.scenarios) < set(phantom.scenarios)
    assert beyond.datasets.items() < phantom.datasets.items()
    assert beyond.folder != phantom.folder  # trainings of another length
    for setting in ("configuration", "epochs", "val_iterations", "network", "folds", "seeds"):
        assert getattr(beyond, setting) == getattr(phantom, setting)
    assert beyond.iterations is not None
    assert phantom.iterations is not None
    assert 2 * beyond.iterations == phantom.iterations


def test_every_seed_compares_the_further_methods_with_the_losses_they_extend() -> None:
    study = Study.read(STUDIES / "beyond.yaml")
    further = {"marginal-leaf-dice", "abce-exclusive", "marginal-label-dropout", "marginal-fill"}
    assert {"naive", "marginal", "abce"} | further <= set(study.losses)
    listed = list(models(study))
    assert len(listed) == 2 * len(study.losses) * 3  # scenarios x losses x seeds
    assert {model.seed for model in listed[: len(listed) // 3]} == {0}
