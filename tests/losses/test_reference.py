"""Every loss equals its slow twin of tests/helpers/reference_losses.py, in whatever situation chance comes up with.

Numbers a reader can check by hand: first for the slow oracle, then for the losses themselves.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.loss_batches import (
    ABCE,
    ABCE_EXCLUSIVE,
    ACCE,
    ACCE_IGNORE,
    KNOWN_DICE_VARIANTS,
    LEAF_DICE,
    MARGINAL,
    SPACES,
    VARIANTS,
    Batch,
    Variant,
    fully_known,
    known_from,
    log1p_exp,
    make_batch,
    mixed_known,
    value_and_gradient,
)
from helpers.reference_losses import ORACLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_partial.losses import LOSSES

pytestmark = pytest.mark.usefixtures("kernels")


def test_every_loss_of_the_table_has_an_oracle() -> None:
    assert set(LOSSES) == set(ORACLES)


@st.composite
def batches(draw: st.DrawFn, ignore: bool) -> Batch:
    """Any pattern of known classes, empty structures, one class only, values of unknown classes, ignored voxels."""
    samples, foreground = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    space = draw(st.sampled_from([(1, 1), (3, 2), (4, 5), (2, 1, 3), (2, 3, 2)]))
    some_classes = st.lists(st.integers(1, foreground), unique=True)
    known = known_from(draw(st.lists(some_classes, min_size=samples, max_size=samples)), foreground + 1)
    batch = make_batch(
        draw(st.integers(0, 10_000)),
        space,
        known,
        ignore_label=foreground + 1 if ignore else None,
        drawn_unknown=draw(st.booleans()),
        scale=draw(st.sampled_from([0.0, 1.0, 5.0, 30.0])),
    )
    target = batch.target
    if draw(st.booleans()):  # an empty structure
        target[target == draw(st.integers(1, foreground))] = 0
    if draw(st.booleans()):  # a sample with one value only, which may be the ignore label
        target[0] = draw(st.integers(0, foreground + (1 if ignore else 0)))
    return batch


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize("ignore", [False, True], ids=["no-ignore", "ignore"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    batch_dice=st.booleans(),
    do_bg=st.booleans(),
    smooth=st.sampled_from([0.0, 1e-5, 1.0]),
    weights=st.sampled_from([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 2.0)]),
)
def test_equals_the_oracle(
    variant: Variant,
    ignore: bool,
    data: st.DataObject,
    batch_dice: bool,
    do_bg: bool,
    smooth: float,
    weights: tuple[float, float],
) -> None:
    batch = data.draw(batches(ignore))
    options = {
        "batch_dice": batch_dice,
        "do_bg": do_bg and variant.has_background,
        "smooth": smooth,
        "weight_ce": weights[0],
        "weight_dice": weights[1],
        "ignore_label": batch.known.shape[1] if ignore else None,
    }
    value, gradient = value_and_gradient(variant.build(**options), batch)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(variant.oracle(batch, **options), rel=1e-9, abs=1e-11)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("ignore_label", [None, 4, 255])
@pytest.mark.parametrize("batch_dice", [True, False], ids=["batch-dice", "sample-dice"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equals_the_oracle_in_float32(
    variant: Variant, batch_dice: bool, ignore_label: int | None, space: tuple[int, ...]
) -> None:
    for known in (fully_known(4), mixed_known()):
        batch = make_batch(1, space, known, ignore_label=ignore_label, dtype=torch.float32)
        options = {"batch_dice": batch_dice, "ignore_label": ignore_label}
        value, _ = value_and_gradient(variant.build(**options), batch)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(variant.oracle(batch, **options), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradient_is_the_slope_of_the_oracle(variant: Variant) -> None:
    batch = make_batch(2, (2, 2), mixed_known(), ignore_label=4)
    _, gradient = value_and_gradient(variant.build(ignore_label=4), batch)
    step = 1e-5
    for index in range(batch.logits.numel()):
        nudge = torch.zeros(batch.logits.numel(), dtype=torch.float64)
        nudge[index] = step
        nudge = nudge.view_as(batch.logits)
        up = variant.oracle(Batch(batch.logits + nudge, batch.target, batch.known), ignore_label=4)
        down = variant.oracle(Batch(batch.logits - nudge, batch.target, batch.known), ignore_label=4)
        assert gradient.flatten()[index].item() == pytest.approx((up - down) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_background_is_known_whatever_its_column_says(variant: Variant) -> None:
    batch = make_batch(3, (4, 3), mixed_known())
    known = batch.known.clone()
    known[:, 0] = False
    for options in ({}, {"batch_dice": False}, {"do_bg": True} if variant.has_background else {}):
        value = variant.build(**options)(batch.logits, batch.target, known).item()
        assert value == pytest.approx(variant.oracle(batch, **options), rel=1e-9)


def one_voxel(logits: list[float], y: int, known: list[int]) -> Batch:
    """One sample of one voxel."""
    z = torch.tensor(logits, dtype=torch.float64).view(1, -1, 1, 1)
    return Batch(z, torch.tensor(y).view(1, 1, 1, 1), known_from([known], len(logits)))


def both_values(variant: Variant, batch: Batch, **options: Any) -> list[float]:
    """The oracle's value and the loss's value."""
    return [
        variant.oracle(batch, **options),
        variant.build(**options)(batch.logits, batch.target, batch.known).item(),
    ]


E2, E1, EH = math.exp(2.0), math.exp(1.0), math.exp(0.5)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        # class 2 is unknown: background is {0, 2}
        (MARGINAL, -math.log((E2 + E1) / (E2 + EH + E1))),
        # class 2 takes no part: softmax over (2, 0.5)
        (ACCE, -math.log(E2 / (E2 + EH))),
        # a background voxel of an incomplete sample carries no term
        (ACCE_IGNORE, 0.0),
        # one question, "is it class 1?", and the answer is no: -log(1 - sigmoid(0.5))
        (ABCE, log1p_exp(0.5)),
        (ABCE_EXCLUSIVE, log1p_exp(0.5)),
        (LEAF_DICE, -math.log((E2 + E1) / (E2 + EH + E1))),  # the cross-entropy is that of the marginal loss
    ],
    ids=str,
)
def test_background_voxel_with_one_unknown_class(variant: Variant, expected: float) -> None:
    batch = one_voxel([2.0, 0.5, 1.0], y=0, known=[1])
    for value in both_values(variant, batch, weight_dice=0.0):
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_worked_number_of_the_definition() -> None:
    batch = one_voxel([2.0, 0.5, 1.0], y=0, known=[1])
    for value in both_values(MARGINAL, batch, weight_dice=0.0):
        assert value == pytest.approx(0.1511, abs=5e-5)


def test_marginal_merges_probabilities_not_logits() -> None:
    # Merging the first and the last of (2, 0.5, 1): q = (e^2 + e^1) / (e^2 + e^0.5 + e^1) = 0.86; adding logits
    # before the softmax would give e^3 / (e^3 + e^0.5) = 0.92.
    batch = one_voxel([2.0, 0.5, 1.0], y=0, known=[1])
    for value in both_values(MARGINAL, batch, weight_dice=0.0):
        assert math.exp(-value) == pytest.approx(0.86, abs=5e-3)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (MARGINAL, -math.log(EH / (E2 + EH + E1))),  # plain cross-entropy over all three
        (ACCE, -math.log(EH / (E2 + EH))),
        (ACCE_IGNORE, -math.log(EH / (E2 + EH + E1))),  # an annotated voxel: plain cross-entropy
        (ABCE, log1p_exp(-0.5)),  # "is it class 1?": yes
        (ABCE_EXCLUSIVE, (log1p_exp(-0.5) + log1p_exp(1.0)) / 2),  # ... and so it is not class 2
        (LEAF_DICE, -math.log(EH / (E2 + EH + E1))),
    ],
    ids=str,
)
def test_annotated_voxel_with_one_unknown_class(variant: Variant, expected: float) -> None:
    batch = one_voxel([2.0, 0.5, 1.0], y=1, known=[1])
    for value in both_values(variant, batch, weight_dice=0.0):
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
@pytest.mark.parametrize("batch_dice", [True, False])
def test_dice_of_an_undecided_network(variant: Variant, batch_dice: bool) -> None:
    # Two classes, logits 0, so every probability is 1/2. Four voxels, one of class 1:
    # I = 1/2, S = 4/2 = 2, G = 1, Dice = 2 I / (S + G) = 1/3.
    batch = Batch(
        torch.zeros(1, 2, 2, 2, dtype=torch.float64),
        torch.tensor([[[[0, 1], [0, 0]]]]),
        known_from([[1]], 2),
    )
    for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0, batch_dice=batch_dice):
        assert value == pytest.approx(-1 / 3, abs=1e-12)
    # With smooth = 1: (2 * 1/2 + 1) / (2 + 1 + 1) = 1/2.
    for value in both_values(variant, batch, weight_ce=0.0, smooth=1.0, batch_dice=batch_dice):
        assert value == pytest.approx(-1 / 2, abs=1e-12)


@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
def test_batch_dice_sums_over_samples_before_it_divides(variant: Variant) -> None:
    # Undecided again (p = 1/2), four voxels each; sample 0 has 1 voxel of class 1, sample 1 has 3.
    # Each alone: 1 / (2 + 1) = 1/3 and 3 / (2 + 3) = 3/5, mean 7/15. Together: 4 / (4 + 4) = 1/2.
    target = torch.tensor([[[[0, 1], [0, 0]]], [[[0, 1], [1, 1]]]])
    batch = Batch(torch.zeros(2, 2, 2, 2, dtype=torch.float64), target, known_from([[1], [1]], 2))
    for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0, batch_dice=False):
        assert value == pytest.approx(-7 / 15, abs=1e-12)
    for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0, batch_dice=True):
        assert value == pytest.approx(-1 / 2, abs=1e-12)


@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
def test_batch_dice_leaves_out_the_sample_that_does_not_know(variant: Variant) -> None:
    # As above, but sample 1 does not know class 1: only 1/3 is left, whichever way the sums run.
    target = torch.tensor([[[[0, 1], [0, 0]]], [[[0, 0], [0, 0]]]])
    batch = Batch(torch.zeros(2, 2, 2, 2, dtype=torch.float64), target, known_from([[1], []], 2))
    for batch_dice in (True, False):
        for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0, batch_dice=batch_dice):
            assert value == pytest.approx(-1 / 3, abs=1e-12)


@pytest.mark.parametrize(
    ("variant", "background_probability"),
    [(MARGINAL, 2 / 3), (ACCE, 1 / 2), (ACCE_IGNORE, 1 / 3)],
    ids=str,
)
def test_background_dice(variant: Variant, background_probability: float) -> None:
    # Three classes, logits 0, class 2 unknown. Background of the marginal loss is the merged one, 1/3 + 1/3; that of
    # aCCE is 1/2 of two classes, or 1/3 of three. Four voxels, two of them background, two of class 1.
    # Background: 2 * 2 p / (4 p + 2); class 1 (probability p1): the same with p1.
    batch = Batch(
        torch.zeros(1, 3, 2, 2, dtype=torch.float64),
        torch.tensor([[[[0, 1], [0, 1]]]]),
        known_from([[1]], 3),
    )
    p, p1 = background_probability, (1 / 2 if variant is ACCE else 1 / 3)
    expected = -(4 * p / (4 * p + 2) + 4 * p1 / (4 * p1 + 2)) / 2
    for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0, do_bg=True):
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
def test_ignored_voxel_is_not_probability_one_half(variant: Variant) -> None:
    # Two classes. One voxel of class 1, recognized with certainty; three ignored voxels. Dice is 2 * 1 / (1 + 1) = 1.
    # Logits masked *before* the sigmoid would count the three as 1/2 each: Dice 2 / (1 + 1 + 3/2) = 0.57.
    logits = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    logits[0, 0, 0, 0], logits[0, 1, 0, 0] = -50.0, 50.0
    batch = Batch(logits, torch.tensor([[[[1, 2], [2, 2]]]]), known_from([[1]], 2))
    for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0, ignore_label=2):
        assert value == pytest.approx(-1.0, abs=1e-12)
    # Cross-entropy: that one voxel is right, so 0; three halves would leave 3/4 log 2 = 0.52.
    for value in both_values(variant, batch, weight_dice=0.0, ignore_label=2):
        assert value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
def test_unknown_class_is_not_probability_one_half(variant: Variant) -> None:
    # Sample 0 knows class 1 and is right about it with certainty; sample 1 knows nothing and has logits 0.
    # Dice counts sample 0 alone: 1. Were sample 1 counted as probability 1/2: 2 / (1 + 1 + 1/2) = 0.8.
    logits = torch.zeros(2, 2, 1, 1, dtype=torch.float64)
    logits[0, 0], logits[0, 1] = -50.0, 50.0
    batch = Batch(logits, torch.tensor([1, 0]).view(2, 1, 1, 1), known_from([[1], []], 2))
    for value in both_values(variant, batch, weight_ce=0.0, smooth=0.0):
        assert value == pytest.approx(-1.0, abs=1e-12)
    # The cross-entropy of sample 0 is 0, and sample 1 must not bring log 2.
    for value in both_values(variant, batch, weight_dice=0.0):
        assert value == pytest.approx(0.0, abs=1e-12)


def test_mean_of_the_cross_entropy_runs_over_voxels_not_samples() -> None:
    # Two classes, all known. Sample 0: one counted voxel with term log 2 (logits 0); sample 1: three counted voxels
    # with term 0. Mean over the four voxels log(2)/4, not the mean of the two samples' means, log(2)/2.
    logits = torch.zeros(2, 2, 3, 1, dtype=torch.float64)
    logits[1, 0] = 100.0
    target = torch.tensor([[0, 2, 2], [0, 0, 0]]).view(2, 1, 3, 1)
    batch = Batch(logits, target, known_from([[1], [1]], 2))
    for variant in (MARGINAL, ACCE, ACCE_IGNORE):
        for value in both_values(variant, batch, weight_dice=0.0, ignore_label=2):
            assert value == pytest.approx(math.log(2) / 4, abs=1e-12)


def test_mean_of_abce_runs_over_known_pairs() -> None:
    # Sample 0 knows classes 1 and 2, sample 1 knows class 1: three pairs, one voxel each.
    # Logits 0 give log 2 per pair; sample 1's pair is certain and right, so the mean is 2 log(2) / 3.
    logits = torch.zeros(2, 3, 1, 1, dtype=torch.float64)
    logits[1, 1] = -100.0
    batch = Batch(logits, torch.zeros(2, 1, 1, 1, dtype=torch.int64), known_from([[1, 2], [1]], 3))
    for value in both_values(ABCE, batch, weight_dice=0.0):
        assert value == pytest.approx(2 * math.log(2) / 3, abs=1e-12)


def test_mean_of_acce_ignore_runs_over_the_voxels_that_carry_a_term() -> None:
    # Class 2 unknown; four voxels, one of class 1. Only that one carries a term: log 3 over one voxel, not over four.
    batch = Batch(
        torch.zeros(1, 3, 2, 2, dtype=torch.float64), torch.tensor([[[[0, 1], [0, 0]]]]), known_from([[1]], 3)
    )
    for value in both_values(ACCE_IGNORE, batch, weight_dice=0.0):
        assert value == pytest.approx(math.log(3), abs=1e-12)
    # The renormalized form counts all four: log 2 each.
    for value in both_values(ACCE, batch, weight_dice=0.0):
        assert value == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("variant", KNOWN_DICE_VARIANTS, ids=str)
def test_the_two_weights(variant: Variant) -> None:
    batch = Batch(
        torch.zeros(1, 2, 2, 2, dtype=torch.float64), torch.tensor([[[[0, 1], [0, 0]]]]), known_from([[1]], 2)
    )
    # Cross-entropy log 2 in every loss; Dice 1/3 (see above): 3 log 2 - 2/3.
    for value in both_values(variant, batch, weight_ce=3.0, weight_dice=2.0, smooth=0.0):
        assert value == pytest.approx(3 * math.log(2) - 2 / 3, abs=1e-12)


def test_the_worked_number_of_exclusive_structures() -> None:
    # (0.4741 + 1.3133) / 2: "it is class 1" at logit 0.5, "it is not class 2" at logit 1.
    batch = one_voxel([2.0, 0.5, 1.0], y=1, known=[1])
    for value in both_values(ABCE_EXCLUSIVE, batch, weight_dice=0.0):
        assert value == pytest.approx(0.8937, abs=5e-5)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_the_worked_number_of_leaf_dice(batch_dice: bool) -> None:
    # Three classes, logits 0, so every probability is 1/3; two samples of four voxels. Sample 0 knows everything: two
    # voxels of background, one of class 1, one of class 2. Sample 1 does not know class 2: one voxel of class 1, and
    # three that may be anything. Predicted of each class: 8/3, of which sample 1 has 4/3.
    # Background: 2 leaves, 2 * 2/3 / (2 + 8/3) = 2/7. Class 1: 2 leaves, the same. Class 2: 1 leaf,
    # 2 * 1/3 / (1 + 8/3) = 2/11, where the marginal loss has 2 * 1/3 / (1 + 4/3) = 2/7, as it leaves sample 1 out.
    batch = Batch(
        torch.zeros(2, 3, 2, 2, dtype=torch.float64),
        torch.tensor([[[[0, 1], [0, 2]]], [[[0, 1], [0, 0]]]]),
        known_from([[1, 2], [1]], 3),
    )
    for value in both_values(LEAF_DICE, batch, weight_ce=0.0, smooth=0.0, batch_dice=batch_dice):
        assert value == pytest.approx(-(2 / 7 + 2 / 7 + 2 / 11) / 3, abs=1e-12)
    for value in both_values(LEAF_DICE, batch, weight_ce=0.0, smooth=0.0, do_bg=False):
        assert value == pytest.approx(-(2 / 7 + 2 / 11) / 2, abs=1e-12)
