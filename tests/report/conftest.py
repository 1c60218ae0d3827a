"""The drawn data set, evaluated and reported once for all tests that only look; those that break things take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.evaluated_dataset import Story, draw, evaluate
from PIL import Image

from nnunet_partial.cli import main
from nnunet_partial.report import figure_style


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """With results/report.html and results/figures; do not change it, take `story`."""
    story = Story(tmp_path_factory.mktemp("story"))
    draw(story)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(story.dataset.parent))
        patch.delenv("nnUNet_preprocessed", raising=False)
        evaluate(story)
        assert main(["report", str(story.results)]) == 0
    return story


@pytest.fixture
def story(reported: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """A copy, paths in evaluation.json included."""
    copy = Story(tmp_path / "story")
    shutil.copytree(reported.root, copy.root)
    about = copy.results / "evaluation.json"
    about.write_text(about.read_text().replace(str(reported.root), str(copy.root)))
    monkeypatch.setenv("nnUNet_raw", str(copy.dataset.parent))
    return copy


@pytest.fixture
def empty_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save four gray pixels in place of each figure, for tests of what stands around them: drawing takes 20 s."""
    import matplotlib.figure

    file = tmp_path / "empty.png"
    Image.new("L", (2, 2)).save(file)
    content = file.read_bytes()
    monkeypatch.setattr(matplotlib.figure.Figure, "draw_without_rendering", lambda _: None)
    monkeypatch.setattr(figure_style, "_figure_bytes", lambda *_: content)
