"""`nnunet_partial report`, as a user calls it: what is in page, pictures and tables, and what is said to be missing.

Which case is shown, which number is bold, which cases know what: small examples that can be counted by hand.
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from html import unescape
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from helpers.evaluated_dataset import (
    ABSENT,
    CLASSES,
    FULL,
    HOSTILE,
    MODELS,
    OURS,
    PLAIN,
    Story,
    case_name,
    draw,
    evaluate,
)
from matplotlib.image import imread

from nnunet_partial.cli import main
from nnunet_partial.dataset.summary import AnnotationCount, annotation_counts
from nnunet_partial.evaluation.console import stars
from nnunet_partial.evaluation.metrics import METRICS
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.report.annotation_matrix import draw_annotation_matrix
from nnunet_partial.report.boxplots import draw_boxes
from nnunet_partial.report.evaluation_report import ReportFigures, evaluation_page
from nnunet_partial.report.evaluation_tables import agreement_tables, comparison_table, rank_table
from nnunet_partial.report.figure_style import file_name
from nnunet_partial.report.formatting import decimal, interval
from nnunet_partial.report.html import page_html
from nnunet_partial.report.overlays import read_slice, select_cases
from nnunet_partial.report.results import Results, read_results
from nnunet_partial.report.training_info import training_info
from nnunet_partial.utils.colors import COLORS, EXTRA_COLORS, class_colors

pytestmark = pytest.mark.slow


def text_of(story: Story) -> str:
    """The page as it is read."""
    return as_read((story.results / "report.html").read_text())


def as_read(html: str) -> str:
    """Without tags, styles and pictures."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def without_pictures(story: Story) -> str:
    """The page as it is read, made without drawing, which takes long."""
    results = read_results(story.results)
    trained = [training_info(folder, story.dataset.parent) for folder in results.models.values()]
    return as_read(page_html(evaluation_page(results, trained, ReportFigures(), Path("report.html"))))


def section(text: str, title: str, until: str) -> str:
    """What stands under a heading; the contents list each title once before."""
    return text.split(title, 2)[2].split(until)[0]


