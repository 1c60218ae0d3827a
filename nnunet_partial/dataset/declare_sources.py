"""Make the manifest of a dataset in nnU-Net's format: from a table, from patterns, or inferred from its label files.

A table has one row per case; a pattern such as 'siteB_*' stands for all cases with such identifiers; a class that never
occurs in the label files of a group of cases is inferred to be unknown there.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.declare import DatasetToDeclare
from nnunet_partial.dataset.images import without_endings
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, Manifest
from nnunet_partial.utils.text import first_lines, format_names

REQUIRED = ("case", "annotated")
OPTIONAL = ("absent", "domain", "patient", "split")


def manifest_from_table(data: DatasetToDeclare, path: Path) -> Manifest:
    """Make a manifest from a CSV with the columns case, annotated and, optionally, absent, domain, patient, split.

    Several classes in a cell are separated by spaces, commas, semicolons, '|', '+' or '/'. Every case needs a row, but
    for test images without labels.

    Args:
        data: The dataset.
        path: The table.

    Returns:
        The manifest.

    Raises:
        ManifestError: Rows are wrong or cases have no row; names all of them. A table that cannot be read raises
            ConversionError.
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
                raise ManifestError(f"there is no image of this case{_similar_case(case, existing)}")
            if case in cases:
                raise ManifestError("has two rows")
            cases[case] = CaseLabels.from_json(_entry(row, data.classes))
        except ManifestError as problem:
            wrong.append(f"line {line}, case {case!a}: {problem}")
    forgotten = [case for case in data.cases if case not in cases and case not in data.without_labels]
    if forgotten:
        wrong.append(f"{len(forgotten)} case(s) have no row: {format_names(forgotten)}")
    nameless = [case for case, labels in cases.items() if labels.patient is None]
    if nameless and len(nameless) < len(cases):
        wrong.append(
            f"{len(nameless)} case(s) have no patient: {format_names(nameless)}. Fill them in: each would count as a "
            "patient of its own (a cell merged in a spreadsheet fills its first row alone)"
        )
    if wrong:
        raise ManifestError(f"{path}: nothing was written.\n" + "\n".join(first_lines(wrong)))
    return Manifest({case: cases.get(case) or data.without_labels[case] for case in data.cases})


def unread_columns(path: Path) -> list[str]:
    """Find the columns that `manifest_from_table` does not read, such as patient_id in place of patient.

    Args:
        path: The table.

    Returns:
        One remark that names them; empty where all are read.
    """
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


def _similar_case(name: str, cases: Collection[str]) -> str:
    """Name the case that was probably meant: without file ending or channel, or with the zeros a spreadsheet lost."""
    plain = re.sub(r"_\d{4}$", "", without_endings(name))
    if plain != name and plain in cases:
        return f"; a case is named without file ending and channel: {plain}"
    number = re.fullmatch(r"(.*?)(\d+)", plain)
    if not number:
        return ""
    start, digits = number.groups()
    padded = [case for case in cases if (m := re.fullmatch(r"(.*?)0+(\d+)", case)) and m.groups() == (start, digits)]
    if not padded:
        return ""
    return f"; is it {format_names(padded)}? Spreadsheets drop zeros before a number: format the column as text"


def _require_text(row: dict[str, str]) -> None:
    """Refuse bytes that are not UTF-8 text: the manifest could not be written with them."""
    for name, cell in row.items():
        if any("\ud800" <= character <= "\udfff" for character in cell):
            raise ManifestError(
                f"{name.encode('ascii', 'backslashreplace').decode()} is {cell!a}; save the table as UTF-8"
            )


def _entry(row: dict[str, str], classes: Sequence[str]) -> dict[str, object]:
    """Return a row as an entry of the manifest."""
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
    """Split a cell into class names, in the order of `allowed`; a name may hold a separator itself."""
    for pieces in ([text], re.split(r"[,;|]", text), re.split(r"[\s,;|+/]+", text)):
        names = [piece.strip() for piece in pieces if piece.strip()]
        if all(name in allowed for name in names):
            return [name for name in allowed if name in names]
    unknown = [name for name in names if name not in allowed]
    raise ManifestError(f"{format_names(unknown)}: no class of dataset.json; expected some of {', '.join(allowed)}")


