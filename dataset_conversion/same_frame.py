"""Finds out which patient a picture shows, by comparing it with pictures of patients whose names are known.

Two releases of one recording differ in pixel size and rounding, two hearts differ in everything. So pictures are made
small and equal in size, and their correlation is looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Side of the small pictures.
SIDE = 64
#: The same frame in another pixel size correlates with more than 0.999, with its neighbour in time with 0.99 (seen in a
#: real sequence); diastole and systole of one heart with 0.9.
SAME = 0.985
#: By so much the runner-up, another patient, must stay behind.
MARGIN = 0.02


@dataclass(frozen=True)
class Album:
    """Pictures of known patients: `small` (n, SIDE * SIDE), a row each, and whom each shows."""

    small: NDArray[np.float32]
    patients: tuple[str, ...]

    @classmethod
    def of(cls, pictures: Iterable[tuple[str, NDArray[Any]]]) -> Album:
        """From (patient, picture (rows, cols)); pictures of one grey all over are left out."""
        rows, patients = [], []
        for patient, picture in pictures:
            row = small(picture)
            if row.any():
                rows.append(row)
                patients.append(patient)
        return cls(np.array(rows, np.float32).reshape(-1, SIDE * SIDE), tuple(patients))

    def who(self, picture: NDArray[Any]) -> str | None:
        """The patient whom `picture` (rows, cols) shows; None where nobody fits, or more than one."""
        likeness: dict[str, float] = {}
        for patient, value in zip(self.patients, (self.small @ small(picture)).tolist(), strict=True):
            likeness[patient] = max(value, likeness.get(patient, -1.0))
        best = sorted(likeness, key=likeness.__getitem__, reverse=True)[:2]
        if not best or likeness[best[0]] < SAME:
            return None
        alone = len(best) == 1 or likeness[best[1]] < likeness[best[0]] - MARGIN
        return best[0] if alone else None


def small(picture: NDArray[Any]) -> NDArray[np.float32]:
    """The picture (rows, cols) as SIDE * SIDE numbers with mean 0 and length 1, so that a product is a correlation.

    All 0 for a picture of one grey.
    """
    from skimage.transform import resize

    values = np.asarray(resize(picture.astype(np.float64), (SIDE, SIDE), order=1, anti_aliasing=True)).ravel()  # type: ignore[no-untyped-call]
    values = values - values.mean()
    length = float(np.sqrt((values**2).sum()))
    return (values / length if length > 1e-6 else np.zeros_like(values)).astype(np.float32)


def in_order(found: Sequence[str]) -> bool:
    """Whether each name comes after the one before."""
    return all(first < second for first, second in itertools.pairwise(found))
