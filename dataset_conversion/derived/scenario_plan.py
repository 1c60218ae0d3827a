"""What a labelling scenario would look like, and what speaks against it, before anything is written.

What is to be hidden in a labelling scenario, and from whom.

Whom a labelling scenario is about, and whether what is to be removed is there at all.

Who loses which structures: patients drawn by lot, where the lot depends on the seed and the patient alone.

Each patient has a fixed place in a queue (a hash of seed and name); a fraction takes the first of the queue. So the
patients of fraction 0.25 are among those of 0.5, whatever is taken from them and whoever else is in the data set.

The folds of a scenario: those of the data set it was made from, so that all its scenarios compare on the same.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.label_check import inspect_label_files
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.dataset.splits import SPLITS_NAME, Split, check_splits, make_splits
from nnunet_partial.dataset.summary import NO_DOMAIN
from nnunet_partial.errors import DatasetError, SplitError
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_SUBSET, CaseLabels, Manifest
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.text import first_lines, format_names

from .files import changes
from .source import (
    NO_BACKGROUND,
    InputDataset,
    find_case_problems,
    find_metadata_problems,
    lacks_a_class,
)

#: In place of class names: each chosen patient loses some of its classes, drawn by lot.
RANDOM = "random"


@dataclass(frozen=True)
class ScenarioOptions:
    """What to hide, and from whom.

    `missing`: class names, or RANDOM alone. `fraction`: of the patients, above 0, at most 1. `domain`: of which domain;
    None: of all. `keep_only_complete`: leave out the cases that would lose something, in place of hiding it.
    `unknown_as_ignore`: the background of training cases that do not know every class becomes nnU-Net's ignore label.
    """

    missing: tuple[str, ...]
    fraction: float = 1.0
    seed: int = 0
    domain: str | None = None
    keep_only_complete: bool = False
    unknown_as_ignore: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise DatasetError(f"The fraction of patients is {self.fraction}; expected more than 0 and at most 1.")
        if not self.missing or len(set(self.missing)) < len(self.missing):
            raise DatasetError(f"The missing classes are {list(self.missing)}; expected one or more, each named once.")
        if RANDOM in self.missing and len(self.missing) > 1:
            raise DatasetError(f"'{RANDOM}' draws the missing classes by lot and stands alone; got {self.missing}.")


def cases_in_scope(source: InputDataset, manifest: Manifest, options: ScenarioOptions) -> list[str]:
    """The training cases that may lose something. Raises DatasetError for a domain that has none."""
    training = list(source.images["Tr"])
    if options.domain is None:
        return training
    scope = [case for case in training if manifest.labels_of(case).domain == options.domain]
    if not scope:
        domains = {domain_of(manifest.labels_of(case)) for case in training}
        raise DatasetError(
            f"{source.name} has no training case of the domain {options.domain!r}. Its domains: "
            f"{format_names(domains)}."
        )
    return scope


def find_problems(
    source: InputDataset, manifest: Manifest, scope: Sequence[str], options: ScenarioOptions
) -> list[str]:
    """Why classes cannot be removed: they are no classes, or a domain does not know them."""
    if options.missing == (RANDOM,):
        return []
    classes = source.dataset.classes
    strange = [name for name in options.missing if name not in classes]
    if strange:
        return [f"dataset.json has no class {format_names(strange)}; its classes: {', '.join(classes)}"]
    found, way_out = [], "" if options.domain else ". Name the domain that loses it with --domain"
    for domain in sorted({manifest.labels_of(case).domain for case in scope}):
        here = [case for case in scope if manifest.labels_of(case).domain == domain]
        unknown = manifest.classes_without_annotation(here, options.missing)
        if unknown:
            found.append(
                f"no training case of the domain {domain or NO_DOMAIN} is annotated for "
                f"{format_names(unknown)} (only for "
                f"{format_names(manifest.annotated_classes(here))}), so it cannot be removed there{way_out}"
            )
    return found


def domain_of(labels: CaseLabels) -> str:
    """The domain as it is shown, also where there is none."""
    return labels.domain or NO_DOMAIN


def chosen_patients(manifest: Manifest, cases: Sequence[str], fraction: float, seed: int) -> list[str]:
    """`fraction` (0 to 1) of the patients of `cases`, sorted; rounded to whole patients, a half upwards.

    The fraction holds within each domain; patients who are in several domains at once count apart. No cases: none.
    """
    domains: dict[str, set[str]] = {}
    for case in cases:
        domains.setdefault(manifest.patient_of(case), set()).add(manifest.labels_of(case).domain)
    queues: dict[tuple[str, ...], list[str]] = {}
    for patient in sorted(domains, key=lambda patient: (_random_key(seed, patient), patient)):
        queues.setdefault(tuple(sorted(domains[patient])), []).append(patient)
    return sorted(patient for queue in queues.values() for patient in queue[: _n_patients(fraction, len(queue))])


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
        lost = _random_classes(manifest, theirs, patient, seed) if list(missing) == [RANDOM] else missing
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


def _random_key(seed: int, *names: str) -> int:
    """A number that looks random, the same on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *names]).encode()).digest(), "big")


