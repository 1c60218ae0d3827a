"""CAMUS: 500 patients in two apical views, with left ventricle, its wall and left atrium drawn at ED and ES.

Leclerc et al., "Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography", IEEE TMI
2019, https://doi.org/10.1109/TMI.2019.2900516

What the text file beside each view of CAMUS says: which frames are ED and ES, image quality, ejection fraction.

Where a copy of CAMUS keeps its patients, and which of them are for training, validation and testing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
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

from .base import ConvertedCase, DataSet, Note, Skipped, SourceItem, not_found, require_folder, require_identifier
from .readers.images import read_image


@dataclass(frozen=True)
class ViewInfo:
    """`ed`, `es`: frame numbers from 1, as in the file; `ef` in percent; `frames`: their number.

    None where the file does not say.
    """

    ed: int | None = None
    es: int | None = None
    quality: str | None = None
    ef: float | None = None
    frames: int | None = None

    def frame(self, phase: str) -> int | None:
        """The frame of "ED" or "ES" counted from 0."""
        value = self.ed if phase == "ED" else self.es
        return None if value is None or value < 1 else value - 1


def read_cfg(path: Path) -> ViewInfo | None:
    """Reads `Key: value` lines (any line ends; EF or, in the old layout, LVef). None where there is no file."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    pairs = (line.partition(":") for line in text.splitlines())
    values = {key.strip().casefold(): value.strip() for key, colon, value in pairs if colon}
    return ViewInfo(
        ed=parse_int(values.get("ed", "")),
        es=parse_int(values.get("es", "")),
        quality=values.get("imagequality") or None,
        ef=parse_number(values.get("ef", values.get("lvef", ""))),
        frames=parse_int(values.get("nbframe", "")),
    )


#: The ten folds of the paper, each with lists of its own.
FOLDS = range(1, 11)
SPLITS = {"training": "train", "validation": "val", "testing": "test"}
_DATABASES = (
    ".",
    "database_nifti",
    "CAMUS_public",
    "CAMUS_public/database_nifti",
    "Resources/database_nifti",
)


@dataclass(frozen=True)
class CamusRelease:
    """How one release of CAMUS names and stores its files."""

    ending: str
    sequence: str
    prefix: str = ""


#: The current release; the sequences run from ED to ES and have masks.
NIFTI = CamusRelease(".nii.gz", "half_sequence")
#: The old challenge layout: training/ and testing/ number their patients separately, sequences have no masks.
MHD = CamusRelease(".mhd", "sequence", "training_")


@dataclass(frozen=True)
class Patients:
    """A folder of patient*/ folders, with the official split where its files are there.

    `fold`: which of the ten folds decides; None for the split of the current release.
    """

    folder: Path
    dialect: CamusRelease
    split_folder: Path | None
    fold: int | None = None

    def folders(self) -> list[Path]:
        """One folder per patient, sorted by name."""
        return _patients(self.folder)

    def split_files(self) -> dict[str, Path]:
        """The three lists by split: train, val, test. Empty where there is no split folder.

        Raises ConversionError where only some of the three are there: patients would silently change sides.
        """
        if self.split_folder is None:
            return {}
        start = "subgroup" if self.fold is None else f"subGroup{self.fold}"
        files = {split: self.split_folder / f"{start}_{part}.txt" for part, split in SPLITS.items()}
        missing = {path.name for path in files.values() if not path.is_file()}
        if missing:
            way = "Complete it, or move the folder away to convert without the official split."
            way = way if self.fold is None else f"Complete it, or choose another fold than {self.fold}."
            raise ConversionError(f"{printable(str(self.split_folder))} lacks {format_names(missing)}. {way}")
        return files

    def splits(self) -> dict[str, str]:
        """train, val or test for each patient that the lists name. Raises ConversionError for one in two lists."""
        found: dict[str, str] = {}
        twice: set[str] = set()
        for split, path in self.split_files().items():
            for patient in path.read_text(encoding="utf-8-sig", errors="surrogateescape").split():
                if found.setdefault(patient, split) != split:
                    twice.add(printable(patient))
        if twice:
            raise ConversionError(
                f"{len(twice)} patient(s) stand in more than one list of {printable(str(self.split_folder))}: "
                f"{format_names(twice)}. Leave each in one."
            )
        return found

    def remarks(self) -> Iterator[Note]:
        """Where folders and lists disagree."""
        if self.dialect is MHD and (self.folder.parent / "testing").is_dir():
            yield Note("testing", "the patients of the old layout's test part have no masks and are left out")
        if self.split_folder is None:
            yield Note("split", "there is no database_split folder: every patient goes to the training part")
            return
        listed, here = set(self.splits()), {path.name for path in self.folders()}
        if listed - here:
            missing = {printable(name) for name in listed - here}
            yield Note("split", f"{len(missing)} patient(s) are listed but not here: {format_names(missing)}")
        if here - listed:
            extra = {printable(name) for name in here - listed}
            yield Note(
                "split", f"{len(extra)} patient(s) are in no list and go to the training part: {format_names(extra)}"
            )


