"""Preprocess a scenario with the plans and, as far as possible, the preprocessed files of the dataset it was made from.

A filled dataset is one, too: other label files, the same images.

A scenario differs from its source in some label files only. nnU-Net would plan and preprocess every image again; here
the plans are reused, cases whose image and label files are the same are linked, and only the others go through
nnU-Net's own preprocessing. All scenarios of a source then also have the same network and spacing, as a fair comparison
needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.plans import inherited
from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS, describe_stale_labels
from nnunet_partial.dataset.raw import RawDataset, dataset_id, nnunet_folder
from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.files import byte_order_mark, files_of_users, link_or_copy, read_json, same_bytes
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names

#: What nnU-Net writes for a case: image, labels, properties (where the foreground lies, how it was cropped).
_IMAGE_ENDING, _ENDINGS = ".b2nd", (".b2nd", "_seg.b2nd", ".pkl")
_FINGERPRINT = "dataset_fingerprint.json"
#: A normalization whose statistics come from the labels, so that the source's plans depend on what a scenario hides.
_LABEL_NORMALIZATION = "CTNormalization"


@dataclass(frozen=True)
class PreprocessResult:
    """Count cases, summed over configurations.

    Attributes:
        linked: Cases that were linked to the source's.
        preprocessed: Cases that went through nnU-Net's preprocessing.
    """

    linked: int
    preprocessed: int


@dataclass(frozen=True)
class _Pair:
    """Hold a scenario and its source, for which only some cases differ.

    `target`, `origin`: preprocessed folders of scenario and source; `files`: those of each case of the scenario;
    `same`: cases whose files are the same in the source.
    """

    target: Path
    origin: Path
    files: dict[str, list[Path]]
    same: frozenset[str]
    dataset_json: dict[str, Any]


@dataclass(frozen=True)
class _CaseToPreprocess:
    """Hold the files of one case, for worker processes.

    `files`: images, then labels; `target`, `source`: preprocessed, without their endings.
    """

    files: list[str]
    target: Path
    source: Path
    plans: Path
    configuration: str
    dataset_json: dict[str, Any]


def preprocess_like(
    scenario: Path,
    source: Path,
    configurations: Sequence[str],
    plans_names: Sequence[str],
    processes: int = 1,
    progress: bool = False,
) -> PreprocessResult:
    """Preprocess a scenario like its source, which nnU-Net has preprocessed.

    Plans that use the same preprocessed data (nnU-Net's residual ones and its default) share it. What was preprocessed
    of the scenario before is replaced.

    Args:
        scenario: Raw folder of the scenario.
        source: Raw folder of the dataset that it was made from.
        configurations: Names of nnU-Net's configurations, such as 2d.
        plans_names: Names of plans files, such as nnUNetPlans.
        processes: How many processes preprocess.
        progress: Whether to show a progress bar.

    Returns:
        How many cases were linked and preprocessed.

    Raises:
        DatasetError: The scenario was not made from the source; the source lacks plans or preprocessed cases, or
            changed since; or its plans hold statistics of labels that the scenario hides (CT normalization).
    """
    _require_origin(scenario, source)
    marked = byte_order_mark(scenario / "dataset.json")
    if marked:
        raise DatasetError(f"{marked}.")
    folders: dict[str, tuple[str, str]] = {}
    for plans_name in plans_names:
        for configuration in configurations:
            plans = _require_plans(
                nnunet_folder("nnUNet_preprocessed") / source.name / f"{plans_name}.json", configuration
            )
            folders.setdefault(_data_identifier(plans, configuration), (plans_name, configuration))
    files = _files(RawDataset(scenario))
    for folder in folders:
        _require_preprocessed(nnunet_folder("nnUNet_preprocessed") / source.name / folder, list(files))
    stale = describe_stale_labels(source, nnunet_folder("nnUNet_preprocessed") / source.name)
    if stale:
        raise DatasetError(stale[0].upper() + stale[1:])
    for plans_name in plans_names:
        _move_plans(source.name, scenario.name, plans_name)
    pair = _pair(scenario, source, files)
    results = [_share(pair, folder, *with_plans, processes, progress) for folder, with_plans in folders.items()]
    _copy_shared_files(scenario, source)
    return PreprocessResult(sum(one.linked for one in results), sum(one.preprocessed for one in results))


def _pair(scenario: Path, source: Path, files: dict[str, list[Path]]) -> _Pair:
    preprocessed, source_files = nnunet_folder("nnUNet_preprocessed"), _files(RawDataset(source))
    dataset_json = dict(RawDataset(scenario).dataset_json)
    # with an ignore label that the source lacks, nnU-Net stores other locations to sample patches from
    same_labels = dataset_json["labels"] == RawDataset(source).dataset_json["labels"]
    same = frozenset(case for case, paths in files.items() if same_labels and _same(paths, source_files.get(case, [])))
    return _Pair(preprocessed / scenario.name, preprocessed / source.name, files, same, dataset_json)


def _share(
    pair: _Pair, folder: str, plans_name: str, configuration: str, processes: int, progress: bool
) -> PreprocessResult:
    """Fill one folder of preprocessed cases: link what is the same, preprocess the rest.

    The folder is built under another name: an interrupted run leaves none that lacks cases, on which training would
    start.

    Returns:
        How many cases were linked and preprocessed.
    """
    origin, final, target = pair.origin / folder, pair.target / folder, pair.target / f".building_{folder}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in (f"{case}{ending}" for case in pair.same for ending in _ENDINGS):
        link_or_copy(origin / name, target / name)
    plans = pair.target / f"{plans_name}.json"
    changed = [
        _CaseToPreprocess(
            [str(path) for path in files], target / case, origin / case, plans, configuration, pair.dataset_json
        )
        for case, files in pair.files.items()
        if case not in pair.same
    ]
    for _ in parallel_map(_preprocess, changed, processes, "preprocessing what changed" if progress else None):
        pass
    if _same_content(final, target):  # others may be training on it, as further plans share it
        shutil.rmtree(target)
    else:
        shutil.rmtree(final, ignore_errors=True)
        target.rename(final)
    return PreprocessResult(len(pair.same), len(changed))


def _require_origin(scenario: Path, source: Path) -> None:
    manifest = RawDataset(scenario).manifest
    made_from = [str(made["source"]) for made in (manifest.scenario, manifest.fill) if made and "source" in made]
    if source.name not in made_from:
        raise DatasetError(
            f"{scenario.name} was not made from {source.name} (its manifest says: "
            f"{format_names(made_from) if made_from else 'no scenario'}). Give "
            "the dataset it was made from, or preprocess it with nnUNetv2_plan_and_preprocess."
        )


def _require_plans(file: Path, configuration: str) -> dict[str, Any]:
    if not file.exists():
        raise DatasetError(f"{file} does not exist. First: nnUNetv2_plan_and_preprocess -d {dataset_id(file.parent)}")
    marked = byte_order_mark(file)
    if marked:
        raise DatasetError(f"{marked}.")
    plans: dict[str, Any] = read_json(file, DatasetError)
    if configuration not in plans["configurations"]:
        raise DatasetError(
            f"{file} has no configuration {configuration!r}; there: {format_names(set(plans['configurations']))}"
        )
    if _LABEL_NORMALIZATION in inherited(plans, configuration, "normalization_schemes"):
        raise DatasetError(
            f"{file} normalizes intensities by statistics under the labels ({_LABEL_NORMALIZATION}), also those that "
            "the scenario hides. Use nnUNetv2_plan_and_preprocess for this scenario."
        )
    return plans


def _data_identifier(plans: dict[str, Any], configuration: str) -> str:
    return str(inherited(plans, configuration, "data_identifier"))


def _move_plans(source: str, target: str, plans_name: str) -> None:
    from nnunetv2.experiment_planning.plans_for_pretraining.move_plans_between_datasets import (
        move_plans_between_datasets,
    )

    (nnunet_folder("nnUNet_preprocessed") / target).mkdir(parents=True, exist_ok=True)
    move_plans_between_datasets(source, target, plans_name)


def _require_preprocessed(folder: Path, cases: Sequence[str]) -> None:
    missing = {case for case in cases if not all((folder / f"{case}{ending}").exists() for ending in _ENDINGS)}
    if missing:
        raise DatasetError(
            f"{folder} lacks {len(missing)} preprocessed case(s): {format_names(missing)}. Preprocess the source "
            "first: nnUNetv2_preprocess (with nnU-Net's default file format)."
        )


def _files(dataset: RawDataset) -> dict[str, list[Path]]:
    """List the image files and, last, the label file of each training case."""
    images = dataset.image_files()
    return {case: [*images[case], label] for case, label in dataset.label_files().items()}


def _same(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Tell whether all files hold the same bytes; links are the same file."""
    return len(files) == len(others) and all(map(same_bytes, files, others))


def _same_content(folder: Path, other: Path) -> bool:
    """Tell whether two folders hold the same files, and nothing else. `folder` may be missing."""
    names = [path.name for path in files_of_users(other)]
    return (
        folder.is_dir()
        and [path.name for path in files_of_users(folder)] == names
        and _same([folder / name for name in names], [other / name for name in names])
    )


def _preprocess(case: _CaseToPreprocess) -> None:
    """Run nnU-Net's own preprocessing; an image that comes out as in the source becomes a link to that."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(str(case.plans))
    configuration = plans.get_configuration(case.configuration)
    preprocessor = configuration.preprocessor_class(verbose=False)
    *images, label = case.files
    preprocessor.run_case_save(str(case.target), images, label, plans, configuration, case.dataset_json)
    image, original = Path(f"{case.target}{_IMAGE_ENDING}"), Path(f"{case.source}{_IMAGE_ENDING}")
    if same_bytes(image, original):
        link_or_copy(original, image)


def _copy_shared_files(scenario: Path, source: Path) -> None:
    """Copy what nnU-Net's training needs beside the cases: dataset.json, the fingerprint, the labels to validate with.

    Files that are right stay untouched: plans may be added while others are trained.
    """
    target = nnunet_folder("nnUNet_preprocessed") / scenario.name
    for original in (scenario / "dataset.json", target.parent / source.name / _FINGERPRINT):
        if not (target / original.name).exists() or not same_bytes(original, target / original.name):
            shutil.copyfile(original, target / original.name)
    dataset, copies = RawDataset(scenario), target / GT_SEGMENTATIONS
    labels = {f"{case}{dataset.file_ending}": path for case, path in dataset.label_files().items()}
    names = {path.name for path in files_of_users(copies)} if copies.exists() else None
    if names == set(labels) and _same(list(labels.values()), [copies / name for name in labels]):
        return
    shutil.rmtree(copies, ignore_errors=True)
    for name, path in labels.items():
        link_or_copy(path, copies / name)