def _n_patients(fraction: float, patients: int) -> int:
    return min(patients, math.floor(fraction * patients + 0.5))


def _random_classes(manifest: Manifest, cases: Sequence[str], patient: str, seed: int) -> tuple[str, ...]:
    """A non-empty proper subset of what was annotated; empty where there is none."""
    classes = sorted(manifest.annotated_classes(cases))
    if len(classes) < 2:
        return ()
    bits = 1 + _random_key(seed, patient, "classes") % (2 ** len(classes) - 2)
    return tuple(name for place, name in enumerate(classes) if bits >> place & 1)


def folds_of(source: Path, manifest: Manifest, cases: Sequence[str]) -> list[Split]:
    """The folds of the data set in the raw folder `source`, with its `manifest` and its training `cases`.

    Read from the preprocessed folder, which trainings go by, else from the raw one; made from the manifest where
    neither has any. Raises SplitError where they leak a patient or do not fit the cases.
    """
    places = [source / SPLITS_NAME]
    if os.environ.get("nnUNet_preprocessed"):
        places.insert(0, nnunet_folder("nnUNet_preprocessed") / source.name / SPLITS_NAME)
    for place in places:
        if place.exists():
            splits: list[Split] = read_json(place, SplitError)
            try:
                check_splits(splits, manifest, cases)
            except SplitError as problem:
                raise SplitError(f"{place.parent}: {problem}") from None
            return splits
    return make_splits(manifest, cases)[0]


def restrict_splits(splits: Sequence[Split], kept: Sequence[str], manifest: Manifest) -> tuple[list[Split], list[str]]:
    """The same folds with the cases that were kept, and warnings.

    Where a fold would have nothing left on one side, new folds are made by patient; the warning says so.
    """
    here = set(kept)
    folds = [{side: [case for case in split[side] if case in here] for side in ("train", "val")} for split in splits]
    empty = [str(index) for index, fold in enumerate(folds) if not fold["train"] or not fold["val"]]
    if not empty:
        return folds, []
    made, warnings = make_splits(manifest, kept)
    return made, [f"fold {', '.join(empty)} of the source has no case left on one side: new folds were made", *warnings]


def fold_warnings(splits: Sequence[Split], manifest: Manifest, classes: Sequence[str]) -> list[str]:
    """Warn of each fold in whose training part no case is annotated for a class that others are annotated for."""
    somewhere = manifest.annotated_classes(case for split in splits for case in (*split["train"], *split["val"]))
    return [
        f"in fold {index} no training case is annotated for {name}: it cannot be learned there"
        for index, split in enumerate(splits)
        for name in manifest.classes_without_annotation(split["train"], [n for n in classes if n in somewhere])
    ]


@dataclass(frozen=True)
class RelabelledCase:
    """One label file of the scenario: the case, the folder it goes to ("Tr", "Ts", "Tr_full"), and its new values."""

    case: str
    part: str
    path: Path
    new_values: Mapping[int, int]

    @property
    def may_change(self) -> bool:
        return any(old != new for old, new in self.new_values.items())


