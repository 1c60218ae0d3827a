"""Read, write and query `partial_labels.json`, which says which structures each case was annotated for.

For each case a class is *annotated* (a human annotated it; its mask may still be empty), *absent* (known not to be in
the image, so that background is right), *pseudo* (filled by a trained model, see `nnunet_partial fill`) or *unknown*
(not annotated). `known = annotated + absent`; background is always known. A pseudo-label is known in training and
unknown everywhere else: in every metric, in usual sizes, in later fills.

Besides the manifest itself: the order of classes, entries that match no case, and patients that two datasets share.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.errors import ManifestError
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import ALL, NO_DOMAIN, first_lines, format_names, short_repr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST_NAME = "partial_labels.json"
VERSION = 1

#: Beside labelsTr and partial_labels.json a scenario keeps the complete labels, labelsTr_full, and their manifest.
FULL_SUBSET = "Tr_full"
FULL_MANIFEST_NAME = "partial_labels_full.json"

#: Key of a case in the manifest: the domain that holds the same patients.
SAME_PEOPLE_AS = "same_people_as"

#: Key of a case in the manifest: whether a model that filled cases of the dataset was trained on it.
SEEN_BY_FILLING_MODEL = "seen_by_filling_model"

#: Key of a case in the manifest: equal hashes are the same recording.
FRAME_HASH = "frame_hash"

#: Keys of an entry that are fields of `CaseLabels`; "match" is that of a group.
_ENTRY_KEYS = ("annotated", "absent", "pseudo", "domain", "patient", "match")

#: The order in which structures of the heart are numbered, in every dataset that this package writes.
COMMON_CLASSES = ("LV", "MYO", "LA", "RV", "RA")


def common_order(names: Iterable[str]) -> tuple[str, ...]:
    """Order class names: LV, MYO, LA, RV, RA first, as far as they occur, then the others as they first appear.

    Args:
        names: Class names, also repeated.

    Returns:
        Each name once; empty where there is none.
    """
    once = list(dict.fromkeys(names))
    return tuple(n for n in COMMON_CLASSES if n in once) + tuple(n for n in once if n not in COMMON_CLASSES)


@dataclass(frozen=True)
class CaseLabels:
    """Hold the entry of one case, or of every case of a group.

    Attributes:
        annotated: Classes that a human annotated.
        absent: Classes that are known not to be in the image.
        domain: Where the case comes from, such as the name of the dataset; "" for none.
        patient: What must stay on one side of a split; None means the case itself.
        info: All other keys of the entry (split, view, phase, spacing_known, ...) as in the file.
        pseudo: Classes that a trained model filled. They are trained on, and count in no figure.
    """

    annotated: tuple[str, ...]
    absent: tuple[str, ...] = ()
    domain: str = ""
    patient: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    pseudo: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a class that is both annotated and absent, or one of the two and pseudo; and the domain "(all)".

        Raises:
            ManifestError: There is one.
        """
        if self.domain == ALL:
            raise ManifestError(f"has the domain {ALL!r}, which stands for all domains in tables; call it otherwise.")
        both = set(self.annotated) & set(self.absent)
        if both:
            raise ManifestError(
                f"declares {format_names(both)} both annotated and absent. An annotated structure belongs in "
                "'annotated', one that is not in the image in 'absent'."
            )
        twice = set(self.pseudo) & self.known
        if twice:
            raise ManifestError(
                f"declares {format_names(twice)} filled by a model ('pseudo') and annotated or absent. What a human "
                "says goes before: remove the class from 'pseudo'."
            )

    @classmethod
    def from_fields(
        cls,
        annotated: Iterable[str],
        *,
        domain: str,
        patient: str,
        absent: Iterable[str] = (),
        info: Mapping[str, Any],
    ) -> CaseLabels:
        """Build the entry of a converted case.

        Args:
            annotated: Classes that a human annotated.
            domain: Where the case comes from.
            patient: What must stay on one side of a split.
            absent: Classes that are known not to be in the image.
            info: Other keys; those that are None are left out.

        Returns:
            The entry.
        """
        given = {key: value for key, value in info.items() if value is not None}
        return cls(tuple(annotated), tuple(absent), domain, patient, given)

    @property
    def known(self) -> frozenset[str]:
        """Return the classes that are annotated or absent: what may be measured."""
        return frozenset(self.annotated) | frozenset(self.absent)

    @property
    def written(self) -> tuple[str, ...]:
        """Return the classes that the label file may hold: annotated by a human, or filled by a model."""
        return (*self.annotated, *self.pseudo)

    @property
    def known_in_training(self) -> frozenset[str]:
        """Return the classes that are annotated, absent or pseudo: what a loss may learn from."""
        return self.known | frozenset(self.pseudo)

    def state(self, name: str) -> str:
        """Return what is recorded for a class: annotated, absent, pseudo or unknown.

        Args:
            name: Name of the class.

        Returns:
            One of the four words.
        """
        states = (("annotated", self.annotated), ("absent", self.absent), ("pseudo", self.pseudo))
        return next((state for state, names in states if name in names), "unknown")

    @property
    def split(self) -> str | None:
        """Return the official split of the case: 'train', 'val', 'test', or None."""
        return self.info.get("split")

    @property
    def left_out(self) -> bool:
        """Return whether the case is in no fold on purpose, so that no network trains on it or is chosen by it."""
        return self.info.get("left_out") is True

    @property
    def interpolated(self) -> bool:
        """Return whether the mask was computed from those of other frames. It is never to be evaluated on."""
        return self.info.get("interpolated") is True

    @property
    def seen_by_filling_model(self) -> bool:
        """Return whether a model that filled cases of the dataset was trained on this case."""
        return self.info.get(SEEN_BY_FILLING_MODEL) is True

    def to_json(self) -> dict[str, Any]:
        """Return the entry as in the file; keys that say nothing are left out."""
        entry: dict[str, Any] = {"annotated": list(self.annotated)}
        if self.absent:
            entry["absent"] = list(self.absent)
        if self.pseudo:
            entry["pseudo"] = list(self.pseudo)
        if self.domain:
            entry["domain"] = self.domain
        if self.patient is not None:
            entry["patient"] = self.patient
        return {**entry, **self.info}

    @classmethod
    def from_json(cls, content: Any) -> CaseLabels:
        """Read an entry.

        Args:
            content: The entry as in the file.

        Returns:
            The entry.

        Raises:
            ManifestError: The entry is invalid; worded to follow the name of the case ('has no ...').
        """
        if not isinstance(content, dict):
            raise ManifestError(f"must be an object with 'annotated', not {short_repr(content)}.")
        if "annotated" not in content:
            raise ManifestError("has no 'annotated': list the structures that were annotated in it ([] if none).")
        info = {key: value for key, value in content.items() if key not in _ENTRY_KEYS}
        if info.get("split") not in (None, "train", "val", "test"):
            raise ManifestError(f"has split {short_repr(info['split'])}; expected train, val, test or null.")
        for key in ("left_out", SEEN_BY_FILLING_MODEL, "interpolated", "spacing_known"):
            if not isinstance(info.get(key), (bool, type(None))):
                raise ManifestError(f"has {key} {short_repr(info[key])}; expected true, false or null.")
        _text(info, SAME_PEOPLE_AS)
        return cls(
            annotated=_names(content, "annotated"),
            absent=_names(content, "absent"),
            domain=_text(content, "domain") or "",
            patient=_text(content, "patient"),
            info=info,
            pseudo=_names(content, "pseudo"),
        )


