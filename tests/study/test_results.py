"""The tables of a study, from evaluation files whose means and tests can be worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.metrics import CORRECTLY_EMPTY, FALSE_POSITIVE, FOUND
from nnunet_partial.evaluation.results import PER_CASE_COLUMNS
from nnunet_partial.report.tables import Cell
from nnunet_partial.study.config import Study
from nnunet_partial.study.figures import proportion_figures
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.results import compare, cost_table, describe_dice, learning_curves, read_values, seed_means
from nnunet_partial.study.runner import _reset_incomplete_models
from nnunet_partial.study.state import step_state
from nnunet_partial.study.steps import models
from nnunet_partial.study.tables import false_positives_by_method, scenario_tables
from nnunet_partial.utils.tables import write_csv

STUDY = """\
name: small
datasets: {toy: 701}
scenarios:
  - {from: toy, domain: a, missing: [MYO]}
  - {from: toy, domain: a, missing: [MYO], fraction: 0.5}
losses: [naive, marginal]
seeds: [0, 1]
folds: [0]
"""
NAMES = ("toy-a-without-MYO", "toy-a-without-MYO-50")


def study_of(tmp_path: Path) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    return Study.read(file)


def evaluated(study: Study, model: str, dice: dict[str, float | None]) -> None:
    """One test case for each of the patients, of whom MYO is measured; fold 0 was trained."""
    folder = StudyFolder(study.folder)
    folder.evaluation(model).mkdir(parents=True, exist_ok=True)
    rows = [
        {"domain": "a", "patient": p, "case": f"{p}_ED", "class": "MYO", "dice": math.nan if d is None else d}
        for p, d in dice.items()
    ]
    write_csv(folder.evaluation(model) / "per_case.csv", rows, PER_CASE_COLUMNS)
    for step in (f"train/{model}/fold0", f"predict/{model}", f"evaluate/{model}"):
        folder.done(step).parent.mkdir(parents=True, exist_ok=True)
        folder.done(step).write_text("0\n" if step.startswith("predict/") else "")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Ten patients. naive: 0 throughout. marginal: seed 0 0.6, seed 1 0.8; the tenth patient has no value."""
    study = study_of(tmp_path)
    patients = [f"p{number}" for number in range(10)]
    for seed, dice in ((0, 0.6), (1, 0.8)):
        evaluated(study, f"{NAMES[0]}/naive/plain/seed{seed}", dict.fromkeys(patients, 0.0))
        evaluated(study, f"{NAMES[0]}/marginal/plain/seed{seed}", {**dict.fromkeys(patients, dice), "p9": None})
    return study


@pytest.mark.slow
def test_means_seeds_and_stars(study: Study) -> None:
    values = read_values(study)
    (table,) = scenario_tables(study, values, ["LV", "MYO"])
    assert table.head == ["loss", "seeds", "a MYO (hidden)"]
    naive, marginal = table.cells
    assert [cell.text for cell in naive] == ["naive (unlabeled = background)", "2", "0.000"]
    # ten patients, Wilcoxon: all ten differences have one sign, p = 2 / 2^10 = 0.002
    assert naive[2].mark == "*"
    assert marginal[2] == Cell("0.700", best=True, more="[0.700, 0.700]\N{DAGGER} (0.600-0.800)")


