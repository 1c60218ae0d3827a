"""Merge several datasets into one in which each case stays annotated for the classes of its own dataset only.

A merge is planned before anything is written: whatever prevents it is found and named first. Where one of the datasets
is a scenario, the labels that it hides are merged too (labelsTr_full), so that predictions can be compared with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.domains import square_root_weights
from nnunet_partial.dataset.images import Geometry, ImageInfo, header
from nnunet_partial.dataset.label_check import inspect_label_files, label_file_problem
from nnunet_partial.dataset.raw import SUBSETS, RawDataset, nnunet_folder, short_name
from nnunet_partial.dataset.splits import similar_patients
from nnunet_partial.dataset.summary import dataset_summary, scale_warning
from nnunet_partial.dataset_json import PSEUDO_LABELS_KEY, is_filled
from nnunet_partial.errors import ConversionError, DatasetError
from nnunet_partial.labels import (
    FULL_MANIFEST_NAME,
    FULL_SUBSET,
    SAME_PEOPLE_AS,
    CaseLabels,
    Manifest,
    common_order,
    unused_cases,
)
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_names, format_values, printable

from ..base import DEPTH_KEY, require_identifier
from ..duplicates import merge_duplicate_patients
from ..staging import NOT_STATED, refuse_existing, staged_dataset, write_metadata
from .files import FileToWrite, changes, write_files
from .label_values import LabelValues, extended, holders_of, joined_values, same_holders
from .source import (
    NO_BACKGROUND,
    InputDataset,
    find_case_problems,
    find_conflicts,
    find_metadata_problems,
)


@dataclass(frozen=True)
class MergePlan:
    """Describe a merge that is possible: what will be written.

    Attributes:
        sources: The datasets to be merged.
        label_values: Classes or regions of the merged dataset, and the values that store them.
        manifest: Manifest entries of all cases.
        geometry: Size and spacing of the first channel, by case.
        changing: Cases whose label file needs other label values.
        warnings: What the user should know, one line each.
        unknown_as_ignore: Whether the background of partially labeled training cases becomes nnU-Net's ignore label.
    """

    sources: tuple[InputDataset, ...]
    label_values: LabelValues
    manifest: Manifest
    geometry: Mapping[str, Geometry]
    changing: frozenset[str]
    warnings: tuple[str, ...]
    unknown_as_ignore: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes or regions in the order of the network's outputs."""
        return self.label_values.classes

    @property
    def has_ignore(self) -> bool:
        """Return whether the merged dataset has an ignore label."""
        return self.unknown_as_ignore or any(source.dataset.ignore_label is not None for source in self.sources)

    def new_values(self, source: InputDataset, case: str) -> dict[int, int]:
        """Map the label values of a case to those of the merged dataset.

        Args:
            source: Dataset of the case.
            case: Identifier of the case.

        Returns:
            Label value in the merged dataset by label value in `source`, background 0 included. With
            `unknown_as_ignore` values of a training case map to the ignore label where an unknown class may be.
        """
        values = dict(self.same_classes[source.name])
        if self.unknown_as_ignore and case in source.images["Tr"]:
            known = self.manifest.labels_of(case).known_in_training
            unknown = self.label_values.uncertain({0: (), **self._holders[source.name]}, known)
            values |= dict.fromkeys(unknown, self.label_values.ignore)
        return values

    @cached_property
    def same_classes(self) -> dict[str, dict[int, int]]:
        """Map the label values of each dataset to those of the merged dataset, where nothing is ignored.

        Returns:
            Label value in the merged dataset by label value in the dataset, background 0 and the ignore label included,
            by the name of the dataset.
        """
        mapped = {}
        for source in self.sources:
            holders = self._holders[source.name].items()
            mapped[source.name] = {0: 0, **{value: self.label_values.value_of(names) for value, names in holders}}
            if source.dataset.ignore_label is not None:
                mapped[source.name][source.dataset.ignore_label] = self.label_values.ignore
        return mapped

    @cached_property
    def _holders(self) -> dict[str, dict[int, frozenset[str]]]:
        """Return which structures of the merged dataset hold each label value of a dataset, by its name."""
        relations = self.label_values.relations
        return {
            source.name: {value: extended(names, relations) for value, names in holders_of(source.values).items()}
            for source in self.sources
        }


