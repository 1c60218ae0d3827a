"""Format text: lists of names, tables, and text that no terminal can print."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """`text` with whatever no terminal or UTF-8 file can hold (bytes of a foreign file name) as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def format_names(names: list[str] | tuple[str, ...] | set[str], limit: int = 10) -> str:
    """The first `limit` names, sorted, and how many more there are: 'a, b and 3 more'. Empty gives 'none'."""
    ordered = sorted(names)
    if not ordered:
        return "none"
    rest = len(ordered) - limit
    return ", ".join(ordered[:limit]) + (f" and {rest} more" if rest > 0 else "")


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as needed; the first left-aligned, the others right-aligned. Ends with a line break."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )
