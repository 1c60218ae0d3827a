"""Show a notebook in place of the line `[notebook: FILE]`, with outputs once `make notebook` has executed it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

MARK = re.compile(r"\[notebook: (\S+)\]")
ROOT = Path(__file__).resolve().parents[1]


def cells(file: Path, executed: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook; the executed ones if they are of this very notebook."""
    own = _read(file)
    done = _read(executed) if executed.is_file() else own
    return done if [cell["source"] for cell in done] == [cell["source"] for cell in own] else own


def _read(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found]


class Notebooks(Preprocessor):
    """Put the cells where a page asks for them."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the page with the notebook."""
        return [new for line in lines for new in self._expanded(line)]

    def _expanded(self, line: str) -> Iterator[str]:
        match = MARK.fullmatch(line)
        if not match:
            yield line
            return
        file = ROOT / match.group(1)
        for cell in cells(file, ROOT / "build" / "notebook" / file.name):
            source = cell["source"].replace("../docs/", "").splitlines()
            if cell["cell_type"] == "markdown":
                yield from ("", *source, "")
                continue
            yield from ("", "```python", *source, "```", "")
            for output in cell["outputs"]:
                yield from ("", self.md.htmlStash.store(_html(output)), "")


def _html(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        content = "".join(data["image/png"]).replace("\n", "")
        return f'<p><img alt="{escape("".join(data.get("text/plain", "")))}" src="data:image/png;base64,{content}"></p>'
    return f'<pre class="output">{escape("".join(output.get("text") or data.get("text/plain", "")))}</pre>'


class NotebookPages(Extension):
    """Register it, before code blocks are taken out and after spaces are normalized, which would undo the stash."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register the processor."""
        md.preprocessors.register(Notebooks(md), "notebooks", 29)


def makeExtension(**options: object) -> NotebookPages:
    """Return the extension, as Markdown asks for it."""
    return NotebookPages(**options)
