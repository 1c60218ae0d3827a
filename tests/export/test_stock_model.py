"""`nnunet_partial export`: stock nnU-Net predicts the same voxels from the zip, and nothing in it names anybody."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from helpers.exported_models import CASE, DATASET, HOST, PLACE, USER, write_untrained
from helpers.nnunet_in_process import InProcess
from helpers.nnunet_warnings import WARNINGS_OF_NNUNET
from helpers.stock_nnunet import run_stock
from helpers.toy_dataset import write_toy
from nnunetv2.model_sharing.model_export import export_pretrained_model

from nnunet_partial import load_model
from nnunet_partial.cli import main
from nnunet_partial.export.stock_model import match_logits
from nnunet_partial.inference import onnx
from nnunet_partial.training.mixin import _zero_background

VOLUMES = "Dataset703_Volumes"
SHAPE = (8, 16, 20)  # two patches
INSTALL = "nnUNetv2_install_pretrained_model_from_zip"

pytestmark = WARNINGS_OF_NNUNET


def export(trainer: str, file: Path, *more: str, dataset: str = "701", configuration: str = "2d") -> int:
    return main(["export", "-d", dataset, "-c", configuration, "-tr", trainer, "-o", str(file), *more])


def results(project: InProcess) -> Path:
    return project.root / "results" / DATASET


def read(file: Path) -> Any:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def predict(dataset: str, trainer: str, plans: str, images: Path, out: Path, *more: str) -> list[str]:
    return [
        *("nnUNetv2_predict", "-d", dataset, "-tr", trainer, "-p", plans, "-i", str(images), "-o", str(out)),
        *("-device", "cpu", "-npp", "0", "-nps", "0", *more),
    ]


# ---- the same voxels -------------------------------------------------------------------------------------------------


def volume_plans(planned_2d: dict[str, Any]) -> dict[str, Any]:
    """ResEnc, with a cascade."""
    plans = {
        **deepcopy(planned_2d),
        "dataset_name": VOLUMES,
        "plans_name": "MyPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": list(SHAPE),
    }
    full = plans["configurations"].pop("2d")
    full |= {"patch_size": [8, 16, 16], "median_image_size_in_voxels": list(SHAPE), "spacing": [1.0, 1.0, 1.0]}
    kwargs = full["architecture"]["arch_kwargs"]
    kwargs["n_blocks_per_stage"] = [1] * len(kwargs.pop("n_conv_per_stage"))
    kwargs |= {"conv_op": "torch.nn.modules.conv.Conv3d", "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d"}
    kwargs |= {"kernel_sizes": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]}
    name = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    full["architecture"]["network_class_name"] = name
    low = {"inherits_from": "3d_fullres", "spacing": [2.0, 2.0, 2.0], "patch_size": [4, 8, 8]}
    plans["configurations"] = {
        "3d_fullres": full,
        "3d_lowres": {**low, "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    return plans


@pytest.mark.slow
def test_stock_nnunet_predicts_the_same_voxels(project: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """In 2-D and 3-D, of one fold, two and all, of U-Nets with and without residuals, and of a cascade."""
    plans = json.loads((results(project) / "nnUNetTrainerABCE__nnUNetPlans__2d" / "plans.json").read_text())
    write_toy(project.raw(VOLUMES), shape=SHAPE, patients=2)
    for configuration, folds in (("3d_lowres", (0, 1)), ("3d_cascade_fullres", (0, 1)), ("3d_fullres", ("all",))):
        trainer = "nnUNetTrainerABCENoMirroring" if configuration == "3d_fullres" else "nnUNetTrainerABCE"
        write_untrained(project, trainer, volume_plans(plans), configuration, folds)

    flat, volumes = (project.raw(name) / "imagesTs" for name in (DATASET, VOLUMES))
    for case in ("a_p0_0", "b_p1_0"):
        shutil.copy(project.raw(DATASET) / "imagesTr" / f"{case}_0000.nii.gz", flat)
    jobs = [
        ("701", "nnUNetTrainerABCE", "nnUNetPlans", "ABCE", "2d", ["-f", "0", "1"], flat),
        ("701", "nnUNetTrainerMarginal", "nnUNetPlans", "Marginal", "2d", ["-f", "1"], flat),
        ("703", "nnUNetTrainerABCENoMirroring", "MyPlans", "ABCENoMirroring", "3d_fullres", ["-f", "all"], volumes),
        ("703", "nnUNetTrainerABCE", "MyPlans", "ABCE", "3d_cascade_fullres", ["-f", "0", "1"], volumes),
    ]
    here, there = project.root / "here", project.root / "there"
    there.mkdir()
    commands: list[list[str]] = []
    pairs = []
    for number, (dataset, trainer, name, ending, configuration, folds, images) in enumerate(jobs):
        file = project.root / f"{number}.zip"
        assert export(trainer, file, "-p", name, *folds, dataset=dataset, configuration=configuration) == 0
        said = capsys.readouterr().out
        assert f"-tr nnUNetTrainer -c {configuration} -p {name}_{ending}" in said
        assert ("-prev_stage_predictions OUTPUT_FOLDER_3d_lowres" in said) == ("cascade" in configuration)
        commands.append([INSTALL, str(file)])
        stages = ["3d_lowres", configuration] if "cascade" in configuration else [configuration]
        more: list[str] = []
        for stage in stages:
            ours, theirs = (root / f"{number}_{stage}" for root in (here, there))
            options = ["-c", stage, *folds]
            previous = [["-prev_stage_predictions", str(root / f"{number}_3d_lowres")] for root in (here, there)]
            extra = previous if stage == "3d_cascade_fullres" else [more, more]
            project.must(*predict(dataset, trainer, name, images, ours, *options, *extra[0]))
            commands.append(predict(dataset, "nnUNetTrainer", f"{name}_{ending}", images, theirs, *options, *extra[1]))
            pairs.append((ours, theirs))
    run_stock(project.root / "stock", commands)
    for ours, theirs in pairs:
        files = sorted(path.name for path in ours.glob("*.nii.gz"))
        assert files == sorted(path.name for path in theirs.glob("*.nii.gz")) != []
        seen: set[int] = set()
        for name in files:
            predicted = read(ours / name)
            np.testing.assert_array_equal(predicted, read(theirs / name), err_msg=f"{ours.name} {name}")
            seen |= set(np.unique(predicted).tolist())
        assert len(seen) > 1, ours.name


def small_unet(dimensions: int, residual: bool) -> torch.nn.Module:
    conv, norm = (
        (torch.nn.Conv2d, torch.nn.InstanceNorm2d) if dimensions == 2 else (torch.nn.Conv3d, torch.nn.InstanceNorm3d)
    )
    network = ResidualEncoderUNet if residual else PlainConvUNet
    return network(
        1, 3, [4, 8, 8], conv, 3, [1, 2, 2], [1, 1, 1], 3, [1, 1], True, norm, nonlin=torch.nn.LeakyReLU,
        deep_supervision=True,
    )  # fmt: skip


def small_primus() -> torch.nn.Module:
    from dynamic_network_architectures.architectures.primus import Primus  # warns when it is imported

    return Primus(1, 24, (8, 8, 8), 3, eva_depth=1, eva_numheads=2, input_shape=(16, 16, 16))


@pytest.mark.parametrize(
    ("build", "size", "heads"),
    [
        (lambda: small_unet(2, residual=False), (16, 16), 2),
        (lambda: small_unet(3, residual=False), (16, 16, 16), 2),
        (lambda: small_unet(2, residual=True), (16, 16), 2),
        (lambda: small_unet(3, residual=True), (16, 16, 16), 2),
        (small_primus, (16, 16, 16), 1),
    ],
    ids=["2-D", "3-D", "ResEnc 2-D", "ResEnc 3-D", "Primus"],
)
def test_a_background_logit_of_0_moves_into_the_weights(
    build: Callable[[], torch.nn.Module], size: tuple[int, ...], heads: int
) -> None:
    """Bit by bit, at every resolution, also for other images than the one that was tried."""
    torch.manual_seed(0)
    stock = build()
    for weights in stock.parameters():
        weights.data.normal_()
    original = deepcopy(stock)
    original.register_forward_hook(_zero_background)
    assert match_logits(original, stock, torch.randn(1, 1, *size))
    image = torch.randn(2, 1, *size)
    with torch.inference_mode():
        pairs = [network.eval()(image) for network in (original, stock)]
    expected, given = (list(logits) if isinstance(logits, list | tuple) else [logits] for logits in pairs)
    assert len(expected) == len(given) == heads
    for logits, changed in zip(expected, given, strict=True):
        assert torch.equal(logits, changed)
        assert not changed[:, 0].any()
        assert changed[:, 1:].any()


# ---- what is in the zip, and what is not -----------------------------------------------------------------------------


def opened(file: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a zip with its content, zips in it opened as well: a checkpoint is one."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            yield name, content
            if zipfile.is_zipfile(io.BytesIO(content)):
                inner = Path(name)
                with zipfile.ZipFile(io.BytesIO(content)) as parts:
                    for part in parts.namelist():
                        yield f"{inner} {part}", parts.read(part)


def found_names(file: Path, names: list[str]) -> set[tuple[str, str]]:
    """Which of the names occur as bytes, in content or names of files."""
    return {
        (name, inside)
        for name in names
        for inside, content in opened(file)
        if name.encode() in inside.encode() + content
    }


def test_no_name_of_a_case_a_computer_or_a_place_travels(project: InProcess) -> None:
    """nnU-Net's own zip of the same model has all of them, so that the search would find them."""
    assert export("nnUNetTrainerABCE", project.root / "model.zip", "-f", "0", "1") == 0
    names = [CASE, HOST, USER, PLACE, str(project.root)]
    assert found_names(project.root / "model.zip", [*names, "a_p0_0", "b_p1_0"]) == set()

    export_pretrained_model(
        DATASET, str(project.root / "nnunet.zip"), ("2d",), "nnUNetTrainerABCE", folds=(0, 1), strict=True
    )
    in_nnunets = found_names(project.root / "nnunet.zip", names[:4])
    assert {name for name, _ in in_nnunets} == {CASE, HOST, USER, PLACE}
    files = {Path(inside.split()[0]).name for _, inside in in_nnunets}
    assert files >= {"debug.json", "summary.json", "plans.json", "dataset.json", "checkpoint_final.pth", "progress.png"}


