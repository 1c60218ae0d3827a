"""The report in a real browser: everything is shown, nothing is loaded, nothing runs, at phone and desktop width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.browser import visit
from helpers.evaluated_dataset import HOSTILE, Story

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_the_report_is_whole_and_fits(browser: Any, reported: Story, width: int, scheme: str) -> None:
    file = reported.results / "report.html"
    seen = visit(browser, file, width, scheme)
    assert seen.said == []
    assert [url for url in seen.asked_for if not url.startswith("data:")] == [file.as_uri()]
    images = seen.page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert len(images) >= 9  # two of boxes, one of knowledge, six overlays
    assert all(natural > 0 and alt for natural, alt in images)
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    assert seen.page.evaluate("[...document.scripts].length") == 0
    assert seen.page.title() == "Evaluation of naive, m<b>_%"  # no script changed it, no tag was made of it


def test_hostile_names_are_text(browser: Any, reported: Story) -> None:
    page = visit(browser, reported.results / "report.html", 1280).page
    assert HOSTILE in page.inner_text("body")
    assert page.locator("img[src=a], main script, td b b").count() == 0


def test_every_line_of_the_contents_leads_somewhere(browser: Any, reported: Story) -> None:
    page = visit(browser, reported.results / "report.html", 1280).page
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert len(targets) == len(set(targets)) > 8
    assert all(page.locator(f"[id='{target}']").count() == 1 for target in targets)


def test_the_check_itself_notices_what_is_wrong(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        "<!DOCTYPE html><meta charset=utf-8><link rel=icon href='data:,'><img src='gone.png' alt='x'>"
        "<p style='width:900px'>x</p><script>document.title='ran'; throw Error('no')</script>"
    )
    seen = visit(browser, file, 390)
    assert any("no" in text for text in seen.said)
    assert any(url.endswith("gone.png") for url in seen.asked_for)
    assert seen.page.evaluate("document.images[0].naturalWidth") == 0
    assert seen.page.evaluate("document.documentElement.scrollWidth") > 390
    assert seen.page.title() == "ran"
