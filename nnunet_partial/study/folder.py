"""Lay out the folder of a study: its paths, its saved settings and the ids of its datasets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.raw import SUBSETS, TIFF, RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.study.config import DEFAULT_PLANS
from nnunet_partial.utils.files import file_hash, read_json, read_object, write_json
from nnunet_partial.utils.text import format_names

_FIRST_ID = 601
#: nnU-Net's dataset ids have three digits.
_LAST_ID = 999


@dataclass(frozen=True)
class StudyFolder:
    """Lay out the folder of a study. Everything below it belongs to the study, and may be deleted with it.

    nnUNet_raw (links to the datasets, and their scenarios), nnUNet_preprocessed, results/seedN (nnUNet_results of one
    seed), test_cases (links, where a fold does not predict all), predictions, evaluations, logs (one file per step),
    done (a file per finished step; that of a prediction names its folds, the others are empty), locks (beside them, an
    empty file per training that a signal ended), costs (time and memory of each training), study.json (what the
    workflow reads), begun.json (the settings that must not change), images (hashes of the images of each dataset),
    ids.json.

    Attributes:
        root: Absolute path of the folder.
    """

    root: Path

    @property
    def raw(self) -> Path:
        """Return nnUNet_raw of the study."""
        return self.root / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        """Return nnUNet_preprocessed of the study."""
        return self.root / "nnUNet_preprocessed"

    @property
    def workflow(self) -> Path:
        """Return the file that the Snakefile reads, by its name."""
        return self.root / "study.json"

    @property
    def settings_file(self) -> Path:
        """Return the file of the settings that the study was begun with."""
        return self.root / "begun.json"

    def done(self, step: str) -> Path:
        """Return the file that marks a step as finished.

        Args:
            step: Name of the step, as in "prepare/camus".
        """
        return self.root / "done" / step

    def log(self, step: str) -> Path:
        """Return the log of a step.

        Args:
            step: Name of the step.
        """
        return self.root / "logs" / f"{step}.log"

    def predicted_folds(self, predict_step: str) -> frozenset[int]:
        """Return the folds that predicted the test cases together; empty where none did.

        Args:
            predict_step: Name of the step.
        """
        done = self.done(predict_step)
        return frozenset(map(int, done.read_text(encoding="utf-8").split())) if done.exists() else frozenset()

    def lock(self, step: str) -> Path:
        """Return the file that a running step holds locked.

        Args:
            step: Name of the step.
        """
        return self.root / "locks" / f"{step}.lock"

    def stopped_steps(self) -> list[str]:
        """Return the trainings that a signal ended after an epoch, which can go on; empty without any."""
        locks = self.root / "locks"
        return sorted(path.relative_to(locks).with_suffix("").as_posix() for path in locks.rglob("*.stopped"))

    def forget_stopped_steps(self) -> None:
        """Delete the files from which `stopped_steps` reads."""
        for path in (self.root / "locks").rglob("*.stopped"):
            path.unlink()

    def cost(self, step: str) -> Path:
        """Return the table of time and memory of a training.

        Args:
            step: Name of the step.
        """
        return self.root / "costs" / f"{step}.tsv"

    def evaluation(self, model: str) -> Path:
        """Return the results folder of a model.

        Args:
            model: Name of the model.
        """
        return self.root / "evaluations" / model

    def image_hashes(self, name: str) -> Path:
        """Return the file of the hashes of all images of a dataset.

        Args:
            name: Name of the dataset in the study.
        """
        return self.root / "images" / f"{name}.json"

    def saved_settings(self) -> dict[str, Any]:
        """Return the settings that the study was begun with; empty before that."""
        return dict(read_json(self.settings_file)) if self.settings_file.exists() else {}

    def planned_workflow(self) -> dict[str, Any]:
        """Return what the workflow reads; empty before the first run or dry run."""
        return _read_once(self.workflow, self.workflow.stat().st_mtime_ns) if self.workflow.exists() else {}

    def prepared_plans(self) -> list[str]:
        """Return the plans that the step `prepare` makes: those that were saved, else nnU-Net's default ones."""
        plans: list[str] = self.saved_settings().get("plans", [DEFAULT_PLANS])
        return plans

    def assign_ids(self, names: Iterable[str], reserved: set[int]) -> dict[str, int]:
        """Give each scenario an nnU-Net dataset id, and save it. An id stays once it is given.

        Args:
            names: Names of the datasets that the study makes.
            reserved: Ids that are not available.

        Returns:
            The id of each dataset, those of earlier calls included.

        Raises:
            PartialLabelError: If no id is left, or an id given earlier is reserved by now.
        """
        file = self.root / "ids.json"
        ids: dict[str, int] = read_json(file) if file.exists() else {}
        clashes = reserved & set(ids.values())
        if clashes:
            raise PartialLabelError(
                f"The study has given the ids {format_names([str(number) for number in clashes])} to its scenarios "
                f"({file}); they cannot be datasets of it. Convert those to other ids."
            )
        free = (number for number in range(_FIRST_ID, _LAST_ID + 1) if number not in reserved | set(ids.values()))
        for name in names:
            if name not in ids:
                number = next(free, None)
                if number is None:
                    raise PartialLabelError(
                        f"A study holds at most {_LAST_ID + 1 - _FIRST_ID} datasets. Split it into two studies."
                    )
                ids[name] = number
        write_json(file, ids)
        return ids


