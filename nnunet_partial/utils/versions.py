"""Which versions of which programs made a number; asked without importing them.

Where nnU-Net finds the trainers of this package.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import nnunet_partial

PACKAGES = ("nnunetv2", "torch", "numpy", "scipy", "statsmodels", "SimpleITK")


def versions() -> dict[str, str]:
    """Version by name, Python included; "not installed" for what is not."""
    found = {"nnunet-partial": nnunet_partial.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "python": platform.python_version()}


def trainers_folder() -> Path:
    """The folder that the environment variable `nnUNet_extTrainer` must name."""
    return Path(nnunet_partial.__file__).resolve().parent / "trainers"
