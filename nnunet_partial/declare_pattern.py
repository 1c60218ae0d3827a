"""What was annotated in each case, by the names of the cases: 'siteB_*' drew the kidney only."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from nnunet_partial.declare import Undeclared
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.text import some


def by_pattern(data: Undeclared, given: Sequence[Sequence[str]]) -> tuple[Manifest, list[str]]:
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
                f"--match {pattern!r} names {some(strange) if strange else 'no class'}; expected some of "
                f"{', '.join(data.classes)}."
            )
        matching = {case for case in rest if fnmatch.fnmatchcase(case, pattern)}
        if not matching:
            raise ManifestError(
                f"--match {pattern!r} matches no case{' that an earlier pattern leaves over' if groups else ''}. "
                f"There are {some(rest, 5)}. Put the pattern in quotes, so that the shell leaves it alone."
            )
        groups.append((pattern, CaseLabels(_in_order(data, names), domain=fixed_text(pattern))))
        rest = [case for case in rest if case not in matching]
    rest = [case for case in rest if case not in data.without_labels]
    if not rest:
        return Manifest(data.without_labels, tuple(groups)), []
    never = [name for name in data.classes if not any(name in data.drawn(case) for case in rest)]
    if never:
        raise ManifestError(
            f"{len(rest)} case(s) match no pattern, and {some(never)} is drawn in none of them: {some(rest)}. What "
            "were they annotated for? Say it with a further --match; '*' matches all that are left."
        )
    groups.append(("*", CaseLabels(data.classes)))
    remark = f"{len(rest)} case(s) match no pattern and are declared annotated for everything: {some(rest, 5)}"
    return Manifest(data.without_labels, tuple(groups)), [remark]


def fixed_text(pattern: str) -> str:
    """The domain that goes with a pattern: what stands before its first wildcard ('siteB_*' is siteB)."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rstrip("_-. ")


def _in_order(data: Undeclared, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in data.classes if name in names)