@dataclass(frozen=True)
class Manifest:
    """Hold the content of `partial_labels.json`: an entry per case, and patterns for files written by hand.

    A case that neither `cases` nor `groups` names is an error; it is never silently "fully labeled".

    Attributes:
        cases: Entry by case identifier. It takes precedence over `groups`.
        groups: Patterns over case identifiers with their entries; the first that matches counts.
        scenario: What a labeling scenario hid, and from which dataset; None where the dataset is not a scenario.
        domain_weights: How likely training samples from each domain, relative to each other; None for no weights.
        fill: Which model filled classes, and how; None where no model did.
    """

    cases: Mapping[str, CaseLabels]
    groups: tuple[tuple[str, CaseLabels], ...] = ()
    scenario: Mapping[str, Any] | None = None
    domain_weights: Mapping[str, float] | None = None
    fill: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """Count the entries: nnU-Net writes this beside the model, where no patient may be listed."""
        return f"Manifest({len(self.cases)} cases, {len(self.groups)} groups)"

    @property
    def content_hash(self) -> str:
        """Return a hash of the content, whatever the layout of the file; no name can be read from it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def has_pseudo(self) -> bool:
        """Return whether a model filled a class of any case, or of those that a pattern matches."""
        return any(labels.pseudo for labels in (*self.cases.values(), *(labels for _, labels in self.groups)))

    def find(self, case: str) -> CaseLabels | None:
        """Look up the entry of a case.

        Args:
            case: Case identifier.

        Returns:
            The entry; None where the manifest does not name the case.
        """
        if case in self.cases:
            return self.cases[case]
        return next((labels for pattern, labels in self.groups if fnmatch.fnmatchcase(case, pattern)), None)

    def entries_of(self, cases: Iterable[str]) -> dict[str, CaseLabels]:
        """Look up the entries of cases.

        Args:
            cases: Case identifiers; those that the manifest does not name are left out.

        Returns:
            Entry by case, in the order given; empty where there is none.
        """
        return {case: labels for case in cases if (labels := self.find(case)) is not None}

    def labels_of(self, case: str) -> CaseLabels:
        """Look up the entry of a case that must have one.

        Args:
            case: Case identifier.

        Returns:
            The entry.

        Raises:
            ManifestError: The manifest does not name the case.
        """
        labels = self.find(case)
        if labels is None:
            raise ManifestError(_no_entry([case]))
        return labels

    def patient_of(self, case: str) -> str:
        """Look up the patient of a case, who must stay on one side of a split.

        Args:
            case: Case identifier.

        Returns:
            The patient; the case itself where none is given.
        """
        return self.labels_of(case).patient or case

    def names_of(self, case: str) -> set[str]:
        """Collect by what a case or its patient may be known in another manifest.

        Args:
            case: Case identifier.

        Returns:
            The case, the patient and the hash of the recording, as far as they are on record.
        """
        labels = self.find(case) or CaseLabels(())
        frames = labels.info.get(FRAME_HASH)
        return {case, labels.patient or case, *([frames] if isinstance(frames, str) else [])}

    def known(self, case: str, classes: Sequence[str], in_training: bool = False) -> NDArray[np.bool_]:
        """Mark the network's channels that the case is annotated for, or known to lack.

        Args:
            case: Case identifier.
            classes: Names of the foreground classes (or regions) in the order of the network's outputs.
            in_training: Whether pseudo-labels count as known.

        Returns:
            Bool array of shape (len(classes) + 1,); background, 0, is True.
        """
        import numpy as np

        labels = self.labels_of(case)
        known = labels.known_in_training if in_training else labels.known
        return np.array([True, *(name in known for name in classes)], dtype=bool)

    def annotated_classes(self, cases: Iterable[str], with_pseudo: bool = False) -> frozenset[str]:
        """Collect the classes that at least one of the cases is annotated for.

        Args:
            cases: Case identifiers; those that the manifest does not name are left out.
            with_pseudo: Whether a pseudo-label counts as an annotation.

        Returns:
            The class names; empty where there is no case.
        """
        entries = self.entries_of(cases).values()
        return frozenset(name for labels in entries for name in (labels.written if with_pseudo else labels.annotated))

    def classes_without_annotation(
        self, cases: Iterable[str], classes: Sequence[str], with_pseudo: bool = False
    ) -> list[str]:
        """Find the classes that none of the cases is annotated for, so that a network cannot learn them from these.

        Args:
            cases: Case identifiers; those that the manifest does not name are left out.
            classes: The classes in question.
            with_pseudo: Whether a pseudo-label counts as an annotation.

        Returns:
            The class names, in the order of `classes`; empty where each is annotated in some case.
        """
        annotated = self.annotated_classes(cases, with_pseudo)
        return [name for name in classes if name not in annotated]

    def seen_by_filling_model(self, cases: Iterable[str], reference: Manifest | None = None) -> list[str]:
        """Find the cases of which no figure is independent: a model that filled others was trained on their patients.

        Args:
            cases: Case identifiers; those that no manifest names are patients of their own.
            reference: Another manifest that names the cases, perhaps other images of the same patients.

        Returns:
            Those of a patient with a case that a filling model saw, in the order given; empty where there is none.
        """
        cases = list(cases)
        seen = self._patients_seen(cases)
        manifests = [self] if reference is None else [self, reference]
        return [
            case
            for case in cases
            if not seen.isdisjoint({case, *((m.find(case) or CaseLabels(())).patient or case for m in manifests)})
        ]

    def seen_without_image(self, cases: Iterable[str]) -> dict[str, CaseLabels]:
        """Collect the entries that a dataset must keep although it does not have the cases.

        Without them nobody could tell that a model which filled the dataset was trained on these patients.

        Args:
            cases: Case identifiers that the dataset has.

        Returns:
            Entry by case that a filling model saw, annotated for nothing; empty where there is none.
        """
        others = [case for case, labels in self.cases.items() if labels.seen_by_filling_model]
        kept = {*cases}
        return {
            case: replace(self.cases[case], annotated=(), absent=(), pseudo=()) for case in others if case not in kept
        }

    def _patients_seen(self, cases: Iterable[str] = ()) -> set[str]:
        """Return the patients of whom a filling model saw a case; a case without a patient is its own.

        A pattern says it of the patient that it names, else of those of the `cases` that it matches.
        """
        entries = [*self.entries_of((*self.cases, *cases)).items()]
        entries += [(labels.patient, labels) for _, labels in self.groups if labels.patient]
        return {labels.patient or case for case, labels in entries if labels.seen_by_filling_model}

    @property
    def fill_hash(self) -> str:
        """Return a hash of how the dataset was filled and of whom the filling models saw; it tells no name."""
        content = json.dumps([self.fill, sorted(self._patients_seen())], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def problems(self, cases: Iterable[str], classes: Sequence[str]) -> list[str]:
        """Find what is wrong with the manifest for the cases and classes of a dataset.

        Args:
            cases: Case identifiers of the dataset.
            classes: Its foreground classes.

        Returns:
            One message per problem: cases without an entry, annotated classes that dataset.json does not have, absent
            ones that it spells with other capitals. Empty where there is none.
        """
        missing: list[str] = []
        undeclared: dict[str, list[str]] = {}
        misspelled: dict[tuple[str, str], list[str]] = {}
        spelled = {name.casefold(): name for name in classes}
        for case in cases:
            labels = self.find(case)
            if labels is None:
                missing.append(case)
                continue
            for name in labels.written:
                if name not in classes:
                    undeclared.setdefault(name, []).append(case)
            for name in labels.absent:
                if name not in classes and name.strip().casefold() in spelled:
                    misspelled.setdefault((name, spelled[name.strip().casefold()]), []).append(case)
        return [
            *([_no_entry(missing)] if missing else []),
            *(
                f"the class {name!r} is declared annotated in {len(named)} case(s) ({format_names(named)}) but is not "
                f"one of the classes of dataset.json ({', '.join(classes)}). Correct the name, or add the class to "
                "dataset.json."
                for name, named in undeclared.items()
            ),
            *(
                f"the class {name!r} is declared absent in {len(named)} case(s) ({format_names(named)}), without "
                f"effect, as dataset.json has {right!r}. Use one spelling."
                for (name, right), named in misspelled.items()
            ),
        ]

    def require(self, cases: Iterable[str], classes: Sequence[str]) -> None:
        """Check the manifest against the cases and classes of a dataset.

        Args:
            cases: Case identifiers of the dataset.
            classes: Its foreground classes.

        Raises:
            ManifestError: `problems` finds something; names all of it.
        """
        problems = self.problems(cases, classes)
        if problems:
            raise ManifestError(f"{MANIFEST_NAME}: " + "\n".join(problems))

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {
            "version": VERSION,
            "groups": [{"match": pattern, **labels.to_json()} for pattern, labels in self.groups],
            "cases": {case: labels.to_json() for case, labels in self.cases.items()},
            "scenario": self.scenario,
            "domain_weights": self.domain_weights,
            **({"fill": self.fill} if self.fill else {}),  # else the hash of a manifest without one would change
        }

    @classmethod
    def from_json(cls, content: Any) -> Manifest:
        """Read the content of a manifest file.

        Args:
            content: The parsed JSON.

        Returns:
            The manifest.

        Raises:
            ManifestError: The content is invalid; names every entry that is.
        """
        if not isinstance(content, dict):
            raise ManifestError(f"must hold one JSON object, not {short_repr(content)}.")
        if content.get("version") != VERSION or isinstance(content["version"], bool):
            raise ManifestError(
                f"has version {short_repr(content.get('version'))}; this program reads version {VERSION}. "
                "Update nnunet-partial, or write the file again."
            )
        unknown = set(content) - {"version", "groups", "cases", "scenario", "domain_weights", "fill"}
        if unknown:
            raise ManifestError(
                f"has the unknown key(s) {format_names(unknown)}; expected version, groups, cases, scenario, "
                "domain_weights, fill."
            )
        problems: list[str] = []
        cases = {}
        for case, entry in _object(content, "cases").items():
            try:
                cases[case] = CaseLabels.from_json(entry)
            except ManifestError as problem:
                problems.append(f"case {case!r} {problem}")
        groups = []
        for index, entry in enumerate(_list(content, "groups")):
            try:
                groups.append((_pattern(entry), CaseLabels.from_json(entry)))
            except ManifestError as problem:
                problems.append(f"group {index} {problem}")
        if problems:
            raise ManifestError("\n".join(first_lines(problems)))
        scenario = _object(content, "scenario") or None
        domains = {labels.domain for labels in [*cases.values(), *(labels for _, labels in groups)]}
        return cls(cases, tuple(groups), scenario, _weights(content, domains), _object(content, "fill") or None)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read `partial_labels.json`.

        Args:
            path: The file.

        Returns:
            The manifest.

        Raises:
            ManifestError: The file is missing, broken or contradicts itself.
        """
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
        """Write the manifest, whole or not at all.

        Args:
            path: The file, which is replaced.
        """
        write_json(path, self.to_json())


