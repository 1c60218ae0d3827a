"""A page opened in chromium, with all that it said and asked for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Visit:
    """A page that was opened, and all that it said, asked for and did not get."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def find_browser() -> str | None:
    """Return the path of a browser; None if none is installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def visit(browser: Any, file: Path, width: int = 1280, scheme: str = "light", offline: bool = False) -> Visit:
    """Open a file."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=offline)
    return visit_in(page, file)


def visit_in(page: Any, file: Path) -> Visit:
    """Open a file in a tab that nobody listens to yet."""
    seen = Visit(page)
    page.on("console", lambda message: seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("request", lambda request: seen.asked_for.append(request.url))
    page.on("requestfailed", lambda request: seen.failed.append(request.url))
    page.goto(file.as_uri())
    return seen
