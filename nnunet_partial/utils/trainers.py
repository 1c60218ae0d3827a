"""Locate this package's trainers, and let nnU-Net find them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

#: Where nnU-Net looks for trainers beside its own folder.
_TRAINERS_VARIABLE = "nnUNet_extTrainer"


def trainers_folder() -> Path:
    """Return the folder that the environment variable `nnUNet_extTrainer` must name."""
    return Path(__file__).resolve().parents[1] / "trainers"


@contextlib.contextmanager
def trainers_can_be_found() -> Iterator[None]:
    """Add our trainers to where nnU-Net looks for them, as an editable installation does not by itself.

    Yields:
        Nothing.
    """
    before = os.environ.get(_TRAINERS_VARIABLE)
    os.environ[_TRAINERS_VARIABLE] = os.pathsep.join([*filter(None, [before]), str(trainers_folder())])
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TRAINERS_VARIABLE]
        else:
            os.environ[_TRAINERS_VARIABLE] = before
