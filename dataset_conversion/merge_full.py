"""What scenarios among the merged data sets have hidden comes along, so that it can still be measured."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_partial.errors import DatasetError
from nnunet_partial.image_file import look
from nnunet_partial.label_check import wrong
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_PART, CaseLabels, Manifest
from nnunet_partial.utils.parallel import in_parallel
from nnunet_partial.utils.text import some

from .bring import File
from .merge_plan import Plan
from .merge_source import Source


@dataclass(frozen=True)
class Complete:
    """Complete labels of all training cases of a merge: `manifest` says what they (and the test labels) know.

    `paths`: label file by data set and case; `changing`: cases whose file needs other numbers.
    """

    paths: Mapping[str, Mapping[str, Path]]
    manifest: Manifest
    changing: frozenset[str]

    def files(self, plan: Plan, staging: Path) -> Iterator[File]:
        """What to bring along."""
        for source in plan.sources:
            for case, path in self.paths[source.name].items():
                new_values = plan.same_classes(source) if case in self.changing else None
                yield File(path, staging / f"labels{FULL_PART}" / path.name, new_values)


def complete_labels(plan: Plan, processes: int = 1, progress: bool = False) -> Complete | None:
    """The complete labels: those that a scenario keeps apart, of other data sets the labels themselves.

    None where no data set is a scenario. Raises DatasetError where labels that a scenario keeps apart are missing or
    hold what they should not.
    """
    apart = {source.name: source.dataset.label_files(FULL_PART) for source in plan.sources}
    if not any(apart.values()):
        return None
    paths, knows = {}, dict(plan.manifest.cases)
    for source in plan.sources:
        paths[source.name] = apart[source.name] or source.labels["Tr"]
        if apart[source.name]:
            entries = _entries(source, apart[source.name])
            knows.update({case: _as_known(plan.manifest.cases[case], labels) for case, labels in entries.items()})
    complete = Complete(paths, Manifest(knows), frozenset())
    return replace(complete, changing=frozenset(_changing(plan, complete, processes, progress)))


def _as_known(entry: CaseLabels, complete: CaseLabels) -> CaseLabels:
    """The entry of the merge, with what the complete labels know."""
    return replace(entry, annotated=complete.annotated, absent=complete.absent)


def _entries(source: Source, apart: Mapping[str, Path]) -> dict[str, CaseLabels]:
    missing = set(source.images["Tr"]) - set(apart)
    if missing:
        raise DatasetError(
            f"{source.name} is a scenario, and its labels{FULL_PART} lacks {len(missing)} training case(s): "
            f"{some(missing)}. Make the scenario again, or remove labels{FULL_PART} to merge without what it hid."
        )
    manifest = Manifest.read(source.dataset.folder / FULL_MANIFEST_NAME)
    return {case: manifest.labels_of(case) for case in source.images["Tr"]}


def _changing(plan: Plan, complete: Complete, processes: int, progress: bool) -> Iterator[str]:
    tasks = [(source, case, path) for source in plan.sources for case, path in complete.paths[source.name].items()]
    seen = in_parallel(
        functools.partial(look, with_values=True),
        [path for _, _, path in tasks],
        processes,
        "looking into the complete labels" if progress else None,
    )
    for (source, case, path), facts in zip(tasks, seen, strict=True):
        dataset = source.dataset
        line = wrong(case, facts, complete.manifest, dataset.classes, dataset.ignore_label)
        if line:
            raise DatasetError(f"{source.name}, {path.parent.name}: {line}")
        new_values = plan.same_classes(source)
        if any(new_values[int(value)] != value for value in facts.values):
            yield case
