"""Whom a labelling scenario is about, and whether what is to be removed is there at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.overview import NO_DOMAIN
from nnunet_partial.utils.text import some

from .merge_source import Source
from .scenario_options import RANDOM, Options


def cases_in_scope(source: Source, manifest: Manifest, options: Options) -> list[str]:
    """The training cases that may lose something. Raises DatasetError for a domain that has none."""
    training = list(source.images["Tr"])
    if options.domain is None:
        return training
    scope = [case for case in training if manifest.labels_of(case).domain == options.domain]
    if not scope:
        domains = {domain_of(manifest.labels_of(case)) for case in training}
        raise DatasetError(
            f"{source.name} has no training case of the domain {options.domain!r}. Its domains: {some(domains)}."
        )
    return scope


def impossible(source: Source, manifest: Manifest, scope: Sequence[str], options: Options) -> list[str]:
    """Why classes cannot be removed: they are no classes, or a domain does not know them."""
    if options.missing == (RANDOM,):
        return []
    classes = source.dataset.classes
    strange = [name for name in options.missing if name not in classes]
    if strange:
        return [f"dataset.json has no class {some(strange)}; its classes: {', '.join(classes)}"]
    found, way_out = [], "" if options.domain else ". Name the domain that loses it with --domain"
    for domain in sorted({manifest.labels_of(case).domain for case in scope}):
        drawn = annotated(manifest, [case for case in scope if manifest.labels_of(case).domain == domain])
        unknown = [name for name in options.missing if name not in drawn]
        if unknown:
            found.append(
                f"no training case of the domain {domain or NO_DOMAIN} is annotated for {some(unknown)} (only for "
                f"{some(drawn)}), so it cannot be removed there{way_out}"
            )
    return found


def annotated(manifest: Manifest, cases: Iterable[str]) -> set[str]:
    """The classes that some of `cases` is annotated for."""
    return {name for case in cases for name in manifest.labels_of(case).annotated}


def domain_of(labels: CaseLabels) -> str:
    """The domain as it is shown, also where there is none."""
    return labels.domain or NO_DOMAIN
