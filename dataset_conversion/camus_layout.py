"""Where a copy of CAMUS keeps its patients, and which of them are for training, validation and testing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import ConversionError
from nnunet_partial.utils.text import printable, some

from .case import Note
from .data_set import not_found, require_folder

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
class Dialect:
    """How one release of CAMUS names and stores its files."""

    ending: str
    sequence: str
    prefix: str = ""


#: The current release; the sequences run from ED to ES and have masks.
NIFTI = Dialect(".nii.gz", "half_sequence")
#: The old challenge layout: training/ and testing/ number their patients separately, sequences have no masks.
MHD = Dialect(".mhd", "sequence", "training_")


@dataclass(frozen=True)
class Patients:
    """A folder of patient*/ folders, with the official split where its files are there.

    `fold`: which of the ten folds decides; None for the split of the current release.
    """

    folder: Path
    dialect: Dialect
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
            raise ConversionError(f"{printable(str(self.split_folder))} lacks {some(missing)}. {way}")
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
                f"{some(twice)}. Leave each in one."
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
            yield Note("split", f"{len(missing)} patient(s) are listed but not here: {some(missing)}")
        if here - listed:
            extra = {printable(name) for name in here - listed}
            yield Note("split", f"{len(extra)} patient(s) are in no list and go to the training part: {some(extra)}")


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
