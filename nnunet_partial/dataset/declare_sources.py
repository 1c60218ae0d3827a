"""What was annotated in each case, from a table that somebody filled in: one row per case.

What was annotated in each case, by the names of the cases: 'siteB_*' drew the kidney only.

A guess at what was annotated, from the label files: what is never drawn in a group of cases is unknown there.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.declare import DatasetToDeclare
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, Manifest
from nnunet_partial.utils.text import first_lines, format_names

REQUIRED = ("case", "annotated")
OPTIONAL = ("absent", "domain", "patient", "split")


def manifest_from_table(data: DatasetToDeclare, path: Path) -> Manifest:
    """The manifest for a CSV with the columns case, annotated and, where wanted, absent, domain, patient, split.

    Several classes in a cell are separated by spaces, commas, semicolons, '|', '+' or '/'. Every case needs a row, but
    for test images without labels. Raises PartialLabelError that names every row that is wrong and every case without.
    """
    from nnunet_partial.utils.tables import read_table

    cases: dict[str, CaseLabels] = {}
    wrong: list[str] = []
    existing = set(data.cases)
    for line, row in read_table(path, REQUIRED, OPTIONAL):
        case = row["case"]
        try:
            _require_text(row)
            if case not in existing:
                raise ManifestError("there is no image of this case")
            if case in cases:
                raise ManifestError("stands in the table twice")
            cases[case] = CaseLabels.from_json(_entry(row, data.classes))
        except ManifestError as problem:
            wrong.append(f"line {line}, case {case!a}: {problem}")
    forgotten = [case for case in data.cases if case not in cases and case not in data.without_labels]
    if forgotten:
        wrong.append(f"{len(forgotten)} case(s) have no row: {format_names(forgotten)}")
    if wrong:
        raise ManifestError(f"{path}: nothing was written.\n" + "\n".join(first_lines(wrong)))
    return Manifest({case: cases.get(case) or data.without_labels[case] for case in data.cases})


def unread_columns(path: Path) -> list[str]:
    """Say which columns `manifest_from_table` does not read (none or one remark): a patient_id is no patient."""
    from nnunet_partial.utils.tables import read_table
    from nnunet_partial.utils.text import printable

    _, first = next(read_table(path, REQUIRED, OPTIONAL), (0, {}))
    read = (*REQUIRED, *OPTIONAL)
    unread = [printable(name) for name in first if name and name not in read]
    if not unread:
        return []
    return [
        f"column(s) of {path.name} that were not read: {format_names(unread)}; those that are read: {', '.join(read)}"
    ]


def _require_text(row: dict[str, str]) -> None:
    """Raises ManifestError for bytes that are no text: the manifest could not be written with them."""
    for name, cell in row.items():
        if any("\ud800" <= character <= "\udfff" for character in cell):
            raise ManifestError(
                f"{name.encode('ascii', 'backslashreplace').decode()} is {cell!a}; save the table as UTF-8"
            )


def _entry(row: dict[str, str], classes: Sequence[str]) -> dict[str, object]:
    """A row as an entry of the manifest. Raises ManifestError where it cannot be one."""
    structures = list(dict.fromkeys([*classes, *COMMON_CLASSES]))
    if row.get("patient") in structures:
        raise ManifestError(f"patient is {row['patient']!r}, a structure; are quotes missing in the column before?")
    entry: dict[str, object] = {"annotated": _names(row["annotated"], classes)}
    absent = _names(row.get("absent", ""), structures)
    if absent:
        entry["absent"] = absent
    entry.update({name: row[name] for name in ("domain", "patient") if row.get(name)})
    if row.get("split"):
        entry["split"] = row["split"].lower()
    return entry


def _names(text: str, allowed: Sequence[str]) -> list[str]:
    """The class names in a cell, in the order of `allowed`; a name that holds a separator itself is found as well."""
    for pieces in ([text], re.split(r"[,;|]", text), re.split(r"[\s,;|+/]+", text)):
        names = [piece.strip() for piece in pieces if piece.strip()]
        if all(name in allowed for name in names):
            return [name for name in allowed if name in names]
    strange = [name for name in names if name not in allowed]
    raise ManifestError(f"{format_names(strange)}: no class of dataset.json; expected some of {', '.join(allowed)}")


def manifest_from_patterns(data: DatasetToDeclare, given: Sequence[Sequence[str]]) -> tuple[Manifest, list[str]]:
    """The manifest for `given`, each a pattern over case identifiers and the classes drawn there; and remarks.

    The first matching pattern wins. Cases that none matches are taken as annotated for every class, which a remark says
    and which must not look wrong: each class must be drawn in one of them at least. Raises ManifestError.
    """
    groups: list[tuple[str, CaseLabels]] = []
    rest = data.cases
    for pattern, *names in given:
        strange = [name for name in names if name not in data.classes]
        if strange or not names:
            raise ManifestError(
                f"--match {pattern!r} names {format_names(strange) if strange else 'no class'}; expected some of "
                f"{', '.join(data.classes)}."
            )
        matching = {case for case in rest if fnmatch.fnmatchcase(case, pattern)}
        if not matching:
            raise ManifestError(
                f"--match {pattern!r} matches no case{' that an earlier pattern leaves over' if groups else ''}. "
                f"There are {format_names(rest, 5)}. Put the pattern in quotes, so that the shell leaves it alone."
            )
        groups.append((pattern, CaseLabels(_in_order(data, names), domain=literal_prefix(pattern))))
        rest = [case for case in rest if case not in matching]
    rest = [case for case in rest if case not in data.without_labels]
    if not rest:
        return Manifest(data.without_labels, tuple(groups)), []
    never = [name for name in data.classes if not any(name in data.drawn(case) for case in rest)]
    if never:
        raise ManifestError(
            f"{len(rest)} case(s) match no pattern, and {format_names(never)} is drawn in none of them: "
            f"{format_names(rest)}. What "
            "were they annotated for? Say it with a further --match; '*' matches all that are left."
        )
    groups.append(("*", CaseLabels(data.classes)))
    remark = f"{len(rest)} case(s) match no pattern and are declared annotated for everything: {format_names(rest, 5)}"
    return Manifest(data.without_labels, tuple(groups)), [remark]


def literal_prefix(pattern: str) -> str:
    """The domain that goes with a pattern: what stands before its first wildcard ('siteB_*' is siteB)."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rstrip("_-. ")


