"""CAMUS: 500 patients in two apical views, with left ventricle, myocardium and left atrium annotated at ED and ES.

References:
    Leclerc et al., "Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography", IEEE TMI
    2019, https://doi.org/10.1109/TMI.2019.2900516
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.dataset.out_of_view import OUT_OF_VIEW
from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import SAME_PEOPLE_AS, CaseLabels
from nnunet_partial.utils.tables import parse_int, parse_number
from nnunet_partial.utils.text import format_names, printable

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
from .readers.images import read_image

CAMUS_VIEWS = ("2CH", "4CH")

#: Choices of `Camus.frames`.
CAMUS_FRAMES = ("ed-es", "half-sequence")
PHASES = ("ED", "ES")

#: The ten folds of the paper, each with lists of its own.
CAMUS_FOLDS = range(1, 11)

#: Image quality of a view in its cfg file, from poor to good.
QUALITIES = ("Poor", "Medium", "Good")

#: Subject of the notes about views left out for their quality; `summarize_notes` counts them.
_QUALITY_NOTE = "quality"

#: Largest mean difference in gray values between an ED or ES image and its frame of the sequence.
MAX_MEAN_DIFFERENCE = 1.0
Image = tuple[NDArray[Any], tuple[float, float]]


@dataclass(frozen=True)
class Camus(DataSet):
    """Convert CAMUS: the current NIfTI release, and the training part of the old MHD layout.

    Attributes:
        frames: "ed-es" takes the ED and ES frames, which experts annotated; "half-sequence" also the frames between
            them, whose masks are interpolated (marked so in the manifest).
        views: Views to convert, of 2CH and 4CH.
        min_quality: Leave out views whose image quality was rated lower.
        fold: Official fold, 1 to 10, that defines training, validation and test patients; None for the split of the
            release.
    """

    frames: str = "ed-es"
    views: tuple[str, ...] = CAMUS_VIEWS
    min_quality: str = QUALITIES[0]
    fold: int | None = None

    name: ClassVar[str] = "camus"
    title: ClassVar[str] = "CAMUS: LV, MYO, LA in 2CH and 4CH"
    description: ClassVar[str] = (
        "CAMUS (Leclerc et al. 2019): 500 patients, two- and four-chamber view, ED and ES; left ventricle, "
        "myocardium and left atrium annotated. Ask for it at https://humanheart-project.creatis.insa-lyon.fr; for "
        "non-commercial research, to be cited, not to be passed on. Give the unpacked folder CAMUS_public (or its "
        "database_nifti)."
    )
    default_name: ClassVar[str] = "CAMUS"
    classes: ClassVar[tuple[str, ...]] = ("LV", "MYO", "LA")
    reference: ClassVar[str] = "Leclerc et al. 2019, https://doi.org/10.1109/TMI.2019.2900516"
    license: ClassVar[str] = "non-commercial research; see LICENSE_TERMS.md of CAMUS_public; not to be passed on"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.frames not in CAMUS_FRAMES:
            raise ConversionError(f"frames is {self.frames!r}, expected one of {', '.join(CAMUS_FRAMES)}")
        if not self.views or not set(self.views) <= set(CAMUS_VIEWS):
            raise ConversionError(f"views is {self.views!r}, expected one or both of {', '.join(CAMUS_VIEWS)}")
        if self.min_quality not in QUALITIES:
            raise ConversionError(f"min_quality is {self.min_quality!r}, expected one of {', '.join(QUALITIES)}")
        if self.fold is not None and self.fold not in CAMUS_FOLDS:
            raise ConversionError(
                f"the fold is {self.fold}, expected a number from {CAMUS_FOLDS[0]} to {CAMUS_FOLDS[-1]}"
            )

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add --frames, --views, --min-quality and --fold; see `DataSet.add_options`."""
        parser.add_argument(
            "--frames",
            choices=CAMUS_FRAMES,
            default="ed-es",
            help="ed-es: the ED and ES frames, annotated by experts; half-sequence: also every frame between, with "
            "interpolated masks, marked as such (default: %(default)s)",
        )
        parser.add_argument(
            "--views", nargs="+", choices=CAMUS_VIEWS, default=list(CAMUS_VIEWS), help="which views (default: both)"
        )
        parser.add_argument(
            "--min-quality",
            choices=QUALITIES,
            default=QUALITIES[0],
            help="leave out views whose image quality was rated lower, or not at all (default: take all)",
        )
        parser.add_argument(
            "--fold",
            type=int,
            metavar="N",
            help="official fold, 1 to 10, of the lists in listSubGroups/, that defines training, validation and test "
            "patients (default: the split of the release)",
        )

    def scan(self) -> SourceScan:
        """Scan the folder once; see `DataSet.scan`."""
        patients = find_patients(self.root, self.fold)
        release = patients.release
        items = [
            PatientView(
                f"{release.prefix}{folder.name} {view}",
                folder,
                view,
                patients.splits.get(folder.name),
                release.ending,
                release.sequence,
                release.prefix,
            )
            for folder in patients.folders
            for view in dict.fromkeys(self.views)
        ]
        return SourceScan(items, list(patients.remarks()), list(patients.split_files.values()))

    def summarize_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """Summarize the views that were left out for their quality as one note; see `DataSet.summarize_notes`."""
        poorer = [note.text for note in notes if note.about == _QUALITY_NOTE]
        others = [note for note in notes if note.about != _QUALITY_NOTE]
        if not poorer:
            return others
        text = f"{len(poorer)} view(s) below {self.min_quality} are left out: {format_names(poorer)}"
        return [Note(_QUALITY_NOTE, text), *others]

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        """Read one view of a patient; see `DataSet.read`."""
        assert isinstance(source, PatientView)
        require_identifier(source.patient)
        if not _has_view(source, source.view):
            yield _missing_view(source)
            return
        info = read_cfg(source.cfg)
        if info is None:
            yield Note(source.name, f"{source.cfg.name} is missing: frame numbers, quality and EF are not known")
            info = ViewInfo()
        elif info.missing:
            yield Note(source.name, f"{source.cfg.name} does not say {format_names(info.missing)}, or not as a number")
        if not self._has_min_quality(info):
            yield Note(_QUALITY_NOTE, f"{source.name} ({info.quality})")
            return
        stills: dict[str, Image] = {}
        for phase in PHASES:
            try:
                image, mask = _pair(source, phase)
                yield from _annotated_case(source, info, phase, info.frame(phase), image, mask)
                stills[phase] = image
            except ConversionError as problem:
                yield Skipped(source.identifier(phase), str(problem))
        yield from self._sequence(source, info, stills)

    def _has_min_quality(self, info: ViewInfo) -> bool:
        """Check the quality. Raises ConversionError where the file does not say it and --min-quality asks for it."""
        lowest = QUALITIES.index(self.min_quality)
        if lowest == 0:
            return True
        quality = (info.quality or "").capitalize()
        if quality not in QUALITIES:
            raise ConversionError(f"its image quality is {info.quality!r}, so that --min-quality cannot be judged")
        return QUALITIES.index(quality) >= lowest

    def _sequence(
        self, source: PatientView, info: ViewInfo, stills: dict[str, Image]
    ) -> Iterator[ConvertedCase | Skipped | Note]:
        """Compare ED and ES with the sequence and, if asked for, yield the frames between them."""
        wanted = self.frames == "half-sequence"
        if not wanted and not source.file(source.sequence).exists():
            return
        try:
            images, spacing_mm = read_image(source.file(source.sequence))
            if images.ndim != 3:
                raise ConversionError(f"{source.file(source.sequence).name} has shape {images.shape}, expected frames")
        except ConversionError as problem:
            if wanted:
                yield Skipped(source.identifier(source.sequence), str(problem))
            else:
                yield Note(source.name, str(problem))
            return
        yield from _contradictions(source, info, stills, images)
        if wanted:
            yield from _frames_between(source, info, images, spacing_mm)


