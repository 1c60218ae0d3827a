"""The documentation site: built without a warning, read in a real browser with the network cut."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from helpers.browser import visit, visit_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_spec("zensical") is None, reason="zensical is not installed"),
]
ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a copy of the repository into its build/site."""
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def copy(folder: Path) -> Path:
    for name in ("docs", "docs_extensions", "examples", "nnunet_partial", "dataset_conversion"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


def pages(site: Path) -> Iterator[Path]:
    """All but the page of errors, whose addresses begin at the root of a server."""
    yield from sorted(page for page in site.rglob("*.html") if page.name != "404.html")


def test_every_page_is_read_without_a_network_and_fits_the_window(browser: Any, site: Path) -> None:
    found = list(pages(site))
    assert len(found) > 25
    # one window with tabs: a window for each page takes twice as long
    window = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark", offline=True)
    for start in range(0, len(found), 8):  # together, as each waits half a second for requests that do not come
        batch = {page: visit_in(window.new_page(), page) for page in found[start : start + 8]}
        for page, seen in batch.items():
            seen.page.wait_for_load_state("networkidle")
            assert seen.failed == [], page
            assert [url for url in seen.asked_for if urlsplit(url).scheme not in ("file", "data", "blob")] == [], page
            assert seen.said == [], page
            for width in (390, 1280):
                seen.page.set_viewport_size({"width": width, "height": 800})
                assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, page
            seen.page.close()
    window.close()


def test_links_lead_to_files_and_sections_that_exist(site: Path) -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in pages(site)}
    ids = {page: set(re.findall(r'\bid="?([^"\s>]+)', text)) for page, text in texts.items()}
    for page, text in texts.items():
        for link in re.findall(r'\b(?:href|src)="?([^"\s>]+)', text):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (page, link)
            if parts.fragment and target in ids and parts.fragment != "__skip":
                assert unquote(parts.fragment) in ids[target], (page, link)


def test_formulas_commands_and_docstrings_are_on_their_pages(site: Path) -> None:
    losses = (site / "explanation" / "losses.html").read_text(encoding="utf-8")
    source = (ROOT / "docs" / "explanation" / "losses.md").read_text(encoding="utf-8")
    assert losses.count("<math") == source.count("$$") // 2 + source.replace("$$", "").count("$") // 2 > 20
    assert "$" not in re.sub(r"<(script|code|pre).*?</\1>", "", losses, flags=re.DOTALL)
    commands = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    assert "--keep-only-complete" in commands
    assert "convert echonet-dynamic" in commands
    api = (site / "reference" / "api" / "losses.html").read_text(encoding="utf-8")
    assert re.search(r'id="?nnunet_partial\.losses\.MarginalLoss\b', api)


def test_search_finds_a_page_when_opened_from_a_folder(browser: Any, site: Path) -> None:
    page = visit(browser, site / "index.html", offline=True).page
    page.keyboard.press("/")
    page.keyboard.type("domain_weights")
    page.wait_for_selector("a[href*='manifest.html']:visible >> text=/manifest/i", timeout=10_000)


def test_a_broken_link_stops_the_build(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    with (folder / "docs" / "index.md").open("a", encoding="utf-8") as file:
        file.write("\n[gone](how-to/gone.md)\n")
    done = build(folder)
    assert done.returncode != 0
    assert "how-to/gone.md" in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