def test_the_zip_has_these_files_and_keys(project: InProcess) -> None:
    assert export("nnUNetTrainerMarginal", project.root / "model.zip", "-f", "0") == 0
    folder = f"{DATASET}/nnUNetTrainer__nnUNetPlans_Marginal__2d"
    files = dict(opened(project.root / "model.zip"))
    assert {name for name in files if " " not in name} == {
        f"{folder}/plans.json",
        f"{folder}/dataset.json",
        f"{folder}/MODEL_CARD.md",
        f"{folder}/annotation_summary.json",
        f"{folder}/fold_0/checkpoint_final.pth",
        f"{folder}/fold_0/progress.png",
    }
    plans, dataset_json = (json.loads(files[f"{folder}/{name}.json"]) for name in ("plans", "dataset"))
    assert plans["plans_name"] == "nnUNetPlans_Marginal"
    assert set(dataset_json) == {"channel_names", "labels", "numTraining", "file_ending"}
    annotations = {name: {"annotated": 6, "absent": 0, "unknown": 0} for name in ("LV", "MYO")}
    assert json.loads(files[f"{folder}/annotation_summary.json"]) == {
        "a": {"cases": 6, "structures": annotations},
        "b": {"cases": 6, "structures": {**annotations, "MYO": {"annotated": 0, "absent": 0, "unknown": 6}}},
    }
    card = files[f"{folder}/MODEL_CARD.md"].decode()
    assert "-f 0 -tr nnUNetTrainer -c 2d -p nnUNetPlans_Marginal\n" in card
    checkpoint = torch.load(io.BytesIO(files[f"{folder}/fold_0/checkpoint_final.pth"]), weights_only=True)
    weights = checkpoint.pop("network_weights")
    assert checkpoint == {
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "init_args": {"plans": plans, "configuration": "2d", "fold": 0, "dataset_json": dataset_json},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }
    source = results(project) / "nnUNetTrainerMarginal__nnUNetPlans__2d" / "fold_0" / "checkpoint_final.pth"
    original = torch.load(source, weights_only=False)["network_weights"]
    assert list(weights) == list(original)
    assert all(torch.equal(weights[name], original[name]) for name in original)
    # the decoder names the encoder's weights again: they are in the file once
    assert len(files[f"{folder}/fold_0/checkpoint_final.pth"]) < source.stat().st_size


