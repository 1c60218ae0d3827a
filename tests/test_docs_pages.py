"""Every page of the documentation is in its navigation and in docs/index.md, and links lead to pages and sections."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in DOCS.rglob("*.md")}


def leaves(entry: Any) -> Iterator[str]:
    """Yield the files of a navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for below in entry.values() if isinstance(entry, dict) else entry:
            yield from leaves(below)


def anchors(text: str) -> set[str]:
    """Return the anchors that Python-Markdown, and GitHub, give the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.*)", text, re.MULTILINE)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_the_navigation_has_every_page_once() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    assert sorted(leaves(navigation)) == sorted(PAGES)


def test_the_index_links_every_other_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)", PAGES["index.md"]))
    assert linked == set(PAGES) - {"index.md"}


def test_links_lead_to_files_and_sections() -> None:
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(DOCS / page for page in PAGES)]
    for file in files:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", file.read_text("utf-8")):
            page = (file.parent / target).resolve() if target else file
            assert page.exists(), (file.name, target)
            assert not anchor or anchor in anchors(page.read_text("utf-8")), (file.name, target, anchor)
