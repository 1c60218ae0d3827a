"""Means over what is known: small summaries whose numbers can be checked by hand.

The log says where a structure is predicted too large, too small or not at all in cases that do not know it.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.toy_dataset import Project
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer_module

from nnunet_partial.labels import CaseLabels, Manifest
from nnunet_partial.trainers.nnUNetTrainerMarginal import nnUNetTrainerMarginal
from nnunet_partial.training.loss_wrapper import confusion_counts
from nnunet_partial.training.nnunet_patches import patch_ema_logging, patch_validation_metrics
from nnunet_partial.training.validation import SizeMonitor, mask_unknown, patch_size_warnings, size_warnings_text

CLASSES = ("LV", "MYO")
NAMES = {1: "LV", 2: "MYO"}
MANIFEST = Manifest(
    {"a": CaseLabels(("LV", "MYO")), "b": CaseLabels(("LV",)), "c": CaseLabels(("LV",), absent=("MYO",))}
)


def summary(**dice: tuple[float, float]) -> dict[str, Any]:
    """As nnU-Net's compute_metrics_on_folder returns it, with the means it would have computed left wrong."""
    return {
        "metric_per_case": [
            {
                "prediction_file": f"/somewhere/{case}.nii.gz",
                "reference_file": f"/elsewhere/{case}.nii.gz",
                "metrics": {1: {"Dice": values[0], "FP": 4}, 2: {"Dice": values[1], "FP": 8}},
            }
            for case, values in dice.items()
        ],
        "mean": {1: {"Dice": -1.0, "FP": -1.0}, 2: {"Dice": -1.0, "FP": -1.0}},
        "foreground_mean": {"Dice": -1.0, "FP": -1.0},
    }


def test_unknown_pairs_leave_the_means() -> None:
    result = summary(a=(0.9, 0.5), b=(0.7, 0.0), c=(0.8, 0.0))
    mask_unknown(result, MANIFEST, NAMES, ".nii.gz", {"a", "b", "c"})
    a, b, c = (entry["metrics"] for entry in result["metric_per_case"])
    assert a[2] == {"Dice": 0.5, "FP": 8}
    assert math.isnan(b[2]["Dice"])
    assert math.isnan(b[2]["FP"])
    assert c[2]["Dice"] == 0.0  # known to be absent, predicted all the same: counts
    assert result["mean"][1]["Dice"] == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert result["mean"][2] == {"Dice": pytest.approx((0.5 + 0.0) / 2), "FP": pytest.approx((8 + 8) / 2)}
    assert result["foreground_mean"]["Dice"] == pytest.approx((0.8 + 0.25) / 2)


def test_empty_in_both_stays_nan_and_is_left_out() -> None:
    result = summary(a=(0.9, math.nan), c=(0.7, 0.0))
    mask_unknown(result, MANIFEST, NAMES, ".nii.gz", {"a", "c"})
    assert result["mean"][2]["Dice"] == 0.0


def test_a_class_that_no_case_knows_has_no_mean_and_leaves_the_foreground_mean() -> None:
    result = summary(b=(0.6, 0.0))
    mask_unknown(result, MANIFEST, NAMES, ".nii.gz", {"b"})
    assert math.isnan(result["mean"][2]["Dice"])
    assert result["foreground_mean"]["Dice"] == 0.6


def test_predictions_left_by_another_split_do_not_count() -> None:
    result = summary(a=(0.9, 0.5), b=(0.1, 0.0))
    mask_unknown(result, MANIFEST, NAMES, ".nii.gz", {"a"})
    assert [entry["prediction_file"] for entry in result["metric_per_case"]] == ["/somewhere/a.nii.gz"]
    assert result["mean"][1]["Dice"] == 0.9


SIGN_CLASSES = ("LV", "MYO")
SIGN_MANIFEST = Manifest(
    {
        "a1": CaseLabels(SIGN_CLASSES, domain="a"),
        "a2": CaseLabels(SIGN_CLASSES, domain="a", info={"interpolated": True}),
        "b1": CaseLabels(("LV",), domain="b"),
        "b2": CaseLabels(("LV",), domain="b"),
    }
)

pytestmark = WARNINGS_OF_NNUNET


# ---- after the final validation --------------------------------------------------------------------------------------


