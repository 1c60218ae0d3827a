"""Which structures was this case annotated for? The one place that answers it, from `partial_labels.json`.

For each case a class is *annotated* (drawn here; it may still be empty), *absent* (known not to be in the picture, so
background is right) or *unknown* (nobody looked). `known = annotated + absent`; background is always known.

Which entries of a manifest speak of no case? Behind a mistyped name its cases fall to the next pattern, such as '*',
and count as fully labelled although somebody wrote down that they are not.

Two data sets may hold the same people under different names: then nobody may train in one and test in the other.

A case says so in `partial_labels.json` by `"same_people_as": "camus"`, the domain of the other data set. It may stand
beside that domain once its `patient` is named as there (camus_patient0002), so that splits keep the two together.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import DatasetError, ManifestError
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import first_lines, format_names


def common_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: LV, MYO, LA, RV, RA first, as far as they occur, then the others as they first appear."""
    once = list(dict.fromkeys(names))
    return tuple(n for n in COMMON_CLASSES if n in once) + tuple(n for n in once if n not in COMMON_CLASSES)


#: Beside labelsTr and partial_labels.json: the labels as they were before the scenario, and what they know.
FULL_SUBSET = "Tr_full"


FULL_MANIFEST_NAME = "partial_labels_full.json"


MANIFEST_NAME = "partial_labels.json"
VERSION = 1

#: The order in which structures of the heart are numbered, in every data set that this package writes.
COMMON_CLASSES = ("LV", "MYO", "LA", "RV", "RA")


@dataclass(frozen=True)
class CaseLabels:
    """What is known about one case (or about every case of a group).

    `patient` says what must stay on one side of a split; None means: the case itself. `info` holds all other entries of
    the manifest (split, view, phase, spacing_known, ...) as they stand there.
    """

    annotated: tuple[str, ...]
    absent: tuple[str, ...] = ()
    domain: str = ""
    patient: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = set(self.annotated) & set(self.absent)
        if both:
            raise ManifestError(
                f"declares {format_names(both)} both annotated and absent. A structure that was drawn "
                "belongs in 'annotated', "
                "one that is not in the picture in 'absent'."
            )

    @property
    def known(self) -> frozenset[str]:
        """Classes that are annotated or absent."""
        return frozenset(self.annotated) | frozenset(self.absent)

    @property
    def split(self) -> str | None:
        """The official split the case belongs to: 'train', 'val', 'test' or None."""
        return self.info.get("split")

    @property
    def interpolated(self) -> bool:
        """Whether nobody drew this mask: it was computed from those of other frames. Never to be evaluated on."""
        return self.info.get("interpolated") is True

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"annotated": list(self.annotated)}
        if self.absent:
            entry["absent"] = list(self.absent)
        if self.domain:
            entry["domain"] = self.domain
        if self.patient is not None:
            entry["patient"] = self.patient
        return {**entry, **self.info}

    @classmethod
    def from_json(cls, content: Any) -> CaseLabels:
        """Raises ManifestError, worded to follow the name of the case: 'has no ...'."""
        if not isinstance(content, dict):
            raise ManifestError(f"must be an object with 'annotated', not {_shown(content)}.")
        if "annotated" not in content:
            raise ManifestError("has no 'annotated': list the structures that were drawn in it ([] if none).")
        other = {k: v for k, v in content.items() if k not in ("annotated", "absent", "domain", "patient", "match")}
        if other.get("split") not in (None, "train", "val", "test"):
            raise ManifestError(f"has split {_shown(other['split'])}; expected train, val, test or null.")
        return cls(
            annotated=_names(content, "annotated"),
            absent=_names(content, "absent"),
            domain=_text(content, "domain") or "",
            patient=_text(content, "patient"),
            info=other,
        )


def _shown(value: Any) -> str:
    """A value as it stands in an error message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(content: dict[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ManifestError(f'has {key!r} = {_shown(value)}; expected a list of class names, such as ["LV"].')
    if len(set(value)) != len(value):
        raise ManifestError(f"names a class twice in {key!r}: {_shown(value)}.")
    return tuple(value)


def _text(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise ManifestError(f"has {key!r} = {_shown(value)}; expected text.")
    return value or None


@dataclass(frozen=True)
class Manifest:
    """The content of `partial_labels.json`: an entry per case, and patterns for people who write it by hand.

    `cases` wins over the first `groups` pattern that matches. A case that neither names is an error, never silently
    "fully labelled". `domain_weights`: how likely training draws from each domain, relative to each other.
    """

    cases: Mapping[str, CaseLabels]
    groups: tuple[tuple[str, CaseLabels], ...] = ()
    scenario: Mapping[str, Any] | None = None
    domain_weights: Mapping[str, float] | None = None

    def __repr__(self) -> str:
        # Short on purpose: nnU-Net writes str() of a trainer's attributes beside the model, which must list no patient.
        return f"Manifest({len(self.cases)} cases, {len(self.groups)} groups)"

    def find(self, case: str) -> CaseLabels | None:
        """The entry of a case, or None where the manifest does not name it."""
        if case in self.cases:
            return self.cases[case]
        return next((labels for pattern, labels in self.groups if fnmatch.fnmatchcase(case, pattern)), None)

    def labels_of(self, case: str) -> CaseLabels:
        """The entry of a case. Raises ManifestError where the manifest does not name it."""
        labels = self.find(case)
        if labels is None:
            raise ManifestError(_no_entry([case]))
        return labels

    def patient_of(self, case: str) -> str:
        """What must stay on one side of a split; the case itself where no patient is given."""
        return self.labels_of(case).patient or case

    def known(self, case: str, classes: Sequence[str]) -> NDArray[np.bool_]:
        """Which channels of the network the case knows: bool of shape (len(classes) + 1,); background, 0, is True.

        `classes`: names of the foreground classes in the order of their label values. Raises ManifestError for a case
        that the manifest does not name.
        """
        known = self.labels_of(case).known
        return np.array([True, *(name in known for name in classes)], dtype=bool)

    def problems(self, cases: Iterable[str], classes: Sequence[str]) -> list[str]:
        """What is wrong with the manifest for these cases of a data set with these classes; empty where all is well."""
        missing: list[str] = []
        strange: dict[str, list[str]] = {}
        for case in cases:
            labels = self.find(case)
            if labels is None:
                missing.append(case)
                continue
            for name in labels.annotated:
                if name not in classes:
                    strange.setdefault(name, []).append(case)
        found = [_no_entry(missing)] if missing else []
        found += [
            f"the class {name!r} is declared annotated in {len(named)} case(s) ({format_names(named)}) but "
            "is not one of the "
            f"classes of dataset.json ({', '.join(classes)}). Correct the name, or add the class to dataset.json."
            for name, named in strange.items()
        ]
        return found

    def require(self, cases: Iterable[str], classes: Sequence[str]) -> None:
        """Raises ManifestError with every problem that `problems` finds."""
        found = self.problems(cases, classes)
        if found:
            raise ManifestError(f"{MANIFEST_NAME}: " + "\n".join(found))

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "groups": [{"match": pattern, **labels.to_json()} for pattern, labels in self.groups],
            "cases": {case: labels.to_json() for case, labels in self.cases.items()},
            "scenario": self.scenario,
            "domain_weights": self.domain_weights,
        }

    @classmethod
    def from_json(cls, content: Any) -> Manifest:
        """Raises ManifestError that names every entry that is wrong."""
        if not isinstance(content, dict):
            raise ManifestError(f"must hold one JSON object, not {_shown(content)}.")
        if content.get("version") != VERSION or isinstance(content["version"], bool):
            raise ManifestError(
                f"has version {_shown(content.get('version'))}; this program reads version {VERSION}. "
                "Update nnunet-partial, or write the file again."
            )
        unknown = set(content) - {"version", "groups", "cases", "scenario", "domain_weights"}
        if unknown:
            raise ManifestError(
                f"has the unknown key(s) {format_names(unknown)}; expected version, groups, cases, scenario, "
                "domain_weights."
            )
        wrong: list[str] = []
        cases = {}
        for case, entry in _object(content, "cases").items():
            try:
                cases[case] = CaseLabels.from_json(entry)
            except ManifestError as problem:
                wrong.append(f"case {case!r} {problem}")
        groups = []
        for index, entry in enumerate(_list(content, "groups")):
            try:
                groups.append((_pattern(entry), CaseLabels.from_json(entry)))
            except ManifestError as problem:
                wrong.append(f"group {index} {problem}")
        if wrong:
            raise ManifestError("\n".join(first_lines(wrong)))
        scenario = _object(content, "scenario") or None
        domains = {labels.domain for labels in [*cases.values(), *(labels for _, labels in groups)]}
        return cls(cases, tuple(groups), scenario, _weights(content, domains))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Reads `partial_labels.json`. Raises ManifestError where it is missing, broken or contradicts itself."""
        if not path.exists():
            raise ManifestError(
                f"{path} does not exist. It says which structures each case was annotated for. "
                "`nnunet_partial convert` and `merge` write it; for your own data `nnunet_partial declare` does, "
                "or you by hand, for example\n"
                '{"version": 1, "groups": [{"match": "siteB_*", "annotated": ["LV"]}, '
                '{"match": "*", "annotated": ["LV", "MYO", "LA"]}], "cases": {}}'
            )
        content = read_json(path, ManifestError)
        try:
            return cls.from_json(content)
        except ManifestError as problem:
            raise ManifestError(f"{path}: {problem}") from None

    def write(self, path: Path) -> None:
        """Writes the manifest, whole or not at all."""
        write_json(path, self.to_json())


