"""One HTML page that holds all it needs: sections of text, tables and pictures; no script, no network, no fonts.

A page is data (`Page`, `Section`, blocks); `templates/page.html` turns it into HTML and escapes every text, so that a
case may be called `<script>`. A Content-Security-Policy in the page forbids the browser to load or run anything else.
"""

from __future__ import annotations

import base64
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

#: Pictures are drawn this much finer than they are shown, so that they stay sharp on a phone and in print.
PIXEL_RATIO = 1.6
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Paragraph:
    """Running text. `tone` other than "plain": in a box of its own."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: Severity = "plain"


@dataclass(frozen=True)
class BulletList:
    """A list of sentences; nothing at all where it is empty."""

    kind: ClassVar[str] = "items"
    lines: Sequence[str]
    tone: Severity = "plain"


@dataclass(frozen=True)
class KeyValues:
    """Names with their values, one pair a line."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Commands, a line each, as one would type them."""

    kind: ClassVar[str] = "code"
    lines: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A picture within the page. `source`: a data URI; `alt`: what it shows, for who cannot see it; `width`, `height`:
    as shown, in CSS pixels (a narrower page makes it smaller)."""

    kind: ClassVar[str] = "figure"
    source: str
    alt: str
    caption: str
    width: int
    height: int

    @classmethod
    def of_png(cls, png: bytes, alt: str, caption: str) -> Figure:
        """From the bytes of a PNG file. Raises ValueError where they are none."""
        if png[:8] != _PNG:
            raise ValueError("not a PNG file")
        width, height = (round(side / PIXEL_RATIO) for side in struct.unpack(">II", png[16:24]))
        return cls("data:image/png;base64," + base64.b64encode(png).decode("ascii"), alt, caption, width, height)


@dataclass(frozen=True)
class Details:
    """Blocks that are shown on a click on `summary`; printed as they stand on the screen."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: Sequence[Block]
    opened: bool = False


#: What may stand in a section. A table wider than the page scrolls by itself.
Block: TypeAlias = "Paragraph | BulletList | KeyValues | Code | Figure | Details | Table"


@dataclass(frozen=True)
class Section:
    """A heading, what stands under it, and subsections; each is a line of the table of contents."""

    title: str
    blocks: Sequence[Block] = ()
    parts: Sequence[Section] = ()


@dataclass(frozen=True)
class Page:
    """`lead`: a sentence or two under the title; `footer`: the last line."""

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str = ""


def page_html(page: Page) -> str:
    """The whole page as HTML, complete in itself."""
    numbered = [
        (_anchor(f"{index}-{section.title}"), section, [(_anchor(f"{index}-{n}-{p.title}"), p) for n, p in parts])
        for index, section in enumerate(page.sections, start=1)
        for parts in [list(enumerate(section.parts, start=1))]
    ]
    return _environment().get_template("page.html").render(page=page, sections=numbered)


def block_html(block: Block) -> str:
    """One block as HTML, to put somewhere else."""
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
