"""`load_model` predicts what nnU-Net's command predicts, from a folder or a zip, and refuses what it cannot trust."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.nnunet_in_process import InProcess, one_thread
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.predicting_models import MODELS, Model, predict, read
from nnunetv2.model_sharing import model_export

from nnunet_partial import load_model
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.inference.model import SegmentationModel

pytestmark = [pytest.mark.slow, *WARNINGS_OF_NNUNET]
FINAL = "checkpoint_final.pth"


@pytest.fixture(autouse=True)
def quiet_threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def copied(models: dict[str, Model], tmp_path: Path) -> Path:
    """A copy of the first model, to be spoiled."""
    return Path(shutil.copytree(models["marginal"].folder, tmp_path / models["marginal"].folder.name))


@pytest.fixture(scope="module")
def marginal(models: dict[str, Model]) -> SegmentationModel:
    return load_model(models["marginal"].folder, device="cpu")


def pack(model: Path, file: Path, prefix: str = "Dataset701_Toy/") -> Path:
    with zipfile.ZipFile(file, "a") as archive:
        for path in sorted(model.rglob("*")):
            archive.write(path, f"{prefix}{model.name}/{path.relative_to(model).as_posix()}")
    return file


# ---- predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_voxel_is_that_of_nnunets_command(models: dict[str, Model], name: str) -> None:
    model = load_model(models[name].folder, device="cpu")
    assert model.folds == (0, 1)
    assert model.channel_names == ("ultrasound",)
    for image in models[name].images:
        array, spacing = read(image)
        before = array.copy()
        labels, reference = model.predict(array, spacing), models[name].reference(image)
        assert (labels.dtype, labels.shape) == (np.uint8, array.shape[1:])
        assert set(np.unique(reference)) == {0, 1, 2}
        np.testing.assert_array_equal(labels, reference)
        np.testing.assert_array_equal(array, before)


def test_one_fold_is_not_two(models: dict[str, Model], marginal: SegmentationModel) -> None:
    wide, spacing = read(models["marginal"].images[1])
    first, second = (load_model(models["marginal"].folder, [fold], device="cpu") for fold in (0, 1))
    assert (first.folds, second.folds) == ((0,), (1,))
    alone = [model.predict(wide, spacing) for model in (first, second)]
    assert (alone[0] != alone[1]).any()
    assert all((labels != marginal.predict(wide, spacing)).any() for labels in alone)


def test_probabilities_are_those_of_nnunets_command(
    models: dict[str, Model], marginal: SegmentationModel, tmp_path: Path
) -> None:
    project, (image, *_) = InProcess(models["marginal"].folder.parents[2]), models["marginal"].images
    made = Model(
        models["marginal"].folder,
        models["marginal"].images,
        predict(project, "marginal", image.parent, tmp_path, "-f", "0", "1", "--save_probabilities"),
    )
    for image in made.images:
        labels, probabilities = marginal.predict_with_probabilities(*read(image))
        saved = np.load(made.predicted / image.name.replace("_0000.nii.gz", ".npz"))["probabilities"]
        np.testing.assert_allclose(probabilities, saved[:, 0], rtol=1e-5)
        np.testing.assert_array_equal(labels, made.reference(image))
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)


def test_a_model_of_slices_predicts_volumes_slice_by_slice(
    models: dict[str, Model], marginal: SegmentationModel
) -> None:
    image, _ = read(models["marginal"].images[0])
    volume = np.stack([image, image[:, ::-1]], axis=1)  # (1, 2, 32, 32)
    labels = marginal.predict(volume, (5.0, 1.0, 1.0))
    assert labels.shape == (2, 32, 32)
    # the gray values are normalized over both slices, which have the same values
    np.testing.assert_array_equal(labels[0], marginal.predict(image, (1.0, 1.0)))


def test_the_network_is_loaded_once(models: dict[str, Model], copied: Path) -> None:
    model = load_model(copied, device="cpu")
    shutil.rmtree(copied)
    for image in models["marginal"].images * 2:
        np.testing.assert_array_equal(model.predict(*read(image)), models["marginal"].reference(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_the_number_type_of_an_image_does_not_matter(marginal: SegmentationModel, dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, 200, (1, 40, 40))
    expected = marginal.predict(image.astype(np.float32), (1, 1))
    np.testing.assert_array_equal(marginal.predict(image.astype(dtype), (1, 1)), expected)


def test_our_trainers_are_found_without_a_variable(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    assert load_model(models["abce"].folder, device="cpu").predictor.trainer_name == "nnUNetTrainerABCE"
    assert "nnUNet_extTrainer" not in os.environ
    monkeypatch.setenv("nnUNet_extTrainer", "/elsewhere")
    load_model(models["abce"].folder, device="cpu")
    assert os.environ["nnUNet_extTrainer"] == "/elsewhere"


def test_nothing_is_printed(models: dict[str, Model], capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(models["marginal"].folder, device="cpu")
    model.predict(*read(models["marginal"].images[0]))
    assert capfd.readouterr() == ("", "")


# ---- zips ------------------------------------------------------------------------------------------------------------


def test_a_zip_made_by_nnunet(models: dict[str, Model], copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is left in the temporary folder."""
    for file in ("fold_0/validation/summary.json", "fold_0/progress.png", "dataset_fingerprint.json"):
        (copied / file).parent.mkdir(exist_ok=True)
        (copied / file).write_text("{}")
    results = copied.parent / "results"
    shutil.copytree(copied, results / "Dataset701_Toy" / copied.name)
    monkeypatch.setenv("nnUNet_results", str(results))
    file = copied.parent / "model.zip"
    model_export.export_pretrained_model(
        "Dataset701_Toy", str(file), ("2d",), "nnUNetTrainerMarginal", folds=(0,), strict=False
    )
    temporary = copied.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    model, folder = load_model(file, device="cpu"), load_model(models["marginal"].folder, [0], device="cpu")
    assert model.folds == (0,)
    assert list(temporary.iterdir()) == []
    wide = read(models["marginal"].images[1])
    np.testing.assert_array_equal(model.predict(*wide), folder.predict(*wide))