def find_patients(root: Path, fold: int | None = None) -> Patients:
    """The patients below `root`, whichever level of the data set the user named.

    `fold`: the one of the ten folds that decides about the split. Raises ConversionError where there are no patients,
    or no lists of folds though one is asked for.
    """
    require_folder(root)
    for place in _DATABASES:
        folder = root / place
        if _patients(folder):
            return Patients(folder, NIFTI, _split_folder(root, folder.resolve(), fold), fold)
    if _patients(root / "training"):
        lists = None if fold is None else _split_folder(root, root.resolve() / "training", fold)
        return Patients(root / "training", MHD, lists, fold)
    raise not_found(root, "folders patient0001, patient0002, ... of CAMUS, in it or in its database_nifti")


def _patients(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.startswith("patient") and path.is_dir())


def _split_folder(root: Path, database: Path, fold: int | None) -> Path | None:
    """Where the lists are: of the current release, or of the folds. Raises ConversionError for folds that are not."""
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


VIEWS = ("2CH", "4CH")
PHASES = ("ED", "ES")
FRAMES = ("ed-es", "half-sequence")

#: As the cfg file of a view rates its pictures, from poor to good.
QUALITIES = ("Poor", "Medium", "Good")
#: Notes of this name are views left out for their quality; `summarise_notes` counts them.
QUALITY = "quality"

#: Mean difference in grey values up to which a still counts as the frame of the sequence that it was taken from.
SAME_PICTURE = 1.0

Image = tuple[NDArray[Any], tuple[float, float]]


@dataclass(frozen=True)
class PatientView(SourceItem):
    """One view of one patient."""

    folder: Path
    view: str
    split: str | None
    ending: str
    sequence: str
    prefix: str

    def file(self, what: str) -> Path:
        """patient0001/patient0001_2CH_ED.nii.gz for "ED"."""
        return self.folder / f"{self.folder.name}_{self.view}_{what}{self.ending}"

    @property
    def cfg(self) -> Path:
        return self.folder / f"Info_{self.view}.cfg"

    @property
    def patient(self) -> str:
        return f"camus_{self.prefix}{self.folder.name}"

    def identifier(self, moment: str) -> str:
        """camus_patient0001_2CH_ED for "ED"."""
        return f"{self.patient}_{self.view}_{moment}"


