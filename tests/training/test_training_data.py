"""What a training reads before its first iteration, without a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_partial.dataset.preprocessed import read_manifest
from nnunet_partial.dataset.splits import SPLITS_NAME
from nnunet_partial.errors import ManifestError, PartialLabelError, SplitError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.training.run_record import RunSettings
from nnunet_partial.training.startup_checks import TrainingData

CASES = ["p0_a", "p0_b", "p1_a", "p2_a"]
MANIFEST = Manifest({case: CaseLabels(("LV",), patient=case[:2]) for case in CASES})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """preprocessed, raw"""
    for name in ("preprocessed", "raw"):
        (tmp_path / name).mkdir()
    return tmp_path / "preprocessed", tmp_path / "raw"


def training_data(preprocessed: Path, raw: Path | None, manifest: Manifest, cases: list[str]) -> TrainingData:
    labels = {"background": 0, "LV": 1, "RV": 2}
    return TrainingData(preprocessed, raw, None, {"labels": labels}, manifest, tuple(cases))


def test_the_raw_manifest_is_copied_once(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    MANIFEST.write(raw / MANIFEST_NAME)
    assert read_manifest(preprocessed, raw) == MANIFEST
    assert (preprocessed / MANIFEST_NAME).read_bytes() == (raw / MANIFEST_NAME).read_bytes()
    assert read_manifest(preprocessed, None) == MANIFEST


def test_manifests_that_differ_only_in_layout_agree(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    MANIFEST.write(raw / MANIFEST_NAME)
    (preprocessed / MANIFEST_NAME).write_text(json.dumps(MANIFEST.to_json()))
    assert read_manifest(preprocessed, raw) == MANIFEST


def test_the_raw_split_is_taken_and_checked(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    (raw / SPLITS_NAME).write_text(json.dumps([{"train": ["p0_a", "p0_b", "p1_a"], "val": ["p2_a"]}]))
    assert training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(0) == []
    assert json.loads((preprocessed / SPLITS_NAME).read_text())[0]["val"] == ["p2_a"]
    with pytest.raises(SplitError, match="folds 0 to 0; fold 1"):
        training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(1)


def test_a_leaking_raw_split_is_not_taken(folders: tuple[Path, Path]) -> None:
    preprocessed, raw = folders
    (raw / SPLITS_NAME).write_text(json.dumps([{"train": ["p0_a", "p1_a"], "val": ["p0_b", "p2_a"]}]))
    with pytest.raises(SplitError, match=r"both sides: p0\."):
        training_data(preprocessed, raw, MANIFEST, CASES).prepare_splits(0)
    assert not (preprocessed / SPLITS_NAME).exists()


def test_a_split_that_forgets_a_case_is_refused(folders: tuple[Path, Path]) -> None:
    preprocessed, _ = folders
    (preprocessed / SPLITS_NAME).write_text(json.dumps([{"train": ["p0_a", "p0_b"], "val": ["p2_a"]}]))
    with pytest.raises(SplitError, match=r"1 case.* in no fold: p1_a"):
        training_data(preprocessed, None, MANIFEST, CASES).prepare_splits(0)


def test_a_manifest_without_patients_is_warned_of(folders: tuple[Path, Path]) -> None:
    nameless = Manifest({case: CaseLabels(("LV",)) for case in CASES})
    warnings = training_data(folders[0], None, nameless, CASES).prepare_splits(0)
    assert len(warnings) == 1
    assert "each counts as a patient of its own" in warnings[0]


def test_a_class_that_is_only_declared_absent_is_not_taught() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",), absent=("RV",)), "b": CaseLabels(("LV", "RV"))})
    data = training_data(Path("preprocessed"), None, manifest, ["a", "b"])
    data.with_fold(["a", "b"], []).check_every_class_annotated()
    with pytest.raises(ManifestError, match="was annotated for RV"):
        data.with_fold(["a"], ["b"]).check_every_class_annotated()


def test_one_patient_can_only_be_trained_with_fold_all(folders: tuple[Path, Path]) -> None:
    preprocessed, _ = folders
    with pytest.raises(SplitError, match="Train with fold 'all'"):
        training_data(preprocessed, None, MANIFEST, ["p0_a", "p0_b"]).prepare_splits(0)
    assert training_data(preprocessed, None, MANIFEST, ["p0_a", "p0_b"]).prepare_splits("all") == []


@pytest.mark.parametrize("fold", [0, "all"])
def test_a_case_declared_for_testing_is_not_trained_on(folders: tuple[Path, Path], fold: int | str) -> None:
    cases = {**MANIFEST.cases, "p2_a": CaseLabels(("LV",), patient="p2", info={"split": "test"})}
    with pytest.raises(SplitError, match=r"1 training case.* 'test' in partial_labels\.json: p2_a\."):
        training_data(folders[0], None, Manifest(cases), CASES).prepare_splits(fold)
    assert not (folders[0] / SPLITS_NAME).exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("epochs", "0"), ("iterations", "-1"), ("val_iterations", "2.5"), ("seed", "one"), ("seed", str(2**32))],
)
def test_run_settings_must_be_whole_numbers(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"nnUNet_partial_{variable}", value)
    with pytest.raises(PartialLabelError, match=f"nnUNet_partial_{variable} is '{value}'"):
        RunSettings.from_environment()


def test_run_settings_say_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("epochs", "iterations", "val_iterations", "seed"):
        monkeypatch.delenv(f"nnUNet_partial_{variable}", raising=False)
    assert str(RunSettings.from_environment()) == "none"
    monkeypatch.setenv("nnUNet_partial_seed", "0")
    assert str(RunSettings.from_environment()) == "nnUNet_partial_seed=0"
    assert RunSettings.from_environment().seed == 0
