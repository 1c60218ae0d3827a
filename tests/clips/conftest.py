"""A model, a key, readers that need no process of their own, and clips of known volumes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.clip_models import write_model
from helpers.measured_clips import ClipFolders, beating

from nnunet_partial.cli import main
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


#: Where Matplotlib keeps its list of fonts, which takes seconds to make.
FONTS = Path.home() / ".cache" / "matplotlib"


@pytest.fixture(autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test writes into the user's own configuration folder."""
    folder = tmp_path_factory.mktemp("home") / "configuration"
    for variable in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("MPLCONFIGDIR", str(FONTS))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@dataclass
class Results:
    """The results of one run of `measure`, and its exit code."""

    folders: ClipFolders
    folder: Path
    code: int

    def rows(self, table: str) -> list[dict[str, str]]:
        with (self.folder / table).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def clip(self, name: str) -> dict[str, str]:
        return next(row for row in self.rows("clips.csv") if row["clip"] == name)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Both views of a patient, pixels that are not square or of unknown size, and clips that cannot be measured."""
    root = tmp_path_factory.mktemp("clips")
    folders = ClipFolders.create(root)
    folders.add("four", beating(0.5), patient="p1", exam="e1")
    folders.add("two", beating(0.6), patient="p1", exam="e1", view="A2C")
    # 130 x 0.8 mm and 90 x 1.2 mm; no times
    wide = beating(0.5, spacing=(0.8, 1.2), shape=(130, 90))
    folders.add("aniso", wide, (0.8, 1.2), view=None, frame_times_s=None, frame_times_from=None)
    folders.add("unsized", beating(0.5, beats=2.5, frames=50), None, layout="frames", patient="p1<b>")
    folders.add("guessed", beating(0.5, frames=60), spacing_from="nominal depth", flags=("seen by the reader",))
    folders.add("missing", beating(frames=3))
    (folders.predictions / "missing_000.nii.gz").unlink()
    code = main(folders.arguments(root / "results", "--no-overlays"))
    return Results(folders, root / "results", code)
