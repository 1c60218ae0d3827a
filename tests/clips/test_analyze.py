"""`analyze` does what its three commands do, with the model loaded once."""

from __future__ import annotations

import json
import shlex
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.clip_models import write_model, write_nifti

from nnunet_partial.cli import main
from nnunet_partial.clips import analyze as module
from nnunet_partial.clips.analyze import FRAMES, MEASURED, PREDICTIONS, Prediction, analyze
from nnunet_partial.clips.frames import Options
from nnunet_partial.errors import ConversionError, DatasetError

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "old_checkpoints.tar.xz"
KEEP = Options(keep_names=True)


def beating(frames: int = 37, period: float = 12.0) -> Any:
    """A dark disc in a bright ring, as the model in the archive has learned; its radius goes from 5.5 to 3.5 pixels and
    back every 12 frames."""
    rng = np.random.default_rng(5)
    y, x = np.indices((32, 32))
    distance = np.hypot(y - 15.5, x - 15.5)
    radii = 4.5 + np.cos(2 * np.pi * np.arange(frames) / period)
    return (
        np.stack(
            [
                rng.normal(100, 15, (32, 32)) - 60 * (distance < r) + 60 * ((distance >= r) & (distance < r + 3))
                for r in radii
            ]
        )
        .clip(0, 255)
        .astype(np.uint8)
    )


class Brightest:
    """In place of a network: what is brighter than 100 is the LV."""

    folds = (0,)
    predictor = SimpleNamespace(device="cpu")

    def __init__(self) -> None:
        self.predicted = 0

    def predict(self, image: Any, spacing_mm: Any) -> Any:
        assert len(spacing_mm) == image.ndim - 1
        if self.predicted == 1 and self.interrupt:
            raise KeyboardInterrupt
        self.predicted += 1
        return (image[0] > 100).astype(np.uint8)

    interrupt = False


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Brightest:
    made = Brightest()
    monkeypatch.setattr(module, "load_model", lambda *_: made)
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_an_interrupted_analysis_keeps_its_predictions(tmp_path: Path, model: Path, network: Brightest) -> None:
    for name in "abc":
        write_nifti(tmp_path / "clips" / f"{name}.nii", beating(), (1, 1), 0.06, axis=4)
    network.interrupt = True
    arguments = (tmp_path / "clips", tmp_path / "results", model, KEEP, Prediction())
    with pytest.raises(KeyboardInterrupt):
        analyze(*arguments, overlays=False)
    assert not (tmp_path / "results").exists()
    network.interrupt = False
    write_nifti(tmp_path / "clips" / "b.nii", beating(25), (1, 1), 0.06, axis=4)  # was not predicted yet
    done = analyze(*arguments, overlays=False)
    assert network.predicted == 3  # a before, then b and c
    assert done.frames.clips["b"].frames == 25
    assert done.frames.folder == tmp_path / "results" / FRAMES
    assert {clip.name for clip in done.measured.clips} == {"a", "b", "c"}
    shape = sitk.ReadImage(str(tmp_path / "results" / PREDICTIONS / "b.nii.gz")).GetSize()
    assert shape == (32, 32, 25)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {FRAMES, PREDICTIONS, MEASURED}


@pytest.mark.usefixtures("here", "network")
def test_json_has_the_results_and_who_is_who(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", beating(), (1, 1), 0.06, axis=4)
    (tmp_path / "clips" / "broken.avi").write_bytes(b"RIFF")
    (tmp_path / "clips" / "notes.txt").write_text("x")
    folders = ["-i", str(tmp_path / "clips"), "-o", str(tmp_path / "results"), "-m", str(model), "-np", "1"]
    assert main(["analyze", *folders, "--no-overlays", "--view", "4CH", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    (row,) = document["clips"]
    assert document["names"] == {"a.nii": row["clip"]}
    assert (row["view"], row["frames"]) == ("4CH", 37)
    assert [one["file"] for one in document["skipped"]] == ["broken.avi"]
    assert document["others"] == ["notes.txt"]
    assert document["output"] == str(tmp_path / "results" / MEASURED)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_prediction_of_another_image_is_made_again(tmp_path: Path, model: Path, network: Brightest) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", beating(), (1, 1))
    write_nifti(tmp_path / "clips" / "b.nii", beating(), (1, 1))
    network.interrupt = True
    arguments = (tmp_path / "clips", tmp_path / "results", model, KEEP, Prediction())
    with pytest.raises(KeyboardInterrupt):
        analyze(*arguments, overlays=False)
    network.interrupt = False
    write_nifti(tmp_path / "clips" / "a.nii", 255 - beating(), (1, 1))
    analyze(*arguments, overlays=False)
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "results" / PREDICTIONS / "a.nii.gz")))
    assert np.array_equal(predicted, 255 - beating() > 100)


