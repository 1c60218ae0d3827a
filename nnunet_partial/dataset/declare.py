"""Declare what was annotated in a dataset that is already in nnU-Net's format: check and write its manifest.

The manifest comes from a table, from patterns over case identifiers, or is inferred from the label files (see
`declare_sources`). It goes into the raw and, where it exists, the preprocessed folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from nnunet_partial.dataset.images import Geometry, ImageInfo, flat_volumes, header, inspect_image
from nnunet_partial.dataset.label_check import label_file_problem, never_present
from nnunet_partial.dataset.preprocessed import describe_stale_labels
from nnunet_partial.dataset.raw import SUBSETS, RawDataset, manifest_folders
from nnunet_partial.dataset.splits import (
    patient_warnings,
    patients_on_both_sides,
    split_findings,
    training_cases_for_test,
)
from nnunet_partial.dataset.summary import dataset_summary
from nnunet_partial.dataset_json import is_filled, stored_values
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_names


@dataclass(frozen=True)
class DatasetToDeclare:
    """Hold a dataset without a manifest. Every label file is read once, when it is first needed.

    Attributes:
        dataset: The raw dataset.
        processes: How many processes read files.
        progress: Whether to show progress bars.
    """

    dataset: RawDataset
    processes: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        """Check that there are training images, each with a label file, and that no case is also a test case.

        Raises:
            DatasetError: This is not so.
        """
        unlabeled = [case for case in self.training if case not in self.labels["Tr"]]
        if not self.training:
            raise DatasetError(f"{self.dataset.folder} has no training images in imagesTr.")
        if unlabeled:
            raise DatasetError(f"{len(unlabeled)} training image(s) without a label file: {format_names(unlabeled)}.")
        both = set(self.training) & set(self.test)
        if both:
            raise DatasetError(f"{len(both)} case(s) in imagesTr and in imagesTs: {format_names(both)}.")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Return the foreground classes, or regions, in the order of a network's outputs."""
        return self.dataset.structures

    @cached_property
    def images(self) -> dict[str, dict[str, list[Path]]]:
        """Return the image files by subset and case."""
        return {part: self.dataset.image_files(part) for part in SUBSETS}

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """Return the label files of the cases, by subset and case."""
        return {
            part: {case: path for case, path in self.dataset.label_files(part).items() if case in self.images[part]}
            for part in SUBSETS
        }

    @property
    def training(self) -> list[str]:
        """Return the training cases."""
        return list(self.images["Tr"])

    @property
    def test(self) -> list[str]:
        """Return the test cases."""
        return list(self.images["Ts"])

    @property
    def cases(self) -> list[str]:
        """Return all cases."""
        return [*self.training, *self.test]

    @property
    def without_labels(self) -> dict[str, CaseLabels]:
        """Return the entries of test images without a label file: annotated for nothing."""
        return {case: CaseLabels(()) for case in self.test if case not in self.labels["Ts"]}

    @cached_property
    def label_infos(self) -> Mapping[str, ImageInfo]:
        """Return what is in each label file, by case."""
        files = {**self.labels["Tr"], **self.labels["Ts"]}
        title = "reading the labels" if self.progress else None
        infos = parallel_map(partial(inspect_image, with_values=True), list(files.values()), self.processes, title)
        return dict(zip(files, infos, strict=True))

    def present_classes(self, case: str) -> set[str]:
        """Find the classes with a voxel in a label file; or the regions that the file shows.

        Voxels of a region inside another do not show the outer one: who annotated the ventricle alone did not annotate
        the epicardium around it. A value shows the region that lies inside all others with this value; and regions that
        are shown and together make up another one show it, as two lungs show "both lungs".

        Args:
            case: Case identifier.

        Returns:
            The names; empty where the case has no label file.
        """
        present = set(self.label_infos[case].values) if case in self.label_infos else set()
        stored = {name: set(values) for name, values in stored_values(self.classes, self.dataset.regions).items()}
        shown = {
            name
            for name, values in stored.items()
            if any(all(values <= other for other in stored.values() if value in other) for value in values & present)
        }
        for name, values in sorted(stored.items(), key=lambda item: len(item[1])):
            if values == set().union(*(stored[inner] for inner in shown if stored[inner] < values)):
                shown.add(name)
        return shown


@dataclass(frozen=True)
class DeclareResult:
    """Hold what `declare` wrote.

    Attributes:
        files: The manifest files.
        overview: Tables as text.
        warnings: What the user should know.
    """

    files: tuple[Path, ...]
    overview: str
    warnings: tuple[str, ...]


