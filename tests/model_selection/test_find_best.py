"""`nnunet_partial find-best` on drawn trainings: the best over what is known, not over what nobody drew."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing.dummy
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.raw_datasets import read_values
from helpers.trained_models import BEST, FINAL, FOLDS, NAME, TRUTH, Place, draw, record_checkpoint, write_plans

from nnunet_partial.cli import main
from nnunet_partial.model_selection.candidates import TrainedModel, cross_validation, single_candidate
from nnunet_partial.model_selection.find_best import inference_instructions
from nnunet_partial.model_selection.postprocessing import decide

#: Finds everything, also the MYO of domain b, apart from the LV (row 3) there: right, but nobody drew it.
FINDS = {"a1": [1, 1, 2], "a2": [1, 1, 2], "b3": [1, 1, 0, 2], "b4": [1, 1, 0, 2]}
#: Draws the MYO too thick where it is known (Dice 2 / 3), and loses it in domain b.
LOSES = {"a1": [1, 1, 2, 2], "a2": [1, 1, 2, 2], "b3": [1, 1], "b4": [1, 1]}

#: nnU-Net's own modules warn of what their libraries are about to drop
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
#: nnU-Net does not close the instructions that it writes, nor NumPy an archive that it cannot read
LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    return draw(tmp_path)


def find_best(*more: str) -> int:
    return main(["find-best", "-d", "510", "-np", "1", *more])


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def summary_of(model: Path) -> Any:
    return read(model / "crossval_results_folds_0_1" / "summary.json")


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's pools of processes, as threads: each would import PyTorch first."""
    from nnunetv2.evaluation import evaluate_predictions
    from nnunetv2.postprocessing import remove_connected_components

    threads = SimpleNamespace(get_context=lambda method: multiprocessing.dummy)
    for module in (evaluate_predictions, remove_connected_components):
        monkeypatch.setattr(module, "multiprocessing", threads)


