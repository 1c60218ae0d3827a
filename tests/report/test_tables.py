"""Tables as Markdown, LaTeX and CSV: what is bold, what is marked, and that no name is taken for a command."""

from __future__ import annotations

import csv
import io
import re

import pytest

from nnunet_partial.report.latex import latex, to_latex
from nnunet_partial.report.tables import Cell, Table, rules_between, to_csv, to_markdown

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
    assert to_markdown(TABLE).split("\n") == [
        *("**Dice at 100 %**", ""),
        "| structure | model | Dice |",
        "| --- | --- | ---: |",
        "| LV | naive | 0.88 \\[0.86, 0.90\\] |",
        "| LV | ours | **0.95**\\* \\[0.94, 0.96\\] |",
        "| LA | naive | -0.5 |",
        *("", "n = 3", ""),
    ]


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


def test_latex_writes_each_line_below_a_number_small() -> None:
    text = to_latex(Table(["a", "HD95 (mm)"], [["x", Cell("2.0", more="[1, 3]\n(n = 26)")]]))
    assert r"x & 2.0 \\" + "\n" + r" & \scriptsize [1, 3] \\" + "\n" + r" & \scriptsize (n = 26) \\" in text


def test_latex_divides_a_long_head_near_its_middle() -> None:
    text = to_latex(Table(["known not to show it", "of it"], [["1", "2"]]))
    assert r"\shortstack[l]{known not\\to show it} &" in text


def test_latex_divides_a_table_that_is_longer_than_a_page() -> None:
    """60 rows of one line, rules above 25 and 40: 40 rows on the first page (it has room for 44), 20 on the next."""
    rows = [[f"s{(row >= 25) + (row >= 40)}", f"row{row}"] for row in range(60)]
    first, second = to_latex(Table(["a", "b"], rows, "Long", "Read it so.", 1, rules_between(rows)), "tab:1").split(
        "\n\n"
    )
    assert first.count(r"\\") - 1 == 40  # and the head
    assert second.count(r"\\") - 1 == 20
    assert "row39 " in first
    assert r"s2 & row40 \\" in second  # its name is said again
    assert (r"\caption{Long}" in first, r"\caption" in second) == (True, False)
    assert (r"\label{tab:1}" in first, r"Table~\ref{tab:1}, continued" in second) == (True, True)
    assert ("Read it so." in first, "Read it so." in second) == (False, True)


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
