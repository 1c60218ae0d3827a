"""A model, a key, and readers that need no process of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.clip_models import write_model

from nnunet_partial.clips import frames
from nnunet_partial.errors import PartialLabelError


class HerePool:
    """Calls functions in this process."""

    def __init__(self, processes: int, prepare: Callable[[], object]) -> None:
        prepare()

    def __enter__(self) -> HerePool:
        return self

    def __exit__(self, *_: object) -> None:
        """End nothing."""

    def map(self, function: Callable[..., Any], calls: Sequence[Any], timeouts_s: Sequence[float]) -> Iterator[Any]:
        assert len(calls) == len(timeouts_s)
        for arguments in calls:
            try:
                yield function(*arguments)
            except PartialLabelError as problem:
                yield problem


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read clips in this process, which saves starting another one for each test."""
    monkeypatch.setattr(frames, "IsolatedPool", HerePool)


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test writes into the user's own configuration folder."""
    for variable in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "configuration"))
    return tmp_path / "configuration"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")
