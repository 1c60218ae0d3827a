"""Restrict nnU-Net's validation to what each case is annotated for, and warn of implausible predicted sizes.

In the final validation, `mask_unknown` changes the content of summary.json, and `size_warnings_text` says how large a
structure is predicted in the cases that are not annotated for it, beside its usual size. While a network trains,
`SizeMonitor` does the same on validation patches: a first glance at what `evaluation.warning_signs` measures on whole
images. Its counts are those of the pseudo Dice, so it costs a training nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_partial.dataset.images import header, spacing_is_known
from nnunet_partial.evaluation.case import subject_of
from nnunet_partial.evaluation.metrics import without_thin_axes
from nnunet_partial.evaluation.records import PredictedSize, Row, mean
from nnunet_partial.evaluation.warning_signs import MAX_EMPTY_FRACTION, MAX_SIZE_RATIO, MIN_SIZE_RATIO, warning_signs
from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.utils.masks import Floats, Scale
from nnunet_partial.utils.text import NO_DOMAIN, text_table


def size_warnings_text(
    summary: Mapping[str, Any],
    manifest: Manifest,
    classes: Mapping[Any, str],
    file_ending: str,
    cases: Collection[str],
    model: str,
) -> str:
    """Compare the size of each structure in cases that are not annotated for it with its usual size.

    Args:
        summary: What nnU-Net's `compute_metrics_on_folder` returns, not masked yet.
        manifest: Which classes each case is annotated for.
        classes: Name of each foreground class (or region) by its key in the metrics of the summary, which is its value
            (or values), in the order of the network's outputs.
        file_ending: Ending of the prediction files.
        cases: Identifiers of the cases that count; others (left in the folder by another split) are left out, and so
            are interpolated ones.
        model: What the text calls the model.

    Returns:
        A table, and a line for each warning sign (see `evaluation.warning_signs`); empty where every class is known
        in every case.
    """
    rows = warning_signs(list(_sizes(summary, manifest, classes, file_ending, cases, model)), tuple(classes.values()))
    if not rows:
        return ""
    unit = rows[0]["unit"]
    return (
        f"Mean predicted size ({unit}) of structures in cases not annotated for them, beside their annotated size\n"
        + _table(rows)
        + "".join(f"WARNING SIGN: {row['message']}\n" for row in rows if row["warning"])
    )


def _table(rows: Sequence[Row]) -> str:
    head = ["domain", "class", "cases", "not predicted", "predicted", "reference", "ratio", "reference from"]
    return text_table(
        [*head, "predicted there"],
        [
            [
                *(str(row[key]) for key in ("domain", "class", "n_unannotated", "n_not_predicted")),
                *(_number(row[key]) for key in ("predicted_size_unannotated", "reference_size", "size_ratio")),
                str(row["reference_source"]) or "-",
                _number(row["predicted_size_annotated"]),
            ]
            for row in rows
        ],
    )


def _number(value: str | float | int) -> str:
    return "-" if math.isnan(float(value)) else f"{float(value):.3g}"


def _sizes(
    summary: Mapping[str, Any],
    manifest: Manifest,
    classes: Mapping[Any, str],
    file_ending: str,
    cases: Collection[str],
    model: str,
) -> Iterator[PredictedSize]:
    """Yield the size of every class in every case, from nnU-Net's own counts of voxels."""
    for entry in summary["metric_per_case"]:
        case = Path(entry["prediction_file"]).name.removesuffix(file_ending)
        labels = manifest.find(case) if case in cases else None
        if labels is None or labels.interpolated:
            continue
        scale = _scale(Path(entry["reference_file"]), labels)
        for value, name in classes.items():
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
    """Return what a voxel of the case measures; a header that only nnU-Net can read counts as unknown."""
    try:
        geometry = header(reference)
    except OSError:
        return Scale.from_spacing((1.0, 1.0), known=False)
    shape = np.broadcast_to(np.uint8(0), geometry.size[::-1])
    _, spacing_mm = without_thin_axes(shape, geometry.spacing_mm[::-1])
    return Scale.from_spacing(spacing_mm, spacing_is_known(labels, geometry))


def mask_unknown(
    summary: dict[str, Any], manifest: Manifest, classes: Mapping[Any, str], file_ending: str, cases: Collection[str]
) -> None:
    """Set every metric of a class that is unknown in a case to NaN, and compute the means again without them.

    So is every metric of an interpolated case, whose mask was computed from those of other frames. A mean over nothing
    is NaN; the foreground mean is the mean over the classes that have one.

    Args:
        summary: What nnU-Net's `compute_metrics_on_folder` returns, changed in place.
        manifest: Which classes each case is annotated for.
        classes: Name of each foreground class (or region) by its key in the metrics of the summary, which is its value
            (or values), in the order of the network's outputs.
        file_ending: Ending of the prediction files.
        cases: Identifiers of the cases that count; others (left in the folder by another split) are dropped.
    """
    kept = []
    for entry in summary["metric_per_case"]:
        case = Path(entry["prediction_file"]).name[: -len(file_ending)]
        if case not in cases:
            continue
        labels = manifest.labels_of(case)
        for label, metrics in entry["metrics"].items():
            if labels.interpolated or classes[label] not in labels.known:
                entry["metrics"][label] = dict.fromkeys(metrics, math.nan)
        kept.append(entry)
    summary["metric_per_case"] = kept
    for label, metrics in summary["mean"].items():
        for name in metrics:
            metrics[name] = mean(entry["metrics"][label][name] for entry in kept)
    for name in summary["foreground_mean"]:
        summary["foreground_mean"][name] = mean(metrics[name] for metrics in summary["mean"].values())


