"""How often training draws from each domain, where the manifest has weights: a small data set beside a large one.

nnU-Net draws every training case equally often, so that a domain of ten thousand images drowns one of a hundred. Where
`partial_labels.json` has `domain_weights` (`nnunet_partial merge --balance` writes them), a domain is drawn with the
probability of its weight, and within it every case equally often. Validation is not touched.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from nnunet_partial.dataset.domains import case_probabilities
from nnunet_partial.labels import Manifest


@contextlib.contextmanager
def weighted_by_domain(manifest: Manifest, training_cases: Sequence[str]) -> Iterator[None]:
    """While it holds, the first loader that nnU-Net makes over the training cases draws them by their probabilities.

    nnU-Net's loader can do so (`sampling_probabilities`), but its trainer always says None, and its workers start
    before anyone gets hold of the loader. Raises NotImplementedError where the trainer makes no such loader: the
    weights would be ignored.
    """
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

    original, wanted = nnUNetDataLoader.__init__, set(training_cases)
    done: list[Any] = []

    @functools.wraps(original)
    def weighted(loader: Any, data: Any, *args: Any, **kwargs: Any) -> None:
        original(loader, data, *args, **kwargs)
        if not done and set(data.identifiers) == wanted:
            loader.sampling_probabilities = case_probabilities(manifest, list(data.identifiers))
            done.append(loader)

    nnUNetDataLoader.__init__ = weighted
    try:
        yield
    finally:
        nnUNetDataLoader.__init__ = original
    if not done:
        raise NotImplementedError(
            "partial_labels.json has 'domain_weights', but this trainer does not use nnU-Net's data loader, which "
            "follows them. Remove them, or use another trainer."
        )
