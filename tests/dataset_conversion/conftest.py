"""What the tests of conversion share: folders for nnU-Net, and a small real sample, where it is available."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnUNet_raw, empty."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


@pytest.fixture
def real_echo() -> Path:
    """A small real sample in the layouts of CAMUS and EchoNet-Dynamic."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "real_echo"
    if not folder.is_dir():
        pytest.skip("the small real sample is not available here")
    return folder
