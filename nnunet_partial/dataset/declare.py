"""Saying what was annotated in a data set that is in nnU-Net's format already: its `partial_labels.json`, checked.

The answer comes from a table, from patterns over the names of the cases, or is guessed from the label files.

Where the manifest of a data set goes, the raw and the preprocessed folder, and what speaks against writing it.

Who trains and who is tested: what was declared, against the folders in which the cases and the folds lie.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from nnunet_partial.dataset.images import Geometry, ImageInfo, header, inspect_image
from nnunet_partial.dataset.label_check import label_file_problem
from nnunet_partial.dataset.preprocessed import describe_stale_labels
from nnunet_partial.dataset.raw import SUBSETS, RawDataset, manifest_folders
from nnunet_partial.dataset.splits import missing_patient_ids, split_findings, training_cases_for_test
from nnunet_partial.dataset.summary import dataset_summary
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_names


def require_target(raw: Path, overwrite: bool) -> None:
    """Raises what can be said before a label file is read.

    ManifestError: there is a manifest already and `overwrite` is off. DatasetError: a folder may not be written to, or
    the data set was preprocessed with other label files. In the latter case a manifest in the preprocessed folder
    would say that training knows a structure that is background in the labels it reads.
    """
    folders = manifest_folders(raw)
    existing = [folder / MANIFEST_NAME for folder in folders if (folder / MANIFEST_NAME).exists()]
    if existing and not overwrite:
        raise ManifestError(f"{existing[0]} exists. Replace it with --overwrite, or correct it by hand.")
    closed = [folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    if closed:
        raise DatasetError(
            f"Nothing may be written into {closed[0]}, where {MANIFEST_NAME} belongs. Have that allowed, or declare a "
            "copy of the data set."
        )
    for preprocessed in folders[1:]:
        difference = describe_stale_labels(raw, preprocessed)
        if difference:
            raise DatasetError(f"Nothing was written: {difference}. Then declare.")


def write_manifest(manifest: Manifest, raw: Path) -> tuple[Path, ...]:
    """Write the manifest into each of `manifest_folders` and return the files. Raises DatasetError where it cannot."""
    files = tuple(folder / MANIFEST_NAME for folder in manifest_folders(raw))
    for file in files:
        try:
            manifest.write(file)
        except OSError as problem:
            raise DatasetError(
                f"{file} cannot be written: {problem.strerror}. Is the disk full or write-protected?"
            ) from problem
    return files


def require_declared_sides(manifest: Manifest, training: Sequence[str], test: Sequence[str]) -> None:
    """Raises ManifestError where a case of imagesTr was declared for testing, or one of imagesTs for training."""
    testing = training_cases_for_test(manifest, training)
    if testing:
        raise ManifestError(
            f"{len(testing)} training case(s) have split 'test': {format_names(testing)}; nothing was "
            "written. Move them to "
            "imagesTs and labelsTs, or change the entry."
        )
    trained = [case for case in test if manifest.labels_of(case).split in ("train", "val")]
    if trained:
        raise ManifestError(
            f"{len(trained)} case(s) of imagesTs have split 'train' or 'val': {format_names(trained)}; "
            "nothing was written. "
            "Move them to imagesTr and labelsTr, or change the entry."
        )


def leaks(manifest: Manifest, training: Sequence[str], test: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Warnings: patients who are on both sides, in imagesTr and imagesTs or in the folds in one of `folders`, and that
    no case names its patient, so that nobody can tell."""
    found = []
    both = {manifest.patient_of(case) for case in training} & {manifest.patient_of(case) for case in test}
    if both:
        found.append(
            f"{len(both)} patient(s) have images in imagesTr and in imagesTs: {format_names(both)}. What is "
            "measured on the "
            "test images is then too good: move all images of a patient to one side"
        )
    return [*found, *split_findings(folders, manifest, training), *missing_patient_ids(manifest, training)]


