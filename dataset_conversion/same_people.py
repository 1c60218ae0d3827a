"""Finding videos that are in a collection more than once, so that no patient is on both sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nnunet_partial.errors import ConversionError, some
from nnunet_partial.labels import CaseLabels

from .nifti_video import NiftiVideo

#: Entry of a case in the manifest: equal hashes are the same recording.
FRAME_HASH = "frame_hash"


def frame_hash(video: NiftiVideo) -> str | None:
    """A name for the video's first frame that shows anything; the same for equal pixels of equal size, else another.

    None where no frame shows anything, or the file is broken before: blank frames must not make strangers one patient.
    """
    try:
        for frame in video.frames():
            if frame.min() < frame.max():
                pixels = np.ascontiguousarray(frame, dtype="<f4").tobytes()
                return hashlib.sha256(f"{frame.shape}".encode() + pixels).hexdigest()[:16]
    except ConversionError:
        return None
    return None


def groups(links: Iterable[tuple[str, str | None]]) -> dict[str, str]:
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


def with_one_patient(entries: Mapping[str, CaseLabels]) -> tuple[dict[str, CaseLabels], list[str]]:
    """The cases with one patient per person, where frame hashes show that several are the same; and a warning for it.

    `entries`: by case, of all data sets that are merged.
    """
    links = [(labels.patient or case, labels.info.get(FRAME_HASH)) for case, labels in entries.items()]
    person = groups(links)
    changed = [f"{patient} = {one}" for patient, one in person.items() if patient != one]
    warning = (
        f"{len(changed)} patient(s) are in the data sets under several names, with the same recordings; they count as "
        f"one, so that no split parts them: {some(changed)}"
    )
    merged = {
        case: replace(labels, patient=person[labels.patient or case])
        if person[labels.patient or case] != (labels.patient or case)
        else labels
        for case, labels in entries.items()
    }
    return merged, [warning] if changed else []


def duplicates(sources: Sequence[tuple[str, str | None]]) -> dict[str, list[str]]:
    """Names of videos by frame hash, only hashes that occur more than once."""
    names: dict[str, list[str]] = {}
    for name, found in sources:
        if found is not None:
            names.setdefault(found, []).append(name)
    return {found: same for found, same in names.items() if len(same) > 1}
