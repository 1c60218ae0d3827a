"""Plan a scenario before anything is written: which labels are hidden in which patients, and what prevents it.

Patients and classes are selected at random, reproducibly: each patient has a fixed place in a queue, by a hash of the
seed and the patient's name, and a fraction takes the first of the queue. So the patients of fraction 0.25 are among
those of 0.5, whichever classes are hidden and whoever else is in the dataset.

The folds of a scenario are those of its source dataset, so that all scenarios of a source can be compared.
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
from nnunet_partial.dataset.splits import SPLITS_NAME, Split, check_splits, make_splits, read_splits
from nnunet_partial.errors import DatasetError, SplitError
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_SUBSET, CaseLabels, Manifest
from nnunet_partial.utils.text import NO_DOMAIN, first_lines, format_names

from .files import changes
from .label_values import LabelValues, holders_of, selected_values
from .source import (
    NO_BACKGROUND,
    InputDataset,
    find_case_problems,
    find_metadata_problems,
)

#: Stands in place of class names: a random part of the classes of each chosen patient is hidden.
RANDOM = "random"


@dataclass(frozen=True)
class ScenarioOptions:
    """Say which labels to hide, and in which patients.

    Attributes:
        missing: Names of the classes to hide, or RANDOM alone.
        fraction: Fraction of patients whose labels are hidden, above 0 and at most 1.
        seed: Random seed; with the same seed, the patients of a smaller fraction are a subset of those of a larger one.
        domain: Hide labels of this domain only; None: of every domain.
        keep_only_complete: Leave out the cases that would lose a label instead of hiding it: the complete-case
            baseline.
        unknown_as_ignore: Replace the background of training cases in which a class is unknown by nnU-Net's ignore
            label.
    """

    missing: tuple[str, ...]
    fraction: float = 1.0
    seed: int = 0
    domain: str | None = None
    keep_only_complete: bool = False
    unknown_as_ignore: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            DatasetError: The fraction is out of range, or the classes are none, repeated, or RANDOM beside others.
        """
        if not 0 < self.fraction <= 1:
            raise DatasetError(f"The fraction of patients is {self.fraction}; expected more than 0 and at most 1.")
        if not self.missing or len(set(self.missing)) < len(self.missing):
            raise DatasetError(f"The missing classes are {list(self.missing)}; expected one or more, each named once.")
        if RANDOM in self.missing and len(self.missing) > 1:
            raise DatasetError(
                f"'{RANDOM}' chooses the missing classes itself; expected no other class, got {list(self.missing)}."
            )


@dataclass(frozen=True)
class RelabeledCase:
    """Describe one label file of the scenario.

    Attributes:
        case: Identifier of the case.
        part: Folder it is written to: "Tr" (labelsTr), "Ts" (labelsTs) or "Tr_full" (labelsTr_full).
        path: Label file of the source.
        new_values: New label value by label value in the source.
    """

    case: str
    part: str
    path: Path
    new_values: Mapping[int, int]

    @property
    def may_change(self) -> bool:
        """Return whether the file has to be rewritten if it holds every label value."""
        return any(old != new for old, new in self.new_values.items())


