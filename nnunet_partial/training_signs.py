"""While a network trains: how large is a structure predicted on validation patches in which nobody drew it?

A first glance at what `evaluation.warning_signs` measures on whole images. The counts are those of the pseudo Dice, so
that looking costs a training nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nnunet_partial.dataset.summary import NO_DOMAIN
from nnunet_partial.evaluation.warning_signs import LARGE, LOST, SMALL
from nnunet_partial.labels import Manifest

#: Epochs that are summed up before the signs are looked at: one epoch holds too few patches of a small domain.
INTERVAL = 10

#: What is summed for each (domain, class): samples that do not know the class, those of them in which it is predicted,
#: its predicted share of the patch there; samples in which it was annotated, those of them that show it, its true share
#: and its predicted share there.
UNKNOWN, PREDICTED, SHARE, DRAWN, SHOWN, TRUE_SHARE, DRAWN_SHARE = range(7)

Floats = NDArray[np.float64]


class PatchSigns:
    """Sums over validation samples, until they are looked at."""

    def __init__(self, manifest: Manifest, classes: Sequence[str], cases: Sequence[str]) -> None:
        labels = {case: manifest.labels_of(case) for case in cases}
        self.classes = tuple(classes)
        self.domains = sorted({entry.domain or NO_DOMAIN for entry in labels.values()})
        self._domain = {case: self.domains.index(entry.domain or NO_DOMAIN) for case, entry in labels.items()}
        self._unknown = {case: ~manifest.known(case, classes)[1:] for case in cases}
        self._drawn = {  # an interpolated mask was drawn by nobody
            case: np.array([name in entry.annotated and not entry.interpolated for name in classes])
            for case, entry in labels.items()
        }
        self._sums = self._nothing()

    def __repr__(self) -> str:
        # nnU-Net writes str() of a trainer's attributes beside the model, which must list no patient.
        return f"PatchSigns({len(self._domain)} cases)"

    def _nothing(self) -> Floats:
        return np.zeros((len(self.domains), len(self.classes), 7))

    def add(self, cases: Any, counts: Floats) -> None:
        """The samples of a batch; `counts` (4, B, classes): TP, FP, FN, TN of each sample."""
        names = [str(case) for case in cases]
        unknown, drawn = (np.stack([of[name] for name in names]) for of in (self._unknown, self._drawn))  # (B, classes)
        tp, fp, fn, _ = counts / np.maximum(counts.sum(0), 1)  # shares of the patch
        predicted, true = tp + fp, tp + fn
        where_unknown = unknown[..., None] * np.stack([unknown, predicted > 0, predicted], -1)
        where_drawn = drawn[..., None] * np.stack([drawn, true > 0, true, predicted], -1)
        domain = [self._domain[name] for name in names]
        np.add.at(self._sums, domain, np.concatenate([where_unknown, where_drawn], -1))

    def sentence(self, ddp: bool) -> str:
        """The signs since the last call, in words; empty where there are none. In DDP all processes must call it."""
        phrases = patch_signs(self._take(ddp), self.domains, self.classes)
        start = "Warning signs on validation patches: " if phrases else ""
        return start + "; ".join(phrases)

    def _take(self, ddp: bool) -> Floats:
        """The sums so far, of all processes together, (domains, classes, 7); begins anew."""
        sums, self._sums = self._sums, self._nothing()
        if not ddp:
            return sums
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, sums)
        return np.sum(gathered, 0)


def patch_signs(sums: Floats, domains: Sequence[str], classes: Sequence[str]) -> list[str]:
    """A phrase for each class and domain that looks wrong; `sums` (domains, classes, 7).

    The predicted share over the samples that do not know a class is set beside its usual one: the true share over those
    in which it was annotated, of the same domain where there are any that show it, else of all others. A sign: at least
    LARGE times it, less than SMALL, or predicted in at most LOST of the part of the samples that would show it.
    """
    phrases = []
    for index, domain in enumerate(domains):
        for column, name in enumerate(classes):
            here = sums[index, column]
            usual = here if here[TRUE_SHARE] else sums[:, column].sum(0)
            if here[UNKNOWN] and usual[TRUE_SHARE]:
                phrases += _phrase(f"{name} in {domain}", here, usual)
    return phrases


def _phrase(where: str, here: Floats, usual: Floats) -> list[str]:
    share, true = here[SHARE] / here[UNKNOWN], usual[TRUE_SHARE] / usual[DRAWN]
    times = share / true
    lost = here[PREDICTED] / here[UNKNOWN] <= LOST * usual[SHOWN] / usual[DRAWN]
    if not lost and SMALL <= times < LARGE:
        return []
    return [
        f"{where} at {times:.2g} times its usual share of a patch ({share:.2%} in {here[UNKNOWN]:.0f} samples that do "
        f"not know it, of which {here[PREDICTED]:.0f} show any; usual {true:.2%}, predicted there "
        f"{usual[DRAWN_SHARE] / usual[DRAWN]:.2%})"
    ]