def interrupt_measuring(monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "measure_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            analyze(*arguments, overlays=False)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_interrupted_while_measuring_nothing_is_predicted_again(
    tmp_path: Path, model: Path, network: Brightest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a prediction is lost; the log of the predictions is no result."""
    for name in "abc":
        write_nifti(tmp_path / "clips" / f"{name}.nii", beating(), (1, 1), 0.06, axis=4)
    arguments = (tmp_path / "clips", tmp_path / "results", model, KEEP, Prediction())
    interrupt_measuring(monkeypatch, arguments)
    assert network.predicted == 3
    lost = tmp_path / ".building_results" / PREDICTIONS / "b.nii.gz"
    lost.write_bytes(lost.read_bytes()[:-20])
    assert {clip.name for clip in analyze(*arguments, overlays=False).measured.clips} == set("abc")
    assert network.predicted == 3 + 1
    files = {path.name for path in (tmp_path / "results" / PREDICTIONS).iterdir()}
    assert files == {"a.nii.gz", "b.nii.gz", "c.nii.gz", "dataset.json", "plans.json"}


@pytest.mark.usefixtures("here")
def test_of_an_image_that_changed_twice_the_prediction_is_that_of_the_last(
    tmp_path: Path, model: Path, network: Brightest, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (tmp_path / "clips", tmp_path / "results", model, KEEP, Prediction())
    for frames in (beating(), 255 - beating()):
        write_nifti(tmp_path / "clips" / "a.nii", frames, (1, 1))
        interrupt_measuring(monkeypatch, arguments)
    write_nifti(tmp_path / "clips" / "a.nii", beating(), (1, 1))
    analyze(*arguments, overlays=False)
    assert network.predicted == 3
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "results" / PREDICTIONS / "a.nii.gz")))
    assert np.array_equal(predicted, beating() > 100)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("edited", ["plans.json", "dataset.json"])
def test_predictions_of_other_plans_or_classes_are_made_again(
    tmp_path: Path, network: Brightest, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", beating(), (1, 1))
    model = write_model(tmp_path / "m")
    arguments = (tmp_path / "clips", tmp_path / "results", model, KEEP, Prediction())
    interrupt_measuring(monkeypatch, arguments)
    content = json.loads((model / edited).read_text())
    (model / edited).write_text(json.dumps({**content, "spacing": [1.0, 2.0]}))
    analyze(*arguments, overlays=False)
    assert network.predicted == 2


@pytest.mark.usefixtures("here")
def test_the_key_must_not_lie_in_the_results(tmp_path: Path, network: Brightest) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", beating(), (1, 1))
    model = write_model(tmp_path / "m")
    with pytest.raises(ConversionError, match="--key"):
        analyze(
            tmp_path / "clips",
            tmp_path / "results",
            model,
            Options(key_file=tmp_path / "results" / "k"),
            Prediction(),
        )
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("labels", "said"),
    [({"background": 0, "MYO": 1}, "LV"), ({"background": 0, "LV": [1, 2], "MYO": 2}, "region")],
)
def test_a_model_that_cannot_be_measured_predicts_nothing(
    tmp_path: Path, network: Brightest, labels: dict[str, Any], said: str
) -> None:
    write_nifti(tmp_path / "clips" / "a.nii", beating(), (1, 1))
    model = write_model(tmp_path / "m", labels=labels)
    with pytest.raises(DatasetError, match=said):
        analyze(tmp_path / "clips", tmp_path / "results", model, KEEP, Prediction())
    assert network.predicted == 0
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "m"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_does_what_its_commands_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nnU-Net's own command in the middle: the same voxels, the same tables.

    Pixels of 1.2 mm are resampled to the model's 1 mm: 38 rows and columns, four patches of 32 to a frame.
    """
    from helpers.nnunet_in_process import InProcess, one_thread
    from helpers.predicting_models import SLICES, predict

    project = InProcess(tmp_path / "project")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(project.root / "results" / SLICES, filter="data")
    (project.root / "raw" / SLICES).mkdir(parents=True)
    model = project.root / "results" / SLICES / "nnUNetTrainerMarginal__nnUNetPlans__2d"
    write_nifti(tmp_path / "clips" / "a.nii", beating(25), (1.2, 1.2), 0.06, axis=4)
    (tmp_path / "clips" / "broken.avi").write_bytes(b"RIFF")
    results = tmp_path / "results"
    with one_thread():
        code = main(
            [
                *("analyze", "-i", str(tmp_path / "clips"), "-o", str(results), "-m", str(model), "-f", "0"),
                *("--names", "keep", "--view", "4CH", "-device", "cpu", "-np", "1", "--no-overlays"),
            ]
        )
    assert code == 1  # the broken one
    printed = capsys.readouterr().out
    frames, predicted, measure = (
        shlex.split(line)
        for line in printed.splitlines()
        if line.startswith("  nnU") or line.startswith("  nnunet_partial")
    )
    assert predicted[1:] == [
        *("-i", str(results / FRAMES), "-o", str(results / PREDICTIONS), "-m", str(model)),
        *("-f", "0", "-chk", "checkpoint_final.pth", "-device", "cpu"),
    ]
    kept = tmp_path / "kept"
    results.rename(kept)
    results.mkdir()
    assert main(frames[1:]) == 1
    predict(project, "marginal", results / FRAMES, results / PREDICTIONS, "-f", "0")
    assert measure[-1] == "--no-overlays"
    assert main(measure[1:]) == 0
    for folder, ending in ((FRAMES, ".json"), (MEASURED, ".csv")):
        for path in (kept / folder).glob(f"*{ending}"):
            assert path.read_bytes() == (results / folder / path.name).read_bytes(), path.name
    pixels = [sitk.ReadImage(str(root / PREDICTIONS / "a.nii.gz")) for root in (kept, results)]
    assert pixels[0].GetSpacing() == pixels[1].GetSpacing()
    labels = [sitk.GetArrayFromImage(image) for image in pixels]
    assert np.array_equal(*labels)
    assert pixels[0].GetSpacing()[:2] == pytest.approx((1.2, 1.2))
    assert {1, 2} <= set(np.unique(labels[0]))

    # a file per frame is segmented the same way, but for the gray values that nnU-Net normalizes by
    shutil.rmtree(results / PREDICTIONS)
    shutil.rmtree(results / FRAMES)
    assert main([*frames[1:], "--per-frame"]) == 1
    predict(project, "marginal", results / FRAMES, results / PREDICTIONS, "-f", "0")
    single = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted((results / PREDICTIONS).glob("a_*.nii.gz"))
    ]
    assert (np.stack(single) == labels[0]).mean() > 0.99
