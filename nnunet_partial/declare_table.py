"""What was annotated in each case, from a table that somebody filled in: one row per case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.declare import Undeclared
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, Manifest
from nnunet_partial.utils.text import some

REQUIRED = ("case", "annotated")
OPTIONAL = ("absent", "domain", "patient", "split")
_SHOWN = 10


def by_table(data: Undeclared, path: Path) -> Manifest:
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
        wrong.append(f"{len(forgotten)} case(s) have no row: {some(forgotten)}")
    if wrong:
        more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ManifestError(f"{path}: nothing was written.\n" + "\n".join(wrong[:_SHOWN]) + more)
    return Manifest({case: cases.get(case) or data.without_labels[case] for case in data.cases})


def unread_columns(path: Path) -> list[str]:
    """A remark (none or one) on the columns of the table that `by_table` does not read: a patient_id is no patient."""
    from nnunet_partial.utils.tables import read_table
    from nnunet_partial.utils.text import printable

    _, first = next(read_table(path, REQUIRED, OPTIONAL), (0, {}))
    read = (*REQUIRED, *OPTIONAL)
    unread = [printable(name) for name in first if name and name not in read]
    if not unread:
        return []
    return [f"column(s) of {path.name} that were not read: {some(unread)}; those that are read: {', '.join(read)}"]


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
    raise ManifestError(f"{some(strange)}: no class of dataset.json; expected some of {', '.join(allowed)}")