@dataclass(frozen=True)
class ScenarioPlan:
    """Describe a scenario that is possible: what will be written.

    Attributes:
        source: The source dataset.
        options: The options of the scenario.
        patients: The chosen patients.
        eligible: Number of patients they were chosen from.
        hidden: Hidden classes by case (or, with `keep_only_complete`, those for which the case is left out).
        training: Training cases of the scenario.
        label_values: Classes or regions of the scenario, and the values that store them.
        before: Manifest entries of the cases in the source.
        manifest: Manifest entries of the cases in the scenario.
        full: Manifest entries of the cases for the complete labels in labelsTr_full.
        splits: Folds of the scenario.
        warnings: What the user should know, one line each.
        changing: (part, case) of each label file that is rewritten; see RelabeledCase.
    """

    source: InputDataset
    options: ScenarioOptions
    patients: tuple[str, ...]
    eligible: int
    hidden: Mapping[str, tuple[str, ...]]
    training: tuple[str, ...]
    label_values: LabelValues
    before: Manifest
    manifest: Manifest
    full: Manifest
    splits: tuple[Split, ...]
    warnings: tuple[str, ...]
    changing: frozenset[tuple[str, str]] = frozenset()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes or regions in the order of the network's outputs."""
        return self.label_values.classes

    @property
    def test(self) -> tuple[str, ...]:
        """Return the test cases; empty where there are none."""
        return tuple(self.source.images["Ts"])

    @property
    def removed(self) -> tuple[str, ...]:
        """Return the classes that only left-out cases are annotated for: the scenario does not have them."""
        return tuple(name for name in self.source.classes if name not in self.classes)

    @property
    def seen_without_image(self) -> dict[str, CaseLabels]:
        """Return the entries of left-out cases, and of others without an image, that a filling model saw, by case."""
        entries = Manifest({**self.source.dataset.manifest.cases, **self.before.cases})
        return entries.seen_without_image(self.manifest.cases)

    @property
    def has_ignore(self) -> bool:
        """Return whether the scenario has an ignore label."""
        return self.options.unknown_as_ignore or self.source.dataset.ignore_label is not None

    @property
    def full_labels(self) -> dict[str, Path]:
        """Return the complete label files by case: labelsTr of the source, or labelsTr_full if it is a scenario."""
        return {**self.source.labels["Tr"], **self.source.dataset.label_files(FULL_SUBSET)}

    def label_files(self) -> Iterator[RelabeledCase]:
        """List every label file of the scenario.

        Yields:
            The training labels, the complete labels, and the test labels.
        """
        for case in self.training:
            yield RelabeledCase(case, "Tr", self.source.labels["Tr"][case], self.new_values(case))
        for case in self.training:
            yield RelabeledCase(case, FULL_SUBSET, self.full_labels[case], self._same_classes)
        for case, path in self.source.labels["Ts"].items():
            yield RelabeledCase(case, "Ts", path, self._same_classes)

    @cached_property
    def _same_classes(self) -> dict[int, int]:
        """Map the label values of the source to those of the scenario, where nothing is hidden."""
        values = {0: 0}
        for value, names in holders_of(self.source.values).items():
            values[value] = self.label_values.value_of(names.intersection(self.classes))
        if self.source.dataset.ignore_label is not None:
            values[self.source.dataset.ignore_label] = self.label_values.ignore
        return values

    def new_values(self, case: str) -> dict[int, int]:
        """Map the label values of the source to those of a training case in the scenario.

        Of regions, a value becomes the one that tells the least: that of the same annotated regions, and of no other
        where there is one. So the ventricle becomes part of the epicardium where only this is annotated. With
        `unknown_as_ignore` a value becomes the ignore label where an unknown class may be.
        """
        labels, holders = self.manifest.labels_of(case), holders_of(self.source.values)
        new_values = dict(self._same_classes)
        for value, names in holders.items() if case in self.hidden else ():
            written = names.intersection(labels.written)
            new_values[value] = self._least_telling(written, labels) if written else 0
        if self.options.unknown_as_ignore:
            unknown = self.label_values.uncertain({0: (), **holders}, labels.known_in_training)
            new_values |= dict.fromkeys(unknown, self.label_values.ignore)
        return new_values

    def _least_telling(self, written: frozenset[str], labels: CaseLabels) -> int:
        """Return the value that of the annotated (or pseudo) structures these hold, and of the others the fewest."""
        fitting = [
            names
            for names in self.label_values.holders
            if names.intersection(labels.written) == written and not names.intersection(labels.absent)
        ]
        fewest: frozenset[str] = min(fitting, key=len, default=frozenset())
        return self.label_values.value_of(fewest)

    @cached_property
    def not_measurable(self) -> dict[str, list[str]]:
        """Return, by domain, the classes that are unknown in every test case of the domain.

        All classes where the domain has no test case. Domains in which every class can be measured are left out.
        """
        known: dict[str, set[str]] = {domain_of(self.before.labels_of(case)): set() for case in self.source.cases}
        for case in self.test:
            known[domain_of(self.before.labels_of(case))].update(self.before.labels_of(case).known)
        unknown = {domain: [c for c in self.classes if c not in known[domain]] for domain in sorted(known)}
        return {domain: names for domain, names in unknown.items() if names}

    def counts(self) -> dict[str, Any]:
        """Count patients, cases and hidden labels for the manifest.

        Returns:
            The numbers by name; under "hidden", the number of training cases by class.
        """
        lost = [name for names in self.hidden.values() for name in names]
        dropped = len(self.hidden) if self.options.keep_only_complete else 0
        return {
            "patients": self.eligible,
            "patients_chosen": len(self.patients),
            "training_cases": len(self.training),
            "test_cases": len(self.test),
            "cases_hidden_from": 0 if dropped else len(self.hidden),
            "cases_left_out": dropped,
            "hidden": {name: lost.count(name) for name in self.source.classes if name in lost},
            "label_files_changed": sum(part == "Tr" for part, _ in self.changing),
        }


