"""What is to be hidden in a labelling scenario, and from whom."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_partial.errors import DatasetError

#: In place of class names: each chosen patient loses some of its classes, drawn by lot.
RANDOM = "random"


@dataclass(frozen=True)
class Options:
    """What to hide, and from whom.

    `missing`: class names, or RANDOM alone. `fraction`: of the patients, above 0, at most 1. `domain`: of which domain;
    None: of all. `keep_only_complete`: leave out the cases that would lose something, in place of hiding it.
    `unknown_as_ignore`: the background of training cases that do not know every class becomes nnU-Net's ignore label.
    """

    missing: tuple[str, ...]
    fraction: float = 1.0
    seed: int = 0
    domain: str | None = None
    keep_only_complete: bool = False
    unknown_as_ignore: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise DatasetError(f"The fraction of patients is {self.fraction}; expected more than 0 and at most 1.")
        if not self.missing or len(set(self.missing)) < len(self.missing):
            raise DatasetError(f"The missing classes are {list(self.missing)}; expected one or more, each named once.")
        if RANDOM in self.missing and len(self.missing) > 1:
            raise DatasetError(f"'{RANDOM}' draws the missing classes by lot and stands alone; got {self.missing}.")
