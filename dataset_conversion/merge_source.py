"""One of the data sets that a merge brings together: its files, channels and what each of its cases knows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nnunet_partial.errors import DatasetError
from nnunet_partial.label_check import files_sum
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels
from nnunet_partial.raw_dataset import TIFF, RawDataset

PARTS = ("Tr", "Ts")
_KINDS = ("images", "labels")


@dataclass(frozen=True)
class Source:
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
        return {part: self.dataset.image_files(part) for part in PARTS}

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """Label file by part ("Tr", "Ts") and case."""
        return {part: self.dataset.label_files(part) for part in PARTS}

    @property
    def cases(self) -> list[str]:
        return [case for part in PARTS for case in self.images[part]]

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
        for name in ("dataset.json", MANIFEST_NAME, *(f"{kind}{part}" for kind in _KINDS for part in PARTS), *more):
            if (folder / name).is_dir():
                sums[name] = files_sum(folder / name, self.dataset.file_ending)
            elif (folder / name).exists():
                sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        return sums


def lacks_a_class(labels: CaseLabels, classes: Sequence[str]) -> bool:
    """Whether some class is unknown in the case, so that its background may belong to that class."""
    return not labels.known.issuperset(classes)
