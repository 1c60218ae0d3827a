"""After the final validation: how large is a structure predicted where nobody drew it, beside its usual size?

The final validation's summary.json, in nnU-Net's format, counting only what each case was annotated for.

While a network trains: how large is a structure predicted on validation patches in which nobody drew it?

A first glance at what `evaluation.warning_signs` measures on whole images. The counts are those of the pseudo Dice, so
that looking costs a training nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nnunet_partial.dataset.images import header, spacing_is_known
from nnunet_partial.dataset.summary import NO_DOMAIN
from nnunet_partial.evaluation.case import subject_of
from nnunet_partial.evaluation.metrics import without_thin_axes
from nnunet_partial.evaluation.records import PredictedSize
from nnunet_partial.evaluation.warning_signs import LARGE, LOST, SMALL, Row, warning_signs
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.masks import Scale
from nnunet_partial.utils.text import text_table


def size_warnings_text(
    summary: Mapping[str, Any],
    manifest: Manifest,
    classes: Sequence[str],
    file_ending: str,
    cases: Collection[str],
    model: str,
) -> str:
    """A table and a sentence for each warning sign; empty where every case knows every class.

    `summary`: what nnU-Net's `compute_metrics_on_folder` returns, not masked yet; cases outside `cases`, and those
    whose masks nobody drew, are left out. `model`: what the sentences call it. See `evaluation.warning_signs`.
    """
    rows = warning_signs(list(_sizes(summary, manifest, classes, file_ending, cases, model)), classes)
    if not rows:
        return ""
    unit = rows[0]["unit"]
    return (
        f"Mean predicted size ({unit}) where nobody drew the structure, beside its true size where it was drawn\n"
        + _table(rows)
        + "".join(f"WARNING SIGN: {row['words']}\n" for row in rows if row["sign"])
    )


def _table(rows: Sequence[Row]) -> str:
    head = ["domain", "class", "cases", "not predicted", "predicted", "usual", "times usual", "usual from"]
    return text_table(
        [*head, "predicted there"],
        [
            [
                *(str(row[key]) for key in ("domain", "class", "n_unknown", "n_not_predicted")),
                *(_number(row[key]) for key in ("predicted_unknown", "usual", "times_usual")),
                str(row["usual_from"]) or "-",
                _number(row["predicted_where_known"]),
            ]
            for row in rows
        ],
    )


def _number(value: str | float | int) -> str:
    return "-" if math.isnan(float(value)) else f"{float(value):.3g}"


def _sizes(
    summary: Mapping[str, Any],
    manifest: Manifest,
    classes: Sequence[str],
    file_ending: str,
    cases: Collection[str],
    model: str,
) -> Iterator[PredictedSize]:
    """The size of every class in every case, from nnU-Net's own counts of voxels."""
    for entry in summary["metric_per_case"]:
        case = Path(entry["prediction_file"]).name.removesuffix(file_ending)
        labels = manifest.find(case) if case in cases else None
        if labels is None or labels.interpolated:
            continue
        scale = _scale(Path(entry["reference_file"]), labels)
        for value, name in enumerate(classes, start=1):
            counts = entry["metrics"][value]
            voxels = max(1, sum(counts[key] for key in ("TP", "FP", "FN", "TN")))
            true = counts["n_ref"] if name in labels.known else None
            yield PredictedSize(
                model,
                subject_of(case, labels),
                name,
                counts["n_pred"] * scale.voxel_size,
                counts["n_pred"] / voxels,
                scale.size_unit,
                None if true is None else true * scale.voxel_size,
                None if true is None else true / voxels,
            )


def _scale(reference: Path, labels: CaseLabels) -> Scale:
    """What a voxel of the case measures; a header that only nnU-Net can read counts as unknown."""
    try:
        geometry = header(reference)
    except OSError:
        return Scale.of((1.0, 1.0), known=False)
    shape = np.broadcast_to(np.uint8(0), geometry.size[::-1])
    _, spacing_mm = without_thin_axes(shape, geometry.spacing_mm[::-1])
    return Scale.of(spacing_mm, spacing_is_known(labels, geometry))


def mask_unknown(
    summary: dict[str, Any], manifest: Manifest, classes: Sequence[str], file_ending: str, cases: Collection[str]
) -> None:
    """Sets every metric of a class that a case does not know to NaN and computes the means again without them.

    So is every metric of a case whose mask nobody drew (interpolated).

    `summary`: what nnU-Net's `compute_metrics_on_folder` returns, label values as keys; changed in place. Cases outside
    `cases` (left in the folder by another split) are dropped. A mean over nothing is NaN; the foreground mean is the
    mean over the classes that have one.
    """
    kept = []
    for entry in summary["metric_per_case"]:
        case = Path(entry["prediction_file"]).name[: -len(file_ending)]
        if case not in cases:
            continue
        known = manifest.known(case, classes) & (not manifest.labels_of(case).interpolated)
        for label, metrics in entry["metrics"].items():
            if not known[int(label)]:
                entry["metrics"][label] = dict.fromkeys(metrics, math.nan)
        kept.append(entry)
    summary["metric_per_case"] = kept
    for label, metrics in summary["mean"].items():
        for name in metrics:
            metrics[name] = _mean([entry["metrics"][label][name] for entry in kept])
    for name in summary["foreground_mean"]:
        summary["foreground_mean"][name] = _mean([metrics[name] for metrics in summary["mean"].values()])


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


#: Epochs that are summed up before the signs are looked at: one epoch holds too few patches of a small domain.
INTERVAL = 10

#: What is summed for each (domain, class): samples that do not know the class, those of them in which it is predicted,
#: its predicted share of the patch there; samples in which it was annotated, those of them that show it, its true share
#: and its predicted share there.
UNKNOWN, PREDICTED, SHARE, DRAWN, SHOWN, TRUE_SHARE, DRAWN_SHARE = range(7)

Floats = NDArray[np.float64]


class SizeMonitor:
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
        phrases = patch_size_warnings(self._take(ddp), self.domains, self.classes)
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


def patch_size_warnings(sums: Floats, domains: Sequence[str], classes: Sequence[str]) -> list[str]:
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
