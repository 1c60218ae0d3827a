"""How well each model of the demo finds each structure on each scanner: Dice, as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]

#: Below LOST nobody would say that a structure was found; a model is better than another by at least CLEAR.
LOST, CLEAR = 0.3, 0.3


def read_labels(file: Path) -> Labels:
    """The picture in a file, as it stands there: (rows, cols)."""
    import SimpleITK as sitk

    labels: Labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    return labels


def dice(predicted: Labels, truth: Labels, value: int) -> float:
    """Dice of the pixels that have `value`, from 0 to 1: twice the common ones, divided by those of both.

    NaN where both have none, as in nnU-Net: nothing to find, nothing found. 0 where one has none.
    """
    here, there = predicted == value, truth == value
    total = int(here.sum()) + int(there.sum())
    return 2 * int((here & there).sum()) / total if total else math.nan


@dataclass(frozen=True)
class Scores:
    """Dice of each test case, by model: `of[model][case]` holds one number per structure.

    `structures`: names in the order of their values 1, 2, ...; `domains`: the domain of each case; `labelled`: what
    was labelled for training in each domain.
    """

    structures: Sequence[str]
    domains: Mapping[str, str]
    labelled: Mapping[str, Sequence[str]]
    of: Mapping[str, Mapping[str, Sequence[float]]]

    def mean(self, model: str, domain: str, structure: str) -> float:
        """Plain mean over the cases of a domain; those where there is nothing to find and nothing was found are left
        out, NaN where none remains."""
        index = self.structures.index(structure)
        found = [values[index] for case, values in self.of[model].items() if self.domains[case] == domain]
        counted = [value for value in found if not math.isnan(value)]
        return sum(counted) / len(counted) if counted else math.nan

    def cases(self, domain: str) -> list[str]:
        return sorted(case for case, its in self.domains.items() if its == domain)

    def table(self) -> str:
        """One line per domain and model; a star marks what nobody labelled there for training."""
        head = ["images of", "cases", "trainer", *self.structures]
        rows = [
            [
                domain,
                str(len(self.cases(domain))),
                model,
                *(
                    f"{self.mean(model, domain, name):.2f}{' ' if name in labelled else '*'}"
                    for name in self.structures
                ),
            ]
            for domain, labelled in self.labelled.items()
            for model in self.of
        ]
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        lines = [head, ["-" * width for width in widths], *rows]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)

    def words(self, plain: str, partial: str) -> list[str]:
        """A sentence on each structure that was not labelled in a domain, comparing two models there."""
        return [
            f"{name} in images of {domain}, where nobody labelled it for training: "
            + compared(plain, self.mean(plain, domain, name), partial, self.mean(partial, domain, name))
            for domain, labelled in self.labelled.items()
            for name in self.structures
            if name not in labelled
        ]


def compared(plain: str, plain_dice: float, partial: str, partial_dice: float) -> str:
    """What two numbers say, in words; never more than they say."""
    numbers = f"Dice {plain_dice:.2f} and {partial_dice:.2f}"
    better = partial_dice - plain_dice
    if plain_dice < LOST and better >= CLEAR:
        return f"{plain} loses it, {partial} finds it ({numbers})."
    if better >= CLEAR:
        return f"{partial} finds it better than {plain} ({numbers})."
    if better <= -CLEAR:
        return f"{plain} finds it better than {partial} ({numbers})."
    if max(plain_dice, partial_dice) < LOST:
        return f"both {plain} and {partial} lose it ({numbers})."
    return f"no clear difference between {plain} and {partial} ({numbers})."


def score(
    truth: Mapping[str, Path],
    predicted: Mapping[str, Mapping[str, Path]],
    structures: Sequence[str],
    domains: Mapping[str, str],
    labelled: Mapping[str, Sequence[str]],
) -> Scores:
    """Compares the predictions of each model, `predicted[model][case]`, with the truth, case by case."""
    values = range(1, len(structures) + 1)
    references = {case: read_labels(file) for case, file in truth.items()}
    of = {
        model: {
            case: [dice(read_labels(files[case]), reference, value) for value in values]
            for case, reference in references.items()
        }
        for model, files in predicted.items()
    }
    return Scores(structures, domains, labelled, of)