def entry(folder: Path, case: str, lv: tuple[int, int], myo: tuple[int, int]) -> dict[str, Any]:
    """As nnU-Net's compute_metrics_on_folder gives it, of 100 voxels; (predicted, drawn), as far apart as can be."""
    metrics = {
        value: {"TP": 0, "FP": n_pred, "FN": n_ref, "TN": 100 - n_pred - n_ref, "n_pred": n_pred, "n_ref": n_ref}
        for value, (n_pred, n_ref) in enumerate((lv, myo), start=1)
    }
    reference = folder / f"{case}.nii.gz"
    if not reference.exists():
        image = sitk.GetImageFromArray(np.zeros((10, 10), np.uint8))
        image.SetSpacing([10.0, 10.0])  # a pixel is 1 cm2
        sitk.WriteImage(image, str(reference))
    return {"reference_file": str(reference), "prediction_file": f"/somewhere/{case}.nii.gz", "metrics": metrics}


def text(folder: Path, entries: list[dict[str, Any]], cases: set[str], manifest: Manifest = SIGN_MANIFEST) -> str:
    return size_warnings_text(
        {"metric_per_case": entries}, manifest, dict(enumerate(SIGN_CLASSES, 1)), ".nii.gz", cases, "marginal"
    )


def test_the_predicted_size_stands_beside_the_usual_one(tmp_path: Path) -> None:
    entries = [
        entry(tmp_path, "a1", (8, 10), (6, 5)),
        entry(tmp_path, "a2", (8, 10), (90, 80)),  # interpolated: nobody drew it
        entry(tmp_path, "b1", (8, 10), (50, 0)),
        entry(tmp_path, "b2", (8, 10), (40, 0)),
    ]
    said = text(tmp_path, entries, set(SIGN_MANIFEST.cases)).splitlines()
    assert said[0].startswith("Mean predicted size (cm2)")
    # domain, class, cases, not predicted, predicted (50 + 40) / 2, reference, ratio, reference from, predicted there
    assert said[3].split() == ["b", "MYO", "2", "0", "45", "5", "9", "a", "6"]
    assert said[4].startswith("WARNING SIGN: marginal: in b, MYO ")
    assert re.findall(r"\d+ times|\d+ case\(s\)(?: of \w)?", said[4]) == ["9 times", "2 case(s)", "1 case(s) of a"]
    assert len(said) == 5


def test_a_lost_structure_is_told_and_strangers_do_not_count(tmp_path: Path) -> None:
    entries = [entry(tmp_path, "a1", (8, 10), (6, 5)), entry(tmp_path, "b1", (8, 10), (0, 0))]
    entries.append(entry(tmp_path, "b2", (8, 10), (5, 0)))
    said = text(tmp_path, entries, {"a1", "b1"})  # b2 was left in the folder by another split
    assert re.search(r"marginal: in b, MYO .* not .* 1 of 1 case", said)


def test_where_the_file_has_no_size_it_is_a_share_of_the_image(tmp_path: Path) -> None:
    entries = [entry(tmp_path, "a1", (8, 10), (6, 5)), entry(tmp_path, "b1", (8, 10), (5, 0))]
    entries[1]["reference_file"] = str(tmp_path / "gone.nii.gz")
    said = text(tmp_path, entries, {"a1", "b1"})
    assert "Mean predicted size (fraction of image)" in said
    assert "0.05  0.05" in " ".join(said.split()).replace(" ", "  ")
    assert "WARNING" not in said


def test_where_nobody_drew_it_at_all_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    said = text(tmp_path, [entry(tmp_path, "b1", (8, 10), (5, 0))], {"b1"}).splitlines()
    assert [line.split() for line in said[3:]] == [["b", "MYO", "1", "0", "5", "-", "-", "-", "-"]]


def test_nothing_is_said_where_everything_is_known(tmp_path: Path) -> None:
    assert text(tmp_path, [entry(tmp_path, "a1", (8, 10), (0, 5))], {"a1"}) == ""


# ---- while training --------------------------------------------------------------------------------------------------


def samples(*pairs: tuple[list[int], list[int]]) -> np.ndarray:
    """Counts of samples of four voxels each: predicted and true labels."""
    predicted = torch.tensor([pair[0] for pair in pairs])
    logits = torch.nn.functional.one_hot(predicted, 4)[..., :3].movedim(-1, 1).float()
    return confusion_counts(logits, torch.tensor([[pair[1]] for pair in pairs]), ignore_label=3).numpy()


