"""Both kinds of kernels for the tests of what a loss is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nnunet_partial.losses import _fused


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels of the CPU, then those of a GPU, on tensors of the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "gpu":
            patch.setattr(_fused, "_on_host", lambda x: False)
        yield request.param
