"""What the finished models of a study reached: one number per model, test case and structure."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.statistics import SHARE, Described, Paired, describe, signed_rank
from nnunet_partial.study.definition import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.steps import Model, models

#: The metric of every table: 1 is perfect, 0 is missed; a structure rightly not predicted has no value.
METRIC = "dice"


@dataclass(frozen=True)
class Value:
    """The Dice of one structure in one test case by one model; NaN where it is rightly not predicted."""

    model: Model
    domain: str
    patient: str
    case: str
    structure: str
    dice: float


def finished(study: Study) -> list[Model]:
    """The models whose predictions have been evaluated; not those that lack a fold, which was added since."""
    folder = StudyFolder(study.folder)
    return [
        model
        for model in models(study)
        if all(folder.done(step).exists() for step in [*map(model.train_step, study.folds), model.evaluate_step])
    ]


def read_values(study: Study) -> list[Value]:
    """All values of the finished models. Raises PartialLabelError where there is none, or a table is broken."""
    folder = StudyFolder(study.folder)
    found = [value for model in finished(study) for value in _of_model(model, folder.evaluation(model.name))]
    if not found:
        raise PartialLabelError(
            f"No model of this study has been evaluated yet ({folder.root}). `nnunet_partial study run` makes them; "
            "`nnunet_partial study status` tells how far it is."
        )
    return found


def _of_model(model: Model, folder: Path) -> list[Value]:
    file = folder / "per_case.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        values = [
            Value(model, row["domain"], row["patient"], row["case"], row["class"], float(row[METRIC] or math.nan))
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as problem:
        raise PartialLabelError(
            f"{file} cannot be read: {problem!r}. Delete it and its step in done/, run again."
        ) from None
    return values


def described(values: Sequence[Value]) -> Described:
    """Mean over cases and seeds; its interval is over patients, with all their cases and seeds."""
    counted = [value for value in values if not math.isnan(value.dice)]
    return describe([value.dice for value in counted], [value.patient for value in counted], SHARE)


def seed_means(values: Iterable[Value]) -> dict[int, float]:
    """The mean of each seed by itself: how much of a difference is the luck of one training."""
    by_seed: dict[int, list[float]] = {}
    for value in (value for value in values if not math.isnan(value.dice)):
        by_seed.setdefault(value.model.seed, []).append(value.dice)
    return {seed: sum(dice) / len(dice) for seed, dice in sorted(by_seed.items())}


def compare(ours: Sequence[Value], theirs: Sequence[Value]) -> Paired:
    """Two methods on the same patients: each patient's mean over the (seed, case) pairs that both have.

    Wilcoxon's signed-rank test; patients are drawn at random, seeds are taken as they are. Where one rightly predicts
    nothing, it gets 1 if the other one predicts something, so that a false positive counts against that one; where both
    do, the pair does not count (as in `evaluation.comparisons`).
    """
    a, b = ({(v.model.seed, v.case): v for v in values} for values in (ours, theirs))
    shared = [key for key in sorted(a.keys() & b.keys()) if not math.isnan(a[key].dice) or not math.isnan(b[key].dice)]
    of_patient: dict[str, list[tuple[int, str]]] = {}
    for key in shared:
        of_patient.setdefault(a[key].patient, []).append(key)
    means = [[_mean(_or_one(side[key].dice) for key in keys) for keys in of_patient.values()] for side in (a, b)]
    return signed_rank(*means)


def _or_one(dice: float) -> float:
    return 1.0 if math.isnan(dice) else dice


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
