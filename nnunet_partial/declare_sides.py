"""Who trains and who is tested: what was declared, against the folders in which the cases and the folds lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import Manifest
from nnunet_partial.splits import split_findings, training_cases_for_test, without_patients
from nnunet_partial.utils.text import some


def require_declared_sides(manifest: Manifest, training: Sequence[str], test: Sequence[str]) -> None:
    """Raises ManifestError where a case of imagesTr was declared for testing, or one of imagesTs for training."""
    testing = training_cases_for_test(manifest, training)
    if testing:
        raise ManifestError(
            f"{len(testing)} training case(s) have split 'test': {some(testing)}; nothing was written. Move them to "
            "imagesTs and labelsTs, or change the entry."
        )
    trained = [case for case in test if manifest.labels_of(case).split in ("train", "val")]
    if trained:
        raise ManifestError(
            f"{len(trained)} case(s) of imagesTs have split 'train' or 'val': {some(trained)}; nothing was written. "
            "Move them to imagesTr and labelsTr, or change the entry."
        )


def leaks(manifest: Manifest, training: Sequence[str], test: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Warnings: patients who are on both sides, in imagesTr and imagesTs or in the folds in one of `folders`, and that
    no case names its patient, so that nobody can tell."""
    found = []
    both = {manifest.patient_of(case) for case in training} & {manifest.patient_of(case) for case in test}
    if both:
        found.append(
            f"{len(both)} patient(s) have images in imagesTr and in imagesTs: {some(both)}. What is measured on the "
            "test images is then too good: move all images of a patient to one side"
        )
    return [*found, *split_findings(folders, manifest, training), *without_patients(manifest, training)]
