"""Find recordings that occur more than once, so that no patient is on both sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import FRAME_HASH, CaseLabels
from nnunet_partial.utils.text import format_names

from .readers.images import to_smallest_dtype
from .readers.nifti_video import NiftiVideo


def frame_hash(video: NiftiVideo) -> str | None:
    """Hash the first frame of a video that is not blank.

    Args:
        video: The recording.

    Returns:
        16 hexadecimal digits, equal for equal pixels however the frame is transposed or mirrored. None if all frames
        are blank, or the file is broken before one that is not: blank frames must not link strangers.
    """
    try:
        for frame in video.frames():
            if frame.min() < frame.max():
                return min(_hash(stored) for stored in _orientations(to_smallest_dtype(frame)))
    except ConversionError:
        return None
    return None


def _orientations(frame: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the frame (rows, cols) in all eight orientations in which a file may store it."""
    for stored in (frame, frame.T):
        yield from (stored, stored[::-1], stored[:, ::-1], stored[::-1, ::-1])


def _hash(frame: NDArray[Any]) -> str:
    return hashlib.sha256(f"{frame.shape} {frame.dtype}".encode() + frame.tobytes()).hexdigest()[:16]


def link_duplicates(links: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Link patients that share a recording.

    Args:
        links: Patient and frame hash, one pair per video; None links to nobody.

    Returns:
        For each patient the first, in order, of all linked patients; a patient without a link maps to itself.
    """
    parent: dict[str, str] = {}

    def root(patient: str) -> str:
        while parent.setdefault(patient, patient) != patient:
            patient = parent[patient]
        return patient

    first: dict[str, str] = {}
    for patient, frame in links:
        own = root(patient)
        if frame is not None:
            kept, linked = sorted((root(first.setdefault(frame, patient)), own))
            parent[linked] = kept
    return {patient: root(patient) for patient in parent}


def patient_by_case(entries: Iterable[tuple[str, CaseLabels]]) -> dict[str, str]:
    """Map each patient to the one name that all names of the same person get; see `link_duplicates`.

    Args:
        entries: Pairs of case and manifest entry.

    Returns:
        Common name by patient; by case where the entry has no patient.
    """
    links = ((labels.patient or case, labels.info.get(FRAME_HASH)) for case, labels in entries)
    return link_duplicates((patient, frame if isinstance(frame, str) else None) for patient, frame in links)


def merge_duplicate_patients(entries: Mapping[str, CaseLabels]) -> tuple[dict[str, CaseLabels], list[str]]:
    """Give duplicate patients one name, where frame hashes show that they are the same person.

    Args:
        entries: Manifest entries by case, of all datasets that are merged.

    Returns:
        The entries with common patient names, and a list with one warning; empty if there are no duplicates.
    """
    person = patient_by_case(entries.items())
    renamed = {patient: kept for patient, kept in person.items() if patient != kept}
    merged = {
        case: replace(labels, patient=renamed[labels.patient or case])
        if (labels.patient or case) in renamed
        else labels
        for case, labels in entries.items()
    }
    warning = (
        f"{len(renamed)} patient(s) have the same recording under another name; they count as one patient, so that "
        f"no split separates them: {format_names([f'{patient} = {kept}' for patient, kept in renamed.items()])}"
    )
    return merged, [warning] if renamed else []