def rows_of(story: Story, name: str) -> list[dict[str, str]]:
    with (story.results / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ---- the page --------------------------------------------------------------------------------------------------------


def test_numbers_in_the_page_are_those_of_the_tables(reported: Story) -> None:
    agreement = section(text_of(reported), "Agreement with the reference", "Model comparison")
    rows = [row for row in rows_of(reported, "summary") if row["metric"] == "dice" and row["mean"]]
    assert len(rows) > 12
    for row in rows:
        assert f"{row['n_cases']} ({row['n_patients']}) {float(row['mean']):.3f}" in agreement
        assert (row["ci95_low"] == "") == (int(row["n_patients"]) < 5)
    whole = [row for row in rows if row["ci95_low"]]
    assert {row["domain"] for row in whole} == {"(all)"}  # a domain has three patients
    for row in whole:
        assert f"[{float(row['ci95_low']):.3f}, {float(row['ci95_high']):.3f}]\N{DAGGER}" in agreement


def test_what_nobody_annotated_has_no_number_and_is_said_to_be_unknown(reported: Story) -> None:
    text = text_of(reported)
    hostile = section(text, "Agreement with the reference", "Model comparison").split(f"Domain {HOSTILE}")[1]
    hostile = hostile.split("Domain camus")[0]
    assert " LV " in hostile
    assert not re.search(" (MYO|LA) ", hostile)
    assert re.search(f"{PLAIN}: in {re.escape(HOSTILE)}, MYO [^.]*not predicted [^.]* 6 of 6 ", text)
    images = re.findall(r'alt="([^"]*)"', (reported.results / "report.html").read_text())
    assert any(f"{HOSTILE}: LV 6 annotated, MYO 6 unknown, LA 6 unknown" in unescape(alt) for alt in images)
    assert any(f"{ABSENT}: LV 6 annotated, MYO 6 annotated, LA 6 absent" in unescape(alt) for alt in images)


def test_false_positives_are_counted_where_a_structure_is_known_absent(story: Story) -> None:
    with (story.results / "per_case.csv").open(newline="") as file:
        content = file.read()
    row = f"{OURS},{case_name(ABSENT, 0, 'ED')},"
    line = next(line for line in content.splitlines() if line.startswith(row) and ",absent," in line)
    (story.results / "per_case.csv").write_text(
        content.replace(line, line.replace("correctly empty", "false positive"))
    )
    text = section(without_pictures(story), "False positives", "Hardest cases")
    assert f"{ABSENT} LA {OURS} 6 1 ted_0_ED" in text


@pytest.mark.usefixtures("empty_figures")
def test_figures_that_are_not_independent_are_called_so(story: Story) -> None:
    assert "not independent" not in (story.results / "report.html").read_text()
    file = story.results / "evaluation.json"
    about = json.loads(file.read_text())
    file.write_text(
        json.dumps({**about, "not_independent": {next(iter(about["models"])): 3}, "cautions": ["too good"]})
    )
    assert main(["report", str(story.results)]) == 0
    assert "not independent" in (story.results / "report.html").read_text()
    assert "too good." in (story.results / "report.html").read_text()


def test_commands_and_versions_to_repeat_it(reported: Story) -> None:
    text = section(text_of(reported), "How to reproduce this report", "Created by")
    evaluate_again = f"nnunet_partial evaluate -d Dataset510_Echo --ref {reported.dataset}/labelsTs --pred"
    assert evaluate_again in text
    assert f"'{OURS}={reported.root}/{OURS}'" in text  # quoted as a shell needs it
    for program in ("nnunet-partial", "nnunetv2", "torch", "numpy", "scipy"):
        assert re.search(rf"{program} \d+\.\d+\S* \d+\.\d+", text)


def test_biomarkers_with_their_plots(reported: Story) -> None:
    text = section(text_of(reported), "Biomarkers", "Warning signs")
    row = next(row for row in rows_of(reported, "biomarker_agreement") if row["domain"] == FULL)
    assert f"{float(row['mean_reference']):.1f} {float(row['mean_prediction']):.1f}" in text
    assert list((reported.results / "figures").glob("bland_altman_EDV_*.pdf"))


def test_what_was_trained_on_what(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    training = story.root / "preprocessed" / "Dataset777_Both"
    training.mkdir(parents=True)
    cases = {"a": {"annotated": CLASSES, "domain": "A"}, "b": {"annotated": ["LV"], "absent": ["LA"], "domain": "B"}}
    (training / "partial_labels.json").write_text(json.dumps({"version": 1, "groups": [], "cases": cases}))
    (training / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    trained = story.root / "nnUNetTrainerMarginal__nnUNetPlans__2d"
    predictions = trained / "fold_0" / "validation"
    shutil.move(story.root / OURS, predictions)
    about = json.loads((story.results / "evaluation.json").read_text())
    about["models"][OURS] = str(predictions)
    (story.results / "evaluation.json").write_text(json.dumps(about))
    shutil.copy(story.dataset / "dataset.json", trained / "dataset.json")
    (trained / "plans.json").write_text('{"dataset_name": "Dataset777_Both"}')
    monkeypatch.setenv("nnUNet_preprocessed", str(training.parent))
    text = section(without_pictures(story), "Training data: who annotated what", "Agreement with")
    assert "not known: no plans.json" in text  # the other model
    assert "Dataset777_Both trainer nnUNetTrainerMarginal plans nnUNetPlans configuration 2d" in text
    assert "A 1 1 annotated 1 annotated 1 annotated B 1 1 annotated 1 unknown 1 absent" in text


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_every_picture_is_there_for_screen_and_print(reported: Story) -> None:
    pictures = reported.results / "figures"
    names = {path.stem for path in pictures.glob("*.png")}
    assert names == {path.stem for path in pictures.glob("*.pdf")}
    overlays = {name for name in names if name.startswith("overlay")}
    assert len(overlays) == 6  # three structures of one domain, one and two of the others
    assert {"boxplot_dice", "boxplot_hd95_mm", "annotations_evaluation"} <= names
    assert all(path.read_bytes()[:4] == b"%PDF" for path in pictures.glob("*.pdf"))
    assert (reported.results / "report.html").read_text().count("<img ") == len(names)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("bland_altman", "EF", "%", "reported by dataset"), "bland_altman_EF_percent_reported-by-dataset"),
        (("bland_altman", "EF", "%", ""), "bland_altman_EF_percent"),
        (("overlay", "../site A.b", "LV"), "overlay_site-A-b_LV"),
        (("overlay", "|$", "LV"), "overlay_unnamed_LV"),
    ],
)
def test_names_of_picture_files_are_plain(parts: tuple[str, ...], name: str) -> None:
    assert file_name(*parts) == name


