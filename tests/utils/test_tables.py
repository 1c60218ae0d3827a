"""Tables that say more than they have columns for are refused; what spreadsheets add at the edges is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.tables import read_table


def read(tmp_path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    file = tmp_path / "cases.csv"
    file.write_text(text, encoding="utf-8")
    return list(read_table(file, ("case", "annotated"), ("patient",)))


ANNA = {"case": "a", "annotated": "LV LA", "patient": "anna"}


@pytest.mark.parametrize("text", ["case,annotated,patient", "case,annotated,patient,,", " CASE ,Annotated,PATIENT , "])
@pytest.mark.parametrize("row", ["a,LV LA,anna", "a,LV LA,anna,,", "a, LV LA ,anna, , "])
def test_empty_cells_at_the_end_are_fine(tmp_path: Path, text: str, row: str) -> None:
    assert read(tmp_path, f"{text}\n{row}\n") == [(2, ANNA)]


def test_cells_that_are_missing_are_empty(tmp_path: Path) -> None:
    assert read(tmp_path, "case,annotated,patient\na,LV LA\n") == [(2, {**ANNA, "patient": ""})]


@pytest.mark.parametrize("head", ["case,annotated,patient", "case,annotated,patient,"])
def test_text_beyond_the_last_column_is_refused(tmp_path: Path, head: str) -> None:
    """LV,LA without quotes are two cells: LA would be the patient, and anna would be lost."""
    with pytest.raises(ConversionError, match=r"cases\.csv, line 3: 4 cells, .*3 columns.* in quotes"):
        read(tmp_path, f'{head}\nb,"LV,LA",bert\na,LV,LA,anna\n')


@pytest.mark.parametrize("twice", ["case", "Annotated", "PATIENT"])
def test_a_column_that_is_asked_for_stands_there_once(tmp_path: Path, twice: str) -> None:
    with pytest.raises(ConversionError, match=f"has the column {twice.lower()} more than once"):
        read(tmp_path, f"case,annotated,patient,{twice}\na,LV LA,anna,\n")


def test_other_columns_may_do_as_they_like(tmp_path: Path) -> None:
    [(_, row)] = read(tmp_path, "case,annotated,patient,Remark,remark\na,LV LA,anna,x,y\n")
    assert row == {**ANNA, "Remark": "x", "remark": "y"}
