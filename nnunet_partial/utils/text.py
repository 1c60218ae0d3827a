"""Format text for the terminal: lists of names, tables, and text that a terminal cannot print."""

from __future__ import annotations

from collections.abc import Collection, Sequence

#: In tables: all domains, or all structures, together; none may be called so.
ALL = "(all)"
#: In tables: cases without a domain.
NO_DOMAIN = "(no domain)"


def printable(text: str) -> str:
    """Escape what no terminal or UTF-8 file can hold, such as the bytes of a foreign file name.

    Args:
        text: Any text, also with lone surrogates.

    Returns:
        The text with backslash escapes in place of such characters.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def short_repr(value: object) -> str:
    """Return a value as in an error message, cut after 60 characters.

    Args:
        value: Anything, such as a part of a JSON file.

    Returns:
        Its `repr`, or the beginning of it.
    """
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def format_names(names: Collection[str], limit: int = 10) -> str:
    """List names in alphabetical order, cut after `limit`: 'a, b and 3 more'.

    Args:
        names: The names, in any order.
        limit: How many of them are listed.

    Returns:
        The list; 'none' where there is no name.
    """
    return format_values(sorted(names), limit)


def format_values(values: Sequence[object], limit: int = 10) -> str:
    """List values in the given order, cut after `limit`: '7, 10 and 3 more'.

    Args:
        values: What is listed; a float that is an integer is shown as one.
        limit: How many of them are listed.

    Returns:
        The list; 'none' where there is no value.
    """
    if not values:
        return "none"
    shown = ", ".join(
        f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value) for value in values[:limit]
    )
    return shown + (f" and {len(values) - limit} more" if len(values) > limit else "")


def first_lines(lines: Sequence[str], limit: int = 10, where: str = "") -> list[str]:
    """Cut a list of lines after `limit` and say how many more there are.

    Args:
        lines: The lines.
        limit: How many of them are kept.
        where: Added to the last line: where all of them can be read.

    Returns:
        The first lines and, where some were cut, '... and 3 more'.
    """
    rest = len(lines) - limit
    return [*lines[:limit], *([f"... and {rest} more{where}"] if rest > 0 else [])]


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table whose columns are as wide as needed, the first left-aligned, the others right-aligned.

    Args:
        head: Names of the columns.
        rows: Cells, as many per row as there are columns.

    Returns:
        The table with a line below the head; ends with a line break.
    """
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
