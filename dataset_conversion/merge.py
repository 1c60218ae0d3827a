"""Several data sets become one, in which each case still knows only what its own data set knew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.domain_sampling import square_root_weights
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_PART, Manifest
from nnunet_partial.overview import overview, scale_warning
from nnunet_partial.raw_dataset import nnunet_folder
from nnunet_partial.utils.parallel import in_parallel

from .bring import File, bring
from .merge_full import complete_labels
from .merge_plan import Plan, make_plan
from .merge_source import PARTS
from .publish import refuse_existing, staged_dataset, write_metadata


@dataclass(frozen=True)
class Merged:
    """A merged data set: where it lies, its tables as text, and what the user should know.

    `weights`: with which probability training draws from each domain; None where every case is as likely.
    """

    folder: Path
    overview: str
    warnings: tuple[str, ...]
    weights: dict[str, float] | None = None


def merge(
    folders: Sequence[Path],
    name: str,
    *,
    unknown_as_ignore: bool = False,
    balance: bool = False,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> Merged:
    """Writes the data set nnUNet_raw/`name` with all cases of the raw data sets in `folders`.

    Classes are the union, in the common order LV, MYO, LA, RV, RA, others behind them, an ignore label last. Images are
    hard-linked (copied where the file system cannot), labels too unless their numbers change. `unknown_as_ignore`: the
    background of training cases that do not know every class becomes nnU-Net's ignore label. `balance`: weights are
    written by which training draws from each domain, like the square root of its number of training cases. What a
    scenario among them hid comes along in labelsTr_full, which holds the complete labels of all then. Raises
    DatasetError, before anything is written, where the data sets do not fit together.
    """
    if nnunet_folder("nnUNet_raw") / name in folders:
        raise DatasetError(f"{name} is one of the data sets to be merged. Choose another id for the result with -d.")
    refuse_existing(name, overwrite)
    plan = make_plan(folders, processes, progress, unknown_as_ignore)
    complete = complete_labels(plan, processes, progress)
    weights, remarks = _weights(plan, balance)
    with staged_dataset(name, _made_with(plan, balance), overwrite) as staging:
        files = [*_files(plan, staging), *(complete.files(plan, staging) if complete else ())]
        for _ in in_parallel(bring, files, processes, "linking and relabelling" if progress else None):
            pass
        warnings = write_metadata(
            staging,
            Manifest(plan.manifest.cases, scenario=_scenarios(plan), domain_weights=weights),
            plan.classes,
            channel_names=plan.sources[0].channel_names,
            file_ending=plan.sources[0].dataset.file_ending,
            ignore=plan.has_ignore,
            **_about(plan, name),
        )
        if complete:
            complete.manifest.write(staging / FULL_MANIFEST_NAME)
    training, test = ([case for s in plan.sources for case in s.images[part]] for part in PARTS)
    scale = scale_warning(plan.manifest, [*training, *test], plan.geometry)
    return Merged(
        nnunet_folder("nnUNet_raw") / name,
        overview(plan.manifest, plan.classes, training, test, plan.geometry),
        (*plan.warnings, *remarks, *([scale] if scale else []), *warnings),
        weights,
    )


def _files(plan: Plan, staging: Path) -> Iterator[File]:
    for source in plan.sources:
        for part in PARTS:
            for paths in source.images[part].values():
                yield from (File(path, staging / f"images{part}" / path.name) for path in paths)
            for case, path in source.labels[part].items():
                new_values = plan.new_values(source, case) if case in plan.changing else None
                yield File(path, staging / f"labels{part}" / path.name, new_values)


def _weights(plan: Plan, balance: bool) -> tuple[dict[str, float] | None, list[str]]:
    """How likely training draws from each domain, None for every case equally often; and what the user should know."""
    if not balance:
        return None, [
            f"{source.name}: its domain weights do not hold for the merged data set; left out (--balance makes new)"
            for source in plan.sources
            if source.dataset.manifest.domain_weights
        ]
    sizes = Counter(plan.manifest.labels_of(case).domain for source in plan.sources for case in source.images["Tr"])
    if len(sizes) < 2:
        return None, [f"--balance has nothing to balance: every training case is of the domain {next(iter(sizes))}"]
    return square_root_weights(sizes), []


def _made_with(plan: Plan, balance: bool) -> dict[str, Any]:
    """Which files the merge is made of: another selection or a changed file starts it afresh."""
    return {
        "command": "merge",
        "sources": [source.stamp(f"labels{FULL_PART}", FULL_MANIFEST_NAME) for source in plan.sources],
        "unknown_as_ignore": plan.unknown_as_ignore,
        "balance": balance,
    }


def _scenarios(plan: Plan) -> dict[str, Any] | None:
    """The scenarios of the sources, by data set; None where there are none."""
    found = {s.name: dict(s.dataset.manifest.scenario) for s in plan.sources if s.dataset.manifest.scenario}
    return found or None


def _about(plan: Plan, name: str) -> dict[str, Any]:
    """Entries of dataset.json: where the data came from, and each source's terms and references."""
    about: dict[str, Any] = {
        "dataset_name": name.partition("_")[2],
        "description": "Merged from " + ", ".join(source.name for source in plan.sources),
    }
    for ours, theirs in (("license", "licence"), ("reference", "reference")):
        each = [f"{s.name}: {s.dataset.dataset_json[theirs]}" for s in plan.sources if theirs in s.dataset.dataset_json]
        if each:
            about[ours] = "; ".join(each)
    reader = plan.sources[0].dataset.dataset_json.get("overwrite_image_reader_writer")
    if reader:
        about["overwrite_image_reader_writer"] = reader
    return about
