"""How many cores there are for this process."""

from __future__ import annotations

import os

import pytest

from nnunet_partial.utils.process import available_cores


def test_what_a_scheduler_gave_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert available_cores() == available_cores("8") == 2


def test_without_a_scheduler_the_number_of_threads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert [available_cores(threads) for threads in (None, "", "0", "2,1", "4")] == [6, 6, 6, 6, 4]
