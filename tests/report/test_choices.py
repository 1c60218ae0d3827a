"""Which case is shown, which number is bold, which cases know what: small examples that can be counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from nnunet_partial.dataset.summary import AnnotationCount, annotation_counts
from nnunet_partial.evaluation.console import stars
from nnunet_partial.evaluation.metrics import METRICS
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.report.annotation_matrix import draw_annotation_matrix
from nnunet_partial.report.boxplots import draw_boxes
from nnunet_partial.report.evaluation_tables import agreement_tables, comparison_table, rank_table
from nnunet_partial.report.formatting import decimal, interval
from nnunet_partial.report.overlays import select_cases
from nnunet_partial.report.results import Results
from nnunet_partial.utils.colors import COLORS, EXTRA_COLORS, class_colors


def results(models: str = "a b", **tables: Any) -> Results:
    empty: dict[str, Any] = dict.fromkeys(
        ("per_case", "summary", "warning_signs", "comparisons", "ranks", "biomarkers", "agreement"), ()
    )
    where = {name: Path(name) for name in models.split()}
    return Results(Path(), Path(), Path(), ".nii.gz", where, ["LV"], [], {}, **{**empty, **tables})


def measured(model: str, case: str, dice: float | str, outcome: str = "found", **more: str) -> dict[str, str]:
    row = dict.fromkeys(METRICS, "") | {"model": model, "case": case, "domain": "x", "class": "LV", "outcome": outcome}
    return row | {"dice": str(dice), "distance_unit": "mm", **more}


def summarised(model: str, **numbers: str) -> list[dict[str, str]]:
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
    rows = summarised("a", dice_mean="0.9"), summarised("b", dice_mean="0.8")
    for better, bold in (("a", True), ("b", False), ("", False)):
        dice = cells(*rows, comparisons=[against(better)])["Dice"]
        assert [(cell.text, cell.best, cell.mark) for cell in dice] == [("0.900", bold, ""), ("0.800", False, "")]
    assert [cell.best for cell in cells(*rows)["Dice"]] == [False, False]  # not tested
    c = summarised("c", dice_mean="0.7")
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
    a = summarised("a", hd95_mean="2", hd95_n_infinite="1", hd95_n_values="3")
    for better, bold in (("b", [False, True]), ("a", [False, False])):
        hd95 = cells(a, summarised("b", hd95_mean="5"), comparisons=[against(better, "hd95", "mm")])["HD95 (mm)"]
        assert [(cell.text, cell.best) for cell in hd95] == list(zip(("2.00", "5.00"), bold, strict=True))
        assert hd95[0].more == "[1.00, 1.00]\n(n = 3)"  # Dice has 4
    b = summarised("b", hd95_mean="5", hd95_n_infinite="1")
    both = cells(a, b, comparisons=[against("a", "hd95", "mm")])["HD95 (mm)"]
    assert [cell.best for cell in both] == [False, False]


@pytest.mark.parametrize("other", [{"dice_mean": "0.9"}, {"dice_mean": "0.8", "dice_n_evaluated": "3"}])
def test_nothing_is_bold_where_models_are_equal_or_saw_different_cases(other: dict[str, str]) -> None:
    dice = cells(summarised("a", dice_mean="0.9"), summarised("b", **other), comparisons=[against("a")])["Dice"]
    assert [cell.best for cell in dice] == [False, False]


def test_an_interval_of_few_patients_is_marked() -> None:
    for patients, more in (("19", "[1.000, 1.000]\N{DAGGER}"), ("20", "[1.000, 1.000]")):
        (dice,) = cells(summarised("a", dice_n_patients=patients))["Dice"]
        assert dice.more == more
    (dice,) = cells(summarised("a", dice_n_patients="4", dice_ci95_low="", dice_ci95_high=""))["Dice"]
    assert dice.more == ""


def test_units_are_told_apart_in_every_table() -> None:
    """Surface Dice at 2 mm in one domain, at 2 pixels in another: two numbers over both."""
    rows = summarised("a", surface_dice_mean="0.9")
    (row,) = [row for row in rows if row["metric"] == "surface_dice"]
    rows.append(row | {"unit": "2 pixels", "mean": "0.4"})
    column = cells(rows)["surface Dice"]
    assert [cell.text for cell in column] == ["0.900 (2 mm) / 0.400 (2 pixels)"]
    assert cells(summarised("a"))["surface Dice (2 mm)"][0].text == "1.000"
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


def test_the_overall_mean_is_labelled_as_that_over_all_pairs() -> None:
    names = ("LV", "LA", "(all)")
    rows = [row | {"class": name} for name in names for row in summarised("a", dice_n_evaluated=name[:2])]
    assert [cell.text for cell in cells(rows)["structure"]] == ["LV", "LA", "(all pairs)"]


def test_a_false_positive_is_not_better_than_rightly_nothing() -> None:
    """Four cases known not to show it: a predicts it in one (Dice 0), b in none (no Dice, no distance)."""
    a = summarised("a", dice_mean="0", hd95_mean="", hd95_n_infinite="1")
    b = summarised("b", dice_mean="", dice_n_cases="0", hd95_mean="")
    found = cells(a, b, comparisons=[against("a"), against("a", "hd95", "mm")])
    assert [(cell.text, cell.best) for cell in found["Dice"]] == [("0.000", False), ("\N{EN DASH}", False)]
    assert [cell.best for cell in found["HD95 (mm)"]] == [False, False]


def test_one_model_has_nothing_to_be_better_than() -> None:
    (dice,) = cells(summarised("a", dice_mean=""))["Dice"]
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


def test_the_project_s_structures_keep_their_colours() -> None:
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
