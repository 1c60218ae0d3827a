"""How often training draws from each domain, where the manifest has weights: a small data set beside a large one.

nnU-Net draws every training case equally often, so that a domain of ten thousand images drowns one of a hundred. Where
`partial_labels.json` has `domain_weights` (`nnunet_partial merge --balance` writes them), a domain is drawn with the
probability of its weight, and within it every case equally often. Validation is not touched.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import Manifest
from nnunet_partial.utils.text import some


def square_root_weights(sizes: Mapping[str, int]) -> dict[str, float]:
    """The probability of each domain: the square root of its number of cases, divided by the sum of all; sorted.

    Raises ManifestError for a domain without cases.
    """
    if not all(size > 0 for size in sizes.values()):
        raise ManifestError(f"the domains have {dict(sizes)} training cases; expected at least one in each.")
    total = sum(math.sqrt(size) for size in sizes.values())
    return {domain: round(math.sqrt(sizes[domain]) / total, 6) for domain in sorted(sizes)}


def domain_probabilities(manifest: Manifest, cases: Sequence[str]) -> dict[str, float] | None:
    """The probability of each domain that these training cases come from; None where the manifest has no weights.

    Raises ManifestError for a domain without a weight.
    """
    if not manifest.domain_weights:
        return None
    domains = {manifest.labels_of(case).domain for case in cases}
    missing = {domain or "(no domain)" for domain in domains - set(manifest.domain_weights)}
    if missing:
        raise ManifestError(
            f"partial_labels.json has no weight for {some(missing)} under 'domain_weights', but training cases are of "
            "it. Give every domain a weight, or remove 'domain_weights'."
        )
    total = sum(manifest.domain_weights[domain] for domain in domains)
    return {domain: manifest.domain_weights[domain] / total for domain in sorted(domains)}


def case_probabilities(manifest: Manifest, cases: Sequence[str]) -> NDArray[np.float64] | None:
    """The probability of each training case, in their order; they add up to 1. None without weights."""
    of_domain = domain_probabilities(manifest, cases)
    if of_domain is None:
        return None
    domains = [manifest.labels_of(case).domain for case in cases]
    sizes = Counter(domains)
    found = np.array([of_domain[domain] / sizes[domain] for domain in domains])
    return found / found.sum()


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