@pytest.mark.parametrize("prefix", ["", "results/Dataset701_Toy/", "../../", "/"])
def test_names_in_a_zip_lead_nowhere(copied: Path, tmp_path: Path, prefix: str) -> None:
    file = pack(copied, tmp_path / "model.zip", prefix)
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("../evil.pth", "fold_0/../../evil.pth", "/evil.pth", "fold_0/..\\evil.pth", "fold_9/sub/evil.pth"):
            archive.writestr(f"{prefix}{copied.name}/{name}", "evil")
    before = sorted(tmp_path.rglob("*"))
    assert load_model(file, device="cpu").folds == (0, 1)
    assert sorted(tmp_path.rglob("*")) == before
    assert not list(Path(tempfile.gettempdir()).parent.glob("evil*"))


def test_a_zip_with_two_models_is_refused(models: dict[str, Model], tmp_path: Path) -> None:
    file = tmp_path / "both.zip"
    for name in ("marginal", "abce"):
        pack(models[name].folder, file)
    with pytest.raises(PartialLabelError, match=r"2 trained models .*nnUNetTrainerABCE.*nnUNetTrainerMarginal"):
        load_model(file)


def test_a_file_that_is_no_zip(tmp_path: Path, copied: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK, but no zip")
    with pytest.raises(PartialLabelError, match=r"model\.zip cannot be unpacked"):
        load_model(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(PartialLabelError, match=r"0 trained models \(none\)"):
        load_model(tmp_path / "empty.zip")
    whole = pack(copied, tmp_path / "broken.zip")
    content = bytearray(whole.read_bytes())
    with zipfile.ZipFile(whole) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(".pth"))
    content[info.header_offset + 500] ^= 255
    whole.write_bytes(content)
    with pytest.raises(PartialLabelError, match=r"broken\.zip cannot be unpacked"):
        load_model(whole)


# ---- what is refused -------------------------------------------------------------------------------------------------


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_checkpoint_that_runs_code_is_refused_and_does_not(copied: Path, tmp_path: Path) -> None:
    file, trace = copied / "fold_1" / FINAL, tmp_path / "ran"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "logging": Evil(trace)}, file)
    with pytest.raises(PartialLabelError, match=rf"fold_1/{FINAL}.*code"):
        load_model(copied, device="cpu")
    file.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(PartialLabelError, match=rf"fold_1/{FINAL}"):
        load_model(copied, device="cpu")
    assert not trace.exists()
    torch.save({**content, "logging": Evil(trace)}, file)
    torch.load(file, weights_only=False)  # what nnU-Net does
    assert trace.exists()


