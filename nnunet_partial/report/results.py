"""Read and check the folder that `nnunet_partial evaluate` wrote."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_json import stored_values
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation import biomarker_agreement, biomarker_tables, tables, warning_signs
from nnunet_partial.evaluation.results import PER_CASE_COLUMNS
from nnunet_partial.utils.files import read_json
from nnunet_partial.utils.tables import TextRow
from nnunet_partial.utils.text import format_names

#: Columns of text; every other column that is read holds numbers.
_TEXT = {
    *("model", "case", "domain", "patient", "view", "phase", "class", "state", "outcome", "size_unit", "distance_unit"),
    *(
        "metric",
        "unit",
        "mean_over",
        "model_a",
        "model_b",
        "better",
        "reference_source",
        "warning",
        "message",
        "biomarker",
        "method",
        "problem",
    ),
}


@dataclass(frozen=True)
class Results:
    """Hold the tables of an evaluation, their fields as in the files (see `number`).

    comparisons and ranks are empty for a single model, biomarkers and agreement where no biomarker was computed.
    """

    folder: Path
    reference: Path
    manifest: Path
    file_ending: str
    models: Mapping[str, Path]
    classes: Sequence[str]
    findings: Sequence[str]
    about: Mapping[str, Any]
    per_case: Sequence[TextRow]
    summary: Sequence[TextRow]
    warning_signs: Sequence[TextRow]
    comparisons: Sequence[TextRow]
    ranks: Sequence[TextRow]
    biomarkers: Sequence[TextRow]
    agreement: Sequence[TextRow]

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """Return the label values of each class or region."""
        return stored_values(self.classes, self.about.get("regions", ()))

    @property
    def domains(self) -> list[str]:
        """Return the names of the domains, sorted, without "(all)"."""
        return sorted({row["domain"] for row in self.per_case})

    def beats_all(self, where: TextRow, model: str) -> bool:
        """Tell whether a model is better than every other one by the statistical tests.

        Args:
            where: a row with metric, unit, domain and class.
            model: name of the model.

        Returns:
            True if so; False with a single model.
        """
        pairs = [
            row
            for row in self.comparisons
            if all(row[key] == where[key] for key in ("metric", "unit", "domain", "class"))
            and model in (row["model_a"], row["model_b"])
        ]
        return len(pairs) == len(self.models) - 1 > 0 and all(row["better"] == model for row in pairs)


def read_results(folder: Path) -> Results:
    """Read the results of an evaluation.

    Args:
        folder: that `nnunet_partial evaluate` wrote.

    Returns:
        The results.

    Raises:
        PartialLabelError: if `evaluate` did not write the folder, or a file, column or field is missing or invalid.
    """
    if not (folder / "per_case.csv").is_file():
        raise PartialLabelError(
            f"{folder} has no per_case.csv; expected the folder that `nnunet_partial evaluate ... -o FOLDER` wrote."
        )
    about = _about(folder / "evaluation.json")
    biomarkers, agreement = read_biomarkers(folder)
    return Results(
        folder,
        Path(about["reference"]),
        Path(about["manifest"]),
        about["file_ending"],
        {name: Path(where) for name, where in about["models"].items()},
        about["classes"],
        about["findings"],
        about,
        per_case=read_per_case(folder),
        summary=_rows(folder / "summary.csv", tables.SUMMARY_COLUMNS),
        warning_signs=_rows(folder / "warning_signs.csv", warning_signs.COLUMNS),
        comparisons=_rows(folder / "comparisons.csv", tables.COMPARISON_COLUMNS, optional=True),
        ranks=_rows(folder / "ranks.csv", tables.RANK_COLUMNS, optional=True),
        biomarkers=biomarkers,
        agreement=agreement,
    )


def read_per_case(folder: Path) -> list[TextRow]:
    """Read the metrics of each case.

    Args:
        folder: that `nnunet_partial evaluate` wrote.

    Returns:
        The rows of per_case.csv.

    Raises:
        PartialLabelError: if the file, a column or field is missing or invalid.
    """
    return _rows(folder / "per_case.csv", PER_CASE_COLUMNS)


def read_biomarkers(folder: Path) -> tuple[list[TextRow], list[TextRow]]:
    """Read the tables of biomarkers.

    Args:
        folder: that `nnunet_partial evaluate` wrote.

    Returns:
        The rows of biomarkers.csv and of biomarker_agreement.csv; empty where there is no such file.

    Raises:
        PartialLabelError: if a column or field is missing or invalid.
    """
    return (
        _rows(folder / "biomarkers.csv", biomarker_tables.COLUMNS, optional=True),
        _rows(folder / "biomarker_agreement.csv", biomarker_agreement.COLUMNS, optional=True),
    )


def number(row: TextRow, column: str) -> float:
    """Convert a field to a number.

    Args:
        row: of a table.
        column: its name.

    Returns:
        The number; NaN if the field is empty.
    """
    return float(row[column]) if row[column] else math.nan


def _about(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise PartialLabelError(
            f"{file} does not exist. It is written last: an evaluation was interrupted, and the tables may be of two. "
            "Run `nnunet_partial evaluate` again."
        )
    content = read_json(file)
    expected = {
        "reference": str,
        "manifest": str,
        "file_ending": str,
        "models": dict,
        "classes": list,
        "findings": list,
    }
    if not isinstance(content, dict):
        raise PartialLabelError(f"{file} holds no JSON object. Run `nnunet_partial evaluate` again.")
    wrong = [key for key, kind in expected.items() if not isinstance(content.get(key), kind)]
    if not wrong:
        texts = [*content["models"].values(), *content["classes"], *content["findings"]]
        wrong = ["models, classes or findings"] * any(not isinstance(text, str) for text in texts)
        wrong += ["regions"] * (not _is_regions(content.get("regions", []), len(content["classes"])))
    if wrong:
        raise PartialLabelError(f"{file} lacks {format_names(wrong)}, or has another kind of it. Run `evaluate` again.")
    return content


def _is_regions(regions: Any, n_classes: int) -> bool:
    """Tell whether this is a list of stored values for each class, or an empty list."""
    if not isinstance(regions, list) or not all(isinstance(values, list) and values for values in regions):
        return False
    return len(regions) in (0, n_classes) and all(type(value) is int for values in regions for value in values)


def _rows(file: Path, columns: Sequence[str], optional: bool = False) -> list[TextRow]:
    if not file.is_file():
        if optional:
            return []
        raise PartialLabelError(f"{file} does not exist. Run `nnunet_partial evaluate` again; it writes it.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as problem:
        raise PartialLabelError(f"{file} cannot be read: {problem}. Run `evaluate` again.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise PartialLabelError(
            f"{file} has no column {format_names(missing)}; was it changed, or written by another version? "
            "Evaluate again."
        )
    numeric = [name for name in columns if name not in _TEXT]
    try:
        return [_checked(row, numeric) for row in reader]
    except (ValueError, csv.Error) as problem:
        raise PartialLabelError(f"{file}, line {reader.line_num}: {problem}. Run `evaluate` again.") from None


def _checked(row: dict[Any, Any], numeric: Sequence[str]) -> TextRow:
    if None in row or None in row.values():
        raise ValueError("has more or fewer fields than the head")
    for name in numeric:
        if row[name]:
            float(row[name])
    return row