def unused_groups(manifest: Manifest, cases: Iterable[str], with_test: bool = True) -> list[str]:
    """Find patterns that are the first to match for none of the cases.

    The cases that a mistyped pattern was meant for fall to the next one, such as '*', and count as fully labeled
    although they are not. A pattern whose cases all have an entry of their own is not reported: nothing relies on it.

    Args:
        manifest: The manifest.
        cases: Case identifiers of the dataset.
        with_test: Whether to report patterns that are declared to be of test cases.

    Returns:
        One message per pattern; empty where each is used.
    """
    matched_before: dict[int, set[int]] = {index: set() for index in range(len(manifest.groups))}
    used: set[int] = set()
    for case in cases:
        matching = [i for i, (pattern, _) in enumerate(manifest.groups) if fnmatch.fnmatchcase(case, pattern)]
        used.update(matching[:1])
        for index in matching[1:]:
            matched_before[index].add(matching[0])
    lines = []
    for index, (pattern, labels) in enumerate(manifest.groups):
        if index in used or (labels.split == "test" and not with_test):
            continue
        before = ", ".join(repr(manifest.groups[first][0]) for first in sorted(matched_before[index]))
        lines.append(
            f"the group {pattern!r} counts for no case, since {before} stands before it and the first that matches "
            "counts. Put it first"
            if before
            else f"the group {pattern!r} matches no case"
        )
    return lines


