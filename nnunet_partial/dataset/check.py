"""Check a dataset: compare manifest, images, labels, splits and counts with each other."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.images import (
    NIFTI_ENDINGS,
    Geometry,
    ImageInfo,
    flat_volumes,
    inspect_image,
    without_endings,
)
from nnunet_partial.dataset.label_check import LabelFile, inspect_label_file, never_present
from nnunet_partial.dataset.mirrored_classes import mirrored_pairs
from nnunet_partial.dataset.out_of_view import off_as_absent
from nnunet_partial.dataset.preprocessed import describe_stale_labels, update_command
from nnunet_partial.dataset.raw import SUBSETS, TIFF, RawDataset, manifest_folders, preprocessed_folder
from nnunet_partial.dataset.splits import (
    SPLITS_NAME,
    left_out_cases,
    patient_warnings,
    patients_on_both_sides,
    split_findings,
    test_split_message,
    training_cases_for_test,
)
from nnunet_partial.dataset.summary import dataset_summary, scale_warning
from nnunet_partial.dataset_json import channel_names, stored_values
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest, find_shared_patients, unused_cases, unused_groups
from nnunet_partial.utils.files import byte_order_mark, files_of_users
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names


@dataclass(frozen=True)
class CheckReport:
    """Hold the result of `check`.

    Attributes:
        overview: Tables as text.
        findings: What is wrong, by subject; one line each.
        remarks: What is not wrong but worth knowing.
    """

    overview: str
    findings: Mapping[str, list[str]]
    remarks: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of findings."""
        return sum(len(lines) for lines in self.findings.values())


@dataclass(frozen=True)
class _CasePaths:
    """Hold the files of one case; `label` is None where there is none."""

    name: str
    part: str
    images: tuple[Path, ...]
    label: LabelFile | None


@dataclass(frozen=True)
class _ImageInfo:
    """Hold what is in the files of one case."""

    images: tuple[ImageInfo, ...]
    label: ImageInfo | None


def check(folder: Path, processes: int = 1, progress: bool = False) -> CheckReport:
    """Check a raw dataset; each of its files is read once, a hundred label files a second time for mirrored classes.

    Where nnUNet_preprocessed has a folder of the same name, its manifest, splits and label files are compared too.

    Args:
        folder: The raw folder.
        processes: How many processes read the files.
        progress: Whether to show a progress bar.

    Returns:
        Everything that is wrong, and the tables. PartialLabelError is raised only where dataset.json or the manifest
        cannot be read at all.
    """
    dataset = RawDataset(folder)
    classes, channels = dataset.structures, len(channel_names(dataset.dataset_json))
    manifest = dataset.manifest
    cases = _cases(dataset)
    infos = list(parallel_map(_read, cases, processes, "reading images and labels" if progress else None))
    training = [case.name for case in cases if case.part == "Tr" and case.images]
    test = [case.name for case in cases if case.part == "Ts" and case.images]
    files, labels, geometry = [], [], {}
    present = {}
    for case, info in zip(cases, infos, strict=True):
        files += _file_findings(case, info, channels)
        if case.part == "Ts" or dataset.listed is None:
            files += _channel_numbers(case)
        if info.label and info.label.problem:
            labels.append(info.label.problem)
        elif info.label and case.part == "Tr":
            present[case.name] = info.label.values
        if info.images and info.images[0].geometry:
            geometry[case.name] = info.images[0].geometry
    findings = {
        "images and labels": [
            *_pairing(dataset, cases),
            *_unusable_names(dataset, cases),
            *files,
            *_reader_findings(dataset, cases, infos),
            *_dimensions(geometry),
            *flat_volumes({case: geometry[case] for case in training if case in geometry}),
        ],
        "content of the labels": labels,
        "dataset.json": [*_marked(folder, "dataset.json"), *_counts(dataset, manifest, classes, training)],
        MANIFEST_NAME: _manifest_findings(dataset, manifest, classes, training, test),
        SPLITS_NAME: [*_marked(folder, SPLITS_NAME), *split_findings(manifest_folders(folder), manifest, training)],
        "preprocessed data": _preprocessed_findings(folder),
    }
    return CheckReport(
        dataset_summary(manifest, classes, training, test, geometry),
        {subject: lines for subject, lines in findings.items() if lines},
        (
            *_older_names(dataset),
            *_same_images(manifest, cases, infos),
            *_remarks(folder, manifest, training, test, geometry),
            *never_present(manifest, stored_values(classes, dataset.regions), present),
            *(pair.text for pair in mirrored_pairs([case.label for case in cases if case.label], processes, present)),
        ),
    )


