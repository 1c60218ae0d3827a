"""Write the command-line reference from the parsers of `nnunet_partial`, in place of the line `[commands]`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from unittest.mock import patch

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

MARK = "[commands]"


def reference() -> Iterator[str]:
    """Yield the lines of the reference, a section per command."""
    from nnunet_partial.cli import build_parser

    # what depends on the machine is told as on one with eight cores, in words of any width
    with patch.object(os, "cpu_count", lambda: 8), patch.dict(os.environ, {"COLUMNS": "48"}):
        yield from _command(build_parser(), "")


def _command(parser: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    """Yield the section of a command, then those of the commands below it."""
    depth = len(parser.prog.split())
    if depth > 1:
        yield from ("", f"{'#' * min(depth, 4)} {parser.prog.partition(' ')[2]}", "")
    yield from (_text(parser.description or summary), "", "```text", _usage(parser), "```", "")
    rows = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    below = [action for action in rows if isinstance(action, argparse._SubParsersAction)]
    options = [action for action in rows if action not in below and action.help is not argparse.SUPPRESS]
    if options:
        yield from ("| option | meaning |", "|---|---|")
        for action in options:
            yield f"| {_name(parser, action)} | {_help(parser, action)} |"
        yield ""
    if parser.epilog:
        yield from (_text(parser.epilog), "")
    for action in below:
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, child in action.choices.items():
            yield from _command(child, summaries.get(name, ""))


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return how the command is called; further lines begin at the left, where a phone shows them."""
    return re.sub(r"\n +", "\n    ", parser.format_usage().strip())


def _text(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


def _name(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return an option as help writes it, such as `-np N, --processes N`."""
    shown = parser._get_formatter()._format_action_invocation(action)
    return f"`{shown}`".replace("|", r"\|") + (", required" if action.required and action.option_strings else "")


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
    return _text(text).replace("|", r"\|") + (f" One of {choices}." if choices else "")


class Commands(Preprocessor):
    """Put the reference where a page asks for it."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the page with the reference."""
        return [new for line in lines for new in (reference() if line == MARK else [line])]


class CommandReference(Extension):
    """Register it, before code blocks are taken out."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register the processor."""
        md.preprocessors.register(Commands(md), "command reference", 40)


def makeExtension(**options: object) -> CommandReference:
    """Return the extension, as Markdown asks for it."""
    return CommandReference(**options)