@lru_cache(maxsize=1)
def _read_once(file: Path, changed: int) -> dict[str, Any]:
    return dict(read_json(file))


def labels_hash(dataset: Path) -> str:
    """Hash what identifies the labels of a raw dataset: its manifest, which every command that writes one rewrites.

    Args:
        dataset: Folder of the raw dataset.

    Returns:
        16 hexadecimal digits.
    """
    content = (dataset / MANIFEST_NAME).read_bytes() + (dataset / "dataset.json").read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


def contents_hash(dataset: Path) -> str:
    """Hash the content of all label files, and of what TIFF images and labels have their spacing from.

    A mask that is annotated again keeps the size of its file where that is not compressed, and its name.

    Args:
        dataset: Folder of the raw dataset.

    Returns:
        16 hexadecimal digits.
    """
    raw = RawDataset(dataset)
    files = {f"labels{part}/{case}": path for part in SUBSETS for case, path in raw.label_files(part).items()}
    if raw.file_ending in TIFF:
        files |= {f"{path.parent.name}/{path.name}": path for path in sorted(dataset.glob("*T[rs]/*.json"))}
    total = hashlib.sha256()
    for name, path in files.items():
        total.update(f"{name} {file_hash(path)}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:16]


def images_hash(dataset: Path, remembered: Path, save: bool) -> str:
    """Hash the content of all image files; only those are read of which size or time are not as remembered.

    Args:
        dataset: Folder of the raw dataset.
        remembered: JSON file of size, time and hash by image file; it may be missing.
        save: Whether to write that file.

    Returns:
        16 hexadecimal digits.
    """
    dataset = dataset.resolve()
    before: dict[str, Any] = {}
    with contextlib.suppress(PartialLabelError):
        before = read_object(remembered)
    now: dict[str, list[int | str]] = {}
    for subset in SUBSETS:
        for path in [path for files in RawDataset(dataset).image_files(subset).values() for path in files]:
            name, stat = os.path.relpath(path, dataset), path.stat()
            entry = before.get(name)
            if not isinstance(entry, list) or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                entry = [stat.st_size, stat.st_mtime_ns, file_hash(path)[:16]]
            now[name] = entry
    if save and now != before:
        write_json(remembered, now, ascii_only=True)
    return hashlib.sha256(json.dumps({name: entry[2:] for name, entry in now.items()}).encode()).hexdigest()[:16]


def files_hash(dataset: Path) -> str:
    """Hash the names and sizes of all image and label files; cases added or lost change it.

    Args:
        dataset: Folder of the raw dataset.

    Returns:
        16 hexadecimal digits.
    """
    dataset = dataset.resolve()  # a link to it has the same hash
    raw = RawDataset(dataset)
    images = [path for subset in ("Tr", "Ts") for files in raw.image_files(subset).values() for path in files]
    labels = [path for subset in ("Tr", "Ts") for path in raw.label_files(subset).values()]
    lines = [f"{os.path.relpath(path, dataset)} {path.stat().st_size}" for path in [*images, *labels]]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]
