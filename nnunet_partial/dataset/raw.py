"""Find nnU-Net datasets on disk, and list what is in the raw folder of one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_json import class_names, ignore_label, region_values, structure_names
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import format_names

#: Endings of nnU-Net's folders: imagesTr, labelsTr (training) and imagesTs, labelsTs (test).
SUBSETS = ("Tr", "Ts")

#: File endings of nnU-Net's TIFF reader, which keeps the spacing of a volume in CASE.json beside it.
TIFF = (".tif", ".tiff")

#: Longest name of a dataset: nnU-Net makes folders of it, and file systems take 255 bytes.
MAX_NAME_LENGTH = 100


def nnunet_folder(variable: str) -> Path:
    """Return the folder that an environment variable of nnU-Net names.

    Args:
        variable: nnUNet_raw, nnUNet_preprocessed or nnUNet_results.

    Returns:
        The folder, which need not exist.

    Raises:
        DatasetError: The variable is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise DatasetError(
            f"The environment variable {variable} is not set. nnU-Net needs it: export {variable}=/some/folder"
        )
    return Path(value)


def preprocessed_folder(name: str) -> Path | None:
    """Find the preprocessed folder of a dataset.

    Args:
        name: Full name of the dataset.

    Returns:
        The folder; None if nnUNet_preprocessed is not set or the folder does not exist.
    """
    if not os.environ.get("nnUNet_preprocessed"):
        return None
    folder = nnunet_folder("nnUNet_preprocessed") / name
    return folder if folder.is_dir() else None


def manifest_folders(raw: Path) -> list[Path]:
    """List the folders that hold the manifest and the splits of a dataset.

    Args:
        raw: The raw folder.

    Returns:
        The raw folder and, where it exists, the preprocessed one.
    """
    return [raw, *filter(None, [preprocessed_folder(raw.name)])]


def dataset_name(dataset_id: int, name: str) -> str:
    """Build nnU-Net's full name of a dataset: Dataset501_CAMUS.

    Args:
        dataset_id: 1 to 999.
        name: Letters, digits, '_' and '-'.

    Returns:
        The full name.

    Raises:
        DatasetError: The id is out of range, or the name is not a plain file name.
    """
    if not 1 <= dataset_id <= 999:
        raise DatasetError(f"The dataset id is {dataset_id}; expected 1 to 999.")
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    if not plain or len(name) > MAX_NAME_LENGTH:
        raise DatasetError(
            f"The dataset name is {name!r}; expected letters, digits, '_' and '-', at most {MAX_NAME_LENGTH}."
        )
    return f"Dataset{dataset_id:03d}_{name}"


