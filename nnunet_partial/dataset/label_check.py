"""Check that label files hold only structures that their cases declare annotated, and cache the answer.

Reading thousands of files takes a while, so a clean answer is written down and holds until a file changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.images import ImageInfo, inspect_image
from nnunet_partial.dataset_json import stored_values
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.utils.files import file_hash, read_json, write_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import first_lines, format_values

#: Name of the file, beside the preprocessed data, in which `LabelCache` keeps its answer.
CACHE_NAME = "partial_labels_checked.json"
_VERSION = 4


@dataclass(frozen=True)
class LabelFile:
    """Name a label file and what it must fit.

    Attributes:
        case: Case identifier.
        path: The file.
        labels: The case's entry in the manifest; None where it has none.
        classes: Foreground classes of dataset.json in the order of their values 1, 2, ...
        ignore_label: Value of nnU-Net's ignore label; None where the dataset has none.
        regions: Stored values of each class where these are regions; else empty.
    """

    case: str
    path: Path
    labels: CaseLabels | None
    classes: tuple[str, ...]
    ignore_label: int | None
    regions: tuple[tuple[int, ...], ...] = ()

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """Return the stored values of each class or region."""
        return stored_values(self.classes, self.regions)


def inspect_label_files(
    files: Sequence[LabelFile], processes: int = 1, title: str | None = None
) -> Iterator[ImageInfo]:
    """Read label files and check each against its entry.

    Args:
        files: The files.
        processes: How many processes read them.
        title: Title of the progress bar; None shows none.

    Returns:
        Geometry and values of each file, in their order; `problem` is as `label_file_problem` says.
    """
    return parallel_map(inspect_label_file, files, processes, title)


def inspect_label_file(file: LabelFile) -> ImageInfo:
    """Read a label file and check it against its entry.

    Args:
        file: The file.

    Returns:
        Its geometry and values, as far as it can be read; `problem` is as `label_file_problem` says.
    """
    info = inspect_image(file.path, with_values=True)
    problem = label_file_problem(file.case, info, file.labels, file.classes, file.ignore_label, file.regions)
    return ImageInfo(info.geometry, info.values, problem)


def label_file_problem(
    case: str,
    info: ImageInfo,
    labels: CaseLabels | None,
    classes: Sequence[str],
    ignore_label: int | None,
    regions: Sequence[Sequence[int]] = (),
) -> str | None:
    """Say why a label file does not fit its entry.

    A file does not fit where it cannot be read, holds several values per pixel, a value that is not an integer or not
    in dataset.json, a class that the case is not declared annotated (or pseudo) for, or where the case has no entry. In
    a dataset of regions a value must belong to a region that the case is annotated for, and to none that is declared
    absent.

    Args:
        case: Case identifier.
        info: What `inspect_image` read, with values.
        labels: The case's entry; None where the manifest has none.
        classes: Foreground classes in the order of their values 1, 2, ...; or regions.
        ignore_label: Value of the ignore label; None where there is none.
        regions: Stored values of each region; empty where there are classes.

    Returns:
        One line that begins with the case; None where the file fits.
    """
    if info.problem:
        return f"{case}: the label file {info.problem}"
    problems = []
    fractions = [value for value in info.values if not float(value).is_integer()]
    if fractions:
        problems.append(f"the label file holds {format_values(fractions)}, expected integers")
    integers = [int(value) for value in info.values if float(value).is_integer()]
    stored = stored_values(classes, regions)
    present = [value for value in integers if value not in (0, ignore_label)]
    defined = {value for values in stored.values() for value in values}
    undefined = [value for value in present if value not in defined]
    if undefined:
        structures = (f"{', '.join(map(str, values))} {name}" for name, values in stored.items())
        allowed = "; ".join(["0 background", *structures]) if regions else ", ".join(["0 background", *structures])
        problems.append(
            f"the label file holds {format_values(undefined)}, which dataset.json does not have ({allowed})"
        )
    if labels is None:
        problems.append(f"has no entry in {MANIFEST_NAME}")
    else:
        declared = ", ".join(labels.written) or "nothing"
        if regions:
            problems += _region_problems([value for value in present if value in defined], stored, labels, declared)
        else:
            undeclared = [name for name in classes if name not in labels.written and {*stored[name]} & {*present}]
            if undeclared:
                problems.append(f"{format_values(undeclared)} present, but declared as annotated: {declared}")
    return f"{case}: {'; '.join(problems)}" if problems else None


def _region_problems(
    present: Sequence[int], stored: Mapping[str, Sequence[int]], labels: CaseLabels, declared: str
) -> list[str]:
    """Return what is wrong with the values that are present, by the regions that the case declares."""
    annotated = {value for name in labels.written for value in stored.get(name, ())}
    outside = [value for value in present if value not in annotated]
    problems = [f"holds {format_values(outside)}, in none of the regions declared as annotated: {declared}"]
    absent = {name: [value for value in present if value in stored.get(name, ())] for name in labels.absent}
    return (problems if outside else []) + [
        f"holds {format_values(values)}, but {name} is declared absent" for name, values in absent.items() if values
    ]


def never_present(
    manifest: Manifest, stored: Mapping[str, Sequence[int]], present: Mapping[str, Sequence[float]]
) -> list[str]:
    """Find structures that are declared annotated in a domain and have a voxel in no label file of it.

    Perhaps it is truly in none of these images; but a structure that nobody looked for is learned as background.

    Args:
        manifest: The manifest.
        stored: Values of each class or region in a label file.
        present: Values in the label file of each training case.

    Returns:
        One line per domain and structure; empty where there is none.
    """
    counts: dict[tuple[str, str], list[bool]] = {}
    for case, values in present.items():
        labels = manifest.find(case)
        if labels is None:
            continue
        for name, of_class in stored.items():
            if name in labels.annotated:
                counts.setdefault((labels.domain, name), []).append(not {*of_class}.isdisjoint(values))
    return [
        f"{name} is declared annotated in {len(shown)} training case(s) "
        f"{f'of {domain}' if domain else 'without domain'}, "
        "but no label file of these has a voxel of it. If nobody looked for it there, correct the declaration: else it "
        "is learned as background"
        for (domain, name), shown in counts.items()
        if not any(shown)
    ]


def check_label_files(files: Sequence[LabelFile], processes: int = 1) -> None:
    """Require that all label files fit the manifest; shows a progress bar.

    Args:
        files: The files.
        processes: How many processes read them.

    Raises:
        ManifestError: A file does not fit; names the first ten.
    """
    lines = [info.problem for info in inspect_label_files(files, processes, "reading the labels") if info.problem]
    if lines:
        raise ManifestError(
            f"{len(lines)} of {len(files)} label files do not fit {MANIFEST_NAME} and dataset.json:\n"
            + "\n".join(first_lines(lines))
            + f"\nAn annotated structure belongs in 'annotated' of {MANIFEST_NAME} (raw and preprocessed folder); or "
            "correct the label files."
        )


class LabelCache:
    """Remember that label files fit their manifest, and their content, until one of the files changes.

    The file holds hashes only, since it lies beside data that people pass on, and names no case. They are computed
    once, when they are first needed: what changes while the label files are looked into is looked into next time.

    Args:
        file: The cache, beside the preprocessed data.
        manifest_file: The manifest; the labels of the dataset.json beside it count, too.
        label_folder: Folder of the label files, of which names, sizes and times count.
        file_ending: Ending of the label files.
        cases: Identifiers of the cases whose label files are looked into, in any order.
        raw_files: The label files of the raw dataset by case, where they are there to compare with.
    """

    def __init__(
        self,
        file: Path,
        manifest_file: Path,
        label_folder: Path,
        file_ending: str,
        cases: Sequence[str] = (),
        raw_files: Mapping[str, Path] | None = None,
    ) -> None:
        self._file = file
        self._manifest_file = manifest_file
        self._label_folder = label_folder
        self._file_ending = file_ending
        self._cases = cases
        self._raw_files = raw_files

    def is_valid(self) -> bool:
        """Tell whether exactly these files were found right before.

        Returns:
            Whether they are the same as then; False where anything is missing or broken.
        """
        return self._remembered is not None

    def write(self) -> None:
        """Write down that the label files were found right; a folder that is not writable only costs time later."""
        with contextlib.suppress(OSError):
            write_json(self._file, {**self._key, "contents": [*self.contents.values()]})

    @functools.cached_property
    def contents(self) -> dict[str, str]:
        """Return a hash of each case's label file; reads them, unless they were found right before."""
        if self._remembered is not None:
            return self._remembered
        files = {case: self._label_folder / f"{case}{self._file_ending}" for case in sorted(self._cases)}
        return {case: file_hash(path)[:16] for case, path in files.items()}

    @functools.cached_property
    def _remembered(self) -> dict[str, str] | None:
        try:
            content = read_json(self._file)
            hashes = content.pop("contents")
            return dict(zip(sorted(self._cases), hashes, strict=True)) if content == self._key else None
        except (OSError, ValueError, AttributeError, KeyError, TypeError):  # broken, or of an earlier version
            return None

    @functools.cached_property
    def _key(self) -> dict[str, Any]:
        dataset = read_json(self._manifest_file.parent / "dataset.json")
        return {
            "version": _VERSION,
            "manifest_sha256": file_hash(self._manifest_file),
            "labels": dataset["labels"] if isinstance(dataset, dict) and "labels" in dataset else None,
            "cases_sha256": hash_names(self._cases),
            "label_files_sha256": hash_files(self._label_folder, self._file_ending),
            "raw_label_files_sha256": hash_listed(self._raw_files) if self._raw_files else None,
        }


def hash_files(folder: Path, file_ending: str) -> str:
    """Hash names, sizes and times of the files in a folder; opens none.

    Args:
        folder: The folder. OSError where it cannot be listed.
        file_ending: Only files that end so count; hidden ones do not.

    Returns:
        The hash, hexadecimal.
    """
    stamps = []
    with os.scandir(folder) as entries:  # half the time of paths, which counts with 20,000 files
        for entry in entries:
            if entry.name.endswith(file_ending) and not entry.name.startswith("."):
                stat = entry.stat()
                stamps.append(f"{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}")
    return hash_names(stamps)


def hash_listed(files: Mapping[str, Path]) -> str:
    """Hash names, sizes and times of files that may lie anywhere; opens none.

    Args:
        files: File by name. OSError where one is missing.

    Returns:
        The hash, hexadecimal.
    """
    stats = {name: path.stat() for name, path in files.items()}
    return hash_names(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}" for name, stat in stats.items())


def hash_names(names: Iterable[str]) -> str:
    """Hash names independently of their order; no name can be read from the hash.

    Args:
        names: The names.

    Returns:
        The hash, hexadecimal.
    """
    return hashlib.sha256("\n".join(sorted(names)).encode(errors="surrogateescape")).hexdigest()