def manifest_from_patterns(data: DatasetToDeclare, given: Sequence[Sequence[str]]) -> tuple[Manifest, list[str]]:
    """Make a manifest from patterns over case identifiers.

    The first matching pattern counts. Cases that none matches are declared annotated for every class, provided that
    the label file of one of them at least shows each class (`DatasetToDeclare.present_classes`); a training case where
    there is one, as test cases are often annotated for more.

    Args:
        data: The dataset.
        given: A pattern and the classes annotated in its cases, for each group.

    Returns:
        The manifest, and a remark that names the cases that no pattern matches.

    Raises:
        ManifestError: A pattern matches no case or names no class, or cases are left over that do not look fully
            annotated.
    """
    groups: list[tuple[str, CaseLabels]] = []
    rest = data.cases
    for pattern, *names in given:
        unknown = [name for name in names if name not in data.classes]
        if unknown or not names:
            raise ManifestError(
                f"--match {pattern!r} names {format_names(unknown) if unknown else 'no class'}; expected some of "
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
    training = [case for case in rest if case in data.labels["Tr"]]
    looked_at = training or rest
    never = [name for name in data.classes if not any(name in data.present_classes(case) for case in looked_at)]
    if never:
        raise ManifestError(
            f"{len(looked_at)} {'training ' if training else ''}case(s) match no pattern, and {format_names(never)} "
            f"occurs in none of them{' (what lies inside a region does not count)' if data.dataset.regions else ''}: "
            f"{format_names(looked_at)}. What were they annotated for? Say it with a further --match; '*' matches all "
            "that are left."
        )
    groups.append(("*", CaseLabels(data.classes)))
    remark = f"{len(rest)} case(s) match no pattern and are declared annotated for everything: {format_names(rest, 5)}"
    return Manifest(data.without_labels, tuple(groups)), [remark]


def literal_prefix(pattern: str) -> str:
    """Return the domain that goes with a pattern: what stands before its first wildcard ('siteB_*' is siteB).

    Args:
        pattern: A pattern over case identifiers.

    Returns:
        The prefix without separators at its end; "" for '*'.
    """
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rstrip("_-. ")


def _in_order(data: DatasetToDeclare, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in data.classes if name in names)


#: More groups than this are not sites or datasets: the number in a name like P001 then counts patients.
MAX_GROUPS = 10


@dataclass(frozen=True)
class InferredAnnotations:
    """Hold a manifest that was inferred from label files, and its description for a person to judge.

    Attributes:
        manifest: The manifest.
        text: One line per group.
    """

    manifest: Manifest
    text: str


def infer_annotations(data: DatasetToDeclare, patterns: Sequence[str] = ()) -> InferredAnnotations:
    """Infer what was annotated: a class is annotated in a group of cases if one of them shows it, else unknown.

    What a label file shows is as `DatasetToDeclare.present_classes` says. Test cases are often annotated for more: what
    they alone show is annotated in them, and unknown in the training cases of their group.

    Args:
        data: The dataset.
        patterns: Patterns over case identifiers, one per group; the first that matches counts. Without patterns, cases
            that begin alike are a group: siteA_001 and siteA_002 are siteA.

    Returns:
        The manifest and its description. The domain is the group, or what stands before the first wildcard of the
        pattern, as with `manifest_from_patterns`.

    Raises:
        ManifestError: A pattern matches no case, a case matches no pattern, or a label file cannot be read.
    """
    unreadable = [f"{case}: {info.problem}" for case, info in data.label_infos.items() if info.problem]
    if unreadable:
        raise ManifestError(f"{len(unreadable)} label file(s): {format_names(unreadable)}")
    labeled = [case for case in data.cases if case in data.label_infos]
    groups = _group_by_pattern(labeled, patterns) if patterns else _group_by_prefix(labeled)
    cases, lines = {}, []
    for group, members in sorted(groups.items()):
        domain = literal_prefix(group) if patterns else group
        for part, some, annotated in _annotated_parts(data, members):
            cases.update({case: CaseLabels(annotated, domain=domain) for case in some})
            counts = {name: sum(name in data.present_classes(case) for case in some) for name in annotated}
            listed = ", ".join(f"{name} (in {count})" for name, count in counts.items()) or "nothing"
            unknown = ", ".join(name for name in data.classes if name not in annotated) or "nothing"
            lines.append(f"{group or 'all'}: {len(some)} {part}case(s), annotated: {listed}; unknown: {unknown}")
    entries = {case: cases.get(case) or data.without_labels[case] for case in data.cases}
    return InferredAnnotations(Manifest(entries), "\n".join(lines))


def _annotated_parts(
    data: DatasetToDeclare, members: Sequence[str]
) -> list[tuple[str, Sequence[str], tuple[str, ...]]]:
    """Return what a group is annotated for; its training and test cases apart where test cases show more."""
    training = [case for case in members if case in data.labels["Tr"]]
    test = [case for case in members if case not in data.labels["Tr"]]
    shown, more = (
        tuple(name for name in data.classes if any(name in data.present_classes(case) for case in cases))
        for cases in (training or test, members)
    )
    return [("", members, more)] if shown == more else [("training ", training, shown), ("test ", test, more)]


def _group_by_pattern(cases: Sequence[str], patterns: Sequence[str]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {pattern: [] for pattern in dict.fromkeys(patterns)}
    left: list[str] = []
    for case in cases:
        first = next((pattern for pattern in patterns if fnmatch.fnmatchcase(case, pattern)), None)
        (left if first is None else groups[first]).append(case)
    empty = [pattern for pattern, members in groups.items() if not members]
    if empty or left:
        raise ManifestError(
            f"--from-masks: pattern(s) that match no case: {format_names(empty)}; case(s) that no pattern matches: "
            f"{format_names(left)}. Every case belongs to a group; '*' as the last pattern takes all that are left."
        )
    return groups


def _group_by_prefix(cases: Sequence[str]) -> Mapping[str, list[str]]:
    """Group by what stands before the first '_', '-', '.' or space; without digits at its end if too many groups."""
    groups: dict[str, list[str]] = {}
    for case in cases:
        start, *rest = re.split(r"[_\-. ]", case, maxsplit=1)
        groups.setdefault(start if rest and not start.isdigit() else start.rstrip("0123456789"), []).append(case)
    if len(groups) <= MAX_GROUPS:
        return groups
    fewer: dict[str, list[str]] = {}
    for start, members in groups.items():
        fewer.setdefault(start.rstrip("0123456789"), []).extend(members)
    return fewer
