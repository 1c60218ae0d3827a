"""Several data sets become one, in which each case still knows only what its own data set knew.

What a merge of several data sets would look like, and what speaks against it, before anything is written.

What scenarios among the merged data sets have hidden comes along, so that it can still be measured.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.domains import square_root_weights
from nnunet_partial.dataset.images import Geometry, header, inspect_image
from nnunet_partial.dataset.label_check import label_file_problem
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.dataset.summary import dataset_summary, scale_warning
from nnunet_partial.errors import DatasetError
from nnunet_partial.labels import FULL_MANIFEST_NAME, FULL_SUBSET, CaseLabels, Manifest, common_order
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_names

from ..duplicates import merge_duplicate_patients
from ..staging import refuse_existing, staged_dataset, write_metadata
from .files import File, bring
from .source import (
    NO_BACKGROUND,
    SUBSETS,
    InputDataset,
    find_case_problems,
    find_conflicts,
    find_metadata_problems,
    lacks_a_class,
)


@dataclass(frozen=True)
class MergePlan:
    """A merge that nothing speaks against: what will be written."""

    sources: tuple[InputDataset, ...]
    classes: tuple[str, ...]
    manifest: Manifest
    geometry: Mapping[str, Geometry]
    changing: frozenset[str]
    warnings: tuple[str, ...]
    unknown_as_ignore: bool = False

    @property
    def has_ignore(self) -> bool:
        return self.unknown_as_ignore or any(source.dataset.ignore_label is not None for source in self.sources)

    def new_values(self, source: InputDataset, case: str) -> dict[int, int]:
        """The label value in the merged data set for each value in a case of a source."""
        values = self.same_classes(source)
        if self.unknown_as_ignore and case in source.images["Tr"] and self.lacks_a_class(case):
            values[0] = len(self.classes) + 1
        return values

    def same_classes(self, source: InputDataset) -> dict[int, int]:
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


def plan_merge(
    folders: Sequence[Path], processes: int = 1, progress: bool = False, unknown_as_ignore: bool = False
) -> MergePlan:
    """Looks at the data sets in `folders` (headers of the images, content of the labels) and plans their merge.

    Raises DatasetError that names everything that speaks against it.
    """
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise DatasetError(f"Got {format_names([f.name for f in folders])}; expected at least two different data sets.")
    sources = tuple(InputDataset(RawDataset(folder)) for folder in folders)
    _refuse([problem for source in sources for problem in find_metadata_problems(source)])
    _refuse([*(p for s in sources for p in find_case_problems(s)), *find_conflicts(sources)])
    geometry, problems = _image_headers(sources, processes, progress)
    _refuse(problems)
    classes = common_order(name for source in sources for name in source.dataset.classes)
    entries = {case: labels for source in sources for case, labels in sorted(source.entries.items())}
    entries, same = merge_duplicate_patients(entries)
    remarks = (*_remarks(sources), *same)
    plan = MergePlan(sources, classes, Manifest(entries), geometry, frozenset(), remarks, unknown_as_ignore)
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


def _image_headers(
    sources: Sequence[InputDataset], processes: int, progress: bool
) -> tuple[dict[str, Geometry], list[str]]:
    """Geometry of each case's first channel, and what the headers show: unreadable files, missing channels, 2-D with
    3-D."""
    tasks = [(source, case, paths) for source in sources for p in SUBSETS for case, paths in source.images[p].items()]
    read = parallel_map(
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
            + ", ".join(f"{len(cases)} case(s) of {name} ({format_names(cases, 3)})" for name, cases in where.items())
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


def _look_into_labels(plan: MergePlan, processes: int, progress: bool) -> tuple[list[str], list[str]]:
    """The cases whose label file needs other numbers, and what is wrong with label files."""
    tasks = [
        (source, case, path) for source in plan.sources for p in SUBSETS for case, path in source.labels[p].items()
    ]
    seen = parallel_map(
        functools.partial(inspect_image, with_values=True),
        [path for _, _, path in tasks],
        processes,
        "looking into the labels" if progress else None,
    )
    changing, problems = [], []
    for (source, case, _), facts in zip(tasks, seen, strict=True):
        dataset = source.dataset
        line = label_file_problem(case, facts, dataset.manifest, dataset.classes, dataset.ignore_label)
        if line:
            problems.append(f"{source.name}: {line}")
            continue
        new_values = plan.new_values(source, case)
        if any(new_values[int(value)] != value for value in facts.values):
            changing.append(case)
    return changing, _first(problems)


def _remarks(sources: Sequence[InputDataset]) -> list[str]:
    """What is left behind by a merge, for the user to know."""
    found = []
    for source in sources:
        manifest = source.dataset.manifest
        gone = set(manifest.cases) - set(source.cases)
        if gone:
            found.append(
                f"{source.name}: {len(gone)} entries name cases that are not there; left out: {format_names(gone)}"
            )
    entries = Manifest({case: source.entries[case] for source in sources for case in source.images["Tr"]})
    classes = common_order(name for source in sources for name in source.dataset.classes)
    missing = entries.classes_without_annotation(entries.cases, classes)
    return [*found, *(f"no training case is annotated for {name}; it cannot be learned" for name in missing)]


def _first(problems: Sequence[str]) -> list[str]:
    """Name the first problems only: twenty thousand alike help nobody."""
    return first_lines(problems, where=" (`nnunet_partial check` names them all)")


@dataclass(frozen=True)
class Complete:
    """Complete labels of all training cases of a merge: `manifest` says what they (and the test labels) know.

    `paths`: label file by data set and case; `changing`: cases whose file needs other numbers.
    """

    paths: Mapping[str, Mapping[str, Path]]
    manifest: Manifest
    changing: frozenset[str]

    def files(self, plan: MergePlan, staging: Path) -> Iterator[File]:
        """What to bring along."""
        for source in plan.sources:
            for case, path in self.paths[source.name].items():
                new_values = plan.same_classes(source) if case in self.changing else None
                yield File(path, staging / f"labels{FULL_SUBSET}" / path.name, new_values)


def complete_labels(plan: MergePlan, processes: int = 1, progress: bool = False) -> Complete | None:
    """The complete labels: those that a scenario keeps apart, of other data sets the labels themselves.

    None where no data set is a scenario. Raises DatasetError where labels that a scenario keeps apart are missing or
    hold what they should not.
    """
    apart = {source.name: source.dataset.label_files(FULL_SUBSET) for source in plan.sources}
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


def _entries(source: InputDataset, apart: Mapping[str, Path]) -> dict[str, CaseLabels]:
    missing = set(source.images["Tr"]) - set(apart)
    if missing:
        raise DatasetError(
            f"{source.name} is a scenario, and its labels{FULL_SUBSET} lacks {len(missing)} training case(s): "
            f"{format_names(missing)}. Make the scenario again, or remove labels{FULL_SUBSET} to merge "
            "without what it hid."
        )
    manifest = Manifest.read(source.dataset.folder / FULL_MANIFEST_NAME)
    return {case: manifest.labels_of(case) for case in source.images["Tr"]}


def _changing(plan: MergePlan, complete: Complete, processes: int, progress: bool) -> Iterator[str]:
    tasks = [(source, case, path) for source in plan.sources for case, path in complete.paths[source.name].items()]
    seen = parallel_map(
        functools.partial(inspect_image, with_values=True),
        [path for _, _, path in tasks],
        processes,
        "looking into the complete labels" if progress else None,
    )
    for (source, case, path), facts in zip(tasks, seen, strict=True):
        dataset = source.dataset
        line = label_file_problem(case, facts, complete.manifest, dataset.classes, dataset.ignore_label)
        if line:
            raise DatasetError(f"{source.name}, {path.parent.name}: {line}")
        new_values = plan.same_classes(source)
        if any(new_values[int(value)] != value for value in facts.values):
            yield case


@dataclass(frozen=True)
class MergeResult:
    """A merged data set: where it lies, its tables as text, and what the user should know.

    `weights`: with which probability training draws from each domain; None where every case is as likely.
    """

    folder: Path
    overview: str
    warnings: tuple[str, ...]
    weights: dict[str, float] | None = None


def merge(
    folders: Sequence[Path],
    name: str,
    *,
    unknown_as_ignore: bool = False,
    balance: bool = False,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> MergeResult:
    """Writes the data set nnUNet_raw/`name` with all cases of the raw data sets in `folders`.

    Classes are the union, in the common order LV, MYO, LA, RV, RA, others behind them, an ignore label last. Images are
    hard-linked (copied where the file system cannot), labels too unless their numbers change. `unknown_as_ignore`: the
    background of training cases that do not know every class becomes nnU-Net's ignore label. `balance`: weights are
    written by which training draws from each domain, like the square root of its number of training cases. What a
    scenario among them hid comes along in labelsTr_full, which holds the complete labels of all then. Raises
    DatasetError, before anything is written, where the data sets do not fit together.
    """
    if nnunet_folder("nnUNet_raw") / name in folders:
        raise DatasetError(f"{name} is one of the data sets to be merged. Choose another id for the result with -d.")
    refuse_existing(name, overwrite)
    plan = plan_merge(folders, processes, progress, unknown_as_ignore)
    complete = complete_labels(plan, processes, progress)
    weights, remarks = _weights(plan, balance)
    with staged_dataset(name, _made_with(plan, balance), overwrite) as staging:
        files = [*_files(plan, staging), *(complete.files(plan, staging) if complete else ())]
        for _ in parallel_map(bring, files, processes, "linking and relabelling" if progress else None):
            pass
        warnings = write_metadata(
            staging,
            Manifest(plan.manifest.cases, scenario=_scenarios(plan), domain_weights=weights),
            plan.classes,
            channel_names=plan.sources[0].channel_names,
            file_ending=plan.sources[0].dataset.file_ending,
            ignore=plan.has_ignore,
            **_about(plan, name),
        )
        if complete:
            complete.manifest.write(staging / FULL_MANIFEST_NAME)
    training, test = ([case for s in plan.sources for case in s.images[part]] for part in SUBSETS)
    scale = scale_warning(plan.manifest, [*training, *test], plan.geometry)
    return MergeResult(
        nnunet_folder("nnUNet_raw") / name,
        dataset_summary(plan.manifest, plan.classes, training, test, plan.geometry),
        (*plan.warnings, *remarks, *([scale] if scale else []), *warnings),
        weights,
    )


def _files(plan: MergePlan, staging: Path) -> Iterator[File]:
    for source in plan.sources:
        for part in SUBSETS:
            for paths in source.images[part].values():
                yield from (File(path, staging / f"images{part}" / path.name) for path in paths)
            for case, path in source.labels[part].items():
                new_values = plan.new_values(source, case) if case in plan.changing else None
                yield File(path, staging / f"labels{part}" / path.name, new_values)


def _weights(plan: MergePlan, balance: bool) -> tuple[dict[str, float] | None, list[str]]:
    """How likely training draws from each domain, None for every case equally often; and what the user should know."""
    if not balance:
        return None, [
            f"{source.name}: its domain weights do not hold for the merged data set; left out (--balance makes new)"
            for source in plan.sources
            if source.dataset.manifest.domain_weights
        ]
    sizes = Counter(plan.manifest.labels_of(case).domain for source in plan.sources for case in source.images["Tr"])
    if len(sizes) < 2:
        return None, [f"--balance has nothing to balance: every training case is of the domain {next(iter(sizes))}"]
    return square_root_weights(sizes), []


def _made_with(plan: MergePlan, balance: bool) -> dict[str, Any]:
    """Which files the merge is made of: another selection or a changed file starts it afresh."""
    return {
        "command": "merge",
        "sources": [source.file_hashes(f"labels{FULL_SUBSET}", FULL_MANIFEST_NAME) for source in plan.sources],
        "unknown_as_ignore": plan.unknown_as_ignore,
        "balance": balance,
    }


def _scenarios(plan: MergePlan) -> dict[str, Any] | None:
    """The scenarios of the sources, by data set; None where there are none."""
    found = {s.name: dict(s.dataset.manifest.scenario) for s in plan.sources if s.dataset.manifest.scenario}
    return found or None


def _about(plan: MergePlan, name: str) -> dict[str, Any]:
    """Entries of dataset.json: where the data came from, and each source's terms and references."""
    about: dict[str, Any] = {
        "dataset_name": name.partition("_")[2],
        "description": "Merged from " + ", ".join(source.name for source in plan.sources),
    }
    for ours, theirs in (("license", "licence"), ("reference", "reference")):
        each = [f"{s.name}: {s.dataset.dataset_json[theirs]}" for s in plan.sources if theirs in s.dataset.dataset_json]
        if each:
            about[ours] = "; ".join(each)
    reader = plan.sources[0].dataset.dataset_json.get("overwrite_image_reader_writer")
    if reader:
        about["overwrite_image_reader_writer"] = reader
    return about
