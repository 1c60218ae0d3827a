"""Which cases train and which validate: folds in which no patient is on both sides.

nnU-Net's own split is random over cases, so that two frames of one heart land on both sides and the validation is too
good to be true. The folds made here go by patient, hold a share of every domain, and keep at least one patient who
knows a class in training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import format_names

SPLITS_NAME = "splits_final.json"
N_FOLDS = 5
SEED = 12345

Split = dict[str, list[str]]


def make_splits(manifest: Manifest, cases: Sequence[str], seed: int = SEED) -> tuple[list[Split], list[str]]:
    """Folds over `cases` (the training cases of a data set) and warnings for the user.

    At most five folds, fewer where there are fewer patients, none (an empty list, with a warning) where no patient can
    be spared for validation. Where the data set has an official validation part, it comes as one extra last fold.
    """
    patients = _by_patient(manifest, cases)
    needed = _sole_annotated_patients(manifest, patients)
    warnings = [
        f"patient {patient} is the only one annotated for {', '.join(classes)} and stays in training in every fold"
        for patient, classes in needed.items()
    ]
    dealt = _assign_folds(manifest, {p: c for p, c in patients.items() if p not in needed}, seed)
    folds = []
    for validating in dealt:
        validating, moved = _keep_in_training(manifest, patients, validating)
        warnings += moved
        training = [p for p in patients if p not in validating]
        if training and validating:
            folds.append(_split(patients, training, validating))
    if not folds:
        warnings.append(f"{len(patients)} patient(s): none to spare for validation: only fold 'all' can be trained")
    official, more = _official(manifest, patients)
    return folds + official, warnings + more


def missing_patient_ids(manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """A warning (none or one) where no case names its patient: then nothing keeps one person on one side."""
    if not cases or any(manifest.labels_of(case).patient is not None for case in cases):
        return []
    return [
        "no case names a patient, so each counts as a patient of its own; where one person has several images, add "
        "'patient' to partial_labels.json, or they land on both sides"
    ]


def training_cases_for_test(manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """Those of `cases`, training cases of a data set, whose entry says that they are for testing (split "test")."""
    return [case for case in cases if (labels := manifest.find(case)) and labels.split == "test"]


def test_split_message(cases: Sequence[str]) -> str:
    """What to say, and do, about the cases that `training_cases_for_test` finds."""
    return (
        f"{len(cases)} training case(s) have split 'test' in {MANIFEST_NAME}: {format_names(list(cases))}. "
        "Move them to "
        "imagesTs and labelsTs, or change the entry"
    )


def check_splits(splits: Any, manifest: Manifest, cases: Sequence[str]) -> None:
    """Raises SplitError where a fold has a patient on both sides or an empty side, names cases that are not in the data
    set, or where a case of the data set is in no fold. `splits` is the content of splits_final.json. Of a case without
    an entry in the manifest nobody knows the patient; who calls this names such cases."""
    if not isinstance(splits, list) or not all(_is_split(split) for split in splits):
        raise SplitError(f'{SPLITS_NAME} must be a list of {{"train": [cases], "val": [cases]}}. {_FIX_SPLITS}')
    existing, found = set(cases), []
    named = {case for case in existing if manifest.find(case)}
    for index, split in enumerate(splits):
        strangers = (set(split["train"]) | set(split["val"])) - existing
        if strangers:
            found.append(
                f"fold {index} names {len(strangers)} case(s) that are not in the data set: {format_names(strangers)}"
            )
        training, validating = (
            {manifest.patient_of(case) for case in split[side] if case in named} for side in ("train", "val")
        )
        both = training & validating
        if both:
            found.append(f"fold {index} has {len(both)} patient(s) on both sides: {format_names(both)}")
        for side in ("train", "val"):
            if not split[side]:
                found.append(f"fold {index} has no case in {side!r}")
    forgotten = existing - {case for split in splits for case in (*split["train"], *split["val"])}
    if forgotten:
        found.append(f"{len(forgotten)} case(s) of the data set are in no fold: {format_names(forgotten)}")
    if found:
        raise SplitError(f"{SPLITS_NAME}: " + "; ".join(found) + f". {_FIX_SPLITS}")


_FIX_SPLITS = (
    "Delete the file in the raw and the preprocessed folder (it is then made again, by patient), or correct it; which "
    "patient a case belongs to stands in partial_labels.json."
)


def split_findings(folders: Sequence[Path], manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """What `check_splits` says of the split in each of `folders` that has one, a line each; empty where all is well."""
    found = []
    for folder in folders:
        if (folder / SPLITS_NAME).exists():
            try:
                check_splits(read_json(folder / SPLITS_NAME, SplitError), manifest, cases)
            except PartialLabelError as problem:
                found.append(f"{folder}: {problem}")
    return found


def _is_split(split: Any) -> bool:
    return isinstance(split, dict) and all(
        isinstance(split.get(side), list) and all(isinstance(case, str) for case in split[side])
        for side in ("train", "val")
    )


def _by_patient(manifest: Manifest, cases: Sequence[str]) -> dict[str, list[str]]:
    patients: dict[str, list[str]] = {}
    for case in sorted(cases):
        patients.setdefault(manifest.patient_of(case), []).append(case)
    return patients


def _sole_annotated_patients(manifest: Manifest, patients: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Patients who alone were annotated for a class, and those classes."""
    experts: dict[str, list[str]] = {}
    for patient, cases in patients.items():
        for name in sorted(manifest.annotated_classes(cases)):
            experts.setdefault(name, []).append(patient)
    only: dict[str, list[str]] = {}
    for name, names in experts.items():
        if len(names) == 1:
            only.setdefault(names[0], []).append(name)
    return only


