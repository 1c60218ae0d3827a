"""Measure calibration: whether a structure is where it is predicted as often as its probability says.

Only what is known in a case counts, annotated or declared absent: where a structure is not annotated, no voxel is known
to be wrong. Each structure is a question of its own (is it here?), so that a case counts for those known in it.

nnU-Net saves a softmax over all channels. It averages logits over folds and mirrored images, and its softmax comes
last. A network with one sigmoid per structure (aBCE) has a background logit of exactly 0, also after that average, so
that the softmax gives the sigmoid back: exp(z_c) / (exp(z_c) + exp(0)) = p_c / (p_c + p_0). `nnUNetv2_ensemble`
averages probabilities instead, from which no formula gives it back. Of regions it saves the sigmoids themselves.

References:
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (the expected calibration error, with 15 bins).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.records import ALL, Row, Subject, mean
from nnunet_partial.utils.masks import Floats
from nnunet_partial.utils.text import format_names

#: What the probabilities of a network are: a softmax over all structures and background, or a sigmoid for each (aBCE).
SOFTMAX, SIGMOID = "softmax", "sigmoid"

N_BINS = 15

COLUMNS = (
    *("model", "domain", "class", "ece", "mean_case_ece", "mean_probability", "frequency"),
    *("n_voxels", "n_undefined", "n_cases", "n_patients"),
)

#: What nnU-Net writes beside predictions: nnUNetv2_predict all of it, nnUNetv2_ensemble not this one.
_PREDICT_ARGUMENTS = "predict_from_raw_data_args.json"
#: Below, float32 has not its full precision. The sum of two probabilities is that small beside a logit above 87.
_TINY = float(np.finfo(np.float32).tiny)
#: How names of trainers with a softmax begin; nnU-Net records the trainer beside validations alone.
_SOFTMAX_TRAINERS = ("nnUNetTrainerMarginal", "nnUNetTrainerACCE", "nnUNetTrainerNaive")
#: By how much the predicted structure may be less probable than another, which a softmax in float32 rounds alike.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Bins:
    """Count the voxels of one structure in one case, or in several, by predicted probability: N_BINS equal bins.

    Attributes:
        voxels: Number of voxels in each bin.
        probability: Sum of their probabilities.
        positives: Number of voxels in each bin that the structure is at.
        undefined: Number of voxels whose probability cannot be told.
    """

    voxels: NDArray[np.int64]
    probability: Floats
    positives: NDArray[np.int64]
    undefined: int

    @classmethod
    def count(cls, probability: Floats, is_structure: NDArray[np.bool_]) -> Bins:
        """Count voxels.

        Args:
            probability: Of the structure, from 0 to 1, (n,); NaN where it cannot be told.
            is_structure: Whether the structure is there, (n,).

        Returns:
            The counts; a probability on the border of two bins is in the upper one, 1 in the last one.
        """
        defined = ~np.isnan(probability)
        values, positive = probability[defined].astype(np.float64), is_structure[defined]
        index = np.minimum((values * N_BINS).astype(np.int64), N_BINS - 1)
        return cls(
            np.bincount(index, minlength=N_BINS),
            np.bincount(index, values, minlength=N_BINS).astype(np.float64),
            np.bincount(index[positive], minlength=N_BINS),
            int(np.count_nonzero(~defined)),
        )

    def __add__(self, other: Bins) -> Bins:
        return Bins(
            self.voxels + other.voxels,
            self.probability + other.probability,
            self.positives + other.positives,
            self.undefined + other.undefined,
        )

    @property
    def ece(self) -> float:
        """Return the expected calibration error: |frequency - mean probability| over voxels; NaN over none."""
        n = int(self.voxels.sum())
        return float(np.abs(self.probability - self.positives).sum() / n) if n else float("nan")


@dataclass(frozen=True)
class CaseCalibration:
    """Hold the counts of one structure that a case is annotated for, in the prediction of one model."""

    model: str
    subject: Subject
    structure: str
    bins: Bins


def probability_kinds(
    given: Sequence[str], predictions: Mapping[str, Mapping[str, Path]], of_regions: bool = False
) -> dict[str, str]:
    """Read what the probabilities of each model are, and check that they can be that.

    Args:
        given: softmax or sigmoid, or MODEL=softmax, MODEL=sigmoid; without a model it holds for all that are not named.
        predictions: Predicted file by model and case.
        of_regions: Whether the structures are regions, each of which has a sigmoid, whatever the trainer.

    Returns:
        SOFTMAX or SIGMOID by model; models without probabilities are left out.

    Raises:
        PartialLabelError: A word is none of these, a model is not among the predictions, or sigmoids are not to be had
            from its predictions.
    """
    kinds: dict[str, str] = {}
    for text in sorted(given, key=lambda text: "=" in text):
        model, equals, kind = text.rpartition("=")
        if kind not in (SOFTMAX, SIGMOID):
            raise PartialLabelError(
                f"--probabilities {text}: expected softmax, or sigmoid for networks with one sigmoid per structure "
                "(nnUNetTrainerABCE); for one of several models MODEL=softmax or MODEL=sigmoid."
            )
        if equals and model not in predictions:
            raise PartialLabelError(f"--probabilities {text}: the models are {format_names(list(predictions))}.")
        if of_regions and kind == SOFTMAX:
            raise PartialLabelError(f"--probabilities {text}: each region has a sigmoid of its own. Say {SIGMOID}.")
        kinds.update(dict.fromkeys([model] if equals else predictions, kind))
    if not of_regions:
        for model, kind in kinds.items():
            _require_possible(model, kind, next(iter(predictions[model].values())).resolve().parent)
    return kinds


def _require_possible(model: str, kind: str, folder: Path) -> None:
    """Raise PartialLabelError where sigmoids were averaged as a softmax, or a validation's trainer has others."""
    is_validation = folder.name == "validation" and (folder.parents[1] / "plans.json").is_file()
    trainer = folder.parents[1].name.partition("__")[0] if is_validation else ""
    if kind == SIGMOID and not is_validation and not (folder / _PREDICT_ARGUMENTS).is_file():
        raise PartialLabelError(
            f"{model}: {folder} is not from nnUNetv2_predict (it has no {_PREDICT_ARGUMENTS}) and no validation of a "
            "fold. nnUNetv2_ensemble averages the softmax, from which the sigmoids cannot be computed. Predict with "
            "nnUNetv2_predict --save_probabilities, which may average folds."
        )
    if kind == SIGMOID and trainer.startswith(_SOFTMAX_TRAINERS):
        raise PartialLabelError(
            f"{model}: {trainer} has a softmax over all structures. Say --probabilities {model}={SOFTMAX}."
        )
    if kind == SOFTMAX and "ABCE" in trainer:
        raise PartialLabelError(
            f"{model}: {trainer} has one sigmoid per structure, and its softmax is no probability. Say "
            f"--probabilities {model}={SIGMOID}."
        )


