"""What a merge of several data sets would look like, and what speaks against it, before anything is written."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_partial.errors import DatasetError
from nnunet_partial.image_file import Geometry, header, look
from nnunet_partial.label_check import wrong
from nnunet_partial.labels import Manifest, common_order
from nnunet_partial.raw_dataset import RawDataset
from nnunet_partial.utils.parallel import in_parallel
from nnunet_partial.utils.text import some

from .merge_conflicts import conflicts, incomplete, unreadable
from .merge_source import PARTS, Source, lacks_a_class
from .same_people import with_one_patient

#: What `unknown_as_ignore` may lead to.
NO_BACKGROUND = (
    "every training case is partially labelled, so the ignore label has replaced all background: nnUNetTrainer would "
    "learn no background. Train with one of the trainers of this package, or add completely labelled cases"
)
_SHOWN = 10


@dataclass(frozen=True)
class Plan:
    """A merge that nothing speaks against: what will be written."""

    sources: tuple[Source, ...]
    classes: tuple[str, ...]
    manifest: Manifest
    geometry: Mapping[str, Geometry]
    changing: frozenset[str]
    warnings: tuple[str, ...]
    unknown_as_ignore: bool = False

    @property
    def has_ignore(self) -> bool:
        return self.unknown_as_ignore or any(source.dataset.ignore_label is not None for source in self.sources)

    def new_values(self, source: Source, case: str) -> dict[int, int]:
        """The label value in the merged data set for each value in a case of a source."""
        values = self.same_classes(source)
        if self.unknown_as_ignore and case in source.images["Tr"] and self.lacks_a_class(case):
            values[0] = len(self.classes) + 1
        return values

    def same_classes(self, source: Source) -> dict[int, int]:
        """The same, where background stays background."""
        values = {0: 0}
        for value, name in enumerate(source.dataset.classes, start=1):
            values[value] = self.classes.index(name) + 1
        if source.dataset.ignore_label is not None:
            values[source.dataset.ignore_label] = len(self.classes) + 1
        return values

    def lacks_a_class(self, case: str) -> bool:
        """Whether some class of the merged data set is unknown in the case."""
        return lacks_a_class(self.manifest.labels_of(case), self.classes)


def make_plan(
    folders: Sequence[Path], processes: int = 1, progress: bool = False, unknown_as_ignore: bool = False
) -> Plan:
    """Looks at the data sets in `folders` (headers of the images, content of the labels) and plans their merge.

    Raises DatasetError that names everything that speaks against it.
    """
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise DatasetError(f"Got {some([f.name for f in folders])}; expected at least two different data sets.")
    sources = tuple(Source(RawDataset(folder)) for folder in folders)
    _refuse([problem for source in sources for problem in unreadable(source)])
    _refuse([*(p for s in sources for p in incomplete(s)), *conflicts(sources)])
    geometry, problems = _image_headers(sources, processes, progress)
    _refuse(problems)
    classes = common_order(name for source in sources for name in source.dataset.classes)
    entries = {case: labels for source in sources for case, labels in sorted(source.entries.items())}
    entries, same = with_one_patient(entries)
    remarks = (*_remarks(sources), *same)
    plan = Plan(sources, classes, Manifest(entries), geometry, frozenset(), remarks, unknown_as_ignore)
    changing, problems = _look_into_labels(plan, processes, progress)
    _refuse(problems)
    training = [case for source in sources for case in source.images["Tr"]]
    no_background = unknown_as_ignore and all(plan.lacks_a_class(case) for case in training)
    return replace(
        plan,
        changing=frozenset(changing),
        warnings=(*plan.warnings, *([NO_BACKGROUND] if no_background else [])),
    )


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise DatasetError("These data sets cannot be merged; nothing was written.\n- " + "\n- ".join(problems))


def _image_headers(sources: Sequence[Source], processes: int, progress: bool) -> tuple[dict[str, Geometry], list[str]]:
    """Geometry of each case's first channel, and what the headers show: unreadable files, missing channels, 2-D with
    3-D."""
    tasks = [(source, case, paths) for source in sources for p in PARTS for case, paths in source.images[p].items()]
    read = in_parallel(
        _headers, [paths for _, _, paths in tasks], processes, "reading image headers" if progress else None
    )
    geometry: dict[str, Geometry] = {}
    problems: list[str] = []
    dimensions: dict[int, dict[str, list[str]]] = {}
    for (source, case, paths), headers in zip(tasks, read, strict=True):
        if isinstance(headers, str):
            problems.append(f"{source.name}: {headers}")
            continue
        channels = sum(one.components for one in headers)
        if channels != len(source.channel_names):
            problems.append(
                f"{source.name}: case {case} has {channels} channel(s) in {len(paths)} file(s); dataset.json names "
                f"{len(source.channel_names)}"
            )
        geometry[case] = headers[0]
        dimensions.setdefault(len(headers[0].size), {}).setdefault(source.name, []).append(case)
    if len(dimensions) > 1:
        kinds = [
            f"{n}-D: "
            + ", ".join(f"{len(cases)} case(s) of {name} ({some(cases, 3)})" for name, cases in where.items())
            for n, where in sorted(dimensions.items())
        ]
        problems.append("2-D and 3-D images do not go together. " + "; ".join(kinds))
    return geometry, _first(problems)


def _headers(paths: Sequence[Path]) -> list[Geometry] | str:
    """The headers of one case's images, or which file cannot be read and why."""
    found = []
    for path in paths:
        try:
            found.append(header(path))
        except OSError as problem:
            return f"{path.parent.name}/{path.name} cannot be read: {problem}"
    return found


def _look_into_labels(plan: Plan, processes: int, progress: bool) -> tuple[list[str], list[str]]:
    """The cases whose label file needs other numbers, and what is wrong with label files."""
    tasks = [(source, case, path) for source in plan.sources for p in PARTS for case, path in source.labels[p].items()]
    seen = in_parallel(
        functools.partial(look, with_values=True),
        [path for _, _, path in tasks],
        processes,
        "looking into the labels" if progress else None,
    )
    changing, problems = [], []
    for (source, case, _), facts in zip(tasks, seen, strict=True):
        dataset = source.dataset
        line = wrong(case, facts, dataset.manifest, dataset.classes, dataset.ignore_label)
        if line:
            problems.append(f"{source.name}: {line}")
            continue
        new_values = plan.new_values(source, case)
        if any(new_values[int(value)] != value for value in facts.values):
            changing.append(case)
    return changing, _first(problems)


def _remarks(sources: Sequence[Source]) -> list[str]:
    """What is left behind by a merge, for the user to know."""
    found = []
    for source in sources:
        manifest = source.dataset.manifest
        gone = set(manifest.cases) - set(source.cases)
        if gone:
            found.append(f"{source.name}: {len(gone)} entries name cases that are not there; left out: {some(gone)}")
    training = [labels for source in sources for case, labels in source.entries.items() if case in source.images["Tr"]]
    for name in common_order(name for source in sources for name in source.dataset.classes):
        if not any(name in labels.annotated for labels in training):
            found.append(f"no training case is annotated for {name}; it cannot be learned")
    return found


def _first(problems: Sequence[str]) -> list[str]:
    """The first problems, and how many more there are: twenty thousand alike help nobody."""
    rest = len(problems) - _SHOWN
    return [*problems[:_SHOWN], *([f"... and {rest} more (`nnunet_partial check` names them all)"] if rest > 0 else [])]
