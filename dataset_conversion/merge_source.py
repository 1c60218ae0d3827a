"""One of the data sets that a merge brings together: its files, channels and what each of its cases knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels
from nnunet_partial.raw_dataset import RawDataset

PARTS = ("Tr", "Ts")


@dataclass(frozen=True)
class Source:
    """One data set to be merged, with its files listed once."""

    dataset: RawDataset

    @property
    def name(self) -> str:
        return self.dataset.folder.name

    @cached_property
    def images(self) -> dict[str, dict[str, list[Path]]]:
        """Image files by part ("Tr", "Ts") and case."""
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
        return {str(index): str(name) for index, name in names.items()}

    @cached_property
    def entries(self) -> dict[str, CaseLabels]:
        """What each case knows: patterns resolved to cases; a case without a domain gets the name of its data set."""
        domain = self.name.partition("_")[2] or self.name
        found = {case: self.dataset.manifest.labels_of(case) for case in self.cases}
        return {case: labels if labels.domain else replace(labels, domain=domain) for case, labels in found.items()}


def common_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: LV, MYO, LA, RV, RA first, as far as they occur, then the others as they first appear."""
    once = list(dict.fromkeys(names))
    return tuple(n for n in COMMON_CLASSES if n in once) + tuple(n for n in once if n not in COMMON_CLASSES)
