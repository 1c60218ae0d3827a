"""The report of an evaluation: which sections it has, and what stands in each.

All pictures of an evaluation, drawn and written one after the other.

From a results folder to a file: the HTML report, or the tables of a paper as Markdown or LaTeX.

The commands that give the same numbers and the same report again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.metrics import OVERLAPS
from nnunet_partial.labels import Manifest
from nnunet_partial.report.annotation_matrix import annotation_matrix, annotation_table, draw_annotation_matrix
from nnunet_partial.report.bland_altman import draw_agreement
from nnunet_partial.report.boxplots import draw_boxes
from nnunet_partial.report.evaluation_tables import (
    SHOWN,
    agreement_tables,
    biomarker_tables,
    comparison_table,
    false_positive_table,
    hardest_table,
    note,
    rank_table,
    warning_table,
)
from nnunet_partial.report.figure_style import SavedFigure, remove_old
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

#: Metrics that are drawn as boxes.
BOXES = ("dice", "hd95")


@dataclass
class ReportFigures:
    """Figures for the page, by kind; `trained`, `evaluated`: who knows what; `overlays`: by domain. `problems`: what
    could not be read, a sentence each."""

    trained: list[Figure] = field(default_factory=list)
    evaluated: list[Figure] = field(default_factory=list)
    boxes: list[Figure] = field(default_factory=list)
    biomarkers: dict[Biomarker, Figure] = field(default_factory=dict)
    overlays: dict[str, list[Figure]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def draw_figures(results: Results, trained: Sequence[TrainingInfo], folder: Path) -> ReportFigures:
    """Writes every picture as PNG and PDF into the folder, in place of those of an earlier report.

    An image, prediction or manifest that is gone is named in `problems`; what does not need it is drawn.
    """
    remove_old(folder)
    pictures = ReportFigures()
    pictures.boxes = [picture.figure(folder) for picture in _boxes(results)]
    pictures.biomarkers = {key: picture.figure(folder) for key, picture in _agreement_figures(results)}
    pictures.trained = [picture.figure(folder) for picture in _trained(trained)]
    try:
        manifest = Manifest.read(results.manifest)
    except PartialLabelError as problem:
        pictures.problems.append(f"no overlays: {problem}")
        return pictures
    evaluated = annotation_matrix(manifest, sorted({row["case"] for row in results.per_case}), results.classes)
    if evaluated:
        picture = draw_annotation_matrix(evaluated, results.classes, "evaluation", "Evaluated cases")
        pictures.evaluated.append(picture.figure(folder))
    for chosen in select_cases(results):
        overlay = draw_overlay(results, manifest, chosen, pictures.problems)
        if overlay is not None:
            pictures.overlays.setdefault(chosen.domain, []).append(overlay.figure(folder))
    pictures.problems = list(dict.fromkeys(pictures.problems))
    return pictures


def _trained(trained: Sequence[TrainingInfo]) -> Iterator[SavedFigure]:
    """One matrix for each training data set."""
    seen: set[Path] = set()
    for model in trained:
        if model.known and model.manifest is not None and model.manifest not in seen:
            seen.add(model.manifest)
            yield draw_annotation_matrix(
                model.known, model.classes, f"training-{len(seen)}", f"Training and validation cases of {model.dataset}"
            )


def _boxes(results: Results) -> Iterator[SavedFigure]:
    for metric in BOXES:
        units = sorted({row["distance_unit"] for row in results.per_case}) if metric == "hd95" else [""]
        for unit in units:
            picture = draw_boxes(results, metric, unit)
            if picture is not None:
                yield picture


def _agreement_figures(results: Results) -> Iterator[tuple[Biomarker, SavedFigure]]:
    for key in dict.fromkeys((row["biomarker"], row["unit"], row["method"]) for row in results.biomarkers):
        picture = draw_agreement(results, key)
        if picture is not None:
            yield key, picture


def repeat(results: Results, page: Path) -> list[str]:
    """`nnunet_partial evaluate` and `report` as they would be typed; DATASET where the data set has no nnU-Net name."""
    home = results.manifest.parent
    dataset = home.name if home.name.startswith("Dataset") else "DATASET"
    evaluate = ["nnunet_partial", "evaluate", "-d", dataset, "--ref", str(results.reference)]
    for model, predictions in results.models.items():
        evaluate += ["--pred", f"{model}={predictions}"]
    tolerance = results.about.get("surface_dice_tolerance")
    if isinstance(tolerance, (int, float)):
        evaluate += ["--tolerance-mm", f"{tolerance:g}"]
    folder = str(results.folder.absolute())
    report = ["nnunet_partial", "report", folder, "-o", str(page.absolute())]
    return [shlex.join([*evaluate, "-o", folder]), shlex.join(report)]


#: Biomarkers that are not folded, and how many remarks on them are shown.
IN_THE_OPEN, REMARKS = ("EDV", "ESV", "EF"), 200

ONLY_KNOWN = (
    "Every mean, interval and test here is over what is known: structures that were annotated in a case, or that are "
    "known not to be in it. Where nobody annotated a structure there is no number, and it counts neither as right nor "
    "as wrong; only its predicted size is shown, under warning signs."
)


def evaluation_page(results: Results, trained: Sequence[TrainingInfo], pictures: ReportFigures, page: Path) -> Page:
    """The page as data; `page`: where it will be written, for the command that repeats it."""
    sections = [
        _at_a_glance(results, pictures),
        Section("What was trained on what", _training(results, trained, pictures)),
        Section("What the evaluated cases know", pictures.evaluated),
        _agreement(results, pictures),
        _comparisons(results),
        _biomarkers(results, pictures),
        _warning_signs(results),
        Section("False positives", _false_positives(results)),
        _overlays(results, pictures),
        Section("What could not be evaluated", _failures(results, pictures)),
        Section("How to repeat this", _repeat(results, page)),
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


def _at_a_glance(results: Results, pictures: ReportFigures) -> Section:
    signs = _signs(results)
    blocks: list[Block] = [Paragraph(ONLY_KNOWN, "note")]
    if signs:
        blocks.append(
            Paragraph(f"{len(signs)} warning sign(s) where nobody annotated a structure; see below.", "warning")
        )
    elif results.warning_signs:
        blocks.append(Paragraph("No warning sign where structures are unknown.", "good"))
    if results.findings:
        text = f"{len(results.findings)} thing(s) could not be evaluated; see below. They are in no number."
        blocks.append(Paragraph(text, "warning"))
    return Section("At a glance", [*blocks, *pictures.boxes[:1]])


def _training(results: Results, trained: Sequence[TrainingInfo], pictures: ReportFigures) -> list[Block]:
    blocks: list[Block] = [*pictures.trained]
    seen: set[object] = set()
    for name, model in zip(results.models, trained, strict=True):
        blocks.append(Details(f"Model {name}", [KeyValues(model.facts)], opened=True))
        if model.known and model.manifest not in seen:
            seen.add(model.manifest)
            title = f"{model.dataset}: training and validation cases by what they know"
            blocks.append(Details("Its cases in numbers", [annotation_table(model.known, model.classes, title)]))
    return blocks


def _agreement(results: Results, pictures: ReportFigures) -> Section:
    tables = [replace(table, note="") for table in agreement_tables(results)]
    return Section("Agreement with the reference", [Paragraph(note(results)), *tables, *pictures.boxes[1:]])


def _comparisons(results: Results) -> Section:
    if not results.comparisons:
        return Section("Models compared")
    tables: list[Block] = [comparison_table(results, "dice", 3), rank_table(results, "dice")]
    compared = {row["metric"] for row in results.comparisons} - {"dice"}
    others = [name for name in METRIC_NAMES if name in compared]
    for metric in others:
        digits = 2 if metric in ("hausdorff", "hd95", "assd", "size_difference") else 3
        inner = [comparison_table(results, metric, digits), rank_table(results, metric)]
        tables.append(Details(f"The same for {METRIC_NAMES[metric]}", inner))
    return Section("Models compared", tables)


def _biomarkers(results: Results, pictures: ReportFigures) -> Section:
    """Volumes and EF in the open, all others folded."""
    blocks: list[Block] = []
    for index, (key, table) in enumerate(biomarker_tables(results).items()):
        one: list[Block] = [replace(table, note=table.note if index == 0 else "")]
        one += [pictures.biomarkers[key]] if key in pictures.biomarkers else []
        blocks += one if key[0] in IN_THE_OPEN else [Details(biomarker_name(key), one)]
    remarks = [
        f"{row['model']}, {row['domain']}, {row['patient']}, {row['biomarker']}: {row['problem']}"
        for row in results.biomarkers
        if row["problem"]
    ]
    if remarks:
        title = f"{len(remarks)} remark(s) on single values: why there is none, or what to know about it"
        blocks.append(Details(title, [BulletList(first_lines(remarks, REMARKS, " in biomarkers.csv"))]))
    return Section("Biomarkers", blocks)


def _warning_signs(results: Results) -> Section:
    if not results.warning_signs:
        return Section("Warning signs", [Paragraph("Every case knows every structure: nothing can go wrong unseen.")])
    signs = _signs(results)
    text = (
        "Partially labelled training can hand the background to a structure where nobody annotated it, or lose it "
        "there. No metric can see that, but the predicted size can. A sign is a reason to look, no proof."
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
    return [Paragraph("No evaluated case is known not to show one of the structures, so none could be counted.")]


def _overlays(results: Results, pictures: ReportFigures) -> Section:
    parts = [Section(f"Domain {domain}", figures) for domain, figures in pictures.overlays.items()]
    return Section("Cases", [Details("The hardest cases by name", [hardest_table(results)])], parts)


def _failures(results: Results, pictures: ReportFigures) -> list[Block]:
    if not results.findings and not pictures.problems:
        return [Paragraph("Everything was evaluated, and every picture could be drawn.", "good")]
    blocks: list[Block] = []
    if results.findings:
        blocks += [Paragraph("These are in no number of this report:"), BulletList(results.findings, "warning")]
    if pictures.problems:
        blocks += [Paragraph("These could not be drawn; the numbers are not touched by it:")]
        blocks += [BulletList(pictures.problems, "warning")]
    return blocks


def _repeat(results: Results, page: Path) -> list[Block]:
    made = results.about.get("versions")
    rows = [
        [name, str(made.get(name, "\N{EN DASH}")) if isinstance(made, dict) else "\N{EN DASH}", version]
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
    return [Code(repeat(results, page)), KeyValues(settings), table]


def _footer() -> str:
    return f"Made by nnunet-partial {versions()['nnunet-partial']}. This file is complete in itself and loads nothing."


def write_html(results: Results, file: Path) -> list[str]:
    """Draws the pictures into RESULTS/pictures and writes the page. Gives what could not be drawn, a sentence each."""
    trained = [training_info(folder, results.manifest.parent.parent) for folder in results.models.values()]
    pictures = draw_figures(results, trained, results.folder / "pictures")
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