def plan_merge(
    folders: Sequence[Path],
    processes: int = 1,
    progress: bool = False,
    unknown_as_ignore: bool = False,
    prefixes: Mapping[Path, str] | None = None,
    renames: Mapping[Path, Mapping[str, str]] | None = None,
) -> MergePlan:
    """Plan the merge of several datasets; reads the image headers and the label files, writes nothing.

    Args:
        folders: Raw folders of the datasets, two or more.
        processes: Number of processes that read files.
        progress: Whether to print the progress.
        unknown_as_ignore: Whether the background of partially labeled training cases becomes nnU-Net's ignore label.
        prefixes: What is put before the case identifiers of a dataset, by its folder.
        renames: New name by name of a class, by the folder of the dataset.

    Returns:
        The plan of the merged dataset.

    Raises:
        DatasetError: The datasets do not fit together; the message names everything that prevents the merge.
    """
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise DatasetError(f"Got {format_names([f.name for f in folders])}; expected at least two different datasets.")
    sources = tuple(InputDataset(RawDataset(folder)) for folder in folders)
    _refuse([problem for source in sources for problem in find_metadata_problems(source)])
    problems = [problem for source in sources for problem in find_case_problems(source)]
    if prefixes or renames:
        _refuse(problems)  # before they are looked for under other names
        sources = _with_prefixes(sources, prefixes or {})
        sources = _with_renames(sources, renames or {})
    _refuse([*problems, *find_conflicts(sources)])
    geometry, problems = _image_headers(sources, processes, progress)
    _refuse(problems)
    label_values = _label_values(sources)
    entries = {case: labels for source in sources for case, labels in sorted(source.entries.items())}
    entries, duplicates = merge_duplicate_patients(entries)
    remarks = (*_remarks(sources), *duplicates, *similar_patients(labels.patient or c for c, labels in entries.items()))
    plan = MergePlan(sources, label_values, Manifest(entries), geometry, frozenset(), remarks, unknown_as_ignore)
    changing, problems = _look_into_labels(plan, processes, progress)
    _refuse(problems)
    no_background = unknown_as_ignore and all(
        plan.new_values(source, case)[0] for source in sources for case in source.images["Tr"]
    )
    return replace(
        plan,
        changing=frozenset(changing),
        warnings=(*plan.warnings, *([NO_BACKGROUND] if no_background else [])),
    )


def _label_values(sources: Sequence[InputDataset]) -> LabelValues:
    """Give all structures their values in the merged dataset. Raises DatasetError where regions do not fit."""
    with_regions = any(source.dataset.regions for source in sources)
    try:
        return joined_values({source.name: source.values for source in sources}, with_regions)
    except DatasetError as problem:
        raise DatasetError(f"These datasets cannot be merged; nothing was written.\n- {problem}.") from None


def _refuse(problems: Sequence[str]) -> None:
    """Raise DatasetError with one line per problem, if there is any."""
    if problems:
        raise DatasetError("These datasets cannot be merged; nothing was written.\n- " + "\n- ".join(problems))


def _with_prefixes(sources: Sequence[InputDataset], prefixes: Mapping[Path, str]) -> tuple[InputDataset, ...]:
    """Give the cases of datasets a prefix. Raises DatasetError for one that cannot be part of a name."""
    _require_merged("--prefix", prefixes, sources)
    for prefix in prefixes.values():
        try:
            require_identifier(prefix + "1")
        except ConversionError:
            raise DatasetError(
                f"The prefix is {printable(prefix)!r}; expected letters, digits, '_' and '-', the first a letter or "
                "digit, such as B_."
            ) from None
    return tuple(replace(source, prefix=prefixes.get(source.dataset.folder, "")) for source in sources)


def _require_merged(option: str, folders: Iterable[Path], sources: Sequence[InputDataset]) -> None:
    """Raise DatasetError where an option names a dataset that is not merged."""
    others = set(folders) - {source.dataset.folder for source in sources}
    if others:
        raise DatasetError(
            f"{option} is given for {format_names([folder.name for folder in others])}, which is not merged; expected "
            f"one of {format_names([source.name for source in sources])}."
        )