def test_an_overlay_shows_structures_in_their_colors(reported: Story) -> None:
    pixels = imread(reported.results / "figures" / f"overlay_{FULL}_MYO.png")[..., :3]
    for color in ("#56B4E9", "#E69F00", "#CC79A7"):
        rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (abs(pixels - rgb).max(-1) < 0.02).sum() > 200


def test_of_a_volume_the_slice_with_most_of_the_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(tmp_path)
    draw(story, patients=2, size=48, slices=5)
    monkeypatch.setenv("nnUNet_raw", str(story.dataset.parent))
    evaluate(story)
    shown = read_slice(read_results(story.results), case_name(FULL, 0, "ED"), [CLASSES.index("LA") + 1])
    assert not isinstance(shown, str)
    assert (shown.position, shown.reference.shape, shown.aspect) == ("slice 4 of 5", (48, 48), 1.0)
    assert shown.image is not None
    assert (float(shown.image.min()), float(shown.image.max())) == (0.0, 1.0)
    assert list(shown.problems) == []


# ---- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_figures")
def test_images_and_predictions_that_are_gone_are_named(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = story.results / "figures"
    for name in ("overlay_old_LV.png", "mine.png"):
        (pictures / name).write_text("")
    shutil.rmtree(story.dataset / "imagesTs")
    shutil.rmtree(story.root / PLAIN)
    for name in ("biomarkers", "biomarker_agreement"):  # there need not be any
        (story.results / f"{name}.csv").unlink()
    assert main(["report", str(story.results)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"Missing figure: camus_\d_E[DS]: the image cannot", said)
    assert re.search(rf"Missing figure: camus_\d_E[DS]: .* of {PLAIN} cannot", said)
    assert "Biomarkers" not in text_of(story)
    text = section(text_of(story), "Not evaluated", "How to reproduce this report")
    assert "the numbers are not affected" in text
    assert f"the prediction of {PLAIN} cannot be read" in text
    assert len(list(pictures.glob("overlay_*.png"))) == 6  # what is left is drawn; an older report's are gone
    assert (pictures / "mine.png").exists()


@pytest.mark.usefixtures("empty_figures")
def test_without_reference_and_manifest_the_numbers_are_reported(story: Story) -> None:
    shutil.rmtree(story.dataset)
    assert main(["report", str(story.results)]) == 1
    text = text_of(story)
    assert "no overlays:" in text
    assert "Domain camus: mean over known structures" in text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("per_case.csv", None, r"no per_case\.csv; .*`nnunet_partial evaluate"),
        ("summary.csv", None, r"summary\.csv does not exist"),
        ("evaluation.json", None, r"evaluation\.json does not exist"),
        ("evaluation.json", ("reference", "x"), r"evaluation\.json lacks reference"),
        ("evaluation.json", ("}", ""), "is not valid JSON"),
        ("per_case.csv", (",outcome,", ",result,"), r"per_case\.csv has no column outcome"),
        ("per_case.csv", ("cm2", "cm2,more"), r"per_case\.csv, line 2: .* fields"),
        ("summary.csv", ("dice,,cases,0.", "dice,,cases,zero."), r"summary\.csv, line 2: could not convert"),
        ("ranks.csv", ("mean_rank", "rank"), r"ranks\.csv has no column mean_rank"),
    ],
)
def test_a_folder_that_is_not_whole_is_named(
    reported: Story,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    change: tuple[str, str] | None,
    message: str,
) -> None:
    folder = tmp_path / "results"
    shutil.copytree(reported.results, folder, ignore=shutil.ignore_patterns("figures", *MODELS))
    if change is None:
        (folder / file).unlink()
    else:
        content = (folder / file).read_text()
        assert change[0] in content
        (folder / file).write_text(content.replace(*change))
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (folder / "report.html").exists()


