"""The tables of a paper, compiled by LaTeX: no name breaks them, and none is wider than the text."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.evaluated_dataset import Story

from nnunet_partial.cli import main

PAPER = r"""\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,graphicx}
\begin{document}
\input{tables}
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_tables_compile_and_fit_a_narrow_page(reported: Story, tmp_path: Path) -> None:
    assert main(["report", str(reported.results), "--format", "latex", "-o", str(tmp_path / "tables.tex")]) == 0
    (tmp_path / "paper.tex").write_text(PAPER)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert "Overfull" not in log
    assert "too large" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
