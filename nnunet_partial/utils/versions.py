"""Hold the version of this package, and collect those of the packages that results depend on.

No package is imported for that.
"""

from __future__ import annotations

import platform
from importlib import metadata

__version__ = "0.1.0"

PACKAGES = ("nnunetv2", "torch", "numpy", "scipy", "statsmodels", "SimpleITK")


def versions() -> dict[str, str]:
    """Return the version of each package and of Python, by name; "not installed" for a package that is not."""
    by_name = {"nnunet-partial": __version__}
    for package in PACKAGES:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            by_name[package] = "not installed"
    return {**by_name, "python": platform.python_version()}
