"""`nnunet_partial report`, as a user calls it: what is in page, pictures and tables, and what is said to be missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from matplotlib.image import imread

from nnunet_partial.cli import main
from nnunet_partial.report.evaluation_report import ReportFigures, evaluation_page
from nnunet_partial.report.figure_style import file_name
from nnunet_partial.report.html import page_html
from nnunet_partial.report.overlays import read_slice
from nnunet_partial.report.results import read_results
from nnunet_partial.report.training_info import training_info

from .story import ABSENT, CLASSES, FULL, HOSTILE, MODELS, OURS, PLAIN, Story, case_name, draw, evaluate


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


def test_an_overlay_shows_structures_in_their_colours(reported: Story) -> None:
    pixels = imread(reported.results / "figures" / f"overlay_{FULL}_MYO.png")[..., :3]
    for colour in ("#56B4E9", "#E69F00", "#CC79A7"):
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (abs(pixels - rgb).max(-1) < 0.02).sum() > 200


def test_of_a_volume_the_slice_with_most_of_the_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(tmp_path)
    draw(story, patients=2, size=48, slices=5)
    monkeypatch.setenv("nnUNet_raw", str(story.dataset.parent))
    evaluate(story)
    shown = read_slice(read_results(story.results), case_name(FULL, 0, "ED"), CLASSES.index("LA") + 1)
    assert not isinstance(shown, str)
    assert (shown.position, shown.reference.shape, shown.aspect) == ("slice 4 of 5", (48, 48), 1.0)
    assert shown.image is not None
    assert (float(shown.image.min()), float(shown.image.max())) == (0.0, 1.0)
    assert list(shown.problems) == []


# ---- what is missing -------------------------------------------------------------------------------------------------


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
    assert re.search(r"Not drawn: camus_\d_E[DS]: the image cannot", said)
    assert re.search(rf"Not drawn: camus_\d_E[DS]: .* of {PLAIN} cannot", said)
    assert "Biomarkers" not in text_of(story)
    text = section(text_of(story), "Not evaluated", "How to reproduce this report")
    assert "the numbers are not affected" in text
    assert f"the prediction of {PLAIN} cannot be read" in text
    assert len(list(pictures.glob("overlay_*.png"))) == 6  # what is left is drawn; an older report's are gone
    assert (pictures / "mine.png").exists()


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
