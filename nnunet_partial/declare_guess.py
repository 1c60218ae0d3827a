"""A guess at what was annotated, from the label files: what is never drawn in a group of cases is unknown there."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_partial.declare import Undeclared
from nnunet_partial.declare_pattern import fixed_text
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.text import some

#: More groups than this are not sites or data sets: the number in a name like P001 then counts patients.
MOST_GROUPS = 10


@dataclass(frozen=True)
class Guess:
    """The manifest, and the same in words for a person to judge."""

    manifest: Manifest
    text: str


def guess(data: Undeclared, patterns: Sequence[str] = ()) -> Guess:
    """Declares each class annotated in a group of cases if it is drawn in one of them, else unknown.

    Groups: the cases that match each of `patterns` (the first that matches), or, without patterns, that begin alike:
    siteA_001 and siteA_002 are the group siteA. The domain is the group, or what stands before the first wildcard of
    the pattern, as with `by_pattern`. Raises ManifestError where a pattern or a case is left over, or a label file
    cannot be read.
    """
    unreadable = [f"{case}: {facts.problem}" for case, facts in data.facts.items() if facts.problem]
    if unreadable:
        raise ManifestError(f"{len(unreadable)} label file(s): {some(unreadable)}")
    labelled = [case for case in data.cases if case in data.facts]
    groups = _matching(labelled, patterns) if patterns else _beginning_alike(labelled)
    cases, lines = {}, []
    for group, members in sorted(groups.items()):
        times = {name: sum(name in data.drawn(case) for case in members) for name in data.classes}
        seen = tuple(name for name in data.classes if times[name])
        domain = fixed_text(group) if patterns else group
        cases.update({case: CaseLabels(seen, domain=domain) for case in members})
        drawn = ", ".join(f"{name} (drawn in {times[name]})" for name in seen) or "nothing"
        unknown = ", ".join(name for name in data.classes if not times[name]) or "nothing"
        lines.append(f"{group or 'all'}: {len(members)} case(s), annotated: {drawn}; unknown: {unknown}")
    entries = {case: cases.get(case) or data.without_labels[case] for case in data.cases}
    return Guess(Manifest(entries), "\n".join(lines))


def _matching(cases: Sequence[str], patterns: Sequence[str]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {pattern: [] for pattern in dict.fromkeys(patterns)}
    left: list[str] = []
    for case in cases:
        first = next((pattern for pattern in patterns if fnmatch.fnmatchcase(case, pattern)), None)
        (left if first is None else groups[first]).append(case)
    empty = [pattern for pattern, members in groups.items() if not members]
    if empty or left:
        raise ManifestError(
            f"--from-masks: pattern(s) that match no case: {some(empty)}; case(s) that no pattern matches: {some(left)}"
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
