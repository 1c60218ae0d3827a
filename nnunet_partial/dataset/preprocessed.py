"""Is what nnU-Net preprocessed still the data set? It keeps copies of the label files as they were then."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset, dataset_id
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import atomic_path, same_bytes
from nnunet_partial.utils.text import format_names


def read_manifest(preprocessed: Path, raw: Path | None) -> Manifest:
    """Read the manifest of a preprocessed dataset, after copying it from the raw folder where it is not there yet.

    Args:
        preprocessed: The dataset's folder in nnUNet_preprocessed.
        raw: Its folder in nnUNet_raw, which may be missing; None where nnUNet_raw is not set.

    Returns:
        The manifest; each of the two files is read once.

    Raises:
        ManifestError: Neither folder has a manifest, one is broken, or the two say different things.
    """
    copy = preprocessed / MANIFEST_NAME
    source = raw / MANIFEST_NAME if raw is not None else None
    if source is None or not source.exists():
        return Manifest.read(copy)
    manifest = Manifest.read(source)
    if not copy.exists():
        with atomic_path(copy) as temporary:
            shutil.copyfile(source, temporary)
    elif Manifest.read(copy) != manifest:
        raise ManifestError(
            f"{source} and {copy} differ, so it is not clear what was annotated. Copy the raw one over "
            "the other, and preprocess again if label files changed with it."
        )
    return manifest


#: The folder of the copies, in the preprocessed folder of a data set.
GT_SEGMENTATIONS = "gt_segmentations"


def describe_stale_labels(raw: Path, preprocessed: Path) -> str | None:
    """What of the raw data set `raw` is not as it was preprocessed, in words; None where all is, or nothing was.

    Cases that were added or removed since, and label files with other bytes. A training would take the preprocessed
    labels for what the manifest says of the new ones: a structure drawn since would be taught as background.
    """
    copies, dataset = preprocessed / GT_SEGMENTATIONS, RawDataset(raw)
    if not copies.is_dir():
        return None
    ours = labels_of_images(dataset)
    theirs = {path.name: path for path in copies.glob(f"*{dataset.file_ending}")}
    names = {path.name: case for case, path in ours.items()}
    added = [case for name, case in names.items() if name not in theirs]
    removed = [name.removesuffix(dataset.file_ending) for name in theirs if name not in names]
    changed = changed_labels(ours, preprocessed)
    found = [
        f"{len(cases)} case(s) {what}: {format_names(cases)}"
        for cases, what in ((added, "were added"), (removed, "are gone"), (changed, "have other label files"))
        if cases
    ]
    if not found:
        return None
    return (
        f"since {preprocessed.name} was preprocessed, {'; '.join(found)}. Preprocess it again: "
        f"nnUNetv2_plan_and_preprocess -d {dataset_id(raw)}, after deleting {copies}, where nnU-Net removes nothing"
    )


def labels_of_images(raw: RawDataset) -> dict[str, Path]:
    """The label file of each training case; one without an image is no case, for nnU-Net neither."""
    images = raw.image_files()
    return {case: path for case, path in raw.label_files().items() if case in images}


def changed_labels(labels: Mapping[str, Path], preprocessed: Path) -> list[str]:
    """The cases whose label file has other bytes than its copy; those without a copy are left out."""
    copies = {case: preprocessed / GT_SEGMENTATIONS / path.name for case, path in labels.items()}
    return [case for case, path in labels.items() if copies[case].exists() and not same_bytes(path, copies[case])]