def _cases(dataset: RawDataset) -> list[_CasePaths]:
    cases = []
    for part in SUBSETS:
        images = dataset.image_files(part)
        labels = {
            name: LabelFile(
                name, path, dataset.manifest.find(name), dataset.structures, dataset.ignore_label, dataset.regions
            )
            for name, path in dataset.label_files(part).items()
        }
        cases += [
            _CasePaths(name, part, tuple(images.get(name, ())), labels.get(name)) for name in sorted({*images, *labels})
        ]
    return cases


def _read(case: _CasePaths) -> _ImageInfo:
    return _ImageInfo(
        tuple(inspect_image(path) for path in case.images),
        inspect_label_file(case.label) if case.label else None,
    )


def _pairing(dataset: RawDataset, cases: Sequence[_CasePaths]) -> list[str]:
    """Find images without labels, labels without images, files that are not images, and cases in both subsets."""
    lines = []
    for case in cases:
        if case.images and not case.label and case.part == "Tr":
            lines.append(f"{case.name}: training image without a label file in labelsTr")
        if case.label and not case.images:
            lines.append(f"{case.name}: label file in labels{case.part} without an image in images{case.part}")
    for part in SUBSETS if dataset.listed is None else SUBSETS[1:]:
        expected = {path.name for case in cases if case.part == part for path in case.images}
        folder = dataset.folder / f"images{part}"
        content = files_of_users(folder) if folder.is_dir() else []
        files = {path.name for path in content if not path.name.startswith(".")}
        if dataset.file_ending in TIFF:
            expected |= {f"{case.name}.json" for case in cases}
        lines += [
            f"images{part}/{name}: not an image of a case; expected CASE_0000{dataset.file_ending}"
            for name in sorted(files - expected)
        ]
    training, test = ({c.name for c in cases if c.part == part and c.images} for part in SUBSETS)
    return lines + [f"{name}: in imagesTr and in imagesTs" for name in sorted(training & test)]


def _reader_findings(dataset: RawDataset, cases: Sequence[_CasePaths], infos: Sequence[_ImageInfo]) -> list[str]:
    """Find cases that nnU-Net's reader of this dataset refuses: each of its two readers of NIfTI refuses some."""
    if not dataset.file_ending.endswith(NIFTI_ENDINGS):
        return []
    reader = str(dataset.dataset_json.get("overwrite_image_reader_writer", "None"))
    nibabel = reader.startswith("Nibabel") or (reader == "None" and dataset.file_ending == ".nii")
    geometry = {
        case.name: [one.geometry for one in (*info.images, info.label) if one and one.geometry]
        for case, info in zip(cases, infos, strict=True)
    }
    if nibabel:
        flat = [case for case, files in geometry.items() if any(len(one.size) == 2 for one in files)]
        what = "are 2-D, and nnU-Net's NibabelIO reads volumes only. Save them as .nii.gz, which SimpleITKIO reads"
        return [f"{len(flat)} case(s) {what}: {format_names(flat)}"] if flat else []
    skewed = [case for case, files in geometry.items() if any(one.skewed for one in files)]
    what = (
        "have axes that are not exactly at right angles, which nnU-Net's SimpleITKIO refuses. Add "
        '"overwrite_image_reader_writer": "NibabelIO" to dataset.json'
    )
    return [f"{len(skewed)} case(s) {what}: {format_names(skewed)}"] if skewed else []