def _no_entry(cases: Sequence[str]) -> str:
    return (
        f"{len(cases)} case(s) have no entry: {format_names(list(cases))}. Add them under 'cases', or a pattern that "
        "matches them under 'groups', with the structures that were drawn in them."
    )


def _pattern(entry: Any) -> str:
    pattern = entry.get("match") if isinstance(entry, dict) else None
    if not isinstance(pattern, str) or not pattern:
        raise ManifestError(f"has 'match' = {_shown(pattern)}; expected a pattern such as \"echonet_*\".")
    return pattern


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if value is not None and not isinstance(value, dict):
        raise ManifestError(f"has {key!r} = {_shown(value)}; expected an object.")
    return value or {}


def _list(content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if value is not None and not isinstance(value, list):
        raise ManifestError(f"has {key!r} = {_shown(value)}; expected a list.")
    return value or []


def _weights(content: dict[str, Any], domains: set[str]) -> dict[str, float] | None:
    weights = _object(content, "domain_weights")
    for domain, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight <= sys.float_info.max:
            raise ManifestError(f"has the weight {_shown(weight)} for domain {domain!r}; expected a number above 0.")
    strange = set(weights) - domains
    if strange:
        raise ManifestError(
            f"has weights for {format_names(strange)} under 'domain_weights', of which there is no case; its "
            "domains are "
            f"{format_names({domain or '(no domain)' for domain in domains})}."
        )
    return {domain: float(weight) for domain, weight in weights.items()} or None


def has_regions(dataset_json: Mapping[str, Any]) -> bool:
    """Whether the data set is region-based, i.e. a label is a list of several values."""
    labels = dataset_json.get("labels")
    return isinstance(labels, dict) and any(isinstance(v, (list, tuple)) and len(v) > 1 for v in labels.values())


def class_names(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the foreground classes in the order of their values 1, 2, ...; without background and ignore.

    Raises DatasetError where the labels of dataset.json are missing, region-based or not consecutive.
    """
    labels = dataset_json.get("labels")
    if not isinstance(labels, dict) or labels.get("background") != 0:
        raise DatasetError(f'dataset.json has labels {_shown(labels)}; expected an object with "background": 0.')
    if has_regions(dataset_json):
        raise DatasetError("dataset.json is region-based (a label is a list of values); expected one value per class.")
    try:
        values = {name: _integer(value) for name, value in labels.items() if name != "background"}
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"dataset.json has labels {_shown(labels)}; expected whole numbers.") from None
    ordered = sorted(values, key=values.__getitem__)
    if [values[name] for name in ordered] != list(range(1, len(values) + 1)):
        raise DatasetError(f"dataset.json has label values {sorted(values.values())}; expected 1 to {len(values)}.")
    if "ignore" in values and ordered[-1] != "ignore":
        raise DatasetError("dataset.json: the label 'ignore' must have the highest value.")
    return tuple(name for name in ordered if name != "ignore")


def _integer(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(f"{value} is not a whole number")
    return int(value)


def ignore_label(dataset_json: Mapping[str, Any]) -> int | None:
    """The value of nnU-Net's ignore label, or None where the data set declares none."""
    value = dataset_json["labels"].get("ignore")
    return None if value is None else int(value)


def unused_groups(manifest: Manifest, cases: Iterable[str], with_test: bool = True) -> list[str]:
    """A line for each pattern that is the first to match for none of `cases`; empty where all are.

    A pattern whose cases all have an entry of their own is used: nobody relies on it. `with_test` False leaves out
    patterns that are declared to be of test cases.
    """
    matches: dict[int, set[int]] = {index: set() for index in range(len(manifest.groups))}
    used: set[int] = set()
    for case in cases:
        found = [i for i, (pattern, _) in enumerate(manifest.groups) if fnmatch.fnmatchcase(case, pattern)]
        used.update(found[:1])
        for index in found[1:]:
            matches[index].add(found[0])
    lines = []
    for index, (pattern, labels) in enumerate(manifest.groups):
        if index in used or (labels.split == "test" and not with_test):
            continue
        before = ", ".join(repr(manifest.groups[first][0]) for first in sorted(matches[index]))
        lines.append(
            f"the group {pattern!r} counts for no case, since {before} stands before it and the first that matches "
            "counts. Put it first"
            if before
            else f"the group {pattern!r} matches no case"
        )
    return lines


def unused_cases(manifest: Manifest, cases: Iterable[str], with_test: bool = True) -> list[str]:
    """The entries, sorted, that name none of `cases`. `with_test` False leaves out those that are declared test."""
    here = set(cases)
    return sorted(
        case for case, labels in manifest.cases.items() if case not in here and (with_test or labels.split != "test")
    )


#: Entry of a case in the manifest: the domain that holds the same people.
SAME_PEOPLE_AS = "same_people_as"


def find_shared_patients(entries: Mapping[str, CaseLabels]) -> list[str]:
    """One line per domain whose people are here a second time under other names; empty where all is well.

    `entries`: what is known of each case. Patients are named alike where only the digits at the end differ.
    """
    schemes: dict[str, set[str]] = {}
    for case, labels in entries.items():
        schemes.setdefault(labels.domain, set()).add(_name_prefix(labels.patient or case))
    leaking: dict[tuple[str, str], set[str]] = {}
    for case, labels in entries.items():
        twin = labels.info.get(SAME_PEOPLE_AS)
        patient = labels.patient or case
        if isinstance(twin, str) and schemes.get(twin, set()) - {_name_prefix(patient)}:
            leaking.setdefault((labels.domain, twin), set()).add(patient)
    return [
        f"{len(patients)} patient(s) of {domain} are people of {twin} under other names, so that one of them could be "
        f"on both sides of a split: {format_names(patients)}. {_advice(domain, twin)}"
        for (domain, twin), patients in leaking.items()
    ]


def _advice(domain: str, twin: str) -> str:
    if domain == twin:
        return "Take one of the two releases."
    return (
        f"Convert {domain} again so that its patients get the names they have in {twin} (for ted: --camus FOLDER, the "
        f"folder that {twin} was converted from), or leave one out"
    )


def _name_prefix(patient: str) -> str:
    """The name without the digits at its end: camus_patient for camus_patient0002."""
    return patient.rstrip("0123456789")
