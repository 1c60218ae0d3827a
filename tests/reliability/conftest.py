"""Where the data sets of these tests are written, and how many mutated inputs a thorough run tries."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# pytest tests/reliability/test_mutated_inputs.py --hypothesis-profile=thorough --hypothesis-show-statistics
settings.register_profile("thorough", max_examples=1500)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnUNet_raw, empty."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"
