"""The losses once more, slowly: loops over samples, voxels and classes, one number at a time, to check the fast ones.

Nothing here is shared with the package. Every loss is the sum of two parts,

    weight_ce * (mean cross-entropy of the voxels)  -  weight_dice * (mean soft Dice of the structures),

and every loss says for itself how sure the network is of each class in a voxel, which voxels carry a cross-entropy
term, and which (sample, structure) pairs count. Means over nothing are 0.

Arrays: logits (B, C, *S) of float, target (B, 1, *S) of integers, known (B, C) of bool; the results are floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Voxel = tuple[int, ...]  # (sample, row, column) or (sample, slice, row, column)


def marginal(logits: Array, target: Array, known: Array, **options: Any) -> float:
    """Marginal loss: "background" means background or anything that nobody annotated in this sample."""
    do_bg = options.get("do_bg", False)
    terms: list[float] = []
    dice_probability: dict[Voxel, list[float]] = {}
    for voxel in counted_voxels(target, options.get("ignore_label")):
        z = logits_of(logits, voxel)
        everything = list(range(len(z)))
        merged = [0, *unknown_classes(known, voxel[0])]
        y = true_class(target, known, voxel)
        says_the_same = merged if y == 0 else [y]
        terms.append(log_sum_exp(z, everything) - log_sum_exp(z, says_the_same))
        p = [share(z, [c], everything) for c in everything]
        p[0] = share(z, merged, everything)
        dice_probability[voxel] = p
    return total(terms, dice_probability, target, known, do_bg=do_bg, options=options)


def adaptive_cce(
    logits: Array, target: Array, known: Array, *, background: str = "renormalize", **options: Any
) -> float:
    """Adaptive categorical cross-entropy.

    "renormalize": the softmax is taken over background and the annotated classes alone.
    "ignore": softmax over all classes, but background voxels of incompletely annotated samples carry no term.
    """
    do_bg = options.get("do_bg", False)
    terms: list[float] = []
    dice_probability: dict[Voxel, list[float]] = {}
    for voxel in counted_voxels(target, options.get("ignore_label")):
        z = logits_of(logits, voxel)
        unknown = unknown_classes(known, voxel[0])
        y = true_class(target, known, voxel)
        if background == "renormalize":
            channels = [c for c in range(len(z)) if c not in unknown]
            carries_a_term = True
        elif background == "ignore":
            channels = list(range(len(z)))
            carries_a_term = y != 0 or not unknown
        else:
            raise ValueError(f"background {background!r}, expected 'renormalize' or 'ignore'")
        if carries_a_term:
            terms.append(log_sum_exp(z, channels) - z[y])
        # A class outside `channels` has no probability; it is not known, so that Dice never asks for it.
        dice_probability[voxel] = [share(z, [c], channels) if c in channels else math.nan for c in range(len(z))]
    return total(terms, dice_probability, target, known, do_bg=do_bg, options=options)


def adaptive_bce(logits: Array, target: Array, known: Array, **options: Any) -> float:
    """Adaptive binary cross-entropy: one yes-or-no question per known structure; the background channel is not read."""
    return sigmoid_loss(logits, target, known, False, options)


def exclusive_bce(logits: Array, target: Array, known: Array, **options: Any) -> float:
    """aBCE, and where one structure is, every structure that nobody annotated is not."""
    return sigmoid_loss(logits, target, known, True, options)


def sigmoid_loss(logits: Array, target: Array, known: Array, exclusive: bool, options: dict[str, Any]) -> float:
    """What both have in common; `exclusive` adds the terms of the second."""
    terms: list[float] = []
    dice_probability: dict[Voxel, list[float]] = {}
    for voxel in counted_voxels(target, options.get("ignore_label")):
        z = logits_of(logits, voxel)
        unknown = unknown_classes(known, voxel[0])
        y = true_class(target, known, voxel)
        for c in range(1, len(z)):
            if c not in unknown:
                # -log sigmoid(z) where the structure is, -log(1 - sigmoid(z)) = -log sigmoid(-z) where it is not
                terms.append(minus_log_sigmoid(z[c] if y == c else -z[c]))
            elif exclusive and y != 0:
                terms.append(minus_log_sigmoid(-z[c]))
        dice_probability[voxel] = [math.nan] + [math.exp(-minus_log_sigmoid(z[c])) for c in range(1, len(z))]
    return total(terms, dice_probability, target, known, do_bg=False, options=options)


def marginal_leaf_dice(logits: Array, target: Array, known: Array, **options: Any) -> float:
    """Cross-entropy of the marginal loss; Dice of what is certainly of a class and all that is predicted to be."""
    cross_entropy = marginal(logits, target, known, **{**options, "weight_ce": 1.0, "weight_dice": 0.0})
    smooth = options.get("smooth", 1e-5)
    everything_known = all(not unknown_classes(known, b) for b in range(known.shape[0]))
    dices: list[float] = []
    for c in range(0 if options.get("do_bg", True) else 1, known.shape[1]):
        overlap = predicted_size = 0.0
        leaf_voxels = 0
        for voxel in counted_voxels(target, options.get("ignore_label")):
            z = logits_of(logits, voxel)
            p = share(z, [c], range(len(z)))
            predicted_size += p
            certain = true_class(target, known, voxel) == c and (c != 0 or not unknown_classes(known, voxel[0]))
            if certain:
                overlap += p
                leaf_voxels += 1
        if leaf_voxels or everything_known:
            dices.append((2 * overlap + smooth) / max(leaf_voxels + predicted_size + smooth, 1e-8))
    return float(options.get("weight_ce", 1.0) * cross_entropy - options.get("weight_dice", 1.0) * mean(dices))


def region_bce(
    logits: Array, target: Array, known: Array, *, inside: Iterable[tuple[int, int]], **options: Any
) -> float:
    """One yes-or-no question per known region; what lies inside or around a known region may answer for an unknown one.

    target (B, R, *S), with one more channel of ignored voxels where `has_ignore_channel`; known (B, R).
    """
    samples, regions = known.shape
    inside = list(inside)
    terms: list[float] = []
    counted: list[Voxel] = [
        (b, *x)
        for b in range(samples)
        for x in np.ndindex(target.shape[2:])
        if not (options.get("has_ignore_channel", False) and target[b, regions][x])
    ]
    for voxel in counted:
        b, x = voxel[0], voxel[1:]
        z = logits_of(logits, voxel)
        for r in range(regions):
            if known[b, r]:
                answer = bool(target[b, r][x])
            elif any(inner == r and known[b, outer] and not target[b, outer][x] for inner, outer in inside):
                answer = False
            elif any(outer == r and known[b, inner] and target[b, inner][x] for inner, outer in inside):
                answer = True
            else:
                continue
            terms.append(minus_log_sigmoid(z[r] if answer else -z[r]))
    smooth = options.get("smooth", 1e-5)
    dices: list[float] = []
    for r in range(regions):
        who_knows = [b for b in range(samples) if known[b, r]]
        for group in [who_knows] if options.get("batch_dice", True) else [[b] for b in who_knows]:
            if group:
                overlap = size = 0.0
                for voxel in counted:
                    if voxel[0] in group:
                        p = math.exp(-minus_log_sigmoid(logits_of(logits, voxel)[r]))
                        is_r = 1.0 if target[voxel[0], r][voxel[1:]] else 0.0
                        overlap += p * is_r
                        size += p + is_r
                dices.append((2 * overlap + smooth) / max(size + smooth, 1e-8))
    return float(options.get("weight_ce", 1.0) * mean(terms) - options.get("weight_dice", 1.0) * mean(dices))


ORACLES: dict[str, Callable[..., float]] = {
    "marginal": marginal,
    "acce": adaptive_cce,
    "abce": adaptive_bce,
    "abce-exclusive": exclusive_bce,
    "marginal-leaf-dice": marginal_leaf_dice,
}


# ---------------------------------------------------------------------------------------------- the two parts


def total(
    terms: list[float],
    probability: dict[Voxel, list[float]],
    target: Array,
    known: Array,
    *,
    do_bg: bool,
    options: dict[str, Any],
) -> float:
    """weight_ce * mean of the cross-entropy terms - weight_dice * mean soft Dice."""
    dices = soft_dices(
        probability,
        target,
        known,
        do_bg=do_bg,
        batch_dice=options.get("batch_dice", True),
        smooth=options.get("smooth", 1e-5),
    )
    return float(options.get("weight_ce", 1.0) * mean(terms) - options.get("weight_dice", 1.0) * mean(dices))


def soft_dices(
    probability: dict[Voxel, list[float]], target: Array, known: Array, *, do_bg: bool, batch_dice: bool, smooth: float
) -> list[float]:
    """One soft Dice per structure (batch_dice), or one per sample and structure; only where the structure is known."""
    samples, classes = known.shape
    dices: list[float] = []
    for c in range(0 if do_bg else 1, classes):
        who_knows = [b for b in range(samples) if c == 0 or known[b, c]]
        groups = [who_knows] if batch_dice else [[b] for b in who_knows]
        for group in groups:
            if group:
                dices.append(soft_dice(c, group, probability, target, known, smooth))
    return dices


def soft_dice(
    c: int, group: list[int], probability: dict[Voxel, list[float]], target: Array, known: Array, smooth: float
) -> float:
    """Twice the overlap over the two sizes, of structure c in the samples of `group`; 1 where both are empty."""
    overlap = predicted_size = true_size = 0.0
    for voxel, p in probability.items():
        if voxel[0] in group:
            is_c = 1.0 if true_class(target, known, voxel) == c else 0.0
            overlap += p[c] * is_c
            predicted_size += p[c]
            true_size += is_c
    return (2 * overlap + smooth) / max(true_size + predicted_size + smooth, 1e-8)


def mean(numbers: list[float]) -> float:
    """The mean; 0 of nothing."""
    return math.fsum(numbers) / len(numbers) if numbers else 0.0


# ---------------------------------------------------------------------------------------------- one voxel


def counted_voxels(target: Array, ignore_label: int | None) -> Iterator[Voxel]:
    """Every voxel of every sample that does not carry the ignore label, as (sample, position...)."""
    for b in range(target.shape[0]):
        for x in np.ndindex(target.shape[2:]):
            if ignore_label is None or int(target[b, 0][x]) != ignore_label:
                yield (b, *x)


def logits_of(logits: Array, voxel: Voxel) -> list[float]:
    """The C logits of one voxel."""
    b, x = voxel[0], voxel[1:]
    return [float(logits[b, c][x]) for c in range(logits.shape[1])]


def unknown_classes(known: Array, b: int) -> list[int]:
    """The foreground classes that nobody annotated in sample b."""
    return [c for c in range(1, known.shape[1]) if not known[b, c]]


def true_class(target: Array, known: Array, voxel: Voxel) -> int:
    """The class of a voxel; a class that the sample does not know counts as background."""
    b, x = voxel[0], voxel[1:]
    y = int(target[b, 0][x])
    return 0 if y in unknown_classes(known, b) else y


def log_sum_exp(z: list[float], channels: Iterable[int]) -> float:
    """log of the sum of exp(z[c]) over the channels, without overflow."""
    chosen = [z[c] for c in channels]
    largest = max(chosen)
    return largest + math.log(sum(math.exp(value - largest) for value in chosen))


def share(z: list[float], part: Iterable[int], whole: Iterable[int]) -> float:
    """The probability that a softmax over the channels `whole` gives to those in `part`."""
    return math.exp(log_sum_exp(z, part) - log_sum_exp(z, whole))


def minus_log_sigmoid(z: float) -> float:
    """log(1 + exp(-z)), without overflow."""
    return math.log1p(math.exp(-z)) if z >= 0 else -z + math.log1p(math.exp(z))
