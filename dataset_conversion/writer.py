"""Write the cases of any converter as an nnU-Net raw dataset: images, labels, manifest, splits, and a report.

What became of each source is logged, so that an interrupted conversion continues where it stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from nnunet_partial.dataset.images import require_whole_nifti
from nnunet_partial.dataset.label_check import hash_names
from nnunet_partial.dataset.raw import RawDataset, nnunet_folder
from nnunet_partial.errors import ConversionError, DatasetError, PartialLabelError
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.files import write_json
from nnunet_partial.utils.parallel import parallel_map
from nnunet_partial.utils.text import format_names, printable
from nnunet_partial.utils.versions import __version__

from .base import DEPTH_KEY, DEPTH_MM, ConvertedCase, DataSet, Note, Skipped, SourceItem
from .readers.images import to_smallest_dtype, write_image
from .staging import refuse_existing, staged_dataset, write_metadata

#: Of every image and label file that a converter writes.
FILE_ENDING = ".nii.gz"
REPORT_NAME = "conversion_report.json"
LOG_NAME = ".converted.jsonl"


@dataclass(frozen=True)
class Report:
    """Hold the result of a conversion.

    Attributes:
        folder: The nnU-Net dataset.
        counts: Cases per split, patients, and files per folder, counted on disk.
        skipped: Cases that could not be converted.
        known_defects: Cases left out because of a known defect of the official release.
        notes: What is unusual about converted cases or the folder.
    """

    folder: Path
    counts: dict[str, int]
    skipped: list[Skipped]
    known_defects: list[Skipped]
    notes: list[Note]

    def to_json(self, options: dict[str, Any]) -> dict[str, Any]:
        """Convert to JSON values.

        Args:
            options: Record of source, options and version.

        Returns:
            The content of conversion_report.json.
        """
        return {
            "made_with": options,
            "counts": self.counts,
            "skipped": [{"case": s.case, "reason": s.reason} for s in self.skipped],
            "known_defects": [{"case": s.case, "reason": s.reason} for s in self.known_defects],
            "notes": [{"about": note.about, "note": note.text} for note in self.notes],
        }


def convert(
    dataset: DataSet,
    name: str,
    *,
    processes: int = 1,
    strict: bool = False,
    overwrite: bool = False,
    limit: int | None = None,
    progress: bool = False,
    log: Callable[[Skipped], None] | None = None,
) -> Report:
    """Write a dataset as an nnU-Net dataset into nnUNet_raw, as a whole or not at all.

    A case that cannot be converted is left out and named in conversion_report.json. If interrupted, the same call
    continues where it stopped.

    Args:
        dataset: Converter of the source folder.
        name: Name of the nnU-Net dataset, such as Dataset501_CAMUS.
        processes: Number of worker processes.
        strict: Raise for the first case that cannot be converted.
        overwrite: Replace the nnU-Net dataset if it exists, and remove what was preprocessed of it.
        limit: Convert only so many sources (videos, views of a patient), for a first look; None for all.
        progress: Show a progress bar.
        log: Called at once with each case that cannot be converted, except for known defects.

    Returns:
        What was written, what was left out, and why.

    Raises:
        ConversionError: If the folder is wrong, nothing can be converted, or `strict` is on and a case fails.
        DatasetError: If the dataset exists and `overwrite` is off, or the disk refuses.
    """
    if limit is not None and limit < 1:
        raise ConversionError(f"The limit is {limit}; expected at least 1.")
    refuse_existing(name, overwrite)
    scan = dataset.scan()
    sources = list(scan.items)[:limit]
    _require_distinct([source.name for source in sources])
    options = {**dataset.options_record(scan.tables), "limit": limit, "version": __version__}
    with staged_dataset(name, options, overwrite) as folder:
        outcomes = _outcomes(dataset, sources, folder, processes, strict, progress, log)
        cases = _cases(outcomes)
        _remove_stale_files(folder, cases)
        notes = [*scan.notes, *dataset.summarize_notes([note for outcome in outcomes for note in outcome.notes])]
        notes += _write_metadata(dataset, folder, cases)
        skipped = [skipped for outcome in outcomes for skipped in outcome.skipped]
        report = Report(
            nnunet_folder("nnUNet_raw") / name,
            _count_cases(folder, cases),
            [s for s in skipped if not s.known_defect],
            [s for s in skipped if s.known_defect],
            [_printable_note(note) for note in notes],
        )
        write_json(folder / REPORT_NAME, report.to_json(options))
        (folder / LOG_NAME).unlink()
    return report


@dataclass(frozen=True)
class SourceOutcome:
    """Record what became of one source.

    Attributes:
        source: Name of the source.
        stamp: Hash of the item of the scan and of names, sizes and times of its files.
        cases: Manifest entries of the written cases, by identifier.
        skipped: Cases that could not be converted.
        notes: What is unusual about converted cases.
    """

    source: str
    stamp: str
    cases: Mapping[str, CaseLabels] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def failed(self) -> list[Skipped]:
        """Return what was skipped without being a known defect of the official release."""
        return [skipped for skipped in self.skipped if not skipped.known_defect]

    def to_line(self) -> str:
        """Format as one line of JSON."""
        content = {
            "source": self.source,
            "stamp": self.stamp,
            "cases": {case: labels.to_json() for case, labels in self.cases.items()},
            "skipped": [dataclasses.asdict(skipped) for skipped in self.skipped],
            "notes": [dataclasses.asdict(note) for note in self.notes],
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_line(cls, line: str) -> SourceOutcome:
        """Parse a line of the log.

        Args:
            line: What `to_line` wrote.

        Returns:
            The outcome.

        Raises:
            ValueError: If the line is not JSON, or a value is wrong.
            KeyError: If a key is missing.
            TypeError: If a value has the wrong type.
        """
        content: dict[str, Any] = json.loads(line)
        return cls(
            content["source"],
            content["stamp"],
            {case: CaseLabels.from_json(labels) for case, labels in content["cases"].items()},
            tuple(Skipped(**skipped) for skipped in content["skipped"]),
            tuple(Note(**note) for note in content["notes"]),
        )


def read_log(log: Path, sources: Iterable[str]) -> dict[str, SourceOutcome]:
    """Read what an interrupted run had completed without a failure; a line that was cut off does not count.

    Args:
        log: The log; may be missing.
        sources: Names of the sources of the present run.

    Returns:
        Outcomes by source; empty if there is nothing to continue.
    """
    result: dict[str, SourceOutcome] = {}
    wanted = set(sources)
    if not log.exists():
        return result
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            outcome = SourceOutcome.from_line(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if outcome.source in wanted and not outcome.failed:
            result[outcome.source] = outcome
    return result


def _require_distinct(names: Sequence[str]) -> None:
    duplicates = {name for name, count in Counter(names).items() if count > 1}
    if duplicates:
        raise ConversionError(f"{len(duplicates)} name(s) stand for more than one source: {format_names(duplicates)}.")


def _outcomes(
    dataset: DataSet,
    sources: Sequence[SourceItem],
    folder: Path,
    processes: int,
    strict: bool,
    progress: bool,
    log: Callable[[Skipped], None] | None,
) -> list[SourceOutcome]:
    """Convert the sources that an earlier run has not completed; return all outcomes in the order of the sources."""
    log_file, by_name = folder / LOG_NAME, {source.name: source for source in sources}
    done = {
        name: outcome
        for name, outcome in read_log(log_file, by_name).items()
        if outcome.stamp == source_stamp(dataset, by_name[name])
        and all(_is_whole(path) for case, labels in outcome.cases.items() for path in _files(folder, case, labels))
    }
    todo = [source for source in sources if source.name not in done]
    work = functools.partial(convert_source, dataset, folder)
    title = "converting" if progress else None
    results = cast("Generator[SourceOutcome, None, None]", parallel_map(work, todo, processes, title))
    with log_file.open("a", encoding="utf-8") as file, closing(results):
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
                if log is not None:
                    log(skipped)
    return [done[source.name] for source in sources]


def source_stamp(dataset: DataSet, source: SourceItem) -> str:
    """Hash what decides how a source is converted: texts and numbers of its item; names, sizes and times of its files.

    Args:
        dataset: Converter.
        source: Item of its scan.

    Returns:
        The hash, hexadecimal.
    """
    values = ((f.name, getattr(source, f.name)) for f in dataclasses.fields(source))
    texts = [f"{name}\0{value}" for name, value in values if isinstance(value, (str, int, float))]
    with contextlib.suppress(OSError):  # a folder that cannot be listed, which `read` then reports
        for path in dataset.files(source):
            try:
                stat = path.stat()
                texts.append(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}")
            except (OSError, ValueError):  # of a table: a file that is not there, or cannot be
                texts.append(f"{path}\0missing")
    return hash_names(texts)


def _is_whole(path: Path) -> bool:
    """Check that a file of an interrupted run is complete: the power may have failed before the disk had it."""
    try:
        require_whole_nifti(path)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def convert_source(dataset: DataSet, folder: Path, source: SourceItem) -> SourceOutcome:
    """Read one source and write its cases; runs in a worker process.

    Whatever goes wrong in reading becomes a named skip; only a disk that refuses a file raises (DatasetError).

    Args:
        dataset: Converter.
        folder: Folder that the dataset is built in.
        source: What to read.

    Returns:
        What was written and what was left out.
    """
    stamp = source_stamp(dataset, source)  # what changes while it is read is read again
    cases: dict[str, CaseLabels] = {}
    skipped: list[Skipped] = []
    notes: list[Note] = []
    for item in _read_items(dataset, source):
        if isinstance(item, Skipped):
            skipped.append(_printable_skip(item))
        elif isinstance(item, Note):
            notes.append(_printable_note(item))
        elif item.identifier in cases:
            skipped.append(Skipped(item.identifier, "a second case of the same source has this identifier"))
        else:
            try:
                item.validate(dataset.converted_classes)
            except ConversionError as problem:
                skipped.append(Skipped(printable(item.identifier), printable(str(problem))))
                continue
            _write_case(folder, item)
            cases[item.identifier] = item.labels
    return SourceOutcome(source.name, stamp, cases, tuple(skipped), tuple(notes))


def _read_items(dataset: DataSet, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
    """Yield what the converter yields, and an error as the last item.

    Errors of the consumer do not pass through here.
    """
    try:
        yield from dataset.read(source)
    except PartialLabelError as problem:
        yield Skipped(source.name, str(problem))
    except Exception as problem:  # one strange file must not end a night's work; it is named, and the exit code is 1
        yield Skipped(source.name, f"{type(problem).__name__}: {problem}")


def _printable_skip(skipped: Skipped) -> Skipped:
    """Escape what no UTF-8 file can hold, such as bytes of a foreign file name."""
    return dataclasses.replace(skipped, case=printable(skipped.case), reason=printable(skipped.reason))


def _printable_note(note: Note) -> Note:
    return Note(printable(note.about), printable(note.text))


def _write_case(folder: Path, case: ConvertedCase) -> None:
    image, label = _files(folder, case.identifier, case.labels)
    for path in (image, label):
        path.parent.mkdir(exist_ok=True)
    write_image(image, to_smallest_dtype(case.image), case.spacing_mm)
    write_image(label, case.mask.astype(np.uint8), case.spacing_mm)


def _files(folder: Path, identifier: str, labels: CaseLabels) -> tuple[Path, Path]:
    part = "Ts" if labels.split == "test" else "Tr"
    return (
        folder / f"images{part}" / f"{identifier}_0000{FILE_ENDING}",
        folder / f"labels{part}" / f"{identifier}{FILE_ENDING}",
    )


def _cases(outcomes: Sequence[SourceOutcome]) -> dict[str, CaseLabels]:
    """Collect all cases by identifier, sorted. Raises ConversionError for none, and for duplicate identifiers.

    Capitals make no difference to disks of Windows and macOS.
    """
    origin: dict[str, tuple[str, str]] = {}
    duplicates: list[str] = []
    cases: dict[str, CaseLabels] = {}
    for outcome in outcomes:
        for case, labels in outcome.cases.items():
            first, source = origin.setdefault(case.casefold(), (case, outcome.source))
            if (first, source) != (case, outcome.source):
                duplicates.append(f"{' and '.join(dict.fromkeys((first, case)))} ({source}, {outcome.source})")
            cases[case] = labels
    if duplicates:
        raise ConversionError(
            f"{len(duplicates)} identifier(s) stand for more than one case: {format_names(duplicates)}. "
            "Capitals do not count."
        )
    if not cases:
        reasons = [f"{s.case}: {s.reason}" for outcome in outcomes for s in outcome.skipped]
        raise ConversionError(f"No case could be converted; nothing is written. {format_names(reasons, 5)}")
    return dict(sorted(cases.items()))


def _remove_stale_files(folder: Path, cases: dict[str, CaseLabels]) -> None:
    """Remove files that belong to no case: an interrupted run may have begun one that this run skipped."""
    wanted = {path for case, labels in cases.items() for path in _files(folder, case, labels)}
    for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        for path in (folder / sub).glob("*"):
            if path not in wanted:
                path.unlink()


def _write_metadata(dataset: DataSet, folder: Path, cases: dict[str, CaseLabels]) -> list[Note]:
    """Write dataset.json, the manifest and the splits; return warnings about the splits."""
    nominal = any(labels.info.get("spacing_known") is False for labels in cases.values())
    depth: dict[str, Any] = {DEPTH_KEY: getattr(dataset, "depth_mm", DEPTH_MM)} if nominal else {}
    warnings = write_metadata(
        folder,
        Manifest(cases),
        dataset.converted_classes,
        channel_names={"0": dataset.channel_name},
        file_ending=FILE_ENDING,
        description=dataset.title,
        reference=dataset.reference,
        license=dataset.license,
        **depth,
    )
    return [Note("folds", warning) for warning in warnings]


def _count_cases(folder: Path, cases: dict[str, CaseLabels]) -> dict[str, int]:
    """Count cases and files on disk. Raises DatasetError where disk and manifest differ."""
    written = RawDataset(folder)
    counts: dict[str, int] = {}
    for part in ("Tr", "Ts"):
        expected = {case for case, labels in cases.items() if (labels.split == "test") == (part == "Ts")}
        images, label_files = set(written.image_files(part)), set(written.label_files(part))
        if not images == label_files == expected:
            different = (images ^ expected) | (label_files ^ expected)
            raise DatasetError(
                f"images{part} and labels{part} do not hold what was written: {format_names(different)}. Start again."
            )
        counts[f"images{part}"], counts[f"labels{part}"] = len(images), len(label_files)
    counts["patients"] = len({labels.patient or case for case, labels in cases.items()})
    for split in ("train", "val", "test"):
        counts[split] = sum(labels.split == split for labels in cases.values())
    counts["without official split"] = sum(labels.split is None for labels in cases.values())
    return counts
