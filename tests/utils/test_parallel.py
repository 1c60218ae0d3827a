"""Work on many files: order, errors, and processes that die."""

from __future__ import annotations

import math
import os

import pytest

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.parallel import MIN_FILES_FOR_POOL, parallel_map


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [0, 1, MIN_FILES_FOR_POOL + 7])
def test_results_come_in_order(processes: int, number: int) -> None:
    squares = [n * n for n in range(number)]
    assert list(parallel_map(math.isqrt, squares, processes)) == list(range(number))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_reaches_the_caller(processes: int) -> None:
    with pytest.raises(ValueError, match=r"invalid literal.*'x'"):
        list(parallel_map(int, ["1"] * 2 * MIN_FILES_FOR_POOL + ["x"], processes))


def test_a_killed_process_is_explained() -> None:
    with pytest.raises(PartialLabelError, match="A worker process was killed"):
        list(parallel_map(os._exit, [1] * MIN_FILES_FOR_POOL, 2))


def test_one_may_stop_early() -> None:
    results = parallel_map(math.isqrt, [4] * 10 * MIN_FILES_FOR_POOL, 2)
    assert next(results) == 2
    results.close()


def test_the_progress_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(parallel_map(int, ["1", "2"], title="reading")) == [1, 2]
    assert "reading: 100%" in capsys.readouterr().err
    list(parallel_map(int, ["1", "2"]))
    assert capsys.readouterr().err == ""
