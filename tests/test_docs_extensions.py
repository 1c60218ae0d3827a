"""What the documentation site adds to Markdown: formulas, commands, the notebook."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from nnunet_partial.cli import COMMANDS

markdown = pytest.importorskip("markdown", reason="`make docs` installs it")
pytest.importorskip("latex2mathml", reason="`make docs` installs it")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: import_module(f"docs_extensions.{name}")


def render(text: str, *modules: Any) -> str:
    extensions = ["pymdownx.superfences", "tables", *(module.makeExtension() for module in modules)]
    return str(markdown.markdown(text, extensions=extensions))


def test_formulas_become_mathml_and_code_stays(extension: Any) -> None:
    html = render("a $x_1$ b `$HOME` 5 $ and 6 $\n\n$$\na_b*c*\n$$\n\n```\n$y$\n$$\nz\n$$\n```\n", extension("mathml"))
    assert html.count("<math") == 2
    assert "<code>$HOME</code>" in html
    assert "5 $ and 6 $" in html
    assert "$y$" in html
    assert "<em>" not in html


def test_every_command_has_a_section_and_every_option_a_row(extension: Any) -> None:
    lines = list(extension("commands").reference())
    assert [line[3:] for line in lines if line.startswith("## ")] == list(COMMANDS)
    assert "### convert camus" in lines
    assert "### study run" in lines
    assert "\n     " not in "\n".join(lines)  # wide lines would be cut off on a phone
    (processes,) = {line for line in lines if "--processes" in line and line.startswith("|")}
    assert "default: 8" in processes  # as on any machine
    assert "-np" in processes
    assert any(line.startswith("| `--fraction") for line in lines)


def notebook(folder: Path, source: str, *outputs: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "n.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [source], "outputs": list(outputs)}]}))
    return file


def test_outputs_are_shown_only_of_the_same_notebook(extension: Any, tmp_path: Path) -> None:
    cells = extension("notebook").cells
    own = notebook(tmp_path / "own", "print(1)")
    assert cells(own, tmp_path / "none.ipynb")[0]["outputs"] == []
    assert cells(own, notebook(tmp_path / "done", "print(1)", {"text": "1"}))[0]["outputs"] == [{"text": "1"}]
    assert cells(own, notebook(tmp_path / "done", "print(2)", {"text": "2"}))[0]["outputs"] == []


def test_what_a_notebook_printed_is_text(extension: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = extension("notebook")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    notebook(
        tmp_path / "own", "print('<b>')", {"text": ["<b>\n"]}, {"data": {"image/png": "QUJD", "text/plain": "<F>"}}
    )
    html = render("[notebook: own/n.ipynb]", module)
    assert "<b>" not in html
    assert '<pre class="output">&lt;b&gt;' in html
    assert '<img alt="&lt;F&gt;" src="data:image/png;base64,QUJD">' in html


def test_the_committed_notebook_has_no_outputs() -> None:
    cells = json.loads((ROOT / "examples" / "partial_labels.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