def _in_order(data: DatasetToDeclare, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in data.classes if name in names)


#: More groups than this are not sites or data sets: the number in a name like P001 then counts patients.
MOST_GROUPS = 10


@dataclass(frozen=True)
class InferredAnnotations:
    """The manifest, and the same in words for a person to judge."""

    manifest: Manifest
    text: str


def infer_annotations(data: DatasetToDeclare, patterns: Sequence[str] = ()) -> InferredAnnotations:
    """Declares each class annotated in a group of cases if it is drawn in one of them, else unknown.

    Groups: the cases that match each of `patterns` (the first that matches), or, without patterns, that begin alike:
    siteA_001 and siteA_002 are the group siteA. The domain is the group, or what stands before the first wildcard of
    the pattern, as with `manifest_from_patterns`. Raises ManifestError where a pattern or a case is left over, or a
    label file cannot be read.
    """
    unreadable = [f"{case}: {facts.problem}" for case, facts in data.facts.items() if facts.problem]
    if unreadable:
        raise ManifestError(f"{len(unreadable)} label file(s): {format_names(unreadable)}")
    labelled = [case for case in data.cases if case in data.facts]
    groups = _matching(labelled, patterns) if patterns else _beginning_alike(labelled)
    cases, lines = {}, []
    for group, members in sorted(groups.items()):
        times = {name: sum(name in data.drawn(case) for case in members) for name in data.classes}
        seen = tuple(name for name in data.classes if times[name])
        domain = literal_prefix(group) if patterns else group
        cases.update({case: CaseLabels(seen, domain=domain) for case in members})
        drawn = ", ".join(f"{name} (drawn in {times[name]})" for name in seen) or "nothing"
        unknown = ", ".join(name for name in data.classes if not times[name]) or "nothing"
        lines.append(f"{group or 'all'}: {len(members)} case(s), annotated: {drawn}; unknown: {unknown}")
    entries = {case: cases.get(case) or data.without_labels[case] for case in data.cases}
    return InferredAnnotations(Manifest(entries), "\n".join(lines))


def _matching(cases: Sequence[str], patterns: Sequence[str]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {pattern: [] for pattern in dict.fromkeys(patterns)}
    left: list[str] = []
    for case in cases:
        first = next((pattern for pattern in patterns if fnmatch.fnmatchcase(case, pattern)), None)
        (left if first is None else groups[first]).append(case)
    empty = [pattern for pattern, members in groups.items() if not members]
    if empty or left:
        raise ManifestError(
            f"--from-masks: pattern(s) that match no case: {format_names(empty)}; case(s) that no pattern "
            f"matches: {format_names(left)}"
            ". Every case belongs to a group; '*' as the last pattern takes all that are left."
        )
    return groups


def _beginning_alike(cases: Sequence[str]) -> Mapping[str, list[str]]:
    """By what stands before the first '_', '-', '.' or space; without numbers at its end where these are too many."""
    groups: dict[str, list[str]] = {}
    for case in cases:
        start, *rest = re.split(r"[_\-. ]", case, maxsplit=1)
        groups.setdefault(start if rest and not start.isdigit() else start.rstrip("0123456789"), []).append(case)
    if len(groups) <= MOST_GROUPS:
        return groups
    fewer: dict[str, list[str]] = {}
    for start, members in groups.items():
        fewer.setdefault(start.rstrip("0123456789"), []).extend(members)
    return fewer