def declare(data: DatasetToDeclare, manifest: Manifest, overwrite: bool = False) -> DeclareResult:
    """Check a manifest and write it into the raw and, where it exists, the preprocessed folder of the dataset.

    Args:
        data: The dataset.
        manifest: Its manifest.
        overwrite: Whether to replace a manifest that exists.

    Returns:
        What was written, and warnings.

    Raises:
        ManifestError: Before anything is written: the manifest does not fit the dataset. A case has no entry, trains
            but is declared for testing or the other way round, has a class in its label file that is not declared, or
            a class is annotated in no training case. Also what `require_target` raises.
    """
    folder = data.dataset.folder
    require_target(folder, overwrite)
    manifest.require(data.cases, data.classes)
    require_declared_sides(manifest, data.training, data.test)
    ignore, regions = data.dataset.ignore_label, data.dataset.regions
    lines = [
        label_file_problem(case, info, manifest.find(case), data.classes, ignore, regions)
        for case, info in data.label_infos.items()
    ]
    problems = {case: line for case, line in zip(data.label_infos, lines, strict=True) if line}
    if problems:
        raise ManifestError(
            f"{len(problems)} label file(s) do not fit what was declared; nothing was written. "
            f"Correct the one or the other.{_more_in_test_cases(data, problems)}\n"
            + "\n".join(first_lines(list(problems.values())))
        )
    missing = manifest.classes_without_annotation(data.training, data.classes)
    if missing:
        raise ManifestError(
            f"No training case is annotated for {format_names(missing)}, so that it cannot be learned; nothing was "
            "written. Declare the cases in which it was annotated, or remove it from dataset.json."
        )
    files = write_manifest(manifest, folder)
    geometry = _geometry(data)
    overview = dataset_summary(manifest, data.classes, data.training, data.test, geometry)
    stored = stored_values(data.classes, regions)
    warnings = [
        *never_present(manifest, stored, {case: data.label_infos[case].values for case in data.training}),
        *flat_volumes({case: geometry[case] for case in data.training if case in geometry}),
        *_patient_leaks(manifest, data.training, data.test, manifest_folders(folder)),
    ]
    return DeclareResult(files, overview, tuple(warnings))


def _more_in_test_cases(data: DatasetToDeclare, problems: Iterable[str]) -> str:
    """Return what to do where test cases alone are annotated for more; "" where others do not fit, too."""
    if not set(problems) <= set(data.test):
        return ""
    return (
        " All of them are test cases. If these are annotated for more than the training cases, use --csv, or "
        "--from-masks, which looks at them apart; or give them a --match of their own before the others."
    )


def require_target(raw: Path, overwrite: bool) -> None:
    """Check, before a label file is read, that a manifest can be written.

    Args:
        raw: The raw folder.
        overwrite: Whether to replace a manifest that exists.

    Raises:
        ManifestError: There is a manifest already and `overwrite` is off, or a model filled the dataset.
        DatasetError: A folder is not writable, or the dataset was preprocessed with other label files. A manifest in
            the preprocessed folder would then declare a structure annotated that is background in the labels there.
    """
    folders = manifest_folders(raw)
    if is_filled(RawDataset(raw).dataset_json):
        raise ManifestError(
            f"{raw.name} was filled by a model: declared again, its pseudo-labels would count as annotated by a human. "
            "Declare the dataset that it was made from, and fill again."
        )
    existing = [folder / MANIFEST_NAME for folder in folders if (folder / MANIFEST_NAME).exists()]
    if existing and not overwrite:
        raise ManifestError(f"{existing[0]} exists. Replace it with --overwrite, or correct it by hand.")
    read_only = [folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    if read_only:
        raise DatasetError(
            f"{read_only[0]} is not writable; {MANIFEST_NAME} belongs there. Change its permissions, or work on a copy "
            "of the dataset."
        )
    for preprocessed in folders[1:]:
        difference = describe_stale_labels(raw, preprocessed)
        if difference:
            raise DatasetError(f"Nothing was written: {difference}. Then declare.")


def write_manifest(manifest: Manifest, raw: Path) -> tuple[Path, ...]:
    """Write the manifest into each of `manifest_folders`.

    Args:
        manifest: The manifest.
        raw: The raw folder.

    Returns:
        The files.

    Raises:
        DatasetError: A file cannot be written.
    """
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
    """Check that declared splits agree with the folders that hold the cases.

    Args:
        manifest: The manifest.
        training: Cases in imagesTr.
        test: Cases in imagesTs.

    Raises:
        ManifestError: A case of imagesTr is declared for testing, or one of imagesTs for training.
    """
    testing = training_cases_for_test(manifest, training)
    if testing:
        raise ManifestError(
            f"{len(testing)} training case(s) have split 'test': {format_names(testing)}; nothing was written. Move "
            "them to imagesTs and labelsTs, or change the entry."
        )
    trained = [case for case in test if manifest.labels_of(case).split in ("train", "val")]
    if trained:
        raise ManifestError(
            f"{len(trained)} case(s) of imagesTs have split 'train' or 'val': {format_names(trained)}; nothing was "
            "written. Move them to imagesTr and labelsTr, or change the entry."
        )


def _patient_leaks(
    manifest: Manifest, training: Sequence[str], test: Sequence[str], folders: Sequence[Path]
) -> list[str]:
    """Find patients who are on both sides.

    Args:
        manifest: The manifest.
        training: Cases in imagesTr.
        test: Cases in imagesTs.
        folders: Folders that may hold a splits_final.json.

    Returns:
        Warnings: patients in imagesTr and imagesTs, folds that leak, and patients without a name or perhaps with
        several; empty where there is none.
    """
    warnings = []
    both = patients_on_both_sides(manifest, training, test)
    if both:
        warnings.append(
            f"{len(both)} patient(s) have images in imagesTr and in imagesTs: {format_names(both)}. Results on the "
            "test images are then too good: move all images of a patient to one side"
        )
    return [*warnings, *split_findings(folders, manifest, training), *patient_warnings(manifest, training, test)]


def _geometry(data: DatasetToDeclare) -> dict[str, Geometry]:
    """Read the geometry of each image, as far as its header can be read."""
    first = {case: paths[0] for part in SUBSETS for case, paths in data.images[part].items()}
    title = "reading image headers" if data.progress else None
    headers = parallel_map(_header, list(first.values()), data.processes, title)
    return {case: geometry for case, geometry in zip(first, headers, strict=True) if geometry}


def _header(path: Path) -> Geometry | None:
    try:
        return header(path)
    except OSError:
        return None