def test_shares_of_patches_are_summed_by_domain() -> None:
    signs = SizeMonitor(SIGN_MANIFEST, SIGN_CLASSES, list(SIGN_MANIFEST.cases))
    drawn = samples(([1, 2, 0, 0], [1, 2, 2, 0]), ([2, 2, 2, 2], [2, 2, 2, 2]))
    signs.add(np.array(["a1", "a2"]), drawn)
    signs.add(["b1", "b2"], samples(([1, 2, 2, 2], [1, 0, 0, 0]), ([2, 2, 0, 0], [1, 0, 0, 3])))
    # MYO of b is unknown: predicted in 3 of 4 and in 2 of the 3 voxels that count, of a it is drawn in 2 of 4 (a2 is
    # interpolated), predicted in 1 of 4: (3/4 + 2/3) / 2 = 0.708 beside 0.5, no sign; LV is known everywhere
    assert signs.warning_text(ddp=False) == ""
    signs.add(
        ["b1", "b2", "a1"],
        samples(([2, 2, 2, 2], [1, 0, 0, 0]), ([2, 2, 2, 2], [1, 0, 0, 0]), ([2, 0, 0, 0], [2, 0, 0, 0])),
    )
    said = signs.warning_text(ddp=False)
    assert "MYO in b at 4 times" in said
    # predicted share, samples not annotated for it, those that show any; of a: annotated share, predicted share
    assert re.findall(r"[\d.]+%?", said) == ["4", "100.00%", "2", "2", "25.00%", "25.00%"]
    assert signs.warning_text(ddp=False) == ""  # begun anew
    assert "a1" not in repr(signs)


def sums(here: list[float], elsewhere: list[float]) -> np.ndarray:
    """Two domains, one class: unknown, predicted, share; drawn, shown, true share, predicted share."""
    return np.array([[here], [elsewhere]])


@pytest.mark.parametrize(
    ("here", "elsewhere", "said"),
    [
        ([10, 10, 1.9, 0, 0, 0, 0], [0, 0, 0, 10, 10, 1.0, 1.0], ""),
        ([10, 10, 2.0, 0, 0, 0, 0], [0, 0, 0, 10, 10, 1.0, 1.0], "at 2 times"),
        ([10, 10, 0.4, 0, 0, 0, 0], [0, 0, 0, 10, 10, 1.0, 1.0], "at 0.4 times"),
        ([10, 5, 1.0, 0, 0, 0, 0], [0, 0, 0, 10, 10, 1.0, 1.0], "of which 5 show any"),
        ([10, 3, 1.0, 0, 0, 0, 0], [0, 0, 0, 10, 5, 1.0, 1.0], ""),  # half of the patches show it: 3 of 10 is not lost
        ([10, 10, 3.0, 10, 10, 2.0, 2.0], [0, 0, 0, 10, 10, 1.0, 1.0], ""),  # drawn in other cases of the same domain
        ([10, 10, 9.0, 0, 0, 0, 0], [0, 0, 0, 10, 0, 0, 0], ""),  # drawn nowhere: nothing to compare with
        ([0, 0, 0, 10, 10, 1.0, 9.0], [0, 0, 0, 10, 10, 1.0, 1.0], ""),  # known: the pseudo Dice tells
    ],
)
def test_what_is_a_sign(here: list[float], elsewhere: list[float], said: str) -> None:
    phrases = patch_size_warnings(sums(here, elsewhere), ["b", "a"], ["MYO"])
    assert len(phrases) == bool(said)
    assert said in "".join(phrases)


def test_processes_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one saw the MYO drawn in a, the other saw b alone."""
    here, there = (SizeMonitor(SIGN_MANIFEST, SIGN_CLASSES, list(SIGN_MANIFEST.cases)) for _ in range(2))
    here.add(["a1"], samples(([2, 0, 0, 0], [2, 0, 0, 0])))
    there.add(["b1"], samples(([2, 2, 2, 2], [0, 0, 0, 0])))
    others = there._sums

    def gather(target: list[Any], mine: Any) -> None:
        target[:] = [mine, others]

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert "MYO in b at 4 times" in here.warning_text(ddp=True)


@pytest.fixture
def trainer(project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One epoch long, with a network that sees the ring everywhere."""
    for name, value in {"epochs": "1", "iterations": "1", "val_iterations": "2", "seed": "1"}.items():
        monkeypatch.setenv(f"nnUNet_partial_{name}", value)
    folder = project.preprocessed("Dataset701_Toy")
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    made = nnUNetTrainerMarginal(plans, "2d", 0, dataset_json, device=torch.device("cpu"))
    made.logger.local_logger.plot_progress_png = lambda folder: None  # takes a second
    made.on_train_start()
    with torch.no_grad():
        made.network.decoder.seg_layers[-1].bias[2] = 1000.0
    return made


