"""A table as LaTeX (booktabs) that fits the text of a journal's page without being edited."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nnunet_partial.report.tables import Cell, Table, one_line

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
#: In LaTeX longer heads of columns stand on two lines, and tables with more lines than fit on a page are divided.
_LONG_HEAD, _PAGE_OF_LINES = 8, 44


def to_latex(table: Table, label: str = "") -> str:
    r"""`table` environments with the rules of booktabs; ends with a line break. Needs `\usepackage{booktabs,graphicx}`.

    A table that is wider than the text is made smaller until it fits; one that is longer than a page goes on in a next
    environment, without a number of its own.
    """
    parts = _parts(table)
    return "\n".join(_environment(table, label, rows, index, len(parts)) for index, rows in enumerate(parts))


def latex(text: str) -> str:
    """Plain text as LaTeX source: nothing in it is a command; a hyphen before a number is a minus."""
    return "".join(_LATEX.get(character, character) for character in one_line(_MINUS.sub("\u2212", text)))


def _parts(table: Table) -> list[range]:
    """The rows in stretches of at most a page, divided above a rule where there is one in the stretch's second half."""
    lines = [1 + _deepest(row) for row in table.cells]
    parts, start = [], 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and sum(lines[start : end + 1]) <= _PAGE_OF_LINES:
            end += 1
        rules = [rule for rule in table.rules if (start + end) / 2 < rule <= end]
        end = max(rules) if rules and end < len(lines) else end
        parts.append(range(start, end))
        start = end
    return parts or [range(0)]


def _deepest(row: Sequence[Cell]) -> int:
    return max((len(cell.more.splitlines()) for cell in row), default=0)


def _environment(table: Table, label: str, rows: range, part: int, parts: int) -> str:
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
    heads = [_latex_head(name, "l" if column < table.left else "r") for column, name in enumerate(table.head)]
    lines = [rf"\begin{{tabular}}{{{_columns(table)}}}", r"\toprule", _ampersands(heads), r"\midrule"]
    for index in rows:
        row = table.cells[index]
        lines += [r"\midrule"] if index in table.rules and index != rows.start else []
        hidden = [index != rows.start and table.repeats(index, column) for column in range(len(row))]
        lines.append(_ampersands(["" if hide else _latex(cell) for hide, cell in zip(hidden, row, strict=True)]))
        more = [cell.more.splitlines() for cell in row]
        for line in range(_deepest(row)):
            small = [rf"\scriptsize {latex(text[line])}" if line < len(text) else "" for text in more]
            lines.append(_ampersands(small))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _latex_head(name: str, side: str) -> str:
    """A long head on two lines, divided at the space that makes them most alike."""
    spaces = [match.start() for match in re.finditer(" ", name)]
    if len(name) <= _LONG_HEAD or not spaces:
        return latex(name)
    middle = min(spaces, key=lambda space: abs(space - len(name) / 2))
    return rf"\shortstack[{side}]{{{latex(name[:middle])}\\{latex(name[middle + 1 :])}}}"


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
