"""Building a data set out of sight and showing it only when it is whole.

Everything is written to a hidden folder beside the final one. Interrupted, the work stays there and the next start goes
on with it; finished, the folder is renamed. So `Dataset501_CAMUS` is either complete or not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nnunet_partial.dataset.label_check import CACHE_NAME
from nnunet_partial.dataset.raw import nnunet_folder, preprocessed_folder
from nnunet_partial.dataset.splits import SPLITS_NAME, make_splits
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import read_json, sync_to_disk, write_json
from nnunet_partial.utils.text import format_names

FINGERPRINT_NAME = ".made_with.json"


@contextlib.contextmanager
def staged_dataset(name: str, made_with: Mapping[str, Any], overwrite: bool = False) -> Iterator[Path]:
    """Yields the hidden folder in which data set `name` is built; it becomes nnUNet_raw/`name` if the block ends well.

    `made_with` (JSON-able: source, options) decides whether what an interrupted run left may be used: if it differs,
    the folder starts empty. An error in the block leaves the folder for the next start. Raises DatasetError where the
    data set exists and `overwrite` is off, where another data set has its id, where another process builds it, or for
    an OSError: the disk is full, or may not be written to.
    """
    root = nnunet_folder("nnUNet_raw")
    with _disk_explained(name), _only_builder(root / f".{name}.lock", name):
        refuse_existing(name, overwrite)
        staging = root / f".building_{name}"
        _start(staging, made_with)
        yield staging
        sync_to_disk(staging)
        # first: stopped between the two, the next start ends with both
        _share_with_preprocessed(staging, name)
        _show(staging, root / name)


def refuse_existing(name: str, overwrite: bool) -> None:
    """Raises DatasetError where the data set, or what was preprocessed of it, exists and `overwrite` is off, or where
    another one has its id.

    `staged_dataset` asks this itself; asked before the sources are read, nobody waits for the answer.
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
    left = _preprocessed_cases(name)
    if left and not overwrite:
        raise DatasetError(
            f"{left[0].parent} holds what nnU-Net preprocessed of an earlier {name} "
            f"({format_names([p.name for p in left])}). "
            "Choose another id with -d, or remove it with --overwrite."
        )


def _preprocessed_cases(name: str) -> list[Path]:
    """The folders of what nnU-Net preprocessed under this name."""
    folder = preprocessed_folder(name)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder else []


@contextlib.contextmanager
def _disk_explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DatasetError(
            f"Cannot write {name}: {problem}. Is the disk full or write-protected? "
            "The same command goes on where it stopped."
        ) from problem


@contextlib.contextmanager
def _only_builder(lock: Path, name: str) -> Iterator[None]:
    """Holds a lock file; the system drops the lock when the process ends, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        if not _locked(lock, file):
            raise DatasetError(f"Another process is writing {name} right now. Wait for it, or stop it.")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path, file: IO[str]) -> bool:
    """Takes the lock. Who had it before removes the file: a lock on a file that is gone keeps nobody out."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except OSError:
        return False


def _start(staging: Path, made_with: Mapping[str, Any]) -> None:
    stamp = staging / FINGERPRINT_NAME
    if staging.exists() and not (stamp.exists() and read_json(stamp) == dict(made_with)):
        shutil.rmtree(staging)
    for sub in ("imagesTr", "labelsTr"):
        (staging / sub).mkdir(parents=True, exist_ok=True)
    for leftover in staging.rglob(".tmp_*"):
        leftover.unlink()
    write_json(stamp, made_with)


def _show(staging: Path, final: Path) -> None:
    old = final.with_name(f".replaced_{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    staging.rename(final)
    (final / FINGERPRINT_NAME).unlink()
    shutil.rmtree(old, ignore_errors=True)


def _share_with_preprocessed(staging: Path, name: str) -> None:
    """Copies splits and manifest to nnUNet_preprocessed, so that even a stock training cannot make a leaking split.

    What nnU-Net preprocessed of an earlier data set of this name is removed: new declarations over old labels would
    teach what is unknown, and nnU-Net itself takes over an old fingerprint and old label files. Plans stay.
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
            write_json(target / file, read_json(staging / file))


def write_metadata(
    folder: Path,
    manifest: Manifest,
    classes: Sequence[str],
    *,
    channel_names: Mapping[str, str],
    file_ending: str,
    ignore: bool = False,
    **about: Any,
) -> list[str]:
    """Writes dataset.json (through nnU-Net's own generator), partial_labels.json and splits_final.json into `folder`.

    Training cases are counted from labelsTr on disk. `classes`: foreground names in the order of their values. `about`
    goes to the generator (description, reference, license, ...). Returns warnings about the split for the user; where
    no split is possible (a single patient) no split file is written.
    """
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    cases = [path.name[: -len(file_ending)] for path in (folder / "labelsTr").glob(f"*{file_ending}")]
    labels = {name: value for value, name in enumerate(["background", *classes, *(["ignore"] if ignore else [])])}
    about.setdefault("converted_by", "nnunet_partial")
    generate_dataset_json(str(folder), dict(channel_names), labels, len(cases), file_ending, **about)
    manifest.require(cases, classes)
    manifest.write(folder / MANIFEST_NAME)
    splits, warnings = make_splits(manifest, cases)
    (folder / SPLITS_NAME).unlink(missing_ok=True)
    if splits:
        write_json(folder / SPLITS_NAME, splits)
    return warnings
