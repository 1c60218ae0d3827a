"""What the trainings of a study cost: wall time and peak memory, and how they learned, from logs that nnU-Net keeps."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.report.tables import Table
from nnunet_partial.study.definition import Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.methods import METHODS
from nnunet_partial.study.steps import Model, models

_EPOCH = re.compile(r"\d: Epoch (\d+)\s*$")
_LOSS = re.compile(r"(train_loss|val_loss) (-?\d[\d.eE+-]*|nan)\s*$")
_PEAK = re.compile(r"Peak memory of the graphics card: ([\d.]+) GiB")


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
