"""Hiding labels on purpose: from a data set that has them, one in which some patients lack some structures.

What was hidden stays in labelsTr_full, which nnU-Net never reads, so that one can measure what a network finds there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import SUBSETS, nnunet_folder
from nnunet_partial.dataset.splits import SPLITS_NAME, check_splits
from nnunet_partial.dataset.summary import annotation_table
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_SUBSET, MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.parallel import parallel_map

from ..staging import refuse_existing, staged_dataset, write_metadata
from .files import FileToWrite, link_or_relabel
from .scenario_plan import ScenarioOptions, ScenarioPlan, plan_scenario

#: Entries of the source's dataset.json that the scenario has its own of. 'dataset' lists files of the source, so
#: that nnU-Net would train on the labels that are to be hidden; nnU-Net's generator writes a wrong 'citation'.
_NOT_COPIED = (
    *("channel_names", "labels", "numTraining", "file_ending", "name", "description", "licence", "converted_by"),
    *("dataset", "citation"),
)


@dataclass(frozen=True)
class ScenarioResult:
    """A scenario: where it lies, what was hidden as text, and what the user should know."""

    folder: Path
    summary: str
    warnings: tuple[str, ...]


def scenario(
    source: Path,
    name: str,
    options: ScenarioOptions,
    *,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> ScenarioResult:
    """Writes the data set nnUNet_raw/`name`: the raw data set in `source` with the labels hidden that `options` names.

    Images, and labels that stay as they are, are hard links (copies where the file system cannot). Folds are those of
    the source. Raises DatasetError or SplitError, before anything is written, where the scenario makes no sense.
    """
    if nnunet_folder("nnUNet_raw") / name == source:
        raise DatasetError(f"{name} is the data set the scenario is made from. Choose another id with -d.")
    refuse_existing(name, overwrite)
    plan = plan_scenario(source, options, processes, progress)
    with staged_dataset(name, _made_with(plan), overwrite) as staging:
        for _ in parallel_map(
            link_or_relabel, list(_files(plan, staging)), processes, "linking and relabelling" if progress else None
        ):
            pass
        write_metadata(
            staging,
            Manifest(plan.manifest.cases, scenario=_entry(plan), domain_weights=_weights(plan)),
            plan.classes,
            channel_names=plan.source.channel_names,
            file_ending=plan.source.dataset.file_ending,
            ignore=plan.has_ignore,
            **_about(plan, name),
        )
        plan.full.write(staging / FULL_MANIFEST_NAME)
        _write_folds(plan, staging)
    return ScenarioResult(nnunet_folder("nnUNet_raw") / name, _summary(plan), plan.warnings)


def _files(plan: ScenarioPlan, staging: Path) -> Iterator[FileToWrite]:
    for part, cases in zip(SUBSETS, (plan.training, plan.test), strict=True):
        for case in cases:
            yield from (
                FileToWrite(path, staging / f"images{part}" / path.name) for path in plan.source.images[part][case]
            )
    for file in plan.label_files():
        new_values = file.new_values if (file.part, file.case) in plan.changing else None
        yield FileToWrite(file.path, staging / f"labels{file.part}" / file.path.name, new_values)


def _write_folds(plan: ScenarioPlan, staging: Path) -> None:
    (staging / SPLITS_NAME).unlink(missing_ok=True)
    if plan.splits:
        check_splits(list(plan.splits), plan.manifest, plan.training)
        write_json(staging / SPLITS_NAME, list(plan.splits))


def _made_with(plan: ScenarioPlan) -> dict[str, Any]:
    """Which files and options the scenario is made of: others start it afresh."""
    more = (f"labels{FULL_SUBSET}", FULL_MANIFEST_NAME, SPLITS_NAME)
    return {"command": "scenario", **_options(plan.options), "source": plan.source.file_hashes(*more)}


def _options(options: ScenarioOptions) -> dict[str, Any]:
    return {**asdict(options), "missing": list(options.missing)}


def _entry(plan: ScenarioPlan) -> dict[str, Any]:
    """What stands under 'scenario' in the manifest."""
    entry: dict[str, Any] = {"source": plan.source.name, **_options(plan.options), "counts": plan.counts()}
    if plan.not_measurable:
        entry["not_measurable"] = plan.not_measurable
    if plan.removed:
        entry["classes_removed"] = list(plan.removed)
    if plan.source.dataset.manifest.scenario:
        entry["source_scenario"] = dict(plan.source.dataset.manifest.scenario)
    return entry


def _weights(plan: ScenarioPlan) -> dict[str, float] | None:
    domains = {plan.manifest.labels_of(case).domain for case in plan.training}
    weights = plan.source.dataset.manifest.domain_weights or {}
    return {domain: weight for domain, weight in weights.items() if domain in domains} or None


def _about(plan: ScenarioPlan, name: str) -> dict[str, Any]:
    """Entries of dataset.json: those of the source, under the name of the scenario."""
    theirs = plan.source.dataset.dataset_json
    about = {key: value for key, value in theirs.items() if key not in _NOT_COPIED}
    if "licence" in theirs:
        about["license"] = theirs["licence"]
    hidden = ", ".join(f"{name} in {number}" for name, number in plan.counts()["hidden"].items())
    what = "left out" if plan.options.keep_only_complete else "hidden"
    about["dataset_name"] = name.partition("_")[2]
    about["description"] = f"{plan.source.name} with labels {what} on purpose ({hidden} cases); see {MANIFEST_NAME}"
    return about


def _summary(plan: ScenarioPlan) -> str:
    counts = plan.counts()
    where = f" of {plan.options.domain}" if plan.options.domain else ""
    text = f"{counts['patients_chosen']} of {counts['patients']} patients{where} chosen (seed {plan.options.seed}).\n"
    if plan.options.keep_only_complete:
        text += f"{counts['cases_left_out']} of their training cases left out, {counts['training_cases']} kept.\n"
    else:
        each = ", ".join(f"{name} in {number}" for name, number in counts["hidden"].items())
        text += f"Hidden: {each} training cases.\n"
    text += f"{counts['label_files_changed']} label file(s) in labelsTr written anew, all others linked.\n"
    for part, cases in (("training", plan.training), ("test", plan.test)):
        if cases:
            text += f"\nNumber of {part} cases per structure: annotated / absent / unknown\n"
            text += annotation_table(plan.manifest, plan.classes, cases)
    return text
