"""On which cases was each checkpoint trained? A file beside the checkpoints says it, as a sum that names no case.

    {"checkpoint_best.pth": "3f1c...", "checkpoint_latest.pth": "3f1c..."}

By checkpoint, since a training that starts anew leaves those of an earlier one until it writes its own. Where the folds
changed in between, nnU-Net would validate the old one on patients that it was trained on.
"""

from __future__ import annotations

from pathlib import Path

from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.utils.files import read_json, write_json

TRAINED_NAME = "partial_label_folds.json"


def remember_trained(checkpoint: Path, cases_sum: str) -> None:
    """Writes down that `checkpoint` was trained on the cases of this sum. What cannot be read is written anew."""
    file = checkpoint.with_name(TRAINED_NAME)
    try:
        trained = _read(file)
    except PartialLabelError:
        trained = {}
    if trained.get(checkpoint.name) != cases_sum:
        write_json(file, {**trained, checkpoint.name: cases_sum})


def require_trained(checkpoint: Path, cases_sum: str) -> None:
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
