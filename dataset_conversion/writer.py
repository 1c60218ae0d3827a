"""Turns the cases of any data set into a nnU-Net raw data set: pictures, labels, manifest, folds, a report.

What became of each source, and the log that lets an interrupted conversion go on instead of starting again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from nnunet_partial import __version__
from nnunet_partial.dataset.images import require_whole_nifti
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.errors import ConversionError, DatasetError, PartialLabelError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names

from .base import ConvertedCase, DataSet, Note, Skipped, SourceItem
from .readers.images import to_smallest_dtype, write_image
from .staging import refuse_existing, staged_dataset, write_metadata


@dataclass(frozen=True)
class Outcome:
    """`cases`: what was written, by identifier. Cases with a fault are in `skipped`; `notes`: converted, but odd."""

    source: str
    cases: Mapping[str, CaseLabels] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def failed(self) -> list[Skipped]:
        """What was skipped and is no known defect of the official release."""
        return [skipped for skipped in self.skipped if not skipped.known_defect]

    def to_line(self) -> str:
        """One line of JSON."""
        content = {
            "source": self.source,
            "cases": {case: labels.to_json() for case, labels in self.cases.items()},
            "skipped": [dataclasses.asdict(skipped) for skipped in self.skipped],
            "notes": [dataclasses.asdict(note) for note in self.notes],
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """Raises ValueError, KeyError or TypeError for anything that `to_line` did not write."""
        content: dict[str, Any] = json.loads(line)
        return cls(
            content["source"],
            {case: CaseLabels.from_json(labels) for case, labels in content["cases"].items()},
            tuple(Skipped(**skipped) for skipped in content["skipped"]),
            tuple(Note(**note) for note in content["notes"]),
        )


def read_log(log: Path, sources: Iterable[str]) -> dict[str, Outcome]:
    """What an interrupted run had done without a fault, by source. A line that was cut off does not count."""
    found: dict[str, Outcome] = {}
    wanted = set(sources)
    if not log.exists():
        return found
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            outcome = Outcome.from_line(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if outcome.source in wanted and not outcome.failed:
            found[outcome.source] = outcome
    return found


ENDING = ".nii.gz"
REPORT_NAME = "conversion_report.json"
LOG_NAME = ".converted.jsonl"
#: nnU-Net normalises a channel of this name by z-score, image by image.
CHANNELS = {"0": "ultrasound"}


@dataclass(frozen=True)
class Report:
    """What came out: cases per split and files per folder (counted on disk), and what did not, and why."""

    folder: Path
    counts: dict[str, int]
    skipped: list[Skipped]
    known_defects: list[Skipped]
    notes: list[Note]

    def to_json(self, made_with: dict[str, Any]) -> dict[str, Any]:
        return {
            "made_with": made_with,
            "counts": self.counts,
            "skipped": [{"case": s.case, "reason": s.reason} for s in self.skipped],
            "known_defects": [{"case": s.case, "reason": s.reason} for s in self.known_defects],
            "notes": [{"about": note.about, "note": note.text} for note in self.notes],
        }


def convert(
    data_set: DataSet,
    name: str,
    *,
    processes: int = 1,
    strict: bool = False,
    overwrite: bool = False,
    limit: int | None = None,
    progress: bool = False,
    tell: Callable[[Skipped], None] | None = None,
) -> Report:
    """Writes `data_set` as nnU-Net data set `name` (Dataset501_CAMUS) into nnUNet_raw, whole or not at all.

    A case that cannot be converted is left out, handed to `tell` at once and named in conversion_report.json; with
    `strict` the first one raises ConversionError instead. `limit`: only so many sources (videos, patient views), for a
    first look. Interrupted, the same call goes on where it stopped. Raises ConversionError for a wrong folder or where
    nothing at all can be converted, DatasetError where the data set exists (see `overwrite`) or the disk refuses.
    """
    if limit is not None and limit < 1:
        raise ConversionError(f"The limit is {limit}; expected at least 1.")
    refuse_existing(name, overwrite)
    sources = list(data_set.sources())[:limit]
    _require_distinct([source.name for source in sources])
    made_with = {**data_set.made_with(), "limit": limit, "version": __version__}
    with staged_dataset(name, made_with, overwrite) as folder:
        log = folder / LOG_NAME
        outcomes = _outcomes(data_set, sources, folder, processes, strict, progress, tell)
        cases = _cases(outcomes)
        _remove_stale_files(folder, cases)
        notes = [*data_set.remarks(), *data_set.gathered([note for outcome in outcomes for note in outcome.notes])]
        notes += _metadata(data_set, folder, cases)
        skipped = [skipped for outcome in outcomes for skipped in outcome.skipped]
        report = Report(
            nnunet_folder("nnUNet_raw") / name,
            _count_cases(folder, cases),
            [s for s in skipped if not s.known_defect],
            [s for s in skipped if s.known_defect],
            notes,
        )
        write_json(folder / REPORT_NAME, report.to_json(made_with))
        log.unlink()
    return report


def _require_distinct(names: Sequence[str]) -> None:
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise ConversionError(f"{len(twice)} name(s) stand for more than one source: {format_names(twice)}.")


def _outcomes(
    data_set: DataSet,
    sources: Sequence[SourceItem],
    folder: Path,
    processes: int,
    strict: bool,
    progress: bool,
    tell: Callable[[Skipped], None] | None,
) -> list[Outcome]:
    """What became of each source, in their order; converts those that an earlier run has not finished."""
    log = folder / LOG_NAME
    done = {
        name: outcome
        for name, outcome in read_log(log, [source.name for source in sources]).items()
        if all(_is_whole(path) for case, labels in outcome.cases.items() for path in _files(folder, case, labels))
    }
    todo = [source for source in sources if source.name not in done]
    work = functools.partial(convert_source, data_set, folder)
    title = "converting" if progress else None
    results = cast("Generator[Outcome, None, None]", parallel_map(work, todo, processes, title))
    with log.open("a", encoding="utf-8") as file, closing(results):
        file.write("\n")  # ends a line that a killed run may have left unfinished
        for outcome in results:
            file.write(outcome.to_line())
            file.flush()
            done[outcome.source] = outcome
            for skipped in outcome.failed:
                if strict:
                    raise ConversionError(
                        f"{skipped.case}: {skipped.reason} (--strict stops here; nothing is published)"
                    )
                if tell is not None:
                    tell(skipped)
    return [done[source.name] for source in sources]


def _is_whole(path: Path) -> bool:
    """Whether the file of an interrupted run is there, all of it: a power cut may have come before the disk had it."""
    try:
        require_whole_nifti(path)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def convert_source(data_set: DataSet, folder: Path, source: SourceItem) -> Outcome:
    """Reads one source and writes its cases into `folder`; runs in a worker process.

    Whatever goes wrong in reading becomes a named skip; only a disk that does not take a file raises (DatasetError).
    """
    cases: dict[str, CaseLabels] = {}
    skipped: list[Skipped] = []
    notes: list[Note] = []
    for found in _find_items(data_set, source):
        if isinstance(found, Skipped):
            skipped.append(found)
        elif isinstance(found, Note):
            notes.append(found)
        elif found.identifier in cases:
            skipped.append(Skipped(found.identifier, "a second case of the same source has this identifier"))
        else:
            try:
                found.require_sound(data_set.classes)
            except ConversionError as problem:
                skipped.append(Skipped(found.identifier, str(problem)))
                continue
            _write(folder, found)
            cases[found.identifier] = found.labels
    return Outcome(source.name, cases, tuple(skipped), tuple(notes))


def _find_items(data_set: DataSet, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
    """What the data set yields; an error as the last item. Errors of whoever consumes this do not pass through here."""
    try:
        yield from data_set.read(source)
    except PartialLabelError as problem:
        yield Skipped(source.name, str(problem))
    except Exception as problem:  # one strange file must not end a night's work; it is named, and the exit code is 1
        yield Skipped(source.name, f"{type(problem).__name__}: {problem}")


def _write(folder: Path, case: ConvertedCase) -> None:
    image, label = _files(folder, case.identifier, case.labels)
    for path in (image, label):
        path.parent.mkdir(exist_ok=True)
    write_image(image, to_smallest_dtype(case.image), case.spacing_mm)
    write_image(label, case.mask.astype(np.uint8), case.spacing_mm)


def _files(folder: Path, identifier: str, labels: CaseLabels) -> tuple[Path, Path]:
    part = "Ts" if labels.split == "test" else "Tr"
    return folder / f"images{part}" / f"{identifier}_0000{ENDING}", folder / f"labels{part}" / f"{identifier}{ENDING}"


def _cases(outcomes: Sequence[Outcome]) -> dict[str, CaseLabels]:
    """All cases by identifier, sorted. Raises ConversionError where there is none, or one identifier twice."""
    origin: dict[str, str] = {}
    twice: list[str] = []
    cases: dict[str, CaseLabels] = {}
    for outcome in outcomes:
        for case, labels in outcome.cases.items():
            if origin.setdefault(case, outcome.source) != outcome.source:
                twice.append(f"{case} ({origin[case]}, {outcome.source})")
            cases[case] = labels
    if twice:
        raise ConversionError(f"{len(twice)} identifier(s) stand for more than one case: {format_names(twice)}.")
    if not cases:
        reasons = [f"{s.case}: {s.reason}" for outcome in outcomes for s in outcome.skipped]
        raise ConversionError(f"No case could be converted; nothing is written. {format_names(reasons, 5)}")
    return dict(sorted(cases.items()))


def _remove_stale_files(folder: Path, cases: dict[str, CaseLabels]) -> None:
    """Removes files that belong to no case: an interrupted run may have begun one that this run skipped."""
    wanted = {path for case, labels in cases.items() for path in _files(folder, case, labels)}
    for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        for path in (folder / sub).glob("*"):
            if path not in wanted:
                path.unlink()


def _metadata(data_set: DataSet, folder: Path, cases: dict[str, CaseLabels]) -> list[Note]:
    """Writes dataset.json, the manifest and the splits."""
    warnings = write_metadata(
        folder,
        Manifest(cases),
        data_set.classes,
        channel_names=CHANNELS,
        file_ending=ENDING,
        description=data_set.title,
        reference=data_set.reference,
        license=data_set.license,
    )
    return [Note("folds", warning) for warning in warnings]


def _count_cases(folder: Path, cases: dict[str, CaseLabels]) -> dict[str, int]:
    """Counts from disk. Raises DatasetError where disk and manifest differ."""
    written = RawDataset(folder)
    counts: dict[str, int] = {}
    for part in ("Tr", "Ts"):
        expected = {case for case, labels in cases.items() if (labels.split == "test") == (part == "Ts")}
        images, labels_here = set(written.image_files(part)), set(written.label_files(part))
        if not images == labels_here == expected:
            odd = (images ^ expected) | (labels_here ^ expected)
            raise DatasetError(
                f"images{part} and labels{part} do not hold what was written: {format_names(odd)}. Start again."
            )
        counts[f"images{part}"], counts[f"labels{part}"] = len(images), len(labels_here)
    counts["patients"] = len({labels.patient or case for case, labels in cases.items()})
    for split in ("train", "val", "test"):
        counts[split] = sum(labels.split == split for labels in cases.values())
    counts["without official split"] = sum(labels.split is None for labels in cases.values())
    return counts
