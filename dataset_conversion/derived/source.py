"""One of the data sets that a merge brings together: its files, channels and what each of its cases knows.

What speaks against merging data sets, as dataset.json, the manifests and the lists of files show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nnunet_partial.dataset.label_check import hash_files
from nnunet_partial.dataset.out_of_view import off_as_absent
from nnunet_partial.dataset.raw import TIFF, RawDataset
from nnunet_partial.dataset.splits import test_split_message, training_cases_for_test
from nnunet_partial.errors import DatasetError, PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, common_order, find_shared_patients
from nnunet_partial.utils.text import format_names

from ..duplicates import patient_by_case

#: What `unknown_as_ignore` may lead to.
NO_BACKGROUND = (
    "every training case is partially labelled, so the ignore label has replaced all background: nnUNetTrainer would "
    "learn no background. Train with one of the trainers of this package, or add completely labelled cases"
)


SUBSETS = ("Tr", "Ts")
_KINDS = ("images", "labels")


@dataclass(frozen=True)
class InputDataset:
    """One data set to be merged, with its files listed once."""

    dataset: RawDataset

    @property
    def name(self) -> str:
        return self.dataset.folder.name

    @cached_property
    def images(self) -> dict[str, dict[str, list[Path]]]:
        """Image files by part ("Tr", "Ts") and case.

        Raises DatasetError for TIFF volumes with their pixel sizes in files of their own, which would be lost.
        """
        if self.dataset.file_ending in TIFF and any((self.dataset.folder / "imagesTr").glob("*.json")):
            raise DatasetError(
                f"{self.name} keeps its pixel sizes in json files beside the {self.dataset.file_ending} images; they "
                "would be lost. Convert the images to .nii.gz first."
            )
        return {part: self.dataset.image_files(part) for part in SUBSETS}

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """Label file by part ("Tr", "Ts") and case."""
        return {part: self.dataset.label_files(part) for part in SUBSETS}

    @property
    def cases(self) -> list[str]:
        return [case for part in SUBSETS for case in self.images[part]]

    @property
    def channel_names(self) -> dict[str, str]:
        names = self.dataset.dataset_json.get("channel_names")
        if not isinstance(names, dict) or not names:
            raise DatasetError('dataset.json has no \'channel_names\'; expected an object such as {"0": "ultrasound"}.')
        if not all(str(index).isdecimal() for index in names):
            raise DatasetError(f"dataset.json has the 'channel_names' {names}; expected numbers as keys: 0, 1, ...")
        return {str(index): str(names[index]) for index in sorted(names, key=int)}

    @cached_property
    def entries(self) -> dict[str, CaseLabels]:
        """What each case knows: patterns resolved to cases; a case without a domain gets the name of its data set."""
        domain = self.name.partition("_")[2] or self.name
        found = {case: self.dataset.manifest.labels_of(case) for case in self.cases}
        return {case: labels if labels.domain else replace(labels, domain=domain) for case, labels in found.items()}

    def stamp(self, *more: str) -> dict[str, str]:
        """Sums by which a changed file is noticed: content of dataset.json and manifest, names, sizes and times of
        images and labels. `more`: further files or folders of the data set, as far as they are there."""
        folder, sums = self.dataset.folder, {"name": self.name}
        for name in ("dataset.json", MANIFEST_NAME, *(f"{kind}{part}" for kind in _KINDS for part in SUBSETS), *more):
            if (folder / name).is_dir():
                sums[name] = hash_files(folder / name, self.dataset.file_ending)
            elif (folder / name).exists():
                sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        return sums


def lacks_a_class(labels: CaseLabels, classes: Sequence[str]) -> bool:
    """Whether some class is unknown in the case, so that its background may belong to that class."""
    return not labels.known.issuperset(classes)


def unreadable(source: InputDataset) -> list[str]:
    """What is wrong with dataset.json and the manifest of one data set, each on its own."""
    found = []
    for read in (
        lambda: source.dataset.classes,
        lambda: source.channel_names,
        lambda: source.dataset.manifest,
    ):
        try:
            read()
        except PartialLabelError as problem:
            if f"{source.name}: {problem}" not in found:
                found.append(f"{source.name}: {problem}")
    return found


def incomplete(source: InputDataset) -> list[str]:
    """Images without labels, labels without images, cases without entry or with a wrong one: as lists of files and
    the manifest show it."""
    found = []
    images, labels = source.images, source.labels
    if not images["Tr"]:
        found.append(f"{source.name}: no training images in imagesTr")
    unlabelled = set(images["Tr"]) - set(labels["Tr"])
    if unlabelled:
        found.append(
            f"{source.name}: {len(unlabelled)} training image(s) without a label file: {format_names(unlabelled)}"
        )
    for part in SUBSETS:
        alone = set(labels[part]) - set(images[part])
        if alone:
            found.append(
                f"{source.name}: {len(alone)} label file(s) in labels{part} without an image: {format_names(alone)}"
            )
    twice = set(images["Tr"]) & set(images["Ts"])
    if twice:
        found.append(f"{source.name}: {len(twice)} case(s) in imagesTr and in imagesTs: {format_names(twice)}")
    for_test = training_cases_for_test(source.dataset.manifest, list(images["Tr"]))
    if for_test:
        found.append(f"{source.name}: {test_split_message(for_test)}")
    manifest = source.dataset.manifest
    found += [f"{source.name}: {p}" for p in manifest.problems(source.cases, source.dataset.classes)]
    entries = {case: entry for case in source.cases if (entry := manifest.find(case))}
    return found + [f"{source.name}: {p}" for p in off_as_absent(entries)]


def conflicts(sources: Sequence[InputDataset]) -> list[str]:
    """Where the data sets do not fit each other, as dataset.json, manifests and the lists of files show it."""
    found = []
    for what, values in (
        ("file endings", [source.dataset.file_ending for source in sources]),
        ("channels", [", ".join(source.channel_names.values()) for source in sources]),
        ("readers", [str(s.dataset.dataset_json.get("overwrite_image_reader_writer")) for s in sources]),
    ):
        if len(set(values)) > 1:
            each = "; ".join(f"{source.name}: {value}" for source, value in zip(sources, values, strict=True))
            found.append(f"different {what}: {each}. Convert one of them so that they agree")
    found += _alike_names(sources)
    return found + _same_cases(sources) + _patients_on_both_sides(sources) + _people_under_other_names(sources)


def _people_under_other_names(sources: Sequence[InputDataset]) -> list[str]:
    """Data sets of the same people who are named differently, as the manifests say."""
    entries = {case: source.dataset.manifest.find(case) for source in sources for case in source.cases}
    return find_shared_patients({case: labels for case, labels in entries.items() if labels is not None})


def _alike_names(sources: Sequence[InputDataset]) -> list[str]:
    spelled: dict[str, list[str]] = {}
    for name in common_order(name for source in sources for name in source.dataset.classes):
        spelled.setdefault(name.casefold().strip(), []).append(name)
    return [
        f"classes that differ in spelling only: {', '.join(names)}. Use one spelling in dataset.json and manifest"
        for names in spelled.values()
        if len(names) > 1
    ]


def _same_cases(sources: Sequence[InputDataset]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for source in sources:
        for case in dict.fromkeys(source.cases):
            owners.setdefault(case, []).append(source.name)
    shared: dict[str, list[str]] = {}
    for case, names in owners.items():
        if len(names) > 1:
            shared.setdefault(" and ".join(names), []).append(case)
    return [
        f"{len(cases)} case(s) with the same identifier in {names}: {format_names(cases)}. Convert one data "
        "set with other "
        "identifiers, or leave it out"
        for names, cases in shared.items()
    ]


def _patients_on_both_sides(sources: Sequence[InputDataset]) -> list[str]:
    """Patients who train, in one data set or in another, and are test patients: their test would be too good to be
    true."""
    found = [
        (s, part, case, s.dataset.manifest.find(case)) for s in sources for part in SUBSETS for case in s.images[part]
    ]
    entries = [(source, part, case, labels) for source, part, case, labels in found if labels is not None]
    person = patient_by_case((case, labels) for _, _, case, labels in entries)
    sides: dict[str, dict[str, set[str]]] = {}
    for source, part, case, labels in entries:
        side = "test" if part == "Ts" or labels.split == "test" else "training"
        sides.setdefault(person[labels.patient or case], {}).setdefault(source.name, set()).add(side)
    leaking: dict[str, list[str]] = {}
    for patient, by_source in sides.items():
        if len(set.union(*by_source.values())) > 1:
            where = ", ".join(f"{' and '.join(sorted(s))} in {name}" for name, s in by_source.items())
            leaking.setdefault(where, []).append(patient)
    return [
        f"{len(patients)} patient(s) on different sides of the official splits ({where}): {format_names(patients)}. "
        "Leave their cases out on one side; if they are different people, give them different 'patient' entries"
        for where, patients in leaking.items()
    ]
