"""Set the length and the seed of a training, and record them and its cases beside the checkpoints.

nnU-Net has no options for length and seed, so they come from environment variables (`RunSettings`). With which of them
each stretch of a training ran stands in `partial_label_run.json`; a training that is continued with other settings has
an entry more, from the epoch on at which it went on:

    [{"from_epoch": 0, "epochs": 1000, "iterations": 250, "val_iterations": 50, "seed": 1}]

On which cases and label files and under which manifest each checkpoint was trained stands in
`partial_label_folds.json`, as hashes and counts that name no case. By checkpoint, since a training that starts again
leaves those of an earlier one until it writes its own. Where the folds changed in between, nnU-Net would validate the
old one on patients that it was trained on; where the manifest or label files did, half of the training would rest on
other annotations:

    {"checkpoint_best.pth": {"cases": "3f1c...", "manifest": "9ab0...", "annotated": {"LV": 40, "MYO": 8},
                             "absent": {"LV": 0, "MYO": 0}, "domain_weights": null, "pseudo": {},
                             "labels": "77d2..."}}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_partial.errors import ManifestError, PartialLabelError, SplitError
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

#: Name of the file that records training cases and manifest of each checkpoint.
TRAINED_ON_NAME = "partial_label_folds.json"

#: Environment variable that allows, with any value, to continue a training under another manifest or on other labels.
OTHER_MANIFEST_VARIABLE = "nnUNet_partial_allow_other_manifest"


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


@dataclass(frozen=True)
class TrainedOn:
    """Hold on what a checkpoint was trained; it names no case.

    Attributes:
        cases: Hash of the identifiers of the training cases.
        manifest: Hash of the manifest; None where it is not on record, as by earlier versions.
        annotated: Number of training cases that are annotated for each class.
        absent: Number of training cases that each class is declared absent from.
        domain_weights: The manifest's weights; None where it has none.
        pseudo: Number of training cases in which a model filled each class; classes without one are left out.
        labels: Hash of the label files of the training cases; None where it is not on record.
    """

    cases: str
    manifest: str | None = None
    annotated: Mapping[str, int] = field(default_factory=dict)
    absent: Mapping[str, int] = field(default_factory=dict)
    domain_weights: Mapping[str, float] | None = None
    pseudo: Mapping[str, int] = field(default_factory=dict)
    labels: str | None = None

    @classmethod
    def from_json(cls, content: Any) -> TrainedOn:
        """Read an entry of the file; earlier versions wrote the hash of the cases alone.

        Args:
            content: The entry.

        Returns:
            The entry.

        Raises:
            TypeError: It is none.
        """
        if isinstance(content, str):
            return cls(content)
        read = cls(**content)
        counts = (read.annotated, read.absent, read.pseudo, read.domain_weights or {})
        numbers = [number for by_name in counts for number in by_name.values()]
        if (
            not isinstance(read.cases, str)
            or not isinstance(read.manifest, str | None)
            or not isinstance(read.labels, str | None)
            or not all(map(_is_real, numbers))
        ):
            raise TypeError("not the values of such an entry")
        return read

    def differences(self, now: TrainedOn) -> list[str]:
        """Say what differs in another manifest, as far as the counts tell.

        Args:
            now: What would be trained on now.

        Returns:
            One text for each difference; empty where the counts are the same.
        """
        states = (
            ("annotated", self.annotated, now.annotated),
            ("absent", self.absent, now.absent),
            ("pseudo", self.pseudo, now.pseudo),
        )
        texts = [
            f"{name} {state} in {before.get(name, 0)} -> {after.get(name, 0)} training cases"
            for state, before, after in states
            for name in {**before, **after}
            if before.get(name, 0) != after.get(name, 0)
        ]
        if (self.domain_weights or None) != (now.domain_weights or None):
            texts.append(f"domain_weights {_weights(self)} -> {_weights(now)}")
        return texts


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _weights(trained_on: TrainedOn) -> str:
    weights = trained_on.domain_weights or {}
    return ", ".join(f"{domain}={weight:g}" for domain, weight in weights.items()) or "none"


def save_trained_on(checkpoint: Path, trained_on: TrainedOn) -> None:
    """Record on what a checkpoint was trained; a record that cannot be read is replaced.

    Args:
        checkpoint: The file of the checkpoint.
        trained_on: Its training cases and manifest.
    """
    file = checkpoint.with_name(TRAINED_ON_NAME)
    try:
        entries = _read_trained_on(file)
    except PartialLabelError:
        entries = {}
    if entries.get(checkpoint.name) != trained_on:
        write_json(file, {name: asdict(entry) for name, entry in {**entries, checkpoint.name: trained_on}.items()})


def trained_on_of(checkpoint: Path) -> TrainedOn | None:
    """Read on what a checkpoint was trained.

    Args:
        checkpoint: The file of the checkpoint.

    Returns:
        Its training cases and manifest; None without a record.

    Raises:
        PartialLabelError: The record cannot be read.
    """
    return _read_trained_on(checkpoint.with_name(TRAINED_ON_NAME)).get(checkpoint.name)


def check_training_cases(checkpoint: Path, trained_on: TrainedOn) -> None:
    """Check that a checkpoint was trained on the training cases of now; one without a record passes.

    Args:
        checkpoint: The file of the checkpoint.
        trained_on: What would be trained on now.

    Raises:
        SplitError: It was trained on other cases.
        PartialLabelError: The record cannot be read.
    """
    entry = _read_trained_on(checkpoint.with_name(TRAINED_ON_NAME)).get(checkpoint.name, trained_on)
    if entry.cases != trained_on.cases:
        raise SplitError(
            f"{checkpoint} was trained on other cases than splits_final.json (for fold all: the dataset) now gives "
            "this fold for training, and may have seen those that it would be validated on. Train the fold again, "
            "without --c, or put back the splits_final.json that it was trained with."
        )


def describe_other_annotations(checkpoint: Path, trained_on: TrainedOn) -> str:
    """Say that a checkpoint was trained under another manifest or on other label files than now, and what differs.

    Args:
        checkpoint: The file of the checkpoint.
        trained_on: What would be trained on now.

    Returns:
        Sentences; empty where manifest and label files are the same, or not on record.

    Raises:
        PartialLabelError: The record cannot be read.
    """
    entry = _read_trained_on(checkpoint.with_name(TRAINED_ON_NAME)).get(checkpoint.name, trained_on)
    texts = []
    if entry.manifest not in (None, trained_on.manifest):
        differences = entry.differences(trained_on) or [
            "the numbers of training cases by structure and the domain weights are the same, so it is other entries: "
            "which of the cases are annotated, patients, domains, or test cases"
        ]
        texts.append(
            f"{checkpoint} was trained under another partial_labels.json. What changed since: {'; '.join(differences)}."
        )
    if None not in (entry.labels, trained_on.labels) and entry.labels != trained_on.labels:
        texts.append(
            f"{checkpoint} was trained on other label files of these cases: some changed since, and were preprocessed "
            "again."
        )
    return " ".join(texts)


def require_other_annotations_allowed(description: str) -> None:
    """Stop a training that is to go on with other annotations, unless the environment allows it.

    Args:
        description: What `describe_other_annotations` says; empty where all is well.

    Raises:
        ManifestError: There is something, and that is not allowed.
    """
    if description and not os.environ.get(OTHER_MANIFEST_VARIABLE):
        raise ManifestError(
            f"{description} Put the old ones back in the raw and the preprocessed folder, train the fold again, "
            f"without --c, or allow it: {OTHER_MANIFEST_VARIABLE}=1 nnUNetv2_train ... --c"
        )


def _read_trained_on(file: Path) -> dict[str, TrainedOn]:
    """Read on what the checkpoints were trained.

    Returns:
        The entry of each checkpoint; empty where there is no file.

    Raises:
        PartialLabelError: The file is no such record.
    """
    content = read_json(file) if file.exists() else {}
    try:
        return {name: TrainedOn.from_json(entry) for name, entry in content.items()}
    except (AttributeError, TypeError):
        raise PartialLabelError(
            f'{file}: invalid format; expected an object such as {{"checkpoint_final.pth": {{"cases": "3f1c...", '
            '"manifest": "9ab0..."}}. Put it back, or train the fold again, without --c.'
        ) from None