def read_probabilities(
    file: Path, predicted: NDArray[np.integer], n_classes: int, region_order: Sequence[int] = ()
) -> Floats | str:
    """Read what nnU-Net saved beside a prediction (--save_probabilities, --npz).

    The axes of the file are those of nnU-Net's arrays, z first, also where an image reader has others. That the file
    belongs to the prediction is seen from the values: the predicted structure is everywhere the most probable one; of
    regions, those above one half give the predicted value.

    Args:
        file: CASE.npz.
        predicted: Label values of the prediction, (*S).
        n_classes: Number of structures, C.
        region_order: `regions_class_order` where the structures are regions: the value that is stored for each, later
            ones over earlier ones; empty where they are classes.

    Returns:
        The probabilities, background first, (C + 1, *S), or those of regions, (C, *S); a problem as text, worded to
        follow 'the probabilities'.
    """
    n_channels = n_classes if region_order else n_classes + 1
    try:
        with np.load(file, allow_pickle=False) as content:
            values: Floats = content["probabilities"]
    except FileNotFoundError:
        return f"are missing ({file.name}): predict with --save_probabilities, or validate with --npz"
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as problem:
        return f"cannot be read ({file.name}): {problem}"
    if values.ndim == 0 or values.shape[0] != n_channels or values.size != n_channels * predicted.size:
        return f"have the shape {values.shape}; expected {n_channels} channels of {predicted.shape}"
    values = values.reshape(n_channels, *predicted.shape)
    if not (values.min() >= 0 and values.max() <= 1 + _ROUNDING):  # not so for NaN either
        return "are not between 0 and 1"
    if not _belongs(values, predicted, region_order):
        return (
            "are not those of the prediction: somewhere they say another structure than the predicted one. "
            "Post-processing, or an image reader that reorients, makes such files"
        )
    return np.minimum(values, 1)


