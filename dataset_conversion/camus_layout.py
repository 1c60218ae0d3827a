"""Where a copy of CAMUS keeps its patients, and which of them are for training, validation and testing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import ConversionError, some

from .case import Note, printable
from .data_set import not_found, require_folder

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
    """A folder of patient*/ folders, with the official split where its files are there."""

    folder: Path
    dialect: Dialect
    split_folder: Path | None

    def folders(self) -> list[Path]:
        """One folder per patient, sorted by name."""
        return _patients(self.folder)

    def split_files(self) -> dict[str, Path]:
        """The three lists by split: train, val, test. Empty where there is no split folder.

        Raises ConversionError where only some of the three are there: patients would silently change sides.
        """
        if self.split_folder is None:
            return {}
        files = {split: self.split_folder / f"subgroup_{part}.txt" for part, split in SPLITS.items()}
        missing = {path.name for path in files.values() if not path.is_file()}
        if missing:
            raise ConversionError(
                f"{printable(str(self.split_folder))} lacks {some(missing)}. Complete it, or move the folder away to "
                "convert without the official split."
            )
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


def find_patients(root: Path) -> Patients:
    """The patients below `root`, whichever level of the data set the user named. Raises ConversionError for none."""
    require_folder(root)
    for place in _DATABASES:
        folder = root / place
        if _patients(folder):
            return Patients(folder, NIFTI, _split_folder(root, folder.resolve()))
    if _patients(root / "training"):
        return Patients(root / "training", MHD, None)
    raise not_found(root, "folders patient0001, patient0002, ... of CAMUS, in it or in its database_nifti")


def _patients(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.startswith("patient") and path.is_dir())


def _split_folder(root: Path, database: Path) -> Path | None:
    places = (root / "database_split", database / "database_split", database.parent / "database_split")
    return next((place for place in places if place.is_dir()), None)
