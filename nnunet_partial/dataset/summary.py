"""A data set at a glance: per domain how many cases and patients there are, and how many know each structure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from nnunet_partial.dataset.images import Geometry, spacing_is_known
from nnunet_partial.labels import Manifest
from nnunet_partial.utils.text import text_table

NO_DOMAIN = "(no domain)"


def dataset_summary(
    manifest: Manifest,
    classes: Sequence[str],
    training: Sequence[str],
    test: Sequence[str],
    geometry: Mapping[str, Geometry],
) -> str:
    """The tables that `check` and `merge` print, as plain text.

    `training`, `test`: case identifiers; those that the manifest does not name are left out. `geometry`: of the images,
    by case, as far as known.
    """
    training, test = ([case for case in cases if manifest.find(case)] for cases in (training, test))
    text = text_table(
        ["domain", "training", "test", "patients", "official train / val / test", "pixel (mm)", "image (mm)"],
        [
            [
                domain,
                str(len(_of(manifest, domain, training))),
                str(len(_of(manifest, domain, test))),
                str(len({manifest.patient_of(case) for case in _of(manifest, domain, [*training, *test])})),
                _official(manifest, _of(manifest, domain, [*training, *test])),
                _pixel(manifest, _of(manifest, domain, [*training, *test]), geometry),
                _median(_of(manifest, domain, [*training, *test]), geometry, _extent_mm, "{:.0f}"),
            ]
            for domain in _domains(manifest, [*training, *test])
        ],
    )
    text += "\nPixel and image size are medians; made-up pixel sizes are marked.\n"
    for part, cases in (("training", training), ("test", test)):
        if cases:
            text += f"\nHow many {part} cases know each structure: annotated / absent / unknown\n"
            text += annotation_table(manifest, classes, cases)
    return text


def annotation_table(manifest: Manifest, classes: Sequence[str], cases: Sequence[str]) -> str:
    """Per domain, for how many of `cases` each class is annotated / absent / unknown; plain text, a line per domain."""
    return text_table(
        ["domain", *classes],
        [
            [domain, *(_annotations(manifest, _of(manifest, domain, cases), name) for name in classes)]
            for domain in _domains(manifest, cases)
        ],
    )


def scale_warning(manifest: Manifest, cases: Iterable[str], geometry: Mapping[str, Geometry]) -> str | None:
    """A warning where some cases have a measured pixel size and others a made-up one; else None."""
    known: dict[bool, list[str]] = {True: [], False: []}
    for case in cases:
        known[spacing_is_known(manifest.labels_of(case), geometry.get(case))].append(case)
    if not known[True] or not known[False]:
        return None
    lines = [
        f"  {domain}: {_pixel(manifest, _of(manifest, domain, [*known[True], *known[False]]), geometry)} mm"
        for domain in _domains(manifest, [*known[True], *known[False]])
    ]
    return (
        "measured and made-up pixel sizes are mixed. nnU-Net brings all images to one pixel size by these numbers; a "
        "heart should then have about the same size everywhere. Median pixel size:\n"
        + "\n".join(lines)
        + "\n  If that is not one scale, convert again with another nominal image depth (--depth-mm)."
    )


def _domain(manifest: Manifest, case: str) -> str:
    return manifest.labels_of(case).domain or NO_DOMAIN


def _domains(manifest: Manifest, cases: Iterable[str]) -> list[str]:
    return sorted({_domain(manifest, case) for case in cases})


def _of(manifest: Manifest, domain: str, cases: Iterable[str]) -> list[str]:
    return [case for case in cases if _domain(manifest, case) == domain]


def _official(manifest: Manifest, cases: Sequence[str]) -> str:
    sides = [manifest.labels_of(case).split for case in cases]
    if not any(sides):
        return "none"
    return " / ".join(str(sides.count(side)) for side in ("train", "val", "test"))


def _annotations(manifest: Manifest, cases: Sequence[str], name: str) -> str:
    annotated = sum(name in manifest.labels_of(case).annotated for case in cases)
    absent = sum(name in manifest.labels_of(case).absent for case in cases)
    return f"{annotated} / {absent} / {len(cases) - annotated - absent}"


def _pixel(manifest: Manifest, cases: Sequence[str], geometry: Mapping[str, Geometry]) -> str:
    text = _median(cases, geometry, lambda g: g.spacing_mm, "{:.3g}")
    made_up = sum(not spacing_is_known(manifest.labels_of(case), geometry.get(case)) for case in cases)
    if not made_up:
        return text
    return text + (" (made up)" if made_up == len(cases) else " (partly made up)")


def _extent_mm(geometry: Geometry) -> tuple[float, ...]:
    return tuple(n * spacing for n, spacing in zip(geometry.size, geometry.spacing_mm, strict=True))


def _median(
    cases: Sequence[str],
    geometry: Mapping[str, Geometry],
    quantity: Callable[[Geometry], tuple[float, ...]],
    number: str,
) -> str:
    """The median per axis, as '0.3 x 0.3'; '2-D and 3-D' where the images differ in that; '?' where none is known."""
    values = [quantity(geometry[case]) for case in cases if case in geometry]
    if not values:
        return "?"
    if len({len(value) for value in values}) > 1:
        return "2-D and 3-D"
    return " x ".join(number.format(statistics.median(axis)) for axis in zip(*values, strict=True))
