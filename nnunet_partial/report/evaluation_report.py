"""Write the report of an evaluation: one HTML page, or the tables of a paper as Markdown or LaTeX."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_partial.dataset.summary import annotation_counts
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.independence import model_independence_text
from nnunet_partial.evaluation.metrics import OVERLAPS
from nnunet_partial.labels import Manifest
from nnunet_partial.report.annotation_matrix import annotation_matrix_table, draw_annotation_matrix
from nnunet_partial.report.bland_altman import agreement_figures
from nnunet_partial.report.boxplots import draw_boxes
from nnunet_partial.report.evaluation_tables import (
    AGREEMENT_METRICS,
    agreement_tables,
    biomarker_tables,
    comparison_table,
    false_positive_table,
    hardest_table,
    note,
    rank_table,
    warning_table,
)
from nnunet_partial.report.figure_style import SavedFigure, remove_old_figures
from nnunet_partial.report.formatting import METRIC_NAMES, Biomarker, biomarker_name
from nnunet_partial.report.html import (
    Block,
    BulletList,
    Code,
    Details,
    Figure,
    KeyValues,
    Page,
    Paragraph,
    Section,
    page_html,
)
from nnunet_partial.report.latex import latex, to_latex
from nnunet_partial.report.overlays import draw_overlay, select_cases
from nnunet_partial.report.results import Results
from nnunet_partial.report.tables import Table, to_markdown
from nnunet_partial.report.training_info import TrainingInfo, training_info
from nnunet_partial.utils.files import write_text
from nnunet_partial.utils.text import first_lines, format_names
from nnunet_partial.utils.versions import versions

#: Metrics that have box plots.
BOXPLOT_METRICS = ("dice", "hd95")
#: Biomarkers that are shown without a click.
EXPANDED_BIOMARKERS = ("EDV", "ESV", "EF")
#: Number of remarks on single biomarker values that are shown.
MAX_REMARKS = 200
SCOPE_NOTE = (
    "Every mean, interval and test covers known structures only: those that are annotated in a case or known to be "
    "absent from it. A structure that is not annotated counts neither as right nor as wrong; only its predicted size "
    "is reported, under Warning signs."
)


def write_html(results: Results, file: Path) -> list[str]:
    """Write the HTML report, and its figures into RESULTS/figures.

    Args:
        results: the evaluation.
        file: to write.

    Returns:
        What the figures lack, a sentence each; empty if they are complete.
    """
    trained = [training_info(folder, results.manifest.parent.parent) for folder in results.models.values()]
    figures = draw_figures(results, trained, results.folder / "figures")
    write_text(file, page_html(evaluation_page(results, trained, figures, file)))
    return figures.problems


def write_markdown(results: Results, file: Path) -> None:
    """Write the tables of a paper as Markdown, captions above and notes below.

    Args:
        results: the evaluation.
        file: to write.
    """
    write_text(file, f"{SCOPE_NOTE}\n\n" + "\n".join(to_markdown(table) for table in paper_tables(results)))


def write_latex(results: Results, file: Path) -> None:
    r"""Write the tables of a paper for `\input{FILE}`; needs the packages booktabs and graphicx.

    Args:
        results: the evaluation.
        file: to write.
    """
    head = [r"% \usepackage{booktabs,graphicx}", f"% {latex(SCOPE_NOTE)}", ""]
    tables = [to_latex(table, f"tab:evaluation-{number}") for number, table in enumerate(paper_tables(results), 1)]
    write_text(file, "\n".join([*head, *tables]))


def paper_tables(results: Results) -> list[Table]:
    """Build the tables of a paper: agreement, tests and ranks, biomarkers, false positives, sizes where not annotated.

    Args:
        results: the evaluation.

    Returns:
        The tables that have rows; they name no cases.
    """
    tables = list(agreement_tables(results))
    for metric in AGREEMENT_METRICS:
        tables += [comparison_table(results, metric, 3 if metric in OVERLAPS else 2), rank_table(results, metric)]
    tables += biomarker_tables(results).values()
    tables += [false_positive_table(results, by_name=False), warning_table(results)]
    return [table for table in tables if table.rows]


@dataclass
class ReportFigures:
    """Hold the figures of a page.

    Attributes:
        training: who annotated what, one per training dataset.
        evaluated: who annotated what in the evaluated cases.
        boxplots: one per metric and unit.
        biomarkers: Bland-Altman plots.
        overlays: by domain.
        problems: what could not be read, a sentence each.
    """

    training: list[Figure] = field(default_factory=list)
    evaluated: list[Figure] = field(default_factory=list)
    boxplots: list[Figure] = field(default_factory=list)
    biomarkers: dict[Biomarker, Figure] = field(default_factory=dict)
    overlays: dict[str, list[Figure]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def draw_figures(results: Results, trained: Sequence[TrainingInfo], folder: Path) -> ReportFigures:
    """Draw all figures of a report and save them as PNG and PDF, in place of those of an earlier report.

    An image, prediction or manifest that is missing is named in `problems`; figures that do not need it are drawn.

    Args:
        results: the evaluation.
        trained: what the models were trained on.
        folder: receives the files.

    Returns:
        The figures for the page.
    """
    remove_old_figures(folder)
    figures = ReportFigures()
    figures.boxplots = [figure.save(folder) for figure in _boxplots(results)]
    plots = agreement_figures(list(results.models), results.biomarkers, results.agreement)
    figures.biomarkers = {key: figure.save(folder) for key, figure in plots}
    figures.training = [figure.save(folder) for figure in _training_figures(trained)]
    try:
        manifest = Manifest.read(results.manifest)
    except PartialLabelError as problem:
        figures.problems.append(f"no overlays: {problem}")
        return figures
    evaluated = annotation_counts(manifest, results.classes, sorted({row["case"] for row in results.per_case}))
    if evaluated:
        figure = draw_annotation_matrix(evaluated, results.classes, "evaluation", "Evaluated cases")
        figures.evaluated.append(figure.save(folder))
    for selected in select_cases(results):
        overlay = draw_overlay(results, manifest, selected, figures.problems)
        if overlay is not None:
            figures.overlays.setdefault(selected.domain, []).append(overlay.save(folder))
    figures.problems = list(dict.fromkeys(figures.problems))
    return figures


def _training_figures(trained: Sequence[TrainingInfo]) -> Iterator[SavedFigure]:
    """Draw one matrix per training dataset."""
    seen: set[Path] = set()
    for model in trained:
        if model.annotations and model.manifest is not None and model.manifest not in seen:
            seen.add(model.manifest)
            yield draw_annotation_matrix(
                model.annotations,
                model.classes,
                f"training-{len(seen)}",
                f"Training and validation cases of {model.dataset}",
            )


def _boxplots(results: Results) -> Iterator[SavedFigure]:
    for metric in BOXPLOT_METRICS:
        units = sorted({row["distance_unit"] for row in results.per_case}) if metric == "hd95" else [""]
        for unit in units:
            figure = draw_boxes(results, metric, unit)
            if figure is not None:
                yield figure


def reproduce_commands(results: Results, page: Path) -> list[str]:
    """Return the commands `nnunet_partial evaluate` and `report` as they would be typed.

    Args:
        results: the evaluation.
        page: file of the report.

    Returns:
        Two lines; DATASET stands for a dataset without an nnU-Net name.
    """
    dataset_folder = results.manifest.parent
    dataset = dataset_folder.name if dataset_folder.name.startswith("Dataset") else "DATASET"
    evaluate = ["nnunet_partial", "evaluate", "-d", dataset, "--ref", str(results.reference)]
    for model, predictions in results.models.items():
        evaluate += ["--pred", f"{model}={predictions}"]
    tolerance = results.about.get("surface_dice_tolerance")
    if isinstance(tolerance, (int, float)):
        evaluate += ["--tolerance-mm", f"{tolerance:g}"]
    folder = str(results.folder.absolute())
    report = ["nnunet_partial", "report", folder, "-o", str(page.absolute())]
    return [shlex.join([*evaluate, "-o", folder]), shlex.join(report)]


def evaluation_page(results: Results, trained: Sequence[TrainingInfo], figures: ReportFigures, page: Path) -> Page:
    """Build the page.

    Args:
        results: the evaluation.
        trained: what each model was trained on, in their order.
        figures: to show.
        page: file it will be written to, for the command that reproduces it.

    Returns:
        The page, without sections that have no content.
    """
    sections = [
        _overview(results, figures),
        Section("Training data: who annotated what", _training(results, trained, figures)),
        Section("Evaluated cases: who annotated what", figures.evaluated),
        _agreement(results, figures),
        _comparisons(results),
        _biomarkers(results, figures),
        _warning_signs(results),
        Section("False positives", _false_positives(results)),
        _overlays(results, figures),
        Section("Not evaluated", _not_evaluated(results, figures)),
        Section("How to reproduce this report", _reproduction(results, page)),
    ]
    models = list(results.models)
    title = f"Evaluation of {', '.join(models) if len(models) < 5 else f'{len(models)} models'}"
    lead = f"{_counts(results)}. Reference: {results.reference}"
    return Page(title, lead, [section for section in sections if section.blocks or section.parts], _footer())


def _counts(results: Results) -> str:
    cases, patients = ({row[name] for row in results.per_case} for name in ("case", "patient"))
    return (
        f"{len(cases)} cases of {len(patients)} patients from {len(results.domains)} domain(s) "
        f"({format_names(set(results.domains))}), {len(results.classes)} structure(s) ({', '.join(results.classes)})"
    )


def _overview(results: Results, figures: ReportFigures) -> Section:
    signs = _signs(results)
    blocks: list[Block] = [Paragraph(SCOPE_NOTE, "note")]
    if signs:
        blocks.append(
            Paragraph(f"{len(signs)} warning sign(s) for structures that are not annotated; see below.", "warning")
        )
    elif results.warning_signs:
        blocks.append(Paragraph("No warning sign for structures that are not annotated.", "good"))
    for model, number in results.about.get("not_independent", {}).items():
        blocks.append(Paragraph(model_independence_text(model, number), "warning"))
    blocks += [Paragraph(f"{text}.", "warning") for text in results.about.get("cautions", [])]
    if results.findings:
        text = f"{len(results.findings)} item(s) could not be evaluated and are in no number; see below."
        blocks.append(Paragraph(text, "warning"))
    return Section("Overview", [*blocks, *figures.boxplots[:1]])


def _training(results: Results, trained: Sequence[TrainingInfo], figures: ReportFigures) -> list[Block]:
    blocks: list[Block] = [*figures.training]
    seen: set[object] = set()
    for name, model in zip(results.models, trained, strict=True):
        blocks.append(Details(f"Model {name}", [KeyValues(model.facts)], opened=True))
        if model.annotations and model.manifest not in seen:
            seen.add(model.manifest)
            title = f"{model.dataset}: who annotated what in the training and validation cases"
            blocks.append(
                Details("Numbers of cases", [annotation_matrix_table(model.annotations, model.classes, title)])
            )
    return blocks


def _agreement(results: Results, figures: ReportFigures) -> Section:
    tables = [replace(table, note="") for table in agreement_tables(results)]
    return Section("Agreement with the reference", [Paragraph(note(results)), *tables, *figures.boxplots[1:]])


def _comparisons(results: Results) -> Section:
    if not results.comparisons:
        return Section("Model comparison")
    tables: list[Block] = [comparison_table(results, "dice", 3), rank_table(results, "dice")]
    compared = {row["metric"] for row in results.comparisons} - {"dice"}
    others = [name for name in METRIC_NAMES if name in compared]
    for metric in others:
        digits = 2 if metric in ("hausdorff", "hd95", "assd", "size_difference") else 3
        inner = [comparison_table(results, metric, digits), rank_table(results, metric)]
        tables.append(Details(f"The same for {METRIC_NAMES[metric]}", inner))
    return Section("Model comparison", tables)


def _biomarkers(results: Results, figures: ReportFigures) -> Section:
    """Show volumes and EF; fold all other biomarkers."""
    blocks: list[Block] = []
    for index, (key, table) in enumerate(biomarker_tables(results).items()):
        shown: list[Block] = [replace(table, note=table.note if index == 0 else "")]
        shown += [figures.biomarkers[key]] if key in figures.biomarkers else []
        blocks += shown if key[0] in EXPANDED_BIOMARKERS else [Details(biomarker_name(key), shown)]
    remarks = [
        f"{row['model']}, {row['domain']}, {row['patient']}, {row['biomarker']}: {row['problem']}"
        for row in results.biomarkers
        if row["problem"]
    ]
    if remarks:
        title = f"{len(remarks)} remark(s) on single values: why one is missing, or what to know about it"
        blocks.append(Details(title, [BulletList(first_lines(remarks, MAX_REMARKS, " in biomarkers.csv"))]))
    return Section("Biomarkers", blocks)


def _warning_signs(results: Results) -> Section:
    if not results.warning_signs:
        return Section("Warning signs", [Paragraph("All cases are fully annotated, so this check does not apply.")])
    signs = _signs(results)
    text = (
        "After training on partial labels a model may predict a structure far too large or not at all where it is not "
        "annotated. No metric can measure that, but the predicted size shows it. A sign is a reason to look at the "
        "predictions, not a proof."
    )
    blocks: list[Block] = [Paragraph(text)]
    blocks.append(BulletList(signs, "warning") if signs else Paragraph("No sign in any domain.", "good"))
    return Section(
        "Warning signs", [*blocks, Details("All predicted sizes", [warning_table(results)], opened=not signs)]
    )


def _signs(results: Results) -> list[str]:
    return [row["message"] for row in results.warning_signs if row["warning"]]


def _false_positives(results: Results) -> list[Block]:
    table = false_positive_table(results)
    if table.rows:
        return [table]
    return [
        Paragraph("In no evaluated case is a structure known to be absent, so false positives could not be counted.")
    ]


def _overlays(results: Results, figures: ReportFigures) -> Section:
    parts = [Section(f"Domain {domain}", of_domain) for domain, of_domain in figures.overlays.items()]
    return Section("Example cases", [Details("Hardest cases by name", [hardest_table(results)])], parts)


def _not_evaluated(results: Results, figures: ReportFigures) -> list[Block]:
    if not results.findings and not figures.problems:
        return [Paragraph("Everything was evaluated, and all figures are complete.", "good")]
    blocks: list[Block] = []
    if results.findings:
        blocks += [Paragraph("In no number of this report:"), BulletList(results.findings, "warning")]
    if figures.problems:
        blocks += [Paragraph("Missing in the figures; the numbers are not affected:")]
        blocks += [BulletList(figures.problems, "warning")]
    return blocks


def _reproduction(results: Results, page: Path) -> list[Block]:
    evaluated_with = results.about.get("versions")
    rows = [
        [
            name,
            str(evaluated_with.get(name, "\N{EN DASH}")) if isinstance(evaluated_with, dict) else "\N{EN DASH}",
            version,
        ]
        for name, version in versions().items()
    ]
    settings = [
        ("interval", str(results.about.get("interval"))),
        ("tolerance of the surface Dice", f"{results.about.get('surface_dice_tolerance')} (mm, or pixels)"),
        ("reference", str(results.reference)),
        ("who annotated what", str(results.manifest)),
        *((f"predictions of {name}", str(folder)) for name, folder in results.models.items()),
    ]
    table = Table(["program", "when evaluated", "when reported"], rows, "Versions")
    return [Code(reproduce_commands(results, page)), KeyValues(settings), table]


def _footer() -> str:
    return f"Created by nnunet-partial {versions()['nnunet-partial']}. This file is self-contained and loads nothing."