# ---- tables for a paper ----------------------------------------------------------------------------------------------


def test_tables_as_markdown_and_latex(reported: Story, tmp_path: Path) -> None:
    for name, ending in (("md", "md"), ("latex", "tex")):
        file = tmp_path / f"tables.{ending}"
        assert main(["report", str(reported.results), "--format", name, "-o", str(file)]) == 0
    markdown, tex = ((tmp_path / f"tables.{ending}").read_text() for ending in ("md", "tex"))
    row = next(
        r for r in rows_of(reported, "summary") if (r["domain"], r["class"], r["metric"]) == (FULL, "LV", "dice")
    )
    mean = f"{float(row['mean']):.3f}"
    assert f"| LV | naive | 6 (3) | {mean} |" in markdown
    assert r"]$\dagger$" in tex  # all domains together: nine patients
    assert f"LV & naive & 6 (3) & {mean} &" in tex
    assert tex.count(r"\begin{table}") == tex.count(r"\bottomrule") > 8
    assert r"m$<$b$>$\_\%" in tex
    assert not [case for case in (case_name(d, p, "ED") for d in (FULL, ABSENT) for p in range(3)) if case in tex]
    assert "<script" not in markdown.replace(r"\<script", "")
    assert not re.search(r"(?<!\\)[%&]", re.sub(r" & | & ?|&  &|^%.*$|(?<=[{}])%$", "", tex, flags=re.MULTILINE))


def results(models: str = "a b", **tables: Any) -> Results:
    empty: dict[str, Any] = dict.fromkeys(
        ("per_case", "summary", "warning_signs", "comparisons", "ranks", "biomarkers", "agreement"), ()
    )
    where = {name: Path(name) for name in models.split()}
    return Results(Path(), Path(), Path(), ".nii.gz", where, ["LV"], [], {}, **{**empty, **tables})


def measured(model: str, case: str, dice: float | str, outcome: str = "found", **more: str) -> dict[str, str]:
    row = dict.fromkeys(METRICS, "") | {"model": model, "case": case, "domain": "x", "class": "LV", "outcome": outcome}
    return row | {"dice": str(dice), "distance_unit": "mm", **more}


def summarized(model: str, **numbers: str) -> list[dict[str, str]]:
    """Four rows of summary.csv: Dice, surface Dice, HD95 and ASSD with the same numbers but for Dice and HD95."""
    common = dict.fromkeys(("mean", "ci95_low", "ci95_high"), "1") | {"n_infinite": "0", "n_values": "4"}
    common |= {"n_cases": "4", "n_patients": "20", "n_evaluated": "4", "n_missed": "0", "n_false_positive": "0"}
    return [
        {"model": model, "domain": "x", "class": "LV", "metric": metric, "unit": unit, **common}
        | {key.removeprefix(f"{metric}_"): value for key, value in numbers.items() if key.startswith(f"{metric}_")}
        for metric, unit in (("dice", ""), ("surface_dice", "2 mm"), ("hd95", "mm"), ("assd", "mm"))
    ]


def cells(*rows: list[dict[str, str]], **more: Any) -> dict[str, list[Any]]:
    """The columns of the one table, by name."""
    (table,) = agreement_tables(results(per_case=[measured("a", "c", 1)], summary=[*chain(*rows)], **more))
    return {name: [row[column] for row in table.cells] for column, name in enumerate(table.head)}


def test_worst_middle_and_best_case_by_the_mean_of_all_models() -> None:
    dice = {"c1": (0.9, 0.1), "c2": (0.6, 0.6), "c3": (0.9, 0.8), "c4": (0.7, 0.6)}  # means 0.5, 0.6, 0.85, 0.65
    rows = [measured(m, case, d) for case, both in dice.items() for m, d in zip("ab", both, strict=True)]
    rows.append(measured("a", "c5", 0.0))  # b has no prediction of it
    rows += [measured(m, "c6", "", "correctly empty") for m in "ab"]
    rows += [measured(m, "c7", 0.0, "false positive") for m in "ab"]  # shows no LV: nothing to see of its outline
    (chosen,) = select_cases(results(per_case=rows))
    assert chosen.cases == {"worst": "c1", "median": "c2", "best": "c3"}  # of the two in the middle the lower
    assert (chosen.n, chosen.dice["b", "c1"]) == (4, 0.1)


