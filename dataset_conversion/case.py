"""What a data set hands to the writer: pictures with their outlines, and what had to be left out, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import ConversionError
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.text import printable

_IDENTIFIER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,118}[A-Za-z0-9])?")


def require_identifier(name: str) -> str:
    """`name`, if it may become a file name as it is. Raises ConversionError for anything but letters, digits, _ and -.

    Nothing is mapped: two names must never become one, and none may lead out of the target folder (../, /etc).
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ConversionError(
            f"{printable(name)!r} cannot name a case: expected at most 120 letters, digits, '_' and '-', the first and "
            "the last a letter or digit. Rename it in the source."
        )
    return name


@dataclass(frozen=True)
class Source:
    """One thing to open: a video, a patient's view. `name` shows it to the user and is unique in the data set."""

    name: str


@dataclass(frozen=True)
class Case:
    """One picture with its outlines, in memory.

    `image`, `mask`: (rows, cols), or (slices, rows, cols) for a volume; mask 0 background, 1, 2, ... the classes of the
    data set. `spacing_mm`: one number per axis, in that order. `labels.info["split"]` "test" sends the case to
    imagesTs.
    """

    identifier: str
    image: NDArray[Any]
    mask: NDArray[Any]
    spacing_mm: tuple[float, ...]
    labels: CaseLabels

    @property
    def part(self) -> str:
        """Where the case goes: "Ts" (official test part) or "Tr"."""
        return "Ts" if self.labels.split == "test" else "Tr"

    def require_sound(self, classes: Sequence[str]) -> None:
        """Raises ConversionError where image, mask, spacing and declaration do not fit together.

        `classes`: what the mask values 1, 2, ... mean.
        """
        require_identifier(self.identifier)
        axes = ("rows", "cols") if len(self.spacing_mm) == 2 else ("slices", "rows", "cols")
        if not self.image.ndim == len(self.spacing_mm) == len(axes) or self.image.size == 0:
            raise ConversionError(f"the image has shape {self.image.shape}, expected ({', '.join(axes)})")
        if self.image.shape != self.mask.shape:
            raise ConversionError(f"image and mask differ in shape: {self.image.shape} and {self.mask.shape}")
        if not np.isfinite(self.image).all():
            raise ConversionError("the image holds NaN or infinite values")
        if not all(np.isfinite(mm) and mm > 0 for mm in self.spacing_mm):
            count = "two" if len(axes) == 2 else "three"
            raise ConversionError(f"the pixel size is {self.spacing_mm} mm, expected {count} numbers above 0")
        allowed = {0, *(classes.index(name) + 1 for name in self.labels.annotated)}
        strange = sorted({float(value) for value in np.unique(self.mask)} - allowed)
        if strange:
            meaning = ", ".join(f"{value} {name}" for value, name in enumerate(["background", *classes]))
            listed = ", ".join(f"{value:g}" for value in strange[:10])
            raise ConversionError(f"the mask holds the value(s) {listed}; expected only {meaning}")


@dataclass(frozen=True)
class Skipped:
    """A case that cannot be converted. `known_defect`: the official release has this fault, nobody needs to act."""

    case: str
    reason: str
    known_defect: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "case", printable(self.case))
        object.__setattr__(self, "reason", printable(self.reason))


@dataclass(frozen=True)
class Note:
    """Something odd that did not stop the conversion."""

    about: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "about", printable(self.about))
        object.__setattr__(self, "text", printable(self.text))