def _assign_folds(manifest: Manifest, patients: Mapping[str, list[str]], seed: int) -> list[list[str]]:
    """Shuffles the patients within each domain and label set and deals them out like cards: folds of equal size."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for patient, cases in patients.items():
        kind = (manifest.labels_of(cases[0]).domain, *sorted(manifest.annotated_classes(cases)))
        kinds.setdefault(kind, []).append(patient)
    shuffler = random.Random(seed)
    queue: list[str] = []
    for kind in sorted(kinds):
        shuffler.shuffle(kinds[kind])
        queue += kinds[kind]
    n_folds = min(N_FOLDS, len(queue))
    return [queue[index::n_folds] for index in range(n_folds)]


def _keep_in_training(
    manifest: Manifest, patients: Mapping[str, list[str]], validating: list[str]
) -> tuple[list[str], list[str]]:
    """Moves patients from validation to training until training knows every class that the data set knows."""
    warnings = []
    for name in sorted(manifest.annotated_classes([case for cases in patients.values() for case in cases])):
        experts = [p for p in patients if name in manifest.annotated_classes(patients[p])]
        if all(expert in validating for expert in experts):
            validating = [p for p in validating if p != experts[0]]
            warnings.append(
                f"patient {experts[0]} stays in training in one more fold, or nobody there would know {name}"
            )
    return validating, warnings


def _split(patients: Mapping[str, list[str]], training: Sequence[str], validating: Sequence[str]) -> Split:
    return {
        "train": sorted(case for patient in training for case in patients[patient]),
        "val": sorted(case for patient in validating for case in patients[patient]),
    }


def _official(manifest: Manifest, patients: Mapping[str, list[str]]) -> tuple[list[Split], list[str]]:
    """The official validation part as one fold; nothing where there is none or where it would leak."""
    sides = {
        patient: {manifest.labels_of(case).split == "val" for case in cases} for patient, cases in patients.items()
    }
    validating = [patient for patient, side in sides.items() if True in side]
    leaking = [patient for patient in validating if False in sides[patient]]
    training = [patient for patient in patients if patient not in validating]
    if leaking:
        return [], [
            f"no fold for the official split: it has {len(leaking)} patient(s) on both sides: {format_names(leaking)}"
        ]
    if not validating or not training:
        return [], []
    fold = _split(patients, training, validating)
    lost = manifest.annotated_classes(fold["val"]) - manifest.annotated_classes(fold["train"])
    warnings = [
        f"in the official split (the last fold) no training case is annotated for {name}: that fold cannot be trained"
        for name in sorted(lost)
    ]
    return [fold], warnings