@pytest.mark.slow
def test_no_star_where_the_best_mean_loses_on_most_patients(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    others = [f"p{number}" for number in range(1, 20)]
    # one patient decides the means, 0.525 and 0.5225; marginal is better for the 19 others: W+ = 20 of 210, p = 0.0003
    evaluated(study, f"{NAMES[0]}/naive/plain/seed0", {"p0": 1.0, **dict.fromkeys(others, 0.5)})
    evaluated(study, f"{NAMES[0]}/marginal/plain/seed0", {"p0": 0.0, **dict.fromkeys(others, 0.55)})
    values = read_values(study)
    assert compare(values[:20], values[20:]).p < 0.001
    (table,) = scenario_tables(study, values, ["MYO"])
    naive, marginal = table.cells
    assert [(row[2].text, row[2].best, row[2].mark) for row in (naive, marginal)] == [
        ("0.525", False, ""),
        ("0.523", False, ""),
    ]


@pytest.mark.parametrize(("patients", "clear"), [(5, False), (6, True)])
def test_the_highest_mean_is_bold_only_where_all_others_are_worse(tmp_path: Path, patients: int, clear: bool) -> None:
    """All differences of one sign: p = 2 / 2^5 = 0.0625 and 2 / 2^6 = 0.031."""
    study = study_of(tmp_path)
    for loss, dice in (("naive", 0.5), ("marginal", 0.6)):
        evaluated(study, f"{NAMES[0]}/{loss}/plain/seed0", {f"p{patient}": dice for patient in range(patients)})
    (table,) = scenario_tables(study, read_values(study), ["MYO"])
    assert [(row[2].best, row[2].mark) for row in table.cells] == [(False, "*" if clear else ""), (clear, "")]


@pytest.mark.parametrize(("patients", "more"), [(4, ""), (5, "[0.500, 0.500]\N{DAGGER}"), (20, "[0.500, 0.500]")])
def test_intervals_of_few_patients(tmp_path: Path, patients: int, more: str) -> None:
    study = study_of(tmp_path)
    evaluated(study, f"{NAMES[0]}/naive/plain/seed0", {f"p{patient}": 0.5 for patient in range(patients)})
    (table,) = scenario_tables(study, read_values(study), ["MYO"])
    assert [row[2] for row in table.cells] == [Cell("0.500", more=more)]


def test_a_loss_that_rightly_predicts_nothing_is_not_worse_than_dice_0(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    patients = [f"p{number}" for number in range(12)]
    evaluated(study, f"{NAMES[0]}/naive/plain/seed0", dict.fromkeys(patients))
    evaluated(
        study, f"{NAMES[0]}/marginal/plain/seed0", {**dict.fromkeys(patients), **dict.fromkeys(patients[:8], 0.0)}
    )
    (table,) = scenario_tables(study, read_values(study), ["MYO"])
    assert [row[2] for row in table.cells] == [Cell("-"), Cell("0.000", more="[0.000, 0.000]\N{DAGGER}")]
    assert table.note.startswith("0 tests.")


def test_no_bold_for_a_tie_and_no_interval_of_one_patient(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    evaluated(study, f"{NAMES[0]}/naive/plain/seed0", {"p0": 0.5})
    (table,) = scenario_tables(study, read_values(study), ["MYO"])
    assert [row[2] for row in table.cells] == [Cell("0.500")]  # the only one
    evaluated(study, f"{NAMES[0]}/marginal/plain/seed0", {"p0": 0.5})
    (table,) = scenario_tables(study, read_values(study), ["MYO"])
    assert [row[2] for row in table.cells] == [Cell("0.500"), Cell("0.500")]


def test_a_step_that_is_to_be_repeated_is_not_called_failed(study: Study) -> None:
    more, folder, first = replace(study, folds=(0, 1)), StudyFolder(study.folder), next(models(study))
    for step in (first.train_step(0), first.predict_step, first.evaluate_step):
        folder.log(step).parent.mkdir(parents=True, exist_ok=True)
        folder.log(step).write_text("all fine\n")
    _reset_incomplete_models(more, folder)
    steps = (first.train_step(0), first.train_step(1), first.predict_step, first.evaluate_step)
    assert [step_state(folder, step) for step in steps] == ["done", "waiting", "waiting", "waiting"]


def test_an_evaluation_without_a_fold_that_was_added_counts_nowhere(study: Study) -> None:
    more = replace(study, folds=(0, 1))
    with pytest.raises(PartialLabelError, match=r"evaluated yet .*`nnunet_partial study run`"):
        read_values(more)
    folder, first = StudyFolder(study.folder), next(models(study))
    _reset_incomplete_models(study, folder)
    assert folder.done(first.evaluate_step).exists()
    _reset_incomplete_models(more, folder)
    assert not folder.done(first.predict_step).exists()
    assert not folder.done(first.evaluate_step).exists()
    assert folder.done(first.train_step(0)).exists()


def test_an_undefined_value_counts_nowhere(study: Study) -> None:
    marginal = [value for value in read_values(study) if value.model.method_name == "marginal"]
    assert describe_dice(marginal).n_values == 2 * 9
    assert seed_means(marginal) == pytest.approx({0: 0.6, 1: 0.8})


def test_methods_are_compared_on_seeds_and_cases_that_both_have(study: Study) -> None:
    values = read_values(study)
    naive = [value for value in values if value.model.method_name == "naive"]
    marginal = [value for value in values if value.model.method_name == "marginal" and value.model.seed == 1]
    paired = compare(marginal, naive)
    # in the tenth patient marginal rightly predicts nothing where naive has a false positive
    assert (paired.n_pairs, paired.n_differ, paired.rank_biserial) == (10, 10, 1.0)
    assert paired.p == pytest.approx(2 / 2**10)
    assert compare(marginal, marginal).n_pairs == 9  # where both rightly predict nothing, nothing is compared


@pytest.mark.slow
def test_what_has_not_finished_is_named(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("md", "html", "latex", "csv"):
        output = tmp_path / f"report.{form}"
        assert main(["study", "report", str(tmp_path / "study.yaml"), "-o", str(output), "--format", form]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "4 of 8 models" in text
    assert f"- {NAMES[1]}, plain (training: waiting): naive, marginal (seeds 0, 1)\n" in text
    assert "| marginal | 2 | **0.700** \\[0.700, 0.700\\]\N{DAGGER} (0.600-0.800) |" in text
    page = (tmp_path / "report.html").read_text()
    assert "4 of 8 models have not finished" in page
    assert r"\textbf{0.700}" in (tmp_path / "report.latex").read_text()
    assert main(["study", "status", str(tmp_path / "study.yaml")]) == 0
    assert "evaluate     4        0        0        4" in capsys.readouterr().out
    assert main(["study", "status", str(tmp_path / "study.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    evaluations = [state for step, state in document["steps"].items() if step.startswith("evaluate/")]
    assert (evaluations.count("done"), evaluations.count("waiting")) == (4, 4)
    assert document["count"] == {state: [*document["steps"].values()].count(state) for state in document["count"]}


@pytest.mark.slow
def test_curves_over_the_share_of_fully_labeled_patients(study: Study, tmp_path: Path) -> None:
    evaluated(study, f"{NAMES[1]}/marginal/plain/seed0", {"p0": 0.9})
    figures = tmp_path / "report_figures"
    figures.mkdir()
    for name in ("learning.png", "proportion_toy_a_MYO_plain.png", "mine.png"):
        (figures / name).write_bytes(b"of an earlier report")
    assert main(["study", "report", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "report.html")]) == 0
    assert sorted(path.name for path in figures.iterdir()) == [
        "mine.png",
        "proportion_toy_a_MYO_plain.pdf",
        "proportion_toy_a_MYO_plain.png",
    ]
    assert (figures / "proportion_toy_a_MYO_plain.png").read_bytes().startswith(b"\x89PNG")


def test_points_with_fewer_seeds_than_others_are_named(study: Study) -> None:
    for loss in ("naive", "marginal"):
        evaluated(study, f"{NAMES[1]}/{loss}/plain/seed0", {"p0": 0.9})
    evaluated(study, f"{NAMES[1]}/naive/plain/seed1", {"p0": 0.9})
    (figure,) = proportion_figures(study, read_values(study))
    assert "marginal at 50 % (1 of 2)" in figure.caption
    assert "naive" not in figure.caption
    (axis,) = figure.figure.axes
    assert [text.get_text() for text in axis.texts] == ["1/2"]
    evaluated(study, f"{NAMES[1]}/marginal/plain/seed1", {"p0": 0.9})
    (figure,) = proportion_figures(study, read_values(study))
    assert "seeds have" not in figure.caption
    assert not figure.figure.axes[0].texts


def test_no_curve_where_structures_are_hidden_in_a_domain_without_test_cases(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("domain: a", "domain: b"))
    study = Study.read(tmp_path / "study.yaml")
    for scenario in study.scenarios:
        evaluated(study, f"{scenario.name}/naive/plain/seed0", {"p0": 0.5})  # a patient of a
    assert main(["study", "report", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "report.html")]) == 0
    assert not (tmp_path / "report_figures").exists()


def test_nothing_finished_yet(tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"evaluated yet .*`nnunet_partial study run`"):
        read_values(study_of(tmp_path))


def test_a_broken_table_is_named(study: Study) -> None:
    file = StudyFolder(study.folder).evaluation(f"{NAMES[0]}/naive/plain/seed0") / "per_case.csv"
    text = file.read_text()
    for broken, said in ((text.replace(",class,", ",structure,"), "class"), (text[: text.rindex(",")], "line 11")):
        file.write_text(broken)
        with pytest.raises(PartialLabelError, match=rf"seed0/per_case\.csv\b.*{said}"):
            read_values(study)


def test_time_memory_and_learning_from_the_logs(study: Study) -> None:
    folder = StudyFolder(study.folder)
    step = next(models(study)).train_step(0)
    for file in (folder.done(step), folder.log(step), folder.cost(step)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    folder.cost(step).write_text("s\tmax_rss\n90\t2048\n")
    epoch = "2026-01-01 10:00:0{0}.000000: Epoch {1}\n2026-01-01 10:00:09.0: val_loss {2}\n"
    # epoch 1 was repeated after an interruption: the later value counts
    folder.log(step).write_text(epoch.format(1, 0, "-0.1") + epoch.format(2, 1, "-0.3") + epoch.format(3, 1, "-0.2"))
    table = cost_table(study)
    assert table is not None
    assert [cell.text for cell in table.cells[0]][2:] == ["1", "1.5", "1.5-1.5", "2.0"]
    assert [losses for _, losses in learning_curves(study)] == [[-0.1, -0.2]]
    with folder.log(step).open("a") as log:
        log.write("2026-01-01 10:01:00.0: Peak memory of the GPU: 3.25 GiB\n")
    table = cost_table(study)
    assert table is not None
    assert table.cells[0][-1].text == "3.2"


def test_each_fold_has_its_learning_curve(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("folds: [0]", "folds: [0, 1]"))
    study = Study.read(tmp_path / "study.yaml")
    model = next(models(study))
    for fold, loss in enumerate((-0.1, -0.2)):
        log = StudyFolder(study.folder).log(model.train_step(fold))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"2026-01-01 10:00:00.0: Epoch 0\n2026-01-01 10:00:09.0: val_loss {loss}\n")
    assert list(learning_curves(study)) == [(model, [-0.1]), (model, [-0.2])]


def test_false_positives_are_counted_beside_the_dice(study: Study) -> None:
    values = read_values(study)
    assert false_positives_by_method(study, values) is None  # these evaluations know of no empty structure
    outcomes = [FALSE_POSITIVE, CORRECTLY_EMPTY, FOUND, FALSE_POSITIVE]
    counted = [replace(value, outcome=outcomes[place % 4]) for place, value in enumerate(values)]
    table = false_positives_by_method(study, counted)
    assert table is not None
    naive = [value.outcome for value in counted if value.model.method_name == "naive"]
    assert len(naive) == 20
    # of the ten values of each seed five are false positives and three are correctly empty: 10 of 16
    assert table.rows[0] == [NAMES[0], "plain", "naive (unlabeled = background)", "10", "16", "62 %"]