@dataclass(frozen=True)
class Camus(DataSet):
    """CAMUS, the current NIfTI release; also the training part of the old MHD layout.

    `frames`: "ed-es" takes the stills that experts drew, "half-sequence" also the frames between them, whose masks are
    interpolated (marked so in the manifest). `views`: which of 2CH and 4CH. `min_quality`: leaves out views that were
    rated lower. `fold`: which of the official ten folds says who trains, validates and tests; by default the split of
    the release.
    """

    frames: str = "ed-es"
    views: tuple[str, ...] = VIEWS
    min_quality: str = QUALITIES[0]
    fold: int | None = None

    name: ClassVar[str] = "camus"
    title: ClassVar[str] = "CAMUS: LV, MYO, LA in 2CH and 4CH"
    description: ClassVar[str] = (
        "CAMUS (Leclerc et al. 2019): 500 patients, two- and four-chamber view, ED and ES; left ventricle, its wall "
        "and left atrium drawn. Ask for it at https://humanheart-project.creatis.insa-lyon.fr; for non-commercial "
        "research, to be cited, not to be passed on. Give the unpacked folder CAMUS_public (or its database_nifti)."
    )
    default_name: ClassVar[str] = "CAMUS"
    classes: ClassVar[tuple[str, ...]] = ("LV", "MYO", "LA")
    reference: ClassVar[str] = "Leclerc et al. 2019, https://doi.org/10.1109/TMI.2019.2900516"
    license: ClassVar[str] = "non-commercial research; see LICENSE_TERMS.md of CAMUS_public; not to be passed on"

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(dict.fromkeys(self.views)))
        if self.frames not in FRAMES:
            raise ConversionError(f"frames is {self.frames!r}, expected one of {', '.join(FRAMES)}")
        if not self.views or not set(self.views) <= set(VIEWS):
            raise ConversionError(f"views is {self.views!r}, expected one or both of {', '.join(VIEWS)}")
        if self.min_quality not in QUALITIES:
            raise ConversionError(f"min_quality is {self.min_quality!r}, expected one of {', '.join(QUALITIES)}")
        if self.fold is not None and self.fold not in FOLDS:
            raise ConversionError(f"the fold is {self.fold}, expected a number from {FOLDS[0]} to {FOLDS[-1]}")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--frames",
            choices=FRAMES,
            default="ed-es",
            help="ed-es: the two stills that experts drew; half-sequence: also every frame between, with interpolated "
            "masks, marked as such (default: %(default)s)",
        )
        parser.add_argument(
            "--views", nargs="+", choices=VIEWS, default=list(VIEWS), help="which views (default: both)"
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
            help="which of the official ten folds (1 to 10, lists in listSubGroups/) says who trains, validates and "
            "tests (default: the split that comes with the data)",
        )

    def sources(self) -> Sequence[PatientView]:
        patients = self._patients()
        splits = patients.splits()
        dialect = patients.dialect
        return [
            PatientView(
                f"{dialect.prefix}{folder.name} {view}",
                folder,
                view,
                splits.get(folder.name),
                dialect.ending,
                dialect.sequence,
                dialect.prefix,
            )
            for folder in patients.folders()
            for view in self.views
        ]

    def _patients(self) -> Patients:
        return find_patients(self.root, self.fold)

    def remarks(self) -> Iterator[Note]:
        yield from self._patients().remarks()

    def summarise_notes(self, notes: Sequence[Note]) -> Sequence[Note]:
        """The views that were left out for their quality as one note."""
        poorer = [note.text for note in notes if note.about == QUALITY]
        counted = [
            Note(QUALITY, f"{len(poorer)} view(s) below {self.min_quality} are left out: {format_names(poorer)}")
        ]
        return [*(counted if poorer else []), *(note for note in notes if note.about != QUALITY)]

    def tables(self) -> Sequence[Path]:
        return list(self._patients().split_files().values())

    def read(self, source: SourceItem) -> Iterator[ConvertedCase | Skipped | Note]:
        assert isinstance(source, PatientView)
        require_identifier(source.patient)
        if not _has_view(source, source.view):
            yield _missing(source)
            return
        info = read_cfg(source.cfg)
        if info is None:
            yield Note(source.name, f"{source.cfg.name} is missing: frame numbers, quality and EF are not known")
            info = ViewInfo()
        if not self._good_enough(info):
            yield Note(QUALITY, f"{source.name} ({info.quality})")
            return
        stills: dict[str, Image] = {}
        for phase in PHASES:
            try:
                image, mask = _pair(source, phase)
                yield from _drawn(source, info, phase, info.frame(phase), image, mask)
                stills[phase] = image
            except ConversionError as problem:
                yield Skipped(source.identifier(phase), str(problem))
        yield from self._sequence(source, info, stills)

    def _good_enough(self, info: ViewInfo) -> bool:
        """Raises ConversionError where nobody knows whether the quality reaches the one that is asked for."""
        lowest = QUALITIES.index(self.min_quality)
        if lowest == 0:
            return True
        rated = next((place for place, name in enumerate(QUALITIES) if name == (info.quality or "").capitalize()), None)
        if rated is None:
            raise ConversionError(f"its image quality is {info.quality!r}, so that --min-quality cannot be judged")
        return rated >= lowest

    def _sequence(
        self, source: PatientView, info: ViewInfo, stills: dict[str, Image]
    ) -> Iterator[ConvertedCase | Skipped | Note]:
        """Compares the stills with the sequence and, where asked for, yields the frames between them."""
        wanted = self.frames == "half-sequence"
        if not wanted and not source.file(source.sequence).exists():
            return
        try:
            images, spacing_mm = read_image(source.file(source.sequence))
            if images.ndim != 3:
                raise ConversionError(f"{source.file(source.sequence).name} has shape {images.shape}, expected frames")
        except ConversionError as problem:
            found = Skipped if wanted else Note
            yield found(source.identifier(source.sequence) if wanted else source.name, str(problem))
            return
        yield from _disagreements(source, info, stills, images)
        if wanted:
            yield from _between(source, info, images, spacing_mm)


