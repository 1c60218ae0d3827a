"""Show a notebook with its outputs, in place of the line `[notebook: FILE]`."""

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
        for cell in json.loads((ROOT / match.group(1)).read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"]).replace("../docs/", "").splitlines()
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
    """Register it, before code blocks are taken out."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register the processor."""
        md.preprocessors.register(Notebooks(md), "notebooks", 41)


def makeExtension(**options: object) -> NotebookPages:
    """Return the extension, as Markdown asks for it."""
    return NotebookPages(**options)
