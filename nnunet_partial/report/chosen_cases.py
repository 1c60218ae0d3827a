"""Which cases are shown: the worst, the middle and the best of a structure in a domain, the same for all models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_partial.evaluation.metrics import FOUND, MISSED
from nnunet_partial.report.results_folder import Results, Row, number


@dataclass(frozen=True)
class Chosen:
    """Case by "worst", "median", "best"; `dice`: by (model, case); `n`: how many cases there were to choose from."""

    domain: str
    structure: str
    cases: Mapping[str, str]
    dice: Mapping[tuple[str, str], float]
    n: int


def choose_cases(results: Results) -> list[Chosen]:
    """For each domain and structure, by the mean Dice of all models; a domain that never shows a structure has none.

    Chosen from are the cases that show the structure and that every model predicted. With less than three, each of
    them appears once. Of equal ones the first by name.
    """
    chosen = []
    for domain in results.domains:
        for structure in results.classes:
            rows = [row for row in results.per_case if (row["domain"], row["class"]) == (domain, structure)]
            dice = _dice([row for row in rows if row["outcome"] in (FOUND, MISSED)], list(results.models))
            if dice:
                chosen.append(_of(domain, structure, dice, list(results.models)))
    return chosen


def _dice(rows: Sequence[Row], models: Sequence[str]) -> dict[tuple[str, str], float]:
    """By (model, case), for cases that all models have."""
    dice = {(row["model"], row["case"]): number(row, "dice") for row in rows}
    return {key: value for key, value in dice.items() if all((model, key[1]) in dice for model in models)}


def _of(domain: str, structure: str, dice: Mapping[tuple[str, str], float], models: Sequence[str]) -> Chosen:
    cases = sorted({case for _, case in dice})
    ordered = sorted(cases, key=lambda case: math.fsum(dice[model, case] for model in models))
    places = {"worst": 0, "best": len(ordered) - 1, "median": (len(ordered) - 1) // 2}
    shown: dict[str, str] = {}
    for name, place in places.items():
        if ordered[place] not in shown.values():
            shown[name] = ordered[place]
    return Chosen(
        domain,
        structure,
        {name: shown[name] for name in ("worst", "median", "best") if name in shown},
        dice,
        len(cases),
    )
