"""A table as a reader sees it, and the same table as Markdown, LaTeX (booktabs) and CSV; `page` makes HTML of it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

#: What LaTeX reads as a command, and characters that its common fonts lack. https://www.latex-project.org/help/documentation/
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': "''",
    "\u00b2": "$^2$",
    "\u00b1": r"$\pm$",
    "\u00d7": r"$\times$",
    "\u2265": r"$\geq$",
    "\u2264": r"$\leq$",
    "\u2212": "$-$",
    "\u2013": "--",
    "\u2020": r"$\dagger$",
}
_MINUS = re.compile(r"(?<![\w.)\]-])-(?=[\d.])")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


@dataclass(frozen=True)
class Cell:
    """Text in a table. `best`: printed bold; `mark`: stands raised behind it, such as '*'; `more`: stands behind these
    (in a page and in LaTeX smaller, on a line of its own), such as an interval."""

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


def to_latex(table: Table, label: str = "") -> str:
    r"""A `table` environment with the rules of booktabs (`\usepackage{booktabs}`); ends with a line break."""
    lines = [r"\begin{table}[htbp]", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    if table.caption:
        lines.append(rf"\caption{{{latex(table.caption)}}}")
    if label:
        lines.append(rf"\label{{{label}}}")
    lines += [rf"\begin{{tabular}}{{{_columns(table)}}}", r"\toprule", _ampersands([latex(n) for n in table.head])]
    lines.append(r"\midrule")
    for index, row in enumerate(table.cells):
        lines += [r"\midrule"] if index in table.rules else []
        shown = ["" if table.repeats(index, column) else _latex(cell) for column, cell in enumerate(row)]
        lines.append(_ampersands(shown))
        if any(cell.more for cell in row):
            lines.append(_ampersands([rf"\scriptsize {latex(cell.more)}" if cell.more else "" for cell in row]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.note:
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {latex(table.note)}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_csv(table: Table) -> str:
    """Comma-separated, head first; marks stand behind the text, bold is lost."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows([f"{cell.text}{cell.mark} {cell.more}".rstrip() for cell in row] for row in table.cells)
    return text.getvalue()


def latex(text: str) -> str:
    """Plain text as LaTeX source: nothing in it is a command; a hyphen before a number is a minus."""
    return "".join(_LATEX.get(character, character) for character in _one_line(_MINUS.sub("\u2212", text)))


def _columns(table: Table) -> str:
    return "l" * table.left + "r" * (len(table.head) - table.left)


def _ampersands(cells: Sequence[str]) -> str:
    # a line that begins with a bracket would be read as an option of the \\ before it
    cells = [f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells]
    return " & ".join(cells) + r" \\"


def _latex(cell: Cell) -> str:
    text = latex(cell.text)
    bold = rf"\textbf{{{text}}}" if cell.best else text
    return bold + (rf"\textsuperscript{{{latex(cell.mark)}}}" if cell.mark else "")


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(cell: Cell) -> str:
    text, mark, more = (_MARKDOWN.sub(r"\\\1", _one_line(part)) for part in (cell.text, cell.mark, cell.more))
    return f"{f'**{text}**' if cell.best and text else text}{mark} {more}".rstrip()


def _one_line(text: str) -> str:
    """Without line breaks and control characters, which would end a row."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
