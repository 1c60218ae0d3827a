"""Split cases into training and validation by patient.

nnU-Net's own split is random over cases, so that two frames of one heart land on both sides and validation results are
too good. The folds made here keep a patient on one side, hold a share of every domain, and keep at least one patient
who is annotated for a class in training.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.preprocessed import update_command
from nnunet_partial.dataset.raw import manifest_folders
from nnunet_partial.errors import ManifestError, PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import format_names

SPLITS_NAME = "splits_final.json"
N_FOLDS = 5
SEED = 12345

#: A fold: case identifiers under "train" and "val".
Split = dict[str, list[str]]

_FIX_SPLITS = (
    "Delete the file in the raw and the preprocessed folder (it will be recreated, by patient), or correct it; "
    "patients are read from partial_labels.json."
)


def make_splits(
    manifest: Manifest, cases: Sequence[str], seed: int = SEED, n_folds: int = N_FOLDS
) -> tuple[list[Split], list[str]]:
    """Split the training cases of a dataset by patient.

    Patients are shuffled within each domain and set of annotated classes. A patient who alone is annotated for a class
    stays in training. Cases that are declared left out are in no fold.

    Args:
        manifest: The manifest.
        cases: Training cases.
        seed: Random seed.
        n_folds: How many folds to make.

    Returns:
        The folds and warnings for the user. Fewer folds than asked for where there are fewer patients; none where no
        patient can be spared for validation. Where the dataset has an official validation part, it comes as one extra
        last fold.
    """
    patients = _by_patient(manifest, [case for case in cases if not manifest.labels_of(case).left_out])
    needed = _sole_annotated_patients(manifest, patients)
    warnings = [
        f"patient {patient} is the only one annotated for {', '.join(classes)} and stays in training in every fold"
        for patient, classes in needed.items()
    ]
    assigned = _assign_folds(manifest, {p: c for p, c in patients.items() if p not in needed}, seed, n_folds)
    folds = []
    for validation in assigned:
        validation, moved = _keep_in_training(manifest, patients, validation)
        warnings += moved
        training = [p for p in patients if p not in validation]
        if training and validation:
            folds.append(_split(patients, training, validation))
    if not folds:
        warnings.append(f"{len(patients)} patient(s): none to spare for validation: only fold 'all' can be trained")
    official, more = _official(manifest, patients)
    return folds + official, warnings + more


def patient_warnings(manifest: Manifest, cases: Sequence[str], test: Sequence[str] = ()) -> list[str]:
    """Warn where cases of one person may land on both sides: they name no patient, or spell the name differently.

    Args:
        manifest: The manifest.
        cases: Training cases that it names.
        test: Test cases that it names; they may name no patient.

    Returns:
        The warnings; empty where every case names its patient and no two names are alike.
    """
    nameless = [case for case in cases if manifest.labels_of(case).patient is None]
    warnings = similar_patients(manifest.patient_of(case) for case in (*cases, *test))
    if not nameless:
        return warnings
    which = "no case names" if len(nameless) == len(cases) else f"{len(nameless)} case(s) do not name"
    names = "" if len(nameless) == len(cases) else f" ({format_names(nameless)})"
    return [
        f"{which} a patient{names}, so each counts as a patient of its own; where one person has several images, add "
        "'patient' to partial_labels.json, or they land on both sides",
        *warnings,
    ]


def similar_patients(names: Iterable[str]) -> list[str]:
    """Find names that may be of one patient: they differ only in capitals, spaces, zeros before a number or encoding.

    Args:
        names: Names of patients, also repeated.

    Returns:
        One warning; empty where there are no such names.
    """
    groups = similar_names(names)
    if not groups:
        return []
    return [
        f"{len(groups)} patient(s) may have several names and count as several people: {format_groups(groups)}. Where "
        "they are one person, use one name, or the images land on both sides"
    ]


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Group names that differ only in capitals, spaces, zeros before a number or encoding.

    Args:
        names: The names, also repeated.

    Returns:
        The groups of two or more different names, each sorted; empty where there are no such names.
    """
    alike: dict[str, set[str]] = {}
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split()).removesuffix(".0")
        alike.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", plain), set()).add(name)
    return [sorted(group) for group in alike.values() if len(group) > 1]


def format_groups(groups: Iterable[Sequence[str]]) -> str:
    """Format groups of names as text.

    Args:
        groups: As `similar_names` finds them.

    Returns:
        Such as "'P01' = 'p1'".
    """
    return format_names([" = ".join(map(repr, group)) for group in groups])


def nameless_warning(labels: Mapping[str, CaseLabels]) -> list[str]:
    """Warn where results would count cases as patients, since they name none.

    Args:
        labels: Entry of each evaluated case.

    Returns:
        One sentence without its full stop; empty where every case names its patient.
    """
    nameless = [case for case, entry in labels.items() if entry.patient is None]
    return [
        f"{len(nameless)} of {len(labels)} cases do not name a patient ({format_names(nameless, 3)}): intervals and "
        "tests count each as a patient of its own, and claim too much where one person has several images"
    ] * bool(nameless)


