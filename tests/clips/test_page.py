"""The page of measured clips: complete, self-contained, and whole in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.browser import visit

from nnunet_partial.report.html import Figure, PictureRow, PictureTable, Sparkline, block_html


def test_a_curve_is_interrupted_where_nothing_was_measured() -> None:
    nan = float("nan")
    line = Sparkline([(0, 1), (1, 2), (2, nan), (3, 2), (4, 3)], [(4, 3, "ED")], "1", "3", "4 s", "")
    left, top, right, bottom = 6, line.height - 16, line.width - 6, 16
    first, second = ([tuple(map(float, pair.split(","))) for pair in piece.split()] for piece in line.lines)
    assert first[0] == (left, top)  # the smallest value is lowest
    assert second[-1] == (right, bottom)
    assert (len(first), len(second)) == (2, 2)
    assert line.placed_marks == [(f"{right:.1f}", f"{bottom:.1f}", "ED")]


def test_a_flat_curve_and_one_of_a_single_point_can_be_drawn() -> None:
    assert Sparkline([(0, 5), (1, 5)], [], "", "", "", "").lines == ["6.0,76.0 204.0,76.0"]
    assert Sparkline([(3, 5)], [], "", "", "", "").lines == ["6.0,76.0"]


def test_names_are_text() -> None:
    picture = Figure("data:,", '"><script>', "", 1, 1)
    row = PictureRow("<b>", "<i>", 'x" onclick="y', picture, None, ["<u>"], ["<s>"])
    html = block_html(PictureTable(["<h1>"], [row]))
    assert not any(tag in html for tag in ("<b>", "<i>", "<u>", "<s>", "<h1>", "<script>", '" onclick'))


def test_the_page_needs_no_other_file(measured: Any) -> None:
    html = (measured.folder / "clips.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == 5
    assert html.count("<svg") == 5
    assert "p1&lt;b&gt;" in html
    assert html.count("mL, guessed") == 1  # at the curve of that clip
    assert str(measured.folder.parent) not in html


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_the_page_is_whole_and_fits(browser: Any, measured: Any, width: int, scheme: str) -> None:
    file: Path = measured.folder / "clips.html"
    seen = visit(browser, file, width, scheme)
    assert seen.said == []
    assert [url for url in seen.asked_for if not url.startswith("data:")] == [file.as_uri()]
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.scripts.length") == 0
    images = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert len(images) == 5
    assert all(natural > 100 and alt for natural, alt in images)
    assert page.locator("table.pictures tbody tr").count() == 6  # one of them could not be measured
    drawn = page.evaluate("[...document.querySelectorAll('svg polyline')].map(line => line.getBBox().height)")
    assert len(drawn) == 5
    assert all(height > 30 for height in drawn)
    row = page.locator("table.pictures tbody tr", has_text="four").first
    assert row.locator("circle.es").count() == 3
    assert f"{float(measured.clip('four')['ef_percent']):.1f}" in row.inner_text()
    assert "missing_000.nii.gz" in page.inner_text(".flags >> text=missing")
