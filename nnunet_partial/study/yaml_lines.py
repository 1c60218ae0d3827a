"""Reads YAML safely, and remembers on which line each entry stands, so that a mistake can be pointed at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nnunet_partial.errors import PartialLabelError


@dataclass
class Lines:
    """The line (from 1) of each entry by its path of keys and list positions, as in ("scenarios", 0, "missing")."""

    by_path: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def of(self, path: tuple[Any, ...]) -> int:
        """The line of the entry, or of the nearest one above it that stands in the file."""
        while path and path not in self.by_path:
            path = path[:-1]
        return self.by_path.get(path, 1)


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """The content of a YAML file, and its lines. Only plain data: numbers, text, lists, mappings.

    Raises PartialLabelError for a file that cannot be read, is not YAML, or has one key twice in a mapping.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.SafeLoader)
        lines = Lines()
        return _value(node, (), lines, path), lines
    except OSError as problem:
        why = problem.strerror
        raise PartialLabelError(f"{path} cannot be read ({why}); expected a file as in docs/study.md") from None
    except UnicodeDecodeError as problem:
        raise PartialLabelError(f"{path} cannot be read: {problem}. Expected text in UTF-8.") from None
    except (yaml.YAMLError, RecursionError) as problem:
        raise PartialLabelError(f"{path} is not YAML: {problem}") from None


def _value(node: yaml.Node | None, at: tuple[Any, ...], lines: Lines, file: Path) -> Any:
    if node is None:
        return None
    lines.by_path[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, at, lines, file)
    if isinstance(node, yaml.SequenceNode):
        return [_value(entry, (*at, index), lines, file) for index, entry in enumerate(node.value)]
    return _scalar(node, file)


def _mapping(node: yaml.MappingNode, at: tuple[Any, ...], lines: Lines, file: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key, line = _scalar(key_node, file), key_node.start_mark.line + 1
        if key in found:
            raise PartialLabelError(f"{file.name}, line {line}: the key {key!r} stands twice. Remove one of them.")
        found[key] = _value(value_node, (*at, key), lines, file)
        here = (*at, key)
        lines.by_path[here] = line
    return found


def _scalar(node: yaml.Node, file: Path) -> Any:
    """Plain data alone: a list as a key, or a tag that asks for a Python object, is refused."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise PartialLabelError(f"{file.name}, line {line}: a key must be plain text.")
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as problem:
        raise PartialLabelError(f"{file.name}, line {line}: {node.value!r} cannot be read: {problem}") from None
    finally:
        loader.dispose()
