"""A scenario preprocessed like its source holds, byte for byte, what nnU-Net would have made of it."""

from __future__ import annotations

import gc
import json
import pickle
from pathlib import Path

import pytest
from helpers.nnunet_in_process import preprocess
from helpers.toy_dataset import Project

from nnunet_partial.cli import main
from nnunet_partial.dataset import preprocess_like as shared_preprocessing
from nnunet_partial.dataset.preprocess_like import preprocess_like
from nnunet_partial.dataset.raw import find_dataset
from nnunet_partial.errors import DatasetError

SOURCE = "Dataset701_Toy"

# nnU-Net's readers leave files open, and its modules import what their libraries are about to drop
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def scenario(project: Project) -> str:
    """Some patients of domain a lose MYO."""
    (project.raw(SOURCE) / "imagesTs" / "new_0000.nii.gz").unlink()  # nobody says what is known of it
    options = ("--domain", "a", "--missing", "MYO", "--fraction", "0.5", "--name", "Less")
    assert main(["scenario", "-i", "701", "-d", "702", *options]) == 0
    return "Dataset702_Less"


def cases_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_is_what_nnunet_makes_and_images_are_shared(
    project: Project, scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preprocess", "-d", "702", "--like", "701", "-c", "2d", "-np", "1"]) == 0
    ours = project.preprocessed(scenario) / "nnUNetPlans_2d"
    theirs = project.preprocessed(SOURCE) / "nnUNetPlans_2d"
    hidden = [case for case, entry in _entries(project, scenario).items() if entry != _entries(project, SOURCE)[case]]
    assert len(hidden) in (2, 4)
    assert f"{12 - len(hidden)} case(s) linked, {len(hidden)} preprocessed" in capsys.readouterr().out

    fresh = tmp_path / "fresh" / scenario
    fresh.mkdir(parents=True)
    plans = project.preprocessed(scenario) / "nnUNetPlans.json"
    (fresh / plans.name).write_bytes(plans.read_bytes())
    assert json.loads(plans.read_text())["dataset_name"] == scenario
    assert cases_in(ours) == cases_in(preprocess(project.raw(scenario), fresh, "2d"))
    for case in _entries(project, scenario):
        assert (ours / f"{case}.b2nd").samefile(theirs / f"{case}.b2nd")
        assert (ours / f"{case}_seg.b2nd").samefile(theirs / f"{case}_seg.b2nd") == (case not in hidden)
    truth = project.preprocessed(scenario) / "gt_segmentations"
    assert cases_in(truth) == cases_in(project.raw(scenario) / "labelsTr")

    # other trainings may be reading these while further plans are taken over, also where somebody looked into a folder
    for folder in (ours, truth):
        (folder / ".DS_Store").touch()
    shared = [
        *ours.iterdir(),
        *truth.iterdir(),
        *(truth.parent / name for name in ("dataset.json", "dataset_fingerprint.json")),
    ]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shared}
    assert main(["preprocess", "-d", "702", "--like", "701", "-c", "2d", "-np", "1"]) == 0
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shared} == before
    changed = next(truth.glob("*.nii.gz"))
    changed.unlink()  # it may be a link to the raw file
    changed.write_bytes(b"other labels")
    assert main(["preprocess", "-d", "702", "--like", "701", "-c", "2d", "-np", "1"]) == 0
    assert cases_in(truth) == cases_in(project.raw(scenario) / "labelsTr")


def _entries(project: Project, name: str) -> dict[str, object]:
    cases = json.loads((project.raw(name) / "partial_labels.json").read_text())["cases"]
    return {case: entry["annotated"] for case, entry in cases.items() if not case.startswith("new")}


@pytest.mark.usefixtures("scenario")
def test_numbers_that_come_from_hidden_labels_are_refused(project: Project) -> None:
    plans = project.preprocessed(SOURCE) / "nnUNetPlans.json"
    plans.write_text(plans.read_text().replace("ZScoreNormalization", "CTNormalization"))
    with pytest.raises(DatasetError, match=r"nnUNetPlans\.json .*CTNormalization.* nnUNetv2_plan_and_preprocess"):
        preprocess_like(find_dataset(702), find_dataset(701), ["2d"], ["nnUNetPlans"])


@pytest.mark.usefixtures("scenario")
@pytest.mark.parametrize(
    ("scenario_id", "source_id", "configuration", "plans", "message"),
    [
        (701, 702, "2d", "nnUNetPlans", "Dataset701_Toy was not .* Dataset702_Less"),
        (702, 701, "2d", "OtherPlans", r"OtherPlans\.json .*First: nnUNetv2_plan_and_preprocess"),
        (702, 701, "3d", "nnUNetPlans", "has no configuration '3d'; there: 2d"),
    ],
)
def test_what_does_not_fit(scenario_id: int, source_id: int, configuration: str, plans: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        preprocess_like(find_dataset(scenario_id), find_dataset(source_id), [configuration], [plans])


@pytest.mark.usefixtures("scenario")
def test_a_case_that_the_source_lacks_is_named(project: Project) -> None:
    (project.preprocessed(SOURCE) / "nnUNetPlans_2d" / "a_p0_0.pkl").unlink()
    with pytest.raises(DatasetError, match=r"lacks 1 preprocessed case\(s\): a_p0_0"):
        preprocess_like(find_dataset(702), find_dataset(701), ["2d"], ["nnUNetPlans"])


@pytest.mark.usefixtures("scenario")
def test_labels_that_changed_after_the_source_was_preprocessed_are_named(project: Project) -> None:
    case = "a_p0_0.nii.gz"
    then = project.preprocessed(SOURCE) / "gt_segmentations" / case
    then.parent.mkdir(exist_ok=True)
    then.unlink(missing_ok=True)
    then.write_bytes(b"other labels")
    with pytest.raises(DatasetError, match=r"1 case\(s\) have other label files: a_p0_0\."):
        preprocess_like(find_dataset(702), find_dataset(701), ["2d"], ["nnUNetPlans"])


def test_with_an_ignore_label_of_its_own_nothing_is_linked(project: Project) -> None:
    """nnU-Net's loader draws patches from annotated places, which it notes only where there is an ignore label."""
    (project.raw(SOURCE) / "imagesTs" / "new_0000.nii.gz").unlink()
    options = ("--domain", "a", "--missing", "MYO", "--fraction", "0.5", "--name", "Less", "--unknown-as", "ignore")
    assert main(["scenario", "-i", "701", "-d", "702", *options]) == 0
    assert main(["preprocess", "-d", "702", "--like", "701", "-c", "2d", "-np", "1"]) == 0
    for path in (project.preprocessed("Dataset702_Less") / "nnUNetPlans_2d").glob("*.pkl"):
        with path.open("rb") as file:
            assert any(isinstance(key, tuple) and -1 in key for key in pickle.load(file)["class_locations"])


@pytest.mark.parametrize("begun", [False, True])
def test_interrupted_it_leaves_no_folder_that_lacks_cases(
    project: Project, scenario: str, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.preprocessed(scenario) / "nnUNetPlans_2d"
    if begun:
        assert main(["preprocess", "-d", "702", "--like", "701", "-c", "2d", "-np", "1"]) == 0
    before = cases_in(folder) if begun else None

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shared_preprocessing, "_preprocess", interrupted)
    assert main(["preprocess", "-d", "702", "--like", "701", "-c", "2d", "-np", "1"]) == 130
    assert (cases_in(folder) if folder.exists() else None) == before
    gc.collect()  # nnU-Net's reader leaves a file open, of which a later test would be told
