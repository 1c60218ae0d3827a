"""Weigh the domains of a dataset, so that each is sampled as often as wanted, and make a fold per domain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.preprocessed import update_command
from nnunet_partial.dataset.raw import RawDataset, manifest_folders
from nnunet_partial.dataset.splits import Split, format_groups, left_out_cases, similar_names
from nnunet_partial.errors import ManifestError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, find_shared_patients
from nnunet_partial.utils.text import NO_DOMAIN, format_names


@dataclass(frozen=True)
class Balance:
    """Hold the sampling weights that `balance` wrote.

    Attributes:
        weights: Weight by domain; None where they were removed.
        domains: Name, number of training cases and share of the training samples of each domain, sorted by name.
        files: The manifests that were written.
    """

    weights: dict[str, float] | None
    domains: tuple[tuple[str, int, float], ...]
    files: tuple[Path, ...]


def parse_weights(texts: Sequence[str]) -> dict[str, float]:
    """Parse weights as they are typed.

    Args:
        texts: A DOMAIN=WEIGHT each.

    Returns:
        Weight by domain.

    Raises:
        ManifestError: A text is none, a weight is not a number above 0, or a domain is named twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        domain, equals, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not equals or not 0 < weight < math.inf:
            raise ManifestError(
                f"--weights: got {text!r}; expected DOMAIN=WEIGHT with a number above 0, as in camus=2."
            )
        if domain in weights:
            raise ManifestError(f"--weights: the domain {domain!r} is named twice; give it one weight.")
        weights[domain] = weight
    return weights


def balance(raw: Path, weights: Mapping[str, float] | None = None, off: bool = False) -> Balance:
    """Set the sampling weights in the manifest of a raw dataset and in its preprocessed copy, where there is one.

    Args:
        raw: The raw folder.
        weights: Weight by domain; None weighs each by the square root of its number of training cases.
        off: Whether to remove the weights instead.

    Returns:
        What was written.

    Raises:
        ManifestError: A domain has no weight or a weight no domain, there is one domain only, or the two manifests
            say different things of something else; nothing was written.
    """
    dataset = RawDataset(raw)
    cases = list(dataset.image_files())
    cases = sorted({*cases} - {*left_out_cases(dataset.manifest, cases)})
    sizes = Counter(dataset.manifest.labels_of(case).domain for case in cases)
    new = None if off else dict(weights or _square_root_weights(raw, sizes))
    manifest = Manifest.from_json({**dataset.manifest.to_json(), "domain_weights": new})  # checks the weights
    shares = domain_probabilities(manifest, cases) or {domain: n / len(cases) for domain, n in sizes.items()}
    files = tuple(folder / MANIFEST_NAME for folder in manifest_folders(raw))
    files = tuple(file for file in files if file.exists())
    for file in files[1:]:
        if replace(Manifest.read(file), domain_weights=None) != replace(manifest, domain_weights=None):
            raise ManifestError(
                f"{files[0]} and {file} differ in more than the weights; none was written. If the raw one is right, "
                f"first: {update_command(raw)}"
            )
    for file in files:
        manifest.write(file)
    return Balance(new, tuple((domain, sizes[domain], shares[domain]) for domain in sorted(sizes)), files)


@dataclass(frozen=True)
class DomainFolds:
    """Hold the folds that leave a domain out each.

    Attributes:
        folds: Training and validation cases of each fold.
        domains: The domain that each fold validates.
        warnings: Which folds could not be made and which cases are missing from a fold, one line each.
    """

    folds: tuple[Split, ...]
    domains: tuple[str, ...]
    warnings: tuple[str, ...]


def leave_domain_out(manifest: Manifest, cases: Sequence[str], classes: Sequence[str]) -> DomainFolds:
    """Make a fold per domain, which trains on all others and is validated on it.

    A fold in which no training case is annotated for a class is not made. Where a patient has cases in several domains,
    a fold that validates one of them does not train on the others. Cases that are declared left out are in no fold.

    Args:
        manifest: The manifest.
        cases: Training cases.
        classes: Foreground classes of the dataset.

    Returns:
        The folds, sorted by domain; at least one.

    Raises:
        SplitError: There is one domain only, patients have other names in another domain, or no fold can be made.
    """
    left_out = {*left_out_cases(manifest, cases)}
    labels = {case: manifest.labels_of(case) for case in sorted(cases) if case not in left_out}
    domains = sorted({entry.domain for entry in labels.values()})
    shared = find_shared_patients(labels)
    if shared:
        raise SplitError("; ".join(shared) + "; nothing was written.")
    if len(domains) < 2:
        raise SplitError(
            f"All training cases are of one domain ({format_names([domain or NO_DOMAIN for domain in domains])}), "
            "which cannot be left out; nothing was written. Give the cases a 'domain' in partial_labels.json."
        )
    folds: dict[str, Split] = {}
    alike, warnings = similar_names(domains), []
    if alike:
        warnings.append(
            f"{len(alike)} domain(s) may have several names: {format_groups(alike)}. Where they are one, use one name, "
            "or a fold trains on the domain that it validates"
        )
    for domain in domains:
        validation = [case for case in labels if labels[case].domain == domain]
        patients = {manifest.patient_of(case) for case in validation}
        others = [case for case in labels if labels[case].domain != domain]
        training = [case for case in others if manifest.patient_of(case) not in patients]
        missing = manifest.classes_without_annotation(training, classes)
        if missing or not training:
            why = f"no other domain is annotated for {format_names(missing)}" if training else "no case would train"
            warnings.append(f"no fold leaves out {domain or NO_DOMAIN}: {why}")
            continue
        folds[domain] = {"train": training, "val": validation}
        if len(training) < len(others):
            warnings.append(
                f"the fold that leaves out {domain or NO_DOMAIN} does not train on {len(others) - len(training)} "
                f"case(s) of its patients: {format_names({*others} - {*training})}"
            )
    if not folds:
        raise SplitError("; ".join(warnings) + ". No fold can be made; nothing was written.")
    return DomainFolds(tuple(folds.values()), tuple(folds), tuple(warnings))


def _square_root_weights(raw: Path, sizes: Mapping[str, int]) -> dict[str, float]:
    if len(sizes) < 2:
        raise ManifestError(
            f"All training cases of {raw.name} are of one domain ({format_names([*sizes])}); there is nothing to "
            "balance. Give the cases a 'domain' in partial_labels.json."
        )
    return square_root_weights(sizes)


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
    missing = {domain or NO_DOMAIN for domain in domains - set(manifest.domain_weights)}
    if missing:
        raise ManifestError(
            f"partial_labels.json has no weight for {format_names(missing)} under 'domain_weights', but training cases "
            "are of it. Give every domain a weight, or none: nnunet_partial balance"
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
