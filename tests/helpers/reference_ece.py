"""The expected calibration error once more, slowly, to check the fast one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunet_partial.evaluation.calibration import N_BINS


def plain_ece(probabilities: Sequence[float], is_there: Sequence[bool]) -> float:
    """The ECE once more: voxel by voxel into 15 lists, then the definition."""
    lists: list[list[tuple[float, bool]]] = [[] for _ in range(N_BINS)]
    for p, there in zip(probabilities, is_there, strict=True):
        lists[next(b for b in range(N_BINS) if p < (b + 1) / N_BINS or b == N_BINS - 1)].append((p, there))
    total = 0.0
    for members in filter(None, lists):
        confidence = math.fsum(p for p, _ in members) / len(members)
        frequency = sum(there for _, there in members) / len(members)
        total += len(members) / len(probabilities) * abs(frequency - confidence)
    return total
