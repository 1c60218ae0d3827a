"""Summarize a dataset in tables: cases, patients and annotations per domain."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nnunet_partial.dataset.images import Geometry, spacing_is_known
from nnunet_partial.labels import Manifest
from nnunet_partial.utils.text import NO_DOMAIN, text_table


def dataset_summary(
    manifest: Manifest,
    classes: Sequence[str],
    training: Sequence[str],
    test: Sequence[str],
    geometry: Mapping[str, Geometry],
) -> str:
    """Format the tables that `check` and `merge` print.

    Args:
        manifest: The manifest.
        classes: Foreground classes.
        training: Training cases; those that the manifest does not name are left out.
        test: Test cases; likewise.
        geometry: Geometry of the image by case, as far as it is known.

    Returns:
        The tables as plain text.
    """
    training, test = ([*manifest.entries_of(cases)] for cases in (training, test))
    text = text_table(
        ["domain", "training", "test", "patients", "official train / val / test", "spacing (mm)", "image (mm)"],
        [
            [
                domain,
                str(len(_in_domain(manifest, domain, training))),
                str(len(_in_domain(manifest, domain, test))),
                str(len({manifest.patient_of(case) for case in _in_domain(manifest, domain, [*training, *test])})),
                _official(manifest, _in_domain(manifest, domain, [*training, *test])),
                _spacing(manifest, _in_domain(manifest, domain, [*training, *test]), geometry),
                _median(_in_domain(manifest, domain, [*training, *test]), geometry, _extent_mm, "{:.0f}"),
            ]
            for domain in _domains(manifest, [*training, *test])
        ],
    )
    text += "\nSpacing and image size are medians; nominal spacing is marked.\n"
    for part, cases in (("training", training), ("test", test)):
        if cases:
            text += f"\nNumber of {part} cases per structure: {annotation_states(manifest, cases)}\n"
            text += annotation_table(manifest, classes, cases)
    return text


@dataclass(frozen=True)
class AnnotationCount:
    """Count cases of a domain by what is recorded for a class.

    Attributes:
        annotated: By a human.
        absent: Known not to be in the image.
        unknown: Not annotated.
        pseudo: Filled by a model.
    """

    annotated: int = 0
    absent: int = 0
    unknown: int = 0
    pseudo: int = 0

    @property
    def cases(self) -> int:
        """Return the number of all cases."""
        return self.annotated + self.absent + self.unknown + self.pseudo

    @property
    def text(self) -> str:
        """Return for example '40 annotated, 2 absent'; counts of 0 are left out, 'no case' if all are 0."""
        counts = {"annotated": self.annotated, "absent": self.absent, "pseudo": self.pseudo, "unknown": self.unknown}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no case"


#: By domain, then by class.
AnnotationCounts: TypeAlias = Mapping[str, Mapping[str, AnnotationCount]]


def annotation_counts(manifest: Manifest, classes: Sequence[str], cases: Iterable[str]) -> AnnotationCounts:
    """Count per domain and class the cases that are annotated, absent, pseudo or unknown: who annotated what.

    Args:
        manifest: what each case was annotated for.
        classes: names of the classes to count.
        cases: case identifiers; those that the manifest does not name are left out.

    Returns:
        The counts by domain (sorted by name), then by class; empty without cases.
    """
    counts: dict[str, dict[str, Counter[str]]] = {}
    for labels in manifest.entries_of(cases).values():
        of_domain = counts.setdefault(labels.domain or NO_DOMAIN, {name: Counter() for name in classes})
        for name in classes:
            of_domain[name][labels.state(name)] += 1
    return {d: {name: AnnotationCount(**counts[d][name]) for name in classes} for d in sorted(counts)}


def annotation_states(manifest: Manifest, cases: Iterable[str]) -> str:
    """Name the numbers of `annotation_table`.

    Args:
        manifest: The manifest.
        cases: Case identifiers.

    Returns:
        "annotated / absent / unknown", with "pseudo" before the last where a model filled a class of a case.
    """
    return " / ".join(_states(manifest, cases))


def annotation_table(manifest: Manifest, classes: Sequence[str], cases: Sequence[str]) -> str:
    """Format `annotation_counts` as plain text; `annotation_states` says which numbers.

    Args:
        manifest: The manifest.
        classes: Foreground classes.
        cases: Case identifiers.

    Returns:
        A table as plain text, one line per domain.
    """
    states = _states(manifest, cases)
    return text_table(
        ["domain", *classes],
        [
            [domain, *(" / ".join(str(getattr(counts[name], state)) for state in states) for name in classes)]
            for domain, counts in annotation_counts(manifest, classes, cases).items()
        ],
    )


def _states(manifest: Manifest, cases: Iterable[str]) -> tuple[str, ...]:
    has_pseudo = any(labels.pseudo for labels in manifest.entries_of(cases).values())
    return ("annotated", "absent", *(["pseudo"] if has_pseudo else []), "unknown")


def scale_warning(manifest: Manifest, cases: Iterable[str], geometry: Mapping[str, Geometry]) -> str | None:
    """Warn where some cases have measured spacing and others nominal spacing.

    Args:
        manifest: The manifest.
        cases: Case identifiers.
        geometry: Geometry of the image by case, as far as it is known.

    Returns:
        The warning; None where all spacing is measured or all is nominal.
    """
    cases = list(cases)
    if len({spacing_is_known(manifest.labels_of(case), geometry.get(case)) for case in cases}) < 2:
        return None
    lines = [
        f"  {domain}: {_spacing(manifest, _in_domain(manifest, domain, cases), geometry)} mm"
        for domain in _domains(manifest, cases)
    ]
    return (
        "measured and nominal spacings are mixed. nnU-Net resamples all images to one spacing by these numbers; a "
        "heart should then have about the same size everywhere. Median spacing:\n"
        + "\n".join(lines)
        + "\n  If that is not one scale, convert again with another nominal image depth (--depth-mm)."
    )


def _domain(manifest: Manifest, case: str) -> str:
    return manifest.labels_of(case).domain or NO_DOMAIN


def _domains(manifest: Manifest, cases: Iterable[str]) -> list[str]:
    return sorted({_domain(manifest, case) for case in cases})


def _in_domain(manifest: Manifest, domain: str, cases: Iterable[str]) -> list[str]:
    return [case for case in cases if _domain(manifest, case) == domain]


def _official(manifest: Manifest, cases: Sequence[str]) -> str:
    sides = [manifest.labels_of(case).split for case in cases]
    if not any(sides):
        return "none"
    return " / ".join(str(sides.count(side)) for side in ("train", "val", "test"))


def _spacing(manifest: Manifest, cases: Sequence[str], geometry: Mapping[str, Geometry]) -> str:
    text = _median(cases, geometry, lambda g: g.spacing_mm, "{:.3g}")
    nominal = sum(not spacing_is_known(manifest.labels_of(case), geometry.get(case)) for case in cases)
    if not nominal:
        return text
    return text + (" (nominal)" if nominal == len(cases) else " (partly nominal)")


def _extent_mm(geometry: Geometry) -> tuple[float, ...]:
    return tuple(n * spacing for n, spacing in zip(geometry.size, geometry.spacing_mm, strict=True))


def _median(
    cases: Sequence[str],
    geometry: Mapping[str, Geometry],
    quantity: Callable[[Geometry], tuple[float, ...]],
    number: str,
) -> str:
    """Return the median per axis, as '0.3 x 0.3'; '2-D and 3-D' where images differ; '?' where none is known."""
    values = [quantity(geometry[case]) for case in cases if case in geometry]
    if not values:
        return "?"
    if len({len(value) for value in values}) > 1:
        return "2-D and 3-D"
    return " x ".join(number.format(statistics.median(axis)) for axis in zip(*values, strict=True))
