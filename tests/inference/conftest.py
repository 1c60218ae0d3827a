"""Trained models for all tests that predict."""

from __future__ import annotations

import pytest
from helpers.predicting_models import Model, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Do not change them."""
    return make_models(tmp_path_factory.mktemp("models"))
