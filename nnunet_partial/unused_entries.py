"""Which entries of a manifest speak of no case? Behind a mistyped name its cases fall to the next pattern, such as '*',
and count as fully labelled although somebody wrote down that they are not."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from nnunet_partial.labels import Manifest


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