def patients_on_both_sides(manifest: Manifest, training: Iterable[str], test: Iterable[str]) -> set[str]:
    """Find the patients who have cases on both sides of a split, so that results on one of them are too good.

    Args:
        manifest: The manifest.
        training: Cases of one side; those that it does not name are left out.
        test: Cases of the other; likewise.

    Returns:
        Those patients; empty where there is none.
    """
    sides = [{manifest.patient_of(case) for case in manifest.entries_of(cases)} for cases in (training, test)]
    return sides[0] & sides[1]


def training_cases_for_test(manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """Find training cases whose entry says that they are for testing (split "test").

    Args:
        manifest: The manifest.
        cases: Training cases.

    Returns:
        Those cases; empty where there is none.
    """
    return [case for case, labels in manifest.entries_of(cases).items() if labels.split == "test"]


def test_split_message(cases: Sequence[str]) -> str:
    """Report the cases that `training_cases_for_test` finds.

    Args:
        cases: The cases.

    Returns:
        A message that says what to do.
    """
    return (
        f"{len(cases)} training case(s) have split 'test' in {MANIFEST_NAME}: {format_names(cases)}. Move them to "
        "imagesTs and labelsTs, or change the entry"
    )


def left_out_cases(manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """Find the cases that are in no fold on purpose.

    Args:
        manifest: The manifest.
        cases: Training cases.

    Returns:
        Those that the manifest declares left out; empty where there is none.
    """
    return [case for case, labels in manifest.entries_of(cases).items() if labels.left_out]


def require_unfilled(manifest: Manifest, dataset: str) -> None:
    """Refuse to make other folds for a dataset that a model filled fold by fold.

    Args:
        manifest: The manifest.
        dataset: Name of the dataset.

    Raises:
        SplitError: A case has a pseudo-label.
    """
    if manifest.has_pseudo:
        raise SplitError(
            f"{dataset} was filled by a model, fold by fold: other folds would validate on cases that the "
            "model behind their training data saw. Make the folds of its source, train a model on them, and fill again."
        )


def check_splits(splits: Any, manifest: Manifest, cases: Sequence[str]) -> None:
    """Check the content of splits_final.json.

    Cases missing from the manifest are ignored here; the caller reports them.

    Args:
        splits: The content of the file.
        manifest: The manifest.
        cases: Training cases of the dataset.

    Raises:
        SplitError: A fold has a patient on both sides, an empty side, a case twice or cases that are not in the
            dataset, a case of the dataset is in no fold and not declared left out, or one that is declared so is in a
            fold.
    """
    if not isinstance(splits, list) or not all(_is_split(split) for split in splits):
        raise SplitError(f'{SPLITS_NAME} must be a list of {{"train": [cases], "val": [cases]}}. {_FIX_SPLITS}')
    existing, problems = set(cases), []
    for index, split in enumerate(splits):
        unknown = (set(split["train"]) | set(split["val"])) - existing
        if unknown:
            problems.append(
                f"fold {index} names {len(unknown)} case(s) that are not in the dataset: {format_names(unknown)}"
            )
        both = patients_on_both_sides(manifest, *(existing.intersection(split[side]) for side in ("train", "val")))
        if both:
            problems.append(f"fold {index} has {len(both)} patient(s) on both sides: {format_names(both)}")
        for side in ("train", "val"):
            if not split[side]:
                problems.append(f"fold {index} has no case in {side!r}")
            repeated = {case for case, number in Counter(split[side]).items() if number > 1}
            if repeated:
                problems.append(
                    f"fold {index} names {len(repeated)} case(s) twice in {side!r}: {format_names(repeated)}"
                )
    left_out = set(left_out_cases(manifest, cases))
    used = {case for split in splits for case in (*split["train"], *split["val"])}
    missing = existing - used - left_out
    if missing:
        problems.append(
            f"{len(missing)} case(s) of the dataset are in no fold: {format_names(missing)}; where that is on purpose, "
            f'add "left_out": true to their entries in {MANIFEST_NAME}'
        )
    if used & left_out:
        problems.append(f"{len(used & left_out)} case(s) are declared left_out: {format_names(used & left_out)}")
    if problems:
        raise SplitError(f"{SPLITS_NAME}: " + "; ".join(problems) + f". {_FIX_SPLITS}")


def read_splits(folder: Path) -> list[Split]:
    """Read splits_final.json, whose content is not checked.

    Args:
        folder: The preprocessed or the raw folder of the dataset.

    Returns:
        The folds.

    Raises:
        SplitError: The file is missing or broken.
    """
    file = folder / SPLITS_NAME
    if not file.exists():
        raise SplitError(f"{file} does not exist: it says which fold validated which case. Train first.")
    splits: list[Split] = read_json(file, SplitError)
    return splits


def split_findings(folders: Sequence[Path], manifest: Manifest, cases: Sequence[str]) -> list[str]:
    """Check the splits_final.json in each folder that has one.

    Args:
        folders: Raw and preprocessed folder of the dataset.
        manifest: The manifest.
        cases: Training cases of the dataset.

    Returns:
        One message per file that `check_splits` refuses; empty where there is none.
    """
    messages = []
    for folder in folders:
        if (folder / SPLITS_NAME).exists():
            try:
                check_splits(read_splits(folder), manifest, cases)
            except PartialLabelError as problem:
                messages.append(f"{folder}: {problem}")
    return messages


def write_splits(raw: Path, splits: Sequence[Split], manifest: Manifest, cases: Sequence[str]) -> tuple[Path, ...]:
    """Write splits_final.json into the raw folder of a dataset and, where it exists, the preprocessed one.

    Args:
        raw: The raw folder.
        splits: The folds.
        manifest: The manifest of the raw folder.
        cases: Training cases of the dataset.

    Returns:
        The files.

    Raises:
        SplitError: `check_splits` refuses the folds; nothing was written.
        ManifestError: The preprocessed manifest says something else than the raw one; nothing was written.
    """
    check_splits(list(splits), manifest, cases)
    folders = manifest_folders(raw)
    for copy in (folder / MANIFEST_NAME for folder in folders[1:]):
        if copy.exists() and Manifest.read(copy) != manifest:
            raise ManifestError(
                f"{raw / MANIFEST_NAME} and {copy} differ, so it is not clear which patients and domains hold; nothing "
                f"was written. If the raw one is right: {update_command(raw)}"
            )
    files = tuple(folder / SPLITS_NAME for folder in folders)
    for file in files:
        write_json(file, list(splits), ascii_only=True)
    return files


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
    """Find patients who alone are annotated for a class, and those classes."""
    annotated: dict[str, list[str]] = {}
    for patient, cases in patients.items():
        for name in sorted(manifest.annotated_classes(cases)):
            annotated.setdefault(name, []).append(patient)
    sole: dict[str, list[str]] = {}
    for name, names in annotated.items():
        if len(names) == 1:
            sole.setdefault(names[0], []).append(name)
    return sole


def _assign_folds(manifest: Manifest, patients: Mapping[str, list[str]], seed: int, n_folds: int) -> list[list[str]]:
    """Shuffle the patients within each domain and set of annotated classes, and assign them to folds in turn."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient, cases in patients.items():
        group = (manifest.labels_of(cases[0]).domain, *sorted(manifest.annotated_classes(cases)))
        groups.setdefault(group, []).append(patient)
    shuffler = random.Random(seed)
    queue: list[str] = []
    for group in sorted(groups):
        shuffler.shuffle(groups[group])
        queue += groups[group]
    n_folds = min(n_folds, len(queue))
    return [queue[index::n_folds] for index in range(n_folds)]


def _keep_in_training(
    manifest: Manifest, patients: Mapping[str, list[str]], validation: list[str]
) -> tuple[list[str], list[str]]:
    """Move patients from validation to training until each class of the dataset is annotated in training."""
    warnings = []
    for name in sorted(manifest.annotated_classes(case for cases in patients.values() for case in cases)):
        annotated = [p for p in patients if name in manifest.annotated_classes(patients[p])]
        if all(patient in validation for patient in annotated):
            validation = [p for p in validation if p != annotated[0]]
            warnings.append(
                f"patient {annotated[0]} stays in training in one more fold: no other one there is annotated for {name}"
            )
    return validation, warnings


def _split(patients: Mapping[str, list[str]], training: Sequence[str], validation: Sequence[str]) -> Split:
    return {
        "train": sorted(case for patient in training for case in patients[patient]),
        "val": sorted(case for patient in validation for case in patients[patient]),
    }


def _official(manifest: Manifest, patients: Mapping[str, list[str]]) -> tuple[list[Split], list[str]]:
    """Make one fold of the official validation part; none where there is none or where a patient would leak."""
    sides = {
        patient: {manifest.labels_of(case).split == "val" for case in cases} for patient, cases in patients.items()
    }
    validation = [patient for patient, side in sides.items() if True in side]
    leaking = [patient for patient in validation if False in sides[patient]]
    training = [patient for patient in patients if patient not in validation]
    if leaking:
        return [], [
            f"no fold for the official split: it has {len(leaking)} patient(s) on both sides: {format_names(leaking)}"
        ]
    if not validation or not training:
        return [], []
    fold = _split(patients, training, validation)
    lost = manifest.classes_without_annotation(fold["train"], sorted(manifest.annotated_classes(fold["val"])))
    warnings = [
        f"in the official split (the last fold) no training case is annotated for {name}: that fold cannot be trained"
        for name in lost
    ]
    return [fold], warnings