@pytest.mark.parametrize(
    ("cases", "shown"), [(["c1"], ["worst"]), (["c1", "c2"], ["worst", "best"]), (["c1", "c2", "c3"], 3 * [""])]
)
def test_few_cases_are_shown_once_each(cases: list[str], shown: list[str]) -> None:
    rows = [measured("a", case, 0.5) for case in cases]
    (chosen,) = select_cases(results("a", per_case=rows))
    assert len(chosen.cases) == len(shown)
    assert sorted(chosen.cases.values()) == cases


def against(better: str, metric: str = "dice", unit: str = "", **more: str) -> dict[str, str]:
    """A row of comparisons.csv: a against b."""
    numbers = dict.fromkeys(("mean_a", "mean_b", "rank_biserial", "n_patients", "n_differ", "n_tests"), "1")
    row = {"metric": metric, "unit": unit, "domain": "x", "class": "LV", "model_a": "a", "model_b": "b"}
    return row | numbers | {"better": better, "p_holm": "0.04" if better else "1"} | more


def test_the_best_mean_is_bold_only_where_it_is_better_than_every_other() -> None:
    rows = summarized("a", dice_mean="0.9"), summarized("b", dice_mean="0.8")
    for better, bold in (("a", True), ("b", False), ("", False)):
        dice = cells(*rows, comparisons=[against(better)])["Dice"]
        assert [(cell.text, cell.best, cell.mark) for cell in dice] == [("0.900", bold, ""), ("0.800", False, "")]
    assert [cell.best for cell in cells(*rows)["Dice"]] == [False, False]  # not tested
    c = summarized("c", dice_mean="0.7")
    both = [against("a"), against("a", model_b="c"), against("", model_a="b", model_b="c")]
    for comparisons, bold in ((both, True), ([both[0], against("", model_b="c"), both[2]], False)):
        dice = cells(*rows, c, models="a b c", comparisons=comparisons)["Dice"]
        assert [cell.best for cell in dice] == [bold, False, False]


def test_in_tests_and_ranks_bold_is_who_is_called_better() -> None:
    """The lower mean of the better ranks is not bold where its p is 1."""
    ranks = [
        {"metric": "dice", "unit": "", "domain": "x", "class": "LV", "model": model, "n_patients": "5"}
        | {"mean_rank": mean_rank, "rank": place}
        for model, mean_rank, place in (("a", "1.4", "1"), ("b", "1.6", "2"))
    ]
    for better in ("a", ""):
        found = results(comparisons=[against(better, mean_a="0.69", mean_b="0.8", rank_biserial="0.2")], ranks=ranks)
        (row,) = comparison_table(found, "dice", 3).cells
        assert [(cell.text, cell.best) for cell in row[3:6]] == [
            ("0.690", better == "a"), ("0.800", False), ("+0.20", False),
        ]  # fmt: skip
        (row,) = rank_table(found, "dice").cells
        assert [(cell.text, cell.best) for cell in row[3:]] == [("1.40", better == "a"), ("1.60", False)]


def test_a_p_just_below_the_level_shows_it() -> None:
    (row,) = comparison_table(results(comparisons=[against("a", p_holm="0.0496")]), "dice", 3).cells
    assert (row[6].text, row[6].mark) == ("0.0496", "*")


def test_a_fine_distance_of_who_missed_a_case_is_not_bold() -> None:
    a = summarized("a", hd95_mean="2", hd95_n_infinite="1", hd95_n_values="3")
    for better, bold in (("b", [False, True]), ("a", [False, False])):
        hd95 = cells(a, summarized("b", hd95_mean="5"), comparisons=[against(better, "hd95", "mm")])["HD95 (mm)"]
        assert [(cell.text, cell.best) for cell in hd95] == list(zip(("2.00", "5.00"), bold, strict=True))
        assert hd95[0].more == "[1.00, 1.00]\n(n = 3)"  # Dice has 4
    b = summarized("b", hd95_mean="5", hd95_n_infinite="1")
    both = cells(a, b, comparisons=[against("a", "hd95", "mm")])["HD95 (mm)"]
    assert [cell.best for cell in both] == [False, False]


