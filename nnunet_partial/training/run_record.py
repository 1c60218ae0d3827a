"""With which length and seed each stretch of a training ran: a file beside its checkpoints, not in them.

    [{"from_epoch": 0, "epochs": 1000, "iterations": 250, "val_iterations": 50, "seed": 1}]

A training that is continued with other settings has an entry more, from the epoch on at which it went on.

How long a training runs and with which seed, from environment variables, since nnU-Net has no options for them.

On which cases was each checkpoint trained? A file beside the checkpoints says it, as a sum that names no case.

    {"checkpoint_best.pth": "3f1c...", "checkpoint_latest.pth": "3f1c..."}

By checkpoint, since a training that starts anew leaves those of an earlier one until it writes its own. Where the folds
changed in between, nnU-Net would validate the old one on patients that it was trained on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.utils.files import read_json, write_json

#: field -> environment variable
VARIABLES = {
    "epochs": "nnUNet_partial_epochs",
    "iterations": "nnUNet_partial_iterations",
    "val_iterations": "nnUNet_partial_val_iterations",
    "seed": "nnUNet_partial_seed",
}


@dataclass(frozen=True)
class RunSettings:
    """What the environment asks for; None leaves the trainer's own value (for the seed: none, as nnU-Net does).

    epochs: number of epochs. iterations: training iterations per epoch. val_iterations: validation iterations per
    epoch. seed: of the weights, the sampling and the augmentation.
    """

    epochs: int | None = None
    iterations: int | None = None
    val_iterations: int | None = None
    seed: int | None = None

    @classmethod
    def from_environment(cls) -> RunSettings:
        """Raises PartialLabelError for a value that is no whole number, or too small."""
        return cls(**{field: _whole_number(variable, int(field != "seed")) for field, variable in VARIABLES.items()})

    def as_dict(self) -> dict[str, int | None]:
        return asdict(self)

    def __str__(self) -> str:
        given = {VARIABLES[field]: value for field, value in self.as_dict().items() if value is not None}
        return ", ".join(f"{variable}={value}" for variable, value in given.items()) or "none"


def _whole_number(variable: str, least: int) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < least or int(text) >= 2**32:
        raise PartialLabelError(f"{variable} is {text!r}; expected a whole number from {least}. Correct or unset it.")
    return int(text)


RECORD_NAME = "partial_label_run.json"

KEYS = ("from_epoch", *VARIABLES)

#: Where the first versions kept the settings of every epoch: a list in the log that a checkpoint holds.
OLD_LOG_KEY = "partial_label_run"

Entry = dict[str, Any]


def record_run(results: Path, epoch: int, settings: Mapping[str, Any], older: Sequence[Entry] = ()) -> str:
    """Brings the record in a results folder up to date when a training starts, or goes on, at `epoch`.

    `older` stands in for the file where there is none yet. Gives what changed, in words: 'epochs 5 -> 7, seed 1 ->
    None'; empty where nothing did. Raises PartialLabelError where the file is no such record.
    """
    file = results / RECORD_NAME
    record = extended(read_record(file) if file.exists() else older, epoch, settings)
    write_json(file, record)
    if len(record) < 2 or record[-1]["from_epoch"] != epoch:
        return ""
    before, now = map(_settings, record[-2:])
    return ", ".join(f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name])


def read_record(file: Path) -> list[Entry]:
    """The entries, oldest first. Raises PartialLabelError where the file is missing or no such record."""
    found = read_json(file)
    if isinstance(found, list) and all(_is_entry(entry) for entry in found):
        return found
    raise PartialLabelError(
        f"{file} is no record of a training; expected a list of objects with the whole numbers {', '.join(KEYS)}. "
        "Remove it: training goes on, and what came before is no longer on record."
    )


def _is_entry(entry: object) -> bool:
    """An epoch to begin with, and settings, of which the seed may be None."""
    if not isinstance(entry, dict) or set(entry) != set(KEYS):
        return False
    return all(type(value) is int or (name == "seed" and value is None) for name, value in entry.items())


def from_old_log(log: Sequence[Mapping[str, Any] | None]) -> list[Entry]:
    """The record that an earlier version kept: settings per epoch, None where another trainer trained."""
    record: list[Entry] = []
    for epoch, settings in enumerate(log):
        if settings is not None:
            record = extended(record, epoch, settings)
    return record


def extended(record: Iterable[Entry], epoch: int, settings: Mapping[str, Any]) -> list[Entry]:
    """The record of a training that goes on at `epoch`. What was trained beyond it is lost, and so are its entries."""
    kept = [entry for entry in record if entry["from_epoch"] < epoch]
    if kept and _settings(kept[-1]) == settings:
        return kept
    return [*kept, {"from_epoch": epoch, **settings}]


def _settings(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if name != "from_epoch"}


TRAINED_NAME = "partial_label_folds.json"


def save_training_cases(checkpoint: Path, cases_sum: str) -> None:
    """Writes down that `checkpoint` was trained on the cases of this sum. What cannot be read is written anew."""
    file = checkpoint.with_name(TRAINED_NAME)
    try:
        trained = _read(file)
    except PartialLabelError:
        trained = {}
    if trained.get(checkpoint.name) != cases_sum:
        write_json(file, {**trained, checkpoint.name: cases_sum})


def check_training_cases(checkpoint: Path, cases_sum: str) -> None:
    """Raises SplitError where `checkpoint` was trained on other cases; passes one of which nothing is written down.

    Raises PartialLabelError where the file is not readable.
    """
    if _read(checkpoint.with_name(TRAINED_NAME)).get(checkpoint.name, cases_sum) != cases_sum:
        raise SplitError(
            f"{checkpoint} was trained on other cases than splits_final.json (for fold all: the data set) now gives "
            "this fold for training, and may know those that it would be validated on. Train the fold anew, without "
            "--c, or put back the splits_final.json that it was trained with."
        )


def _read(file: Path) -> dict[str, str]:
    found = read_json(file) if file.exists() else {}
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found
    raise PartialLabelError(
        f'{file} is no record of checkpoints; expected an object such as {{"checkpoint_final.pth": "3f1c..."}}. '
        "Put it back, or train the fold anew, without --c."
    )
