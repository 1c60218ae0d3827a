"""List the models and the steps of a study: which datasets are made, which networks are trained, and their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.study.config import ARCHITECTURES, METHODS, Architecture, Method, Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.folds import domain_folds


@dataclass(frozen=True)
class Model:
    """Describe one way to train on one scenario, with one seed. Its folds predict the test cases together.

    Attributes:
        scenario: The labeling scenario.
        method_name: Key of METHODS.
        architecture_name: Key of ARCHITECTURES.
        seed: Random seed of the training.
        folds: Its folds, which name the dataset that they fill.
    """

    scenario: Scenario
    method_name: str
    architecture_name: str
    seed: int
    folds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Return the name, which is also its path below predictions/ and evaluations/."""
        return f"{self.scenario.name}/{self.method_name}/{self.architecture_name}/seed{self.seed}"

    @property
    def method(self) -> Method:
        """Return the loss or baseline."""
        return METHODS[self.method_name]

    @property
    def architecture(self) -> Architecture:
        """Return the network."""
        return ARCHITECTURES[self.architecture_name]

    @property
    def trainer(self) -> str:
        """Return the name of the trainer class."""
        return self.method.trainer + self.architecture.trainer_suffix

    @property
    def dataset(self) -> str:
        """Return the name of the derived dataset it is trained on."""
        if self.method.filled_by:
            folds = "-".join(map(str, self.folds))
            return f"{self.scenario.name}-{self.method_name}-{self.architecture_name}-seed{self.seed}-folds{folds}"
        return self.scenario.name + ("-complete" if self.method.complete_cases else "")

    @property
    def filled_by(self) -> Model | None:
        """Return the model that fills its dataset; None where none does."""
        return replace(self, method_name=self.method.filled_by) if self.method.filled_by else None

    @property
    def predict_step(self) -> str:
        """Return the name of the step that predicts the test cases."""
        return f"predict/{self.name}"

    @property
    def evaluate_step(self) -> str:
        """Return the name of the step that evaluates the predictions."""
        return f"evaluate/{self.name}"

    def train_step(self, fold: int) -> str:
        """Return the name of the step that trains a fold.

        Args:
            fold: Number of the fold, from 0.
        """
        return f"train/{self.name}/fold{fold}"


def models(study: Study) -> Iterator[Model]:
    """List the models of a study in the order of the file. Seeds vary last: a stopped study has whole comparisons.

    Args:
        study: The study.

    Yields:
        Each combination of seed, scenario, network and loss.
    """
    for seed, scenario, architecture, method in product(
        study.seeds, study.scenarios, study.architectures, study.losses
    ):
        yield Model(scenario, method, architecture, seed, study.folds)


def used_sources(study: Study) -> list[str]:
    """List the datasets of the file that some scenario is made from.

    Args:
        study: The study.

    Returns:
        Their names in the study, in the order of the file.
    """
    used = {scenario.source for scenario in study.scenarios}
    return [name for name in study.datasets if name in used]


def derived_datasets(study: Study) -> dict[str, tuple[Scenario, bool]]:
    """List the datasets that the study makes from its sources; `filled_models` lists those made from these.

    Args:
        study: The study.

    Returns:
        By name, the scenario of each dataset, and whether only its complete cases are kept.
    """
    datasets: dict[str, tuple[Scenario, bool]] = {}
    for scenario in study.scenarios:
        datasets[scenario.name] = (scenario, False)
    for model in (model for model in models(study) if not model.method.filled_by):
        datasets.setdefault(model.dataset, (model.scenario, model.method.complete_cases))
    return datasets


def filled_models(study: Study) -> dict[str, Model]:
    """List the models that train on pseudo-labels.

    Args:
        study: The study.

    Returns:
        Each model by the name of its dataset, which another model fills.
    """
    return {model.dataset: model for model in models(study) if model.method.filled_by}


def folds_of(study: Study, dataset: str) -> tuple[int, ...]:
    """List the folds that are trained on a derived dataset.

    Args:
        study: The study.
        dataset: Name of the derived dataset.

    Returns:
        Numbers of the folds, from 0.
    """
    return tuple(range(len(left_out_domains(study, dataset)))) if study.by_domain else study.folds


def left_out_domains(study: Study, dataset: str) -> tuple[str, ...]:
    """List the domains that the folds of a derived dataset leave out, where they go by domain.

    Args:
        study: The study.
        dataset: Name of the derived dataset.

    Returns:
        The domain of each fold, as the last run or dry run found them, or else by the manifest of the source.
    """
    planned: dict[str, list[str]] = StudyFolder(study.folder).planned_workflow().get("domains") or {}
    if dataset in planned:
        return tuple(planned[dataset])
    scenario, complete = derived_datasets(study)[dataset]
    source, preprocessed = find_dataset(study.datasets[scenario.source]), StudyFolder(study.folder).preprocessed
    return domain_folds(scenario, complete, source, preprocessed).domains


def further_plans(study: Study) -> list[str]:
    """List the plans that `prepare` does not make. They have their own steps, so networks can be added at any time.

    Args:
        study: The study.

    Returns:
        Names of plans; empty if `prepare` makes all of them.
    """
    prepared = StudyFolder(study.folder).prepared_plans()
    wanted = dict.fromkeys(ARCHITECTURES[name].plans for name in study.architectures)
    return [plans for plans in wanted if plans not in prepared]


def reused_preprocessing(study: Study) -> list[tuple[str, str]]:
    """List the derived datasets that take over further plans from their source.

    Args:
        study: The study.

    Returns:
        Pairs of dataset and plans; empty without further plans.
    """
    further = further_plans(study)
    pairs = [(model.dataset, model.architecture.plans) for model in models(study) if not model.method.filled_by]
    return [(dataset, plans) for dataset, plans in dict.fromkeys(pairs) if plans in further]


def steps(study: Study) -> list[str]:
    """List the names of all steps in a possible order. The Snakefile says what `prepare` to `evaluate` do.

    Args:
        study: The study.

    Returns:
        Names of steps, as in "prepare/camus".
    """
    all_models = list(models(study))
    return [
        *(f"prepare/{name}" for name in used_sources(study)),
        *(f"plans/{name}/{plans}" for plans in further_plans(study) for name in used_sources(study)),
        *(f"scenario/{name}" for name in derived_datasets(study)),
        *(reuse_step(dataset, plans) for dataset, plans in reused_preprocessing(study)),
        *(f"fill/{name}" for name in filled_models(study)),
        *(model.train_step(fold) for model in all_models for fold in folds_of(study, model.dataset)),
        *(model.predict_step for model in all_models),
        *(model.evaluate_step for model in all_models),
    ]


def reuse_step(dataset: str, plans: str) -> str:
    """Return the name of the step that takes over further plans, and their preprocessed data, from the source.

    Args:
        dataset: Name of the derived dataset.
        plans: Name of the plans.
    """
    return f"reuse_preprocessing/{dataset}/{plans}"