def unused_cases(manifest: Manifest, cases: Iterable[str], with_test: bool = True) -> list[str]:
    """Find entries that name none of the cases; those of cases that a filling model saw are needed without an image.

    Args:
        manifest: The manifest.
        cases: Case identifiers of the dataset.
        with_test: Whether to report entries that are declared test.

    Returns:
        The case identifiers of these entries, sorted; empty where each names a case.
    """
    existing = set(cases)
    return sorted(
        case
        for case, labels in manifest.cases.items()
        if case not in existing and (with_test or labels.split != "test") and not labels.seen_by_filling_model
    )


def find_shared_patients(entries: Mapping[str, CaseLabels]) -> list[str]:
    """Find domains that hold the same patients under different names.

    Such a patient could train in one and test in the other. A case declares it by `"same_people_as": "camus"`, the
    domain of the other dataset. The two may be combined once the `patient` is named as there (camus_patient0002), so
    that splits keep the cases together. Names count as alike where only the digits at their end differ.

    Args:
        entries: Entry by case identifier.

    Returns:
        One message per pair of domains; empty where no patient is shared.
    """
    prefixes: dict[str, set[str]] = {}
    for case, labels in entries.items():
        prefixes.setdefault(labels.domain, set()).add(_name_prefix(labels.patient or case))
    shared: dict[tuple[str, str], set[str]] = {}
    for case, labels in entries.items():
        other = labels.info.get(SAME_PEOPLE_AS)
        patient = labels.patient or case
        if isinstance(other, str) and prefixes.get(other, set()) - {_name_prefix(patient)}:
            shared.setdefault((labels.domain, other), set()).add(patient)
    return [
        f"{len(patients)} patient(s) of {domain} are people of {other} under other names, so that one of them could be "
        f"on both sides of a split: {format_names(patients)}. {_advice(domain, other)}"
        for (domain, other), patients in shared.items()
    ]


