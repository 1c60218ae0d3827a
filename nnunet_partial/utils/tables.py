"""Write tables as CSV, and read those of a dataset in whatever dialect a spreadsheet program left them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.files import write_text
from nnunet_partial.utils.text import format_names, printable

TextRow = dict[str, str]


def read_table(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), advice: str = ""
) -> Iterator[tuple[int, TextRow]]:
    """Read the rows of a table that are not empty.

    Columns are found by name, whatever their case and order. Separator (comma, semicolon, tab) and encoding (UTF-8,
    UTF-16, with or without BOM) are detected.

    Args:
        path: The file.
        required: Columns that must be there.
        optional: Columns that may be there.
        advice: What to do where a required column is missing; ends the message.

    Yields:
        Line number and row. A row maps column names, spelled as in `required` and `optional`, to stripped text; a
        missing cell is "".

    Raises:
        ConversionError: The file is missing or unreadable, lacks a required column, has one of these columns more than
            once, a row has more cells than there are columns, or a quotation mark is not closed.
    """
    try:
        with path.open(newline="", encoding=_encoding(path), errors="surrogateescape") as file:
            first = file.readline()
            file.seek(0)
            # strict: a quotation mark that is not closed would swallow the rows behind it
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            names = _columns(path, next(reader, []), required, optional, advice)
            for cells in reader:
                if any(cells):
                    filled = _filled(path, reader.line_num, cells, len(names))
                    yield reader.line_num, dict(zip(names, filled, strict=True))
    except FileNotFoundError:
        raise ConversionError(f"{printable(str(path))} does not exist.") from None
    except csv.Error as problem:
        raise ConversionError(
            f"{printable(str(path))}, line {reader.line_num}: {problem}. Is a quotation mark missing or too many, or "
            "a blank between one and the separator?"
        ) from problem
    except (OSError, UnicodeError) as problem:
        raise ConversionError(f"{printable(str(path))} cannot be read as a table: {problem}") from problem


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _columns(
    path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str], advice: str
) -> list[str]:
    """Return the names of the columns, spelled as asked for, up to the last one with a name."""
    spelling = {name.casefold(): name for name in (*required, *optional)}
    names = [spelling.get(name.strip().casefold(), name.strip()) for name in header]
    while names and not names[-1]:
        names.pop()
    missing = set(required) - set(names)
    if missing:
        raise ConversionError(
            f"{printable(str(path))} has no column {format_names(missing)}; "
            f"its columns are: {printable(format_names(names)) if any(names) else 'none, the file is empty'}."
            + (f" {advice}" if advice else "")
        )
    repeated = {name for name in spelling.values() if names.count(name) > 1}
    if repeated:
        raise ConversionError(f"{printable(str(path))} has the column {format_names(repeated)} more than once.")
    return names


def _filled(path: Path, line: int, cells: Sequence[str], columns: int) -> list[str]:
    """Return a row, stripped, with as many cells as there are columns.

    Raises:
        ConversionError: There is text beyond the last column: a comma without quotes has moved what follows it by a
            column.
    """
    row = [cell.strip() for cell in cells]
    if any(row[columns:]):
        raise ConversionError(
            f"{printable(str(path))}, line {line}: {len(row)} cells, but {columns} columns. Put a cell that holds the "
            'separator of the columns in quotes ("LV,LA"), or separate the names in it by spaces.'
        )
    return (row + [""] * columns)[:columns]


def write_csv(path: Path, rows: Iterable[Mapping[str, str | float | int]], columns: Sequence[str]) -> None:
    """Write a table, completely or not at all. NaN becomes an empty field, infinity 'inf'.

    Args:
        path: The file, replaced if it exists.
        rows: Values by column.
        columns: The columns, in their order.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _field(value: str | float | int) -> str | int:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def parse_number(text: str) -> float | None:
    """Parse a number with a decimal point or, as some spreadsheets write, a comma.

    Args:
        text: The text of a cell.

    Returns:
        The number; None where the text is not a finite number.
    """
    try:
        value = float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_int(text: str) -> int | None:
    """Parse an integer, also written as 46.0.

    Args:
        text: The text of a cell.

    Returns:
        The integer; None where the text is not one.
    """
    value = parse_number(text)
    return int(value) if value is not None and value.is_integer() else None