def plain_name(name: str) -> str:
    """Replace what `dataset_name` refuses.

    Args:
        name: Any text.

    Returns:
        The text with '-' for all but letters, digits, '_' and '-'.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def short_name(dataset: str) -> str:
    """Take the id off the name of a dataset.

    Args:
        dataset: Full name, such as Dataset501_CAMUS.

    Returns:
        CAMUS; the full name where nothing stands behind the id.
    """
    return dataset.partition("_")[2] or dataset


def dataset_id(folder: Path) -> int:
    """Return the id of a dataset, the only thing that nnU-Net's planning takes.

    Args:
        folder: Any folder with the full name of the dataset.

    Returns:
        The id.
    """
    return int(folder.name.removeprefix("Dataset").partition("_")[0])


def find_dataset(dataset: int | str, variable: str = "nnUNet_raw") -> Path:
    """Find the folder of a dataset, the raw one or another.

    Args:
        dataset: Its id or full name.
        variable: As of `nnunet_folder`.

    Returns:
        The folder.

    Raises:
        DatasetError: None or several match.
    """
    root = nnunet_folder(variable)
    text = str(dataset)
    if text.startswith("Dataset") and Path(text).name == text:
        matches = [root / text] if (root / text).is_dir() else []
    elif text.isdecimal():
        matches = sorted(path for path in root.glob(f"Dataset{int(text):03d}_*") if path.is_dir())
    else:
        raise DatasetError(f"The dataset is {text!r}; expected an id such as 501 or a name such as Dataset501_CAMUS.")
    if not matches:
        existing = [path.name for path in root.glob("Dataset*_*")] if root.is_dir() else []
        raise DatasetError(f"There is no dataset {text} in {root}. There: {format_names(existing)}.")
    if len(matches) > 1:
        raise DatasetError(
            f"Several datasets have the id {text}: {format_names([p.name for p in matches])}. Give the full name."
        )
    return matches[0]


@dataclass(frozen=True)
class RawDataset:
    """Read a dataset in nnU-Net's raw format: imagesTr, labelsTr, imagesTs, dataset.json; here also labelsTs.

    Attributes:
        folder: The raw folder, which also holds the manifest.
    """

    folder: Path

    @cached_property
    def dataset_json(self) -> Mapping[str, Any]:
        """Return the content of dataset.json.

        Raises:
            DatasetError: The file is missing, broken or has no 'file_ending'.
        """
        content = read_json(self.folder / "dataset.json", DatasetError)
        if not isinstance(content, dict) or not isinstance(content.get("file_ending"), str):
            raise DatasetError(f"{self.folder / 'dataset.json'} has no 'file_ending'; is it an nnU-Net v2 dataset?")
        return content

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the foreground classes in the order of their label values."""
        return class_names(self.dataset_json)

    @property
    def structures(self) -> tuple[str, ...]:
        """Return the names of the foreground classes or regions in the order of a network's outputs."""
        return structure_names(self.dataset_json)

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """Return the stored values of each region in the order of `structures`; empty where there are classes."""
        return region_values(self.dataset_json)

    @property
    def ignore_label(self) -> int | None:
        """Return the value of the ignore label; None where there is none."""
        return ignore_label(self.dataset_json)

    @property
    def file_ending(self) -> str:
        """Return the ending of image and label files."""
        return str(self.dataset_json["file_ending"])

    @cached_property
    def manifest(self) -> Manifest:
        """Return the manifest of the raw folder."""
        return Manifest.read(self.folder / MANIFEST_NAME)

    @cached_property
    def listed(self) -> dict[str, tuple[list[Path], Path]] | None:
        """Return the training files where dataset.json lists them under 'dataset', as nnU-Net then takes them.

        Paths are relative to the raw folder; environment variables in them are expanded.

        Returns:
            Images, one per channel, and label file by case; None where the files are those of imagesTr and labelsTr.

        Raises:
            DatasetError: An entry has no images or no label.
        """
        entries = self.dataset_json.get("dataset")
        if entries is None:
            return None
        if not isinstance(entries, dict) or not all(map(_lists_files, entries.values())):
            raise DatasetError(
                f"{self.folder / 'dataset.json'} has a 'dataset' that nnU-Net cannot read; expected for each case "
                '{"images": [one path per channel], "label": path}.'
            )
        return {
            case: ([self._resolve(path) for path in entry["images"]], self._resolve(entry["label"]))
            for case, entry in entries.items()
        }

    def _resolve(self, path: str) -> Path:
        return Path(os.path.abspath(self.folder / os.path.expandvars(path)))  # noqa: PTH100  (as nnU-Net: links stay)

    def label_files(self, part: str = "Tr") -> dict[str, Path]:
        """List the label files.

        Args:
            part: "Tr" (training), "Ts" (test) or "Tr_full" (what a scenario keeps apart).

        Returns:
            File by case identifier, sorted; empty where the folder is missing.
        """
        if part == "Tr" and self.listed is not None:
            return {case: label for case, (_, label) in sorted(self.listed.items()) if label.is_file()}
        return {path.name[: -len(self.file_ending)]: path for path in self._files(f"labels{part}")}

    def image_files(self, part: str = "Tr") -> dict[str, list[Path]]:
        """List the image files.

        Args:
            part: "Tr" (training) or "Ts" (test).

        Returns:
            Files, one per channel, by case identifier, sorted; empty where the folder is missing.
        """
        if part == "Tr" and self.listed is not None:
            return {case: list(images) for case, (images, _) in sorted(self.listed.items())}
        return list_images(self.folder / f"images{part}", self.file_ending)

    def _files(self, subfolder: str) -> list[Path]:
        return _files(self.folder / subfolder, self.file_ending)


def list_images(folder: Path, file_ending: str) -> dict[str, list[Path]]:
    """List the images of a folder, which are named as in imagesTr: CASE_0000, CASE_0001.

    Args:
        folder: The folder.
        file_ending: Of the dataset.

    Returns:
        Files, one per channel, by case identifier, sorted; empty where the folder is missing.
    """
    images: dict[str, list[Path]] = {}
    for path in _files(folder, file_ending):
        case, _, channel = path.name[: -len(file_ending)].rpartition("_")
        if len(channel) == 4 and channel.isdigit():
            images.setdefault(case, []).append(path)
    return images


def _files(folder: Path, file_ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.name.endswith(file_ending) and not p.name.startswith("."))


def _lists_files(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    images = entry.get("images")
    return isinstance(images, list) and bool(images) and all(isinstance(p, str) for p in [*images, entry.get("label")])
