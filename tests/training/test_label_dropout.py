"""Label dropout forgets only what is partially labeled, as often as asked, and never in validation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.toy_dataset import TRAINERS

from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.losses import LOSSES
from nnunet_partial.training.loss_wrapper import AnnotatedClasses, drop_labels

MANIFEST = Manifest({"full": CaseLabels(("LV", "MYO", "LA")), "part": CaseLabels(("LV", "MYO"), absent=("LA",))})


def test_only_classes_that_some_case_does_not_know_are_partial() -> None:
    known = AnnotatedClasses(
        Manifest({**MANIFEST.cases, "less": CaseLabels(("LV",))}), ("LV", "MYO", "LA"), ["full", "less"]
    )
    assert known.partial.tolist() == [False, False, True, True]  # background, LV, MYO, LA
    assert not AnnotatedClasses(MANIFEST, ("LV", "MYO", "LA"), ["full", "part"]).partial.any()  # absent is known


def test_classes_are_forgotten_with_the_probability_asked_for() -> None:
    torch.manual_seed(0)
    known = torch.tensor([[True, True, True, False]]).expand(20000, 4)
    partial = torch.tensor([False, False, True, True])
    left = drop_labels(known, partial, 0.3).float().mean(0)
    assert left[:2].tolist() == [1, 1]
    assert left[2] == pytest.approx(0.7, abs=0.02)  # six standard deviations of a mean of 20,000
    assert left[3] == 0  # what is unknown stays unknown
    assert torch.equal(drop_labels(known, partial, 0.0), known)
    assert not drop_labels(known, partial, 1.0)[:, 2].any()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_forgetting_a_class_is_the_same_as_never_having_drawn_it(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 6, 6, generator=generator)
    target = torch.randint(0, 3, (2, 1, 6, 6), generator=generator)
    forgotten = torch.tensor([[True, True, False], [True, True, True]])
    undrawn = target.clone()
    undrawn[0][undrawn[0] == 2] = 0
    loss = LOSSES[name]()
    assert torch.equal(loss(logits, target, forgotten), loss(logits, undrawn, forgotten))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # nnU-Net's own trainers import what torch is about to drop
def test_the_trainers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    monkeypatch.setenv("nnUNet_extTrainer", str(Path(TRAINERS)))
    for name in ("Marginal", "ACCE", "ABCE"):
        found = recursive_find_trainer_class_by_name(f"nnUNetTrainer{name}LabelDropout")
        assert found.label_dropout == 0.5
        assert found.training_class_mask.__qualname__ == "LabelDropoutMixin.training_class_mask"
