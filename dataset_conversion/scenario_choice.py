"""Who loses which structures: patients drawn by lot, where the lot depends on the seed and the patient alone.

Each patient has a fixed place in a queue (a hash of seed and name); a fraction takes the first of the queue. So the
patients of fraction 0.25 are among those of 0.5, whatever is taken from them and whoever else is in the data set.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nnunet_partial.labels import Manifest

from .scenario_options import RANDOM


def chosen_patients(manifest: Manifest, cases: Sequence[str], fraction: float, seed: int) -> list[str]:
    """`fraction` (0 to 1) of the patients of `cases`, sorted; rounded to whole patients, a half upwards.

    The fraction holds within each domain; patients who are in several domains at once count apart. No cases: none.
    """
    domains: dict[str, set[str]] = {}
    for case in cases:
        domains.setdefault(manifest.patient_of(case), set()).add(manifest.labels_of(case).domain)
    queues: dict[tuple[str, ...], list[str]] = {}
    for patient in sorted(domains, key=lambda patient: (_lot(seed, patient), patient)):
        queues.setdefault(tuple(sorted(domains[patient])), []).append(patient)
    return sorted(patient for queue in queues.values() for patient in queue[: _share(fraction, len(queue))])


def hidden_classes(
    manifest: Manifest, cases: Sequence[str], patients: Sequence[str], missing: Sequence[str], seed: int
) -> dict[str, tuple[str, ...]]:
    """What each of `cases` loses, by case, where it loses anything: annotated classes only, absent ones stay known.

    `missing`: class names, in the order of their label values; or RANDOM alone: each patient then loses a non-empty
    proper subset of the classes that were annotated in the patient's cases, all subsets being equally likely. A patient
    with a single class cannot lose a proper subset of it and keeps it.
    """
    by_patient: dict[str, list[str]] = {patient: [] for patient in patients}
    for case in cases:
        if manifest.patient_of(case) in by_patient:
            by_patient[manifest.patient_of(case)].append(case)
    hidden: dict[str, tuple[str, ...]] = {}
    for patient, theirs in by_patient.items():
        lost = _subset(manifest, theirs, patient, seed) if list(missing) == [RANDOM] else missing
        for case in theirs:
            here = tuple(name for name in lost if name in manifest.labels_of(case).annotated)
            if here:
                hidden[case] = here
    return hidden


def hide(manifest: Manifest, hidden: Mapping[str, Sequence[str]]) -> Manifest:
    """The manifest after the cases in `hidden` lost their classes: these are unknown there from now on."""
    cases = {}
    for case, labels in manifest.cases.items():
        kept = tuple(name for name in labels.annotated if name not in hidden.get(case, ()))
        cases[case] = replace(labels, annotated=kept)
    return Manifest(cases)


def _lot(seed: int, *names: str) -> int:
    """A number that looks random, the same on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *names]).encode()).digest(), "big")


def _share(fraction: float, patients: int) -> int:
    return min(patients, math.floor(fraction * patients + 0.5))


def _subset(manifest: Manifest, cases: Sequence[str], patient: str, seed: int) -> tuple[str, ...]:
    """A non-empty proper subset of what was annotated; empty where there is none."""
    classes = sorted({name for case in cases for name in manifest.labels_of(case).annotated})
    if len(classes) < 2:
        return ()
    bits = 1 + _lot(seed, patient, "classes") % (2 ** len(classes) - 2)
    return tuple(name for place, name in enumerate(classes) if bits >> place & 1)
