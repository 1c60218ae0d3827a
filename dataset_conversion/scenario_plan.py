"""What a labelling scenario would look like, and what speaks against it, before anything is written."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_partial.errors import DatasetError
from nnunet_partial.image_file import look
from nnunet_partial.label_check import wrong
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_PART, Manifest
from nnunet_partial.raw_dataset import RawDataset
from nnunet_partial.splits import Split
from nnunet_partial.utils.parallel import in_parallel
from nnunet_partial.utils.text import some

from .merge_conflicts import incomplete, unreadable
from .merge_plan import NO_BACKGROUND
from .merge_source import Source, lacks_a_class
from .scenario_choice import chosen_patients, hidden_classes, hide
from .scenario_folds import folds_of, restricted, untaught
from .scenario_options import RANDOM, Options
from .scenario_scope import annotated, cases_in_scope, domain_of, impossible

_SHOWN = 10


@dataclass(frozen=True)
class Relabelled:
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

    source: Source
    options: Options
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
        return {**self.source.labels["Tr"], **self.source.dataset.label_files(FULL_PART)}

    def label_files(self) -> Iterator[Relabelled]:
        """Every label file of the scenario."""
        for case in self.training:
            yield Relabelled(case, "Tr", self.source.labels["Tr"][case], self._new_values(case))
        for case in self.training:
            yield Relabelled(case, FULL_PART, self.full_labels[case], self._same_classes)
        for case, path in self.source.labels["Ts"].items():
            yield Relabelled(case, "Ts", path, self._same_classes)

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


def make_plan(folder: Path, options: Options, processes: int = 1, progress: bool = False) -> ScenarioPlan:
    """Plans the scenario of the raw data set in `folder`; looks into the label files that may change.

    Raises DatasetError or SplitError that says what speaks against it.
    """
    plan = outline(folder, options)
    changing, problems = _look_into_labels(plan, processes, progress)
    _refuse(plan.source, problems)
    return replace(plan, changing=frozenset(changing))


def outline(folder: Path, options: Options) -> ScenarioPlan:
    """The plan as far as the manifest tells, in which no label file is known to change yet; reads no label.

    Raises DatasetError or SplitError that says what speaks against it.
    """
    source = Source(RawDataset(folder))
    _refuse(source, unreadable(source))
    _refuse(source, incomplete(source))
    before = Manifest({case: source.dataset.manifest.labels_of(case) for case in sorted(source.cases)})
    scope = cases_in_scope(source, before, options)
    _refuse(source, impossible(source, before, scope, options))
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
    source: Source,
    options: Options,
    before: Manifest,
    patients: Sequence[str],
    eligible: int,
    hidden: Mapping[str, tuple[str, ...]],
) -> ScenarioPlan:
    training = tuple(case for case in source.images["Tr"] if not (options.keep_only_complete and case in hidden))
    manifest = hide(before, hidden)
    lost = annotated(before, source.images["Tr"]) - annotated(manifest, training)
    taken = {name for names in hidden.values() for name in names}
    if not training:
        raise DatasetError(
            "No training case would be left; nothing was written. Choose a smaller fraction or one domain."
        )
    if lost & taken or (lost and not options.keep_only_complete):
        raise DatasetError(
            f"No training case would be annotated for {some(lost)} any more, so that it could not be learned; nothing "
            "was written. Choose a smaller fraction, one domain (--domain), or another seed."
        )
    classes = tuple(name for name in source.dataset.classes if name not in lost)
    cases = {*training, *source.images["Ts"]}
    folds = folds_of(source.dataset.folder, before, list(source.images["Tr"]))
    splits, warnings = restricted(folds, training, manifest)
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
    return replace(plan, warnings=(*_remarks(plan), *warnings, *untaught(splits, manifest, classes)))


def _refuse(source: Source, problems: Sequence[str]) -> None:
    if problems:
        shown = [*problems[:_SHOWN], *([f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])]
        raise DatasetError(f"No scenario can be made from {source.name}; nothing was written.\n- " + "\n- ".join(shown))


def _with_classes(manifest: Manifest, cases: set[str], gone: set[str]) -> Manifest:
    """The entries of `cases`, without the classes that the scenario does not have."""
    kept = {case: labels for case, labels in manifest.cases.items() if case in cases}
    return hide(Manifest(kept), dict.fromkeys(kept, tuple(gone)))


def _full_manifest(source: Source, before: Manifest) -> Manifest:
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
            f"{len(spared)} of the chosen patient(s) were annotated for {why} and lose nothing: {some(spared)}"
        )
    nothing = [case for case in plan.training if not plan.manifest.labels_of(case).annotated and case in plan.hidden]
    if nothing:
        found.append(f"{len(nothing)} training case(s) are annotated for nothing any more: {some(nothing)}")
    if plan.removed:
        found.append(
            f"only cases that were left out are annotated for {some(plan.removed)}: the data set does not have these "
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
    dataset = plan.source.dataset
    tasks = [file for file in plan.label_files() if file.may_change]
    seen = in_parallel(
        functools.partial(look, with_values=True),
        [file.path for file in tasks],
        processes,
        "looking into the labels" if progress else None,
    )
    full = _full_manifest(plan.source, plan.before)
    changing, problems = [], []
    for file, facts in zip(tasks, seen, strict=True):
        manifest = full if file.part == FULL_PART else plan.before
        line = wrong(file.case, facts, manifest, dataset.classes, dataset.ignore_label)
        if line:
            problems.append(line)
        elif any(file.new_values[int(value)] != value for value in facts.values):
            changing.append((file.part, file.case))
    return changing, problems
