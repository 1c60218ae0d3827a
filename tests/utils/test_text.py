"""Lists that are cut and say how much is left, and tables."""

from __future__ import annotations

import pytest

from nnunet_partial.utils.text import first_lines, format_names, format_values, text_table


def test_names_are_sorted_and_cut() -> None:
    assert format_names({"b", "a"}) == "a, b"
    assert format_names(["c", "b", "a"], limit=2) == "a, b and 1 more"
    assert format_names([]) == "none"


def test_values_keep_their_order() -> None:
    assert format_values([10, 9]) == "10, 9"
    assert format_values(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(("value", "text"), [(7.0, "7"), (1.5, "1.5"), (1.0000001, "1.0000001"), (float("nan"), "nan")])
def test_a_fraction_is_not_rounded_away(value: float, text: str) -> None:
    assert format_values([value]) == text


def test_lines_are_cut_only_where_there_are_more() -> None:
    assert first_lines(["a", "b"], limit=2) == ["a", "b"]
    assert first_lines(["a", "b", "c", "d"], limit=2, where=" in the log") == ["a", "b", "... and 2 more in the log"]


def test_columns_are_as_wide_as_needed() -> None:
    assert text_table(["a", "bb"], [["xyz", "1"]]) == "a    bb\n---  --\nxyz   1\n"
