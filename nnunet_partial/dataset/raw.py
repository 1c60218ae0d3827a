"""Where nnU-Net data sets lie on disk, and what is in the raw folder of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, class_names, ignore_label
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import format_names

#: File endings of nnU-Net's TIFF reader, which keeps the pixel size of a volume in CASE.json beside it.
TIFF = (".tif", ".tiff")

_LONGEST_NAME = 100  # nnU-Net makes folders of it, and file systems take 255 bytes


def nnunet_folder(variable: str) -> Path:
    """The folder that nnUNet_raw, nnUNet_preprocessed, nnUNet_results name. Raises DatasetError where unset."""
    value = os.environ.get(variable)
    if not value:
        raise DatasetError(
            f"The environment variable {variable} is not set. nnU-Net needs it: export {variable}=/some/folder"
        )
    return Path(value)


def preprocessed_folder(name: str) -> Path | None:
    """Where nnU-Net keeps what it preprocessed of a data set; None without nnUNet_preprocessed, or where nothing is."""
    if not os.environ.get("nnUNet_preprocessed"):
        return None
    folder = nnunet_folder("nnUNet_preprocessed") / name
    return folder if folder.is_dir() else None


def manifest_folders(raw: Path) -> list[Path]:
    """Where the manifest and the split of a data set lie: the raw folder, and the preprocessed one if there is one."""
    return [raw, *filter(None, [preprocessed_folder(raw.name)])]


def dataset_name(dataset_id: int, name: str) -> str:
    """nnU-Net's name of a data set: Dataset501_CAMUS. Raises DatasetError for an id beyond 1 to 999 or a name that is
    no plain file name."""
    if not 1 <= dataset_id <= 999:
        raise DatasetError(f"The data set id is {dataset_id}; expected 1 to 999.")
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    if not plain or len(name) > _LONGEST_NAME:
        raise DatasetError(
            f"The data set name is {name!r}; expected letters, digits, '_' and '-', at most {_LONGEST_NAME}."
        )
    return f"Dataset{dataset_id:03d}_{name}"


def dataset_id(folder: Path) -> int:
    """The id of a data set's folder: nnU-Net's planning takes nothing else."""
    return int(folder.name.removeprefix("Dataset").partition("_")[0])


def find_dataset(dataset: int | str) -> Path:
    """The raw folder of a data set given by its id or full name. Raises DatasetError where none or several match."""
    root = nnunet_folder("nnUNet_raw")
    text = str(dataset)
    if text.startswith("Dataset") and Path(text).name == text:
        found = [root / text] if (root / text).is_dir() else []
    elif text.isdecimal():
        found = sorted(path for path in root.glob(f"Dataset{int(text):03d}_*") if path.is_dir())
    else:
        raise DatasetError(f"The data set is {text!r}; expected an id such as 501 or a name such as Dataset501_CAMUS.")
    if not found:
        here = [path.name for path in root.glob("Dataset*_*")] if root.is_dir() else []
        raise DatasetError(f"There is no data set {text} in {root}. There: {format_names(here)}.")
    if len(found) > 1:
        raise DatasetError(
            f"Several data sets have the id {text}: {format_names([p.name for p in found])}. Give the full name."
        )
    return found[0]


@dataclass(frozen=True)
class RawDataset:
    """A data set in nnU-Net's raw format: imagesTr, labelsTr, imagesTs, (ours:) labelsTs, dataset.json, the manifest.

    `part` is "Tr" (training) or "Ts" (test) throughout.
    """

    folder: Path

    @cached_property
    def dataset_json(self) -> Mapping[str, Any]:
        content = read_json(self.folder / "dataset.json", DatasetError)
        if not isinstance(content, dict) or not isinstance(content.get("file_ending"), str):
            raise DatasetError(f"{self.folder / 'dataset.json'} has no 'file_ending'; is it a nnU-Net v2 data set?")
        return content

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes in the order of their label values."""
        return class_names(self.dataset_json)

    @property
    def ignore_label(self) -> int | None:
        return ignore_label(self.dataset_json)

    @property
    def file_ending(self) -> str:
        return str(self.dataset_json["file_ending"])

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder / MANIFEST_NAME)

    def label_files(self, part: str = "Tr") -> dict[str, Path]:
        """Label file of each case, by case identifier, sorted; empty where the folder is missing."""
        return {path.name[: -len(self.file_ending)]: path for path in self._files(f"labels{part}")}

    def image_files(self, part: str = "Tr") -> dict[str, list[Path]]:
        """Image files (one per channel) of each case, by case identifier, sorted; empty where the folder is missing."""
        found: dict[str, list[Path]] = {}
        for path in self._files(f"images{part}"):
            case, _, channel = path.name[: -len(self.file_ending)].rpartition("_")
            if len(channel) == 4 and channel.isdigit():
                found.setdefault(case, []).append(path)
        return found

    def _files(self, subfolder: str) -> list[Path]:
        folder = self.folder / subfolder
        if not folder.is_dir():
            return []
        return sorted(p for p in folder.iterdir() if p.name.endswith(self.file_ending) and not p.name.startswith("."))
