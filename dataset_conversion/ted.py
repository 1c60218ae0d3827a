"""TED: whole cycles of 98 CAMUS patients in four-chamber view, left ventricle and its wall drawn in every frame.

Painchaud et al., "Echocardiography Segmentation With Enforced Temporal Consistency", IEEE TMI 2022,
https://doi.org/10.1109/TMI.2022.3173669

Who the patients of TED are in CAMUS, found out by comparing pictures: the two number the same people differently.

Finds out which patient a picture shows, by comparing it with pictures of patients whose names are known.

Two releases of one recording differ in pixel size and rounding, two hearts differ in everything. So pictures are made
small and equal in size, and their correlation is looked at.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import SAME_PEOPLE_AS, CaseLabels

from .base import ConvertedCase, DataSet, Note, Skipped, SourceItem, not_found, require_folder, require_identifier
from .camus import Patients, ViewInfo, find_patients, read_cfg
from .readers.images import read_image

#: Side of the small pictures.
SIDE = 64
#: The same frame in another pixel size correlates with more than 0.999, with its neighbour in time with 0.99 (seen in a
#: real sequence); diastole and systole of one heart with 0.9.
MIN_CORRELATION = 0.985
#: By so much the runner-up, another patient, must stay behind.
MIN_CORRELATION_MARGIN = 0.02


@dataclass(frozen=True)
class FrameIndex:
    """Pictures of known patients: `small` (n, SIDE * SIDE), a row each, and whom each shows."""

    small: NDArray[np.float32]
    patients: tuple[str, ...]

    @classmethod
    def of(cls, pictures: Iterable[tuple[str, NDArray[Any]]]) -> FrameIndex:
        """From (patient, picture (rows, cols)); pictures of one grey all over are left out."""
        rows, patients = [], []
        for patient, picture in pictures:
            row = thumbnail(picture)
            if row.any():
                rows.append(row)
                patients.append(patient)
        return cls(np.array(rows, np.float32).reshape(-1, SIDE * SIDE), tuple(patients))

    def who(self, picture: NDArray[Any]) -> str | None:
        """The patient whom `picture` (rows, cols) shows; None where nobody fits, or more than one."""
        likeness: dict[str, float] = {}
        for patient, value in zip(self.patients, (self.small @ thumbnail(picture)).tolist(), strict=True):
            likeness[patient] = max(value, likeness.get(patient, -1.0))
        best = sorted(likeness, key=likeness.__getitem__, reverse=True)[:2]
        if not best or likeness[best[0]] < MIN_CORRELATION:
            return None
        alone = len(best) == 1 or likeness[best[1]] < likeness[best[0]] - MIN_CORRELATION_MARGIN
        return best[0] if alone else None


def thumbnail(picture: NDArray[Any]) -> NDArray[np.float32]:
    """The picture (rows, cols) as SIDE * SIDE numbers with mean 0 and length 1, so that a product is a correlation.

    All 0 for a picture of one grey.
    """
    from skimage.transform import resize

    values = np.asarray(resize(picture.astype(np.float64), (SIDE, SIDE), order=1, anti_aliasing=True)).ravel()  # type: ignore[no-untyped-call]
    values = values - values.mean()
    length = float(np.sqrt((values**2).sum()))
    return (values / length if length > 1e-6 else np.zeros_like(values)).astype(np.float32)


def is_sorted(found: Sequence[str]) -> bool:
    """Whether each name comes after the one before."""
    return all(first < second for first, second in itertools.pairwise(found))


@dataclass(frozen=True)
class PatientMatch:
    """A patient of CAMUS: the name and the official split that the converter of CAMUS gives."""

    name: str
    split: str | None


def match_camus_patients(camus: Path, pictures: Mapping[str, NDArray[Any] | None]) -> dict[str, PatientMatch]:
    """By name of a picture (rows, cols; None where there is none), whom it shows.

    The ED and ES stills are looked at first, the sequences only for whom is not among them. Left out is who is not
    found, and any two pictures that are said to show one person. Raises ConversionError where `camus` is no CAMUS.
    """
    patients = find_patients(camus)
    found: dict[str, str] = {}
    for kinds in (("ED", "ES"), (patients.dialect.sequence,)):
        rest = {name: picture for name, picture in pictures.items() if picture is not None and name not in found}
        if rest:
            album = FrameIndex.of(_pictures(patients, kinds))
            guesses = {name: album.who(picture) for name, picture in rest.items()}
            found.update({name: patient for name, patient in guesses.items() if patient is not None})
    splits, prefix = patients.splits(), patients.dialect.prefix
    return {
        name: PatientMatch(f"camus_{prefix}{patient}", splits.get(patient))
        for name, patient in found.items()
        if list(found.values()).count(patient) == 1
    }


def _pictures(patients: Patients, kinds: tuple[str, ...]) -> Iterator[tuple[str, NDArray[Any]]]:
    """(patient, picture) for every four-chamber picture of these kinds that can be read."""
    for folder in patients.folders():
        for kind in kinds:
            try:
                array, _ = read_image(folder / f"{folder.name}_4CH_{kind}{patients.dialect.ending}")
            except ConversionError:
                continue
            for frame in array if array.ndim == 3 else array[None]:
                yield folder.name, np.asarray(frame)


VIEW = "4CH"
FRAMES = ("all", "ed-es")
_PLACES = (".", "database", "TED/database", "TED")
_PATIENT = re.compile(r"patient\d{3}")


@dataclass(frozen=True)
class TedPatient(SourceItem):
    """One patient. `person`: who that is in CAMUS; None where --camus was not given or nobody was found."""

    folder: Path
    person: PatientMatch | None = None

    def file(self, what: str) -> Path:
        """patient001/patient001_4CH_sequence.mhd for "sequence"."""
        return self.folder / f"{self.folder.name}_{VIEW}_{what}.mhd"

    @property
    def own_name(self) -> str:
        return f"ted_{self.folder.name}"

    @property
    def cfg(self) -> Path:
        """The text file of TED, or one that is named as in CAMUS."""
        own, camus = self.folder / f"{self.folder.name}_{VIEW}_info.cfg", self.folder / f"Info_{VIEW}.cfg"
        return camus if camus.is_file() and not own.is_file() else own

    def identifier(self, moment: str) -> str:
        """ted_patient001_4CH_ED for "ED"."""
        return f"{self.own_name}_{VIEW}_{moment}"


@dataclass(frozen=True)
class Ted(DataSet):
    """TED. `frames`: "all" of the cycle or only "ed-es". `camus`: folder of CAMUS, in which each patient is looked up.

    The patients are those of CAMUS under other numbers. With `camus` each gets the name and the official split that it
    has there, and who is not found is left out; without, they must not be merged with CAMUS.
    """

    frames: str = "all"
    camus: str | None = None

    name: ClassVar[str] = "ted"
    title: ClassVar[str] = "TED: LV and MYO in 4CH, whole cycles of CAMUS patients"
    description: ClassVar[str] = (
        "TED (Painchaud et al. 2022): 98 patients of CAMUS under other numbers, four-chamber view, left ventricle and "
        "its wall drawn in every frame of a cycle. Ask for it at https://humanheart-project.creatis.insa-lyon.fr; CC "
        "BY-NC-SA 4.0 and the terms of the data set, not to be passed on. Give the unpacked folder TED (or its "
        "database), and with --camus that of CAMUS."
    )
    default_name: ClassVar[str] = "TED"
    classes: ClassVar[tuple[str, ...]] = ("LV", "MYO")
    reference: ClassVar[str] = "Painchaud et al. 2022, https://doi.org/10.1109/TMI.2022.3173669"
    license: ClassVar[str] = "CC BY-NC-SA 4.0; see LICENSE_TERMS.md of TED; not to be passed on"

    def __post_init__(self) -> None:
        if self.frames not in FRAMES:
            raise ConversionError(f"frames is {self.frames!r}, expected one of {', '.join(FRAMES)}")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--frames",
            choices=FRAMES,
            default="all",
            help="all: every frame of the cycle; ed-es: the two that the cfg file names (default: %(default)s)",
        )
        parser.add_argument(
            "--camus",
            metavar="FOLDER",
            help="your copy of CAMUS: finds out who each patient is there by comparing pictures, which takes a minute "
            "or two. Needed before the two may be merged: they are the same people (default: patients keep TED's "
            "numbers)",
        )

    def sources(self) -> Sequence[TedPatient]:
        """With `camus` not quick: the pictures of both data sets are compared."""
        sources = [TedPatient(folder.name, folder) for folder in find_patient_folders(self.root)]
        if self.camus is None:
            return sources
        people = match_camus_patients(Path(self.camus), {source.name: _diastole(source) for source in sources})
        return [TedPatient(source.name, source.folder, people.get(source.name)) for source in sources]

    def remarks(self) -> Iterator[Note]:
        if self.camus is None:
            yield Note(
                "patients",
                "TED's patients are patients of CAMUS under other numbers. Do not train on one and test on the other, "
                "and do not put both into one data set (merge refuses it): one heart would be on both sides of a "
                "split. To use them together, convert TED with --camus FOLDER",
            )

    def summarise_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """One note that says who everybody is in CAMUS, with a warning where the numbers there do not rise with TED's,
        as they should."""
        found = sorted((note.about, note.text) for note in notes if note.about.startswith(_FOUND))
        rest = [note for note in notes if not note.about.startswith(_FOUND)]
        if not found:
            return rest
        pairs = ", ".join(f"{about.removeprefix(_FOUND)} = {text}" for about, text in found)
        odd = "" if is_sorted([text for _, text in found]) else "numbers should rise in both and do not, look at them: "
        return [Note("patients", f"{len(found)} found in CAMUS: {odd}{pairs}"), *rest]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, TedPatient)
        require_identifier(source.identifier("ED"))
        if self.camus is not None:
            if source.person is None:
                text = f"looks like no patient of CAMUS in {self.camus}, or like several; nobody knows which split is"
                yield Skipped(source.own_name, f"{text} its own. Without --camus it can be converted on its own")
                return
            yield Note(f"{_FOUND}{source.own_name}", source.person.name)
        info = read_cfg(source.cfg)
        if info is None:
            yield Note(source.name, f"{source.cfg.name} is missing: ED, ES, quality and EF are not known")
            info = ViewInfo()
        images, spacing_mm = _sequence(source, "sequence")
        masks, _ = _sequence(source, "sequence_gt")
        if images.shape != masks.shape:
            raise ConversionError(f"image and mask differ in shape: {images.shape} and {masks.shape}")
        yield from _odd_numbers(source, info, len(images))
        yield from self._cases(source, info, images, masks, spacing_mm)

    def _cases(
        self,
        source: TedPatient,
        info: ViewInfo,
        images: NDArray[Any],
        masks: NDArray[Any],
        spacing_mm: tuple[float, float],
    ) -> Iterator[ConvertedCase | Skipped | Note]:
        moments = {frame: phase for phase in ("ES", "ED") if (frame := info.frame(phase)) is not None}
        wanted = range(len(images)) if self.frames == "all" else sorted(f for f in moments if f < len(images))
        if self.frames == "ed-es" and len(wanted) < 2:
            yield Skipped(
                source.own_name, f"{source.cfg.name} does not say which of {len(images)} frames are ED and ES"
            )
        for frame in wanted:
            identifier = source.identifier(moments.get(frame, f"F{frame:03d}"))
            drawn = [name for value, name in enumerate(self.classes, start=1) if (masks[frame] == value).any()]
            if not drawn and not masks[frame].any():
                yield Skipped(identifier, f"nothing is drawn in frame {frame + 1} of the sequence")
                continue
            if len(drawn) < len(self.classes):
                lacking = ", ".join(name for name in self.classes if name not in drawn)
                yield Note(identifier, f"{lacking} has no pixel in this frame: taken as unknown")
            labels = self._labels(source, info, tuple(drawn), frame, moments.get(frame))
            yield ConvertedCase(identifier, images[frame], masks[frame], spacing_mm, labels)

    def _labels(
        self, source: TedPatient, info: ViewInfo, drawn: tuple[str, ...], frame: int, phase: str | None
    ) -> CaseLabels:
        entry = {
            "split": source.person.split if source.person else None,
            "view": VIEW,
            "phase": phase,
            "frame": frame,
            "interpolated": False,
            "spacing_known": True,
            "quality": info.quality,
            "ef": info.ef,
            SAME_PEOPLE_AS: "camus",
        }
        return CaseLabels.from_fields(
            annotated=drawn,
            domain="ted",
            patient=source.person.name if source.person else source.own_name,
            info=entry,
        )


#: Notes whose name begins so say who a patient is; `summarise_notes` makes one of them.
_FOUND = "found: "


def find_patient_folders(root: Path) -> list[Path]:
    """The folders patient001, patient002, ... below `root`. Raises ConversionError where there is none."""
    require_folder(root)
    for place in _PLACES:
        folder = root / place
        if folder.is_dir():
            found = sorted(p for p in folder.iterdir() if p.is_dir() and _PATIENT.fullmatch(p.name))
            if found:
                return found
    raise not_found(root, "folders patient001, patient002, ... (three digits) of TED, in it or in its database")


def _sequence(source: TedPatient, what: str) -> tuple[NDArray[Any], tuple[float, float]]:
    """(t, rows, cols) and the height and width of a pixel."""
    array, spacing_mm = read_image(source.file(what))
    return array[None] if array.ndim == 2 else array, spacing_mm


def _diastole(source: TedPatient) -> NDArray[Any] | None:
    """The ED frame (rows, cols); None where it cannot be told or read, which `read` then says."""
    try:
        info = read_cfg(source.cfg)
        frame = info.frame("ED") if info else None
        images, _ = _sequence(source, "sequence")
    except ConversionError:
        return None
    return images[frame] if frame is not None and frame < len(images) else None


def _odd_numbers(source: TedPatient, info: ViewInfo, length: int) -> Iterator[Note]:
    """Where the cfg file and the sequence contradict each other."""
    if info.frames is not None and info.frames != length:
        yield Note(source.name, f"{source.cfg.name} says NbFrame: {info.frames}, but the sequence has {length}")
    for phase in ("ED", "ES"):
        frame = info.frame(phase)
        if frame is not None and frame >= length:
            yield Note(
                source.name, f"{source.cfg.name} says {phase}: {frame + 1}, but the sequence has {length} frames"
            )
