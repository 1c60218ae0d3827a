"""Preprocesses a scenario with the plans, and as far as possible the preprocessed files, of the data set it came from.

A scenario differs from its source in some label files only. nnU-Net would plan and preprocess every image again; here
the plans are taken over, cases whose image and label files are the same are linked, and only the others go through
nnU-Net's own preprocessing. All scenarios of a source then also have the same network and pixel size, as a fair
comparison wants.
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
from nnunet_partial.utils.files import link_or_copy, read_json, same_bytes
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names

#: What nnU-Net writes for a case: image, labels, properties (where the foreground lies, how it was cropped).
_IMAGE, _ENDINGS = ".b2nd", (".b2nd", "_seg.b2nd", ".pkl")
_FINGERPRINT = "dataset_fingerprint.json"
#: Normalisations that take numbers from the labels, so that the source's plans know what a scenario hides.
_FROM_LABELS = "CTNormalization"


@dataclass(frozen=True)
class PreprocessResult:
    """How many cases were linked, and how many went through nnU-Net's preprocessing."""

    linked: int
    preprocessed: int


@dataclass(frozen=True)
class _Pair:
    """Preprocessed folders of scenario and source, the files of each case of the scenario, and the cases whose files
    are the same in the source."""

    target: Path
    origin: Path
    files: dict[str, list[Path]]
    same: frozenset[str]
    dataset_json: dict[str, Any]


@dataclass(frozen=True)
class _CasePaths:
    """Plain data, for other processes. `files`: images, then labels; `target`, `source`: without their endings."""

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
    """Preprocesses the raw data set `scenario` like `source`, which nnU-Net has preprocessed. Both are raw folders.

    Plans that use the same preprocessed data (nnU-Net's residual ones and its default) share it. What was preprocessed
    of the scenario is replaced. Raises DatasetError where the scenario was not made from the source, where the source
    lacks plans or preprocessed cases, or changed since, or where its plans hold numbers that come from
    labels which the scenario hides (CT normalisation).
    """
    _require_origin(scenario, source)
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
    changed = describe_stale_labels(source, nnunet_folder("nnUNet_preprocessed") / source.name)
    if changed:
        raise DatasetError(changed[0].upper() + changed[1:])
    for plans_name in plans_names:
        _move_plans(source.name, scenario.name, plans_name)
    pair = _pair(scenario, source, files)
    done = [_share(pair, folder, *with_plans, processes, progress) for folder, with_plans in folders.items()]
    _keep_beside(scenario, source)
    return PreprocessResult(sum(shared.linked for shared in done), sum(shared.preprocessed for shared in done))


def _pair(scenario: Path, source: Path, files: dict[str, list[Path]]) -> _Pair:
    preprocessed, old = nnunet_folder("nnUNet_preprocessed"), _files(RawDataset(source))
    dataset_json = dict(RawDataset(scenario).dataset_json)
    # with an ignore label that the source lacks, nnU-Net notes other places to draw patches from
    alike = dataset_json["labels"] == RawDataset(source).dataset_json["labels"]
    same = frozenset(case for case, ours in files.items() if alike and _same(ours, old.get(case, [])))
    return _Pair(preprocessed / scenario.name, preprocessed / source.name, files, same, dataset_json)


def _share(
    pair: _Pair, folder: str, plans_name: str, configuration: str, processes: int, progress: bool
) -> PreprocessResult:
    """One folder of preprocessed cases: links what is the same, preprocesses the rest.

    Made out of sight: an interrupted run leaves no folder that lacks cases, on which a training would start.
    """
    origin, final, target = pair.origin / folder, pair.target / folder, pair.target / f".building_{folder}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in (f"{case}{ending}" for case in pair.same for ending in _ENDINGS):
        link_or_copy(origin / name, target / name)
    plans = pair.target / f"{plans_name}.json"
    changed = [
        _CasePaths([str(path) for path in files], target / case, origin / case, plans, configuration, pair.dataset_json)
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
    made_from = (RawDataset(scenario).manifest.scenario or {}).get("source")
    if made_from != source.name:
        raise DatasetError(
            f"{scenario.name} was not made from {source.name} (its manifest says: {made_from or 'no scenario'}). Give "
            "the data set it was made from, or preprocess it with nnUNetv2_plan_and_preprocess."
        )


def _require_plans(file: Path, configuration: str) -> dict[str, Any]:
    if not file.exists():
        raise DatasetError(f"{file} does not exist. First: nnUNetv2_plan_and_preprocess -d {dataset_id(file.parent)}")
    plans: dict[str, Any] = read_json(file, DatasetError)
    if configuration not in plans["configurations"]:
        raise DatasetError(
            f"{file} has no configuration {configuration!r}; there: {format_names(set(plans['configurations']))}"
        )
    if _FROM_LABELS in inherited(plans, configuration, "normalization_schemes"):
        raise DatasetError(
            f"{file} normalises intensities by what lies under the labels ({_FROM_LABELS}), those included that the "
            "scenario hides. Use nnUNetv2_plan_and_preprocess for this scenario."
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
            f"{folder} lacks {len(missing)} preprocessed case(s): {format_names(missing)}. Preprocess the "
            "source first: "
            "nnUNetv2_preprocess (with nnU-Net's default file format)."
        )


def _files(dataset: RawDataset) -> dict[str, list[Path]]:
    """The image files and, last, the label file of each training case."""
    images = dataset.image_files()
    return {case: [*images[case], label] for case, label in dataset.label_files().items()}


def _same(ours: Sequence[Path], theirs: Sequence[Path]) -> bool:
    """Whether all files hold the same bytes; links are the same file."""
    return len(ours) == len(theirs) and all(map(same_bytes, ours, theirs))


def _same_content(ours: Path, theirs: Path) -> bool:
    """Whether two folders hold the same files, and nothing else. A folder that is not there holds none."""
    names = sorted(path.name for path in theirs.iterdir())
    return (
        ours.is_dir()
        and sorted(path.name for path in ours.iterdir()) == names
        and _same([ours / name for name in names], [theirs / name for name in names])
    )


def _preprocess(case: _CasePaths) -> None:
    """nnU-Net's own preprocessing; the image comes out as in the source, and is then a link to that."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(str(case.plans))
    configuration = plans.get_configuration(case.configuration)
    preprocessor = configuration.preprocessor_class(verbose=False)
    *images, label = case.files
    preprocessor.run_case_save(str(case.target), images, label, plans, configuration, case.dataset_json)
    image, original = Path(f"{case.target}{_IMAGE}"), Path(f"{case.source}{_IMAGE}")
    if same_bytes(image, original):
        link_or_copy(original, image)


def _keep_beside(scenario: Path, source: Path) -> None:
    """What nnU-Net's training wants beside the cases: dataset.json, the fingerprint, the labels to validate with.

    Left alone where it is right: further plans may come while others are trained.
    """
    target = nnunet_folder("nnUNet_preprocessed") / scenario.name
    for original in (scenario / "dataset.json", target.parent / source.name / _FINGERPRINT):
        if not (target / original.name).exists() or not same_bytes(original, target / original.name):
            shutil.copyfile(original, target / original.name)
    labels, kept = list(RawDataset(scenario).label_files().values()), target / GT_SEGMENTATIONS
    names = {path.name for path in kept.iterdir()} if kept.exists() else None
    if names == {path.name for path in labels} and _same(labels, [kept / path.name for path in labels]):
        return
    shutil.rmtree(kept, ignore_errors=True)
    for path in labels:
        link_or_copy(path, kept / path.name)
