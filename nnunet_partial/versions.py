"""Which versions of which programs made a number; asked without importing them."""

from __future__ import annotations

import platform
from importlib import metadata

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