@pytest.mark.parametrize("other", [{"dice_mean": "0.9"}, {"dice_mean": "0.8", "dice_n_evaluated": "3"}])
def test_nothing_is_bold_where_models_are_equal_or_saw_different_cases(other: dict[str, str]) -> None:
    dice = cells(summarized("a", dice_mean="0.9"), summarized("b", **other), comparisons=[against("a")])["Dice"]
    assert [cell.best for cell in dice] == [False, False]


def test_an_interval_of_few_patients_is_marked() -> None:
    for patients, more in (("19", "[1.000, 1.000]\N{DAGGER}"), ("20", "[1.000, 1.000]")):
        (dice,) = cells(summarized("a", dice_n_patients=patients))["Dice"]
        assert dice.more == more
    (dice,) = cells(summarized("a", dice_n_patients="4", dice_ci95_low="", dice_ci95_high=""))["Dice"]
    assert dice.more == ""


def test_units_are_told_apart_in_every_table() -> None:
    """Surface Dice at 2 mm in one domain, at 2 pixels in another: two numbers over both."""
    rows = summarized("a", surface_dice_mean="0.9")
    (row,) = [row for row in rows if row["metric"] == "surface_dice"]
    rows.append(row | {"unit": "2 pixels", "mean": "0.4"})
    column = cells(rows)["surface Dice"]
    assert [cell.text for cell in column] == ["0.900 (2 mm) / 0.400 (2 pixels)"]
    assert cells(summarized("a"))["surface Dice (2 mm)"][0].text == "1.000"
    where = {"domain": "(all)", "metric": "surface_dice", "class": "LV", "n_patients": "5", "rank": "1"}
    units = ("2 mm", "2 pixels")
    ranks = [where | {"unit": u, "model": m, "mean_rank": "1.5"} for u in units for m in "ab"]
    found = results(ranks=ranks, comparisons=[against("", "surface_dice", unit, domain="(all)") for unit in units])
    assert [[cell.text for cell in row] for row in rank_table(found, "surface_dice").cells] == [
        ["(all)", "LV", unit, "5", "1.50", "1.50"] for unit in units
    ]
    assert [row[3].text for row in comparison_table(found, "surface_dice", 3).cells] == [
        "1.000 (2 mm)",
        "1.000 (2 pixels)",
    ]


def test_the_overall_mean_is_labeled_as_that_over_all_pairs() -> None:
    names = ("LV", "LA", "(all)")
    rows = [row | {"class": name} for name in names for row in summarized("a", dice_n_evaluated=name[:2])]
    assert [cell.text for cell in cells(rows)["structure"]] == ["LV", "LA", "(all pairs)"]


def test_a_false_positive_is_not_better_than_rightly_nothing() -> None:
    """Four cases known not to show it: a predicts it in one (Dice 0), b in none (no Dice, no distance)."""
    a = summarized("a", dice_mean="0", hd95_mean="", hd95_n_infinite="1")
    b = summarized("b", dice_mean="", dice_n_cases="0", hd95_mean="")
    found = cells(a, b, comparisons=[against("a"), against("a", "hd95", "mm")])
    assert [(cell.text, cell.best) for cell in found["Dice"]] == [("0.000", False), ("\N{EN DASH}", False)]
    assert [cell.best for cell in found["HD95 (mm)"]] == [False, False]


def test_one_model_has_nothing_to_be_better_than() -> None:
    (dice,) = cells(summarized("a", dice_mean=""))["Dice"]
    assert (dice.text, dice.best) == ("\N{EN DASH}", False)


