"""Figures of models that were trained on pseudo-labels: said to be not independent, and never ranked beside others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.raw_datasets import snapshot
from helpers.trained_models import NAME, TRUTH, Place, draw

from nnunet_partial.active_learning.folds import trained_cases
from nnunet_partial.cli import main
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.independence import (
    WIDENED_NAME,
    cases_of_seen,
    cases_seen_in_training,
    hashed_names,
    independence_text,
    require_comparable,
)
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.model_selection.candidates import TrainedModel

pytestmark = WARNINGS_OF_NNUNET
FILLED, PLAIN = "nnUNetTrainerMarginal", "nnUNetTrainerACCE"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Two trainers; the manifest has a pseudo-label in b4, and one of the two was trained after that."""
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    place = draw(tmp_path)
    for trainer in (FILLED, PLAIN):
        place.train(trainer, TRUTH)
    see(place, *TRUTH)
    mark(place)
    return place


def mark(place: Place) -> None:
    """The model was trained on what the manifest says now."""
    file = place.results / f"{FILLED}__nnUNetPlans__2d" / "dataset.json"
    filled = {"dataset": NAME, "source": "Dataset509", "hash": Manifest.read(place.raw / MANIFEST_NAME).fill_hash}
    file.write_text(json.dumps({**json.loads(file.read_text()), "pseudo_labels": filled}))


def see(place: Place, *cases: str) -> None:
    for file in (place.raw / "partial_labels.json", place.preprocessed / "partial_labels.json"):
        content = json.loads((place.raw / "partial_labels.json").read_text())
        for case, entry in content["cases"].items():
            entry["seen_by_filling_model"] = case in cases
        content["cases"]["b4"]["pseudo"] = ["MYO"]
        file.write_text(json.dumps({**content, "fill": {"source": "Dataset509"}}))


def evaluate(place: Place, *trainers: str, ref: str = "labelsTr") -> int:
    given = [
        word
        for trainer in trainers
        for word in ("--pred", f"{trainer}={place.results / f'{trainer}__nnUNetPlans__2d' / 'fold_0' / 'validation'}")
    ]
    return main(["evaluate", "-d", "510", "--ref", ref, "-o", str(place.root / "out"), "-np", "1", *given])


def test_the_sentence_counts_the_cases_that_were_seen() -> None:
    seen = {"seen_by_filling_model": True}
    cases = {"a": CaseLabels(("LV",), info=seen), "b": CaseLabels(("LV",)), "c": CaseLabels(("LV",), pseudo=("LA",))}
    assert cases_seen_in_training(Manifest(cases), ["a", "b"]) == ["a"]
    assert "1 of the 2" in independence_text(["a"], ["a", "b"])
    assert independence_text([], ["b"]) == ""
    unfilled = Manifest({**cases, "c": CaseLabels(("LV",))})
    assert cases_seen_in_training(unfilled, ["a"]) == []


def test_only_models_alike_may_be_ranked() -> None:
    require_comparable({"x": [], "y": []})
    require_comparable({"x": ["a"], "y": ["b"]})
    with pytest.raises(PartialLabelError, match="case_7"):
        require_comparable({"x": ["case_7"], "y": []})


def test_evaluate_says_so_and_ranks_nothing_beside_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(place, FILLED)
    assert "not independent" in capsys.readouterr().out
    out = place.root / "out"
    assert json.loads((out / "evaluation.json").read_text())["not_independent"] == {FILLED: 2}
    assert json.loads((out / FILLED / "summary.json").read_text())["not_independent"] == 2
    before = snapshot(place.root)
    assert evaluate(place, FILLED, PLAIN) == 1
    said = capsys.readouterr().err
    assert "not independent" in said
    assert "a1" in said
    assert snapshot(place.root) == before
    evaluate(place, PLAIN)
    assert "not independent" not in capsys.readouterr().out
    assert "not_independent" not in json.loads((out / "evaluation.json").read_text())


