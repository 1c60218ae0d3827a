"""Tables as Markdown, LaTeX and CSV: what is bold, what is marked, and that no name is taken for a command."""

from __future__ import annotations

import csv
import io
import re

import pytest

from nnunet_partial.report.tables import Cell, Table, latex, rules_between, to_csv, to_latex, to_markdown

ROWS = [
    ["LV", "naive", Cell("0.88", more="[0.86, 0.90]")],
    ["LV", "ours", Cell("0.95", best=True, mark="*", more="[0.94, 0.96]")],
    ["LA", "naive", "-0.5"],
]
TABLE = Table(["structure", "model", "Dice"], ROWS, "Dice at 100 %", "n = 3", left=2, rules=rules_between(ROWS))


def test_a_line_is_drawn_where_the_first_name_changes() -> None:
    assert TABLE.rules == [2]
    assert [[TABLE.repeats(row, column) for column in range(3)] for row in range(3)] == [
        [False, False, False],
        [True, False, False],  # LV stands above
        [False, False, False],
    ]


def test_markdown() -> None:
    assert to_markdown(TABLE) == (
        "**Dice at 100 %**\n\n"
        "| structure | model | Dice |\n"
        "| --- | --- | ---: |\n"
        "| LV | naive | 0.88 \\[0.86, 0.90\\] |\n"
        "| LV | ours | **0.95**\\* \\[0.94, 0.96\\] |\n"
        "| LA | naive | -0.5 |\n"
        "\nn = 3\n"
    )


def test_latex_is_a_booktabs_table() -> None:
    text = to_latex(TABLE, "tab:1")
    assert text[text.index(r"\toprule") : text.index(r"\end{tabular}")].splitlines() == [
        r"\toprule",
        r"structure & model & Dice \\",
        r"\midrule",
        r"LV & naive & 0.88 \\",
        r" &  & \scriptsize [0.86, 0.90] \\",
        r" & ours & \textbf{0.95}\textsuperscript{*} \\",
        r" &  & \scriptsize [0.94, 0.96] \\",
        r"\midrule",
        r"LA & naive & $-$0.5 \\",
        r"\bottomrule",
    ]
    assert r"\caption{Dice at 100 \%}" in text
    assert r"\label{tab:1}" in text
    assert text.count("{") == text.count("}")


def test_csv_can_be_read_again() -> None:
    assert list(csv.reader(io.StringIO(to_csv(TABLE)))) == [
        ["structure", "model", "Dice"],
        ["LV", "naive", "0.88 [0.86, 0.90]"],
        ["LV", "ours", "0.95* [0.94, 0.96]"],
        ["LA", "naive", "-0.5"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5 % #1 $x$ {y}", r"a\_b \& 5 \% \#1 \$x\$ \{y\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("p < 0.001, -2 to -.5", r"p $<$ 0.001, $-$2 to $-$.5"),
        ("site-2, 2019-2020", "site-2, 2019-2020"),  # hyphens, no minus
        ("two\nlines\x00", "two lines"),
        ("cm\u00b2", "cm$^2$"),
    ],
)
def test_latex_reads_no_name_as_a_command(text: str, expected: str) -> None:
    assert latex(text) == expected


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_line_above() -> None:
    assert r"{[x]} & 1 \\" in to_latex(Table(["a", "b"], [["[x]", "1"]]))


def test_markdown_keeps_hostile_names_in_their_cell() -> None:
    line = to_markdown(Table(["a", "b"], [["x|y\n<b>[z](u) `c` *d*", "1"]])).splitlines()[2]
    assert line == r"| x\|y \<b\>\[z\](u) \`c\` \*d\* | 1 |"
    assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells, the head 2"):
        to_markdown(Table(["a", "b"], [["1"]]))
