"""Make a dataset in which the labels of some structures are hidden in some patients, from one that has them.

The complete labels are kept in labelsTr_full, which nnU-Net never reads, so that predictions can be compared with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import SUBSETS, nnunet_folder, short_name
from nnunet_partial.dataset.splits import SPLITS_NAME, check_splits
from nnunet_partial.dataset.summary import annotation_states, annotation_table
from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_SUBSET, MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import write_json

from ..staging import refuse_existing, staged_dataset, write_metadata
from .files import FileToWrite, write_files
from .scenario_plan import ScenarioOptions, ScenarioPlan, plan_scenario

#: Entries of the source's dataset.json that are not copied: the scenario has its own. 'dataset' lists files of the
#: source, so that nnU-Net would train on the labels that are to be hidden; nnU-Net's generator writes a wrong
#: 'citation'.
_NOT_COPIED = (
    *("channel_names", "labels", "numTraining", "file_ending", "name", "description", "converted_by"),
    *("dataset", "modality", "citation", "regions_class_order"),
)


@dataclass(frozen=True)
class ScenarioResult:
    """Describe a scenario that was written.

    Attributes:
        folder: Its raw folder.
        summary: Text that says what was hidden.
        warnings: What the user should know, one line each.
    """

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
    """Make the new dataset nnUNet_raw/`name`: the source dataset with some labels hidden.

    Images, and labels that stay as they are, are hard links (copies where the file system has no links). The folds are
    those of the source.

    Args:
        source: Raw folder of the source dataset.
        name: Name of the new dataset, such as Dataset601_CAMUS_without_LA.
        options: What to hide, and in which patients.
        overwrite: Whether to replace an existing dataset of this name.
        processes: Number of processes that read and write files.
        progress: Whether to print the progress.

    Returns:
        The scenario.

    Raises:
        DatasetError: The scenario cannot be made, or the new dataset exists; nothing was written.
        SplitError: The folds of the source do not fit its cases, or share a patient; nothing was written.
    """
    if nnunet_folder("nnUNet_raw") / name == source:
        raise DatasetError(f"{name} is the source dataset of the scenario. Choose another id with -d.")
    refuse_existing(name, overwrite)
    plan = plan_scenario(source, options, processes, progress)
    with staged_dataset(name, _options_record(plan), overwrite) as staging:
        write_files(list(_files_to_write(plan, staging)), processes, progress)
        write_metadata(
            staging,
            Manifest(
                {**plan.manifest.cases, **plan.seen_without_image},
                scenario=_scenario_entry(plan),
                domain_weights=_domain_weights(plan),
                fill=plan.source.dataset.manifest.fill,
            ),
            plan.classes,
            channel_names=plan.source.channel_names,
            file_ending=plan.source.dataset.file_ending,
            ignore=plan.has_ignore,
            regions=plan.label_values.regions,
            **_dataset_json_entries(plan, name),
        )
        plan.full.write(staging / FULL_MANIFEST_NAME)
        _write_splits(plan, staging)
    return ScenarioResult(nnunet_folder("nnUNet_raw") / name, _summary(plan), plan.warnings)


def _files_to_write(plan: ScenarioPlan, staging: Path) -> Iterator[FileToWrite]:
    """List the images and labels of the scenario."""
    for subset, cases in zip(SUBSETS, (plan.training, plan.test), strict=True):
        yield from plan.source.images_to_write(subset, cases, staging)
    for file in plan.label_files():
        new_values = file.new_values if (file.part, file.case) in plan.changing else None
        yield FileToWrite(file.path, staging / f"labels{file.part}" / plan.source.label_name(file.case), new_values)


def _write_splits(plan: ScenarioPlan, staging: Path) -> None:
    (staging / SPLITS_NAME).unlink(missing_ok=True)
    if plan.splits:
        check_splits(list(plan.splits), plan.manifest, plan.training)
        write_json(staging / SPLITS_NAME, list(plan.splits), ascii_only=True)


def _options_record(plan: ScenarioPlan) -> dict[str, Any]:
    """Record the source files and options; an interrupted scenario is only resumed if they are the same."""
    more = (f"labels{FULL_SUBSET}", FULL_MANIFEST_NAME, SPLITS_NAME)
    return {"command": "scenario", **_options_json(plan.options), "source": plan.source.file_hashes(*more)}


def _options_json(options: ScenarioOptions) -> dict[str, Any]:
    return {**asdict(options), "missing": list(options.missing)}


def _scenario_entry(plan: ScenarioPlan) -> dict[str, Any]:
    """Build the entry 'scenario' of the manifest."""
    entry: dict[str, Any] = {"source": plan.source.name, **_options_json(plan.options), "counts": plan.counts()}
    if plan.not_measurable:
        entry["not_measurable"] = plan.not_measurable
    if plan.removed:
        entry["classes_removed"] = list(plan.removed)
    if plan.source.dataset.manifest.scenario:
        entry["source_scenario"] = dict(plan.source.dataset.manifest.scenario)
    return entry


def _domain_weights(plan: ScenarioPlan) -> dict[str, float] | None:
    """Copy the source's domain weights of the domains that still have training cases; None where there are none."""
    domains = {plan.manifest.labels_of(case).domain for case in plan.training}
    weights = plan.source.dataset.manifest.domain_weights or {}
    return {domain: weight for domain, weight in weights.items() if domain in domains} or None


def _dataset_json_entries(plan: ScenarioPlan, name: str) -> dict[str, Any]:
    """Build the entries of dataset.json: those of the source, with the name and description of the scenario."""
    source_json = plan.source.dataset.dataset_json
    entries = {key: value for key, value in source_json.items() if key not in _NOT_COPIED}
    hidden = ", ".join(f"{name} in {number}" for name, number in plan.counts()["hidden"].items())
    what = "left out" if plan.options.keep_only_complete else "hidden"
    if plan.label_values.has_regions:
        entries["regions_class_order"] = plan.label_values.regions_class_order
    if PSEUDO_LABELS_KEY in source_json:
        entries[PSEUDO_LABELS_KEY] = {**source_json[PSEUDO_LABELS_KEY], "dataset": name}
    entries["dataset_name"] = short_name(name)
    entries["description"] = f"{plan.source.name} with labels {what} on purpose ({hidden} cases); see {MANIFEST_NAME}"
    return entries


def _summary(plan: ScenarioPlan) -> str:
    """Say what was hidden, and how many cases are annotated for each structure."""
    counts = plan.counts()
    where = f" of {plan.options.domain}" if plan.options.domain else ""
    text = f"{counts['patients_chosen']} of {counts['patients']} patients{where} chosen (seed {plan.options.seed}).\n"
    if plan.options.keep_only_complete:
        text += f"{counts['cases_left_out']} of their training cases left out, {counts['training_cases']} kept.\n"
    else:
        each = ", ".join(f"{name} in {number}" for name, number in counts["hidden"].items())
        text += f"Hidden: {each} training cases.\n"
    text += f"{counts['label_files_changed']} label file(s) in labelsTr rewritten, all others linked.\n"
    for subset, cases in (("training", plan.training), ("test", plan.test)):
        if cases:
            text += f"\nNumber of {subset} cases per structure: {annotation_states(plan.manifest, cases)}\n"
            text += annotation_table(plan.manifest, plan.classes, cases)
    return text
