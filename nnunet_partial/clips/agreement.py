"""Compare the ejection fraction of measured clips with a table of it, as the evaluation compares biomarkers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.biomarkers.definitions import EF
from nnunet_partial.clips.frames import kept_name
from nnunet_partial.errors import DatasetError
from nnunet_partial.evaluation.biomarker_agreement import agreement_rows
from nnunet_partial.evaluation.biomarker_tables import Biomarkers
from nnunet_partial.evaluation.records import Row
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.tables import parse_number, read_table
from nnunet_partial.utils.text import format_names, printable
from nnunet_partial.utils.versions import __version__, versions

#: What a table of EF may call the column of clips and that of EF, in capitals or not.
NAME_COLUMNS, EF_COLUMNS = ("clip", "filename", "file"), ("ef", "ef_percent", "lvef")
#: What names an examination, whose EF is biplane, in both tables; a table of EF may leave out the last.
EXAM_COLUMNS = ("patient", "exam")
FIGURES = "figures"


@dataclass(frozen=True)
class ClipAgreement:
    """Hold the agreement of measured EF with that of a table.

    Attributes:
        biomarkers: A row per model and clip with a reference, and their agreement.
        left_out: By model, the number of clips that `measure` keeps out of means: they have no prediction.
        findings: What could not be compared, a sentence each.
    """

    biomarkers: Biomarkers
    left_out: Mapping[str, int]
    findings: Sequence[str]


@dataclass(frozen=True)
class EfTable:
    """Hold a table of ejection fractions.

    Attributes:
        columns: What names a row, in the measured table too: the clip, or of biplane EF the patient, or patient and
            examination.
        percent: EF by name; NaN where the cell holds none.
        findings: A sentence for each such cell.
    """

    columns: Sequence[str]
    percent: Mapping[str, float]
    findings: Sequence[str]


def compare_with_table(models: Mapping[str, Path], reference: Path) -> ClipAgreement:
    """Compare the clips.csv, or the biplane.csv, of models with a table of EF.

    Args:
        models: The table of each model.
        reference: CSV with the columns clip (or FileName) and ef, in percent; for biplane.csv patient, or patient and
            exam, instead of clip.

    Returns:
        The agreement.

    Raises:
        ConversionError: A table cannot be read, or lacks a column.
        DatasetError: A table names a clip twice, holds fractions instead of percent, or has no clip of a model; or
            tables of clips and biplane ones are mixed.
    """
    measured = {model: _read_measured(file) for model, file in models.items()}
    kinds = {"clip" in rows[0] for rows in measured.values()}
    if len(kinds) > 1:
        raise DatasetError("--pred: a clips.csv and a biplane.csv; expected tables of one kind.")
    table = read_ef_table(reference, biplane=kinds == {False})
    known, findings = table.percent, list(table.findings)
    rows: list[Row] = []
    left_out = {}
    for model, file in models.items():
        clips = _by_name(file, measured[model], table.columns)
        compared = [name for name in clips if name in known]
        if not compared:
            raise DatasetError(
                f"{printable(str(reference))} has no {table.columns[0]} of {printable(str(file))}; it has "
                f"{_shown(known)}, the other {_shown(clips)}. Name them in it as {printable(file.name)} does"
                f"{', with or without file ending' if kinds == {True} else ''}."
            )
        rows += [_row(model, clips[name], known[name]) for name in compared]
        left_out[model] = sum(bool(clips[name]["flags"]) for name in compared)
        findings += [
            *(f"{model}: {name} has no EF in {printable(reference.name)}" for name in clips if name not in known),
            *(f"{model}: {printable(name)} was not measured" for name in known if name not in clips),
            *(
                f"{model}: {name} has neither EF nor flags"
                for name in compared
                if not clips[name]["flags"] and parse_number(clips[name]["ef_percent"]) is None
            ),
        ]
    return ClipAgreement(Biomarkers(rows, agreement_rows(rows)), left_out, findings)


def read_ef_table(path: Path, biplane: bool = False) -> EfTable:
    """Read a table of ejection fractions.

    Args:
        path: CSV with a column of NAME_COLUMNS and one of EF_COLUMNS.
        biplane: Expect the column patient, and perhaps exam, instead of one of NAME_COLUMNS.

    Returns:
        The table; clips have the names that `frames --names keep` gives to files.

    Raises:
        ConversionError: The table cannot be read.
        DatasetError: It lacks a column, has two that could be meant, names a clip twice, or holds fractions.
    """
    meant = EXAM_COLUMNS if biplane else NAME_COLUMNS
    rows = list(read_table(path, meant[:1] if biplane else (), (*meant, *EF_COLUMNS)))
    shown = printable(str(path))
    if not rows:
        raise DatasetError(f"{shown} has no row; expected a {meant[0]} and its EF in each.")
    first = rows[0][1]
    columns = [name for name in meant if name in first] if biplane else [_only_column(shown, first, meant)]
    of_ef = _only_column(shown, first, EF_COLUMNS)
    known: dict[str, float] = {}
    findings = []
    for line, row in rows:
        name, value = _name(row, columns), parse_number(row[of_ef])
        name = name if biplane else kept_name(name)
        if name in known:
            raise DatasetError(f"{shown}, line {line}: {printable(name)} stands there twice; expected it once.")
        known[name] = math.nan if value is None or not 0 <= value <= 100 else value
        if math.isnan(known[name]):
            findings.append(
                f"{printable(path.name)}, line {line}: the EF of {printable(name)} is "
                f"{printable(row[of_ef])!r}; expected a number from 0 to 100"
            )
    values = [value for value in known.values() if not math.isnan(value)]
    if values and max(values) <= 1:
        raise DatasetError(f"{shown}: no EF is above 1; expected percent, such as 55, not fractions.")
    return EfTable(columns if biplane else ("clip",), known, findings)


def write_agreement(folder: Path, models: Mapping[str, Path], reference: Path, result: ClipAgreement) -> None:
    """Write biomarkers.csv, biomarker_agreement.csv, evaluation.json and the Bland-Altman plots.

    Args:
        folder: New, empty, or with the results of an earlier comparison, which are replaced.
        models: What was compared.
        reference: With what.
        result: The agreement.

    Raises:
        DatasetError: The folder holds the evaluation of label files.
        OSError: A file cannot be written.
    """
    from nnunet_partial.report.bland_altman import agreement_figures
    from nnunet_partial.report.figure_style import remove_old_figures
    from nnunet_partial.report.results import read_biomarkers

    (folder / "evaluation.json").unlink(missing_ok=True)  # written last: until then tables of two may lie here
    result.biomarkers.write(folder)
    content = {
        "nnunet_partial": __version__,
        "reference": str(reference.absolute()),
        "models": {model: str(file.absolute()) for model, file in models.items()},
        "left_out": dict(result.left_out),
        "findings": list(result.findings),
        "versions": versions(),
    }
    write_json(folder / "evaluation.json", content)
    remove_old_figures(folder / FIGURES)
    for _, figure in agreement_figures(list(models), *read_biomarkers(folder)):
        figure.save(folder / FIGURES)


def require_no_label_evaluation(folder: Path) -> None:
    """Check that a folder does not hold the evaluation of label files, of which the report would show these numbers.

    Args:
        folder: The results folder.

    Raises:
        DatasetError: It does.
    """
    if (folder / "per_case.csv").exists():
        raise DatasetError(f"{folder} holds the evaluation of label files. Give another folder with -o.")


def _read_measured(file: Path) -> list[dict[str, str]]:
    """Return the rows of a clips.csv or a biplane.csv; these have no column clip."""
    advice = "Expected the clips.csv or the biplane.csv that `nnunet_partial measure` wrote."
    columns = ("patient", "exam", "method", "ef_percent", "flags")
    rows = [row for _, row in read_table(file, columns, ("clip",), advice=advice)]
    if not rows:
        raise DatasetError(
            f"{printable(str(file))} has no row; expected a measured clip, or an examination with both views of known "
            "spacing."
        )
    return rows


def _by_name(file: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]) -> dict[str, dict[str, str]]:
    clips: dict[str, dict[str, str]] = {}
    for row in rows:
        name = _name(row, columns)
        if name in clips:
            advice = " Add the column exam to the table of EF." if columns == ["patient"] else ""
            raise DatasetError(
                f"{printable(str(file))}: {printable(name)} stands there twice; expected it once.{advice}"
            )
        clips[name] = row
    return clips


def _name(row: Mapping[str, str], columns: Sequence[str]) -> str:
    """Return what tells a row from others; the examination where the patient is not known."""
    return " ".join(row[name] for name in columns).strip() or row.get("exam", "")


def _row(model: str, clip: Mapping[str, str], reference: float) -> Row:
    """Return the row of biomarkers.csv; a flagged clip, or pair, has no prediction, as in all means."""
    value = None if clip["flags"] else parse_number(clip["ef_percent"])
    return {
        "model": model,
        "domain": "",
        "patient": clip["patient"] or clip["exam"],
        "biomarker": EF,
        "unit": "%",
        "method": clip["method"],
        "reference": reference,
        "prediction": math.nan if value is None else value,
        "problem": f"{clip.get('clip', clip['exam'])}: {clip['flags']}" if clip["flags"] else "",
    }


def _only_column(shown: str, row: Mapping[str, str], meant: Sequence[str]) -> str:
    found = [name for name in meant if name in row]
    if len(found) != 1:
        raise DatasetError(
            f"{shown} has {len(found)} of the columns {', '.join(meant)}; expected one. Its columns are: "
            f"{printable(format_names(list(row)))}."
        )
    return found[0]


def _shown(names: Mapping[str, object]) -> str:
    return printable(format_names(list(names), 3))
