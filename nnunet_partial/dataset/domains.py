"""Weigh the domains of a dataset, so that each is sampled as often as wanted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import Manifest
from nnunet_partial.utils.text import format_names


def square_root_weights(sizes: Mapping[str, int]) -> dict[str, float]:
    """Weigh each domain by the square root of its number of cases.

    Args:
        sizes: Number of training cases by domain.

    Returns:
        Weight by domain, sorted by name; they add up to 1.

    Raises:
        ManifestError: A domain has no case.
    """
    if not all(size > 0 for size in sizes.values()):
        raise ManifestError(f"the domains have {dict(sizes)} training cases; expected at least one in each.")
    total = sum(math.sqrt(size) for size in sizes.values())
    return {domain: round(math.sqrt(sizes[domain]) / total, 6) for domain in sorted(sizes)}


def domain_probabilities(manifest: Manifest, cases: Sequence[str]) -> dict[str, float] | None:
    """Compute the probability that training samples from each domain.

    Args:
        manifest: The manifest.
        cases: Training cases.

    Returns:
        Probability by domain; None where the manifest has no weights.

    Raises:
        ManifestError: A domain has no weight.
    """
    if not manifest.domain_weights:
        return None
    domains = {manifest.labels_of(case).domain for case in cases}
    missing = {domain or "(no domain)" for domain in domains - set(manifest.domain_weights)}
    if missing:
        raise ManifestError(
            f"partial_labels.json has no weight for {format_names(missing)} under 'domain_weights', but training cases "
            "are of it. Give every domain a weight, or remove 'domain_weights'."
        )
    total = sum(manifest.domain_weights[domain] for domain in domains)
    return {domain: manifest.domain_weights[domain] / total for domain in sorted(domains)}


def case_probabilities(manifest: Manifest, cases: Sequence[str]) -> NDArray[np.float64] | None:
    """Compute the probability that training samples each case.

    Args:
        manifest: The manifest.
        cases: Training cases.

    Returns:
        Array of shape (len(cases),) that adds up to 1; None where the manifest has no weights.
    """
    of_domain = domain_probabilities(manifest, cases)
    if of_domain is None:
        return None
    domains = [manifest.labels_of(case).domain for case in cases]
    sizes = Counter(domains)
    probabilities = np.array([of_domain[domain] / sizes[domain] for domain in domains])
    return probabilities / probabilities.sum()