@dataclass(frozen=True)
class PatientView(SourceItem):
    """Represent one view of one patient.

    Attributes:
        folder: Folder of the patient.
        view: 2CH or 4CH.
        split: Official split; None where there is none.
        ending: File ending of the release.
        sequence: Name of the sequence in the release.
        prefix: What the release adds to patient names.
    """

    folder: Path
    view: str
    split: str | None
    ending: str
    sequence: str
    prefix: str

    def file(self, what: str) -> Path:
        """Return the path of a file of this view.

        Args:
            what: Such as "ED", for patient0001/patient0001_2CH_ED.nii.gz.

        Returns:
            The path; the file may be missing.
        """
        return self.folder / f"{self.folder.name}_{self.view}_{what}{self.ending}"

    @property
    def cfg(self) -> Path:
        """Return the path of the text file of this view."""
        return self.folder / f"Info_{self.view}.cfg"

    @property
    def patient(self) -> str:
        """Return the patient for the manifest."""
        return f"camus_{self.prefix}{self.folder.name}"

    def identifier(self, moment: str) -> str:
        """Return the identifier of a case.

        Args:
            moment: Such as "ED", for camus_patient0001_2CH_ED.

        Returns:
            The identifier.
        """
        return f"{self.patient}_{self.view}_{moment}"


