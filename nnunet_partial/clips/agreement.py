"""Compare the ejection fraction of measured clips with a table of it, as the evaluation compares biomarkers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nnunet_partial
from nnunet_partial.biomarkers.definitions import EF
from nnunet_partial.clips.frames import kept_name
from nnunet_partial.errors import DatasetError
from nnunet_partial.evaluation.biomarker_agreement import agreement_rows
from nnunet_partial.evaluation.biomarker_tables import Biomarkers
from nnunet_partial.evaluation.records import Row
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.tables import parse_number, read_table
from nnunet_partial.utils.text import format_names, printable
from nnunet_partial.utils.versions import versions

#: What a table of EF may call the column of clips and that of EF, in capitals or not.
NAME_COLUMNS, EF_COLUMNS = ("clip", "filename", "file"), ("ef", "ef_percent", "lvef")
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


def compare_with_table(models: Mapping[str, Path], reference: Path) -> ClipAgreement:
    """Compare the clips.csv of models with a table of EF.

    Args:
        models: The clips.csv of each model.
        reference: CSV with the columns clip (or FileName) and ef, in percent.

    Returns:
        The agreement.

    Raises:
        ConversionError: A table cannot be read, or lacks a column.
        DatasetError: A table names a clip twice, holds fractions instead of percent, or has no clip of a model.
    """
    known, findings = read_ef_table(reference)
    rows: list[Row] = []
    left_out = {}
    for model, file in models.items():
        clips = _read_clips(file)
        compared = [name for name in clips if name in known]
        if not compared:
            raise DatasetError(
                f"{printable(str(reference))} has no clip of {printable(str(file))}; it has {_shown(known)}, the other "
                f"{_shown(clips)}. Name the clips in it as clips.csv does, with or without file ending."
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


def read_ef_table(path: Path) -> tuple[dict[str, float], list[str]]:
    """Read a table of ejection fractions.

    Args:
        path: CSV with a column of NAME_COLUMNS and one of EF_COLUMNS.

    Returns:
        EF in percent by the name that `frames --names keep` gives to a clip of that file, NaN where the cell holds
        none; and a sentence for each such cell.

    Raises:
        ConversionError: The table cannot be read.
        DatasetError: It lacks a column, has two that could be meant, names a clip twice, or holds fractions.
    """
    rows = list(read_table(path, (), (*NAME_COLUMNS, *EF_COLUMNS)))
    shown = printable(str(path))
    if not rows:
        raise DatasetError(f"{shown} has no row; expected a clip and its EF in each.")
    of_name, of_ef = (_only_column(shown, rows[0][1], meant) for meant in (NAME_COLUMNS, EF_COLUMNS))
    known: dict[str, float] = {}
    findings = []
    for line, row in rows:
        name, value = kept_name(row[of_name]), parse_number(row[of_ef])
        if name in known:
            raise DatasetError(f"{shown}, line {line}: {printable(row[of_name])} stands there twice; expected it once.")
        known[name] = math.nan if value is None or not 0 <= value <= 100 else value
        if math.isnan(known[name]):
            findings.append(
                f"{printable(path.name)}, line {line}: the EF of {printable(row[of_name])} is "
                f"{printable(row[of_ef])!r}; expected a number from 0 to 100"
            )
    values = [value for value in known.values() if not math.isnan(value)]
    if values and max(values) <= 1:
        raise DatasetError(f"{shown}: no EF is above 1; expected percent, such as 55, not fractions.")
    return known, findings


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

    result.biomarkers.write(folder)
    content = {
        "nnunet_partial": nnunet_partial.__version__,
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


def _read_clips(file: Path) -> dict[str, dict[str, str]]:
    advice = "Expected the clips.csv that `nnunet_partial measure` wrote."
    clips: dict[str, dict[str, str]] = {}
    for line, row in read_table(file, ("clip", "patient", "method", "ef_percent", "flags"), advice=advice):
        if row["clip"] in clips:
            raise DatasetError(f"{printable(str(file))}, line {line}: {printable(row['clip'])} stands there twice.")
        clips[row["clip"]] = row
    return clips


def _row(model: str, clip: Mapping[str, str], reference: float) -> Row:
    """Return the row of biomarkers.csv; a flagged clip has no prediction, as in all means."""
    value = None if clip["flags"] else parse_number(clip["ef_percent"])
    return {
        "model": model,
        "domain": "",
        "patient": clip["patient"],
        "biomarker": EF,
        "unit": "%",
        "method": clip["method"],
        "reference": reference,
        "prediction": math.nan if value is None else value,
        "problem": f"{clip['clip']}: {clip['flags']}" if clip["flags"] else "",
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
