"""Read what the models of a study reached and cost: Dice per test case, time and memory, validation losses.

Time and memory come from Snakemake's benchmark files, peak GPU memory and losses from the logs of the trainings.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.statistics import SHARE, Described, Paired, describe, signed_rank
from nnunet_partial.report.results import number, read_per_case
from nnunet_partial.report.tables import Table
from nnunet_partial.study.config import METHODS, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.steps import Model, folds_of, models
from nnunet_partial.utils.versions import versions

#: In place of a version that no log tells.
NOT_RECORDED = "not recorded"

#: The metric of every table: 1 is perfect, 0 is missed; a structure rightly not predicted has no value.
METRIC = "dice"


@dataclass(frozen=True)
class Value:
    """Hold the Dice of one structure in one test case by one model.

    Attributes:
        model: The model.
        domain: Domain of the case.
        patient: Patient of the case.
        case: Name of the case.
        structure: Name of the structure.
        dice: Dice from 0 to 1; NaN where the structure is rightly not predicted.
        outcome: One of `evaluation.metrics.OUTCOMES`.
    """

    model: Model
    domain: str
    patient: str
    case: str
    structure: str
    dice: float
    outcome: str


@dataclass(frozen=True)
class Cost:
    """Hold what a training cost.

    Attributes:
        minutes: Wall time in minutes.
        memory_gib: Peak memory of its processes in GiB; None if not measured.
        gpu_gib: Peak memory of the GPU in GiB; None if not measured.
    """

    minutes: float
    memory_gib: float | None
    gpu_gib: float | None


def finished_models(study: Study) -> list[Model]:
    """List the models whose predictions have been evaluated. Those of other folds than the study's do not count.

    Args:
        study: The study.

    Returns:
        The models in the order of the study; empty if none has finished.
    """
    folder = StudyFolder(study.folder)
    return [
        model for model in models(study) if folder.done(model.evaluate_step).exists() and not is_outdated(study, model)
    ]


def is_outdated(study: Study, model: Model) -> bool:
    """Return whether the test cases must be predicted again: a fold was added or left out, or is trained again.

    Args:
        study: The study.
        model: The model.
    """
    folder, folds = StudyFolder(study.folder), folds_of(study, model.dataset)
    if not all(folder.done(step).exists() for step in _train_steps(study, model)):
        return True
    return folder.done(model.predict_step).exists() and folder.predicted_folds(model.predict_step) != {*folds}


def read_values(study: Study) -> list[Value]:
    """Read all values of the finished models.

    Args:
        study: The study.

    Returns:
        The values, model by model; never empty.

    Raises:
        PartialLabelError: If no model has finished, or a results file is broken.
    """
    folder = StudyFolder(study.folder)
    values = [value for model in finished_models(study) for value in _read_model(model, folder.evaluation(model.name))]
    if not values:
        raise PartialLabelError(
            f"No model of this study has been evaluated yet with all its folds and no others ({folder.root}). "
            "`nnunet_partial study run` makes them; "
            "`nnunet_partial study status` shows the progress."
        )
    return values


def count_complete(values: Iterable[Value], sources: Mapping[str, Path]) -> tuple[int, int]:
    """Count the test cases in which every structure of their dataset is annotated or declared absent.

    Args:
        values: Values of models.
        sources: Raw folder of each dataset of the study that is there.

    Returns:
        The number of these cases, and that of all cases of `values` of these datasets.
    """
    cases: dict[str, set[str]] = {}
    for value in values:
        cases.setdefault(value.model.scenario.source, set()).add(value.case)
    datasets = {name: RawDataset(path) for name, path in sources.items() if name in cases}
    complete = [
        labels is not None and labels.known >= set(dataset.structures)
        for name, dataset in datasets.items()
        for labels in map(dataset.manifest.find, cases[name])
    ]
    return sum(complete), len(complete)


def describe_dice(values: Sequence[Value]) -> Described:
    """Average the Dice over cases and seeds.

    Args:
        values: Values of one method; NaN is left out.

    Returns:
        The mean, with its confidence interval over patients (with all their cases and seeds) and the numbers of values
        and patients.
    """
    defined = [value for value in values if not math.isnan(value.dice)]
    return describe([value.dice for value in defined], [value.patient for value in defined], SHARE)


def seed_means(values: Iterable[Value]) -> dict[int, float]:
    """Average the Dice of each seed: how much of a difference between methods is the luck of one training.

    Args:
        values: Values of one method; NaN is left out.

    Returns:
        The mean by seed, in the order of the seeds; empty without a value.
    """
    by_seed: dict[int, list[float]] = {}
    for value in (value for value in values if not math.isnan(value.dice)):
        by_seed.setdefault(value.model.seed, []).append(value.dice)
    return {seed: _mean(dice) for seed, dice in sorted(by_seed.items())}


def compare(first: Sequence[Value], second: Sequence[Value]) -> Paired:
    """Compare two methods on the same patients by Wilcoxon's signed-rank test.

    The test takes each patient's mean over the (seed, case) pairs that both methods have. Patients are a random sample;
    seeds are taken as they are. Where one method rightly predicts nothing, it gets 1 if the other one predicts
    something, so that a false positive counts against that one; where both do, the pair does not count (as in
    `evaluation.tables`).

    Args:
        first: Values of one structure by one method.
        second: Values of the same structure by the other method.

    Returns:
        The test; its effect is positive where `first` is higher.
    """
    sides = [{(value.model.seed, value.case): value for value in values} for values in (first, second)]
    common = [
        key
        for key in sorted(sides[0].keys() & sides[1].keys())
        if not all(math.isnan(side[key].dice) for side in sides)
    ]
    by_patient: dict[str, list[tuple[int, str]]] = {}
    for key in common:
        by_patient.setdefault(sides[0][key].patient, []).append(key)
    means = [[_mean([_one_if_nan(side[key].dice) for key in keys]) for keys in by_patient.values()] for side in sides]
    return signed_rank(*means)


def cost_table(study: Study) -> Table | None:
    """Tabulate mean time and highest memory of the trainings, by network and loss.

    Args:
        study: The study.

    Returns:
        The table; None before any training has ended.
    """
    folder = StudyFolder(study.folder)
    rows = []
    for architecture in study.architectures:
        for loss in study.losses:
            of_loss = [m for m in models(study) if (m.architecture_name, m.method_name) == (architecture, loss)]
            costs = [cost for model in of_loss for step in _train_steps(study, model) for cost in _costs(folder, step)]
            if costs:
                rows.append([METHODS[loss].title, architecture, str(len(costs)), *_cost_cells(costs)])
    if not rows:
        return None
    head = ["loss", "network", "trainings", "minutes (mean)", "minutes (range)", "memory (GiB)", "GPU (GiB)"]
    note = "Wall time of the last start of each training, beside whatever else ran; highest memory of its processes."
    if any(row[-1] != "-" for row in rows):
        note += " GPU: the highest memory of the GPU, as PyTorch counts it."
    else:
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table(head, rows, left=2, caption="Time and memory of a training, its final validation included", note=note)


def training_versions(study: Study) -> dict[str, dict[str, int]]:
    """Read with which versions the finished trainings ran.

    Args:
        study: The study.

    Returns:
        For each package the number of trainings by version; a training that was continued with another one counts for
        both, and one whose log does not tell for NOT_RECORDED.
    """
    folder = StudyFolder(study.folder)
    counts: dict[str, Counter[str]] = {}
    for step in (step for model in models(study) for step in _train_steps(study, model)):
        if folder.done(step).exists():
            starts = [json.loads(line) for line in _VERSIONS.findall(_read_log(folder.log(step)))]
            for package in versions():
                used = {start.get(package, NOT_RECORDED) for start in starts} or {NOT_RECORDED}
                counts.setdefault(package, Counter()).update(used)
    return {package: dict(sorted(by_version.items())) for package, by_version in counts.items()}


def training_devices(study: Study) -> set[str]:
    """Return on which kinds of device trainings ran, as nnU-Net prints them: "cuda", "cpu"; empty without any."""
    folder = StudyFolder(study.folder)
    logs = (folder.log(step) for model in models(study) for step in _train_steps(study, model))
    return {device for log in logs for device in _DEVICE.findall(_read_log(log))}


def learning_curves(study: Study) -> Iterator[tuple[Model, list[float]]]:
    """Read the validation losses of each training.

    Args:
        study: The study.

    Yields:
        The model, and the validation loss per epoch of one of its folds; a continued training counts as one.
    """
    folder = StudyFolder(study.folder)
    for model in models(study):
        for step in _train_steps(study, model):
            losses = _validation_losses(folder.log(step))
            if losses:
                yield model, losses


def _train_steps(study: Study, model: Model) -> list[str]:
    return [model.train_step(fold) for fold in folds_of(study, model.dataset)]


def _read_model(model: Model, folder: Path) -> list[Value]:
    try:
        rows = read_per_case(folder)
    except PartialLabelError as problem:
        raise PartialLabelError(f"{problem} For that, delete it and its step in done/, and run the study.") from None
    return [
        Value(
            model,
            row["domain"],
            row["patient"],
            row["case"],
            row["class"],
            number(row, METRIC),
            row["outcome"],
        )
        for row in rows
    ]


def _one_if_nan(dice: float) -> float:
    return 1.0 if math.isnan(dice) else dice


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# Logs and benchmark files

_EPOCH = re.compile(r"\d: Epoch (\d+)\s*$")
_VALIDATION_LOSS = re.compile(r"val_loss (-?\d[\d.eE+-]*|nan)\s*$")
_VERSIONS = re.compile(r"^Versions: (\{.*\})$", re.MULTILINE)
_DEVICE = re.compile(r"(?:Using device: |Setting device to )([a-z]+)")
_PEAK = re.compile(r"Peak memory of the GPU: ([\d.]+) GiB")


def _costs(folder: StudyFolder, step: str) -> Iterator[Cost]:
    file = folder.cost(step)
    if not (folder.done(step).exists() and file.exists()):
        return
    with file.open(newline="", encoding="utf-8") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"))
    peaks = [float(peak) for peak in _PEAK.findall(_read_log(folder.log(step)))]
    yield Cost(float(row["s"]) / 60, _mib_to_gib(row["max_rss"]), max(peaks, default=None))


def _read_log(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def _mib_to_gib(text: str) -> float | None:
    """Return None for NA or -, which Snakemake writes for a process too short to be measured."""
    try:
        return float(text) / 1024
    except ValueError:
        return None


def _cost_cells(costs: Sequence[Cost]) -> list[str]:
    minutes = [cost.minutes for cost in costs]
    peaks = [
        max((gib for gib in column if gib is not None), default=None)
        for column in ([cost.memory_gib for cost in costs], [cost.gpu_gib for cost in costs])
    ]
    return [
        f"{_mean(minutes):.1f}",
        f"{min(minutes):.1f}-{max(minutes):.1f}",
        *("-" if gib is None else f"{gib:.1f}" for gib in peaks),
    ]


def _validation_losses(log: Path) -> list[float]:
    """Read the validation loss of each epoch; of an epoch that was repeated after a stop, the last one."""
    by_epoch: dict[int, float] = {}
    epoch = -1
    for line in _read_log(log).splitlines():
        if match := _EPOCH.search(line):
            epoch = int(match[1])
        elif match := _VALIDATION_LOSS.search(line):
            by_epoch[epoch] = float(match[1])
    return [by_epoch[number] for number in sorted(by_epoch)]
