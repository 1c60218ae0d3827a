"""With which length and seed each stretch of a training ran: a file beside its checkpoints, not in them.

    [{"from_epoch": 0, "epochs": 1000, "iterations": 250, "val_iterations": 50, "seed": 1}]

A training that is continued with other settings has an entry more, from the epoch on at which it went on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.run_settings import VARIABLES
from nnunet_partial.utils.files import read_json, write_json

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