@dataclass(frozen=True)
class DatasetToDeclare:
    """A data set about which nothing is declared yet. Every label file is read once, when it is first asked about.

    Raises DatasetError where the data set is region-based, has no training images, or images without labels.
    """

    dataset: RawDataset
    processes: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        unlabelled = [case for case in self.training if case not in self.labels["Tr"]]
        if not self.training:
            raise DatasetError(f"{self.dataset.folder} has no training images in imagesTr.")
        if unlabelled:
            raise DatasetError(f"{len(unlabelled)} training image(s) without a label file: {format_names(unlabelled)}.")
        twice = set(self.training) & set(self.test)
        if twice:
            raise DatasetError(f"{len(twice)} case(s) in imagesTr and in imagesTs: {format_names(twice)}.")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @cached_property
    def images(self) -> dict[str, dict[str, list[Path]]]:
        return {part: self.dataset.image_files(part) for part in SUBSETS}

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """Label files of the cases, by part and case."""
        return {
            part: {case: path for case, path in self.dataset.label_files(part).items() if case in self.images[part]}
            for part in SUBSETS
        }

    @property
    def training(self) -> list[str]:
        return list(self.images["Tr"])

    @property
    def test(self) -> list[str]:
        return list(self.images["Ts"])

    @property
    def cases(self) -> list[str]:
        return [*self.training, *self.test]

    @property
    def without_labels(self) -> dict[str, CaseLabels]:
        """Test images that nobody drew anything in: the entries that need no asking."""
        return {case: CaseLabels(()) for case in self.test if case not in self.labels["Ts"]}

    @cached_property
    def facts(self) -> Mapping[str, ImageInfo]:
        """What is in each label file, by case."""
        files = {**self.labels["Tr"], **self.labels["Ts"]}
        title = "looking into the labels" if self.progress else None
        seen = parallel_map(partial(inspect_image, with_values=True), list(files.values()), self.processes, title)
        return dict(zip(files, seen, strict=True))

    def drawn(self, case: str) -> set[str]:
        """The classes with a voxel in the label file of the case."""
        values = set(self.facts[case].values) if case in self.facts else set()
        return {name for value, name in enumerate(self.classes, start=1) if value in values}


@dataclass(frozen=True)
class DeclareResult:
    """What was written: the files, the tables as text, and what the user should know."""

    files: tuple[Path, ...]
    overview: str
    warnings: tuple[str, ...]


def declare(data: DatasetToDeclare, manifest: Manifest, overwrite: bool = False) -> DeclareResult:
    """Writes the manifest into the raw folder and, where there is one, the preprocessed folder of the data set.

    Raises ManifestError, before anything is written, where the manifest does not fit the data set: a case without
    entry, a case that trains but is declared for testing or the other way round, a class that is drawn in a case but
    not declared, a class that no training case is annotated for; and what `require_target` raises.
    """
    folder = data.dataset.folder
    require_target(folder, overwrite)
    manifest.require(data.cases, data.classes)
    require_declared_sides(manifest, data.training, data.test)
    ignore = data.dataset.ignore_label
    lines = [label_file_problem(c, info, manifest.find(c), data.classes, ignore) for c, info in data.facts.items()]
    problems = [line for line in lines if line]
    if problems:
        raise ManifestError(
            f"{len(problems)} label file(s) do not fit what was declared; nothing was written. "
            "Correct the one or the other.\n" + "\n".join(first_lines(problems))
        )
    missing = manifest.classes_without_annotation(data.training, data.classes)
    if missing:
        raise ManifestError(
            f"No training case is annotated for {format_names(missing)}, so that it cannot be learned; nothing was "
            "written. Declare the cases in which it was annotated, or remove it from dataset.json."
        )
    files = write_manifest(manifest, folder)
    table = dataset_summary(manifest, data.classes, data.training, data.test, _geometry(data))
    return DeclareResult(files, table, tuple(leaks(manifest, data.training, data.test, manifest_folders(folder))))


def _geometry(data: DatasetToDeclare) -> dict[str, Geometry]:
    """The geometry of each image, as far as its header can be read."""
    first = {case: paths[0] for part in SUBSETS for case, paths in data.images[part].items()}
    title = "reading image headers" if data.progress else None
    read = parallel_map(_header, list(first.values()), data.processes, title)
    return {case: geometry for case, geometry in zip(first, read, strict=True) if geometry}


def _header(path: Path) -> Geometry | None:
    try:
        return header(path)
    except OSError:
        return None