def _with_renames(
    sources: Sequence[InputDataset], renames: Mapping[Path, Mapping[str, str]]
) -> tuple[InputDataset, ...]:
    """Give classes of datasets another name. Raises DatasetError for a class that is not there or would be two."""
    _require_merged("--rename", renames, sources)
    problems = [line for source in sources for line in _rename_problems(source, renames.get(source.dataset.folder, {}))]
    if problems:
        raise DatasetError("--rename: " + "; ".join(problems) + "; nothing was written.")
    return tuple(replace(source, renames=renames.get(source.dataset.folder, {})) for source in sources)


def _rename_problems(source: InputDataset, renames: Mapping[str, str]) -> Iterator[str]:
    """Find what is wrong with the new names of a dataset, in which a name must go on meaning one thing."""
    classes, manifest = source.dataset.structures, source.dataset.manifest
    for old in renames:
        if old not in classes:
            yield f"{source.name} has no class {old}; its classes: {', '.join(classes)}"
    entries = [*manifest.cases.values(), *(labels for _, labels in manifest.groups)]
    used = {*classes, *(name for labels in entries for name in labels.known_in_training)} - {*renames}
    for new, number in Counter(renames.values()).items():
        if new in used or number > 1:
            yield f"{source.name} would mean two things by {new}"
        if new in ("background", "ignore") or new != new.strip() or not new.isprintable():
            yield f"{printable(new)!r} cannot be a class; expected a name such as LV_inner"


def _image_headers(
    sources: Sequence[InputDataset], processes: int, progress: bool
) -> tuple[dict[str, Geometry], list[str]]:
    """Read the geometry of each case's first channel; find unreadable files, missing channels, 2-D mixed with 3-D."""
    tasks = [(source, case, paths) for source in sources for p in SUBSETS for case, paths in source.images[p].items()]
    headers_by_case = parallel_map(
        _headers, [paths for _, _, paths in tasks], processes, "reading image headers" if progress else None
    )
    geometry: dict[str, Geometry] = {}
    problems: list[str] = []
    dimensions: dict[int, dict[str, list[str]]] = {}
    for (source, case, paths), headers in zip(tasks, headers_by_case, strict=True):
        if isinstance(headers, str):
            problems.append(f"{source.name}: {headers}")
            continue
        channels = sum(image.components for image in headers)
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
        problems.append("2-D and 3-D images cannot be merged. " + "; ".join(kinds))
    return geometry, _first(problems)


def _headers(paths: Sequence[Path]) -> list[Geometry] | str:
    """Read the headers of one case's images; return the message where a file cannot be read."""
    headers = []
    for path in paths:
        try:
            headers.append(header(path))
        except OSError as problem:
            return f"{path.parent.name}/{path.name} cannot be read: {problem}"
    return headers


def _look_into_labels(plan: MergePlan, processes: int, progress: bool) -> tuple[list[str], list[str]]:
    """Find the cases whose label file needs other label values, and what is wrong with label files."""
    tasks = [
        (source, case, path) for source in plan.sources for p in SUBSETS for case, path in source.labels[p].items()
    ]
    files = [source.label_file(case, path, plan.manifest) for source, case, path in tasks]
    infos = inspect_label_files(files, processes, "reading the labels" if progress else None)
    changing, problems = [], []
    for (source, case, _), info in zip(tasks, infos, strict=True):
        if info.problem:
            problems.append(f"{source.name}: {info.problem}")
        elif problem := _problem_when_merged(plan, source, case, info, plan.manifest):
            problems.append(f"{source.name}: {problem}")
        elif changes(info.values, plan.new_values(source, case)):
            changing.append(case)
    return changing, _first(problems)


def _problem_when_merged(
    plan: MergePlan, source: InputDataset, case: str, info: ImageInfo, manifest: Manifest
) -> str | None:
    """Find a region that a case declares absent, although what it holds lies inside it by another dataset."""
    if not plan.label_values.has_regions:
        return None
    new_values = plan.same_classes[source.name]
    values = tuple(float(new_values[int(value)]) for value in info.values)
    regions, ignore = plan.label_values.regions, plan.label_values.ignore
    labels = manifest.labels_of(case)
    return label_file_problem(case, replace(info, values=values), labels, plan.classes, ignore, regions)


