"""Compare what nnU-Net preprocessed with the raw dataset. nnU-Net keeps copies of the label files of that time."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset, dataset_id
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import atomic_path, same_bytes
from nnunet_partial.utils.text import format_names

#: The folder of the copies, in the preprocessed folder of a dataset.
GT_SEGMENTATIONS = "gt_segmentations"


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


def describe_stale_labels(raw: Path, preprocessed: Path) -> str | None:
    """Describe how the raw dataset changed since it was preprocessed: cases added or removed, other label files.

    Training takes the preprocessed labels for what the manifest says of the new ones: a structure annotated since would
    be trained as background.

    Args:
        raw: The raw folder.
        preprocessed: The preprocessed folder.

    Returns:
        What changed, and what to do; None where nothing changed, or nothing was preprocessed.
    """
    copies_folder, dataset = preprocessed / GT_SEGMENTATIONS, RawDataset(raw)
    if not copies_folder.is_dir():
        return None
    labels = labels_of_images(dataset)
    copies = {path.name for path in copies_folder.glob(f"*{dataset.file_ending}")}
    names = {path.name: case for case, path in labels.items()}
    added = [case for name, case in names.items() if name not in copies]
    removed = [name.removesuffix(dataset.file_ending) for name in copies if name not in names]
    changed = changed_labels(labels, preprocessed)
    differences = [
        f"{len(cases)} case(s) {what}: {format_names(cases)}"
        for cases, what in ((added, "were added"), (removed, "are gone"), (changed, "have other label files"))
        if cases
    ]
    if not differences:
        return None
    return (
        f"since {preprocessed.name} was preprocessed, {'; '.join(differences)}. Delete {copies_folder} first (nnU-Net "
        f"does not remove old files there), then preprocess it again: nnUNetv2_plan_and_preprocess -d {dataset_id(raw)}"
    )


def labels_of_images(raw: RawDataset) -> dict[str, Path]:
    """List the label files of training cases; as for nnU-Net, a label file without an image is no case.

    Args:
        raw: The raw dataset.

    Returns:
        File by case identifier.
    """
    images = raw.image_files()
    return {case: path for case, path in raw.label_files().items() if case in images}


def changed_labels(labels: Mapping[str, Path], preprocessed: Path) -> list[str]:
    """Find label files whose bytes differ from their preprocessed copies.

    Args:
        labels: Raw label file by case identifier.
        preprocessed: The preprocessed folder.

    Returns:
        The cases that differ; those without a copy are left out.
    """
    copies = {case: preprocessed / GT_SEGMENTATIONS / path.name for case, path in labels.items()}
    return [case for case, path in labels.items() if copies[case].exists() and not same_bytes(path, copies[case])]
