"""Finding videos that are in a collection more than once, so that no patient is on both sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import format_names

from .readers.images import to_smallest_dtype
from .readers.nifti_video import NiftiVideo

#: Entry of a case in the manifest: equal hashes are the same recording.
FRAME_HASH = "frame_hash"


def frame_hash(video: NiftiVideo) -> str | None:
    """A name for the video's first frame that shows anything: the same for equal pixels, however turned or mirrored.

    None where no frame shows anything, or the file is broken before: blank frames must not make strangers one patient.
    """
    try:
        for frame in video.frames():
            if frame.min() < frame.max():
                return min(_digest(turned) for turned in _turned(to_smallest_dtype(frame)))
    except ConversionError:
        return None
    return None


def _turned(frame: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The frame (rows, cols) in all eight ways in which a file may store it."""
    for way in (frame, frame.T):
        yield from (way, way[::-1], way[:, ::-1], way[::-1, ::-1])


def _digest(frame: NDArray[Any]) -> str:
    return hashlib.sha256(f"{frame.shape} {frame.dtype}".encode() + frame.tobytes()).hexdigest()[:16]


def link_duplicates(links: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """For each patient the first, in order, of all patients who are the same person; who stands alone is its own.

    `links`: patient and frame hash, one pair per video; hashes that are None link nobody.
    """
    parent: dict[str, str] = {}

    def root(patient: str) -> str:
        while parent.setdefault(patient, patient) != patient:
            patient = parent[patient]
        return patient

    first: dict[str, str] = {}
    for patient, found in links:
        here = root(patient)
        if found is not None:
            one, other = sorted((root(first.setdefault(found, patient)), here))
            parent[other] = one
    return {patient: root(patient) for patient in parent}


def patient_by_case(entries: Iterable[tuple[str, CaseLabels]]) -> dict[str, str]:
    """For each patient of these (case, labels) the one name that all of the same person get; see `groups`."""
    links = ((labels.patient or case, labels.info.get(FRAME_HASH)) for case, labels in entries)
    return link_duplicates((patient, found if isinstance(found, str) else None) for patient, found in links)


def merge_duplicate_patients(entries: Mapping[str, CaseLabels]) -> tuple[dict[str, CaseLabels], list[str]]:
    """The cases with one patient per person, where frame hashes show that several are the same; and a warning for it.

    `entries`: by case, of all data sets that are merged.
    """
    person = patient_by_case(entries.items())
    renamed = {patient: one for patient, one in person.items() if patient != one}
    merged = {
        case: replace(labels, patient=renamed[labels.patient or case])
        if (labels.patient or case) in renamed
        else labels
        for case, labels in entries.items()
    }
    warning = (
        f"{len(renamed)} patient(s) are there under another name too, with the same recording; they count as one, so "
        f"that no split parts them: {format_names([f'{patient} = {one}' for patient, one in renamed.items()])}"
    )
    return merged, [warning] if renamed else []