@dataclass(frozen=True)
class ScenarioPlan:
    """A scenario that nothing speaks against: what will be written.

    `hidden`: what a case loses (or, with keep_only_complete, why it is left out). `before`, `manifest`, `full`: what
    the cases knew in the source, know in the scenario, and know in labelsTr_full. `changing`: (part, case) of each
    label file that is written anew.
    """

    source: InputDataset
    options: ScenarioOptions
    patients: tuple[str, ...]
    eligible: int
    hidden: Mapping[str, tuple[str, ...]]
    training: tuple[str, ...]
    classes: tuple[str, ...]
    before: Manifest
    manifest: Manifest
    full: Manifest
    splits: tuple[Split, ...]
    warnings: tuple[str, ...]
    changing: frozenset[tuple[str, str]] = frozenset()

    @property
    def test(self) -> tuple[str, ...]:
        return tuple(self.source.images["Ts"])

    @property
    def removed(self) -> tuple[str, ...]:
        """Classes that only left-out cases were annotated for: the scenario does not have them."""
        return tuple(name for name in self.source.dataset.classes if name not in self.classes)

    @property
    def has_ignore(self) -> bool:
        return self.options.unknown_as_ignore or self.source.dataset.ignore_label is not None

    @property
    def full_labels(self) -> dict[str, Path]:
        """The complete label files by case: those of the source, or what a scenario as source keeps apart."""
        return {**self.source.labels["Tr"], **self.source.dataset.label_files(FULL_SUBSET)}

    def label_files(self) -> Iterator[RelabelledCase]:
        """Every label file of the scenario."""
        for case in self.training:
            yield RelabelledCase(case, "Tr", self.source.labels["Tr"][case], self._new_values(case))
        for case in self.training:
            yield RelabelledCase(case, FULL_SUBSET, self.full_labels[case], self._same_classes)
        for case, path in self.source.labels["Ts"].items():
            yield RelabelledCase(case, "Ts", path, self._same_classes)

    @cached_property
    def _same_classes(self) -> dict[int, int]:
        """The new label value for each value of the source, where nothing is hidden."""
        values = {0: 0}
        for value, name in enumerate(self.source.dataset.classes, start=1):
            values[value] = self.classes.index(name) + 1 if name in self.classes else 0
        if self.source.dataset.ignore_label is not None:
            values[self.source.dataset.ignore_label] = len(self.classes) + 1
        return values

    def _new_values(self, case: str) -> dict[int, int]:
        unknown = self.options.unknown_as_ignore and lacks_a_class(self.manifest.labels_of(case), self.classes)
        nowhere = len(self.classes) + 1 if unknown else 0
        gone = self.hidden.get(case, ())
        hidden = {value: nowhere for value, name in enumerate(self.source.dataset.classes, start=1) if name in gone}
        return {**self._same_classes, **hidden, 0: nowhere}

    @cached_property
    def not_measurable(self) -> dict[str, list[str]]:
        """By domain, the classes that no test case of the domain knows; all of them where it has no test case."""
        known: dict[str, set[str]] = {domain_of(self.before.labels_of(case)): set() for case in self.source.cases}
        for case in self.test:
            known[domain_of(self.before.labels_of(case))].update(self.before.labels_of(case).known)
        unknown = {domain: [c for c in self.classes if c not in known[domain]] for domain in sorted(known)}
        return {domain: names for domain, names in unknown.items() if names}

    def counts(self) -> dict[str, Any]:
        """The numbers that stand in the manifest."""
        lost = [name for names in self.hidden.values() for name in names]
        dropped = len(self.hidden) if self.options.keep_only_complete else 0
        return {
            "patients": self.eligible,
            "patients_chosen": len(self.patients),
            "training_cases": len(self.training),
            "test_cases": len(self.test),
            "cases_hidden_from": 0 if dropped else len(self.hidden),
            "cases_left_out": dropped,
            "hidden": {name: lost.count(name) for name in self.source.dataset.classes if name in lost},
            "label_files_changed": sum(part == "Tr" for part, _ in self.changing),
        }


def plan_scenario(folder: Path, options: ScenarioOptions, processes: int = 1, progress: bool = False) -> ScenarioPlan:
    """Plans the scenario of the raw data set in `folder`; looks into the label files that may change.

    Raises DatasetError or SplitError that says what speaks against it.
    """
    plan = preview_scenario(folder, options)
    changing, problems = _look_into_labels(plan, processes, progress)
    _refuse(plan.source, problems)
    return replace(plan, changing=frozenset(changing))


def preview_scenario(folder: Path, options: ScenarioOptions) -> ScenarioPlan:
    """The plan as far as the manifest tells, in which no label file is known to change yet; reads no label.

    Raises DatasetError or SplitError that says what speaks against it.
    """
    source = InputDataset(RawDataset(folder))
    _refuse(source, find_metadata_problems(source))
    _refuse(source, find_case_problems(source))
    before = Manifest({case: source.dataset.manifest.labels_of(case) for case in sorted(source.cases)})
    scope = cases_in_scope(source, before, options)
    _refuse(source, find_problems(source, before, scope, options))
    patients = chosen_patients(before, scope, options.fraction, options.seed)
    missing = [name for name in (*source.dataset.classes, RANDOM) if name in options.missing]
    hidden = hidden_classes(before, scope, patients, missing, options.seed)
    eligible = len({before.patient_of(case) for case in scope})
    if not hidden:
        raise DatasetError(
            f"Nothing would be hidden: {len(patients)} of {eligible} patient(s) are chosen by a fraction of "
            f"{options.fraction}, and no label is taken from them. Choose a larger fraction or other classes."
        )
    return _planned(source, options, before, patients, eligible, hidden)


