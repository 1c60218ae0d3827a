"""Read the datasets that a merge or a scenario starts from, and find what prevents it.

Only dataset.json, the manifests and the lists of files are read here; images and labels are read where a merge or a
scenario is planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from nnunet_partial.dataset.label_check import LabelFile, hash_files, hash_listed
from nnunet_partial.dataset.out_of_view import off_as_absent
from nnunet_partial.dataset.raw import SUBSETS, TIFF, RawDataset, short_name
from nnunet_partial.dataset.splits import test_split_message, training_cases_for_test
from nnunet_partial.dataset_json import channel_names, stored_values
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest, common_order, find_shared_patients
from nnunet_partial.utils.files import file_hash
from nnunet_partial.utils.text import format_names

from ..duplicates import patient_by_case
from .files import FileToWrite

#: Warning for a dataset made with `unknown_as_ignore` in which no training case is annotated for every class.
NO_BACKGROUND = (
    "every training case is partially labeled, so the ignore label has replaced all background: nnUNetTrainer would "
    "learn no background. Train with one of the trainers of this package, or add completely labeled cases"
)


@dataclass(frozen=True)
class InputDataset:
    """List the files and annotations of one source dataset once.

    Attributes:
        dataset: The raw dataset.
        prefix: What is put before each case identifier and file name, where another dataset has the same.
        renames: New name by name of a class, where another dataset means something else by it, or the same by another.
    """

    dataset: RawDataset
    prefix: str = ""
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the dataset, such as Dataset501_CAMUS."""
        return self.dataset.folder.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the foreground classes or regions in the order of the outputs, with their new names."""
        return tuple(self.renames.get(name, name) for name in self.dataset.structures)

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """Return the stored values of each class or region, by its new name."""
        return stored_values(self.classes, self.dataset.regions)

    @cached_property
    def images(self) -> dict[str, dict[str, list[Path]]]:
        """List the image files by subset ("Tr", "Ts") and case.

        Returns:
            For each subset, the image files (one per channel) of each case, sorted; empty where there are none.

        Raises:
            DatasetError: The images are TIFF volumes with their spacing in separate JSON files, which would be lost.
        """
        folders = {path.parent for paths in self.dataset.image_files().values() for path in paths}
        if self.dataset.file_ending in TIFF and any(path for folder in folders for path in folder.glob("*.json")):
            raise DatasetError(
                f"{self.name} keeps the spacing in json files beside the {self.dataset.file_ending} images; it would "
                "be lost. Convert the images to .nii.gz first."
            )
        return {
            subset: {self.prefix + case: paths for case, paths in self.dataset.image_files(subset).items()}
            for subset in SUBSETS
        }

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """Return the label file by subset ("Tr", "Ts") and case; empty where there are none."""
        return {subset: self.label_files(subset) for subset in SUBSETS}

    def label_files(self, subset: str) -> dict[str, Path]:
        """List the label files of a subset.

        Args:
            subset: "Tr", "Ts" or "Tr_full".

        Returns:
            Label file by case, empty where there are none.
        """
        return {self.prefix + case: path for case, path in self.dataset.label_files(subset).items()}

    def images_to_write(self, subset: str, cases: Iterable[str], staging: Path) -> Iterator[FileToWrite]:
        """List the images of a derived dataset, named as nnU-Net does, whatever the source calls them.

        Args:
            subset: "Tr" or "Ts".
            cases: Case identifiers.
            staging: Folder in which the derived dataset is built.

        Yields:
            Each image of each case.
        """
        for case in cases:
            for channel, path in enumerate(self.images[subset][case]):
                name = f"{case}_{channel:04d}{self.dataset.file_ending}"
                yield FileToWrite(path, staging / f"images{subset}" / name)

    def label_name(self, case: str) -> str:
        """Name the label file of a case as nnU-Net does."""
        return f"{case}{self.dataset.file_ending}"

    @property
    def cases(self) -> list[str]:
        """Return the identifiers of all cases that have an image, training cases first; empty where there are none."""
        return [case for subset in SUBSETS for case in self.images[subset]]

    @property
    def channel_names(self) -> dict[str, str]:
        """Return the channel names by their numbers ("0", "1", ...), in numeric order.

        Raises:
            DatasetError: As `channel_names` of `labels`.
        """
        return channel_names(self.dataset.dataset_json)

    @cached_property
    def entries(self) -> dict[str, CaseLabels]:
        """Return the manifest entry of each case, and of others that a filling model saw; empty without cases.

        Patterns are resolved to cases. A case without a domain gets the name of its dataset as domain.

        Raises:
            ManifestError: The manifest cannot be read, or a case has no entry in it.
        """
        domain = short_name(self.name)
        entries = {case: self.labels_of(case, self.dataset.manifest) for case in self.cases}
        entries |= self.seen_without_image
        return {case: labels if labels.domain else replace(labels, domain=domain) for case, labels in entries.items()}

    @property
    def seen_without_image(self) -> dict[str, CaseLabels]:
        """Return the entries of cases without an image that a filling model saw, by case; empty where there is none."""
        names = [case.removeprefix(self.prefix) for case in self.cases]
        others = Manifest(self.dataset.manifest.seen_without_image(names))
        return {self.prefix + name: self.labels_of(self.prefix + name, others) for name in others.cases}

    def find(self, case: str) -> CaseLabels | None:
        """Look up a case as `labels_of` does, in the manifest of the dataset; None where it has no entry."""
        has_entry = self.dataset.manifest.find(case.removeprefix(self.prefix)) is not None
        return self.labels_of(case, self.dataset.manifest) if has_entry else None

    def labels_of(self, case: str, manifest: Manifest) -> CaseLabels:
        """Look up a case in a manifest of the dataset, by the name that it has there; its classes have their new names.

        A case that gets a prefix stays the patient that it is by its old name: so it is not separated from a case of
        that name in another dataset, which may show the same person.

        Args:
            case: Case identifier.
            manifest: A manifest of the dataset.

        Returns:
            The entry.

        Raises:
            ManifestError: The case has no entry.
        """
        name = case.removeprefix(self.prefix)
        labels = manifest.labels_of(name)
        if self.renames:
            annotated, absent, pseudo = (
                tuple(self.renames.get(name, name) for name in names)
                for names in (labels.annotated, labels.absent, labels.pseudo)
            )
            labels = replace(labels, annotated=annotated, absent=absent, pseudo=pseudo)
        return replace(labels, patient=labels.patient or name) if self.prefix else labels

    def label_file(self, case: str, path: Path, manifest: Manifest) -> LabelFile:
        """Name a label file of a case and what it must fit.

        Args:
            case: Case identifier.
            path: The file.
            manifest: Says what the case is annotated for.

        Returns:
            The file with the entry of its case and the labels of the dataset.
        """
        dataset = self.dataset
        return LabelFile(case, path, manifest.find(case), self.classes, dataset.ignore_label, dataset.regions)

    def file_hashes(self, *more: str) -> dict[str, str]:
        """Hash the files of the dataset, so that a change is noticed.

        dataset.json and the manifest are hashed by content; folders of images and labels by the names, sizes and times
        of their files.

        Args:
            more: Names of further files or folders of the dataset; those that do not exist are skipped.

        Returns:
            The hash by name of the file or folder, and the name of the dataset under "name".
        """
        folder, hashes = self.dataset.folder, {"name": self.name}
        subfolders = [f"{kind}{subset}" for kind in ("images", "labels") for subset in SUBSETS]
        for name in ("dataset.json", MANIFEST_NAME, *subfolders, *more):
            if (folder / name).is_dir():
                hashes[name] = hash_files(folder / name, self.dataset.file_ending)
            elif (folder / name).exists():
                hashes[name] = file_hash(folder / name)
        if self.dataset.listed is not None:
            files = [path for images, label in self.dataset.listed.values() for path in (*images, label)]
            hashes["dataset"] = hash_listed({str(path): path for path in files})
        return hashes


def find_metadata_problems(source: InputDataset) -> list[str]:
    """Find what is wrong with the classes and channels of dataset.json and with the manifest, each on its own.

    Args:
        source: The dataset.

    Returns:
        One line per problem, beginning with the name of the dataset; empty where everything can be read.
    """
    problems: list[str] = []
    for read in (
        lambda: source.dataset.structures,
        lambda: source.channel_names,
        lambda: source.dataset.manifest,
    ):
        try:
            read()
        except PartialLabelError as problem:
            line = f"{source.name}: {problem}"
            if line not in problems:
                problems.append(line)
    return problems


def find_case_problems(source: InputDataset) -> list[str]:
    """Find images without labels, labels without images, and cases with a missing or wrong manifest entry.

    Args:
        source: The dataset, whose dataset.json and manifest can be read.

    Returns:
        One line per problem, beginning with the name of the dataset; empty where there is none.
    """
    problems = []
    images, labels, manifest = source.images, source.labels, source.dataset.manifest
    if not images["Tr"]:
        problems.append("no training images in imagesTr")
    unlabeled = set(images["Tr"]) - set(labels["Tr"])
    if unlabeled:
        problems.append(f"{len(unlabeled)} training image(s) without a label file: {format_names(unlabeled)}")
    others = [
        str(path)
        for case_images, label in (source.dataset.listed or {}).values()
        for path in (*case_images, label)
        if not path.name.endswith(source.dataset.file_ending) or not path.is_file()
    ]
    if others:
        problems.append(
            f"{len(others)} file(s) that dataset.json lists do not exist or do not end in "
            f"{source.dataset.file_ending}: {format_names(others)}"
        )
    for subset in SUBSETS:
        no_image = set(labels[subset]) - set(images[subset])
        if no_image:
            problems.append(
                f"{len(no_image)} label file(s) in labels{subset} without an image: {format_names(no_image)}"
            )
    in_both = set(images["Tr"]) & set(images["Ts"])
    if in_both:
        problems.append(f"{len(in_both)} case(s) in imagesTr and in imagesTs: {format_names(in_both)}")
    for_test = training_cases_for_test(manifest, list(images["Tr"]))
    if for_test:
        problems.append(test_split_message(for_test))
    problems += manifest.problems(source.cases, source.dataset.structures)
    problems += off_as_absent(manifest.entries_of(source.cases))
    return [f"{source.name}: {problem}" for problem in problems]


def find_conflicts(sources: Sequence[InputDataset]) -> list[str]:
    """Find where several datasets do not fit each other.

    Compared are file endings, channels, image readers, spellings of class names, case identifiers, and the patients on
    the training and test sides.

    Args:
        sources: The datasets to be merged, each of which is in order on its own.

    Returns:
        One line per conflict, with the names of the datasets; empty where there is none.
    """
    problems = []
    for what, values in (
        ("file endings", [source.dataset.file_ending for source in sources]),
        ("channels", [", ".join(source.channel_names.values()) for source in sources]),
        ("readers", [str(s.dataset.dataset_json.get("overwrite_image_reader_writer")) for s in sources]),
    ):
        if len(set(values)) > 1:
            each = "; ".join(f"{source.name}: {value}" for source, value in zip(sources, values, strict=True))
            problems.append(f"different {what}: {each}. Convert one of them so that they agree")
    problems += _similar_class_names(sources)
    problems += _shared_case_names(sources)
    problems += _patients_on_both_sides(sources)
    return problems + _shared_patients(sources)


def _shared_patients(sources: Sequence[InputDataset]) -> list[str]:
    """Find datasets of the same patients under different names, as the manifests say."""
    entries = {case: source.find(case) for source in sources for case in source.cases}
    return find_shared_patients({case: labels for case, labels in entries.items() if labels is not None})


def _similar_class_names(sources: Sequence[InputDataset]) -> list[str]:
    """Find class names that differ only in case or surrounding spaces."""
    spelled: dict[str, list[str]] = {}
    for name in common_order(name for source in sources for name in source.classes):
        spelled.setdefault(name.casefold().strip(), []).append(name)
    return [
        f"classes that differ in spelling only: {', '.join(names)}. Use one spelling in dataset.json and manifest, or "
        "--rename"
        for names in spelled.values()
        if len(names) > 1
    ]


def _shared_case_names(sources: Sequence[InputDataset]) -> list[str]:
    """Find case identifiers that several datasets use; capitals make no difference to disks of Windows and macOS."""
    owners: dict[str, list[tuple[str, str]]] = {}
    for source in sources:
        for case in (*source.cases, *source.seen_without_image):
            owners.setdefault(case.casefold(), []).append((source.name, case))
    shared: dict[tuple[str, ...], list[str]] = {}
    for named in owners.values():
        names = tuple(dict.fromkeys(name for name, _ in named))
        if len(names) > 1:
            shared.setdefault(names, []).append(" and ".join(dict.fromkeys(case for _, case in named)))
    return [
        f"{len(cases)} case(s) with the same identifier in {' and '.join(names)}: {format_names(cases)} (capitals do "
        "not count). Give those of one dataset a prefix: "
        f"--prefix {names[-1].partition('_')[0].removeprefix('Dataset')}:B_; or leave it out"
        for names, cases in shared.items()
    ]


def _patients_on_both_sides(sources: Sequence[InputDataset]) -> list[str]:
    """Find patients who are in the training data of one dataset and in the test data of the same or another one.

    Their test results would be too good: the network has seen these patients.
    """
    entries = [
        (source, subset, case, labels)
        for source in sources
        for subset in SUBSETS
        for case in source.images[subset]
        if (labels := source.find(case)) is not None
    ]
    patient_of = patient_by_case((case, labels) for _, _, case, labels in entries)
    sides: dict[str, dict[str, set[str]]] = {}
    for source, subset, case, labels in entries:
        side = "test" if subset == "Ts" or labels.split == "test" else "training"
        sides.setdefault(patient_of[labels.patient or case], {}).setdefault(source.name, set()).add(side)
    leaking: dict[str, list[str]] = {}
    for patient, by_source in sides.items():
        if len(set.union(*by_source.values())) > 1:
            where = ", ".join(f"{' and '.join(sorted(s))} in {name}" for name, s in by_source.items())
            leaking.setdefault(where, []).append(patient)
    return [
        f"{len(patients)} patient(s) on different sides of the official splits ({where}): {format_names(patients)}. "
        "Leave their cases out on one side; if they are different patients, give them different 'patient' entries"
        for where, patients in leaking.items()
    ]