#: Epochs between two looks at the sizes: one epoch holds too few patches of a small domain.
INTERVAL_EPOCHS = 10

#: What is summed for each (domain, class). Over the samples in which the class is unknown: their number, those in
#: which it is predicted, and its predicted share of the patch. Over those in which it is annotated: their number, those
#: that show it, its true share, and its predicted share.
N_UNKNOWN, N_PREDICTED, UNKNOWN_SHARE, N_ANNOTATED, N_SHOWN, TRUE_SHARE, ANNOTATED_SHARE = range(7)


class SizeMonitor:
    """Sum predicted and true sizes over validation samples, until they are looked at.

    Args:
        manifest: Which classes each case is annotated for.
        classes: Names of the foreground classes in the order of their label values.
        cases: Identifiers of the validation cases.
    """

    def __init__(self, manifest: Manifest, classes: Sequence[str], cases: Sequence[str]) -> None:
        labels = {case: manifest.labels_of(case) for case in cases}
        self.classes = tuple(classes)
        self.domains = sorted({entry.domain or NO_DOMAIN for entry in labels.values()})
        self._domain_index = {case: self.domains.index(entry.domain or NO_DOMAIN) for case, entry in labels.items()}
        self._unknown = {case: ~manifest.known(case, classes)[1:] for case in cases}
        self._annotated = {  # an interpolated mask was annotated by no one
            case: np.array([name in entry.annotated and not entry.interpolated for name in classes])
            for case, entry in labels.items()
        }
        self._sums = self._zero_sums()

    def __repr__(self) -> str:
        # nnU-Net writes str() of a trainer's attributes beside the model, which must list no patient.
        return f"SizeMonitor({len(self._domain_index)} cases)"

    def _zero_sums(self) -> Floats:
        return np.zeros((len(self.domains), len(self.classes), 7))

    def add(self, cases: Iterable[Any], counts: Floats) -> None:
        """Add the samples of a batch.

        Args:
            cases: Their case identifiers.
            counts: True positives, false positives, false negatives and true negatives of each sample, (4, B, C - 1).
        """
        names = [str(case) for case in cases]
        unknown, annotated = (np.stack([rows[name] for name in names]) for rows in (self._unknown, self._annotated))
        tp, fp, fn, _ = counts / np.maximum(counts.sum(0), 1)  # shares of the patch, (B, C - 1)
        predicted, true = tp + fp, tp + fn
        where_unknown = unknown[..., None] * np.stack([unknown, predicted > 0, predicted], -1)
        where_annotated = annotated[..., None] * np.stack([annotated, true > 0, true, predicted], -1)
        index = [self._domain_index[name] for name in names]
        np.add.at(self._sums, index, np.concatenate([where_unknown, where_annotated], -1))

    def warning_text(self, ddp: bool) -> str:
        """Name the implausible sizes since the last call.

        Args:
            ddp: Whether several processes train; then all of them must call this, and their sums are added up.

        Returns:
            One line; empty where no size is implausible.
        """
        phrases = patch_size_warnings(self._pop_sums(ddp), self.domains, self.classes)
        start = "Warning signs on validation patches: " if phrases else ""
        return start + "; ".join(phrases)

    def _pop_sums(self, ddp: bool) -> Floats:
        """Return the sums so far, of all processes together, (domains, classes, 7), and start again at 0."""
        sums, self._sums = self._sums, self._zero_sums()
        if not ddp:
            return sums
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, sums)
        return np.sum(gathered, 0)


def patch_size_warnings(sums: Floats, domains: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Find the classes that are predicted at implausible sizes on the patches of a domain.

    The mean predicted share of the patch, over the samples not annotated for a class, is compared with its usual one:
    the true share over those annotated for it, of the same domain where there are any that show it, else of all others.
    It is implausible at MAX_SIZE_RATIO times the usual share or more, at less than MIN_SIZE_RATIO times, and where the
    class is predicted in at most MAX_EMPTY_FRACTION of the part of the samples that would show it.

    Args:
        sums: What `SizeMonitor` sums up, (domains, classes, 7).
        domains: Names of the domains.
        classes: Names of the foreground classes.

    Returns:
        A phrase for each class and domain of implausible size; empty where there is none.
    """
    phrases = []
    for index, domain in enumerate(domains):
        for column, name in enumerate(classes):
            own = sums[index, column]
            usual = own if own[TRUE_SHARE] else sums[:, column].sum(0)
            if own[N_UNKNOWN] and usual[TRUE_SHARE]:
                phrases += _size_phrase(f"{name} in {domain}", own, usual)
    return phrases


def _size_phrase(subject: str, own: Floats, usual: Floats) -> list[str]:
    """Return a phrase where the share `own` is implausible beside the `usual` one, (7,) each; else nothing."""
    share, true_share = own[UNKNOWN_SHARE] / own[N_UNKNOWN], usual[TRUE_SHARE] / usual[N_ANNOTATED]
    ratio = share / true_share
    lost = own[N_PREDICTED] / own[N_UNKNOWN] <= MAX_EMPTY_FRACTION * usual[N_SHOWN] / usual[N_ANNOTATED]
    if not lost and MIN_SIZE_RATIO <= ratio < MAX_SIZE_RATIO:
        return []
    return [
        f"{subject} at {ratio:.2g} times its usual share of a patch ({share:.2%} in {own[N_UNKNOWN]:.0f} samples not "
        f"annotated for it, of which {own[N_PREDICTED]:.0f} show any; usual {true_share:.2%}, predicted there "
        f"{usual[ANNOTATED_SHARE] / usual[N_ANNOTATED]:.2%})"
    ]
