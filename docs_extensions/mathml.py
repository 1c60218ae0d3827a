"""Turn `$...$` and `$$...$$` into MathML, which browsers draw without scripts or fonts from a network."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

INLINE = r"(?<![\\$])\$(?![\s$])((?:\\.|[^\\$])+?)(?<!\s)\$(?![\w$])"
BLOCK = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)


class InlineFormula(InlineProcessor):
    """Convert a formula within a line."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element | str, int, int]:  # type: ignore[override]
        """Return the formula in place of its source."""
        return self.md.htmlStash.store(convert(m.group(1))), m.start(0), m.end(0)


class BlockFormulas(Preprocessor):
    """Convert the formulas that stand by themselves."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the page with formulas in place of their sources."""

        def formula(match: re.Match[str]) -> str:
            html = f'<div class="formula">{convert(match.group(1), display="block")}</div>'
            return f"\n{self.md.htmlStash.store(html)}\n"

        return BLOCK.sub(formula, "\n".join(lines)).split("\n")


class MathML(Extension):
    """Register both; after code blocks and before what Markdown makes of `_` and `*`."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register the processors."""
        md.preprocessors.register(BlockFormulas(md), "block formulas", 24)
        md.inlinePatterns.register(InlineFormula(INLINE, md), "inline formula", 185)


def makeExtension(**options: object) -> MathML:
    """Return the extension, as Markdown asks for it."""
    return MathML(**options)