def test_the_same_model_gives_the_same_bytes(project: InProcess) -> None:
    for name in ("one.zip", "two.zip"):
        assert export("nnUNetTrainerABCE", project.root / name, "-f", "0") == 0
    assert (project.root / "one.zip").read_bytes() == (project.root / "two.zip").read_bytes()


def write_predictions(chosen: Path) -> None:
    """Of a case per fold, which find-best copied; what is in the file does not matter."""
    for fold in (0, 1):
        for folder in (chosen, chosen.parent / f"fold_{fold}" / "validation"):
            (folder / f"case_{fold}.nii.gz").write_text(f"fold {fold}")


@pytest.mark.parametrize("change", ["trained again", "validated again", "removed"])
def test_postprocessing_of_other_predictions_is_refused(
    project: InProcess, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = results(project) / "nnUNetTrainerABCE__nnUNetPlans__2d"
    chosen = model / "crossval_results_folds_0_1"
    chosen.mkdir()
    (chosen / "postprocessing.json").write_text(json.dumps({"postprocessing_fns": [], "postprocessing_kwargs": []}))
    write_predictions(chosen)
    validation = model / "fold_1" / "validation"
    if change == "trained again":
        (validation / "case_1.nii.gz").write_text("fold 1 predicts something else")
    elif change == "validated again":  # which has not ended
        (validation / "summary.json").unlink()
    else:
        for file in chosen.glob("*.nii.gz"):
            file.unlink()
    assert export("nnUNetTrainerABCE", project.root / "model.zip", "-f", "0", "1") == 1
    assert "postprocessing.json" in capsys.readouterr().err
    assert not (project.root / "model.zip").exists()


def test_postprocessing_of_find_best_comes_along_as_data(project: InProcess) -> None:
    chosen = results(project) / "nnUNetTrainerABCE__nnUNetPlans__2d" / "crossval_results_folds_0_1"
    chosen.mkdir()
    step = "remove_all_but_largest_component_from_segmentation"
    content = {
        "input_folder": f"{PLACE}/{CASE}",
        "postprocessing_fns": [step, step],
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 1}],
    }
    (chosen / "postprocessing.json").write_text(json.dumps(content))
    (chosen / "postprocessing.pkl").write_bytes(CASE.encode())  # never read
    write_predictions(chosen)
    assert export("nnUNetTrainerABCE", project.root / "model.zip", "-f", "0", "1") == 0
    with zipfile.ZipFile(project.root / "model.zip") as archive:
        archive.extractall(project.root / "new")
    (file,) = (project.root / "new").rglob("postprocessing.pkl")
    assert file.parent.name == "crossval_results_folds_0_1"
    functions, keywords = pickle.loads(file.read_bytes())
    assert [function.__name__ for function in functions] == [step, step]
    assert keywords == [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 1}]
    assert found_names(project.root / "model.zip", [PLACE, CASE]) == set()


