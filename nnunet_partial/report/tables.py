"""A table as a reader sees it, also as Markdown and CSV; `latex_tables` and `page` make LaTeX and HTML of it."""

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
    """Text in a table. `best`: printed bold; `mark`: stands raised behind it, such as '*'; `more`: stands behind these
    (in a page and in LaTeX smaller, on lines of its own, as many as it has), such as an interval."""

    text: str
    best: bool = False
    mark: str = ""
    more: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a head, with a caption above and a note below; every text is plain and is escaped where it is written.

    `left`: so many first columns are names (left-aligned; a name that repeats the one above it is not printed again in
    a page and in LaTeX); the others are numbers. `rules`: a line is drawn above the rows with these indices.
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
        """The rows, every entry a Cell. Raises ValueError where a row is not as long as the head."""
        rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
        wrong = [len(row) for row in rows if len(row) != len(self.head)]
        if wrong:
            raise ValueError(f"a row has {wrong[0]} cells, the head {len(self.head)}")
        return rows

    def repeats(self, row: int, column: int) -> bool:
        """Whether a name, with all names before it, stands in the row above already, and no line is in between."""
        if row == 0 or row in self.rules or column >= self.left:
            return False
        above, here = self.cells[row - 1], self.cells[row]
        return [cell.text for cell in above[: column + 1]] == [cell.text for cell in here[: column + 1]]


def rules_between(rows: Sequence[Sequence[Cell | str]]) -> list[int]:
    """The indices of rows that begin a new block, i.e. whose first name is another than that above."""
    return [index for index in range(1, len(rows)) if rows[index][0] != rows[index - 1][0]]


def to_markdown(table: Table) -> str:
    """GitHub's Markdown (https://github.github.com/gfm/#tables-extension-); ends with a line break."""
    align = ["---" if column < table.left else "---:" for column in range(len(table.head))]
    lines = [_pipes([_markdown(Cell(name)) for name in table.head]), _pipes(align)]
    lines += [_pipes([_markdown(cell) for cell in row]) for row in table.cells]
    above = f"**{_markdown(Cell(table.caption))}**\n\n" if table.caption else ""
    below = f"\n{_markdown(Cell(table.note))}\n" if table.note else ""
    return above + "\n".join(lines) + "\n" + below


def to_csv(table: Table) -> str:
    """Comma-separated, head first; marks stand behind the text, bold is lost."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows([f"{cell.text}{cell.mark} {cell.more}".rstrip() for cell in row] for row in table.cells)
    return text.getvalue()


def one_line(text: str) -> str:
    """Without line breaks and control characters, which would end a row."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(cell: Cell) -> str:
    text, mark, more = (_MARKDOWN.sub(r"\\\1", one_line(part)) for part in (cell.text, cell.mark, cell.more))
    return f"{f'**{text}**' if cell.best and text else text}{mark} {more}".rstrip()
