"""Where the manifest of a data set goes, the raw and the preprocessed folder, and what speaks against writing it."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.preprocessed_labels import outdated
from nnunet_partial.raw_dataset import places_of


def require_target(raw: Path, overwrite: bool) -> None:
    """Raises what can be said before a label file is read.

    ManifestError: there is a manifest already and `overwrite` is off. DatasetError: a folder may not be written to, or
    the data set was preprocessed with other label files. In the latter case a manifest in the preprocessed folder
    would say that training knows a structure that is background in the labels it reads.
    """
    folders = places_of(raw)
    existing = [folder / MANIFEST_NAME for folder in folders if (folder / MANIFEST_NAME).exists()]
    if existing and not overwrite:
        raise ManifestError(f"{existing[0]} exists. Replace it with --overwrite, or correct it by hand.")
    closed = [folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    if closed:
        raise DatasetError(
            f"Nothing may be written into {closed[0]}, where {MANIFEST_NAME} belongs. Have that allowed, or declare a "
            "copy of the data set."
        )
    for preprocessed in folders[1:]:
        difference = outdated(raw, preprocessed)
        if difference:
            raise DatasetError(f"Nothing was written: {difference}. Then declare.")


def write_manifest(manifest: Manifest, raw: Path) -> tuple[Path, ...]:
    """Writes the manifest into each of `places_of` and returns the files. Raises DatasetError where it cannot."""
    files = tuple(folder / MANIFEST_NAME for folder in places_of(raw))
    for file in files:
        try:
            manifest.write(file)
        except OSError as problem:
            raise DatasetError(
                f"{file} cannot be written: {problem.strerror}. Is the disk full or write-protected?"
            ) from problem
    return files
