"""Hold a table as the reader sees it, and write it as Markdown or CSV.

`report.latex` and `report.html` write it as LaTeX and HTML.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


@dataclass(frozen=True)
class Cell:
    """Hold the text of a table cell.

    Attributes:
        text: plain text.
        best: whether it is printed bold.
        mark: superscript after the text, such as '*'.
        more: printed after these, such as an interval; in HTML and LaTeX smaller and on lines of its own.
    """

    text: str
    best: bool = False
    mark: str = ""
    more: str = ""


@dataclass(frozen=True)
class Table:
    """Hold rows under a head; every text is plain and is escaped where it is written.

    Attributes:
        head: names of the columns.
        rows: as many cells per row as there are columns.
        caption: printed above.
        note: printed below.
        left: number of leading columns that are names: left-aligned, and in HTML and LaTeX not printed again where they
            repeat the row above. The other columns are numbers.
        rules: indices of rows that have a line above them.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    caption: str = ""
    note: str = ""
    kind: ClassVar[str] = "table"
    left: int = 1
    rules: Sequence[int] = ()

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """Return the rows with every entry as a Cell.

        Raises:
            ValueError: if a row is not as long as the head.
        """
        rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
        lengths = {len(row) for row in rows} - {len(self.head)}
        if lengths:
            raise ValueError(f"a row has {min(lengths)} cells, the head {len(self.head)}; expected the same number")
        return rows

    def repeats(self, row: int, column: int) -> bool:
        """Tell whether a name, with all names before it, repeats the row above without a line between.

        Args:
            row: index of the row.
            column: index of the column.

        Returns:
            True for such a name; False for numbers.
        """
        if row == 0 or row in self.rules or column >= self.left:
            return False
        above, current = self.cells[row - 1], self.cells[row]
        return [cell.text for cell in above[: column + 1]] == [cell.text for cell in current[: column + 1]]


def rules_between(rows: Sequence[Sequence[Cell | str]]) -> list[int]:
    """Find the rows that begin a new block.

    Args:
        rows: of a table.

    Returns:
        The indices of rows whose first name differs from the one above.
    """
    return [index for index in range(1, len(rows)) if rows[index][0] != rows[index - 1][0]]


def to_markdown(table: Table) -> str:
    """Format a table as GitHub Flavored Markdown.

    Args:
        table: the table.

    Returns:
        The text; ends with a line break.

    References:
        https://github.github.com/gfm/#tables-extension-
    """
    align = ["---" if column < table.left else "---:" for column in range(len(table.head))]
    lines = [_pipes([_markdown(Cell(name)) for name in table.head]), _pipes(align)]
    lines += [_pipes([_markdown(cell) for cell in row]) for row in table.cells]
    above = f"**{_markdown(Cell(table.caption))}**\n\n" if table.caption else ""
    below = f"\n{_markdown(Cell(table.note))}\n" if table.note else ""
    return above + "\n".join(lines) + "\n" + below


def to_csv(table: Table) -> str:
    """Format a table as comma-separated values.

    Args:
        table: the table; caption, note and bold print are left out.

    Returns:
        The text, head first; marks follow the text of their cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows([f"{cell.text}{cell.mark} {cell.more}".rstrip() for cell in row] for row in table.cells)
    return text.getvalue()


def one_line(text: str) -> str:
    """Remove line breaks and control characters, which would end a row.

    Args:
        text: any text.

    Returns:
        The text on one line.
    """
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(cell: Cell) -> str:
    text, mark, more = (_MARKDOWN.sub(r"\\\1", one_line(part)) for part in (cell.text, cell.mark, cell.more))
    return f"{f'**{text}**' if cell.best and text else text}{mark} {more}".rstrip()
