"""From a study to its steps: which data sets are made, which networks are trained on them, and by what names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from nnunet_partial.study.config import ARCHITECTURES, METHODS, Architecture, Method, Scenario, Study
from nnunet_partial.study.folder import StudyFolder


@dataclass(frozen=True)
class Model:
    """One way to train on one scenario, in one seed; its folds together predict the test cases."""

    scenario: Scenario
    method_name: str
    architecture_name: str
    seed: int

    @property
    def name(self) -> str:
        """Also its path below predictions/ and evaluations/."""
        return f"{self.scenario.name}/{self.method_name}/{self.architecture_name}/seed{self.seed}"

    @property
    def method(self) -> Method:
        return METHODS[self.method_name]

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.architecture_name]

    @property
    def trainer(self) -> str:
        return self.method.trainer + self.architecture.trainer_suffix

    @property
    def dataset(self) -> str:
        """The name of the data set it is trained on."""
        return self.scenario.name + ("-complete" if self.method.complete_cases else "")

    @property
    def predict_step(self) -> str:
        return f"predict/{self.name}"

    @property
    def evaluate_step(self) -> str:
        return f"evaluate/{self.name}"

    def train_step(self, fold: int) -> str:
        return f"train/{self.name}/fold{fold}"


def models(study: Study) -> Iterator[Model]:
    """In the order of the file; seeds outermost, so that a study that is stopped has whole comparisons."""
    for seed, scenario, architecture, method in product(
        study.seeds, study.scenarios, study.architectures, study.losses
    ):
        yield Model(scenario, method, architecture, seed)


def derived_datasets(study: Study) -> dict[str, tuple[Scenario, bool]]:
    """Each data set that is made, by name: its scenario, and whether only complete cases are kept."""
    found: dict[str, tuple[Scenario, bool]] = {}
    for scenario in study.scenarios:
        found[scenario.name] = (scenario, False)
    for model in models(study):
        found.setdefault(model.dataset, (model.scenario, model.method.complete_cases))
    return found


def further_plans(study: Study) -> list[str]:
    """The plans that `prepare` does not make: with steps of their own, so that networks can be added at any time."""
    prepared = StudyFolder(study.folder).prepared_plans()
    wanted = dict.fromkeys(ARCHITECTURES[name].plans for name in study.architectures)
    return [plans for plans in wanted if plans not in prepared]


def reused_preprocessing(study: Study) -> list[tuple[str, str]]:
    """Which data sets take over which further plans, as (data set, plans)."""
    further = further_plans(study)
    pairs = [(model.dataset, model.architecture.plans) for model in models(study)]
    return [(dataset, plans) for dataset, plans in dict.fromkeys(pairs) if plans in further]


def steps(study: Study) -> list[str]:
    """Every step by name, in a possible order: what `prepare` to `evaluate` stand for is told in the Snakefile."""
    all_models = list(models(study))
    return [
        *(f"prepare/{name}" for name in used_sources(study)),
        *(f"plans/{name}/{plans}" for plans in further_plans(study) for name in used_sources(study)),
        *(f"scenario/{name}" for name in derived_datasets(study)),
        *(f"takeover/{dataset}/{plans}" for dataset, plans in reused_preprocessing(study)),
        *(model.train_step(fold) for model in all_models for fold in study.folds),
        *(model.predict_step for model in all_models),
        *(model.evaluate_step for model in all_models),
    ]


def used_sources(study: Study) -> list[str]:
    """The data sets of the file that some scenario is made from."""
    used = {scenario.source for scenario in study.scenarios}
    return [name for name in study.datasets if name in used]