def plan_scenario(folder: Path, options: ScenarioOptions, processes: int = 1, progress: bool = False) -> ScenarioPlan:
    """Plan a scenario; reads the label files that may change, writes nothing.

    Args:
        folder: Raw folder of the source dataset.
        options: What to hide, and in which patients.
        processes: Number of processes that read label files.
        progress: Whether to print the progress.

    Returns:
        The plan of the scenario.

    Raises:
        DatasetError: The scenario cannot be made; the message says why.
        SplitError: The folds of the source do not fit its cases, or share a patient.
    """
    plan = preview_scenario(folder, options)
    changing, problems = _look_into_labels(plan, processes, progress)
    _refuse(plan.source, problems)
    return replace(plan, changing=frozenset(changing))


def preview_scenario(folder: Path, options: ScenarioOptions, preprocessed: Path | None = None) -> ScenarioPlan:
    """Plan a scenario from the manifest alone, without reading a label file.

    Args:
        folder: Raw folder of the source dataset.
        options: What to hide, and in which patients.
        preprocessed: Folder of preprocessed datasets; None for that of the environment.

    Returns:
        The plan, in which `changing` is still empty.

    Raises:
        DatasetError: The scenario cannot be made; the message says why.
        SplitError: The folds of the source do not fit its cases, or share a patient.
    """
    source = InputDataset(RawDataset(folder))
    _refuse(source, find_metadata_problems(source))
    _refuse(source, find_case_problems(source))
    before = Manifest({case: source.dataset.manifest.labels_of(case) for case in sorted(source.cases)})
    scope = cases_in_scope(source, before, options)
    _refuse(source, find_problems(source, before, scope, options))
    patients = chosen_patients(before, scope, options.fraction, options.seed)
    missing = [name for name in (*source.classes, RANDOM) if name in options.missing]
    hidden = hidden_classes(before, scope, patients, missing, options.seed)
    eligible = len({before.patient_of(case) for case in scope})
    if not hidden:
        raise DatasetError(
            f"Nothing would be hidden: {len(patients)} of {eligible} patient(s) are chosen by a fraction of "
            f"{options.fraction}, and no label can be hidden in them. Choose a larger fraction or other classes."
        )
    folds = source_splits(folder, before, list(source.images["Tr"]), preprocessed)
    return _planned(source, options, before, patients, eligible, hidden, folds)


