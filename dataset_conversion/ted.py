"""TED: whole cycles of 98 CAMUS patients in four-chamber view, left ventricle and myocardium annotated in every frame.

TED numbers the patients differently from CAMUS. Which patient an image shows is found by comparing it with the images
of CAMUS: two releases of one recording differ in spacing and rounding, two hearts differ in everything. So the images
are reduced to thumbnails of equal size, and correlated.

References:
    Painchaud et al., "Echocardiography Segmentation With Enforced Temporal Consistency", IEEE TMI 2022,
    https://doi.org/10.1109/TMI.2022.3173669
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import SAME_PEOPLE_AS, CaseLabels
from nnunet_partial.utils.text import format_names

from .base import (
    ConvertedCase,
    DataSet,
    Note,
    Skipped,
    SourceItem,
    SourceScan,
    classes_in_mask,
    not_found,
    require_folder,
    require_identifier,
)
from .camus import CamusPatients, ViewInfo, find_patients, read_cfg
from .readers.images import read_image

VIEW = "4CH"

#: Choices of `Ted.frames`.
TED_FRAMES = ("all", "ed-es")

#: Beginning of the subject of notes about the CAMUS name of a patient; `summarize_notes` makes one note of them.
_MATCH_NOTE = "found: "


@dataclass(frozen=True)
class Ted(DataSet):
    """Convert TED.

    The patients are those of CAMUS under other numbers. With `camus`, each gets the name and the official split that it
    has there, and who is not found is left out; without, TED must not be merged with CAMUS.

    Attributes:
        frames: "all" of the cycle, or only "ed-es".
        camus: Folder of CAMUS, in which each patient is looked up; None to keep TED's numbers.
    """

    frames: str = "all"
    camus: str | None = None

    name: ClassVar[str] = "ted"
    title: ClassVar[str] = "TED: LV and MYO in 4CH, whole cycles of CAMUS patients"
    description: ClassVar[str] = (
        "TED (Painchaud et al. 2022): 98 patients of CAMUS under other numbers, four-chamber view, left ventricle and "
        "myocardium annotated in every frame of a cycle. Ask for it at "
        "https://humanheart-project.creatis.insa-lyon.fr; CC BY-NC-SA 4.0 and the terms of the dataset, not to be "
        "passed on. Give the unpacked folder TED (or its database), and with --camus that of CAMUS."
    )
    default_name: ClassVar[str] = "TED"
    classes: ClassVar[tuple[str, ...]] = ("LV", "MYO")
    reference: ClassVar[str] = "Painchaud et al. 2022, https://doi.org/10.1109/TMI.2022.3173669"
    license: ClassVar[str] = "CC BY-NC-SA 4.0; see LICENSE_TERMS.md of TED; not to be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.frames not in TED_FRAMES:
            raise ConversionError(f"frames is {self.frames!r}, expected one of {', '.join(TED_FRAMES)}")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --frames and --camus; see `DataSet.add_options`."""
        parser.add_argument(
            "--frames",
            choices=TED_FRAMES,
            default="all",
            help="all: every frame of the cycle; ed-es: the two that the cfg file names (default: %(default)s)",
        )
        parser.add_argument(
            "--camus",
            metavar="FOLDER",
            help="your copy of CAMUS: find the name of each patient there by comparing images, which takes a minute or "
            "two. Needed before the two may be merged: they are the same patients (default: keep TED's numbers)",
        )

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`.

        With `camus` this takes a minute or two: the images of both datasets are compared.
        """
        patients = [TedPatient(folder.name, folder) for folder in find_patient_folders(self.root)]
        if self.camus is None:
            text = (
                "TED's patients are patients of CAMUS under other numbers. Do not train on one and test on the other, "
                "and do not put both into one dataset (merge refuses it): one patient would be on both sides of a "
                "split. To use them together, convert TED with --camus FOLDER"
            )
            return SourceScan(patients, [Note("patients", text)])
        matches = match_camus_patients(Path(self.camus), {patient.name: _ed_frame(patient) for patient in patients})
        return SourceScan([replace(patient, match=matches.get(patient.name)) for patient in patients])

    def summarize_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """Summarize the matches as one note; see `DataSet.summarize_notes`.

        It holds a warning where the numbers in CAMUS do not rise with those in TED, as they should.
        """
        matches = sorted((note.about, note.text) for note in notes if note.about.startswith(_MATCH_NOTE))
        rest = [note for note in notes if not note.about.startswith(_MATCH_NOTE)]
        if not matches:
            return rest
        pairs = ", ".join(f"{about.removeprefix(_MATCH_NOTE)} = {text}" for about, text in matches)
        names = [text for _, text in matches]
        warning = "" if is_sorted(names) else "numbers should rise in both and do not, check them: "
        return [Note("patients", f"{len(matches)} found in CAMUS: {warning}{pairs}"), *rest]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read the sequence of one patient; see `DataSet.read`."""
        assert isinstance(source, TedPatient)
        require_identifier(source.identifier("ED"))
        if self.camus is not None:
            if source.match is None:
                text = f"matches no patient of CAMUS in {self.camus}, or several, so that its split is unknown."
                yield Skipped(source.ted_name, f"{text} Without --camus it can be converted")
                return
            yield Note(f"{_MATCH_NOTE}{source.ted_name}", source.match.name)
        info = read_cfg(source.cfg)
        if info is None:
            yield Note(source.name, f"{source.cfg.name} is missing: ED, ES, quality and EF are not known")
            info = ViewInfo()
        elif info.missing:
            yield Note(source.name, f"{source.cfg.name} does not say {format_names(info.missing)}, or not as a number")
        images, spacing_mm = _sequence(source, "sequence")
        masks, _ = _sequence(source, "sequence_gt")
        if images.shape != masks.shape:
            raise ConversionError(f"image and mask differ in shape: {images.shape} and {masks.shape}")
        yield from _contradictions(source, info, len(images))
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
                source.ted_name, f"{source.cfg.name} does not say which of {len(images)} frames are ED and ES"
            )
        for frame in wanted:
            identifier = source.identifier(moments.get(frame, f"F{frame:03d}"))
            annotated = classes_in_mask(masks[frame], self.classes)
            if not masks[frame].any():
                yield Skipped(identifier, f"nothing is annotated in frame {frame + 1} of the sequence")
                continue
            if len(annotated) < len(self.classes):
                missing = ", ".join(name for name in self.classes if name not in annotated)
                yield Note(identifier, f"{missing} has no pixel in this frame: taken as unknown")
            labels = self._labels(source, info, annotated, frame, moments.get(frame))
            yield ConvertedCase(identifier, images[frame], masks[frame], spacing_mm, labels)

    def _labels(
        self, source: TedPatient, info: ViewInfo, annotated: tuple[str, ...], frame: int, phase: str | None
    ) -> CaseLabels:
        entry = {
            "split": source.match.split if source.match else None,
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
            annotated=annotated,
            domain="ted",
            patient=source.match.name if source.match else source.ted_name,
            info=entry,
        )


@dataclass(frozen=True)
class TedPatient(SourceItem):
    """Represent one patient.

    Attributes:
        folder: Folder of the patient.
        match: The patient in CAMUS; None where CAMUS was not given, or nobody matches.
    """

    folder: Path
    match: PatientMatch | None = None

    def file(self, what: str) -> Path:
        """Return the path of a file of this patient.

        Args:
            what: Such as "sequence", for patient001/patient001_4CH_sequence.mhd.

        Returns:
            The path; the file may be missing.
        """
        return self.folder / f"{self.folder.name}_{VIEW}_{what}.mhd"

    @property
    def ted_name(self) -> str:
        """Return the patient for the manifest, where CAMUS was not given."""
        return f"ted_{self.folder.name}"

    @property
    def cfg(self) -> Path:
        """Return the path of the text file of TED, or of one that is named as in CAMUS."""
        own, camus = self.folder / f"{self.folder.name}_{VIEW}_info.cfg", self.folder / f"Info_{VIEW}.cfg"
        return camus if camus.is_file() and not own.is_file() else own

    def identifier(self, moment: str) -> str:
        """Return the identifier of a case.

        Args:
            moment: Such as "ED", for ted_patient001_4CH_ED.

        Returns:
            The identifier.
        """
        return f"{self.ted_name}_{VIEW}_{moment}"


@dataclass(frozen=True)
class PatientMatch:
    """Name a patient as the converter of CAMUS does.

    Attributes:
        name: Patient for the manifest.
        split: Official split; None where there is none.
    """

    name: str
    split: str | None


def find_patient_folders(root: Path) -> list[Path]:
    """Find the folders patient001, patient002, ... of TED.

    Args:
        root: Folder that the user names.

    Returns:
        The folders, sorted.

    Raises:
        ConversionError: If there is none.
    """
    require_folder(root)
    for place in _PLACES:
        folder = root / place
        if folder.is_dir():
            folders = sorted(p for p in folder.iterdir() if p.is_dir() and _PATIENT.fullmatch(p.name))
            if folders:
                return folders
    raise not_found(root, "folders patient001, patient002, ... (three digits) of TED, in it or in its database")


def match_camus_patients(camus: Path, images: Mapping[str, NDArray[Any] | None]) -> dict[str, PatientMatch]:
    """Find out which patients of CAMUS images show.

    The ED and ES images are compared first, the sequences only for patients not among them.

    Args:
        camus: Folder of CAMUS.
        images: Image (rows, cols) by name; None where there is none.

    Returns:
        Patient by name of the image. Images without a match, and images that match the same patient, are left out.

    Raises:
        ConversionError: If `camus` is not a copy of CAMUS.
    """
    patients = find_patients(camus)
    matches: dict[str, str] = {}
    for kinds in (("ED", "ES"), (patients.release.sequence,)):
        rest = {name: image for name, image in images.items() if image is not None and name not in matches}
        if rest:
            index = FrameIndex.from_images(_camus_images(patients, kinds))
            new = {name: index.match(image) for name, image in rest.items()}
            matches.update({name: patient for name, patient in new.items() if patient is not None})
    splits, prefix = patients.splits, patients.release.prefix
    return {
        name: PatientMatch(f"camus_{prefix}{patient}", splits.get(patient))
        for name, patient in matches.items()
        if list(matches.values()).count(patient) == 1
    }


def _camus_images(patients: CamusPatients, kinds: tuple[str, ...]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (patient, image) for every four-chamber image of these kinds that can be read."""
    for folder in patients.folders:
        for kind in kinds:
            try:
                array, _ = read_image(folder / f"{folder.name}_4CH_{kind}{patients.release.ending}")
            except ConversionError:
                continue
            for frame in array if array.ndim == 3 else array[None]:
                yield folder.name, np.asarray(frame)


#: Rows and columns of a thumbnail.
THUMBNAIL_SIDE = 64

#: Correlation of two thumbnails from which they show one patient. The same frame in another spacing correlates with
#: more than 0.999, with its neighbor in time with 0.99 (seen in a real sequence); ED and ES of one heart with 0.9.
MIN_CORRELATION = 0.985

#: By so much the correlation with any other patient must be lower.
MIN_CORRELATION_MARGIN = 0.02


@dataclass(frozen=True)
class FrameIndex:
    """Hold thumbnails of known patients.

    Attributes:
        thumbnails: Array of shape (n, pixels of a thumbnail), one image per row.
        patients: Patient of each row.
    """

    thumbnails: NDArray[np.float32]
    patients: tuple[str, ...]

    @classmethod
    def from_images(cls, images: Iterable[tuple[str, NDArray[Any]]]) -> FrameIndex:
        """Build from images.

        Args:
            images: Pairs of patient and image (rows, cols). Blank images are left out.

        Returns:
            The index; empty without images.
        """
        rows, patients = [], []
        for patient, image in images:
            row = thumbnail(image)
            if row.any():
                rows.append(row)
                patients.append(patient)
        return cls(np.array(rows, np.float32).reshape(-1, THUMBNAIL_SIDE * THUMBNAIL_SIDE), tuple(patients))

    def match(self, image: NDArray[Any]) -> str | None:
        """Find the patient that an image shows.

        Args:
            image: Image of shape (rows, cols).

        Returns:
            The patient; None where nobody matches, or more than one.
        """
        correlations: dict[str, float] = {}
        for patient, value in zip(self.patients, (self.thumbnails @ thumbnail(image)).tolist(), strict=True):
            correlations[patient] = max(value, correlations.get(patient, -1.0))
        best = sorted(correlations, key=correlations.__getitem__, reverse=True)[:2]
        if not best or correlations[best[0]] < MIN_CORRELATION:
            return None
        is_clear = len(best) == 1 or correlations[best[1]] < correlations[best[0]] - MIN_CORRELATION_MARGIN
        return best[0] if is_clear else None


def thumbnail(image: NDArray[Any]) -> NDArray[np.float32]:
    """Reduce an image to numbers with mean 0 and length 1, so that the product of two thumbnails is their correlation.

    Args:
        image: Image of shape (rows, cols).

    Returns:
        THUMBNAIL_SIDE * THUMBNAIL_SIDE numbers; all 0 for a blank image.
    """
    from skimage.transform import resize

    side = THUMBNAIL_SIDE
    values = np.asarray(resize(image.astype(np.float64), (side, side), order=1, anti_aliasing=True)).ravel()  # type: ignore[no-untyped-call]
    values = values - values.mean()
    length = float(np.sqrt((values**2).sum()))
    return (values / length if length > 1e-6 else np.zeros_like(values)).astype(np.float32)


def is_sorted(names: Sequence[str]) -> bool:
    """Check whether each name comes after the one before.

    Args:
        names: Names in order.

    Returns:
        Whether it does; True for fewer than two names.
    """
    return all(first < second for first, second in itertools.pairwise(names))


_PLACES = (".", "database", "TED/database", "TED")
_PATIENT = re.compile(r"patient\d{3}")


def _sequence(source: TedPatient, what: str) -> tuple[NDArray[Any], tuple[float, float]]:
    """Read (t, rows, cols) and the height and width of a pixel in mm."""
    array, spacing_mm = read_image(source.file(what))
    return array[None] if array.ndim == 2 else array, spacing_mm


def _ed_frame(source: TedPatient) -> NDArray[Any] | None:
    """Return the ED frame (rows, cols); None where it is unknown or cannot be read, which `read` then reports."""
    try:
        info = read_cfg(source.cfg)
        frame = info.frame("ED") if info else None
        images, _ = _sequence(source, "sequence")
    except ConversionError:
        return None
    return images[frame] if frame is not None and frame < len(images) else None


def _contradictions(source: TedPatient, info: ViewInfo, length: int) -> Iterator[Note]:
    """Yield notes where the cfg file and the sequence contradict each other."""
    if info.frames is not None and info.frames != length:
        yield Note(source.name, f"{source.cfg.name} says NbFrame: {info.frames}, but the sequence has {length}")
    for phase in ("ED", "ES"):
        frame = info.frame(phase)
        if frame is not None and frame >= length:
            yield Note(
                source.name, f"{source.cfg.name} says {phase}: {frame + 1}, but the sequence has {length} frames"
            )
