"""What of a study has not finished, in as few lines as name all of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from nnunet_partial.study.definition import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.progress import state
from nnunet_partial.study.results import finished
from nnunet_partial.study.steps import Model, models


def unfinished_models(study: Study) -> list[Model]:
    done = set(finished(study))
    return [model for model in models(study) if model not in done]


def unfinished_lines(study: Study, unfinished: Iterable[Model]) -> list[str]:
    """A line per scenario, network and state of the trainings: the losses, with the seeds that are wanting."""
    folder = StudyFolder(study.folder)
    seeds: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for model in unfinished:
        states = ", ".join(state(folder, model.train_step(fold)) for fold in study.folds)
        place = f"{model.scenario.name}, {model.architecture_name} (training: {states})"
        seeds[place][model.method_name].append(model.seed)
    return [f"{place}: {_by_seeds(methods)}" for place, methods in seeds.items()]


def _by_seeds(seeds: dict[str, list[int]]) -> str:
    methods: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for method, wanting in seeds.items():
        methods[tuple(wanting)].append(method)
    return "; ".join(
        f"{', '.join(names)} (seed{'s' if len(wanting) > 1 else ''} {', '.join(map(str, wanting))})"
        for wanting, names in methods.items()
    )
