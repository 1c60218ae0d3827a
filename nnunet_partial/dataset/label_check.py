"""Does every label file hold only structures that its case declares drawn? Looking into thousands of files takes a
while, so the answer can be remembered and holds until a file changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.dataset.images import ImageInfo, inspect_image
from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import MANIFEST_NAME, Manifest
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.parallel import parallel_map

#: Name of the file, beside the preprocessed data, in which `LabelCache` keeps its answer.
CACHE_NAME = "partial_labels_checked.json"
_VERSION = 2
_SHOWN = 10


def find_undeclared_labels(
    label_files: Mapping[str, Path],
    manifest: Manifest,
    classes: Sequence[str],
    ignore_label: int | None,
    processes: int = 1,
    progress: bool = False,
) -> list[str]:
    """One line per case whose label file is wrong; empty where all is well.

    Wrong is: a class drawn that the case does not declare annotated, a value that is not in dataset.json, a value that
    is no whole number, a file that cannot be read, a case without entry. `label_files`: file by case identifier;
    `classes`: foreground names in the order of their values 1, 2, ...
    """
    look_inside = functools.partial(inspect_image, with_values=True)
    seen = parallel_map(
        look_inside, list(label_files.values()), processes, "looking into the labels" if progress else None
    )
    judged = (
        label_file_problem(case, facts, manifest, classes, ignore_label)
        for case, facts in zip(label_files, seen, strict=True)
    )
    return [line for line in judged if line]


def label_file_problem(
    case: str, facts: ImageInfo, manifest: Manifest, classes: Sequence[str], ignore_label: int | None
) -> str | None:
    """What is wrong with one label file, as one line that begins with the case; None where nothing is."""
    if facts.problem:
        return f"{case}: the label file {facts.problem}"
    if facts.geometry is not None and facts.geometry.components != 1:
        return f"{case}: the label file has {facts.geometry.components} numbers per pixel (a colour picture?), not one"
    found = []
    broken = [value for value in facts.values if not float(value).is_integer()]
    if broken:
        found.append(f"the label file holds {_listed(broken)}, expected whole numbers")
    whole = [int(value) for value in facts.values if float(value).is_integer()]
    strange = [value for value in whole if value != ignore_label and not 0 <= value <= len(classes)]
    if strange:
        allowed = ", ".join(f"{value} {name}" for value, name in enumerate(["background", *classes]))
        found.append(f"the label file holds {_listed(strange)}, which dataset.json does not have ({allowed})")
    drawn = [classes[value - 1] for value in whole if value != ignore_label and 1 <= value <= len(classes)]
    labels = manifest.find(case)
    if labels is None:
        found.append(f"has no entry in {MANIFEST_NAME}")
    else:
        hidden = [name for name in drawn if name not in labels.annotated]
        if hidden:
            declared = ", ".join(labels.annotated) or "nothing"
            found.append(f"{_listed(hidden)} drawn, but declared as annotated: {declared}")
    return f"{case}: {'; '.join(found)}" if found else None


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def check_label_files(
    label_files: Mapping[str, Path],
    manifest: Manifest,
    classes: Sequence[str],
    ignore_label: int | None,
    processes: int = 1,
    progress: bool = False,
) -> None:
    """Raises ManifestError that names the cases (the first ten) which `find_undeclared_labels` finds."""
    lines = find_undeclared_labels(label_files, manifest, classes, ignore_label, processes, progress)
    if lines:
        more = f"\n... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise ManifestError(
            f"{len(lines)} of {len(label_files)} label files do not fit {MANIFEST_NAME} and dataset.json:\n"
            + "\n".join(lines[:_SHOWN])
            + more
            + f"\nA structure that was drawn belongs in 'annotated' of {MANIFEST_NAME} (raw and preprocessed folder); "
            "or correct the label files."
        )


class LabelCache:
    """Remember that label files fit their manifest, until one of the files changes.

    The file holds hashes only, since it lies beside data that people pass on, and names no case. They are computed
    once, when they are first needed: what changes while the label files are looked into is looked into next time.

    Args:
        file: The cache, beside the preprocessed data.
        manifest_file: The manifest; the labels of the dataset.json beside it count, too.
        label_folder: Folder of the label files, of which names, sizes and times count; none is opened.
        file_ending: Ending of the label files.
        cases: Identifiers of the cases whose label files are looked into, in any order.
        raw_folder: The label files of the raw dataset, where they are there to compare with.
    """

    def __init__(
        self,
        file: Path,
        manifest_file: Path,
        label_folder: Path,
        file_ending: str,
        cases: Sequence[str] = (),
        raw_folder: Path | None = None,
    ) -> None:
        self._file = file
        self._manifest_file = manifest_file
        self._label_folder = label_folder
        self._file_ending = file_ending
        self._cases = cases
        self._raw_folder = raw_folder

    def is_valid(self) -> bool:
        """Return whether exactly these files were found right before; False where anything is missing or broken."""
        try:
            return bool(self._key == read_json(self._file))
        except (OSError, ValueError):
            return False

    def write(self) -> None:
        """Write down that the label files were found right; a folder that cannot be written only costs time later."""
        with contextlib.suppress(OSError):
            write_json(self._file, self._key)

    @functools.cached_property
    def _key(self) -> dict[str, Any]:
        dataset = read_json(self._manifest_file.parent / "dataset.json")
        return {
            "version": _VERSION,
            "manifest_sha256": hashlib.sha256(self._manifest_file.read_bytes()).hexdigest(),
            "labels": dataset["labels"] if isinstance(dataset, dict) and "labels" in dataset else None,
            "cases_sha256": hash_names(self._cases),
            "label_files_sha256": hash_files(self._label_folder, self._file_ending),
            "raw_label_files_sha256": hash_files(self._raw_folder, self._file_ending) if self._raw_folder else None,
        }


def hash_files(folder: Path, file_ending: str) -> str:
    """A sum over names, sizes and times of the files in `folder` that end so; opens none. Raises OSError."""
    stamps = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(file_ending) and not entry.name.startswith("."):
                stat = entry.stat()
                stamps.append(f"{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}")
    return hash_names(stamps)


def hash_names(names: Iterable[str]) -> str:
    """A sum over names, whatever their order, that tells none of them."""
    return hashlib.sha256("\n".join(sorted(names)).encode(errors="surrogateescape")).hexdigest()
