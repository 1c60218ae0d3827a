"""Set the length and the seed of a training, and record them and its cases beside the checkpoints.

nnU-Net has no options for length and seed, so they come from environment variables (`RunSettings`). With which of them
each stretch of a training ran stands in `partial_label_run.json`; a training that is continued with other settings has
an entry more, from the epoch on at which it went on:

    [{"from_epoch": 0, "epochs": 1000, "iterations": 250, "val_iterations": 50, "seed": 1}]

On which cases each checkpoint was trained stands in `partial_label_folds.json`, as a hash that names no case. By
checkpoint, since a training that starts again leaves those of an earlier one until it writes its own. Where the folds
changed in between, nnU-Net would validate the old one on patients that it was trained on:

    {"checkpoint_best.pth": "3f1c...", "checkpoint_latest.pth": "3f1c..."}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.utils.files import read_json, write_json

#: Environment variable of each setting.
VARIABLES = {
    "epochs": "nnUNet_partial_epochs",
    "iterations": "nnUNet_partial_iterations",
    "val_iterations": "nnUNet_partial_val_iterations",
    "seed": "nnUNet_partial_seed",
}

#: Name of the file that records the settings.
RECORD_NAME = "partial_label_run.json"

#: Keys of an entry of that file.
RECORD_KEYS = ("from_epoch", *VARIABLES)

#: Name of the file that records the training cases.
TRAINING_CASES_NAME = "partial_label_folds.json"


@dataclass(frozen=True)
class RunSettings:
    """Hold what the environment asks for; None leaves the trainer's own value (for the seed: none, as nnU-Net does).

    Args:
        epochs: Number of epochs.
        iterations: Training iterations per epoch.
        val_iterations: Validation iterations per epoch.
        seed: Seed of the weights, the sampling and the augmentation.
    """

    epochs: int | None = None
    iterations: int | None = None
    val_iterations: int | None = None
    seed: int | None = None

    @classmethod
    def from_environment(cls) -> RunSettings:
        """Read the environment variables.

        Returns:
            The settings; None for each variable that is unset or empty.

        Raises:
            PartialLabelError: A value is no integer, or too small or too large.
        """
        return cls(**{field: _integer(variable, int(field != "seed")) for field, variable in VARIABLES.items()})

    def as_dict(self) -> dict[str, int | None]:
        """Return the value of each setting by its name."""
        return asdict(self)

    def __str__(self) -> str:
        given = {VARIABLES[field]: value for field, value in self.as_dict().items() if value is not None}
        return ", ".join(f"{variable}={value}" for variable, value in given.items()) or "none"


def _integer(variable: str, minimum: int) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < minimum or int(text) >= 2**32:
        raise PartialLabelError(
            f"{variable} is {text!r}; expected an integer from {minimum} to 4294967295. Correct or unset it."
        )
    return int(text)


def record_run(results: Path, epoch: int, settings: Mapping[str, Any]) -> str:
    """Record the settings with which a training starts, or goes on, at an epoch.

    Args:
        results: The folder of the checkpoints.
        epoch: The first epoch that is trained with the settings.
        settings: The value of each key of `VARIABLES`.

    Returns:
        What changed against the settings before, as text: 'epochs 5 -> 7, seed 1 -> None'; empty where nothing did.

    Raises:
        PartialLabelError: The file is there, but is no such record.
    """
    file = results / RECORD_NAME
    record = _extend_record(read_record(file) if file.exists() else [], epoch, settings)
    write_json(file, record)
    if len(record) < 2 or record[-1]["from_epoch"] != epoch:
        return ""
    previous, current = map(_settings, record[-2:])
    return ", ".join(
        f"{name} {previous[name]} -> {current[name]}" for name in current if previous[name] != current[name]
    )


def read_record(file: Path) -> list[dict[str, Any]]:
    """Read the record of the settings.

    Args:
        file: The file `partial_label_run.json`.

    Returns:
        The entries, oldest first.

    Raises:
        PartialLabelError: The file is missing or no such record.
    """
    record = read_json(file)
    if isinstance(record, list) and all(_is_entry(entry) for entry in record):
        return record
    raise PartialLabelError(
        f"{file}: invalid format; expected a list of objects with the integers {', '.join(RECORD_KEYS)}. "
        "Remove it: training goes on, and what came before is no longer on record."
    )


def _is_entry(entry: object) -> bool:
    """Return whether a JSON value is an epoch and the settings from it on, of which the seed may be None."""
    if not isinstance(entry, dict) or set(entry) != set(RECORD_KEYS):
        return False
    return all(type(value) is int or (name == "seed" and value is None) for name, value in entry.items())


def _extend_record(record: Iterable[dict[str, Any]], epoch: int, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the record of a training that goes on at an epoch; what was trained beyond it is lost, and its entries."""
    kept = [entry for entry in record if entry["from_epoch"] < epoch]
    if kept and _settings(kept[-1]) == settings:
        return kept
    return [*kept, {"from_epoch": epoch, **settings}]


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "from_epoch"}


def save_training_cases(checkpoint: Path, cases_hash: str) -> None:
    """Record on which cases a checkpoint was trained; a record that cannot be read is replaced.

    Args:
        checkpoint: The file of the checkpoint.
        cases_hash: Hash of the identifiers of the training cases.
    """
    file = checkpoint.with_name(TRAINING_CASES_NAME)
    try:
        hashes = _read_training_cases(file)
    except PartialLabelError:
        hashes = {}
    if hashes.get(checkpoint.name) != cases_hash:
        write_json(file, {**hashes, checkpoint.name: cases_hash})


def check_training_cases(checkpoint: Path, cases_hash: str) -> None:
    """Check that a checkpoint was trained on the training cases of now; one without a record passes.

    Args:
        checkpoint: The file of the checkpoint.
        cases_hash: Hash of the identifiers of the training cases of now.

    Raises:
        SplitError: It was trained on other cases.
        PartialLabelError: The record cannot be read.
    """
    if _read_training_cases(checkpoint.with_name(TRAINING_CASES_NAME)).get(checkpoint.name, cases_hash) != cases_hash:
        raise SplitError(
            f"{checkpoint} was trained on other cases than splits_final.json (for fold all: the dataset) now gives "
            "this fold for training, and may have seen those that it would be validated on. Train the fold again, "
            "without --c, or put back the splits_final.json that it was trained with."
        )


def _read_training_cases(file: Path) -> dict[str, str]:
    """Read the record of the training cases.

    Returns:
        The hash of the training cases of each checkpoint; empty where there is no file.

    Raises:
        PartialLabelError: The file is no such record.
    """
    hashes = read_json(file) if file.exists() else {}
    if isinstance(hashes, dict) and all(isinstance(value, str) for value in hashes.values()):
        return hashes
    raise PartialLabelError(
        f'{file}: invalid format; expected an object such as {{"checkpoint_final.pth": "3f1c..."}}. '
        "Put it back, or train the fold again, without --c."
    )