@dataclass(frozen=True)
class ViewInfo:
    """Hold what the text file of a view says; None where it does not say.

    Attributes:
        ed: Number of the ED frame, from 1.
        es: Number of the ES frame, from 1.
        quality: Image quality.
        ef: Ejection fraction in percent.
        frames: Number of frames.
    """

    ed: int | None = None
    es: int | None = None
    quality: str | None = None
    ef: float | None = None
    frames: int | None = None

    @property
    def missing(self) -> list[str]:
        """List what the file does not say, or not as a number, of ED, ES and EF; empty where it says all."""
        return [name for name, value in (("ED", self.ed), ("ES", self.es), ("EF", self.ef)) if value is None]

    def frame(self, phase: str) -> int | None:
        """Return the number of the ED or ES frame, from 0.

        Args:
            phase: "ED" or "ES".

        Returns:
            The number; None where the file does not say.
        """
        value = self.ed if phase == "ED" else self.es
        return None if value is None or value < 1 else value - 1


def read_cfg(path: Path) -> ViewInfo | None:
    """Read the text file of a view: `Key: value` or `Key = value` lines with any line ending.

    The ejection fraction is EF or, in the old layout, LVef.

    Args:
        path: The file.

    Returns:
        What it says; None if there is no file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    pairs = [re.split("[:=]", line, maxsplit=1) for line in text.splitlines()]
    values = {pair[0].strip().casefold(): pair[1].strip() for pair in pairs if len(pair) == 2}
    return ViewInfo(
        ed=parse_int(values.get("ed", "")),
        es=parse_int(values.get("es", "")),
        quality=values.get("imagequality") or None,
        ef=parse_number(values.get("ef", values.get("lvef", ""))),
        frames=parse_int(values.get("nbframe", "")),
    )


@dataclass(frozen=True)
class CamusRelease:
    """Describe how a release of CAMUS names and stores its files.

    Attributes:
        ending: File ending.
        sequence: Name of the sequences.
        prefix: Added to patient names, so that equal names of two releases stay apart.
    """

    ending: str
    sequence: str
    prefix: str = ""


#: The current release; the sequences run from ED to ES and have masks.
NIFTI = CamusRelease(".nii.gz", "half_sequence")

#: The old challenge layout: training/ and testing/ number their patients separately, sequences have no masks.
MHD = CamusRelease(".mhd", "sequence", "training_")


@dataclass(frozen=True)
class CamusPatients:
    """Hold the patients of a copy of CAMUS, and the official split where its files are present.

    Attributes:
        folders: One folder per patient, sorted by name.
        release: How the files are named.
        split_files: The lists by split (train, val, test); empty where there is no official split.
        splits: Split by patient, for the patients that the lists name.
    """

    folders: tuple[Path, ...]
    release: CamusRelease
    split_files: Mapping[str, Path]
    splits: Mapping[str, str]

    def remarks(self) -> Iterator[Note]:
        """Yield notes where folders and lists disagree.

        Yields:
            A note.
        """
        if self.release is MHD and (self.folders[0].parent.parent / "testing").is_dir():
            yield Note("testing", "the patients of the old layout's test part have no masks and are left out")
        if not self.split_files:
            yield Note("split", "there is no database_split folder: every patient goes to the training part")
            return
        listed, present = set(self.splits), {folder.name for folder in self.folders}
        missing = {printable(name) for name in listed - present}
        if missing:
            yield Note("split", f"{len(missing)} patient(s) are listed but missing: {format_names(missing)}")
        extra = {printable(name) for name in present - listed}
        if extra:
            yield Note(
                "split", f"{len(extra)} patient(s) are in no list and go to the training part: {format_names(extra)}"
            )


def find_patients(root: Path, fold: int | None = None) -> CamusPatients:
    """Find the patients below a folder, whichever level of the dataset the user named.

    Args:
        root: Folder that the user names.
        fold: Official fold, 1 to 10, that defines the split; None for the split of the release.

    Returns:
        The patients and their splits.

    Raises:
        ConversionError: If there are no patients, a list is missing, or a patient is in two lists.
    """
    require_folder(root)
    for place in _DATABASES:
        folders = _patient_folders(root / place)
        if folders:
            files = _split_files(_split_folder(root, (root / place).resolve(), fold), fold)
            return CamusPatients(folders, NIFTI, files, read_split_lists(files))
    folders = _patient_folders(root / "training")
    if folders:
        lists = None if fold is None else _split_folder(root, root.resolve() / "training", fold)
        files = _split_files(lists, fold)
        return CamusPatients(folders, MHD, files, read_split_lists(files))
    raise not_found(root, "folders patient0001, patient0002, ... of CAMUS, in it or in its database_nifti")


#: Split by the ending of the list that names its patients.
SPLIT_BY_LIST = {"training": "train", "validation": "val", "testing": "test"}


def read_split_lists(files: Mapping[str, Path]) -> dict[str, str]:
    """Read the lists of patients.

    Args:
        files: List by split.

    Returns:
        Split by patient; empty without lists.

    Raises:
        ConversionError: If a patient is in more than one list.
    """
    splits: dict[str, str] = {}
    repeated: set[str] = set()
    for split, path in files.items():
        for patient in path.read_text(encoding="utf-8-sig", errors="surrogateescape").split():
            if splits.setdefault(patient, split) != split:
                repeated.add(printable(patient))
    if repeated:
        folder = next(iter(files.values())).parent
        raise ConversionError(
            f"{len(repeated)} patient(s) are in more than one list of {printable(str(folder))}: "
            f"{format_names(repeated)}. Leave each in one."
        )
    return splits


_DATABASES = (
    ".",
    "database_nifti",
    "CAMUS_public",
    "CAMUS_public/database_nifti",
    "Resources/database_nifti",
)


def _patient_folders(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.name.startswith("patient") and path.is_dir()))


def _split_folder(root: Path, database: Path, fold: int | None) -> Path | None:
    """Find the folder of the lists, of the release or of the folds. Raises ConversionError for missing folds."""
    names = ("database_split",) if fold is None else ("listSubGroups", "database_split")
    places = [folder / name for name in names for folder in (root, database, database.parent)]
    if fold is None:
        return next((place for place in places if place.is_dir()), None)
    for place in places:
        if any(place.glob("subGroup*_*.txt")):
            return place
    raise ConversionError(
        f"{printable(str(root))} has no listSubGroups/subGroup{fold}_training.txt: the lists of the ten folds do not "
        "come with the present release. Put the folder listSubGroups beside the patients, or convert without --fold."
    )


def _split_files(folder: Path | None, fold: int | None) -> dict[str, Path]:
    """List the three files by split; empty without a folder.

    Raises ConversionError where only some of the three are there: patients would silently change sides.
    """
    if folder is None:
        return {}
    start = "subgroup" if fold is None else f"subGroup{fold}"
    files = {split: folder / f"{start}_{part}.txt" for part, split in SPLIT_BY_LIST.items()}
    missing = {path.name for path in files.values() if not path.is_file()}
    if missing:
        advice = "Complete it, or move the folder away to convert without the official split."
        advice = advice if fold is None else f"Complete it, or choose another fold than {fold}."
        raise ConversionError(f"{printable(str(folder))} lacks {format_names(missing)}. {advice}")
    return files


def _has_view(source: PatientView, view: str) -> bool:
    """Check whether the folder holds any image of the view."""
    return any(source.folder.glob(f"*_{view}_*{source.ending}"))


def _missing_view(source: PatientView) -> Skipped | Note:
    """Report a missing view: a note if the patient has the other view, else a skip."""
    if any(_has_view(source, view) for view in CAMUS_VIEWS):
        return Note(source.name, f"the folder holds no {source.view} image")
    return Skipped(
        source.identifier("ED"),
        f"{source.folder.name} holds no image named {source.folder.name}_{source.view}_ED{source.ending}",
    )


def _pair(source: PatientView, what: str) -> tuple[Image, Image]:
    return read_image(source.file(what)), read_image(source.file(f"{what}_gt"))


def _annotated_case(
    source: PatientView, info: ViewInfo, moment: str, frame: int | None, image: Image, mask: Image
) -> Iterator[ConvertedCase | Note]:
    """Yield the case, and notes about its mask. Raises ConversionError where nothing is annotated in it.

    Every CAMUS image shows all three structures: one that the mask lacks was not annotated here, so it is unknown.
    """
    present = classes_in_mask(mask[0], Camus.classes)
    if not mask[0].any():
        raise ConversionError("nothing is annotated in the mask")
    if len(present) < len(Camus.classes):
        missing = [name for name in Camus.classes if name not in present]
        yield Note(source.identifier(moment), f"{format_names(missing)} is not in the mask and counts as unknown")
    if not np.allclose(image[1], mask[1], rtol=1e-3):
        yield Note(source.identifier(moment), f"spacing {image[1]} mm in the image, {mask[1]} mm in the mask")
    yield _case(source, info, moment, frame, image, mask, present)


def _case(
    source: PatientView,
    info: ViewInfo,
    moment: str,
    frame: int | None,
    image: Image,
    mask: Image,
    annotated: tuple[str, ...],
) -> ConvertedCase:
    """Build the case; `moment`: ED, ES, or F007 for a frame between them."""
    annotated_by_experts = moment in PHASES
    entry = {
        "split": source.split,
        "view": source.view,
        "phase": moment if annotated_by_experts else None,
        "frame": frame,
        "interpolated": not annotated_by_experts,
        "spacing_known": True,
        "quality": info.quality,
        "ef": info.ef,
        # the old release numbers the same patients differently
        SAME_PEOPLE_AS: "camus" if source.prefix else None,
    }
    labels = CaseLabels.from_fields(
        annotated=annotated,
        absent=OUT_OF_VIEW.get(source.view, ()),  # 4CH shows the right heart, which is not annotated
        domain="camus",
        patient=source.patient,
        info=entry,
    )
    return ConvertedCase(source.identifier(moment), image[0], mask[0], image[1], labels)


def _contradictions(
    source: PatientView, info: ViewInfo, stills: dict[str, Image], images: NDArray[Any]
) -> Iterator[Note]:
    """Yield notes where cfg file, ED and ES images, and sequence (t, rows, cols) contradict each other."""
    ed, es = info.frame("ED"), info.frame("ES")
    if ed is not None and es is not None and ed >= es:
        yield Note(source.name, f"{source.cfg.name} says ED: {ed + 1}, ES: {es + 1}; frames are taken as it says")
    for phase, (still, _) in stills.items():
        frame = info.frame(phase)
        if frame is None:
            continue
        if frame >= len(images):
            text = f"{source.cfg.name} says {phase}: {frame + 1}, but the sequence has {len(images)} frames"
            yield Note(source.name, text)
        elif still.shape != images[frame].shape:
            yield Note(source.name, f"{phase} has shape {still.shape}, the sequence {images[frame].shape}")
        else:
            difference = float(np.abs(still.astype(np.float64) - images[frame]).mean())
            if difference > MAX_MEAN_DIFFERENCE:
                text = (
                    f"{phase} differs from frame {frame + 1} of the sequence by {difference:.1f} gray values on average"
                )
                yield Note(source.name, text)


def _frames_between(
    source: PatientView, info: ViewInfo, images: NDArray[Any], spacing_mm: tuple[float, float]
) -> Iterator[ConvertedCase | Skipped | Note]:
    """Yield every frame of the sequence that is neither ED nor ES; those come from their own files."""
    ends = {info.frame(phase) for phase in PHASES}
    if None in ends or not all(frame < len(images) for frame in ends if frame is not None):
        text = f"{source.cfg.name} does not say which of the {len(images)} frames are ED and ES"
        yield Skipped(source.identifier(source.sequence), text)
        return
    try:
        masks, _ = read_image(source.file(f"{source.sequence}_gt"))
        if masks.shape != images.shape:
            raise ConversionError(f"image and mask differ in shape: {images.shape} and {masks.shape}")
    except ConversionError as problem:
        yield Skipped(source.identifier(source.sequence), str(problem))
        return
    for frame in range(len(images)):
        if frame in ends:
            continue
        moment = f"F{frame:03d}"
        if not masks[frame].any():
            yield Skipped(source.identifier(moment), f"nothing is annotated in frame {frame + 1} of the sequence")
        else:
            image, mask = (images[frame], spacing_mm), (masks[frame], spacing_mm)
            yield from _annotated_case(source, info, moment, frame, image, mask)
