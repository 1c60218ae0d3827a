"""The commands of the steps that make data, as typed in a shell: plans and preprocessing, and the scenarios."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.dataset.raw import dataset_id
from nnunet_partial.study.definition import Scenario, Study
from nnunet_partial.study.methods import PLANNERS


def prepare(study: Study, source: Path, plans: Sequence[str]) -> str:
    """nnU-Net's fingerprint, these plans and the preprocessing of the raw data set `source`, all its labels known."""
    fingerprint = ["nnUNetv2_extract_fingerprint", "-d", str(dataset_id(source))]
    return _plan(study, source, plans, plans[:1] if _shares_data(study) else plans, fingerprint)


def further_plans(study: Study, source: Path, plans: str) -> str:
    """Other plans of a data set that is prepared. What is there, trainings may be using: it is left alone."""
    return _plan(study, source, [plans], [] if _shares_data(study) else [plans])


def make_scenario(
    study: Study, scenario: Scenario, complete: bool, number: int, name: str, plans: Sequence[str]
) -> str:
    """Hides the labels, and takes over plans and preprocessed data. Never to be run beneath trainings.

    `complete`: keeps only the cases from which nothing would be hidden. `number`, `name`: of the new data set.
    """
    source = str(study.datasets[scenario.source])
    hide = ["nnunet_partial", "scenario", "-i", source, "-d", str(number), "--name", name, "--overwrite"]
    hide += ["--missing", *scenario.missing, "--fraction", str(scenario.fraction)]
    hide += ["--domain", scenario.domain] if scenario.domain else []
    hide += ["--keep-only-complete"] if complete else []
    return f"{shlex.join(hide)}; {_preprocess_like(study, scenario, number, plans)}"


def take_over(study: Study, scenario: Scenario, number: int, plans: str) -> str:
    """Further plans for a scenario that is made; preprocessed data only where these plans have their own."""
    if not _shares_data(study):
        return _preprocess_like(study, scenario, number, [plans])
    source = str(study.datasets[scenario.source])
    return shlex.join(["nnUNetv2_move_plans_between_datasets", "-s", source, "-t", str(number), "-sp", plans])


def _plan(study: Study, source: Path, plans: Sequence[str], preprocessed: Sequence[str], *before: Sequence[str]) -> str:
    """`preprocessed`: the plans whose data are made. Planning dies of a setting that trainings may have."""
    number, more = str(dataset_id(source)), ["-c", study.configuration, "-np", "1" if study.device == "cpu" else "4"]
    commands = [["unset", "nnUNet_n_proc_DA"], *before]
    commands += [["nnUNetv2_plan_experiment", "-d", number, "-pl", PLANNERS[name]] for name in plans]
    commands += [["nnUNetv2_preprocess", "-d", number, "-plans_name", name, *more] for name in preprocessed]
    if study.network:
        commands += [["nnunet_partial", "shrink", "-d", source.name, "-p", name, *_shrink(study)] for name in plans]
    return "; ".join(map(shlex.join, commands))


def _shares_data(study: Study) -> bool:
    """Whether nnU-Net's residual plans use the preprocessed data of its default ones."""
    return study.configuration in ("2d", "3d_fullres")


def _shrink(study: Study) -> list[str]:
    assert study.network is not None
    sizes = {"--features": study.network.features, "--patch": study.network.patch, "--batch": (study.network.batch,)}
    options = [word for option, numbers in sizes.items() for word in (option, *map(str, numbers))]
    return ["-c", study.configuration, *options]


def _preprocess_like(study: Study, scenario: Scenario, number: int, plans: Sequence[str]) -> str:
    source = str(study.datasets[scenario.source])
    like = ["nnunet_partial", "preprocess", "-d", str(number), "--like", source, "-c", study.configuration]
    return shlex.join([*like, "-p", *plans])
