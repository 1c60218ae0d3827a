"""From a results folder to a file: the HTML report, or the tables of a paper as Markdown or LaTeX."""

from __future__ import annotations

from pathlib import Path

from nnunet_partial.evaluation.metrics import OVERLAPS
from nnunet_partial.report.agreement_tables import SHOWN, agreement_tables
from nnunet_partial.report.evaluation_page import ONLY_KNOWN, evaluation_page
from nnunet_partial.report.latex_tables import latex, to_latex
from nnunet_partial.report.other_tables import (
    biomarker_tables,
    comparison_table,
    false_positive_table,
    rank_table,
    warning_table,
)
from nnunet_partial.report.page import page_html
from nnunet_partial.report.pictures import draw_pictures
from nnunet_partial.report.results_folder import Results
from nnunet_partial.report.tables import Table, to_markdown
from nnunet_partial.report.trained_on import trained_on
from nnunet_partial.utils.files import write_text


def write_html(results: Results, file: Path) -> list[str]:
    """Draws the pictures into RESULTS/pictures and writes the page. Gives what could not be drawn, a sentence each."""
    trained = [trained_on(folder, results.manifest.parent.parent) for folder in results.models.values()]
    pictures = draw_pictures(results, trained, results.folder / "pictures")
    write_text(file, page_html(evaluation_page(results, trained, pictures, file)))
    return pictures.problems


def write_markdown(results: Results, file: Path) -> None:
    """The tables of a paper; captions above, notes below."""
    write_text(file, f"{ONLY_KNOWN}\n\n" + "\n".join(to_markdown(table) for table in paper_tables(results)))


def write_latex(results: Results, file: Path) -> None:
    r"""The same for `\input{FILE}`; needs the packages booktabs and graphicx."""
    head = [r"% \usepackage{booktabs,graphicx}", f"% {latex(ONLY_KNOWN)}", ""]
    tables = [to_latex(table, f"tab:evaluation-{number}") for number, table in enumerate(paper_tables(results), 1)]
    write_text(file, "\n".join([*head, *tables]))


def paper_tables(results: Results) -> list[Table]:
    """Agreement for each domain, tests and ranks of the same metrics, biomarkers, false positives, sizes where unknown;
    without those that have no row, and without names of cases."""
    tables = list(agreement_tables(results))
    for metric in SHOWN:
        tables += [comparison_table(results, metric, 3 if metric in OVERLAPS else 2), rank_table(results, metric)]
    tables += biomarker_tables(results).values()
    tables += [false_positive_table(results, by_name=False), warning_table(results)]
    return [table for table in tables if table.rows]