def _planned(
    source: InputDataset,
    options: ScenarioOptions,
    before: Manifest,
    patients: Sequence[str],
    eligible: int,
    hidden: Mapping[str, tuple[str, ...]],
    folds: Sequence[Split],
) -> ScenarioPlan:
    training = tuple(case for case in source.images["Tr"] if not (options.keep_only_complete and case in hidden))
    manifest = hide(before, hidden)
    lost = before.annotated_classes(source.images["Tr"], with_pseudo=True) - manifest.annotated_classes(
        training, with_pseudo=True
    )
    hidden_names = {name for names in hidden.values() for name in names}
    if not training:
        raise DatasetError(
            "No training case would be left; nothing was written. Choose a smaller fraction or one domain."
        )
    if lost & hidden_names or (lost and not options.keep_only_complete):
        raise DatasetError(
            f"No training case would be annotated for {format_names(lost)} any more, so that it could not be "
            "learned; nothing was written. Choose a smaller fraction, one domain (--domain), or another seed."
        )
    label_values = selected_values(source.values, lost, has_regions=bool(source.dataset.regions))
    cases = {*training, *source.images["Ts"]}
    splits, warnings = restrict_splits(folds, training, manifest)
    manifest = _without_classes(manifest, cases, lost)
    plan = ScenarioPlan(
        source,
        options,
        tuple(patients),
        eligible,
        hidden,
        training,
        label_values,
        before,
        manifest,
        _without_classes(_full_manifest(source, before), cases, lost),
        tuple(splits),
        (),
    )
    return replace(plan, warnings=(*_remarks(plan), *warnings, *fold_warnings(splits, manifest, plan.classes)))


def _refuse(source: InputDataset, problems: Sequence[str]) -> None:
    """Raise DatasetError with one line per problem, if there is any."""
    if problems:
        lines = "\n- ".join(first_lines(problems))
        raise DatasetError(f"No scenario can be made from {source.name}; nothing was written.\n- {lines}")


def _without_classes(manifest: Manifest, cases: set[str], removed: Iterable[str]) -> Manifest:
    """Select the entries of `cases`, without the classes that the scenario does not have."""
    kept = {case: labels for case, labels in manifest.cases.items() if case in cases}
    return hide(Manifest(kept), dict.fromkeys(kept, tuple(removed)))


def _full_manifest(source: InputDataset, before: Manifest) -> Manifest:
    """Read what the complete labels are annotated for: more than `before` where the source is a scenario itself."""
    file = source.dataset.folder / FULL_MANIFEST_NAME
    if not file.exists():
        return before
    return Manifest({**before.cases, **Manifest.read(file).cases})


def _remarks(plan: ScenarioPlan) -> list[str]:
    """Collect what the user should know, one line each."""
    lines = []
    spared = {*plan.patients} - {plan.before.patient_of(case) for case in plan.hidden}
    if spared:
        why = "a single class at most" if plan.options.missing == (RANDOM,) else "none of these classes"
        lines.append(
            f"{len(spared)} of the chosen patient(s) were annotated for {why} and lose nothing: {format_names(spared)}"
        )
    nothing = [case for case in plan.training if not plan.manifest.labels_of(case).written and case in plan.hidden]
    if nothing:
        lines.append(f"{len(nothing)} training case(s) are now annotated for nothing: {format_names(nothing)}")
    if plan.manifest.has_pseudo:
        lines.append(
            f"the model that filled classes in {plan.source.name} was trained on labels that are hidden now; for a "
            "fair comparison hide labels first, and fill the scenario"
        )
        annotated, written = (
            plan.manifest.annotated_classes(plan.training, with_pseudo) for with_pseudo in (False, True)
        )
        lines += [
            f"{name} has no other labels than pseudo-labels" for name in plan.classes if name in written - annotated
        ]
    if plan.removed:
        lines.append(
            f"only cases that were left out are annotated for {format_names(plan.removed)}: the scenario does "
            "not have these classes, nor do its test labels"
        )
    if plan.options.unknown_as_ignore and all(plan.new_values(case)[0] for case in plan.training):
        lines.append(NO_BACKGROUND)
    if not plan.test:
        lines.append("there are no test cases; evaluate the folds against labelsTr_full")
    else:
        lines += [
            f"not measurable on test cases of {domain}, because it is unknown in all of them: {', '.join(names)}"
            for domain, names in plan.not_measurable.items()
        ]
    return lines


