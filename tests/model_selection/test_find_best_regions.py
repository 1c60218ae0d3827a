"""`nnunet_partial find-best` on drawn trainings of regions, which overlap."""

from __future__ import annotations

import json
import multiprocessing.dummy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.facts import says
from helpers.raw_datasets import read_values
from helpers.trained_models import NAME, TRUTH, Place, draw, save_probabilities

from nnunet_partial.cli import main
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest

#: In a, EPI is rows 0 to 2 and the LV in it rows 0 and 1; in b, where EPI alone is known, rows 0 and 1, stored as 1.
LABELS, ORDER = {"background": 0, "EPI": [1, 2], "LV": [1]}, [2, 1]

#: The LV is right, but there is a stray row of EPI in b, which a largest component would remove.
STRAY = {"a1": [1, 1, 2], "a2": [1, 1, 2], "b3": [1, 1, 0, 2], "b4": [1, 1, 0, 2]}
#: In a, EPI has a stray row apart; in b EPI is too long, and at its end the LV has a stray row.
PARTS = {"a1": [1, 1, 2, 0, 2], "a2": [1, 1, 2, 0, 2], "b3": [1, 1, 2, 1], "b4": [1, 1, 2, 1]}
#: EPI is right, but of two rows of LV one is found; in b none, where it is not known.
SMALL = {"a1": [1, 2, 2], "a2": [1, 2, 2], "b3": [2, 2], "b4": [2, 2]}

# nnU-Net's own modules warn of what their libraries are about to drop, and leave files open
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    drawn = draw(tmp_path)
    file = drawn.raw / "dataset.json"
    file.write_text(json.dumps({**read(file), "labels": LABELS, "regions_class_order": ORDER}))
    declare(drawn, of_b=("EPI",))
    return drawn


def declare(place: Place, of_b: tuple[str, ...]) -> None:
    known = {"a": ("EPI", "LV"), "b": of_b}
    Manifest({case: CaseLabels(known[case[0]], domain=case[0]) for case in TRUTH}).write(place.raw / MANIFEST_NAME)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def find_best(*more: str) -> int:
    return main(["find-best", "-d", "510", "-np", "1", *more])


@pytest.mark.slow
def test_the_best_over_the_regions_that_are_known(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    stray, small = place.train("stray", STRAY), place.train("small", SMALL)
    assert find_best("--disable-ensembling") == 0
    about = read(place.results / "inference_information.json")
    # EPI of b, two rows of three: 2 * 2 / (2 + 3); the LV of one row: 2 * 1 / (2 + 1), in a alone
    scores = {stray.name: ((1 + 4 / 5) / 2 + 1) / 2, small.name: (1 + 2 / 3) / 2}
    assert about["all_results"] == pytest.approx(scores)
    best = about["best_model_or_ensemble"]
    assert best["selected_model_or_models"][0]["trainer"] == "stray"
    merged = stray / "crossval_results_folds_0_1"
    assert read(merged / "summary.json")["mean"].keys() == {"(1, 2)", "(1,)"}
    # without the stray row EPI is right in b, too
    assert best["result_on_crossval_post_pp"] == 1.0
    assert read(merged / "postprocessing.json")["postprocessing_kwargs"] == [{"labels_or_regions": [1, 2]}]
    assert read_values(merged / "postprocessed" / "b3.nii.gz")[:4] == [1, 1, 0, 0]
    assert f"-pp_pkl_file {best['postprocessing_file']}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_all_is_as_nnunet_does_it_where_everything_is_known(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunetv2.evaluation import evaluate_predictions
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration
    from nnunetv2.postprocessing import remove_connected_components

    threads = SimpleNamespace(get_context=lambda method: multiprocessing.dummy)  # each process would import PyTorch
    for module in (evaluate_predictions, remove_connected_components):
        monkeypatch.setattr(module, "multiprocessing", threads)
    declare(place, of_b=("EPI", "LV"))
    for name, rows in (("parts", PARTS), ("small", SMALL)):
        place.train(name, rows)
    models = [{"plans": "nnUNetPlans", "configuration": "2d", "trainer": name} for name in ("parts", "small")]
    theirs = find_best_configuration(NAME, models, allow_ensembling=False, num_processes=1, folds=(0, 1))
    merged = place.results / "parts__nnUNetPlans__2d" / "crossval_results_folds_0_1"
    steps = read(merged / "postprocessing.json")["postprocessing_kwargs"]
    images = {case: read_values(merged / "postprocessed" / f"{case}.nii.gz") for case in TRUTH}
    assert find_best("--disable-ensembling") == 0
    ours = read(place.results / "inference_information.json")
    assert ours["all_results"] == pytest.approx(theirs["all_results"])
    score = "result_on_crossval_post_pp"
    assert ours["best_model_or_ensemble"][score] == pytest.approx(theirs["best_model_or_ensemble"][score])
    # all together, of which nothing is left to do for EPI; then the LV
    assert steps == [{"labels_or_regions": [1, 2]}, {"labels_or_regions": [1]}]
    assert read(merged / "postprocessing.json")["postprocessing_kwargs"] == [steps[0], {"labels_or_regions": 1}]
    assert {case: read_values(merged / "postprocessed" / f"{case}.nii.gz") for case in TRUTH} == images
    assert "all structures together, then the largest component of LV" in capsys.readouterr().out


@pytest.mark.slow
def test_an_ensemble_averages_each_region(place: Place) -> None:
    """Of the LV one model is too sure in row 2, the other not sure enough in row 1."""
    models = {
        "large": ([1, 1, 1], [0.9, 0.9, 0.6]),
        "small": ([1, 2, 2], [0.9, 0.4, 0.1]),
    }
    for name, (rows, sureness) in models.items():
        folder = place.train(name, dict.fromkeys(TRUTH, rows))
        probabilities = np.full((2, 1, 8, 6), 0.1, np.float32)
        probabilities[0, 0, :3] = 0.9
        probabilities[1, 0, :3] = np.array(sureness)[:, None]
        for file in folder.glob("fold_*/validation/*.nii.gz"):
            save_probabilities(Path(str(file).removesuffix(".nii.gz")), probabilities)
    assert find_best() == 0
    (folder,) = (place.results / "ensembles").iterdir()
    # the LV: 0.9, (0.9 + 0.4) / 2 and (0.6 + 0.1) / 2
    assert read_values(folder / "a1.nii.gz")[:4] == [1, 1, 2, 0]
    # EPI of b, two rows of three: 4 / 5
    assert read(place.results / "inference_information.json")["all_results"][folder.name] == pytest.approx(
        ((1 + 4 / 5) / 2 + 1) / 2
    )


def test_a_model_that_stores_regions_by_other_values_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    file = place.train("stray", STRAY) / "dataset.json"
    file.write_text(json.dumps({**read(file), "regions_class_order": [1, 1]}))
    assert find_best() == 1
    assert capsys.readouterr().err == says(str(file.parent), "regions_class_order [1, 1]", "[2, 1]")