# ---- what cannot be exported -----------------------------------------------------------------------------------------


def refused(project: InProcess, capsys: pytest.CaptureFixture[str], trainer: str, *more: str) -> str:
    """The message; nothing is written."""
    before = sorted(project.root.rglob("*"))
    assert export(trainer, project.root / "model.zip", *more) == 1
    assert sorted(project.root.rglob("*")) == before
    return capsys.readouterr().err


@pytest.mark.slow
def test_the_zip_is_loaded_by_name_of_no_trainer_of_ours(project: InProcess) -> None:
    """From the zip and from the folder a model predicts the same."""
    file = project.root / "model.zip"
    assert export("nnUNetTrainerABCE", file, "-f", "0", "1") == 0
    image = np.random.default_rng(0).normal(size=(1, 40, 48)).astype(np.float32)
    models = (file, results(project) / "nnUNetTrainerABCE__nnUNetPlans__2d")
    zipped, own = (load_model(path, [0, 1], device="cpu").predict(image, (1.0, 1.0)) for path in models)
    np.testing.assert_array_equal(zipped, own)
    assert len(np.unique(own)) > 1


@pytest.mark.slow
def test_as_onnx_each_fold_is_a_file_beside_a_description(
    project: InProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the files: see tests/inference/test_onnx.py; a conversion takes ten seconds."""
    pytest.importorskip("onnxruntime")

    def write_empty(_: Any, files: list[Path]) -> bool:
        for file in files:
            file.touch()
        return True

    monkeypatch.setattr(onnx, "_write_networks", write_empty)
    folder = project.root / "exported"
    assert export("nnUNetTrainerABCE", folder, "-f", "0", "1", "--as", "onnx") == 0
    names = ["fold_0.onnx", "fold_1.onnx", "model.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert capsys.readouterr().out.split() == [str(folder / name) for name in names]
    assert export("nnUNetTrainerABCE", folder, "-f", "0", "--as", "onnx") == 1
    assert str(folder) in capsys.readouterr().err


def test_a_missing_fold_is_named(project: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(project, capsys, "nnUNetTrainerABCE")
    assert "fold 2, 3, 4 has no checkpoint_final.pth" in said
    assert "have one: 0, 1." in said
    assert "not both" not in said
    assert "-f: got 0 all" in refused(project, capsys, "nnUNetTrainerABCE", "-f", "0", "all")


def test_a_file_that_exists_is_kept(project: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "model.zip").write_text("mine")
    assert "model.zip exists" in refused(project, capsys, "nnUNetTrainerABCE", "-f", "0")
    assert (project.root / "model.zip").read_text() == "mine"


def test_a_lower_stage_that_was_never_trained_is_named(project: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    plans = json.loads((results(project) / "nnUNetTrainerABCE__nnUNetPlans__2d" / "plans.json").read_text())
    write_toy(project.raw(VOLUMES), shape=SHAPE, patients=1)
    write_untrained(project, "nnUNetTrainerABCE", volume_plans(plans), "3d_cascade_fullres", (0,))
    file = project.root / "model.zip"
    assert (
        export("nnUNetTrainerABCE", file, "-p", "MyPlans", "-f", "0", dataset="703", configuration="3d_cascade_fullres")
        == 1
    )
    assert "nnUNetTrainerABCE__MyPlans__3d_lowres was never trained" in capsys.readouterr().err
    assert not file.exists()


def renamed(project: InProcess, trainer: str, prefix: str = "") -> None:
    """The aBCE model under the name of another trainer, its weights with a prefix."""
    model = results(project) / "nnUNetTrainerABCE__nnUNetPlans__2d"
    for file in model.glob("fold_*/checkpoint_final.pth"):
        checkpoint = torch.load(file, weights_only=False)
        checkpoint["trainer_name"] = trainer
        weights = checkpoint["network_weights"]
        checkpoint["network_weights"] = {f"{prefix}{name}": values for name, values in weights.items()}
        torch.save(checkpoint, file)
    model.rename(model.with_name(f"{trainer}__nnUNetPlans__2d"))


def test_swin_unetr_cannot_travel_and_says_so(project: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    renamed(project, "nnUNetTrainerMarginalSwinUNETR")
    assert "SwinUNETR is MONAI's network" in refused(project, capsys, "nnUNetTrainerMarginalSwinUNETR", "-f", "0")


@pytest.mark.parametrize(
    ("body", "prefix", "reason"),
    [
        ("network.register_forward_hook(lambda *args: args[2] * 2)", "", "computes other logits"),
        ("network = torch.nn.Sequential(network)", "0.", "weights do not fit"),
    ],
)
def test_a_trainer_of_ones_own_with_another_network_is_refused(
    project: InProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    prefix: str,
    reason: str,
) -> None:
    folder = project.root / "trainers"
    folder.mkdir()
    (folder / "nnUNetTrainerMine.py").write_text(f"""
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class nnUNetTrainerMine(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(*args, plans_manager=None, **more):
        network = nnUNetTrainer.build_network_architecture(*args, **more)
        {body}
        return network
""")
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # nothing new shall lie there
    renamed(project, "nnUNetTrainerMine", prefix)
    assert reason in refused(project, capsys, "nnUNetTrainerMine", "-f", "0")


def test_a_trainer_that_is_not_found_is_named(project: InProcess, capsys: pytest.CaptureFixture[str]) -> None:
    renamed(project, "nnUNetTrainerNowhere")
    assert "There is no trainer nnUNetTrainerNowhere" in refused(project, capsys, "nnUNetTrainerNowhere", "-f", "0")
