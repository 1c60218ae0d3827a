"""The table that comes with one's own pictures: which image, which mask, whose heart it is, and what was drawn."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels
from nnunet_partial.utils.tables import Row, read_table
from nnunet_partial.utils.text import printable, some

from .case import Source

COLUMNS = ("case", "image", "mask", "annotated", "absent", "domain", "patient")
#: Kept where the table has them.
ALSO = ("view", "phase")
SPLITS = ("train", "val", "test")

_BETWEEN_NAMES = re.compile(r"[\s,;|+/]+")


@dataclass(frozen=True)
class OwnCase(Source):
    """One row. `image`, `mask`: below the folders of that name. `problem`: why the case cannot be converted."""

    image: str = ""
    mask: str = ""
    labels: CaseLabels = field(default_factory=lambda: CaseLabels(()))
    problem: str | None = None


def read_cases(path: Path, classes: Sequence[str]) -> list[OwnCase]:
    """The rows of the table in its order; what is wrong with a row stands in its `problem`.

    Raises ConversionError where the table cannot be read, lacks a column, names no case, or puts one patient on
    different sides of the split.
    """
    found: dict[str, OwnCase] = {}
    for line, row in read_table(path, COLUMNS, (*ALSO, "split")):
        case = _case(line, row, path.name, classes)
        if case.name in found:
            case = replace(case, problem=f"stands more than once in {path.name}")
        found[case.name] = case
    if not found:
        raise ConversionError(f"{printable(str(path))} names no case.")
    _require_one_side(path, found.values())
    shared = _shared_images(found.values())
    return [replace(case, problem=case.problem or shared.get(case.name)) for case in found.values()]


def _case(line: int, row: Row, table: str, classes: Sequence[str]) -> OwnCase:
    name = row["case"] or f"(line {line} of {table})"
    try:
        _require_cells(row)
        labels = CaseLabels(
            annotated=_drawn(row["annotated"], classes),
            absent=_names(row["absent"], "absent", {*classes, *COMMON_CLASSES}),
            domain=row["domain"],
            patient=row["patient"],
            info=_info(row),
        )
        return OwnCase(name, _below(row["image"], "image"), _below(row["mask"], "mask"), labels)
    except ValueError as problem:  # ours, and that of CaseLabels for a class both drawn and absent
        return OwnCase(printable(name), row["image"], row["mask"], problem=f"line {line} of {table}: {problem}")


def _require_cells(row: Row) -> None:
    for column in ("case", "image", "mask", "patient"):
        if not row[column]:
            way = ": whose pictures must stay together? Where every case is somebody else, repeat the name of the case"
            raise ConversionError(f"{column} is empty{way if column == 'patient' else ''}")
    for column in ("domain", "patient", *(name for name in ALSO if name in row)):
        if row[column] != printable(row[column]):
            raise ConversionError(f"{column} is {printable(row[column])!r}; save the table as UTF-8")


def _drawn(text: str, classes: Sequence[str]) -> tuple[str, ...]:
    names = _names(text, "annotated", set(classes))
    if not names:
        raise ConversionError("annotated is empty: name what was drawn, or leave the row out")
    return tuple(name for name in classes if name in names)


def _names(text: str, column: str, allowed: set[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in _BETWEEN_NAMES.split(text) if name))
    strange = set(names) - allowed
    if strange:
        raise ConversionError(f"{column} names {printable(some(strange))}; expected one or more of {some(allowed)}")
    return names


def _below(text: str, column: str) -> str:
    """A path from the table, if it stays in its folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise ConversionError(f"{column} is {printable(text)!r}; expected a file below the folder of the {column}s")
    return text


def _info(row: Row) -> dict[str, str]:
    """The split and what else is kept."""
    found = {name: row[name] for name in ALSO if row.get(name)}
    split = row.get("split", "").lower()
    if split and split not in SPLITS:
        raise ConversionError(f"split is {printable(row['split'])!r}; expected {', '.join(SPLITS)} or nothing")
    return {**({"split": split} if split else {}), **found}


def _require_one_side(path: Path, cases: Collection[OwnCase]) -> None:
    sides: dict[str, set[str]] = {}
    for case in cases:
        if case.problem is None:
            sides.setdefault(case.labels.patient or case.name, set()).add(case.labels.split or "none")
    both = {patient for patient, splits in sides.items() if len(splits) > 1}
    if both:
        raise ConversionError(
            f"{printable(str(path))}: {len(both)} patient(s) have cases with different entries in split: {some(both)}. "
            "All pictures of a patient belong on one side."
        )


def _shared_images(cases: Collection[OwnCase]) -> dict[str, str]:
    """By case, why it cannot be used: its picture is also that of another patient."""
    owners: dict[str, list[OwnCase]] = {}
    for case in cases:
        if case.problem is None:
            owners.setdefault(str(PurePosixPath(case.image)), []).append(case)
    found = {}
    for image, sharing in owners.items():
        if len({case.labels.patient for case in sharing}) > 1:
            who = some([f"{case.name} of {case.labels.patient}" for case in sharing], 4)
            found.update({case.name: f"its image {image} belongs to different patients: {who}" for case in sharing})
    return found