def _has_view(source: PatientView, view: str) -> bool:
    """Whether the folder holds any picture of the view."""
    return any(source.folder.glob(f"*_{view}_*{source.ending}"))


def _missing(source: PatientView) -> Skipped | Note:
    """A patient without this view is odd; a patient without any is lost."""
    if any(_has_view(source, view) for view in VIEWS):
        return Note(source.name, f"the folder holds no {source.view} picture")
    return Skipped(
        source.identifier("ED"),
        f"{source.folder.name} holds no picture named {source.folder.name}_{source.view}_ED{source.ending}",
    )


def _pair(source: PatientView, what: str) -> tuple[Image, Image]:
    return read_image(source.file(what)), read_image(source.file(f"{what}_gt"))


def _drawn(
    source: PatientView, info: ViewInfo, moment: str, frame: int | None, image: Image, mask: Image
) -> Iterator[ConvertedCase | Note]:
    """The case, and what is odd about its mask. Raises ConversionError where nothing is drawn in it.

    Every CAMUS picture shows all three structures: one that a mask lacks was not drawn here, so it is unknown.
    """
    present = tuple(name for value, name in enumerate(Camus.classes, 1) if (mask[0] == value).any())
    if not mask[0].any():
        raise ConversionError("nothing is drawn in the mask")
    if len(present) < len(Camus.classes):
        missing = [name for name in Camus.classes if name not in present]
        yield Note(source.identifier(moment), f"{format_names(missing)} is not in the mask and counts as unknown")
    if not np.allclose(image[1], mask[1], rtol=1e-3):
        yield Note(source.identifier(moment), f"pixel size {image[1]} mm in the image, {mask[1]} mm in the mask")
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
    """`moment`: ED, ES, or F007 for a frame between them."""
    drawn = moment in PHASES
    entry = {
        "split": source.split,
        "view": source.view,
        "phase": moment if drawn else None,
        "frame": frame,
        "interpolated": not drawn,
        "spacing_known": True,
        "quality": info.quality,
        "ef": info.ef,
        # the old release numbers the same people otherwise
        SAME_PEOPLE_AS: "camus" if source.prefix else None,
    }
    labels = CaseLabels.from_fields(
        annotated=annotated,
        absent=OUT_OF_VIEW.get(source.view, ()),  # 4CH shows the right heart, and nobody drew it
        domain="camus",
        patient=source.patient,
        info=entry,
    )
    return ConvertedCase(source.identifier(moment), image[0], mask[0], image[1], labels)


def _disagreements(
    source: PatientView, info: ViewInfo, stills: dict[str, Image], images: NDArray[Any]
) -> Iterator[Note]:
    """Where cfg, stills and sequence (t, rows, cols) contradict each other."""
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
            if difference > SAME_PICTURE:
                text = (
                    f"{phase} differs from frame {frame + 1} of the sequence by {difference:.1f} grey values on average"
                )
                yield Note(source.name, text)


def _between(
    source: PatientView, info: ViewInfo, images: NDArray[Any], spacing_mm: tuple[float, float]
) -> Iterator[ConvertedCase | Skipped | Note]:
    """Every frame of the sequence that is neither ED nor ES; those come from the stills."""
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
            yield Skipped(source.identifier(moment), f"nothing is drawn in frame {frame + 1} of the sequence")
        else:
            picture, mask = (images[frame], spacing_mm), (masks[frame], spacing_mm)
            yield from _drawn(source, info, moment, frame, picture, mask)
