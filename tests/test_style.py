"""Tests pin facts (a class, a file, a number), not sentences: few long strings stand in assertions.

In the package, one name has one meaning.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.resolve().parent
PACKAGES = ("nnunet_partial", "dataset_conversion")
WORDS = 8  # a string of so many words, each of two letters or more, is a sentence
MOST = 30  # sentences that are the product itself: help texts and pages that the documentation prints


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each string literal in a node, an f-string or joined literals as one."""
    if isinstance(node, ast.JoinedStr):
        yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else " " for part in node.values)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from strings(part.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def sentences(source: str) -> list[int]:
    """Return the line of each string of eight or more words inside `assert` or `match=`."""
    found = {
        (line, text)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assert) or (isinstance(node, ast.keyword) and node.arg == "match")
        for line, text in strings(node)
        if len(re.findall(r"[A-Za-z]{2,}", text)) >= WORDS
    }
    return sorted(line for line, _ in found)


def test_few_sentences_stand_in_assertions() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in sentences(path.read_text(encoding="utf-8"))
    ]
    assert len(found) <= MOST, f"{len(found)} sentences:\n" + "\n".join(found)


EIGHT = "one two three four five six seven eight"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (f"assert x == '{EIGHT}'", [1]),
        (f"\nassert x == ['a', {{'b': '{EIGHT}'}}]", [2]),
        (f"assert '{EIGHT[:-6]}' in x", []),  # seven
        ("assert x == 'one two three four' ' five six seven eight'", [1]),
        ("assert x == f'one two three {y} four five six seven eight'", [1]),
        ("assert x == f'one two three {y} four five six'", []),
        ("with raises(E, match='one two three.* four five six seven eight'): pass", [1]),
        ("with raises(E, match='case_12.* 3 frames'): pass", []),
        (f"x = '{EIGHT}'", []),
        ("assert x == 'a b c 1 2 3 two of'", []),  # letters and numbers are no words
    ],
)
def test_what_a_sentence_is(source: str, lines: list[int]) -> None:
    assert sentences(source) == lines


#: What each command of the command line, or each file that is run on its own, calls the same.
ENTRY_POINTS = {"add_parser", "run", "main"}


def public_names(source: str) -> set[str]:
    """Return the public classes and functions that a module defines, other than entry points."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = {node.name for node in ast.parse(source).body if isinstance(node, kinds)}
    return {name for name in names - ENTRY_POINTS if not name.startswith("_")}


def test_no_public_name_is_defined_twice() -> None:
    """Private modules are left out: one CPU kernel and one GPU kernel, or readable and fused sums, are named alike."""
    defined: dict[str, list[str]] = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("[!_]*.py")):
        for name in public_names(path.read_text(encoding="utf-8")):
            defined.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in defined.items() if len(paths) > 1} == {}


def test_what_a_public_name_is() -> None:
    source = "class A: pass\nclass _B: pass\ndef c(): pass\ndef main(): pass\nif x:\n    def d(): pass\n"
    assert public_names(source) == {"A", "c"}
