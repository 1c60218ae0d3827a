"""Who the patients of TED are in CAMUS, found out by comparing pictures: the two number the same people differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError

from .camus_layout import Patients, find_patients
from .picture import read_picture
from .same_frame import Album


@dataclass(frozen=True)
class Person:
    """A patient of CAMUS: the name and the official split that the converter of CAMUS gives."""

    name: str
    split: str | None


def camus_names(camus: Path, pictures: Mapping[str, NDArray[Any] | None]) -> dict[str, Person]:
    """By name of a picture (rows, cols; None where there is none), whom it shows.

    The ED and ES stills are looked at first, the sequences only for whom is not among them. Left out is who is not
    found, and any two pictures that are said to show one person. Raises ConversionError where `camus` is no CAMUS.
    """
    patients = find_patients(camus)
    found: dict[str, str] = {}
    for kinds in (("ED", "ES"), (patients.dialect.sequence,)):
        rest = {name: picture for name, picture in pictures.items() if picture is not None and name not in found}
        if rest:
            album = Album.of(_pictures(patients, kinds))
            guesses = {name: album.who(picture) for name, picture in rest.items()}
            found.update({name: patient for name, patient in guesses.items() if patient is not None})
    splits, prefix = patients.splits(), patients.dialect.prefix
    return {
        name: Person(f"camus_{prefix}{patient}", splits.get(patient))
        for name, patient in found.items()
        if list(found.values()).count(patient) == 1
    }


def _pictures(patients: Patients, kinds: tuple[str, ...]) -> Iterator[tuple[str, NDArray[Any]]]:
    """(patient, picture) for every four-chamber picture of these kinds that can be read."""
    for folder in patients.folders():
        for kind in kinds:
            try:
                array, _ = read_picture(folder / f"{folder.name}_4CH_{kind}{patients.dialect.ending}")
            except ConversionError:
                continue
            for frame in array if array.ndim == 3 else array[None]:
                yield folder.name, np.asarray(frame)
