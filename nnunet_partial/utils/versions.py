"""Collect the versions of the packages that results depend on, and locate this package's trainers.

No package is imported for that.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import nnunet_partial

#: Where nnU-Net looks for trainers beside its own folder.
_TRAINERS_VARIABLE = "nnUNet_extTrainer"
PACKAGES = ("nnunetv2", "torch", "numpy", "scipy", "statsmodels", "SimpleITK")


def versions() -> dict[str, str]:
    """Return the version of each package and of Python, by name; "not installed" for a package that is not."""
    by_name = {"nnunet-partial": nnunet_partial.__version__}
    for package in PACKAGES:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            by_name[package] = "not installed"
    return {**by_name, "python": platform.python_version()}


def trainers_folder() -> Path:
    """Return the folder that the environment variable `nnUNet_extTrainer` must name."""
    return Path(nnunet_partial.__file__).resolve().parent / "trainers"


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
