"""What a training reads before its first iteration: manifest, labels and split, each checked.

Did nnU-Net preprocess every case? One that was interrupted, or cases that came later, leave some out, and a training
would take the others for the whole data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.label_check import CACHE_NAME, cache_is_valid, check_label_files, write_cache
from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS, changed_labels, labels_of_images
from nnunet_partial.dataset.raw import RawDataset, dataset_id
from nnunet_partial.dataset.splits import (
    SPLITS_NAME,
    check_splits,
    make_splits,
    missing_patient_ids,
    test_split_message,
    training_cases_for_test,
)
from nnunet_partial.errors import DatasetError, ManifestError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, class_names, ignore_label, unused_cases, unused_groups
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import format_names


def open_raw_dataset(raw: Path | None) -> RawDataset | None:
    """The raw data set, where its label files are there to compare with; on a cluster it is often not."""
    if raw is None or not (raw / "dataset.json").exists():
        return None
    dataset = RawDataset(raw)
    listed = "dataset" in dataset.dataset_json  # nnU-Net then takes the files of each case from there
    return dataset if not listed and any((raw / "labelsTr").glob(f"*{dataset.file_ending}")) else None


def require_preprocessed(preprocessed: Path, raw: RawDataset | None, cases: Sequence[str], file_ending: str) -> None:
    """Raises DatasetError where the preprocessed `cases` are not those of the data set, in words what to do.

    The data set is what the raw folder holds, and without it what nnU-Net copied: the copies stay when a case is
    removed and all is preprocessed again, so more of them are no mistake where the raw folder can be asked.
    """
    again = f"nnUNetv2_plan_and_preprocess -d {dataset_id(preprocessed)}"
    copies = preprocessed / GT_SEGMENTATIONS
    if not copies.is_dir():
        raise DatasetError(f"{copies} does not exist: preprocessing did not end. Preprocess again: {again}")
    here = {path.name.removesuffix(file_ending) for path in copies.iterdir() if path.name.endswith(file_ending)}
    wanted, done = set(raw.label_files()) if raw else here, set(cases)
    if raw and wanted != done:
        wanted = set(labels_of_images(raw))  # twice the time, so only where it matters
    if wanted - done:
        removed = "" if raw else f"; or, if they were removed from the data set, delete their files in {copies}"
        raise DatasetError(
            f"{len(wanted - done)} case(s) are not preprocessed: {format_names(wanted - done)}. Preprocess again: "
            f"{again}{removed}"
        )
    if done - wanted and raw:
        raise DatasetError(
            f"{len(done - wanted)} preprocessed case(s) are not in {raw.folder / 'labelsTr'}: "
            f"{format_names(done - wanted)}. "
            f"Preprocess again: {again}"
        )
    if done - here:
        raise DatasetError(
            f"{copies} lacks {len(done - here)} case(s): {format_names(done - here)}. Preprocess again: {again}"
        )


def require_same_labels(preprocessed: Path, raw: RawDataset) -> None:
    """Raises DatasetError where a label file is not as it was preprocessed. Reads them all, unless they are links."""
    changed = changed_labels(labels_of_images(raw), preprocessed)
    if changed:
        raise DatasetError(
            f"The label files of {len(changed)} case(s) changed since {preprocessed.name} was preprocessed: "
            f"{format_names(changed)}. Delete {preprocessed / GT_SEGMENTATIONS}, of which nnU-Net renews "
            "only what is older, and "
            f"preprocess again: nnUNetv2_plan_and_preprocess -d {dataset_id(preprocessed)}"
        )


def check_entries(manifest: Manifest, raw: Path | None, cases: Sequence[str]) -> list[str]:
    """Raises ManifestError where a pattern or an entry of the manifest speaks of no case, as a mistyped one does.

    Without the raw folder, which has the test cases, nobody can tell: then it returns warnings for the user. What is
    declared to be of test cases is left out, they may be elsewhere.
    """
    warnings, dataset = _unused(manifest, cases), open_raw_dataset(raw)
    if not warnings or dataset is None:
        return warnings
    wrong = _unused(manifest, [*cases, *dataset.image_files("Tr"), *dataset.image_files("Ts")])
    if wrong:
        raise ManifestError(
            f"{MANIFEST_NAME}: {'; '.join(wrong)}. The cases that they were meant for may count as something else: "
            "correct the names in the raw and the preprocessed folder, or remove these entries."
        )
    return []


def _unused(manifest: Manifest, cases: Sequence[str]) -> list[str]:
    entries = unused_cases(manifest, cases, with_test=False)
    named = [f"{len(entries)} case(s) have an entry, but no image: {format_names(entries)}"] if entries else []
    return [*unused_groups(manifest, cases, with_test=False), *named]


def check_labels(
    preprocessed: Path,
    manifest: Manifest,
    dataset_json: Mapping[str, Any],
    cases: Sequence[str],
    processes: int,
    raw: Path | None = None,
) -> None:
    """Raises ManifestError where a case has no entry or a label file holds a class that its case does not declare, and
    DatasetError where the preprocessed `cases` or their labels are not those of the raw data set.

    Looking into every label file is slow, so a clean result is remembered until the manifest or a label file changes.
    """
    classes = class_names(dataset_json)
    manifest.require(cases, classes)
    ending, dataset = dataset_json["file_ending"], open_raw_dataset(raw)
    require_preprocessed(preprocessed, dataset, cases, ending)
    folder = preprocessed / GT_SEGMENTATIONS
    memory = (preprocessed / CACHE_NAME, preprocessed / MANIFEST_NAME, folder, ending, cases)
    raw_folder = dataset.folder / "labelsTr" if dataset else None
    if cache_is_valid(*memory, raw_folder):
        return
    if dataset:
        require_same_labels(preprocessed, dataset)
    files = {case: folder / f"{case}{ending}" for case in cases}
    check_label_files(files, manifest, classes, ignore_label(dataset_json), processes, progress=True)
    write_cache(*memory, raw_folder)


def prepare_splits(
    preprocessed: Path, raw: Path | None, manifest: Manifest, cases: Sequence[str], fold: int | str
) -> list[str]:
    """Makes sure that splits_final.json lies in the preprocessed folder, leaks no patient and has fold `fold`.

    Takes the raw folder's split where there is none yet, else makes one by patient. Returns warnings for the user.
    Raises SplitError, for fold "all" only where a case is declared to be a test case.
    """
    for_test = training_cases_for_test(manifest, cases)
    if for_test:
        raise SplitError(f"{test_split_message(for_test)}, and preprocess again.")
    if fold == "all":
        return []
    file = preprocessed / SPLITS_NAME
    warnings = missing_patient_ids(manifest, cases)
    if not file.exists():
        if raw is not None and (raw / SPLITS_NAME).exists():
            splits = read_json(raw / SPLITS_NAME, SplitError)
        else:
            splits, more = make_splits(manifest, cases)
            warnings += more
            if not splits:
                raise SplitError("; ".join(more) + ". Train with fold 'all', or add patients.")
        check_splits(splits, manifest, cases)
        write_json(file, splits)
    splits = read_json(file, SplitError)
    check_splits(splits, manifest, cases)
    if not 0 <= int(fold) < len(splits):
        raise SplitError(f"{file} has the folds 0 to {len(splits) - 1}; fold {fold} was asked for.")
    return warnings


def check_every_class_annotated(manifest: Manifest, classes: Sequence[str], training_cases: Sequence[str]) -> None:
    """Raises ManifestError for a class that no training case of the fold was annotated for.

    Nothing of it could be learnt; where it is only declared absent, that it is never there.
    """
    missing = manifest.classes_without_annotation(training_cases, classes)
    if missing:
        raise ManifestError(
            f"No training case of this fold was annotated for {format_names(missing)}. Remove the class from "
            "dataset.json and plan again, add cases in which it was annotated, or choose another split."
        )