def _remarks(sources: Sequence[InputDataset]) -> list[str]:
    """Collect what the user should know about the manifests and the classes, one line each."""
    lines = []
    for source in sources:
        manifest = source.dataset.manifest
        no_image = unused_cases(manifest, [case.removeprefix(source.prefix) for case in source.cases])
        if no_image:
            lines.append(
                f"{source.name}: {len(no_image)} case(s) in the manifest have no image; "
                f"left out: {format_names(no_image)}"
            )
        if source.dataset.manifest.fill:
            lines.append(
                f"{source.name}: a model filled classes of its cases, and the merged dataset has folds of its own. "
                "What that model was trained on is not independent in any of them; compare on test cases"
            )
        lines += [
            f"{source.name}: the values {format_values(values)} belong to the same region(s) and become one"
            for values in same_holders(source.values)
        ]
    entries = Manifest({case: source.entries[case] for source in sources for case in source.images["Tr"]})
    classes = common_order(name for source in sources for name in source.classes)
    missing = entries.classes_without_annotation(entries.cases, classes, with_pseudo=True)
    lines += _same_names(sources)
    return [*lines, *(f"no training case is annotated for {name}; it cannot be learned" for name in missing)]


def _same_names(sources: Sequence[InputDataset]) -> list[str]:
    """Say which patients several datasets have by their names; not those whom a manifest declares to be the same."""
    owners: dict[str, list[str]] = {}
    declared = set()
    for source in sources:
        for case, labels in source.entries.items():
            patient = labels.patient or case
            owners.setdefault(patient, []).append(source.name)
            declared |= {patient} if labels.info.get(SAME_PEOPLE_AS) else set()
    shared: dict[tuple[str, ...], list[str]] = {}
    for patient, names in owners.items():
        if len(set(names)) > 1 and patient not in declared:
            shared.setdefault(tuple(dict.fromkeys(names)), []).append(patient)
    return [
        f"{len(patients)} patient(s) of {' and '.join(names)} have the same name and count as one person each, in "
        f"splits and in every number: {format_names(patients)}. If they are other people, give them other 'patient' "
        "entries in one of the manifests"
        for names, patients in shared.items()
    ]


def _first(problems: Sequence[str]) -> list[str]:
    """Keep the first problems only."""
    return first_lines(problems, where=" (`nnunet_partial check` names them all)")


@dataclass(frozen=True)
class CompleteLabels:
    """Describe the complete labels of all training cases of a merge.

    Attributes:
        paths: Label file by dataset and case.
        manifest: What the complete labels, and the test labels, are annotated for.
        changing: Cases whose label file needs other label values.
    """

    paths: Mapping[str, Mapping[str, Path]]
    manifest: Manifest
    changing: frozenset[str]

    def files(self, plan: MergePlan, staging: Path) -> Iterator[FileToWrite]:
        """List the label files to be written.

        Args:
            plan: The merge.
            staging: Folder in which the merged dataset is built.

        Yields:
            Each label file of labelsTr_full.
        """
        for source in plan.sources:
            for case, path in self.paths[source.name].items():
                new_values = plan.same_classes[source.name] if case in self.changing else None
                yield FileToWrite(path, staging / f"labels{FULL_SUBSET}" / source.label_name(case), new_values)


def plan_complete_labels(plan: MergePlan, processes: int = 1, progress: bool = False) -> CompleteLabels | None:
    """Plan the complete labels: labelsTr_full of a scenario, labelsTr of any other dataset.

    Args:
        plan: The merge.
        processes: Number of processes that read label files.
        progress: Whether to print the progress.

    Returns:
        The complete labels; None where no dataset is a scenario.

    Raises:
        DatasetError: Complete labels of a scenario are missing or do not fit their manifest.
    """
    full = {source.name: source.label_files(FULL_SUBSET) for source in plan.sources}
    if not any(full.values()):
        return None
    paths, cases = {}, dict(plan.manifest.cases)
    for source in plan.sources:
        paths[source.name] = full[source.name] or source.labels["Tr"]
        if full[source.name]:
            for case, labels in _full_entries(source, full[source.name]).items():
                cases[case] = replace(
                    cases[case], annotated=labels.annotated, absent=labels.absent, pseudo=labels.pseudo
                )
    complete = CompleteLabels(paths, Manifest(cases), frozenset())
    return replace(complete, changing=frozenset(_changing(plan, complete, processes, progress)))