@pytest.mark.parametrize("core", ["core", "_core"])
def test_a_checkpoint_of_another_numpy_is_read(copied: Path, core: str) -> None:
    """The numbers in nnU-Net's log have their constructor in numpy.core (NumPy 1) or numpy._core (NumPy 2)."""
    file = copied / "fold_0" / FINAL
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    assert b"numpy._core.multiarray" in members[pickled]
    members[pickled] = members[pickled].replace(b"numpy._core.multiarray", f"numpy.{core}.multiarray".encode())
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert load_model(copied, [0], device="cpu").folds == (0,)


def test_a_checkpoint_that_is_cut_off(copied: Path) -> None:
    file = copied / "fold_0" / FINAL
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(PartialLabelError, match=rf"fold_0/{FINAL}"):
        load_model(copied, device="cpu")


@pytest.mark.parametrize("file", ["plans.json", "dataset.json"])
def test_a_folder_that_is_no_model(copied: Path, file: str) -> None:
    (copied / file).unlink()
    with pytest.raises(PartialLabelError, match=file.replace(".", r"\.")):
        load_model(copied)
    with pytest.raises(PartialLabelError, match="gone"):
        load_model(copied / "gone")


def test_folds_and_checkpoints_that_are_not_there_are_named(copied: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"fold 0, 1; asked for: 0, 3\."):
        load_model(copied, [0, 3])
    with pytest.raises(PartialLabelError, match=r"fold 0, 1; asked for: first\."):
        load_model(copied, ["first"])
    with pytest.raises(PartialLabelError, match=rf"checkpoint_best\.pth in fold none.*{FINAL}"):
        load_model(copied, checkpoint="checkpoint_best.pth")
    (copied / "fold_1").rename(copied / "fold_all")
    assert load_model(copied, device="cpu").folds == (0,)
    assert load_model(copied, ["all"], device="cpu").folds == load_model(copied, "all", device="cpu").folds == ("all",)
    shutil.rmtree(copied / "fold_0")
    assert load_model(copied, device="cpu").folds == ("all",)


def test_a_trainer_that_is_not_installed_is_named(copied: Path) -> None:
    content = torch.load(copied / "fold_0" / FINAL, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainerOfSomebody"}, copied / "fold_0" / FINAL)
    with pytest.raises(PartialLabelError, match="nnUNetTrainerOfSomebody"):
        load_model(copied, device="cpu")


def test_the_second_stage_of_a_cascade_is_refused(copied: Path) -> None:
    plans = json.loads((copied / "plans.json").read_text())
    plans["configurations"]["2d"]["previous_stage"] = "3d_lowres"
    (copied / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(PartialLabelError, match=r"cascade.*3d_lowres"):
        load_model(copied, device="cpu")


def test_a_device_that_is_not_there(copied: Path) -> None:
    with pytest.raises(PartialLabelError, match=r"'tpu'.*cpu"):
        load_model(copied, device="tpu")


IMAGE = np.zeros((1, 32, 32))


@pytest.mark.parametrize(
    ("image", "spacing", "match"),
    [
        (IMAGE[0], (1, 1), r"\(32, 32\).*ultrasound"),
        (np.zeros((2, 32, 32)), (1, 1), r"\(2, 32, 32\)"),
        (np.zeros((1, 0, 32)), (1, 1), r"\(1, 0, 32\)"),
        (IMAGE[None, None], (1, 1), r"\(1, 1, 1, 32, 32\)"),
        (IMAGE, (1, 1, 1), r"spacing_mm.*2 numbers"),
        (IMAGE, (1, 0), "spacing_mm"),
        (IMAGE, (1, np.nan), "spacing_mm"),
        (np.full((1, 32, 32), np.nan), (1, 1), "NaN"),
        (np.full((1, 32, 32), 1e300), (1, 1), "infinite"),
        (IMAGE > 0, (1, 1), "bool"),
        (IMAGE.astype(complex), (1, 1), "complex"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_images_that_do_not_fit_are_refused(marginal: SegmentationModel, image: Any, spacing: Any, match: str) -> None:
    with pytest.raises(PartialLabelError, match=match):
        marginal.predict(image, spacing)


def test_a_slice_is_no_volume(models: dict[str, Model]) -> None:
    with pytest.raises(PartialLabelError, match="the model is 3-D"):
        load_model(models["volumes"].folder, device="cpu").predict(IMAGE, (1, 1))