def _planned(
    source: InputDataset,
    options: ScenarioOptions,
    before: Manifest,
    patients: Sequence[str],
    eligible: int,
    hidden: Mapping[str, tuple[str, ...]],
) -> ScenarioPlan:
    training = tuple(case for case in source.images["Tr"] if not (options.keep_only_complete and case in hidden))
    manifest = hide(before, hidden)
    lost = before.annotated_classes(source.images["Tr"]) - manifest.annotated_classes(training)
    taken = {name for names in hidden.values() for name in names}
    if not training:
        raise DatasetError(
            "No training case would be left; nothing was written. Choose a smaller fraction or one domain."
        )
    if lost & taken or (lost and not options.keep_only_complete):
        raise DatasetError(
            f"No training case would be annotated for {format_names(lost)} any more, so that it could not be "
            "learned; nothing "
            "was written. Choose a smaller fraction, one domain (--domain), or another seed."
        )
    classes = tuple(name for name in source.dataset.classes if name not in lost)
    cases = {*training, *source.images["Ts"]}
    folds = folds_of(source.dataset.folder, before, list(source.images["Tr"]))
    splits, warnings = restrict_splits(folds, training, manifest)
    manifest = _with_classes(manifest, cases, lost)
    plan = ScenarioPlan(
        source,
        options,
        tuple(patients),
        eligible,
        hidden,
        training,
        classes,
        before,
        manifest,
        _with_classes(_full_manifest(source, before), cases, lost),
        tuple(splits),
        (),
    )
    return replace(plan, warnings=(*_remarks(plan), *warnings, *fold_warnings(splits, manifest, classes)))


def _refuse(source: InputDataset, problems: Sequence[str]) -> None:
    if problems:
        lines = "\n- ".join(first_lines(problems))
        raise DatasetError(f"No scenario can be made from {source.name}; nothing was written.\n- {lines}")


def _with_classes(manifest: Manifest, cases: set[str], gone: Iterable[str]) -> Manifest:
    """The entries of `cases`, without the classes that the scenario does not have."""
    kept = {case: labels for case, labels in manifest.cases.items() if case in cases}
    return hide(Manifest(kept), dict.fromkeys(kept, tuple(gone)))


def _full_manifest(source: InputDataset, before: Manifest) -> Manifest:
    """What the complete labels know: more than the manifest where the source is a scenario itself."""
    file = source.dataset.folder / FULL_MANIFEST_NAME
    if not file.exists():
        return before
    return Manifest({**before.cases, **Manifest.read(file).cases})


def _remarks(plan: ScenarioPlan) -> list[str]:
    """What the user should know."""
    found = []
    spared = {*plan.patients} - {plan.before.patient_of(case) for case in plan.hidden}
    if spared:
        why = "a single class at most" if plan.options.missing == (RANDOM,) else "none of these classes"
        found.append(
            f"{len(spared)} of the chosen patient(s) were annotated for {why} and lose nothing: {format_names(spared)}"
        )
    nothing = [case for case in plan.training if not plan.manifest.labels_of(case).annotated and case in plan.hidden]
    if nothing:
        found.append(f"{len(nothing)} training case(s) are annotated for nothing any more: {format_names(nothing)}")
    if plan.removed:
        found.append(
            f"only cases that were left out are annotated for {format_names(plan.removed)}: the data set "
            "does not have these "
            "classes any more, in the test labels neither"
        )
    if plan.options.unknown_as_ignore and all(
        lacks_a_class(plan.manifest.labels_of(case), plan.classes) for case in plan.training
    ):
        found.append(NO_BACKGROUND)
    if not plan.test:
        found.append("there are no test cases, so nothing is measurable on them; compare folds with labelsTr_full")
    else:
        found += [
            f"not measurable on test cases of {domain}, as none of them knows it: {', '.join(names)}"
            for domain, names in plan.not_measurable.items()
        ]
    return found


def _look_into_labels(plan: ScenarioPlan, processes: int, progress: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """(part, case) of each label file that is to be written anew, and what is wrong with label files."""
    tasks = [file for file in plan.label_files() if file.may_change]
    full = _full_manifest(plan.source, plan.before)
    files = [
        plan.source.label_file(file.case, file.path, full if file.part == FULL_SUBSET else plan.before)
        for file in tasks
    ]
    infos = inspect_label_files(files, processes, "reading the labels" if progress else None)
    changing, problems = [], []
    for file, info in zip(tasks, infos, strict=True):
        if info.problem:
            problems.append(info.problem)
        elif changes(info.values, file.new_values):
            changing.append((file.part, file.case))
    return changing, problems
