"""Build a self-contained HTML page from sections of text, tables and figures: no script, no network, no fonts.

A page is data (`Page`, `Section`, blocks); `templates/page.html` renders it and escapes every text, so that a case may
be called `<script>`. A Content-Security-Policy in the page forbids the browser to load or run anything else.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from nnunet_partial.report.tables import Table

if TYPE_CHECKING:
    from jinja2 import Environment


TEMPLATES = Path(__file__).resolve().parent / "templates"
Severity = Literal["plain", "note", "warning", "good"]

#: Pixels of a figure per CSS pixel, so that it stays sharp on a phone and in print.
PIXEL_RATIO = 1.6
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Paragraph:
    """Hold running text; a severity other than "plain" puts it into a box."""

    kind: ClassVar[str] = "paragraph"
    text: str
    severity: Severity = "plain"


@dataclass(frozen=True)
class BulletList:
    """Hold a list of sentences; an empty one renders nothing."""

    kind: ClassVar[str] = "bullet-list"
    lines: Sequence[str]
    severity: Severity = "plain"


@dataclass(frozen=True)
class KeyValues:
    """Hold names with their values, one pair per line."""

    kind: ClassVar[str] = "key-values"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Hold commands, one per line, as typed."""

    kind: ClassVar[str] = "code"
    lines: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """Hold an image within the page.

    Attributes:
        source: data URI.
        alt: describes it in words, for screen readers.
        caption: printed below it.
        width: in CSS pixels; a narrower page shrinks it.
        height: in CSS pixels.
    """

    kind: ClassVar[str] = "figure"
    source: str
    alt: str
    caption: str
    width: int
    height: int

    @classmethod
    def from_png(cls, png: bytes, alt: str, caption: str) -> Figure:
        """Embed a PNG image.

        Args:
            png: the bytes of the file.
            alt: describes it in words.
            caption: printed below it.

        Returns:
            The figure, `PIXEL_RATIO` times smaller than its pixels.

        Raises:
            ValueError: if the bytes are not a PNG file.
        """
        if png[:8] != _PNG_SIGNATURE:
            raise ValueError(f"not a PNG file: expected the bytes {_PNG_SIGNATURE!r} first, got {png[:8]!r}")
        width, height = (round(side / PIXEL_RATIO) for side in struct.unpack(">II", png[16:24]))
        return cls("data:image/png;base64," + base64.b64encode(png).decode("ascii"), alt, caption, width, height)


@dataclass(frozen=True)
class Details:
    """Hold blocks that a click on `summary` shows or hides; printed as shown on the screen."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]
    opened: bool = False


@dataclass(frozen=True)
class Sparkline:
    """Hold a small curve, drawn within the page.

    Attributes:
        points: x and y of each point, in any unit; a point whose y is NaN interrupts the curve.
        marks: x, y and label of what is marked on it.
        low: printed at the lower end of the y axis, such as "41".
        high: printed at the upper end, with the unit: "98 mL".
        end: printed at the end of the x axis: "2.1 s".
        alt: describes it in words.
    """

    points: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, float, str]]
    low: str
    high: str
    end: str
    alt: str
    width: ClassVar[int] = 210
    height: ClassVar[int] = 92
    _margins: ClassVar[tuple[int, int, int, int]] = (6, 16, 6, 16)  # left, top, right, bottom

    @property
    def lines(self) -> list[str]:
        """Return the coordinates of each uninterrupted piece, as SVG's polyline takes them."""
        pieces: list[list[str]] = [[]]
        for x, y in self.points:
            if math.isnan(y):
                pieces.append([])
            else:
                pieces[-1].append("{:.1f},{:.1f}".format(*self._place(x, y)))
        return [" ".join(piece) for piece in pieces if piece]

    @property
    def placed_marks(self) -> list[tuple[str, str, str]]:
        """Return x, y and label of each mark, in the figure's pixels."""
        return [(*(f"{value:.1f}" for value in self._place(x, y)), label) for x, y, label in self.marks]  # type: ignore[misc]

    def _place(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self._margins
        xs = [point[0] for point in self.points]
        ys = [point[1] for point in self.points if not math.isnan(point[1])]
        across = (x - min(xs)) / ((max(xs) - min(xs)) or 1)
        up = (y - min(ys)) / ((max(ys) - min(ys)) or 1)
        return left + across * (self.width - left - right), self.height - bottom - up * (self.height - top - bottom)


@dataclass(frozen=True)
class PictureRow:
    """Hold a row of a table with figures.

    Attributes:
        name: of what the row shows.
        more: printed small below the name.
        link: file that the name leads to, relative to the page; empty for none.
        picture: a small figure; None where there is none.
        curve: None where there is none.
        cells: texts of the further columns.
        flags: texts of the last column, a line each.
    """

    name: str
    more: str
    link: str
    picture: Figure | None
    curve: Sparkline | None
    cells: Sequence[str]
    flags: Sequence[str]


@dataclass(frozen=True)
class PictureTable:
    """Hold rows with figures under a head.

    Attributes:
        head: names of the columns: of the name, the figure, the curve, one per cell, the flags.
        rows: the rows.
        caption: printed above.
        note: printed below.
    """

    kind: ClassVar[str] = "picture-table"
    head: Sequence[str]
    rows: Sequence[PictureRow]
    caption: str = ""
    note: str = ""


#: Contents of a section. A table wider than the page scrolls by itself.
Block: TypeAlias = "Paragraph | BulletList | KeyValues | Code | Figure | Details | Table | PictureTable"


@dataclass(frozen=True)
class Section:
    """Hold a heading, its blocks and its subsections; each heading is a line of the table of contents."""

    title: str
    blocks: Sequence[Block] = ()
    parts: Sequence[Section] = ()


@dataclass(frozen=True)
class Page:
    """Hold a page: title, a sentence or two below it (`lead`), sections and the last line (`footer`)."""

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str = ""


def page_html(page: Page) -> str:
    """Render a page.

    Args:
        page: its contents.

    Returns:
        The complete HTML document.
    """
    numbered = [
        (_anchor(f"{index}-{section.title}"), section, [(_anchor(f"{index}-{n}-{p.title}"), p) for n, p in parts])
        for index, section in enumerate(page.sections, start=1)
        for parts in [list(enumerate(section.parts, start=1))]
    ]
    return _environment().get_template("page.html").render(page=page, sections=numbered)


def block_html(block: Block) -> str:
    """Render one block, for use in another page.

    Args:
        block: its contents.

    Returns:
        An HTML fragment.
    """
    macros: Any = _environment().get_template("blocks.html").module
    return str(macros.block(block))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _anchor(text: str) -> str:
    return "s" + re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
