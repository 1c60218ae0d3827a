"""Compare what nnU-Net preprocessed with the raw dataset. nnU-Net keeps copies of the label files of that time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from nnunet_partial.dataset.raw import SUBSETS, RawDataset, dataset_id
from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.utils.files import copy_file, same_bytes
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
        copy_file(source, copy)
    elif Manifest.read(copy) != manifest:
        raise ManifestError(
            f"{source} and {copy} differ, so it is not clear what was annotated. If the raw one is right: "
            f"{update_command(preprocessed)}"
        )
    return manifest


def update_command(dataset: Path) -> str:
    """Return the command that takes an edited raw manifest over.

    Args:
        dataset: Any folder with the full name of the dataset.

    Returns:
        The command.
    """
    return f"nnunet_partial check -d {dataset_id(dataset)} --update-preprocessed"


def update_manifest(raw: Path, preprocessed: Path) -> str:
    """Copy the raw manifest over the preprocessed one where the label files are those that were preprocessed.

    Args:
        raw: The raw folder.
        preprocessed: The preprocessed folder.

    Returns:
        What was done, and how many pairs of case and class change.

    Raises:
        ManifestError: The preprocessed manifest is the newer one, or one of the two is broken; nothing was copied.
        DatasetError: Label files changed, or were never preprocessed; nothing was copied.
    """
    source, copy, dataset = raw / MANIFEST_NAME, preprocessed / MANIFEST_NAME, RawDataset(raw)
    manifest, old = dataset.manifest, Manifest.read(copy) if copy.exists() else None
    if old == manifest:
        return f"{copy} says the same as {source}; nothing was copied."
    if old is not None and copy.stat().st_mtime_ns > source.stat().st_mtime_ns:
        raise ManifestError(
            f"{copy} ({_time(copy)}) is newer than {source} ({_time(source)}); nothing was copied. If the newer one is "
            "right, copy it over the raw one; if the raw one is right, touch it and run this again."
        )
    if not (preprocessed / GT_SEGMENTATIONS).is_dir():
        raise DatasetError(
            f"{preprocessed / GT_SEGMENTATIONS} does not exist, so that label files cannot be compared; the manifest "
            f"was not copied. First: nnUNetv2_plan_and_preprocess -d {dataset_id(raw)}"
        )
    stale = describe_stale_labels(raw, preprocessed)
    if stale:
        raise DatasetError(f"The manifest was not copied: {stale}; after that, run this again.")
    copy_file(source, copy)
    if old is None:
        return f"{source} was copied to {copy}."
    cases = [case for subset in SUBSETS for case in dataset.image_files(subset)]
    return f"{source} was copied over {copy}. {_describe_changes(old, manifest, cases, dataset.structures)}"


def _time(file: Path) -> str:
    return datetime.fromtimestamp(file.stat().st_mtime).isoformat(" ", "seconds")


def _describe_changes(old: Manifest, new: Manifest, cases: Sequence[str], classes: Sequence[str]) -> str:
    """Return how many pairs of case and class change from what to what, and in how many cases something else does."""
    changes: Counter[tuple[str, str, str]] = Counter()
    others = 0
    for case in cases:
        before, after = old.find(case), new.find(case)
        states = [(name, _state(before, name), _state(after, name)) for name in classes]
        changes.update(change for change in states if change[1] != change[2])
        others += _without_classes(before) != _without_classes(after)
    each = "; ".join(f"{name} {before} -> {after}: {count}" for (name, before, after), count in changes.items())
    lines = [f"{changes.total()} pair(s) of case and class change{f': {each}' if each else ''}."]
    if others:
        lines.append(f"In {others} case(s) another entry changes, such as domain or patient.")
    if old.domain_weights != new.domain_weights:
        lines.append("The domain weights change.")
    return " ".join(lines)


def _state(labels: CaseLabels | None, name: str) -> str:
    return labels.state(name) if labels else "no entry"


def _without_classes(labels: CaseLabels | None) -> CaseLabels | None:
    return labels and replace(labels, annotated=(), absent=(), pseudo=())


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
    images = dataset.image_files()
    labels = {case: path for case, path in dataset.label_files().items() if case in images}  # others are no cases
    copies = {path.name for path in copies_folder.glob(f"[!.]*{dataset.file_ending}")}
    names = {f"{case}{dataset.file_ending}": case for case in labels}
    added = [case for name, case in names.items() if name not in copies]
    removed = [name.removesuffix(dataset.file_ending) for name in copies if name not in names]
    changed = changed_labels(labels, preprocessed, dataset.file_ending)
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


def changed_labels(labels: Mapping[str, Path], preprocessed: Path, file_ending: str) -> list[str]:
    """Find label files whose bytes differ from their preprocessed copies.

    Args:
        labels: Raw label file by case.
        preprocessed: The preprocessed folder.
        file_ending: Of the dataset.

    Returns:
        The cases that differ; those without a copy are left out.
    """
    copies = {case: preprocessed / GT_SEGMENTATIONS / f"{case}{file_ending}" for case in labels}
    return [case for case, path in labels.items() if copies[case].exists() and not same_bytes(path, copies[case])]
