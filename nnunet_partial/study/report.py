"""Write the report of a study: tables and figures of what has finished so far, and what has not."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.report.figure_style import remove_old_figures
from nnunet_partial.report.html import Block, BulletList, Code, KeyValues, Page, Paragraph, Section, page_html
from nnunet_partial.report.latex import to_latex
from nnunet_partial.report.tables import Table, to_csv, to_markdown
from nnunet_partial.study.config import Study
from nnunet_partial.study.figures import learning_figure, proportion_figures
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.results import (
    NOT_RECORDED,
    Value,
    cost_table,
    count_complete,
    finished_models,
    read_values,
    training_devices,
    training_versions,
)
from nnunet_partial.study.state import (
    check_results,
    describe_unfinished,
    linked_sources,
    step_states,
    unfinished_models,
)
from nnunet_partial.study.steps import models
from nnunet_partial.study.tables import false_positives_by_method, scenario_tables, table_note
from nnunet_partial.utils.files import write_text
from nnunet_partial.utils.text import format_names
from nnunet_partial.utils.versions import versions


def write_report(study: Study, file: Path, output: Path, form: str) -> None:
    """Write the report of what has finished so far. It names what has not.

    The figures of an HTML report are also written as files into the folder NAME_figures beside it.

    Args:
        study: The study.
        file: Path of study.yaml.
        output: Path of the report.
        form: "html", "md", "latex" or "csv".

    Raises:
        PartialLabelError: If no model has finished, or results rest on other settings.
    """
    gone = check_results(study)
    values = read_values(study)
    false_positives = false_positives_by_method(study, values)
    tables = [*scenario_tables(study, values, _classes(study, values)), *filter(None, [false_positives])]
    sources = {name: path for name, path in linked_sources(study).items() if path is not None}
    note = table_note(*count_complete(values, sources))
    costs, facts = cost_table(study), _facts(study)
    if gone:
        facts.append(("no longer there, so not compared", format_names(gone)))
    if form == "html":
        write_text(output, page_html(_page(study, file, facts, note, values, tables, costs, output)))
        return
    all_tables = [*tables, *([costs] if costs else [])]
    if form == "csv":
        write_text(output, "\n".join(f"# {table.caption}\n{to_csv(table)}" for table in all_tables))
    elif form == "latex":
        labeled = (to_latex(table, f"tab:{study.name}-{number}") for number, table in enumerate(all_tables, start=1))
        write_text(output, "\n".join([r"% \usepackage{booktabs,graphicx}", *labeled]))
    else:
        write_text(output, _markdown(study, file, facts, note, all_tables))


def _markdown(study: Study, file: Path, facts: Sequence[tuple[str, str]], note: str, tables: Sequence[Table]) -> str:
    listing = [f"- {name}: {value}" for name, value in facts]
    lines = [f"# {study.name}", "", f"    {_command(file)}", "", *listing, ""]
    unfinished = unfinished_models(study)
    if unfinished:
        lines += [f"Not run, or not finished ({len(unfinished)} of {len(list(models(study)))} models):", ""]
        lines += [*(f"- {line}" for line in describe_unfinished(study, unfinished)), ""]
    return "\n".join([*lines, note, ""]) + "\n" + "\n".join(to_markdown(table) for table in tables)


def _page(
    study: Study,
    file: Path,
    facts: Sequence[tuple[str, str]],
    note: str,
    values: Sequence[Value],
    tables: Sequence[Table],
    costs: Table | None,
    output: Path,
) -> Page:
    saved_figures = [*proportion_figures(study, values), *filter(None, [learning_figure(study)])]
    folder = output.with_name(f"{output.stem}_figures")
    remove_old_figures(folder)
    figures = [saved.save(folder) for saved in saved_figures]
    unfinished = unfinished_models(study)
    unfinished_blocks: list[Block] = [
        Paragraph(
            f"{len(unfinished)} of {len(list(models(study)))} models have not finished and are in no table:", "warning"
        ),
        BulletList(describe_unfinished(study, unfinished)),
    ]
    return Page(
        f"Study {study.name}",
        "Losses for partially labeled data, compared on test patients that no network was trained on.",
        [
            *([Section("Not finished", unfinished_blocks)] if unfinished else []),
            Section("Dice, scenario by scenario", [Paragraph(note), *tables]),
            *([Section("Figures", figures)] if figures else []),
            *([Section("Time and memory", [costs])] if costs else []),
            Section("How it was made", [KeyValues(facts), Code([_command(file)])]),
        ],
        footer=f"nnunet-partial, {time.strftime('%Y-%m-%d %H:%M')}",
    )


def _facts(study: Study) -> list[tuple[str, str]]:
    states, planned = step_states(study), StudyFolder(study.folder).planned_workflow()
    network = study.network
    small = f", features {network.features}, patch {network.patch}, batch {network.batch}" if network else ""
    devices = " and ".join(sorted(training_devices(study))) or study.device
    length = f"{study.epochs} epochs" + (f" of {study.iterations} iterations" if study.iterations else "")
    return [
        ("models finished", f"{len(finished_models(study))} of {len(list(models(study)))}"),
        ("steps done", f"{[*states.values()].count('done')} of {len(states)}"),
        ("trainings", f"{length}, configuration {study.configuration}{small}, on {devices}"),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("folds", _about_domains(study) if study.by_domain else ", ".join(map(str, study.folds))),
        *(("not measured", note) for note in planned.get("test_notes", [])),
        *(("patients", note) for note in planned.get("patient_notes", [])),
        *_version_facts(study),
    ]


def _version_facts(study: Study) -> list[tuple[str, str]]:
    """Return with which versions the trainings ran, and of which packages these differ."""
    trained = training_versions(study)
    differing = [name for name, counts in trained.items() if len(counts.keys() - {NOT_RECORDED}) > 1]
    facts = [("versions differ between trainings", format_names(differing))] if differing else []
    for name, counts in trained.items():
        many = [f"{version} ({number} training{'s' if number > 1 else ''})" for version, number in counts.items()]
        facts.append((name, ", ".join(many) if len(counts) > 1 else next(iter(counts))))
    return [*facts, ("report written by", f"nnunet-partial {versions()['nnunet-partial']}")]


def _about_domains(study: Study) -> str:
    notes: list[str] = StudyFolder(study.folder).planned_workflow().get("fold_notes") or []
    each = "by domain: test cases are predicted by the fold that was trained on all domains but theirs"
    return "; ".join([each, *notes])


def _classes(study: Study, values: Sequence[Value]) -> list[str]:
    """List the structures in the order of the networks' outputs."""
    folder = StudyFolder(study.folder).raw
    ordered = [
        name for path in sorted(folder.glob("Dataset*")) if path.is_dir() for name in RawDataset(path).structures
    ]
    return list(dict.fromkeys([*ordered, *(value.structure for value in values)]))


def _command(file: Path) -> str:
    return f"nnunet_partial study run {shlex.quote(file.name)}"
