"""Write a table as LaTeX (booktabs) that fits the text width of a journal without being edited."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnunet_partial.report.tables import Cell, Table, one_line

#: Characters that LaTeX reads as commands or that its common fonts lack. https://www.latex-project.org/help/documentation/
_ESCAPED = {
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
#: Longer column heads are set on two lines, tables with more lines are split.
_MAX_HEAD_CHARACTERS, _MAX_LINES_PER_PAGE = 8, 44


def to_latex(table: Table, label: str = "") -> str:
    r"""Format a table as `table` environments with booktabs rules; needs `\usepackage{booktabs,graphicx}`.

    A table that is wider than the text is scaled down to fit; one that is longer than a page continues in another
    environment without a number of its own.

    Args:
        table: the table.
        label: for `\ref`; none if empty.

    Returns:
        The source; ends with a line break.
    """
    parts = _page_rows(table)
    return "\n".join(_table_environment(table, label, rows, index, len(parts)) for index, rows in enumerate(parts))


def latex(text: str) -> str:
    """Escape plain text for LaTeX: nothing in it is a command; a hyphen before a number becomes a minus.

    Args:
        text: any text.

    Returns:
        The source, on one line.
    """
    return "".join(_ESCAPED.get(character, character) for character in one_line(_MINUS.sub("\u2212", text)))


def _page_rows(table: Table) -> list[range]:
    """Split the rows into pages, above a rule where there is one in the second half of a page."""
    lines = [1 + _extra_lines(row) for row in table.cells]
    parts, start = [], 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and sum(lines[start : end + 1]) <= _MAX_LINES_PER_PAGE:
            end += 1
        rules = [rule for rule in table.rules if (start + end) / 2 < rule <= end]
        end = max(rules) if rules and end < len(lines) else end
        parts.append(range(start, end))
        start = end
    return parts or [range(0)]


def _extra_lines(row: Sequence[Cell]) -> int:
    return max((len(cell.more.splitlines()) for cell in row), default=0)


def _table_environment(table: Table, label: str, rows: range, part: int, parts: int) -> str:
    lines = [r"\begin{table}[htbp]", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"]
    if part:
        lines.append((rf"Table~\ref{{{label}}}, continued" if label else "(continued)") + r"\par\smallskip")
    elif table.caption:
        lines.append(rf"\caption{{{latex(table.caption)}}}\smallskip")
    if label and not part:
        lines.append(rf"\label{{{label}}}")
    lines += [r"\sbox0{%", *_tabular(table, rows), "}%"]
    lines.append(r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi")
    if table.note and part == parts - 1:
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {latex(table.note)}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tabular(table: Table, rows: range) -> list[str]:
    heads = [_format_head(name, "l" if column < table.left else "r") for column, name in enumerate(table.head)]
    lines = [rf"\begin{{tabular}}{{{_column_spec(table)}}}", r"\toprule", _join_cells(heads), r"\midrule"]
    for index in rows:
        row = table.cells[index]
        lines += [r"\midrule"] if index in table.rules and index != rows.start else []
        hidden = [index != rows.start and table.repeats(index, column) for column in range(len(row))]
        lines.append(_join_cells(["" if hide else _format_cell(cell) for hide, cell in zip(hidden, row, strict=True)]))
        details = [cell.more.splitlines() for cell in row]
        for line in range(_extra_lines(row)):
            small = [rf"\scriptsize {latex(text[line])}" if line < len(text) else "" for text in details]
            lines.append(_join_cells(small))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _format_head(name: str, side: str) -> str:
    """Set a long head on two lines, split at the space nearest to its middle."""
    spaces = [match.start() for match in re.finditer(" ", name)]
    if len(name) <= _MAX_HEAD_CHARACTERS or not spaces:
        return latex(name)
    middle = min(spaces, key=lambda space: abs(space - len(name) / 2))
    return rf"\shortstack[{side}]{{{latex(name[:middle])}\\{latex(name[middle + 1 :])}}}"


def _column_spec(table: Table) -> str:
    return "l" * table.left + "r" * (len(table.head) - table.left)


def _join_cells(cells: Sequence[str]) -> str:
    # a line that begins with a bracket would be read as an option of the \\ before it
    cells = [f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells]
    return " & ".join(cells) + r" \\"


def _format_cell(cell: Cell) -> str:
    text = latex(cell.text)
    bold = rf"\textbf{{{text}}}" if cell.best else text
    return bold + (rf"\textsuperscript{{{latex(cell.mark)}}}" if cell.mark else "")