# ---- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("in_threads")
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@LEAVES_FILES_OPEN
def test_the_best_over_what_is_known_is_not_nnunets_best(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """MYO of `finds`: Dice 1 where it is known; with the 0 of the two cases of b, that nobody drew, 0.5."""
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    finds, loses = place.train("finds", FINDS), place.train("loses", LOSES)
    theirs = find_best_configuration(
        NAME,
        [{"plans": "nnUNetPlans", "configuration": "2d", "trainer": name} for name in ("finds", "loses")],
        allow_ensembling=False,
        num_processes=1,
        folds=(0, 1),
    )
    assert theirs["all_results"] == {
        finds.name: (1 + (1 + 1 + 0 + 0) / 4) / 2,
        loses.name: pytest.approx((1 + 2 / 3) / 2),  # MYO of b: empty in both, left out
    }
    assert theirs["best_model_or_ensemble"]["selected_model_or_models"][0]["trainer"] == "loses"

    assert find_best("-c", "2d", "-tr", "finds", "loses", "--disable-ensembling") == 0
    ours = read(place.results / "inference_information.json")
    assert ours["all_results"] == {finds.name: 1.0, loses.name: pytest.approx((1 + 2 / 3) / 2)}
    assert ours["best_model_or_ensemble"]["selected_model_or_models"][0]["trainer"] == "finds"
    assert {key: type(value) for key, value in ours.items()} == {
        key: list if isinstance(value, tuple) else type(value) for key, value in theirs.items()
    }
    assert ours["best_model_or_ensemble"].keys() == theirs["best_model_or_ensemble"].keys()
    predict = (place.results / "inference_instructions.txt").read_text().split("nnUNetv2_predict ")[1].split()
    assert predict[:6] == ["-d", "Dataset510_Echo", "-i", "INPUT_FOLDER", "-o", "OUTPUT_FOLDER"]
    assert predict[6:13] == ["-f", "0", "1", "-tr", "finds", "-c", "2d"]
    assert "finds__nnUNetPlans__2d" in capsys.readouterr().out
    assert find_best("-c", "2d", "-tr", "finds", "loses", "--disable-ensembling", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["best"], document["scores"]) == (finds.name, ours["all_results"])
    assert document["information"] == str(place.results / "inference_information.json")
    assert {row["model"] for row in document["summary"]} == {finds.name, loses.name}


@pytest.mark.slow
def test_each_case_counts_once_by_the_fold_that_validated_it(place: Place) -> None:
    finds, loses = place.train("finds", FINDS), place.train("loses", LOSES)
    assert find_best("--disable-ensembling") == 0  # without -tr and -c: all that were trained
    summary = summary_of(loses)
    assert [Path(entry["prediction_file"]).name for entry in summary["metric_per_case"]] == [
        f"{case}.nii.gz" for case in ("a1", "a2", "b3", "b4")
    ]
    assert math.isnan(summary["metric_per_case"][2]["metrics"]["2"]["Dice"])  # b3 does not know MYO
    assert summary["mean"]["2"]["Dice"] == pytest.approx(2 / 3)
    for model in (finds, loses):
        names = {path.name for path in (model / "crossval_results_folds_0_1").iterdir()}
        assert names >= {"a1.nii.gz", "b4.nii.gz", "plans.json", "dataset.json", "summary.json"}
    with (place.results / "find_best" / "comparisons.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice" and row["class"] == "MYO"]
    (row,) = rows  # two patients: no proof of which is better
    assert (row["domain"], row["n_cases"], row["better"]) == ("a", "2", "")
    assert row["model_a" if float(row["rank_biserial"]) > 0 else "model_b"] == finds.name


@pytest.mark.slow
def test_an_ensemble_of_two_can_win(place: Place) -> None:
    """One leaves the LV's second row out, the other adds a row of MYO; both are unsure of that, and sure elsewhere."""
    unsure_of_background = {0: 0.6, 1: 0.9, 2: 0.9}
    unsure_of_muscle = {0: 0.9, 1: 0.9, 2: 0.6}
    one = place.train("one", {"a1": [1, 0, 2], "a2": [1, 0, 2], "b3": [1], "b4": [1]}, unsure_of_background)
    two = place.train("two", {"a1": [1, 1, 2, 2], "a2": [1, 1, 2, 2], "b3": [1, 1], "b4": [1, 1]}, unsure_of_muscle)
    assert find_best() == 0
    name = f"ensemble___{one.name}___{two.name}___0_1"
    folder = place.results / "ensembles" / name
    # row 1: LV 0.4 and 0.9, so LV; row 2: MYO 0.9 and 0.6; row 3: background 0.6 + 0.4 > MYO 0.6
    assert read_values(folder / "a1.nii.gz")[:4] == [1, 1, 2, 0]
    about = read(place.results / "inference_information.json")
    assert about["all_results"] == {
        one.name: pytest.approx((2 / 3 + 1) / 2),  # LV 2 * 1 / (1 + 2)
        two.name: pytest.approx((1 + 2 / 3) / 2),
        name: 1.0,
    }
    commands = (place.results / "inference_instructions.txt").read_text()
    second = commands.split("-o OUTPUT_FOLDER_MODEL_2 ")[1]
    assert second.startswith("-f 0 1 -tr two -c 2d -p nnUNetPlans --save_probabilities")
    ensemble = commands.split("nnUNetv2_ensemble ")[1].split()
    assert ensemble[:5] == ["-i", "OUTPUT_FOLDER_MODEL_1", "OUTPUT_FOLDER_MODEL_2", "-o", "OUTPUT_FOLDER"]

    (folder / "b3.nii.gz").unlink()
    shutil.copy(place.raw / "labelsTr" / "b3.nii.gz", folder / "a1.nii.gz")
    assert find_best("--no-overwrite") == 0
    assert read_values(folder / "a1.nii.gz")[:4] == [1, 1, 0, 0]  # kept as it was found
    assert read_values(folder / "b3.nii.gz")[:4] == [1, 1, 0, 0]  # was missing


# ---- post-processing -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_threads")
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_post_processing_is_not_chosen_on_what_nobody_drew(place: Place) -> None:
    """In b the MYO lies apart from the LV. nnU-Net removes it: Dice 0 becomes 'empty in both', and the mean rises."""
    from nnunetv2.evaluation.accumulate_cv_results import accumulate_cv_results
    from nnunetv2.postprocessing.remove_connected_components import determine_postprocessing

    finds = place.train("finds", FINDS)
    merged = finds / "crossval_results_folds_0_1"
    accumulate_cv_results(str(finds), str(merged), (0, 1), 1)
    theirs, _ = determine_postprocessing(str(merged), str(place.raw / "labelsTr"), None, None, 1)
    assert len(theirs) == 1
    assert read_values(merged / "postprocessed" / "b3.nii.gz")[:4] == [1, 1, 0, 0]

    assert find_best() == 0
    assert read(merged / "postprocessing.json")["postprocessing_fns"] == []
    assert read_values(merged / "postprocessed" / "b3.nii.gz")[:4] == [1, 1, 0, 2]


def test_tiff_volumes_keep_their_spacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net keeps it in CASE.json beside each prediction, z first."""
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    stray = {case: [*rows, 0, 1] for case, rows in TRUTH.items()}
    finds = draw(tmp_path, ".tif", (8, 6, 5)).train("finds", stray)
    assert find_best() == 0
    merged = finds / "crossval_results_folds_0_1"
    for folder in (merged, merged / "postprocessed"):
        assert {case: read(folder / f"{case}.json") for case in TRUTH} == {
            case: {"spacing": [2.0, 0.5, 0.5]} for case in TRUTH
        }
    assert read(merged / "postprocessing.json")["postprocessed"]["mean"]["1"]["Dice"] == 1.0


def test_post_processing_that_helps_is_chosen_and_nnunet_can_apply_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stray row of LV in every case: Dice 2 * 2 / (3 + 2) becomes 1."""
    from batchgenerators.utilities.file_and_folder_operations import load_pickle
    from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing

    stray = {"a1": [1, 1, 2, 0, 1], "a2": [1, 1, 2, 0, 1], "b3": [1, 1, 0, 1], "b4": [1, 1, 2, 1]}
    finds = place.train("finds", stray)
    assert find_best() == 0
    merged = finds / "crossval_results_folds_0_1"
    best = read(place.results / "inference_information.json")["best_model_or_ensemble"]
    assert best["result_on_crossval_pre_pp"] == pytest.approx((0.8 + 1) / 2)
    # all together helps a1, a2 and b3; in b4 the MYO holds LV and stray together: then the LV by itself
    assert read(merged / "postprocessing.json")["postprocessing_kwargs"] == [
        {"labels_or_regions": [1, 2]},
        {"labels_or_regions": 1},
    ]
    assert best["result_on_crossval_post_pp"] == 1.0
    assert read_values(merged / "postprocessed" / "b4.nii.gz")[:4] == [1, 1, 2, 0]
    said = capsys.readouterr().out
    assert "component of LV (Dice then 1.0000)" in said
    assert f"-pp_pkl_file {best['postprocessing_file']} -np 1 -plans_json {best['some_plans_file']}" in said
    functions, keywords = load_pickle(best["postprocessing_file"])
    column = np.array([[1], [0], [1], [1], [0], [2]])
    assert apply_postprocessing(column, functions, keywords).ravel().tolist() == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("plain", "together", "each", "both", "chosen"),
    [
        ([0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], ()),
        ([0.5, 0.5], [0.6, 0.5], [0.5, 0.5], [0.6, 0.5], ([1, 2],)),
        ([0.5, 0.5], [0.9, 0.4], [0.5, 0.6], [0.9, 0.7], (2,)),  # the second gets worse: not together
        ([0.5, 0.5], [0.6, 0.5], [0.9, 0.5], [0.6, 0.8], ([1, 2], 2)),
        ([0.5, math.nan], [0.6, math.nan], [0.7, math.nan], [0.7, math.nan], (1,)),  # the second is not known
        ([0.5], [0.6], [0.6], [0.6], ([1],)),  # a single structure: one step, as in nnU-Net
    ],
)
def test_steps_are_chosen_as_nnunet_does(
    plain: list[float], together: list[float], each: list[float], both: list[float], chosen: tuple[Any, ...]
) -> None:
    def measure(steps: Sequence[Any]) -> list[float]:
        alone, after = (together, both) if any(isinstance(step, list) for step in steps) else (plain, each)
        return [(after if number + 1 in steps else alone)[number] for number in range(len(plain))]

    assert decide([(number + 1,) for number in range(len(plain))], measure).labels == chosen


