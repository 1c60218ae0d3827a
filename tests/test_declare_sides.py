"""Who trains must not be tested: what a table says of splits and patients, against the folders the images lie in."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import says
from raw_folders import Drawn, snapshot, write_dataset

from nnunet_partial.cli import main
from nnunet_partial.labels import MANIFEST_NAME

SIDES = {"A_0": "train", "A_1": "val", "A_2": "", "A_9": "test"}
PATIENTS = {"A_0": "anna", "A_1": "bert", "A_2": "carl", "A_9": "dora"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A_0, A_1 and A_2 lie in imagesTr, A_9 in imagesTs."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    cases = [*(Drawn(f"A_{n}", [1]) for n in range(3)), Drawn("A_9", [1], part="Ts")]
    dataset = write_dataset(tmp_path, "Dataset220_Echo", {"LV": 1}, cases)
    (dataset.folder / MANIFEST_NAME).unlink()
    return dataset.folder


def declare(folder: Path, splits: dict[str, str] = SIDES, patients: dict[str, str] = PATIENTS) -> int:
    table = folder.parent / "labels.csv"
    rows = "".join(f"{case},LV,{patients[case]},{splits[case]}\n" for case in PATIENTS)
    table.write_text("case,annotated,patient,split\n" + rows)
    return main(["declare", "-d", "220", "--csv", str(table)])


def test_sides_that_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert declare(folder) == 0
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"A_1": "test", "A_2": "test"}, says("2 training case(s)", "'test': A_1, A_2", "nothing was written", "Move")),
        ({"A_9": "train"}, says("1 case(s) of imagesTs", "A_9", "nothing was written", "Move")),
        ({"A_9": "val"}, says("1 case(s) of imagesTs", "A_9")),
    ],
)
def test_a_split_that_contradicts_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], said: says
) -> None:
    before = snapshot(folder)
    assert declare(folder, splits={**SIDES, **changed}) == 1
    assert capsys.readouterr().err == said
    assert snapshot(folder) == before


def test_a_patient_who_trains_and_is_tested(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest is right, the data set is not: written, as with a fold that parts a patient, and said."""
    assert declare(folder, patients={**PATIENTS, "A_9": "anna"}) == 0
    assert says("Warning: 1 patient(s)", "imagesTr", "imagesTs: anna") in capsys.readouterr().out.splitlines()
    assert (folder / MANIFEST_NAME).exists()


def test_nobody_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert declare(folder, patients=dict.fromkeys(PATIENTS, "")) == 0
    assert says("Warning", "no case names a patient") in capsys.readouterr().out.splitlines()
