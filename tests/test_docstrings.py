"""The docstrings of the API reference: Args where there are parameters, Returns where something is returned."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nnunet_partial"
FILES = sorted(
    [
        *(
            file
            for name in ("losses", "training", "dataset", "evaluation", "inference")
            for file in (PACKAGE / name).glob("[!_]*.py")
        ),
        *(PACKAGE / name for name in ("labels.py", "dataset_json.py", "errors.py", "losses/_base.py")),
        ROOT / "dataset_conversion" / "base.py",
    ]
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield the public functions of a module, and the public methods of its public classes, by name."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def decorators(function: Function) -> set[str]:
    return {ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list}


def missing(function: Function) -> list[str]:
    """Name the sections that a docstring lacks. A property needs neither, one line that says it returns no Returns."""
    document = ast.get_docstring(function) or ""
    if decorators(function) & {"property", "cached_property", "functools.cached_property", "overload", "override"}:
        return []
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    parameters = [argument.arg for argument in given if argument and argument.arg not in ("self", "cls")]
    returns = ast.unparse(function.returns) if function.returns else "None"
    says_so = document.startswith(("Return ", "Yield ")) and "\n" not in document
    lacks = []
    if parameters and "Args:" not in document:
        lacks.append("Args")
    if returns not in ("None", "NoReturn") and not says_so and not re.search("(Returns|Yields):", document):
        lacks.append("Returns")
    return lacks


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_public_functions_have_their_sections(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert {name: lacks for name, function in public_functions(tree) if (lacks := missing(function))} == {}


def test_the_check_itself_notices_what_is_missing() -> None:
    bare = ast.parse('def area(mask: Mask) -> float:\n    """Measure."""').body[0]
    assert isinstance(bare, ast.FunctionDef)
    assert missing(bare) == ["Args", "Returns"]
