"""Check what a training reads before its first iteration: manifest, preprocessed cases, labels and split.

`TrainingData` is built once per start and reads each file once; its checks are called one after the other.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_pickle

from nnunet_partial.dataset.images import has_twin, inspect_image
from nnunet_partial.dataset.label_check import CACHE_NAME, LabelCache, LabelFile, check_label_files, hash_names
from nnunet_partial.dataset.out_of_view import off_as_absent
from nnunet_partial.dataset.preprocessed import GT_SEGMENTATIONS, changed_labels, read_manifest
from nnunet_partial.dataset.raw import RawDataset, dataset_id
from nnunet_partial.dataset.splits import (
    SPLITS_NAME,
    check_splits,
    left_out_cases,
    make_splits,
    patient_warnings,
    test_split_message,
    training_cases_for_test,
)
from nnunet_partial.dataset_json import ignore_label, region_values, stored_values, structure_names
from nnunet_partial.errors import DatasetError, ManifestError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, unused_cases, unused_groups
from nnunet_partial.training.run_record import TrainedOn
from nnunet_partial.utils.files import byte_order_mark, read_json, write_json
from nnunet_partial.utils.text import format_names


@dataclass(frozen=True, repr=False)
class TrainingData:
    """Hold the dataset that a training starts on, read once.

    Args:
        preprocessed: The dataset's folder in nnUNet_preprocessed.
        raw_folder: Its folder in nnUNet_raw, which may be missing; None where nnUNet_raw is not set.
        raw: The raw dataset, where its label files are there to compare with; else None.
        raw_labels: Its label files by case; empty without it.
        dataset_json: Content of the preprocessed dataset.json.
        manifest: Which classes each case is annotated for.
        cases: Identifiers of the preprocessed cases.
        label_contents: Hash of each label file by case, as `check_labels` gives it; empty before.
        training_cases: Those of the fold; empty before `with_fold`.
        validation_cases: Those of the fold; empty before `with_fold`.
    """

    preprocessed: Path
    raw_folder: Path | None
    raw: RawDataset | None
    raw_labels: Mapping[str, Path]
    dataset_json: Mapping[str, Any]
    manifest: Manifest
    cases: tuple[str, ...]
    label_contents: Mapping[str, str] = field(default_factory=dict)
    training_cases: tuple[str, ...] = ()
    validation_cases: tuple[str, ...] = ()

    @classmethod
    def from_folders(
        cls, preprocessed: Path, raw_folder: Path | None, dataset_json: Mapping[str, Any], cases: Sequence[str]
    ) -> TrainingData:
        """Read the manifest and open the raw dataset.

        Args:
            preprocessed: The dataset's folder in nnUNet_preprocessed. The manifest is copied to it from the raw folder
                where it is not there yet.
            raw_folder: Its folder in nnUNet_raw, which may be missing; None where nnUNet_raw is not set.
            dataset_json: Content of the preprocessed dataset.json.
            cases: Identifiers of the preprocessed cases.

        Returns:
            The data, not checked yet.

        Raises:
            ManifestError: There is no manifest, it is broken, or the raw and the preprocessed one differ.
            DatasetError: The raw dataset.json is broken.
        """
        manifest = read_manifest(preprocessed, raw_folder)
        raw = RawDataset(raw_folder) if raw_folder is not None and (raw_folder / "dataset.json").exists() else None
        raw_labels = raw.label_files() if raw else {}  # on a cluster they often are not there
        return cls(
            preprocessed,
            raw_folder,
            raw if raw_labels else None,
            raw_labels,
            dataset_json,
            manifest,
            tuple(cases),
        )

    def __repr__(self) -> str:
        # nnU-Net writes str() of a trainer's attributes beside the model, which must list no patient.
        return f"TrainingData({self.preprocessed.name}, {len(self.cases)} cases)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes, or regions, in the order of the network's outputs."""
        return structure_names(self.dataset_json)

    @cached_property
    def trained_on(self) -> TrainedOn:
        """What stands beside a checkpoint of the fold, by which it is known again; it names no case."""
        entries = [self.manifest.labels_of(case) for case in self.training_cases]
        contents = [f"{case} {self.label_contents[case]}" for case in self.training_cases if self.label_contents]
        return TrainedOn(
            hash_names(self.training_cases),
            self.manifest.content_hash,
            {name: sum(name in labels.annotated for labels in entries) for name in self.classes},
            {name: sum(name in labels.absent for labels in entries) for name in self.classes},
            self.manifest.domain_weights,
            {name: count for name in self.classes if (count := sum(name in labels.pseudo for labels in entries))},
            hash_names(contents) if contents else None,
        )

    def with_fold(self, training_cases: Sequence[str], validation_cases: Sequence[str]) -> TrainingData:
        """Add the cases of a fold.

        Args:
            training_cases: Identifiers, as nnU-Net's `do_split` gives them.
            validation_cases: Identifiers, likewise.

        Returns:
            The same data with these cases.
        """
        return replace(self, training_cases=tuple(training_cases), validation_cases=tuple(validation_cases))

    # ---- the checks, in this order ---------------------------------------------------------------------------------

    def check_entries(self) -> list[str]:
        """Check that the manifest speaks of cases that exist, and speaks the truth of those of Unity.

        Without the raw folder, which has the test cases, an entry without a case cannot be told from that of a test
        case. What is declared to be of test cases is left out; they may be elsewhere.

        Returns:
            Warnings for the user; empty where all is well.

        Raises:
            ManifestError: A pattern or an entry names no case, as a mistyped one does, or cases of Unity were converted
                by an earlier version, which took unlabeled structures for absent.
        """
        wrong = off_as_absent(self.manifest.entries_of(self.cases))
        if wrong:
            raise ManifestError(f"{MANIFEST_NAME}: {'; '.join(wrong)}.")
        warnings = _unused_entries(self.manifest, self.cases)
        if not warnings or self.raw is None:
            return warnings
        wrong = _unused_entries(self.manifest, [*self.cases, *self.raw.image_files("Tr"), *self.raw.image_files("Ts")])
        if wrong:
            raise ManifestError(
                f"{MANIFEST_NAME}: {'; '.join(wrong)}. The cases that they were meant for may count as something else: "
                "correct the names in the raw and the preprocessed folder, or remove these entries."
            )
        return []

    def check_labels(self, processes: int) -> TrainingData:
        """Check that the preprocessed cases and labels are those of the dataset, and are what the manifest declares.

        Looking into every label file is slow, so a clean result is cached until the manifest or a label file changes.

        Args:
            processes: Number of processes that read label files.

        Returns:
            The same data with `label_contents`.

        Raises:
            ManifestError: A case has no entry, or its label file holds a class that it does not declare annotated.
            DatasetError: The preprocessed cases or their labels are not those of the raw dataset.
        """
        _refuse_hidden_files(self.preprocessed, self.cases)
        self.manifest.require(self.cases, self.classes)
        ending = self.dataset_json["file_ending"]
        _check_all_preprocessed(self, ending)
        if self.raw:
            _refuse_twins(self.raw, self.preprocessed)
        folder = self.preprocessed / GT_SEGMENTATIONS
        cache = LabelCache(
            self.preprocessed / CACHE_NAME,
            self.preprocessed / MANIFEST_NAME,
            folder,
            ending,
            self.cases,
            self.raw_labels,
        )
        if cache.is_valid():
            return replace(self, label_contents=cache.contents)
        _check_labels_unchanged(self, ending)
        labels = tuple(self.classes), ignore_label(self.dataset_json), region_values(self.dataset_json)
        files = [LabelFile(case, folder / f"{case}{ending}", self.manifest.find(case), *labels) for case in self.cases]
        check_label_files(files, processes)
        cache.write()
        return replace(self, label_contents=cache.contents)

    def check_configuration(self, folder: Path) -> None:
        """Check that the preprocessed cases of a configuration are not of older labels than its neighbors.

        nnU-Net renews the copies of the label files with whichever configuration is preprocessed again; the data of the
        others stay, and a structure annotated since is background in them. Where label files are newer than their
        preprocessed cases, it is compared which classes both hold.

        Args:
            folder: Where nnU-Net keeps the preprocessed cases of the configuration.

        Raises:
            DatasetError: A class is in newer label files and in none of their preprocessed cases, or the other way
                round.
        """
        copies, ending = self.preprocessed / GT_SEGMENTATIONS, self.dataset_json["file_ending"]
        pairs = [(copies / f"{case}{ending}", folder / f"{case}.pkl") for case in self.cases]
        newer = [pair for pair in pairs if pair[1].exists() and pair[0].stat().st_mtime > pair[1].stat().st_mtime]
        compared = newer[:: -(-len(newer) // _MAX_COMPARED) or 1]  # all are newer where somebody copied them since
        stored = stored_values(self.classes, region_values(self.dataset_json))
        held: dict[str, list[bool]] = {name: [False, False] for name in stored}
        for label, record in compared:
            values = set(inspect_image(label, with_values=True).values)
            sampled = load_pickle(str(record))["class_locations"]  # by value, of regions by their values
            for name, own in stored.items():
                held[name][0] |= not values.isdisjoint(own)
                held[name][1] |= any(len(sampled.get(key, ())) for key in (tuple(own), *(own if len(own) == 1 else ())))
        changed = [name for name, (in_labels, preprocessed) in held.items() if in_labels != preprocessed]
        if changed:
            raise DatasetError(
                f"{folder} was preprocessed with other label files: {len(newer)} of them are newer now and differ in "
                f"{format_names(changed)}. Preprocess this configuration again, with its plans: nnUNetv2_preprocess -d "
                f"{dataset_id(self.preprocessed)}"
            )

    def prepare_splits(self, fold: int | str) -> list[str]:
        """Make sure that splits_final.json lies in the preprocessed folder, leaks no patient and has the fold.

        Takes the raw folder's split where there is none yet, else makes one by patient.

        Args:
            fold: Number of the fold, or "all", for which no split is needed.

        Returns:
            Warnings for the user; empty where all is well.

        Raises:
            SplitError: The split leaks, forgets a case or lacks the fold, none can be made, or a training case is
                declared to be a test case (for fold "all", too), or left out for fold "all", which has every case.
        """
        for_test = training_cases_for_test(self.manifest, self.cases)
        if for_test:
            raise SplitError(f"{test_split_message(for_test)}, and preprocess again.")
        left_out = left_out_cases(self.manifest, self.cases)
        if fold == "all" and left_out:
            raise SplitError(
                f"Fold all trains on every case, and {len(left_out)} are declared left_out in {MANIFEST_NAME}: "
                f"{format_names(left_out)}. Train another fold, or take the cases out of the dataset."
            )
        if fold == "all":
            return []
        file = self.preprocessed / SPLITS_NAME
        source = self.raw_folder / SPLITS_NAME if self.raw_folder is not None else None
        warnings = patient_warnings(self.manifest, self.cases)
        is_new = not file.exists()
        if not is_new:
            marked = byte_order_mark(file)
            if marked:
                raise SplitError(f"{marked}, or delete it.")
            splits = read_json(file, SplitError)
        elif source is not None and source.exists():
            splits = read_json(source, SplitError)
        else:
            splits, made = make_splits(self.manifest, self.cases)
            warnings += made
            if not splits:
                raise SplitError("; ".join(made) + ". Train with fold 'all', or add patients.")
        check_splits(splits, self.manifest, self.cases)
        if is_new:
            write_json(file, splits, ascii_only=True)
        if not 0 <= int(fold) < len(splits):
            raise SplitError(f"{file} has the folds 0 to {len(splits) - 1}; fold {fold} was asked for.")
        return warnings

    def check_every_class_annotated(self) -> None:
        """Check that each class is annotated in a training case of the fold, or filled there by a model.

        Otherwise nothing of it could be learned; where it is only declared absent, that it is never there.

        Raises:
            ManifestError: A class is annotated in none of them.
        """
        missing = self.manifest.classes_without_annotation(self.training_cases, self.classes, with_pseudo=True)
        if missing:
            raise ManifestError(
                f"No training case of this fold was annotated for {format_names(missing)}. Remove the class from "
                "dataset.json and plan again, add cases that are annotated for it, or choose another split."
            )


#: So many label files that are newer than their preprocessed cases are read at most.
_MAX_COMPARED = 200


def _refuse_hidden_files(preprocessed: Path, cases: Sequence[str]) -> None:
    """Refuse preprocessed files that a Mac has left when it copied, which nnU-Net takes for cases.

    Raises:
        DatasetError: There are some.
    """
    hidden = [case for case in cases if case.startswith(".")]
    if hidden:
        raise DatasetError(
            f"{len(hidden)} hidden file(s) in {preprocessed} would be taken for cases: {format_names(hidden)}. Delete "
            f"them: find {shlex.quote(str(preprocessed))} -name '._*' -type f -delete"
        )


def _refuse_twins(raw: RawDataset, preprocessed: Path) -> None:
    """Refuse a raw dataset in which nnU-Net's reader has taken the pixels of another file; see `has_twin`.

    Raises:
        DatasetError: There are such files.
    """
    if raw.file_ending.lower() != ".nii.gz":
        return
    twins: list[str] = []
    for folder in (raw.folder / "imagesTr", raw.folder / "labelsTr"):
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        twins += [f"{folder.name}/{name}" for name in names if has_twin(name, names)]
    if twins:
        raise DatasetError(
            f"{len(twins)} file(s) in {raw.folder} are there twice, once not compressed (.nii), and nnU-Net has read "
            f"the pixels of those: {format_names(twins)}. Remove the wrong ones and preprocess again: "
            f"nnUNetv2_plan_and_preprocess -d {dataset_id(preprocessed)}"
        )


def require_wide_patch(patch_size: Sequence[int], configuration: str) -> None:
    """Refuse a 2-D patch that is one pixel wide, as nnU-Net plans it for volumes of one slice thinner than a pixel.

    Args:
        patch_size: Of the configuration, in pixels.
        configuration: Its name.

    Raises:
        DatasetError: The patch is a line.
    """
    if len(patch_size) == 2 and min(patch_size) <= 1:
        raise DatasetError(
            f"The configuration {configuration} has patches of {patch_size[0]} x {patch_size[1]} pixels: lines, so "
            "that the network would never see an image. nnU-Net plans them for volumes of one slice whose spacing is "
            "not largest across the slice. Enlarge that spacing in images and labels, as `nnunet_partial check` says, "
            "and plan again."
        )


def _unused_entries(manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """Return a line for each pattern without a case, and one for all entries without an image."""
    entries = unused_cases(manifest, cases, with_test=False)
    named = [f"{len(entries)} case(s) have an entry, but no image: {format_names(entries)}"] if entries else []
    return [*unused_groups(manifest, cases, with_test=False), *named]


def _check_all_preprocessed(data: TrainingData, file_ending: str) -> None:
    """Check that the preprocessed cases are those of the dataset.

    A preprocessing that was interrupted, or cases that were added later, would leave some out unseen. The dataset is
    what the raw folder holds, and without it what nnU-Net copied: the copies stay when a case is removed and all is
    preprocessed again, so more of them are no mistake where there is a raw folder.

    Raises:
        DatasetError: Cases are missing, or there are too many.
    """
    raw, again = data.raw, f"nnUNetv2_plan_and_preprocess -d {dataset_id(data.preprocessed)}"
    copies = data.preprocessed / GT_SEGMENTATIONS
    if not copies.is_dir():
        raise DatasetError(f"{copies} does not exist: preprocessing did not end. Preprocess again: {again}")
    copied = {path.name.removesuffix(file_ending) for path in copies.iterdir() if path.name.endswith(file_ending)}
    expected, done = set(data.raw_labels) if raw else copied, set(data.cases)
    if raw and expected != done:
        expected &= raw.image_files().keys()  # as for nnU-Net; takes twice the time, so only where it matters
    if expected - done:
        removed = "" if raw else f"; or, if they were removed from the dataset, delete their files in {copies}"
        raise DatasetError(
            f"{len(expected - done)} case(s) are not preprocessed: {format_names(expected - done)}. Preprocess again: "
            f"{again}{removed}"
        )
    if done - expected and raw:
        raise DatasetError(
            f"{len(done - expected)} preprocessed case(s) are not in {raw.folder / 'labelsTr'}: "
            f"{format_names(done - expected)}. Preprocess again: {again}"
        )
    if done - copied:
        raise DatasetError(
            f"{copies} lacks {len(done - copied)} case(s): {format_names(done - copied)}. Preprocess again: {again}"
        )


def _check_labels_unchanged(data: TrainingData, file_ending: str) -> None:
    """Check that raw label files are as they were preprocessed; reads all of them that are not links.

    Raises:
        DatasetError: Some are not.
    """
    preprocessed = data.preprocessed
    labels = {case: data.raw_labels[case] for case in data.cases if case in data.raw_labels}
    changed = changed_labels(labels, preprocessed, file_ending)
    if changed:
        raise DatasetError(
            f"The label files of {len(changed)} case(s) changed since {preprocessed.name} was preprocessed: "
            f"{format_names(changed)}. Delete {preprocessed / GT_SEGMENTATIONS}, of which nnU-Net renews only what is "
            f"older, and preprocess again: nnUNetv2_plan_and_preprocess -d {dataset_id(preprocessed)}"
        )