@pytest.mark.slow
def test_cases_that_no_filling_model_saw_are_compared(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    see(place, "a2", "b4")  # fold 0 validates a1 and b3
    mark(place)
    evaluate(place, FILLED, PLAIN)
    assert "not independent" not in capsys.readouterr().out
    assert (place.root / "out" / "ranks.csv").exists()


@pytest.mark.slow
def test_without_the_manifest_of_the_filled_dataset_all_training_cases_count_as_seen(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predictions of a filled dataset that is not here, compared with the labels of its source."""
    for file in (place.raw / "partial_labels.json", place.preprocessed / "partial_labels.json"):
        content = json.loads(file.read_text())
        del content["fill"], content["cases"]["b4"]["pseudo"]
        for entry in content["cases"].values():
            del entry["seen_by_filling_model"]
        file.write_text(json.dumps(content))
    file = place.results / f"{FILLED}__nnUNetPlans__2d" / "dataset.json"
    file.write_text(file.read_text().replace(f'"dataset": "{NAME}"', '"dataset": "Dataset611_Elsewhere"'))
    assert evaluate(place, FILLED, PLAIN) == 1
    assert "not independent" in capsys.readouterr().err
    (place.raw / "labelsTs").symlink_to(place.raw / "labelsTr")
    evaluate(place, FILLED, PLAIN, ref="labelsTs")
    assert "not independent" not in capsys.readouterr().out


def leaks_of(place: Place, predictions: Path, ref: str) -> list[str]:
    main(
        ["evaluate", "-d", "510", "--ref", ref, "-o", str(place.root / "out"), "-np", "1", "--pred", f"m={predictions}"]
    )
    cautions = json.loads((place.root / "out" / "evaluation.json").read_text()).get("cautions", [])
    return [text for text in cautions if "name a patient" not in text]


def test_predictions_of_training_cases_are_called_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    model = place.results / f"{PLAIN}__nnUNetPlans__2d"
    assert leaks_of(place, model / "fold_0" / "validation", "labelsTr") == []
    assert "was trained on" not in capsys.readouterr().out
    predicted = shutil.copytree(model / "fold_0" / "validation", place.root / "predicted")
    assert leaks_of(place, predicted, "labelsTr") == []  # of an unknown model
    shutil.copy(model / "plans.json", predicted)
    shutil.copytree(model / "fold_0", model / "fold_all")
    (place.raw / "labelsTr_full").symlink_to(place.raw / "labelsTr")
    for folder, ref in (
        (predicted, "labelsTr"),
        (predicted, "labelsTr_full"),
        (model / "fold_all/validation", "labelsTr"),
    ):
        (text,) = leaks_of(place, folder, ref)
        assert text.startswith(f"m was trained on {NAME}")
        assert f"NOTE: {text}." in capsys.readouterr().out


@pytest.mark.parametrize("part", ["Tr", "Ts"])
def test_cases_that_are_training_cases_of_another_dataset_are_named(place: Place, part: str) -> None:
    """The model was trained on a dataset that was made from this one; a1 is in it, b3 is another image there."""
    predicted = place.root / "predicted"
    shutil.copytree(place.results / f"{PLAIN}__nnUNetPlans__2d" / "fold_0" / "validation", predicted)
    other = place.raw.with_name("Dataset601_Scenario")
    shutil.copytree(place.raw, other)
    if part == "Ts":
        for name in ("images", "labels"):
            (place.raw / f"{name}Tr").rename(place.raw / f"{name}Ts")
    image = next((other / "imagesTr").glob("b3_0000*"))
    image.write_bytes(image.read_bytes() + b"another")
    assert leaks_of(place, predicted, f"labels{part}") == []
    (predicted / "plans.json").write_text(json.dumps({"dataset_name": other.name}))
    (text,) = leaks_of(place, predicted, f"labels{part}")
    assert text.startswith(f"m was trained on {other.name}")
    assert "a1" in text
    assert "b3" not in text
    content = json.loads((other / "dataset.json").read_text())
    moved = {"a1": {"images": ["moved.nii.gz"], "label": "labelsTr/a1.nii.gz"}}
    for broken in ({**content, "dataset": moved}, {}):
        (other / "dataset.json").write_text(json.dumps(broken))
        assert leaks_of(place, predicted, f"labels{part}") == []


def test_training_images_in_the_test_set_are_named_under_other_names(place: Place) -> None:
    """As a merge with a prefix has them; of this dataset, too. b3 is another image of the same size there."""
    predicted = place.root / "predicted"
    shutil.copytree(place.results / f"{PLAIN}__nnUNetPlans__2d" / "fold_0" / "validation", predicted)
    other = place.raw.with_name("Dataset601_Merged")
    shutil.copytree(place.raw, other)
    for folder in ("imagesTr", "labelsTr"):
        for file in (other / folder).iterdir():
            file.rename(file.with_name(f"B_{file.name}"))
    image = next((other / "imagesTr").glob("B_b3_0000*"))
    content = bytearray(image.read_bytes())
    content[-1] ^= 255
    image.write_bytes(content)
    for name in ("images", "labels"):
        (place.raw / f"{name}Tr").rename(place.raw / f"{name}Ts")
    for trained_on in (other.name, place.raw.name):
        (predicted / "plans.json").write_text(json.dumps({"dataset_name": trained_on}))
        (text,) = leaks_of(place, predicted, "labelsTs")
        assert text.startswith(f"m was trained on {trained_on}")
        assert "a1 = B_a1" in text
        assert "b3" not in text
        shutil.copytree(other / "imagesTr", place.raw / "imagesTr", dirs_exist_ok=True)


def test_test_cases_of_patients_in_training_are_named(place: Place) -> None:
    """t1 is of the patient of a1, a training case, and t2 of nobody else."""
    content = json.loads((place.raw / MANIFEST_NAME).read_text())
    content["cases"]["a1"]["patient"] = "someone"
    validated = place.results / f"{PLAIN}__nnUNetPlans__2d" / "fold_0" / "validation" / "a1.nii.gz"
    for folder in (place.raw / "labelsTs", place.root / "predicted"):
        folder.mkdir()
    for case, patient in (("t1", "someone"), ("t2", "nobody")):
        content["cases"][case] = {"annotated": ["LV", "MYO"], "domain": "a", "patient": patient, "split": "test"}
        shutil.copy(place.raw / "labelsTr" / "a1.nii.gz", place.raw / "labelsTs" / f"{case}.nii.gz")
        shutil.copy(validated, place.root / "predicted" / f"{case}.nii.gz")
    (place.raw / MANIFEST_NAME).write_text(json.dumps(content))
    (text,) = leaks_of(place, place.root / "predicted", "labelsTs")
    assert text.startswith("1 of the test")
    assert text.endswith(": t1")
    content["cases"]["a1"]["patient"] = "another"
    (place.raw / MANIFEST_NAME).write_text(json.dumps(content))
    assert leaks_of(place, place.root / "predicted", "labelsTs") == []
    content["cases"]["a1"]["patient"] = "Nobody "
    (place.raw / MANIFEST_NAME).write_text(json.dumps(content))
    (text,) = leaks_of(place, place.root / "predicted", "labelsTs")
    assert text.endswith(": 'Nobody ' = 'nobody'")


@pytest.mark.slow
def test_find_best_says_so_and_ranks_nothing_beside_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(place.root)
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling"]) == 1
    assert "not independent" in capsys.readouterr().err
    assert snapshot(place.root) == before
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling", "-tr", FILLED]) == 0
    assert "not independent" in capsys.readouterr().out
    (summary,) = place.results.glob(f"{FILLED}__*/crossval_results_folds_0_1/summary.json")
    assert json.loads(summary.read_text())["not_independent"] == 4
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling", "-tr", PLAIN]) == 0
    assert "not independent" not in capsys.readouterr().out
    see(place)
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling"]) == 1  # filled anew since the training
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling", "-tr", FILLED]) == 0
    assert "not independent" in capsys.readouterr().out
    mark(place)
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling"]) == 0


def test_a_model_is_judged_by_the_manifest_that_it_was_trained_by(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    see(place)  # filled anew, by a model that saw nobody
    assert evaluate(place, FILLED, PLAIN) == 1
    assert "not independent" in capsys.readouterr().err


def test_patients_whom_only_the_reference_knows_count_as_seen() -> None:
    filled = Manifest({"a1": CaseLabels(("LV",), patient="p1", info={"seen_by_filling_model": True})})
    other_frames = {"a1_ES": CaseLabels(("LV",), patient="p1"), "c1": CaseLabels(("LV",), patient="p2")}
    reference = Manifest({**other_frames, "p1": CaseLabels(("LV",))})
    assert filled.seen_by_filling_model(["a1_ES", "c1", "p1"]) == ["p1"]
    assert filled.seen_by_filling_model(["a1_ES", "c1", "p1"], reference) == ["a1_ES", "p1"]


def test_a_recording_gives_away_a_patient_of_another_name() -> None:
    """x1 is patient pa by name; the recording of b1 was seen, so that the other cases of its patient were."""
    entry = lambda patient, frames: CaseLabels(("LV",), patient=patient, info={"frame_hash": frames})  # noqa: E731
    old = Manifest({"v1": entry("pa", "h1")})
    new = Manifest({"x1": entry("pa", None), "b1": entry("pb", "h1"), "b2": entry("pb", "h2"), "c1": entry("pc", "h3")})
    assert cases_of_seen(new, ["c1", "b2", "x1", "b1"], hashed_names(old, ["v1"])) == ["b2", "x1", "b1"]


def start(place: Place, fold: int, seen: list[str] | None) -> None:
    """A fold of the model on human annotations was widened from a model that has seen these cases; None: not known."""
    model = place.results / f"{PLAIN}__nnUNetPlans__2d"
    names = None if seen is None else sorted(hashed_names(Manifest({}), seen))
    (model / f"fold_{fold}" / WIDENED_NAME).write_text(json.dumps({"seen": names}))
    for file in (model / "dataset.json", place.root / "predicted" / "dataset.json"):
        if file.exists():
            said = {"widened": f"{NAME}/{model.name}"}
            file.write_text(json.dumps({**json.loads(file.read_text()), **said}))


def counted(place: Place) -> dict[str, int]:
    content = json.loads((place.root / "out" / "evaluation.json").read_text())
    return dict(content.get("not_independent", {}))


@pytest.mark.slow
def test_evaluate_says_what_the_start_of_a_widened_model_has_seen(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    see(place)
    mark(place)
    start(place, 0, None)  # fold 0 validates a1 and b3
    evaluate(place, PLAIN)
    assert "not independent" in capsys.readouterr().out
    assert counted(place) == {PLAIN: 2}
    before = snapshot(place.root)
    assert evaluate(place, FILLED, PLAIN) == 1
    assert PLAIN in capsys.readouterr().err
    assert snapshot(place.root) == before
    start(place, 0, ["b3", "a2"])  # the latter is validated by fold 1
    evaluate(place, PLAIN)
    assert counted(place) == {PLAIN: 1}
    start(place, 0, [])
    evaluate(place, FILLED, PLAIN)
    assert counted(place) == {}


def test_predictions_elsewhere_count_for_all_folds_of_a_widened_model(place: Place) -> None:
    see(place)
    mark(place)
    model = place.results / f"{PLAIN}__nnUNetPlans__2d"
    predicted = place.root / "predicted"
    shutil.copytree(model / "fold_0" / "validation", predicted)
    shutil.copy(model / "dataset.json", predicted)
    (place.raw / "labelsTs").symlink_to(place.raw / "labelsTr")
    place.root.joinpath("out").mkdir()
    call = ["evaluate", "-d", "510", "--ref", "labelsTs", "-o", str(place.root / "out"), "-np", "1"]
    call += ["--pred", f"x={predicted}"]
    start(place, 1, ["a1"])
    main(call)
    assert counted(place) == {"x": 1}
    start(place, 0, ["b3"])
    main(call)
    assert counted(place) == {"x": 2}
    start(place, 1, [])
    start(place, 0, [])
    main(call)
    assert counted(place) == {}
    shutil.rmtree(model)  # nothing tells what the model has seen
    main(call)
    assert counted(place) == {"x": 2}


def test_what_the_start_of_a_filling_model_has_seen_counts_as_its_training(place: Place) -> None:
    model = TrainedModel(place.results / f"{PLAIN}__nnUNetPlans__2d", PLAIN, "nnUNetPlans", "2d")
    dataset = RawDataset(place.raw)
    assert trained_cases(dataset, place.preprocessed, model, [0]) == {"a2", "b4"}
    start(place, 0, ["b3"])
    assert trained_cases(dataset, place.preprocessed, model, [0]) == {"a2", "b4", "b3"}


@pytest.mark.slow
def test_find_best_says_what_the_start_of_a_widened_model_has_seen(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    see(place)
    mark(place)
    start(place, 0, ["b3", "a2"])  # fold 1, which validates a2, was not widened
    before = snapshot(place.root)
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling"]) == 1
    assert PLAIN in capsys.readouterr().err
    assert snapshot(place.root) == before
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling", "-tr", PLAIN]) == 0
    assert "not independent" in capsys.readouterr().out
    (summary,) = place.results.glob(f"{PLAIN}__*/crossval_results_folds_0_1/summary.json")
    assert json.loads(summary.read_text())["not_independent"] == 1
    start(place, 0, [])
    assert main(["find-best", "-d", "510", "-np", "1", "--disable-ensembling"]) == 0


@pytest.mark.parametrize("how", [["--by-patient"], ["--leave-domain-out"]])
def test_a_filled_dataset_keeps_its_folds(place: Place, how: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(place.root)
    assert main(["splits", "-d", "510", *how]) == 1
    assert NAME in capsys.readouterr().err
    assert snapshot(place.root) == before