def _unusable_names(dataset: RawDataset, cases: Sequence[_CasePaths]) -> list[str]:
    """Find files that only nnU-Net takes for images or labels, and cases named with a file ending."""
    lines = []
    parts = SUBSETS if dataset.listed is None else SUBSETS[1:]
    for name in (f"{kind}{part}" for kind in ("images", "labels") for part in parts):
        folder = dataset.folder / name
        hidden = [path.name for path in folder.glob(f".*{dataset.file_ending}")] if folder.is_dir() else []
        if hidden:
            lines.append(
                f"{name}: {len(hidden)} hidden file(s), which nnU-Net takes for cases and dies of: "
                f"{format_names(hidden)}. Move them elsewhere; those that begin with ._, which a Mac "
                f"leaves when it copies, can be deleted: find {shlex.quote(str(folder))} -name '._*' -type f -delete"
            )
    lines += [
        f"{case.name}: the case is named with a file ending. Rename it to {name}: images, label, and its "
        f"entries in {MANIFEST_NAME} and {SPLITS_NAME}"
        for case in cases
        if (name := without_endings(case.name)) != case.name
    ]
    # nnUNetDatasetBlosc2.get_identifiers
    return lines + [
        f"{case.name}: nnU-Net takes a preprocessed case whose name ends in _seg for labels, and trains without it. "
        f"Rename it: images, label, and its entries in {MANIFEST_NAME} and {SPLITS_NAME}"
        for case in cases
        if case.name.endswith("_seg")
    ]


def _marked(folder: Path, name: str) -> list[str]:
    """Find a byte order mark in a file that nnU-Net reads from the raw or the preprocessed folder."""
    return [line for place in manifest_folders(folder) if (line := byte_order_mark(place / name))]


def _older_names(dataset: RawDataset) -> list[str]:
    """Say what nnU-Net's dataset.json calls otherwise than this one, which nnU-Net and this package still take."""
    content, lines = dataset.dataset_json, []
    if "channel_names" not in content:
        lines.append(
            "dataset.json has 'modality', as older tools write it. Rename it to 'channel_names': nnU-Net refuses it "
            "under --verify_dataset_integrity"
        )
    texts = [name for name, value in content["labels"].items() if isinstance(value, str)]
    if texts:
        lines.append(
            f"dataset.json has the labels {format_names(texts)} as text. Write them as numbers: "
            f'"{texts[0]}": {content["labels"][texts[0]]}'
        )
    return lines


def _file_findings(case: _CasePaths, info: _ImageInfo, channels: int) -> list[str]:
    """Find unreadable images, missing channels, and files of one case that do not lie on each other."""
    lines = [
        f"{case.name}: images{case.part}/{path.name} {image.problem}"
        for path, image in zip(case.images, info.images, strict=True)
        if image.problem
    ]
    readable = [image.geometry for image in info.images if image.geometry]
    n_channels = sum(geometry.components for geometry in readable) + len(lines)
    if case.images and n_channels != channels:
        lines.append(f"{case.name}: {n_channels} channel(s); dataset.json names {channels}")
    if readable:
        for other in readable[1:]:
            lines += [f"{case.name}: channels differ: {difference}" for difference in readable[0].differences(other)]
        if info.label and info.label.geometry:
            lines += [
                f"{case.name}: image and label differ: {difference}"
                for difference in readable[0].differences(info.label.geometry)
            ]
    return lines


def _channel_numbers(case: _CasePaths) -> list[str]:
    numbers = [path.name.rpartition("_")[2][:4] for path in case.images]
    if numbers == [f"{index:04d}" for index in range(len(numbers))]:
        return []
    return [f"{case.name}: channel files {', '.join(numbers)}; expected 0000, 0001, ..."]


def _dimensions(geometry: Mapping[str, Geometry]) -> list[str]:
    by_axes: dict[int, list[str]] = {}
    for case, one in geometry.items():
        by_axes.setdefault(len(one.size), []).append(case)
    if len(by_axes) < 2:
        return []
    each = "; ".join(f"{n}-D: {len(cases)} case(s), {format_names(cases, 3)}" for n, cases in sorted(by_axes.items()))
    return [f"2-D and 3-D images in one dataset: {each}"]


