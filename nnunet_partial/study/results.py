"""What the finished models of a study reached: one number per model, test case and structure.

What the trainings of a study cost: wall time and peak memory, and how they learned, from logs that nnU-Net keeps.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.statistics import SHARE, Described, Paired, describe, signed_rank
from nnunet_partial.report.tables import Table
from nnunet_partial.study.config import METHODS, Study
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


def finished_models(study: Study) -> list[Model]:
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
    found = [value for model in finished_models(study) for value in _of_model(model, folder.evaluation(model.name))]
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


_EPOCH = re.compile(r"\d: Epoch (\d+)\s*$")
_LOSS = re.compile(r"(train_loss|val_loss) (-?\d[\d.eE+-]*|nan)\s*$")
_PEAK = re.compile(r"Peak memory of the GPU: ([\d.]+) GiB")


@dataclass(frozen=True)
class Cost:
    """Of one training step: wall time in minutes, peak memory of its processes in GiB; None where not measured."""

    minutes: float
    memory_gib: float | None
    card_gib: float | None


def cost_table(study: Study) -> Table | None:
    """Mean time and highest memory per network and loss; None before any training has ended."""
    folder = StudyFolder(study.folder)
    rows = []
    for architecture in study.architectures:
        for loss in study.losses:
            of_loss = [m for m in models(study) if (m.architecture_name, m.method_name) == (architecture, loss)]
            costs = [cost for model in of_loss for fold in study.folds for cost in _costs(folder, model, fold)]
            if costs:
                rows.append([METHODS[loss].title, architecture, str(len(costs)), *_summary(costs)])
    if not rows:
        return None
    head = ["loss", "network", "trainings", "minutes (mean)", "minutes (range)", "memory (GiB)", "card (GiB)"]
    note = "Wall time of the last start of each training, beside whatever else ran; highest memory of its processes."
    if any(row[-1] != "-" for row in rows):
        note += " Card: the highest memory of the graphics card, as PyTorch counts it."
    else:
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table(head, rows, left=2, caption="Time and memory of a training, its final validation included", note=note)


def learning_curves(study: Study) -> Iterator[tuple[Model, list[float]]]:
    """Each trained model with its validation loss per epoch, first fold; a continued training counts as one."""
    folder = StudyFolder(study.folder)
    for model in models(study):
        losses = _losses(folder.log(model.train_step(study.folds[0])), "val_loss")
        if losses:
            yield model, losses


def _costs(folder: StudyFolder, model: Model, fold: int) -> Iterator[Cost]:
    step = model.train_step(fold)
    file = folder.cost(step)
    if not (folder.done(step).exists() and file.exists()):
        return
    with file.open(newline="", encoding="utf-8") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"))
    peaks = [float(peak) for peak in _PEAK.findall(folder.log(step).read_text(encoding="utf-8", errors="replace"))]
    yield Cost(float(row["s"]) / 60, _number(row["max_rss"], 1024), max(peaks, default=None))


def _number(text: str, divisor: float) -> float | None:
    """Snakemake writes NA or - for a process too short to be seen."""
    try:
        return float(text) / divisor
    except ValueError:
        return None


def _summary(costs: Sequence[Cost]) -> list[str]:
    minutes = [cost.minutes for cost in costs]
    highest = [
        max((gib for gib in column if gib is not None), default=None)
        for column in ([cost.memory_gib for cost in costs], [cost.card_gib for cost in costs])
    ]
    return [
        f"{sum(minutes) / len(minutes):.1f}",
        f"{min(minutes):.1f}-{max(minutes):.1f}",
        *("-" if gib is None else f"{gib:.1f}" for gib in highest),
    ]


def _losses(log: Path, name: str) -> list[float]:
    """By epoch; what a continued training repeated counts as it was repeated."""
    if not log.exists():
        return []
    by_epoch: dict[int, float] = {}
    epoch = -1
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := _EPOCH.search(line):
            epoch = int(found[1])
        elif (found := _LOSS.search(line)) and found[1] == name:
            by_epoch[epoch] = float(found[2])
    return [by_epoch[number] for number in sorted(by_epoch)]