def _full_entries(source: InputDataset, full: Mapping[str, Path]) -> dict[str, CaseLabels]:
    """Read what the complete labels `full` of a scenario are annotated for, by training case."""
    missing = set(source.images["Tr"]) - set(full)
    if missing:
        raise DatasetError(
            f"{source.name} is a scenario, and its labels{FULL_SUBSET} lacks {len(missing)} training case(s): "
            f"{format_names(missing)}. Make the scenario again, or remove labels{FULL_SUBSET} to merge "
            "without what it hid."
        )
    manifest = Manifest.read(source.dataset.folder / FULL_MANIFEST_NAME)
    return {case: source.labels_of(case, manifest) for case in source.images["Tr"]}


def _changing(plan: MergePlan, complete: CompleteLabels, processes: int, progress: bool) -> Iterator[str]:
    """Find the cases whose complete label file needs other label values."""
    tasks = [(source, case, path) for source in plan.sources for case, path in complete.paths[source.name].items()]
    files = [source.label_file(case, path, complete.manifest) for source, case, path in tasks]
    infos = inspect_label_files(files, processes, "reading the complete labels" if progress else None)
    for (source, case, path), info in zip(tasks, infos, strict=True):
        problem = info.problem or _problem_when_merged(plan, source, case, info, complete.manifest)
        if problem:
            raise DatasetError(f"{source.name}, {path.parent.name}: {problem}")
        if changes(info.values, plan.same_classes[source.name]):
            yield case