def test_the_trainers_log_tells_both(trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train))])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val)) for _ in range(2)])
    trainer.on_epoch_end()
    (line,) = [line for line in Path(trainer.log_file).read_text().splitlines() if "Warning signs" in line]
    assert "MYO in b at " in line
    assert "(100.00% in " in line

    _, cases = trainer.do_split()
    entries = [entry(tmp_path, case, (8, 10), (50 if case.startswith("b") else 6, 5)) for case in cases]
    summary = {
        "metric_per_case": entries,
        "mean": {value: dict.fromkeys(entries[0]["metrics"][1], 0.0) for value in (1, 2)},
        "foreground_mean": dict.fromkeys(entries[0]["metrics"][1], 0.0),
    }
    monkeypatch.setattr(nnunet_trainer_module, "compute_metrics_on_folder", lambda *args, **kwargs: summary)
    with patch_validation_metrics(trainer._mask_summary):
        nnunet_trainer_module.compute_metrics_on_folder("", "", str(tmp_path / "summary.json"))
    said = Path(trainer.log_file).read_text()
    assert re.search(r"WARNING SIGN: nnUNetTrainerMarginal: in b, MYO .* 10 times .* area ", said)
    written = json.loads((tmp_path / "summary.json").read_text())["metric_per_case"]
    assert [math.isnan(case["metrics"]["2"]["n_pred"]) for case in written] == [case.startswith("b") for case in cases]


def test_the_summary_names_the_checkpoint_that_predicted(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--val_best` validates into the folder of the final one, whose summary must not stay beside mixed predictions."""
    summary: dict[str, Any] = {"metric_per_case": [], "mean": {}, "foreground_mean": {}}
    trainer._mask_summary(summary)
    assert summary["checkpoint"] == "checkpoint_final.pth"
    best, file = (Path(trainer.output_folder, name) for name in ("checkpoint_best.pth", "validation/summary.json"))
    trainer.save_checkpoint(str(best))
    trainer.load_checkpoint(str(best))
    trainer._mask_summary(summary)
    assert summary["checkpoint"] == "checkpoint_best.pth"

    def interrupted(self: Any, save_probabilities: bool) -> None:
        raise KeyboardInterrupt

    file.parent.mkdir()
    file.write_text("{}")
    monkeypatch.setattr(nnunet_trainer_module.nnUNetTrainer, "perform_actual_validation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.perform_actual_validation()
    assert not file.exists()


def test_names_that_the_locale_cannot_write_are_logged_all_the_same(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnU-Net opens its log in the encoding of the locale: ASCII with LC_ALL=C and PYTHONUTF8=0."""
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    trainer.print_to_log_file("p\u00e4", "\udce4", add_timestamp=False)
    assert Path(trainer.log_file).read_text().endswith("p\\xe4 \\udce4 \n")


def test_metrics_are_computed_with_one_process_at_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's branch for several nodes asks for none where nnUNet_n_proc_DA=0."""
    asked: list[int] = []

    def compute(*arguments: Any, num_processes: int) -> dict[str, Any]:
        asked.append(num_processes)
        return {"metric_per_case": [], "mean": {}}

    monkeypatch.setattr(nnunet_trainer_module, "compute_metrics_on_folder", compute)
    with patch_validation_metrics(lambda summary: None):
        for number in (0, 3):
            nnunet_trainer_module.compute_metrics_on_folder("", "", str(tmp_path / "s.json"), num_processes=number)
    assert asked == [1, 3]


# ---- what other loggers are told -------------------------------------------------------------------------------------


def test_no_logger_is_told_a_moving_average_spoilt_by_an_epoch_without_a_dice(tmp_path: Path) -> None:
    class Elsewhere:
        """Such as Weights & Biases."""

        def __init__(self) -> None:
            self.told: list[float] = []

        def log(self, key: str, value: Any, step: int) -> None:
            if key == "ema_fg_dice":
                self.told.append(value)

    logger = MetaLogger(str(tmp_path), False)
    elsewhere = Elsewhere()
    logger.loggers.append(elsewhere)
    patch_ema_logging(logger)
    for epoch, mean in enumerate([math.nan, 0.5, math.nan, 0.7]):
        logger.log("mean_fg_dice", mean, epoch)
    expected = [math.nan, 0.5, 0.5, 0.9 * 0.5 + 0.1 * 0.7]
    assert elsewhere.told == pytest.approx(expected, nan_ok=True)
    assert logger.local_logger.my_fantastic_logging["ema_fg_dice"] == pytest.approx(expected, nan_ok=True)
