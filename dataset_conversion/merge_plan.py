"""What a merge of several data sets would look like, and what speaks against it, before anything is written."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nnunet_partial.errors import DatasetError, PartialLabelError, some
from nnunet_partial.image_file import Geometry, header, look
from nnunet_partial.label_check import wrong
from nnunet_partial.labels import COMMON_CLASSES, CaseLabels, Manifest
from nnunet_partial.parallel import in_parallel
from nnunet_partial.raw_dataset import RawDataset

PARTS = ("Tr", "Ts")
_SHOWN = 10


@dataclass(frozen=True)
class Source:
    """One data set to be merged, with its files listed once."""

    dataset: RawDataset

    @property
    def name(self) -> str:
        return self.dataset.folder.name

    @cached_property
    def images(self) -> dict[str, dict[str, list[Path]]]:
        """Image files by part ("Tr", "Ts") and case."""
        return {part: self.dataset.image_files(part) for part in PARTS}

    @cached_property
    def labels(self) -> dict[str, dict[str, Path]]:
        """Label file by part ("Tr", "Ts") and case."""
        return {part: self.dataset.label_files(part) for part in PARTS}

    @property
    def cases(self) -> list[str]:
        return [case for part in PARTS for case in self.images[part]]

    @property
    def channel_names(self) -> dict[str, str]:
        names = self.dataset.dataset_json.get("channel_names")
        if not isinstance(names, dict) or not names:
            raise DatasetError('dataset.json has no \'channel_names\'; expected an object such as {"0": "ultrasound"}.')
        return {str(index): str(name) for index, name in names.items()}

    @cached_property
    def entries(self) -> dict[str, CaseLabels]:
        """What each case knows: patterns resolved to cases; a case without a domain gets the name of its data set."""
        domain = self.name.partition("_")[2] or self.name
        found = {case: self.dataset.manifest.labels_of(case) for case in self.cases}
        return {case: labels if labels.domain else replace(labels, domain=domain) for case, labels in found.items()}


@dataclass(frozen=True)
class Plan:
    """A merge that nothing speaks against: what will be written."""

    sources: tuple[Source, ...]
    classes: tuple[str, ...]
    manifest: Manifest
    geometry: Mapping[str, Geometry]
    changing: frozenset[str]
    warnings: tuple[str, ...]

    @property
    def has_ignore(self) -> bool:
        return any(source.dataset.ignore_label is not None for source in self.sources)

    def new_values(self, source: Source) -> dict[int, int]:
        """The label value in the merged data set for each value of a source."""
        values = {0: 0}
        for value, name in enumerate(source.dataset.classes, start=1):
            values[value] = self.classes.index(name) + 1
        if source.dataset.ignore_label is not None:
            values[source.dataset.ignore_label] = len(self.classes) + 1
        return values


def make_plan(folders: Sequence[Path], processes: int = 1, progress: bool = False) -> Plan:
    """Looks at the data sets in `folders` (headers of the images, content of the labels) and plans their merge.

    Raises DatasetError that names everything that speaks against it.
    """
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise DatasetError(f"Got {some([f.name for f in folders])}; expected at least two different data sets.")
    sources = tuple(Source(RawDataset(folder)) for folder in folders)
    _refuse([problem for source in sources for problem in _unreadable(source)])
    _refuse([*(p for s in sources for p in _incomplete(s)), *_conflicts(sources)])
    geometry, problems = _image_headers(sources, processes, progress)
    _refuse(problems)
    classes = common_order(name for source in sources for name in source.dataset.classes)
    manifest = Manifest({case: labels for source in sources for case, labels in sorted(source.entries.items())})
    plan = Plan(sources, classes, manifest, geometry, frozenset(), tuple(_remarks(sources)))
    changing, problems = _look_into_labels(plan, processes, progress)
    _refuse(problems)
    return replace(plan, changing=frozenset(changing))


def common_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: LV, MYO, LA, RV, RA first, as far as they occur, then the others as they first appear."""
    once = list(dict.fromkeys(names))
    return tuple(n for n in COMMON_CLASSES if n in once) + tuple(n for n in once if n not in COMMON_CLASSES)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise DatasetError("These data sets cannot be merged; nothing was written.\n- " + "\n- ".join(problems))


def _unreadable(source: Source) -> list[str]:
    """What is wrong with dataset.json and the manifest of one data set, each on its own."""
    found = []
    for read in (
        lambda: source.dataset.classes,
        lambda: source.channel_names,
        lambda: source.dataset.manifest,
    ):
        try:
            read()
        except PartialLabelError as problem:
            if f"{source.name}: {problem}" not in found:
                found.append(f"{source.name}: {problem}")
    return found


