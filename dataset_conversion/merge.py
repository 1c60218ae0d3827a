"""Several data sets become one, in which each case still knows only what its own data set knew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.errors import DatasetError
from nnunet_partial.files import link_or_copy
from nnunet_partial.label_check import files_sum
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.overview import overview, scale_warning
from nnunet_partial.parallel import in_parallel
from nnunet_partial.raw_dataset import nnunet_folder

from .merge_plan import Plan, make_plan
from .merge_source import PARTS, Source
from .publish import staged_dataset, write_metadata
from .relabel import relabel


@dataclass(frozen=True)
class Merged:
    """A merged data set: where it lies, its tables as text, and what the user should know."""

    folder: Path
    overview: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """One file to bring along; `new_values` is None where it stays as it is."""

    source: Path
    target: Path
    new_values: Mapping[int, int] | None = None


def merge(
    folders: Sequence[Path], name: str, *, overwrite: bool = False, processes: int = 1, progress: bool = False
) -> Merged:
    """Writes the data set nnUNet_raw/`name` with all cases of the raw data sets in `folders`.

    Classes are the union, in the common order LV, MYO, LA, RV, RA, others behind them, an ignore label last. Images are
    hard-linked (copied where the file system cannot), labels too unless their numbers change. Raises DatasetError,
    before anything is written, where the data sets do not fit together.
    """
    if nnunet_folder("nnUNet_raw") / name in folders:
        raise DatasetError(f"{name} is one of the data sets to be merged. Choose another id for the result with -d.")
    plan = make_plan(folders, processes, progress)
    with staged_dataset(name, _made_with(plan), overwrite) as staging:
        files = list(_files(plan, staging))
        for _ in in_parallel(_bring, files, processes, "linking and relabelling" if progress else None):
            pass
        warnings = write_metadata(
            staging,
            Manifest(plan.manifest.cases, scenario=_scenarios(plan)),
            plan.classes,
            channel_names=plan.sources[0].channel_names,
            file_ending=plan.sources[0].dataset.file_ending,
            ignore=plan.has_ignore,
            **_about(plan, name),
        )
    training, test = ([case for s in plan.sources for case in s.images[part]] for part in PARTS)
    scale = scale_warning(plan.manifest, [*training, *test], plan.geometry)
    return Merged(
        nnunet_folder("nnUNet_raw") / name,
        overview(plan.manifest, plan.classes, training, test, plan.geometry),
        (*plan.warnings, *([scale] if scale else []), *warnings),
    )


def _files(plan: Plan, staging: Path) -> Iterator[_File]:
    for source in plan.sources:
        new_values = plan.new_values(source)
        for part in PARTS:
            for paths in source.images[part].values():
                yield from (_File(path, staging / f"images{part}" / path.name) for path in paths)
            for case, path in source.labels[part].items():
                target = staging / f"labels{part}" / path.name
                yield _File(path, target, new_values if case in plan.changing else None)


def _bring(file: _File) -> None:
    """What an interrupted run left is whole and of these very sources (see `_made_with`): it stays."""
    if file.target.exists():
        return
    if file.new_values is None:
        link_or_copy(file.source, file.target)
    else:
        relabel(file.source, file.target, file.new_values)


def _made_with(plan: Plan) -> dict[str, Any]:
    """Which files the merge is made of: another selection or a changed file starts it afresh."""
    return {"command": "merge", "sources": [_stamp(source) for source in plan.sources]}


def _stamp(source: Source) -> dict[str, Any]:
    folder, ending = source.dataset.folder, source.dataset.file_ending
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("dataset.json", MANIFEST_NAME)}
    for kind in ("images", "labels"):
        for part in PARTS:
            if (folder / f"{kind}{part}").is_dir():
                sums[f"{kind}{part}"] = files_sum(folder / f"{kind}{part}", ending)
    return {"name": source.name, **sums}


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