def test_a_step_that_changes_a_region_unmeasured_is_not_taken() -> None:
    """Of 1 and 2 (EPI), 1 (LV) and 3 (LA) each step helps what is known; the LV is known in no case."""
    regions = [(1, 2), (1,), (3,)]
    known = lambda steps: [0.5 + 0.1 * ((1, 2) in steps), math.nan, 0.5 + 0.1 * (3 in steps)]  # noqa: E731
    assert decide(regions, known).labels == (3,)
    assert decide(regions, lambda steps: [0.5, 0.5 + 0.1 * (1 in steps), 0.5]).labels == (1,)


# ---- the checkpoint --------------------------------------------------------------------------------------------------


def predict_command(place: Place) -> list[str]:
    text = (place.results / "inference_instructions.txt").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("nnUNetv2_predict")]
    return line.split()


def test_new_images_are_predicted_with_the_checkpoint_that_was_validated(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    finds = place.train("finds", FINDS)
    assert find_best() == 0
    assert "-chk" not in predict_command(place)  # nnU-Net's default is the final one
    for fold in (0, 1):  # --val_best: nnU-Net validates into the same folder
        record_checkpoint(finds / f"fold_{fold}", BEST)
    capsys.readouterr()
    assert find_best() == 0
    assert predict_command(place)[-2:] == ["-chk", BEST]
    assert "finds__nnUNetPlans__2d was validated with checkpoint_best.pth" in capsys.readouterr().out
    best = read(place.results / "inference_information.json")["best_model_or_ensemble"]
    assert best["selected_model_or_models"][0]["checkpoint"] == BEST


def test_folds_that_have_only_the_best_checkpoint_are_predicted_with_it(place: Place) -> None:
    place.train("finds", FINDS, checkpoints=[BEST])
    assert find_best() == 0
    assert predict_command(place)[-2:] == ["-chk", BEST]


@pytest.mark.slow
def test_each_model_of_an_ensemble_has_its_own_checkpoint(place: Place) -> None:
    sure = {0: 0.9, 1: 0.9, 2: 0.9}
    place.train("one", {**FINDS, "a1": [1, 1, 0]}, sure, [FINAL])
    place.train("two", {**FINDS, "a1": [1, 1, 0]}, sure, [BEST])
    assert find_best() == 0
    models = read(place.results / "inference_information.json")["considered_models"]
    assert [(model["trainer"], model["checkpoint"]) for model in models] == [("one", FINAL), ("two", BEST)]


def test_what_the_trainer_did_not_record_can_be_said(place: Place) -> None:
    place.train("finds", FINDS)
    assert find_best("-chk", BEST) == 0
    assert predict_command(place)[-2:] == ["-chk", BEST]


def test_a_checkpoint_that_is_gone_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    finds = place.train("finds", FINDS)
    (finds / "fold_1" / FINAL).unlink()
    (finds / "fold_1" / BEST).unlink()
    assert find_best() == 0
    assert "fold 1 has no checkpoint_final.pth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recorded", "left", "arguments", "said"),
    [
        ((FINAL, BEST), [FINAL, BEST], [], r"fold 1: checkpoint_best\.pth; fold 0: checkpoint_final\.pth\. .* "
         r"2d 1 -tr finds -p nnUNetPlans --val Or: nnUNetv2_train Dataset510_Echo 2d 0 .* --val --val_best"),
        ((None, BEST), [BEST], [], ""),
        ((FINAL, FINAL), [FINAL, BEST], ["-chk", BEST], "2d FOLD -tr finds -p nnUNetPlans --val --val_best"),
        ((BEST, BEST), [BEST], ["-chk", FINAL], "2d FOLD -tr finds -p nnUNetPlans --c"),
    ],
)  # fmt: skip
def test_folds_validated_with_different_checkpoints_are_named(
    place: Place,
    recorded: tuple[str | None, str | None],
    left: list[str],
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`nnUNetv2_predict` takes one checkpoint for all folds."""
    finds = place.train("finds", FINDS, checkpoints=left)
    for fold, name in enumerate(recorded):
        record_checkpoint(finds / f"fold_{fold}", name)
    assert find_best(*arguments) == bool(said)
    assert re.search(said, " ".join(capsys.readouterr().err.split()))


def test_a_validation_that_did_not_end_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a fold that is validated again, with another checkpoint, predictions of both are there."""
    finds = place.train("finds", FINDS, checkpoints=[BEST])
    (finds / "fold_1" / "validation" / "summary.json").unlink()
    assert find_best() == 1
    said = capsys.readouterr().err
    assert "fold 1 did not end" in said
    assert "nnUNetv2_train Dataset510_Echo 2d 1 -tr finds -p nnUNetPlans --c --val_best" in said


def only_fold_all(place: Place) -> None:
    model = place.train("finds", FINDS)
    shutil.rmtree(model / "fold_1")
    (model / "fold_0").rename(model / "fold_all")
    (place.preprocessed / "splits_final.json").unlink()  # nnU-Net makes none for it


def fold_all_beside_others(place: Place) -> None:
    shutil.copytree(place.train("finds", FINDS) / "fold_0", place.results / "finds__nnUNetPlans__2d" / "fold_all")


@pytest.mark.parametrize(
    ("trained", "arguments"),
    [(only_fold_all, []), (only_fold_all, ["-f", "all"]), (fold_all_beside_others, ["-f", "0", "all"])],
)
def test_nothing_can_be_chosen_by_fold_all(
    place: Place, trained: Callable[[Place], None], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(place)
    assert find_best(*arguments) == 1
    said = capsys.readouterr().err
    assert "nothing can be chosen by it" in said
    assert "-f all -tr finds -c 2d -p nnUNetPlans" in said


def test_fold_all_beside_the_cross_validation_does_not_count(place: Place) -> None:
    fold_all_beside_others(place)
    assert find_best() == 0
    assert predict_command(place)[7:11] == ["-f", "0", "1", "-tr"]


# ---- what is missing, wrong or left over -----------------------------------------------------------------------------


def without_fold(place: Place) -> None:
    shutil.rmtree(place.results / "finds__nnUNetPlans__2d" / "fold_1")


def without_prediction(place: Place) -> None:
    (place.results / "finds__nnUNetPlans__2d" / "fold_1" / "validation" / "b4.nii.gz").unlink()


def without_properties(place: Place) -> None:
    (place.results / "finds__nnUNetPlans__2d" / "fold_1" / "validation" / "b4.pkl").unlink()


def cut_probabilities(place: Place) -> None:
    file = place.results / "finds__nnUNetPlans__2d" / "fold_1" / "validation" / "b4.npz"
    file.write_bytes(file.read_bytes()[:100])


def cut_prediction(place: Place) -> None:
    (place.results / "finds__nnUNetPlans__2d" / "fold_1" / "validation" / "b4.nii.gz").write_bytes(b"half")


def of_another_data_set(place: Place) -> None:
    write_plans(place.results / "finds__nnUNetPlans__2d" / "plans.json", dataset_name="Dataset511_Other")


def with_other_classes(place: Place) -> None:
    file = place.results / "finds__nnUNetPlans__2d" / "dataset.json"
    file.write_text(file.read_text().replace('"MYO": 2', '"RV": 2'))


def without_split(place: Place) -> None:
    (place.preprocessed / "splits_final.json").unlink()


def with_a_case_in_two_folds(place: Place) -> None:
    place.split([*FOLDS, ["a1"]])


def with_another_manifest(place: Place) -> None:
    text = (place.raw / "partial_labels.json").read_text()
    (place.preprocessed / "partial_labels.json").write_text(text.replace('["LV"]', "[]"))


@pytest.mark.parametrize(
    ("harm", "arguments", "said"),
    [
        (without_fold, [], "fold 1. .*nnUNetv2_train Dataset510_Echo 2d 1 -tr finds"),
        (without_prediction, [], "fold 1 have no prediction: b4"),
        (without_properties, [], "b4. .*nnUNetv2_train Dataset510_Echo 2d 1 -tr finds .*--val"),
        pytest.param(cut_probabilities, [], "b4.npz cannot be averaged", marks=LEAVES_FILES_OPEN),
        (cut_prediction, [], "b4: .* finds__nnUNetPlans__2d cannot be read"),
        (of_another_data_set, [], "trained on Dataset511_Other, not Dataset510_Echo"),
        (with_other_classes, [], "'RV': 2"),
        (without_split, [], "splits_final.json does not exist"),
        (with_a_case_in_two_folds, ["-f", "0", "1", "2"], r"a1 \(folds 0 and 2\)\. Choose folds"),
        (with_another_manifest, [], r"partial_labels\.json .* differ.* --update-preprocessed"),
        (lambda place: None, ["-f", "0", "7"], "folds 0 to 1; asked for: 7"),
        (lambda place: None, ["-tr", "finds", "magic"], "no trained model of magic, plans nnUNetPlans"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named(
    place: Place, harm: Callable[[Place], None], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for trainer, rows in (("finds", FINDS), ("loses", LOSES)):
        place.train(trainer, rows, {0: 0.9, 1: 0.9, 2: 0.9})
    harm(place)
    assert find_best(*arguments) == 1
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not (place.results / "inference_instructions.txt").exists()


def test_a_training_that_was_refused_at_its_start_does_not_compete(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.train("finds", FINDS)
    (place.results / "refused__nnUNetPlans__2d" / "fold_0").mkdir(parents=True)
    (place.results / "refused__nnUNetPlans__3d_fullres" / "fold_0").mkdir(parents=True)
    assert find_best("-c", "2d") == 0
    said = capsys.readouterr().out
    assert re.search(r"refused__nnUNetPlans__2d .* no plans\.json .* left out", said)
    assert "3d_fullres" not in said
    assert f"all numbers: {place.results / 'find_best'}\n" in said
    assert find_best("-tr", "finds", "refused") == 1
    assert re.search("no trained model of refused, .*any configuration", capsys.readouterr().err)


@pytest.mark.slow
def test_probabilities_are_only_needed_for_ensembles(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.train("finds", FINDS)
    place.train("loses", LOSES)
    assert find_best() == 1
    assert "compare without ensembles: --disable-ensembling" in capsys.readouterr().err
    assert find_best("--disable-ensembling") == 0


def test_what_is_left_over_is_named_and_does_not_count(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    finds = place.train("finds", FINDS)
    shutil.copy(place.raw / "labelsTr" / "b3.nii.gz", finds / "fold_0" / "validation" / "a2.nii.gz")  # of another split
    assert find_best("-f", "0") == 0
    said = capsys.readouterr().out
    assert "by none of these folds: a2, b4" in said
    assert "1 prediction(s) of fold 0 are not its cases: a2" in said
    assert not (finds / "crossval_results_folds_0" / "a2.nii.gz").exists()


def test_masks_that_nobody_drew_do_not_count(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    finds = place.train("finds", {**FINDS, "a2": [1, 1]})
    manifest = read(place.raw / "partial_labels.json")
    manifest["cases"]["a2"]["interpolated"] = True
    (place.raw / "partial_labels.json").write_text(json.dumps(manifest))
    assert find_best() == 0
    assert "1 case(s) with interpolated masks" in capsys.readouterr().out
    assert summary_of(finds)["mean"]["2"]["Dice"] == 1.0
    assert len(summary_of(finds)["metric_per_case"]) == 3


def test_an_official_fold_is_not_part_of_the_cross_validation() -> None:
    def split(*val: str) -> dict[str, list[str]]:
        return {"train": [], "val": list(val)}

    assert cross_validation([split("a"), split("b"), split("a", "c")]) == [0, 1]
    assert cross_validation([split("a"), split("b")]) == [0, 1]


def test_the_second_stage_of_a_cascade_is_told_where_the_first_went(tmp_path: Path) -> None:
    configurations = {
        "3d_lowres": {},
        "3d_cascade_fullres": {"inherits_from": "x"},
        "x": {"previous_stage": "3d_lowres"},
    }
    model = TrainedModel(tmp_path, "T", "P", "3d_cascade_fullres")
    write_plans(tmp_path / "plans.json", configurations=configurations)
    text = inference_instructions("510", (0,), single_candidate(model, (0,)), 1, postprocessed=False)
    first, second = [line for line in text.splitlines() if line.startswith("nnUNetv2_predict")]
    assert "-o OUTPUT_FOLDER_PREV_STAGE -f 0 -tr T -c 3d_lowres" in first
    assert "nnUNetv2_apply_postprocessing" not in text
    cascade = ["-c", "3d_cascade_fullres", "-p", "P", "-prev_stage_predictions", "OUTPUT_FOLDER_PREV_STAGE"]
    assert second.split()[-6:] == cascade


def test_the_first_stage_of_a_cascade_is_predicted_with_what_was_trained(tmp_path: Path) -> None:
    """Often as fold all alone, since the second stage needs its prediction of every case."""
    (tmp_path / "T__P__3d_lowres" / "fold_all").mkdir(parents=True)
    (tmp_path / "T__P__3d_lowres" / "fold_all" / BEST).touch()
    model = TrainedModel(tmp_path / "T__P__3d_cascade_fullres", "T", "P", "3d_cascade_fullres")
    model.folder.mkdir()
    write_plans(model.folder / "plans.json", configurations={model.configuration: {"previous_stage": "3d_lowres"}})
    text = inference_instructions("510", (0, 1), single_candidate(model, (0, 1)), 1, postprocessed=False)
    first, second = [line for line in text.splitlines() if line.startswith("nnUNetv2_predict")]
    assert "-o OUTPUT_FOLDER_PREV_STAGE -f all -tr T -c 3d_lowres -p P -chk checkpoint_best.pth" in first
    assert "-f 0 1 -tr T -c 3d_cascade_fullres" in second
