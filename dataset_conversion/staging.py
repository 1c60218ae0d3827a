"""Build a dataset, or another folder, in a hidden folder and publish it when it is complete.

The hidden folder lies beside the final one. If interrupted, it stays, and the next start continues with it; at the end
it is renamed. So `Dataset501_CAMUS` is either complete or absent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.label_check import CACHE_NAME
from nnunet_partial.dataset.raw import nnunet_folder, preprocessed_folder
from nnunet_partial.dataset.splits import SPLITS_NAME, make_splits
from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY, stored_values
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import files_of_users, read_json, sync_to_disk, write_json
from nnunet_partial.utils.locks import exclusive_lock
from nnunet_partial.utils.text import format_names

FINGERPRINT_NAME = ".made_with.json"

#: License of a dataset whose sources name none.
NOT_STATED = "not stated"


@contextlib.contextmanager
def staged_folder(folder: Path, options: Mapping[str, Any]) -> Iterator[Path]:
    """Open the hidden folder in which another folder than a dataset is built, and publish it at the end.

    An error in the block leaves the hidden folder for the next start.

    Args:
        folder: The final folder.
        options: As of `staged_dataset`.

    Yields:
        The hidden folder, which becomes `folder`.

    Raises:
        DatasetError: If the folder exists and is not empty, another process builds it, or the disk is full or
            write-protected.
    """
    with _explain_disk_errors(folder.name), exclusive_lock(folder.with_name(f".{folder.name}.lock")) as is_held:
        if not is_held:
            raise DatasetError(f"Another process is writing {folder} right now. Wait for it, or stop it.")
        if folder.exists() and not (folder.is_dir() and not files_of_users(folder)):
            raise DatasetError(f"{folder} exists. Remove it, or give another folder with -o.")
        staging = folder.with_name(f".building_{folder.name}")
        _start(staging, options)
        yield staging
        sync_to_disk(staging)
        _publish(staging, folder)


@contextlib.contextmanager
def staged_dataset(name: str, options: Mapping[str, Any], overwrite: bool = False) -> Iterator[Path]:
    """Open the hidden folder in which a dataset is built, and publish it if the block ends without an error.

    An error in the block leaves the folder for the next start.

    Args:
        name: Name of the nnU-Net dataset, such as Dataset501_CAMUS.
        options: JSON values (source, options). If they differ from those of an interrupted run, the folder starts
            empty.
        overwrite: Replace the dataset if it exists.

    Yields:
        The hidden folder, which becomes nnUNet_raw/`name`.

    Raises:
        DatasetError: If the dataset exists and `overwrite` is off, another dataset has its id, another process builds
            it, or the disk is full or write-protected.
    """
    root = nnunet_folder("nnUNet_raw")
    with _explain_disk_errors(name), exclusive_lock(root / f".{name}.lock") as is_held:
        if not is_held:
            raise DatasetError(f"Another process is writing {name} right now. Wait for it, or stop it.")
        refuse_existing(name, overwrite)
        staging = root / f".building_{name}"
        _start(staging, options, ("imagesTr", "labelsTr"))
        yield staging
        sync_to_disk(staging)
        # in this order: if stopped between the two, the next start does both
        _copy_to_preprocessed(staging, name)
        _publish(staging, root / name)


def refuse_existing(name: str, overwrite: bool) -> None:
    """Check that the dataset may be written.

    `staged_dataset` checks this itself; call it before reading the sources, to fail early.

    Args:
        name: Name of the nnU-Net dataset.
        overwrite: Whether an existing dataset of this name is replaced.

    Raises:
        DatasetError: If the dataset, or what nnU-Net preprocessed of it, exists and `overwrite` is off, or another
            dataset has its id.
    """
    root = nnunet_folder("nnUNet_raw")
    prefix = name.split("_")[0] + "_"
    variables = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")  # nnU-Net looks ids up in all three
    for folder in [nnunet_folder(variable) for variable in variables if os.environ.get(variable)]:
        others = [path.name for path in folder.glob(prefix + "*") if path.name != name]
        if others:
            raise DatasetError(f"{prefix[:-1]} is taken by {others[0]} in {folder}. Choose another id with -d.")
    if (root / name).exists() and not overwrite:
        raise DatasetError(f"{root / name} exists. Choose another id with -d, or replace it with --overwrite.")
    preprocessed = _preprocessed_cases(name)
    if preprocessed and not overwrite:
        raise DatasetError(
            f"{preprocessed[0].parent} holds what nnU-Net preprocessed of an earlier {name} "
            f"({format_names([p.name for p in preprocessed])}). "
            "Choose another id with -d, or remove it with --overwrite."
        )


def _preprocessed_cases(name: str) -> list[Path]:
    """List the folders of what nnU-Net preprocessed under this name."""
    folder = preprocessed_folder(name)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder else []


@contextlib.contextmanager
def _explain_disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DatasetError(
            f"Cannot write {name}: {problem}. Is the disk full or write-protected? "
            "The same command goes on where it stopped."
        ) from problem


def _start(staging: Path, options: Mapping[str, Any], subfolders: Sequence[str] = ()) -> None:
    stamp = staging / FINGERPRINT_NAME
    if staging.exists() and not (stamp.exists() and read_json(stamp) == dict(options)):
        shutil.rmtree(staging)
    for folder in (staging, *(staging / name for name in subfolders)):
        folder.mkdir(parents=True, exist_ok=True)
    for leftover in staging.rglob(".tmp_*"):
        leftover.unlink()
    write_json(stamp, options)


def _publish(staging: Path, final: Path) -> None:
    old = final.with_name(f".replaced_{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    staging.rename(final)
    (final / FINGERPRINT_NAME).unlink()
    shutil.rmtree(old, ignore_errors=True)


def _copy_to_preprocessed(staging: Path, name: str) -> None:
    """Copy splits and manifest to nnUNet_preprocessed, so that even a stock training cannot make a leaking split.

    What nnU-Net preprocessed of an earlier dataset of this name is removed: new manifest entries beside old labels
    would train on unknown classes, and nnU-Net itself reuses an old fingerprint and old label files. Plans stay.
    """
    if not os.environ.get("nnUNet_preprocessed"):
        return
    target = nnunet_folder("nnUNet_preprocessed") / name
    for old in _preprocessed_cases(name):
        shutil.rmtree(old)
    leftovers = [path.name for path in target.glob(".tmp_*")]  # of a killed run
    for file in (MANIFEST_NAME, SPLITS_NAME, CACHE_NAME, "dataset_fingerprint.json", *leftovers):
        (target / file).unlink(missing_ok=True)
    for file in (MANIFEST_NAME, SPLITS_NAME):
        if (staging / file).exists():
            write_json(target / file, read_json(staging / file), ascii_only=file == SPLITS_NAME)


def write_metadata(
    folder: Path,
    manifest: Manifest,
    classes: Sequence[str],
    *,
    channel_names: Mapping[str, str],
    file_ending: str,
    ignore: bool = False,
    regions: Sequence[Sequence[int]] = (),
    **description: Any,
) -> list[str]:
    """Write dataset.json (through nnU-Net's own generator), partial_labels.json and splits_final.json.

    Training cases are counted from labelsTr on disk. Where no split is possible (a single patient), no split file is
    written.

    Args:
        folder: Folder with labelsTr.
        manifest: Entries of all cases.
        classes: Foreground classes in the order of their values; or regions.
        channel_names: Name of each channel by its number.
        file_ending: Of images and labels, such as .nii.gz.
        ignore: Whether the dataset has an ignore label, the last value.
        regions: Stored values of each region, with `regions_class_order` among the keywords; empty for classes.
        description: Further keywords of the generator (description, reference, license, ...).

    Returns:
        Warnings about the splits for the user; empty if there are none.
    """
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    cases = [path.name[: -len(file_ending)] for path in (folder / "labelsTr").glob(f"*{file_ending}")]
    labels = dataset_json_labels(stored_values(classes, regions), ignore)
    description.setdefault("converted_by", "nnunet_partial")
    if "licence" not in description:  # as nnU-Net spells it in the file
        description.setdefault("license", NOT_STATED)
    if PSEUDO_LABELS_KEY in description:  # with the manifest that models are trained by
        description[PSEUDO_LABELS_KEY] = {**description[PSEUDO_LABELS_KEY], "hash": manifest.fill_hash}
    generate_dataset_json(str(folder), dict(channel_names), labels, len(cases), file_ending, **description)
    manifest.require(cases, classes)
    manifest.write(folder / MANIFEST_NAME)
    splits, warnings = make_splits(manifest, cases)
    (folder / SPLITS_NAME).unlink(missing_ok=True)
    if splits:
        write_json(folder / SPLITS_NAME, splits, ascii_only=True)
    return warnings


def dataset_json_labels(stored: Mapping[str, Sequence[int]], ignore: bool = False) -> dict[str, Any]:
    """Build the entry 'labels' of dataset.json.

    Args:
        stored: Values of each class or region.
        ignore: Whether there is an ignore label, the highest value.

    Returns:
        Value, or list of values, by name.
    """
    labels: dict[str, Any] = {"background": 0}
    labels |= {name: values[0] if len(values) == 1 else list(values) for name, values in stored.items()}
    if ignore:
        labels["ignore"] = 1 + max((value for values in stored.values() for value in values), default=0)
    return labels
