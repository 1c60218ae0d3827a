"""Where nnU-Net finds the trainers of this package."""

from __future__ import annotations

from pathlib import Path

import nnunet_partial


def trainers_folder() -> Path:
    """The folder that the environment variable `nnUNet_extTrainer` must name."""
    return Path(nnunet_partial.__file__).resolve().parent / "trainers"
