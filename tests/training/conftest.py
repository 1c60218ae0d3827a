"""One thread for all that is trained in this folder: it is faster, and the same bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.nnunet_in_process import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