def _look_into_labels(plan: ScenarioPlan, processes: int, progress: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """Find (part, case) of each label file that must be rewritten, and what is wrong with label files."""
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


# Which cases, and whether their labels can be hidden


def cases_in_scope(source: InputDataset, manifest: Manifest, options: ScenarioOptions) -> list[str]:
    """List the training cases whose labels may be hidden.

    Args:
        source: The source dataset.
        manifest: Manifest entries of its cases.
        options: The options of the scenario.

    Returns:
        The training cases of the chosen domain, or all where no domain is chosen.

    Raises:
        DatasetError: The domain has no training case.
    """
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
    """Find out why classes cannot be hidden: dataset.json does not have them, or a domain is not annotated for them.

    Args:
        source: The source dataset.
        manifest: Manifest entries of its cases.
        scope: Training cases whose labels may be hidden.
        options: The options of the scenario.

    Returns:
        One line per problem; empty where there is none.
    """
    if options.missing == (RANDOM,):
        return []
    classes = source.classes
    no_class = [name for name in options.missing if name not in classes]
    if no_class:
        return [f"dataset.json has no class {format_names(no_class)}; its classes: {', '.join(classes)}"]
    problems, advice = [], "" if options.domain else ". Name the domain whose labels are hidden with --domain"
    for domain in sorted({manifest.labels_of(case).domain for case in scope}):
        cases = [case for case in scope if manifest.labels_of(case).domain == domain]
        unknown = manifest.classes_without_annotation(cases, options.missing, with_pseudo=True)
        if unknown:
            problems.append(
                f"no training case of the domain {domain or NO_DOMAIN} is annotated for {format_names(unknown)} (only "
                f"for {format_names(manifest.annotated_classes(cases))}), so it cannot be hidden there{advice}"
            )
    return problems


def domain_of(labels: CaseLabels) -> str:
    """Return the name of a case's domain for tables and messages.

    Args:
        labels: Manifest entry of the case.

    Returns:
        The domain, or a placeholder where the case has none.
    """
    return labels.domain or NO_DOMAIN


# Which patients and classes


def chosen_patients(manifest: Manifest, cases: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Choose a fraction of the patients at random, reproducibly.

    The fraction applies within each domain; patients with cases in several domains form a group of their own. The
    number of patients of each group is rounded to the nearest integer, a half upwards.

    Args:
        manifest: Manifest entries of the cases.
        cases: Identifiers of the cases whose patients are chosen from.
        fraction: Fraction of the patients, 0 to 1.
        seed: Random seed.

    Returns:
        Names of the chosen patients, sorted; empty without cases.
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
    """Choose the classes to hide in each case of the chosen patients.

    Annotated classes are hidden, and those that a model filled; absent ones stay absent.

    Args:
        manifest: Manifest entries of the cases.
        cases: Identifiers of the cases whose labels may be hidden.
        patients: The chosen patients.
        missing: Class names in the order of their label values; or RANDOM alone: a non-empty proper subset of the
            classes that the patient's cases are annotated for, all subsets being equally likely. A patient with a
            single annotated class has no such subset and keeps the class.
        seed: Random seed.

    Returns:
        Names of the hidden classes by case; cases that lose nothing are left out.
    """
    by_patient: dict[str, list[str]] = {patient: [] for patient in patients}
    for case in cases:
        if manifest.patient_of(case) in by_patient:
            by_patient[manifest.patient_of(case)].append(case)
    hidden: dict[str, tuple[str, ...]] = {}
    for patient, own_cases in by_patient.items():
        lost = _random_classes(manifest, own_cases, patient, seed) if list(missing) == [RANDOM] else missing
        for case in own_cases:
            names = tuple(name for name in lost if name in manifest.labels_of(case).written)
            if names:
                hidden[case] = names
    return hidden


def hide(manifest: Manifest, hidden: Mapping[str, Sequence[str]]) -> Manifest:
    """Remove the hidden classes from the entries of a manifest; they are unknown there from then on.

    Args:
        manifest: Manifest with an entry for each case.
        hidden: Names of the classes to hide, by case.

    Returns:
        The new manifest.
    """
    cases = {}
    for case, labels in manifest.cases.items():
        annotated, pseudo = (
            tuple(name for name in names if name not in hidden.get(case, ()))
            for names in (labels.annotated, labels.pseudo)
        )
        cases[case] = replace(labels, annotated=annotated, pseudo=pseudo)
    return Manifest(cases)


def _random_key(seed: int, *names: str) -> int:
    """Hash the seed and names to an integer that is the same on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *names]).encode()).digest(), "big")


def _n_patients(fraction: float, patients: int) -> int:
    """Round a fraction of the patients to an integer, a half upwards."""
    return min(patients, math.floor(fraction * patients + 0.5))


def _random_classes(manifest: Manifest, cases: Sequence[str], patient: str, seed: int) -> tuple[str, ...]:
    """Choose a non-empty proper subset of the classes that a patient's cases are annotated for; empty below two."""
    classes = sorted(manifest.annotated_classes(cases, with_pseudo=True))
    if len(classes) < 2:
        return ()
    bits = 1 + _random_key(seed, patient, "classes") % (2 ** len(classes) - 2)
    return tuple(name for place, name in enumerate(classes) if bits >> place & 1)


# Folds


def source_splits(
    source: Path, manifest: Manifest, cases: Sequence[str], preprocessed: Path | None = None
) -> list[Split]:
    """Read the folds of a dataset, or make them.

    They are read from the preprocessed folder, which trainings use, or else from the raw one; where neither has any,
    they are made from the manifest.

    Args:
        source: Raw folder of the dataset.
        manifest: Its manifest.
        cases: Its training cases.
        preprocessed: Folder of preprocessed datasets; None for that of the environment.

    Returns:
        The training and validation cases of each fold.

    Raises:
        SplitError: The folds share a patient between training and validation, or do not fit the cases.
    """
    folders = [source]
    if preprocessed is None and os.environ.get("nnUNet_preprocessed"):
        preprocessed = nnunet_folder("nnUNet_preprocessed")
    if preprocessed is not None:
        folders.insert(0, preprocessed / source.name)
    for folder in folders:
        if (folder / SPLITS_NAME).exists():
            splits = read_splits(folder)
            try:
                check_splits(splits, manifest, cases)
            except SplitError as problem:
                raise SplitError(f"{folder}: {problem}") from None
            return splits
    return make_splits(manifest, cases)[0]


def restrict_splits(splits: Sequence[Split], kept: Sequence[str], manifest: Manifest) -> tuple[list[Split], list[str]]:
    """Restrict folds to the cases that were kept.

    Where a fold would be left without training or validation cases, new folds are made by patient.

    Args:
        splits: Folds of the source.
        kept: Training cases of the scenario.
        manifest: Manifest entries of these cases.

    Returns:
        The folds, and warnings, one line each; no warnings where the folds are those of the source.
    """
    kept_cases = set(kept)
    folds = [
        {side: [case for case in split[side] if case in kept_cases] for side in ("train", "val")} for split in splits
    ]
    empty = [str(index) for index, fold in enumerate(folds) if not fold["train"] or not fold["val"]]
    if not empty:
        return folds, []
    made, warnings = make_splits(manifest, kept)
    return made, [f"fold {', '.join(empty)} of the source has no case left on one side: new folds were made", *warnings]


def fold_warnings(splits: Sequence[Split], manifest: Manifest, classes: Sequence[str]) -> list[str]:
    """Find folds in which no training case is annotated for a class that others are; pseudo-labels count as such.

    Args:
        splits: Folds of the scenario.
        manifest: Manifest entries of its cases.
        classes: Foreground classes of the scenario.

    Returns:
        One warning per fold and class; empty where there is none.
    """
    cases = [case for split in splits for case in (*split["train"], *split["val"])]
    somewhere = [name for name in classes if name in manifest.annotated_classes(cases, with_pseudo=True)]
    return [
        f"in fold {index} no training case is annotated for {name}: it cannot be learned there"
        for index, split in enumerate(splits)
        for name in manifest.classes_without_annotation(split["train"], somewhere, with_pseudo=True)
    ]