def _belongs(probabilities: Floats, predicted: NDArray[np.integer], region_order: Sequence[int]) -> bool:
    """Tell whether the probabilities give the prediction, as nnU-Net makes one of them."""
    if region_order:
        stored = np.zeros_like(predicted)
        for value, of_region in zip(region_order, probabilities, strict=True):
            stored[of_region > 0.5] = value
        decided = (np.abs(probabilities - 0.5) > _ROUNDING).all(axis=0)
        return np.array_equal(stored[decided], predicted[decided])
    chosen = np.take_along_axis(probabilities, predicted[None].astype(np.int64), axis=0)[0]
    return not np.any(chosen < probabilities.max(axis=0) - _ROUNDING)


def structure_probability(probabilities: Floats, value: int, kind: str) -> Floats:
    """Compute the network's probability of one structure.

    Args:
        probabilities: A softmax with background first, (C + 1, *S).
        value: Label value of the structure, from 1.
        kind: SOFTMAX, or SIGMOID for a network with a background logit of 0.

    Returns:
        The probability, (*S); NaN where a sigmoid cannot be told, as another structure takes all of the softmax.
    """
    of_structure = probabilities[value].astype(np.float64)
    if kind == SOFTMAX:
        return of_structure
    both = of_structure + probabilities[0]
    return np.divide(of_structure, both, out=np.full_like(both, np.nan), where=both >= _TINY)


def calibration_rows(cases: Sequence[CaseCalibration], classes: Sequence[str]) -> list[Row]:
    """Compute the calibration of each model, domain and class over the cases in which the class is known.

    Columns:
        ece: Of all known voxels of these cases together. mean_case_ece: mean of the ECE of each case.
        mean_probability, frequency: of the structure, over the same voxels.
        n_voxels: Voxels that count; n_undefined: those left out, whose sigmoid cannot be told.

    Args:
        cases: Counts of each annotated class of each case.
        classes: In the order of the rows.

    Returns:
        The rows of calibration.csv; domain "(all)" where there are several. Empty without cases.
    """
    rows: list[Row] = []
    for model in dict.fromkeys(case.model for case in cases):
        of_model = [case for case in cases if case.model == model]
        domains = sorted({case.subject.domain for case in of_model})
        for domain in [*domains, *([ALL] if len(domains) > 1 else [])]:
            for structure in classes:
                chosen = [c for c in of_model if c.structure == structure and domain in (c.subject.domain, ALL)]
                if chosen:
                    rows.append({"model": model, "domain": domain, "class": structure, **_pooled(chosen)})
    return rows


def _pooled(cases: Sequence[CaseCalibration]) -> Row:
    bins = cases[0].bins
    for case in cases[1:]:
        bins = bins + case.bins
    n = int(bins.voxels.sum())
    return {
        "ece": bins.ece,
        "mean_case_ece": mean(case.bins.ece for case in cases),
        "mean_probability": float(bins.probability.sum() / n) if n else float("nan"),
        "frequency": float(bins.positives.sum() / n) if n else float("nan"),
        "n_voxels": n,
        "n_undefined": bins.undefined,
        "n_cases": len(cases),
        "n_patients": len({case.subject.patient for case in cases}),
    }
