"""Measure how far the folds of a model disagree about a structure, and rank what to annotate next.

Folds that were trained on different cases agree where the data told them enough (query by committee). About a structure
that a fold was trained on in the very case they agree in any event, so that this is not ranked.

References:
    Seung et al., Query by Committee, COLT 1992.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.active_learning.folds import FoldPredictions
from nnunet_partial.dataset_json import stored_values
from nnunet_partial.evaluation.case import subject_of
from nnunet_partial.evaluation.records import ALL, Row, Subject, mean
from nnunet_partial.labels import CaseLabels
from nnunet_partial.utils.masks import Floats
from nnunet_partial.utils.tables import write_csv

COLUMNS = ("case", "domain", "patient", "class", "state", "trained_on", "ranked", "dice", "entropy")
DOMAIN_COLUMNS = ("domain", "class", "ranked", "dice", "entropy", "n_cases", "n_not_predicted")
NEXT_COLUMNS = ("rank", "case", "domain", "patient", "class", "dice", "entropy", "others")


@dataclass(frozen=True)
class Disagreement:
    """Hold how far the folds disagree about one structure of one case.

    Attributes:
        subject: The case.
        structure: The structure.
        state: annotated, absent or unknown.
        is_trained_on: Whether a fold was trained on the case.
        dice: Mean Dice over the pairs of folds of which at least one predicts the structure; NaN where none does.
        entropy: Mean entropy in bits, from 0 to 1, over the voxels at which a fold predicts the structure; NaN where
            none does.
    """

    subject: Subject
    structure: str
    state: str
    is_trained_on: bool
    dice: float
    entropy: float

    @property
    def is_ranked(self) -> bool:
        """Return whether annotating the structure could help: no fold was trained on it in the case."""
        return self.state == "unknown" or not self.is_trained_on


def case_disagreements(
    case: str,
    labels: CaseLabels | None,
    is_trained_on: bool,
    predictions: FoldPredictions,
    classes: Sequence[str],
    regions: Sequence[Sequence[int]] = (),
) -> list[Disagreement]:
    """Measure the disagreement about each structure of a case.

    Args:
        case: Its identifier.
        labels: Its entry of the manifest; None where it has none, so that every structure is unknown.
        is_trained_on: Whether a fold was trained on it.
        predictions: Of at least two folds.
        classes: In the order of their label values, from 1; or regions.
        regions: Stored values of each region; empty where there are classes.

    Returns:
        One for each class or region.
    """
    entry = labels or CaseLabels(())
    masks = {name: np.isin(predictions.labels, values) for name, values in stored_values(classes, regions).items()}
    return [
        Disagreement(
            subject_of(case, entry),
            structure,
            entry.state(structure),
            is_trained_on,
            mean_pairwise_dice(mask),
            mean_entropy(mask, predictions.probability[index]),
        )
        for index, (structure, mask) in enumerate(masks.items())
    ]


def mean_pairwise_dice(masks: NDArray[np.bool_]) -> float:
    """Average the Dice of all pairs of masks.

    Args:
        masks: Of K folds, (K, *S).

    Returns:
        The mean over the pairs that are not both empty; NaN where all masks are.
    """
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    return mean(
        2 * int(np.count_nonzero(masks[a] & masks[b])) / (sizes[a] + sizes[b])
        for a, b in combinations(range(len(masks)), 2)
        if sizes[a] + sizes[b]
    )


def mean_entropy(masks: NDArray[np.bool_], probability: Floats) -> float:
    """Average the entropy of "is it the structure?" over the voxels at which a fold predicts it.

    Args:
        masks: Of K folds, (K, *S).
        probability: Of the structure, averaged over the folds, (*S).

    Returns:
        The mean in bits, from 0 (sure) to 1; NaN where no fold predicts the structure.
    """
    p = np.clip(probability[masks.any(axis=0)], 0, 1)
    if not p.size:
        return math.nan
    logarithms = [np.log2(part, out=np.zeros_like(part), where=part > 0) for part in (p, 1 - p)]
    return float(np.mean(-p * logarithms[0] - (1 - p) * logarithms[1]))


def rank_cases(disagreements: Sequence[Disagreement]) -> list[Row]:
    """Rank the cases by the structure of each about which the folds disagree most.

    The lowest mean pairwise Dice comes first, of equal ones the highest entropy. A structure that no fold predicts
    comes last: it may be absent.

    Args:
        disagreements: Of all cases.

    Returns:
        The rows of next.csv, one per case with a structure that can be ranked. class: that structure; others: the
        further ones, in the same order.
    """
    by_case: dict[str, list[Disagreement]] = {}
    for disagreement in sorted(filter(lambda d: d.is_ranked, disagreements), key=_order):
        by_case.setdefault(disagreement.subject.case, []).append(disagreement)
    return [
        {
            "rank": rank,
            "case": case,
            "domain": first.subject.domain,
            "patient": first.subject.patient,
            "class": first.structure,
            "dice": first.dice,
            "entropy": first.entropy,
            "others": ", ".join(disagreement.structure for disagreement in others),
        }
        for rank, (case, (first, *others)) in enumerate(by_case.items(), start=1)
    ]


def summarize_domains(disagreements: Sequence[Disagreement], classes: Sequence[str]) -> list[Row]:
    """Average over the cases of each domain; structures that a fold was trained on apart from all others.

    Args:
        disagreements: Of all cases.
        classes: In the order of the rows.

    Returns:
        The rows of domains.csv. Means leave out cases in which no fold predicts the structure (n_not_predicted).
    """
    domains = sorted({d.subject.domain for d in disagreements})
    rows: list[Row] = []
    for domain in [*domains, *([ALL] if len(domains) > 1 else [])]:
        for structure in classes:
            for is_ranked in (True, False):
                chosen = [
                    d
                    for d in disagreements
                    if d.structure == structure and d.is_ranked == is_ranked and domain in (d.subject.domain, ALL)
                ]
                if chosen:
                    rows.append({"domain": domain, "class": structure, "ranked": _word(is_ranked), **_means(chosen)})
    return rows


def write_tables(folder: Path, disagreements: Sequence[Disagreement], tables: Mapping[str, Sequence[Row]]) -> None:
    """Write per_case.csv, domains.csv and next.csv.

    Args:
        folder: Where they go; files of the same names are replaced.
        disagreements: Of all cases.
        tables: The rows of "domains" and "next".

    Raises:
        OSError: A file cannot be written.
    """
    rows: list[Row] = [
        {
            "case": d.subject.case,
            "domain": d.subject.domain,
            "patient": d.subject.patient,
            "class": d.structure,
            "state": d.state,
            "trained_on": _word(d.is_trained_on),
            "ranked": _word(d.is_ranked),
            "dice": d.dice,
            "entropy": d.entropy,
        }
        for d in disagreements
    ]
    write_csv(folder / "per_case.csv", rows, COLUMNS)
    write_csv(folder / "domains.csv", tables["domains"], DOMAIN_COLUMNS)
    write_csv(folder / "next.csv", tables["next"], NEXT_COLUMNS)


def _order(disagreement: Disagreement) -> tuple[float, float, str]:
    if math.isnan(disagreement.dice):
        return math.inf, 0.0, disagreement.subject.case
    return disagreement.dice, -disagreement.entropy, disagreement.subject.case


def _means(disagreements: Sequence[Disagreement]) -> Row:
    return {
        "dice": mean(d.dice for d in disagreements),
        "entropy": mean(d.entropy for d in disagreements),
        "n_cases": len(disagreements),
        "n_not_predicted": sum(math.isnan(d.dice) for d in disagreements),
    }


def _word(value: bool) -> str:
    return "yes" if value else "no"