@dataclass(frozen=True)
class MergeResult:
    """Describe a merged dataset that was written.

    Attributes:
        folder: Its raw folder.
        overview: Its tables as text.
        warnings: What the user should know, one line each.
        weights: Probability with which training samples each domain; None where every case is sampled equally often.
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
    prefixes: Mapping[Path, str] | None = None,
    renames: Mapping[Path, Mapping[str, str]] | None = None,
    overwrite: bool = False,
    processes: int = 1,
    progress: bool = False,
) -> MergeResult:
    """Merge datasets into the new dataset nnUNet_raw/`name`.

    The classes are the union, in the common order LV, MYO, LA, RV, RA, then all others, then an ignore label. Regions
    are joined by name, and what holds the same regions in two datasets is stored as one value. Images
    are hard-linked (copied where the file system has no links), labels too unless their values change. If one of the
    datasets is a scenario, labelsTr_full holds the complete labels of all training cases.

    Args:
        folders: Raw folders of the datasets, two or more.
        name: Name of the new dataset, such as Dataset510_Echo.
        unknown_as_ignore: Whether the background of training cases in which a class is unknown becomes nnU-Net's ignore
            label.
        balance: Whether to write domain weights, by which training samples each domain with a probability
            proportional to the square root of its number of training cases.
        prefixes: What is put before the case identifiers of a dataset, by its folder, such as "B_".
        renames: New name by name of a class, by the folder of the dataset, such as LV_inner for LV.
        overwrite: Whether to replace an existing dataset of this name.
        processes: Number of processes that read and write files.
        progress: Whether to print the progress.

    Returns:
        The merged dataset.

    Raises:
        DatasetError: The datasets do not fit together, or the new one exists; nothing was written.
    """
    if nnunet_folder("nnUNet_raw") / name in folders:
        raise DatasetError(f"{name} is one of the datasets to be merged. Choose another id for the result with -d.")
    refuse_existing(name, overwrite)
    plan = plan_merge(folders, processes, progress, unknown_as_ignore, prefixes, renames)
    complete = plan_complete_labels(plan, processes, progress)
    weights, weight_warnings = _domain_weights(plan, balance)
    with staged_dataset(name, _options_record(plan, balance), overwrite) as staging:
        files = [*_files_to_write(plan, staging), *(complete.files(plan, staging) if complete else ())]
        write_files(files, processes, progress)
        warnings = write_metadata(
            staging,
            Manifest(plan.manifest.cases, scenario=_scenarios(plan), domain_weights=weights, fill=_fills(plan)),
            plan.classes,
            channel_names=plan.sources[0].channel_names,
            file_ending=plan.sources[0].dataset.file_ending,
            ignore=plan.has_ignore,
            regions=plan.label_values.regions,
            **_dataset_json_entries(plan, name),
        )
        if complete:
            complete.manifest.write(staging / FULL_MANIFEST_NAME)
    training, test = ([case for s in plan.sources for case in s.images[subset]] for subset in SUBSETS)
    scale = scale_warning(plan.manifest, [*training, *test], plan.geometry)
    return MergeResult(
        nnunet_folder("nnUNet_raw") / name,
        dataset_summary(plan.manifest, plan.classes, training, test, plan.geometry),
        (*plan.warnings, *weight_warnings, *([scale] if scale else []), *warnings),
        weights,
    )


def _files_to_write(plan: MergePlan, staging: Path) -> Iterator[FileToWrite]:
    """List the images and labels of the merged dataset."""
    for source in plan.sources:
        for subset in SUBSETS:
            yield from source.images_to_write(subset, source.images[subset], staging)
            for case, path in source.labels[subset].items():
                new_values = plan.new_values(source, case) if case in plan.changing else None
                yield FileToWrite(path, staging / f"labels{subset}" / source.label_name(case), new_values)


def _domain_weights(plan: MergePlan, balance: bool) -> tuple[dict[str, float] | None, list[str]]:
    """Compute the sampling probability of each domain (None: every case equally often), and warnings."""
    if not balance:
        return None, [
            f"{source.name}: its domain weights do not apply to the merged dataset; left out (--balance makes new ones)"
            for source in plan.sources
            if source.dataset.manifest.domain_weights
        ]
    training = [plan.manifest.labels_of(case) for source in plan.sources for case in source.images["Tr"]]
    sizes = Counter(labels.domain for labels in training if not labels.left_out)
    if len(sizes) < 2:
        return None, [f"--balance has no effect: all training cases are of the domain {format_names(sizes)}"]
    return square_root_weights(sizes), []


def _options_record(plan: MergePlan, balance: bool) -> dict[str, Any]:
    """Record the source files and options; an interrupted merge is only resumed if they are the same."""
    return {
        "command": "merge",
        "sources": [source.file_hashes(f"labels{FULL_SUBSET}", FULL_MANIFEST_NAME) for source in plan.sources],
        "unknown_as_ignore": plan.unknown_as_ignore,
        "balance": balance,
        "prefixes": [source.prefix for source in plan.sources],
        "renames": [dict(source.renames) for source in plan.sources],
    }


def _scenarios(plan: MergePlan) -> dict[str, Any] | None:
    """Collect the scenario entries of the sources, by dataset; None where there are none."""
    return {s.name: dict(s.dataset.manifest.scenario) for s in plan.sources if s.dataset.manifest.scenario} or None


def _fills(plan: MergePlan) -> dict[str, Any] | None:
    """Collect which models filled classes of the sources, by dataset; None where none did."""
    return {s.name: dict(s.dataset.manifest.fill) for s in plan.sources if s.dataset.manifest.fill} or None


def _named(source: InputDataset) -> str:
    """Name a dataset and the classes that were renamed."""
    renamed = ", ".join(f"{old} is {new}" for old, new in source.renames.items())
    return f"{source.name} ({renamed})" if renamed else source.name


def _dataset_json_entries(plan: MergePlan, name: str) -> dict[str, Any]:
    """Build the entries of dataset.json that name the sources, their licenses and their references."""
    entries: dict[str, Any] = {
        "dataset_name": short_name(name),
        "description": "Merged from " + ", ".join(map(_named, plan.sources)),
    }
    sources = {source.name: source.dataset.dataset_json for source in plan.sources}
    # as nnU-Net spells it
    entries["licence"] = "; ".join(f"{name}: {content.get('licence', NOT_STATED)}" for name, content in sources.items())
    references = [f"{name}: {content['reference']}" for name, content in sources.items() if "reference" in content]
    if references:
        entries["reference"] = "; ".join(references)
    if plan.label_values.has_regions:
        entries["regions_class_order"] = plan.label_values.regions_class_order
    filled = [source.name for source in plan.sources if is_filled(source.dataset.dataset_json)]
    if filled:
        entries[PSEUDO_LABELS_KEY] = {"dataset": name, "source": ", ".join(filled)}
    reader = plan.sources[0].dataset.dataset_json.get("overwrite_image_reader_writer")
    if reader:
        entries["overwrite_image_reader_writer"] = reader
    depths = {s.dataset.dataset_json[DEPTH_KEY] for s in plan.sources if DEPTH_KEY in s.dataset.dataset_json}
    if len(depths) == 1:
        entries[DEPTH_KEY] = depths.pop()
    return entries
