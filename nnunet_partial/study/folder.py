"""The folder of a study: what lies where, what it was begun with, and which numbers its data sets have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.study.config import DEFAULT_PLANS
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import format_names

_FIRST_ID = 601


@dataclass(frozen=True)
class StudyFolder:
    """`root` is an absolute path. Everything below it belongs to the study, and may be deleted with it.

    nnUNet_raw (links to the data sets, and their scenarios), nnUNet_preprocessed, results/seedN (nnUNet_results of one
    seed), predictions, evaluations, logs (one file per step), done (an empty file per finished step), locks, costs
    (time and memory of each training), study.json (what the workflow reads), begun.json (what must not
    change), ids.json.
    """

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        return self.root / "nnUNet_preprocessed"

    @property
    def workflow(self) -> Path:
        """What the Snakefile reads."""
        return self.root / "study.json"

    def done(self, step: str) -> Path:
        return self.root / "done" / step

    def log(self, step: str) -> Path:
        return self.root / "logs" / f"{step}.log"

    def lock(self, step: str) -> Path:
        return self.root / "locks" / f"{step}.lock"

    def cost(self, step: str) -> Path:
        return self.root / "costs" / f"{step}.tsv"

    def evaluation(self, model: str) -> Path:
        return self.root / "evaluations" / model

    def prepared_plans(self) -> list[str]:
        """The plans that the step `prepare` makes: nnU-Net's default ones, or those begun.json names."""
        plans: list[str] = self.begun().get("plans", [DEFAULT_PLANS])
        return plans

    @property
    def begun_file(self) -> Path:
        return self.root / "begun.json"

    def begun(self) -> dict[str, Any]:
        """The settings that the study was begun with; empty before that."""
        return dict(read_json(self.begun_file)) if self.begun_file.exists() else {}

    def ids(self, names: Iterable[str], taken: set[int]) -> dict[str, int]:
        """nnU-Net's number of each scenario; a number once given stays.

        Raises PartialLabelError where none is left, and where one of them is `taken` by now.
        """
        file = self.root / "ids.json"
        known: dict[str, int] = read_json(file) if file.exists() else {}
        clashes = taken & set(known.values())
        if clashes:
            raise PartialLabelError(
                f"The study has given the numbers {format_names([str(number) for number in clashes])} to its scenarios "
                f"({file}); they cannot be data sets of it. Convert those to other numbers."
            )
        free = (number for number in range(_FIRST_ID, 1000) if number not in taken | set(known.values()))
        for name in names:
            if name not in known:
                number = next(free, None)
                if number is None:
                    raise PartialLabelError(f"A study holds at most {1000 - _FIRST_ID} data sets; make two of it.")
                known[name] = number
        write_json(file, known)
        return known


def stamp(dataset: Path) -> str:
    """What identifies the labels of a raw data set: its manifest, which every command that writes one writes anew."""
    content = (dataset / MANIFEST_NAME).read_bytes() + (dataset / "dataset.json").read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


def files_stamp(dataset: Path) -> str:
    """What tells that cases were added, lost or written anew: names and sizes of all image and label files."""
    raw = RawDataset(dataset)
    images = [path for part in ("Tr", "Ts") for files in raw.image_files(part).values() for path in files]
    labels = [path for part in ("Tr", "Ts") for path in raw.label_files(part).values()]
    listed = [f"{path.relative_to(dataset)} {path.stat().st_size}" for path in [*images, *labels]]
    return hashlib.sha256("\n".join(listed).encode(errors="surrogateescape")).hexdigest()[:16]
