"""The mixin in this process: what is known reaches the loss, validation counts only that, mistakes stop the start."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project
from helpers.toy_trainers import DATASET, TRAINERS, edit, edit_manifests, run_epoch, trainer_of
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)

from nnunet_partial.dataset import label_check
from nnunet_partial.dataset.plans import shrink_network
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import DatasetError, ManifestError, PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME
from nnunet_partial.losses import AdaptiveCCELoss, MarginalLoss
from nnunet_partial.trainers.nnUNetTrainerABCE import nnUNetTrainerABCE
from nnunet_partial.trainers.nnUNetTrainerMarginal import (
    nnUNetTrainerMarginal_5epochs,
    nnUNetTrainerMarginalLabelDropout,
)
from nnunet_partial.training import startup_checks
from nnunet_partial.training.loss_wrapper import UnmaskedLoss, confusion_counts, masked_counts
from nnunet_partial.training.mixin import PartialLabelMixin
from nnunet_partial.training.nnunet_patches import PartialLabelLoss
from nnunet_partial.training.run_record import RECORD_NAME

pytestmark = WARNINGS_OF_NNUNET


def log_of(trainer: Any) -> dict[str, list[Any]]:
    return trainer.logger.local_logger.my_fantastic_logging


def record_of(trainer: Any) -> list[dict[str, Any]]:
    """With which settings the training ran, as it stands beside its checkpoints."""
    found: list[dict[str, Any]] = json.loads(Path(trainer.output_folder, RECORD_NAME).read_text())
    return found


# ---- counting ------------------------------------------------------------------------------------------------------


def test_counts_leave_out_unknown_pairs_and_ignored_voxels() -> None:
    # two samples of four voxels; the second does not know class 2; 3 is the ignore label
    target = torch.tensor([[[1, 1, 2, 3]], [[1, 0, 0, 0]]])
    predicted = torch.tensor([[1, 2, 2, 1], [1, 1, 2, 2]])
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float()
    known = torch.tensor([[True, True, True], [True, True, False]])
    tp, fp, fn = masked_counts(confusion_counts(logits, target, ignore_label=3), known).tolist()
    assert tp == [1 + 1, 1]  # class 1: one in each sample; class 2: one in the first
    assert fp == [0 + 1, 1]  # class 1: the second sample's second voxel; class 2: the first sample's second voxel
    assert fn == [1 + 0, 0]


def test_counts_agree_with_nnunets_own_where_everything_is_known() -> None:
    from nnunetv2.training.loss.dice import get_tp_fp_fn_tn

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, 7, generator=generator)
    target = torch.randint(0, 4, (3, 1, 5, 6, 7), generator=generator)
    hard = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)
    expected = get_tp_fp_fn_tn(hard, target, axes=[0, 2, 3, 4])[:3]
    counts = masked_counts(confusion_counts(logits, target, None), torch.ones(3, 4, dtype=torch.bool))
    for ours, theirs in zip(counts, expected, strict=True):
        assert ours.tolist() == theirs[1:].tolist()


def test_the_first_scale_is_counted_and_only_in_validation() -> None:
    loss = PartialLabelLoss(MarginalLoss(), None)
    loss.class_mask = torch.ones(1, 2, dtype=torch.bool)
    logits, target = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.long)
    loss(logits, target)
    assert loss.counts is None
    loss.is_counting = True
    loss(logits, target)
    loss(logits[..., ::2, ::2], target[..., ::2, ::2])
    assert loss.counts is not None
    assert loss.counts[2].tolist() == [[16]]  # all 16 voxels of the full resolution missed


def test_to_the_naive_loss_an_unknown_region_is_background() -> None:
    seen: list[torch.Tensor] = []
    loss = UnmaskedLoss(lambda logits, target: seen.append(target) or logits.sum(), has_regions=True)  # type: ignore[arg-type]
    # EPI = [1, 2] around LV = 2, and an ignore channel; a case that knows LV alone stores 2, which is in EPI, too
    target = torch.tensor([[[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]] * 2, dtype=torch.bool)
    loss(torch.zeros(2, 2, 4), target, torch.tensor([[False, True], [True, True]]))
    assert seen[0].int().tolist() == [[[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], target[1].int().tolist()]
    assert seen[0].dtype is torch.bool  # by which nnU-Net tells an ignore channel
    assert target[0, 0].int().tolist() == [1, 1, 1, 0]  # the batch is as it was


# ---- a training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_an_epoch_counts_only_known_pairs(project: Project, trainer_class: type[Any]) -> None:
    trainer = trainer_of(project, trainer_class)
    trainer.on_train_start()
    losses = run_epoch(trainer)
    assert all(math.isfinite(loss) for loss in losses)
    log = log_of(trainer)
    assert math.isfinite(log["ema_fg_dice"][0])
    settings = {"epochs": 1000, "iterations": 2, "val_iterations": 2, "seed": None}
    assert record_of(trainer) == [{"from_epoch": 0, **settings}]
    assert isinstance(trainer.partial_loss.loss, trainer_class.loss_class or UnmaskedLoss)
    written = Path(trainer.output_folder, "debug.json").read_text()
    assert "a_p0" not in written  # no case name beside the model
    assert "a_p0" not in str(torch.load(Path(trainer.output_folder, "checkpoint_best.pth"), weights_only=False).keys())


def test_known_follows_the_cases_of_the_batch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_partial_seed", "1")
    trainer = trainer_of(project)
    trainer.on_train_start()
    told: list[Any] = []
    trainer.partial_loss.loss.register_forward_pre_hook(lambda loss, arguments: told.append(arguments[2].tolist()))
    seen = set()
    for _ in range(3):
        batch = next(trainer.dataloader_train)
        told.clear()
        trainer.train_step(batch)
        expected = [[True, True, str(key).startswith("a_")] for key in batch["keys"]]
        assert told  # once for each resolution of deep supervision that counts
        assert all(known == expected for known in told)
        seen.add(str(expected))
    assert len(seen) > 1  # else the batch before could have decided


def test_label_dropout_works_in_training_and_never_in_validation(project: Project) -> None:
    class Forgetful(nnUNetTrainerMarginalLabelDropout):
        label_dropout = 1.0

    trainer = trainer_of(project, Forgetful)
    trainer.on_train_start()
    trainer.train_step(next(trainer.dataloader_train))
    assert trainer.partial_loss.class_mask.tolist() == [[True, True, False]] * 4  # domain b does not know MYO
    batch = next(trainer.dataloader_val)
    with torch.no_grad():
        trainer.validation_step(batch)
    assert trainer.partial_loss.class_mask[:, 2].tolist() == [str(key).startswith("a_") for key in batch["keys"]]


@pytest.mark.slow
def test_what_is_unknown_in_validation_is_nan_and_leaves_the_average_alone(project: Project) -> None:
    trainer = trainer_of(project)
    trainer.on_train_start()
    all_known = trainer.annotated_classes._known

    def know(*values: bool) -> None:
        trainer.annotated_classes._known = {case: torch.tensor(values) for case in all_known}

    know(True, False, False)  # nothing known at first
    run_epoch(trainer)
    log = log_of(trainer)
    assert np.isnan(log["dice_per_class_or_region"][0]).all()
    assert math.isnan(log["ema_fg_dice"][0])
    assert trainer._best_ema is None
    assert not Path(trainer.output_folder, "checkpoint_best.pth").exists()

    know(True, True, False)  # then LV alone: MYO has no Dice, the mean is LV's
    run_epoch(trainer)
    lv, myo = log["dice_per_class_or_region"][1]
    assert math.isnan(myo)
    assert log["mean_fg_dice"][1] == lv == log["ema_fg_dice"][1] == trainer._best_ema

    know(True, False, False)  # nothing again: average and best stay
    run_epoch(trainer)
    assert log["ema_fg_dice"][2] == lv == trainer._best_ema

    know(True, True, False)
    del trainer.logger.local_logger.plot_progress_png  # what is NaN is drawn, too
    run_epoch(trainer)
    assert log["ema_fg_dice"][3] == pytest.approx(0.9 * lv + 0.1 * log["mean_fg_dice"][3])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_training_and_resuming_goes_on_as_if_uninterrupted(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_partial_seed", "3")
    first = trainer_of(project)
    first.on_train_start()
    losses = [run_epoch(first) for _ in range(2)]

    second = trainer_of(project)
    second.on_train_start()
    assert run_epoch(second) == losses[0]
    second.save_checkpoint(str(Path(second.output_folder, "checkpoint_latest.pth")))
    assert not list(Path(second.output_folder).glob("*.tmp"))

    resumed = trainer_of(project)
    resumed.load_checkpoint(str(Path(second.output_folder, "checkpoint_latest.pth")))
    # saved before the epoch counter moved on, as nnU-Net does within an epoch
    resumed.current_epoch = 1
    resumed.on_train_start()
    assert run_epoch(resumed) == losses[1]
    assert [(entry["from_epoch"], entry["seed"]) for entry in record_of(resumed)] == [(0, 3)]

    monkeypatch.setenv("nnUNet_partial_seed", "4")
    other = trainer_of(project)
    other.on_train_start()
    assert run_epoch(other) != losses[0]


def test_going_on_with_another_length_is_said_and_on_record(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trainer_of(project)
    first.on_train_start()
    first.current_epoch = 4
    latest = str(Path(first.output_folder, "checkpoint_latest.pth"))
    first.save_checkpoint(latest)

    monkeypatch.setenv("nnUNet_partial_epochs", "7")
    for _ in range(2):  # killed before its next checkpoint, it goes on from the same one
        resumed = trainer_of(project)
        resumed.load_checkpoint(latest)
        resumed.on_train_start()
        assert [(entry["from_epoch"], entry["epochs"]) for entry in record_of(resumed)] == [(0, 1000), (5, 7)]
        said = Path(resumed.log_file).read_text()
        assert re.search(r"WARNING: .*: epochs 1000 -> 7\b", said)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_good_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(project)
    trainer.initialize()
    good = Path(trainer.output_folder, "checkpoint_latest.pth")
    trainer.save_checkpoint(str(good))
    before = good.read_bytes()

    def half(content: Any, filename: str) -> None:
        Path(filename).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(good))
    assert good.read_bytes() == before

    # nor may what the kill left be taken for a checkpoint later, when nnU-Net is told to write none
    trainer.disable_checkpointing = True
    trainer.save_checkpoint(str(good))
    assert good.read_bytes() == before


def test_run_length_comes_from_the_class_and_the_environment_wins(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(project, nnUNetTrainerMarginal_5epochs)
    trainer.initialize()
    assert trainer.num_epochs == 5
    assert trainer.lr_scheduler.max_steps == 5
    monkeypatch.setenv("nnUNet_partial_epochs", "7")
    monkeypatch.setenv("nnUNet_partial_iterations", "11")
    trainer = trainer_of(project, nnUNetTrainerMarginal_5epochs)
    trainer.initialize()
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (7, 11)
    assert "nnUNet_partial_epochs=7, nnUNet_partial_iterations=11" in Path(trainer.log_file).read_text()


# ---- networks and combinations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [True, False])
def test_abce_has_background_logit_zero_and_the_stock_names_of_weights(project: Project, deep: bool) -> None:
    trainer = trainer_of(project, nnUNetTrainerABCE)
    stock = trainer_of(project, nnUNetTrainer)
    arguments = (trainer.plans_manager, trainer.configuration_manager, 1, 3, deep)
    network = nnUNetTrainerABCE.build_network_architecture(*arguments)
    plain = nnUNetTrainer.build_network_architecture(stock.plans_manager, stock.configuration_manager, 1, 3, deep)
    plain.load_state_dict(network.state_dict())
    picture = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ours, theirs = network(picture), plain(picture)
    for zeroed, full in zip(ours, theirs, strict=True) if deep else [(ours, theirs)]:
        assert torch.equal(zeroed[:, 1:], full[:, 1:])
        assert torch.count_nonzero(zeroed[:, 0]) == 0
        assert torch.count_nonzero(full[:, 0]) > 0


def test_the_mixin_combines_with_other_trainers(project: Project) -> None:
    class Mine(PartialLabelMixin, nnUNetTrainerNoDeepSupervision):
        loss_class = AdaptiveCCELoss
        epochs = 3

        def build_partial_loss(self, default_loss: torch.nn.Module) -> torch.nn.Module:
            return AdaptiveCCELoss(background="ignore", batch_dice=self.configuration_manager.batch_dice)

    trainer = trainer_of(project, Mine)
    trainer.on_train_start()
    assert not trainer.enable_deep_supervision
    assert trainer.loss is trainer.partial_loss
    assert all(math.isfinite(loss) for loss in run_epoch(trainer))
    assert trainer.num_epochs == 3


@pytest.mark.slow
def test_every_trainer_comes_with_nnunets_usual_lengths() -> None:
    from helpers.toy_dataset import TRAINERS as folder
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_extTrainer", str(folder))
        for name in ("Marginal", "ACCE", "ABCE", "Naive"):
            for epochs in (5, 20, 50, 100, 250):
                found = recursive_find_trainer_class_by_name(f"nnUNetTrainer{name}_{epochs}epochs")
                assert found.epochs == epochs
        assert recursive_find_trainer_class_by_name("nnUNetTrainer") is nnUNetTrainer


# ---- mistakes stop the start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m["cases"]["a_p0_0"].update(annotated=["LV", "WALL"]), "'WALL' is declared annotated in 1 case"),
        (lambda m: m["cases"]["a_p0_0"].update(absent=["LV"]), "both annotated and absent"),
        (lambda m: m["cases"].pop("a_p0_1"), r"1 case\(s\) have no entry: a_p0_1"),
        (lambda m: m["cases"]["a_p0_0"].update(annotated=["LV"]), "a_p0_0: MYO present"),
        (lambda m: m["cases"]["a_p0_0"].pop("annotated"), "case 'a_p0_0' has no 'annotated'"),
    ],
)
def test_a_wrong_manifest_stops_the_start(project: Project, change: Any, message: str) -> None:
    edit_manifests(project, change)
    with pytest.raises(ManifestError, match=message):
        trainer_of(project).initialize()


def test_a_pattern_that_counts_for_no_case_stops_the_start_or_is_warned_of(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"match": "c_*", "annotated": ["LV"]}
    edit(project.raw(DATASET) / MANIFEST_NAME, lambda m: m.update(groups=[group]))
    with pytest.raises(ManifestError, match="the group 'c_\\*' matches no case"):
        trainer_of(project).initialize()
    monkeypatch.delenv("nnUNet_raw")  # it may be of test cases, which only the raw folder has
    trainer = trainer_of(project)
    trainer.initialize()
    warning = "WARNING: partial_labels.json: the group 'c_*' matches no case"
    assert warning in Path(trainer.log_file).read_text()


def test_a_missing_manifest_stops_the_start_and_says_how_to_write_one(project: Project) -> None:
    (project.raw(DATASET) / MANIFEST_NAME).unlink()
    with pytest.raises(ManifestError, match=r"does not exist.*convert"):
        trainer_of(project).initialize()


def test_a_broken_manifest_stops_the_start(project: Project) -> None:
    (project.raw(DATASET) / MANIFEST_NAME).write_text('{"version": 1, ')
    with pytest.raises(ManifestError, match="not valid JSON"):
        trainer_of(project).initialize()


def test_raw_and_preprocessed_manifests_that_differ_stop_the_start(project: Project) -> None:
    trainer_of(project).initialize()  # copies the manifest to the preprocessed folder
    edit(project.raw(DATASET) / MANIFEST_NAME, lambda m: m["cases"]["b_p1_0"].update(annotated=[]))
    with pytest.raises(ManifestError, match="differ"):
        trainer_of(project).initialize()


def test_training_needs_only_the_preprocessed_manifest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = project.raw(DATASET)
    (raw / MANIFEST_NAME).rename(project.preprocessed(DATASET) / MANIFEST_NAME)
    monkeypatch.delenv("nnUNet_raw")
    trainer_of(project).initialize()


def test_a_class_that_no_training_case_knows_stops_the_start(project: Project) -> None:
    splits = [
        {
            "train": ["b_p1_0", "b_p1_1"],
            "val": [f"{d}_p{p}_{f}" for p, d in enumerate("ababab") for f in (0, 1) if p != 1],
        }
    ]
    (project.preprocessed(DATASET) / SPLITS_NAME).write_text(json.dumps(splits))
    with pytest.raises(ManifestError, match="annotated for MYO"):
        trainer_of(project).initialize()


def test_splits_are_made_by_patient_and_leaks_stop_the_start(project: Project) -> None:
    trainer = trainer_of(project)
    trainer.initialize()
    file = project.preprocessed(DATASET) / SPLITS_NAME
    splits = json.loads(file.read_text())
    for split in splits:
        assert not {c.rsplit("_", 1)[0] for c in split["train"]} & {c.rsplit("_", 1)[0] for c in split["val"]}
    moved = splits[1]["val"].pop()
    splits[1]["train"].append(moved)
    file.write_text(json.dumps(splits))
    with pytest.raises(SplitError, match=r"fold 1 has 1 patient\(s\) on both sides"):
        trainer_of(project).initialize()
    file.write_text(json.dumps([{"train": splits[0]["train"], "val": ["stranger"]}]))
    with pytest.raises(SplitError, match="not in the dataset: stranger"):
        trainer_of(project).initialize()


def test_a_fold_that_is_not_in_the_split_is_refused_instead_of_a_random_one(project: Project) -> None:
    with pytest.raises(SplitError, match="folds 0 to 4; fold 5 was asked for"):
        trainer_of(project, fold=5).initialize()


def test_wrong_run_settings_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_partial_epochs", "many")
    with pytest.raises(PartialLabelError, match="nnUNet_partial_epochs is 'many'"):
        trainer_of(project)


def test_a_start_reads_each_file_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    files = (MANIFEST_NAME, SPLITS_NAME, "dataset.json")

    def count(owner: Any, name: str, key: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[key(*args)] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(Path, "read_text", lambda path: "/".join(path.parts[-3::2]) if path.name in files else "other")
    count(RawDataset, "__init__", lambda *args: "raw datasets opened")
    count(RawDataset, "label_files", lambda *args: "raw label files listed")
    count(label_check, "hash_files", lambda *args: "folders of label files hashed")
    count(label_check, "hash_listed", lambda *args: "folders of label files hashed")
    count(startup_checks, "check_splits", lambda *args: "splits checked")
    count(nnUNetTrainer, "do_split", lambda *args: "do_split")

    steps = {"raw datasets opened": 1, "raw label files listed": 1}
    steps |= {"folders of label files hashed": 2, "splits checked": 1, "do_split": 1}
    other = {"raw/dataset.json": 1, "preprocessed/dataset.json": 1}
    trainer = trainer_of(project)
    counts.clear()
    trainer.initialize()  # copies the manifest and makes the split
    counts.pop("other")
    assert counts == {"raw/partial_labels.json": 1, **other, **steps}
    for _ in range(2):  # the second time labels that may have changed are looked into again
        trainer = trainer_of(project)
        counts.clear()
        trainer.initialize()  # compares the manifest with its copy and reads the split
        counts.pop("other")
        manifests = {"raw/partial_labels.json": 1, "preprocessed/partial_labels.json": 1}
        assert counts == {**manifests, "preprocessed/splits_final.json": 1, **other, **steps}
        os.utime(project.raw(DATASET) / "labelsTr" / "a_p0_0.nii.gz", ns=(1, 1))


@pytest.mark.parametrize("weights", [None, {"a": 1, "b": 2}])
def test_the_loaders_ask_for_the_split_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, weights: dict[str, float] | None
) -> None:
    edit(project.raw(DATASET) / MANIFEST_NAME, lambda m: m.update(domain_weights=weights))
    trainer = trainer_of(project)
    trainer.initialize()
    original, calls = nnUNetTrainer.do_split, []
    monkeypatch.setattr(nnUNetTrainer, "do_split", lambda self: calls.append(self) or original(self))
    trainer.get_dataloaders()
    assert len(calls) == 1  # nnU-Net's own


def test_the_rank_in_the_whole_job_decides_where_there_is_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the second node of nnU-Net's branch for several, where the local rank is 0 again."""
    monkeypatch.setenv("nnUNet_partial_seed", "1")
    trainer = trainer_of(project)
    trainer.on_train_start()
    trainer._seed_epoch(0)
    first_seed = torch.initial_seed()
    record = Path(trainer.output_folder, RECORD_NAME)
    record.unlink()

    second = trainer_of(project)
    second.global_rank = 1
    second.on_train_start()
    second._seed_epoch(0)
    assert torch.initial_seed() != first_seed
    assert not record.exists()


def test_labels_are_looked_into_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer_of(project).initialize()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the labels were read again")

    monkeypatch.setattr(startup_checks, "check_label_files", fail)
    trainer_of(project).initialize()
    label = next((project.preprocessed(DATASET) / "gt_segmentations").glob("a_*"))
    label.write_bytes(label.read_bytes() + b" ")
    with pytest.raises(DatasetError, match=r"The label files of 1 case\(s\) changed since"):
        trainer_of(project).initialize()
    (project.raw(DATASET) / "labelsTr" / label.name).write_bytes(label.read_bytes())
    with pytest.raises(AssertionError, match="read again"):
        trainer_of(project).initialize()


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")  # nnU-Net's
def test_a_network_of_two_stages_is_refused_and_not_trained_to_nan(project: Project) -> None:
    """nnU-Net gives its only output the weight 0, and divides by the sum of the weights: 0 / 0."""
    file = project.preprocessed(DATASET) / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    architecture = plans["configurations"]["2d"]["architecture"]
    architecture["arch_kwargs"] = shrink_network(architecture["arch_kwargs"], [8, 16])
    file.write_text(json.dumps(plans))
    with pytest.raises(PartialLabelError, match="2d has two stages"):
        trainer_of(project).initialize()