def _names(content: dict[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ManifestError(f'has {key!r} = {short_repr(value)}; expected a list of class names, such as ["LV"].')
    if len(set(value)) != len(value):
        raise ManifestError(f"names a class twice in {key!r}: {short_repr(value)}.")
    return tuple(value)


def _text(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise ManifestError(f"has {key!r} = {short_repr(value)}; expected text.")
    return value or None


def _no_entry(cases: Sequence[str]) -> str:
    return (
        f"{len(cases)} case(s) have no entry: {format_names(cases)}. Add them under 'cases', or a pattern that "
        "matches them under 'groups', with the structures that were annotated in them."
    )


def _pattern(entry: Any) -> str:
    pattern = entry.get("match") if isinstance(entry, dict) else None
    if not isinstance(pattern, str) or not pattern:
        raise ManifestError(f"has 'match' = {short_repr(pattern)}; expected a pattern such as \"echonet_*\".")
    return pattern


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if value is not None and not isinstance(value, dict):
        raise ManifestError(f"has {key!r} = {short_repr(value)}; expected an object.")
    return value or {}


def _list(content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if value is not None and not isinstance(value, list):
        raise ManifestError(f"has {key!r} = {short_repr(value)}; expected a list.")
    return value or []


def _weights(content: dict[str, Any], domains: set[str]) -> dict[str, float] | None:
    weights = _object(content, "domain_weights")
    for domain, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight <= sys.float_info.max:
            raise ManifestError(
                f"has the weight {short_repr(weight)} for domain {domain!r}; expected a number above 0."
            )
    unknown = set(weights) - domains
    if unknown:
        raise ManifestError(
            f"has weights for {format_names(unknown)} under 'domain_weights', of which there is no case; its domains "
            f"are {format_names({domain or NO_DOMAIN for domain in domains})}."
        )
    return {domain: float(weight) for domain, weight in weights.items()} or None


def _advice(domain: str, other: str) -> str:
    if domain == other:
        return "Take one of the two releases."
    return (
        f"Convert {domain} again so that its patients get the names they have in {other} (for ted: --camus FOLDER, the "
        f"folder that {other} was converted from), or leave one out"
    )


def _name_prefix(patient: str) -> str:
    """Return the name without the digits at its end: camus_patient for camus_patient0002."""
    return patient.rstrip("0123456789")
