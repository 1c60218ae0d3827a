"""The page: every kind of block, escaped, in one piece."""

from __future__ import annotations

import base64
import re
import struct

import pytest

from nnunet_partial.report.html import (
    BulletList,
    Code,
    Details,
    Figure,
    KeyValues,
    Page,
    Paragraph,
    Section,
    block_html,
    page_html,
)
from nnunet_partial.report.tables import Cell, Table

EVIL = "<script>alert('x')</script>&\""
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 320, 160)


def test_nothing_that_a_page_holds_becomes_a_tag() -> None:
    table = Table([EVIL], [[Cell(EVIL, best=True, mark=EVIL, more=EVIL)]], EVIL, EVIL, left=0)
    blocks = [
        *(
            Paragraph(EVIL),
            Paragraph(EVIL, "warning"),
            BulletList([EVIL]),
            KeyValues([(EVIL, EVIL)]),
            Code([EVIL]),
            table,
        ),
        Figure.from_png(PNG, EVIL, EVIL),
        Details(EVIL, [Paragraph(EVIL)]),
    ]
    html = page_html(Page(EVIL, EVIL, [Section(EVIL, blocks, [Section(EVIL, blocks)])], EVIL))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 30
    assert set(re.findall(r'(?:src|href)="([^"#]{0,10})', html)) == {"data:,", "data:image", ""}


def test_a_page_forbids_itself_to_load_anything() -> None:
    html = page_html(Page("t", "l", []))
    (policy,) = re.findall('"Content-Security-Policy" content="([^"]*)"', html)
    assert policy.split("; ") == ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]


def test_sections_of_the_same_name_have_anchors_of_their_own() -> None:
    part = Section("a b", [Paragraph("x")])
    html = page_html(Page("t", "l", [Section("a b", [], [part, part]), part]))
    anchors = re.findall(r'id="(s[^"]*)"', html)
    assert len(anchors) == len(set(anchors)) == 4
    assert anchors == re.findall(r'href="#(s[^"]*)"', html)


def test_a_picture_is_within_the_page_and_finer_than_it_is_shown() -> None:
    figure = Figure.from_png(PNG, "what it shows", "caption")
    assert (figure.width, figure.height) == (200, 100)  # 320 and 160 pixels, 1.6 of them for each of the page's
    assert base64.b64decode(figure.source.removeprefix("data:image/png;base64,")) == PNG
    with pytest.raises(ValueError, match="not a PNG"):
        Figure.from_png(b"GIF89a", "", "")


def test_an_empty_list_is_nothing() -> None:
    assert block_html(BulletList([])).strip() == ""