def test_unknown_absent_and_annotated_are_counted_apart() -> None:
    manifest = Manifest(
        {
            "1": CaseLabels(("LV", "MYO"), domain="x"),
            "2": CaseLabels(("LV",), ("MYO",), domain="x"),
            "3": CaseLabels(("LV",), domain="x"),
            "4": CaseLabels((), domain="y"),
        }
    )
    known = annotation_counts(manifest, ["LV", "MYO"], ["1", "2", "3", "4", "not in it"])
    assert known == {
        "x": {"LV": AnnotationCount(3), "MYO": AnnotationCount(1, 1, 1)},
        "y": {"LV": AnnotationCount(0, 0, 1), "MYO": AnnotationCount(0, 0, 1)},
    }
    assert known["x"]["MYO"].text == "1 annotated, 1 absent, 1 unknown"
    assert annotation_counts(manifest, ["LV"], []) == {}


def test_boxes_tell_unknown_from_known_without_a_value() -> None:
    rows = [measured("a", "c1", 0.5), measured("a", "c2", 1.0), measured("a", "c3", "", "correctly empty", domain="y")]
    assert draw_boxes(results("a", per_case=rows[2:]), "dice", "") is None
    rows += [measured("a", f"c{d}", 0.2, domain=d) | {"class": "LA"} for d in "yz"]
    picture = draw_boxes(replace(results("a", per_case=rows), classes=["LV", "LA"]), "dice", "")
    assert picture is not None
    of_lv, of_la = ([tick.get_text() for tick in axes.get_xticklabels()] for axes in picture.figure.axes)
    assert of_lv == ["x\nn = 2", "y\nn = 0", "z\nunknown"]
    assert of_la == ["x\nunknown", "y\nn = 1", "z\nn = 1"]
    assert "LV, x, a: median 0.75 of 2" in picture.alt


def test_every_value_lies_within_the_boxes_axes() -> None:
    rows = [measured(m, f"c{i}", d) for m in "ab" for i, d in enumerate((0.1, 0.5, 1.0))]
    row = {
        "metric": "dice",
        "unit": "",
        "domain": "x",
        "class": "LV",
        "model_a": "a",
        "model_b": "b",
        "p_holm": "0.002",
    }
    picture = draw_boxes(results(per_case=rows, comparisons=[row]), "dice", "")
    assert picture is not None
    low, high = picture.figure.axes[0].get_ylim()
    assert low < 0.1
    assert high > 1.05  # the bracket is above the highest value
    assert [text.get_text() for text in picture.figure.axes[0].texts] == ["**"]


def test_the_project_s_structures_keep_their_colors() -> None:
    assert class_colors(["RV", "LV"]) == {"RV": COLORS["RV"], "LV": COLORS["LV"]}
    assert class_colors(["tumour", "LV", "cyst"]) == {
        "tumour": EXTRA_COLORS[0],
        "LV": COLORS["LV"],
        "cyst": EXTRA_COLORS[1],
    }
    many = class_colors([str(number) for number in range(9)])
    assert many["7"] == many["0"] == EXTRA_COLORS[0]
    assert not set(EXTRA_COLORS) & set(COLORS.values())


def test_numbers_as_they_are_printed() -> None:
    assert (decimal(-0.0004, 3), decimal(math.nan, 2), decimal(math.inf, 2)) == ("0.000", "\N{EN DASH}", "inf")
    assert (interval(0.9, 0.95, 2, 20), interval(math.nan, math.nan, 2, 4)) == ("[0.90, 0.95]", "")
    assert [stars(p) for p in (0.0009, 0.001, 0.01, 0.05, math.nan)] == ["***", "**", "*", "", ""]


def test_two_names_that_no_file_can_tell_apart_get_a_file_each(tmp_path: Path) -> None:
    shares = {"x": {"LV": AnnotationCount(1)}}
    for name in ("a/b", "a?b"):
        draw_annotation_matrix(shares, ["LV"], name, "Cases").save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("annotations_a-b-2.pdf", "annotations_a-b-2.png", "annotations_a-b.pdf", "annotations_a-b.png"),
    ]


def test_a_name_in_another_script_or_with_a_formula_is_drawn(tmp_path: Path) -> None:
    figure = draw_annotation_matrix(
        {"$\\alpha_{": {"\u5fc3": AnnotationCount(1, 2, 3)}}, ["\u5fc3"], "x", "Cases"
    ).save(tmp_path)
    assert figure.alt == "Cases: $\\alpha_{: \u5fc3 1 annotated, 2 absent, 3 unknown"