def _counts(dataset: RawDataset, manifest: Manifest, classes: Sequence[str], training: Sequence[str]) -> list[str]:
    lines = []
    declared = dataset.dataset_json.get("numTraining")
    if declared != len(training):
        lines.append(f"numTraining is {declared}; imagesTr holds {len(training)} case(s)")
    trained = {*training} - {*left_out_cases(manifest, training)}
    return lines + [
        f"the class {name} is annotated in no training case and cannot be learned"
        for name in manifest.classes_without_annotation(trained, classes, with_pseudo=True)
    ]


def _manifest_findings(
    dataset: RawDataset, manifest: Manifest, classes: Sequence[str], training: Sequence[str], test: Sequence[str]
) -> list[str]:
    cases = list(dict.fromkeys([*training, *test]))
    lines = manifest.problems(cases, classes)
    lines += [f"{case}: has an entry, but no image" for case in unused_cases(manifest, cases)]
    lines += unused_groups(manifest, cases)
    for_test = training_cases_for_test(manifest, training)
    lines += [test_split_message(for_test)] if for_test else []
    entries = manifest.entries_of(cases)
    lines += [*find_shared_patients(entries), *off_as_absent(entries)]
    both = patients_on_both_sides(manifest, training, test)
    lines += [f"patient {patient}: in training and in test" for patient in sorted(both)]
    preprocessed = preprocessed_folder(dataset.folder.name)
    if preprocessed and (preprocessed / MANIFEST_NAME).exists():
        lines += _compare(manifest, preprocessed / MANIFEST_NAME)
    return lines


def _compare(manifest: Manifest, copy: Path) -> list[str]:
    """Find where the manifest in the preprocessed folder, which training reads, differs from the raw one."""
    try:
        other = Manifest.read(copy)
    except ManifestError as problem:
        return [str(problem)]
    if other == manifest:
        return []
    names = {*manifest.cases, *other.cases}
    differing = [name for name in names if manifest.cases.get(name) != other.cases.get(name)]
    where = f"case(s) {format_names(differing)}" if differing else "groups, scenario, domain weights or fill"
    return [
        f"{copy} differs from the manifest of the raw dataset in {where}. If the raw one is right: "
        f"{update_command(copy.parent)}"
    ]


def _preprocessed_findings(folder: Path) -> list[str]:
    preprocessed = preprocessed_folder(folder.name)
    if preprocessed is None:
        return []
    stale = describe_stale_labels(folder, preprocessed)
    plans = (byte_order_mark(file) for file in sorted(preprocessed.glob("*lans*.json")))
    return [*([stale] if stale else []), *filter(None, plans)]


def _same_images(manifest: Manifest, cases: Sequence[_CasePaths], infos: Sequence[_ImageInfo]) -> list[str]:
    """Find cases with the same image that count as different patients; where there are channels, the first decides."""
    same: dict[str, list[str]] = {}
    for case, info in zip(cases, infos, strict=True):
        if info.images and info.images[0].digest and manifest.find(case.name):
            same.setdefault(info.images[0].digest, []).append(case.name)
    groups = [names for names in same.values() if len({manifest.patient_of(name) for name in names}) > 1]
    if not groups:
        return []
    each = format_names([" = ".join(names) for names in groups])
    return [
        f"{len(groups)} image(s) are there more than once, as different patients: {each}. Give these cases one "
        "'patient', or take all but one out of the dataset, or they land on both sides of a split"
    ]


def _remarks(
    folder: Path,
    manifest: Manifest,
    training: Sequence[str],
    test: Sequence[str],
    geometry: Mapping[str, Geometry],
) -> tuple[str, ...]:
    """Collect what is not wrong but worth knowing."""
    remarks = patient_warnings(manifest, *([*manifest.entries_of(part)] for part in (training, test)))
    if not any((place / SPLITS_NAME).exists() for place in manifest_folders(folder)):
        remarks.append(
            f"there is no {SPLITS_NAME}. The trainers of this package make one by patient; nnU-Net's own would split "
            "at random over cases"
        )
    scale = scale_warning(manifest, manifest.entries_of([*training, *test]), geometry)
    return (*remarks, *([scale] if scale else []))