def _incomplete(source: Source) -> list[str]:
    """Images without labels, labels without images, cases without entry: as the lists of files show it."""
    found = []
    images, labels = source.images, source.labels
    if not images["Tr"]:
        found.append(f"{source.name}: no training images in imagesTr")
    unlabelled = set(images["Tr"]) - set(labels["Tr"])
    if unlabelled:
        found.append(f"{source.name}: {len(unlabelled)} training image(s) without a label file: {some(unlabelled)}")
    for part in PARTS:
        alone = set(labels[part]) - set(images[part])
        if alone:
            found.append(f"{source.name}: {len(alone)} label file(s) in labels{part} without an image: {some(alone)}")
    twice = set(images["Tr"]) & set(images["Ts"])
    if twice:
        found.append(f"{source.name}: {len(twice)} case(s) in imagesTr and in imagesTs: {some(twice)}")
    found += [f"{source.name}: {p}" for p in source.dataset.manifest.problems(source.cases, source.dataset.classes)]
    return found


def _conflicts(sources: Sequence[Source]) -> list[str]:
    """Where the data sets do not fit each other, as dataset.json, manifests and the lists of files show it."""
    found = []
    for what, values in (
        ("file endings", [source.dataset.file_ending for source in sources]),
        ("channels", [", ".join(source.channel_names.values()) for source in sources]),
        ("readers", [str(s.dataset.dataset_json.get("overwrite_image_reader_writer")) for s in sources]),
    ):
        if len(set(values)) > 1:
            each = "; ".join(f"{source.name}: {value}" for source, value in zip(sources, values, strict=True))
            found.append(f"different {what}: {each}. Convert one of them so that they agree")
    found += _alike_names(sources)
    return found + _same_cases(sources) + _patients_on_both_sides(sources)


def _alike_names(sources: Sequence[Source]) -> list[str]:
    spelled: dict[str, list[str]] = {}
    for name in common_order(name for source in sources for name in source.dataset.classes):
        spelled.setdefault(name.casefold().strip(), []).append(name)
    return [
        f"classes that differ in spelling only: {', '.join(names)}. Use one spelling in dataset.json and manifest"
        for names in spelled.values()
        if len(names) > 1
    ]


def _same_cases(sources: Sequence[Source]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for source in sources:
        for case in dict.fromkeys(source.cases):
            owners.setdefault(case, []).append(source.name)
    shared: dict[str, list[str]] = {}
    for case, names in owners.items():
        if len(names) > 1:
            shared.setdefault(" and ".join(names), []).append(case)
    return [
        f"{len(cases)} case(s) with the same identifier in {names}: {some(cases)}. Convert one data set with other "
        "identifiers, or leave it out"
        for names, cases in shared.items()
    ]


def _patients_on_both_sides(sources: Sequence[Source]) -> list[str]:
    """Patients who train in one data set and are test patients of another: their test would be too good to be true."""
    sides: dict[str, dict[str, set[str]]] = {}
    for source in sources:
        for part in PARTS:
            for case in source.images[part]:
                labels = source.dataset.manifest.find(case)
                if labels is not None:
                    side = "test" if part == "Ts" or labels.split == "test" else "training"
                    sides.setdefault(labels.patient or case, {}).setdefault(source.name, set()).add(side)
    leaking: dict[str, list[str]] = {}
    for patient, by_source in sides.items():
        if len(by_source) > 1 and len(set.union(*by_source.values())) > 1:
            where = ", ".join(f"{' and '.join(sorted(s))} in {name}" for name, s in by_source.items())
            leaking.setdefault(where, []).append(patient)
    return [
        f"{len(patients)} patient(s) on different sides of the official splits ({where}): {some(patients)}. "
        "Leave these cases out of one data set; if they are different people, give them different 'patient' entries"
        for where, patients in leaking.items()
    ]


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
    new_values = {source.name: plan.new_values(source) for source in plan.sources}
    changing, problems = [], []
    for (source, case, _), facts in zip(tasks, seen, strict=True):
        dataset = source.dataset
        line = wrong(case, facts, dataset.manifest, dataset.classes, dataset.ignore_label)
        if line:
            problems.append(f"{source.name}: {line}")
            continue
        if any(new_values[source.name][int(value)] != value for value in facts.values):
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
        if manifest.domain_weights:
            found.append(f"{source.name}: its domain weights do not hold for the merged data set; left out")
    training = [labels for source in sources for case, labels in source.entries.items() if case in source.images["Tr"]]
    for name in common_order(name for source in sources for name in source.dataset.classes):
        if not any(name in labels.annotated for labels in training):
            found.append(f"no training case is annotated for {name}; it cannot be learned")
    return found


def _first(problems: Sequence[str]) -> list[str]:
    """The first problems, and how many more there are: twenty thousand alike help nobody."""
    rest = len(problems) - _SHOWN
    return [*problems[:_SHOWN], *([f"... and {rest} more (`nnunet_partial check` names them all)"] if rest > 0 else [])]
