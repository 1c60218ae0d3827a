"""Exported networks have PyTorch's logits; the example predicts with them what nnU-Net's command does."""

from __future__ import annotations

import ast
import importlib.util
import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.nnunet_in_process import one_thread
from helpers.predicting_models import Model, read
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

from nnunet_partial import load_model
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.inference import onnx as onnx_export
from nnunet_partial.inference.onnx import export_onnx

if importlib.util.find_spec("onnxruntime") is None:
    pytest.skip("ONNX (the extra 'onnx') is not installed", allow_module_level=True)

# nnU-Net's search imports all of its trainers, and PyTorch's exporter its own code, some with what is about to go
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_prediction.py"
#: The marginal model of slices has the same network as that of aBCE, which does more; volumes are marginal, too.
MODELS = ("abce", "volumes", "regions")
RNG = np.random.default_rng(5)


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onnx_prediction", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()
onnxruntime = example.onnxruntime


@pytest.fixture(autouse=True)
def quiet_threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def programs() -> list[Any]:
    """What `exported` converted, for tests that do without a conversion of their own, which takes seconds."""
    return []


@pytest.fixture(scope="module")
def exported(
    models: dict[str, Model], programs: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder, convert = tmp_path_factory.mktemp("exported"), onnx_export._convert

    def keep(*given: Any) -> Any:
        programs.append(convert(*given))
        return programs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_convert", keep)
        for name in MODELS:
            export_onnx(models[name].folder, None, folder / name)
    return {name: folder / name for name in MODELS}


@pytest.fixture
def program(exported: dict[str, Path], programs: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The conversion of the aBCE model, which is used again."""
    monkeypatch.setattr(onnx_export, "_convert", lambda *_: programs[0])
    return programs[0]


def session(file: Path) -> Any:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def dice(labels: Any, reference: Any, value: int) -> float:
    found, true = labels == value, reference == value
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


# ---- the networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_pytorchs(models: dict[str, Model], exported: dict[str, Path], name: str) -> None:
    """For any batch: within 1e-4, and with the same argmax but where the two largest are within 2e-4."""
    predictor = load_model(models[name].folder, device="cpu").predictor
    size = (5, 1, *predictor.configuration_manager.patch_size)
    patches = torch.from_numpy(RNG.normal(size=size).astype(np.float32))
    for fold, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        with torch.inference_mode():
            expected = predictor.network.eval()(patches).numpy()
        network = session(exported[name] / f"fold_{fold}.onnx")
        for batch in (1, 2, 5):
            (logits,) = network.run(["logits"], {"image": patches[:batch].numpy()})
            assert np.abs(logits - expected[:batch]).max() < 1e-4
        second, first = np.sort(expected, axis=1)[:, -2:].swapaxes(0, 1)
        differ = logits.argmax(1) != expected.argmax(1)
        assert (first - second)[differ].max(initial=0.0) < 2e-4
        assert (logits[:, 0] == 0).all() == (name == "abce")


def test_a_network_is_one_file_unless_it_is_too_large(
    models: dict[str, Model], tmp_path: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = export_onnx(models["abce"].folder, [1], tmp_path / "whole")
    assert [file.name for file in files] == ["fold_1.onnx", "model.json"]
    monkeypatch.setattr(onnx_export, "_MOST_BYTES", 1000)  # instead of 1.9 GB
    files = export_onnx(models["abce"].folder, [1], tmp_path / "split")
    assert [file.name for file in files] == ["fold_1.onnx", "fold_1.onnx.data", "model.json"]
    patch = RNG.normal(size=(1, 1, 32, 32)).astype(np.float32)
    whole, split = (session(tmp_path / name / "fold_1.onnx").run(None, {"image": patch}) for name in ("whole", "split"))
    np.testing.assert_array_equal(whole, split)


def test_nothing_of_this_computer_is_in_the_files(models: dict[str, Model], exported: dict[str, Path]) -> None:
    host = socket.gethostname()
    secrets = [str(Path.home()), str(EXAMPLE.parents[1]), "site-packages", ".py", "pytest", "/tmp"]
    secrets += [host] if len(host) > 4 else []
    files = [file for folder in exported.values() for file in folder.iterdir()]
    assert len(files) == 3 * len(MODELS)
    for file in files:
        content = file.read_bytes()
        assert [secret for secret in secrets if secret.encode() in content] == []


def test_the_description_has_what_a_program_needs(exported: dict[str, Path]) -> None:
    content = {name: json.loads((exported[name] / "model.json").read_text()) for name in MODELS}
    volumes = content["volumes"]
    assert volumes["networks"] == ["fold_0.onnx", "fold_1.onnx"]
    assert volumes["trainer"] == "nnUNetTrainerMarginal"
    assert volumes["channels"] == ["ultrasound"]
    assert volumes["spacing_mm"] == [1.0, 3.5, 1.0]  # x, z, y: see transpose_forward
    assert volumes["patch_size"] == [24, 8, 24]
    assert (volumes["transpose_forward"], volumes["transpose_backward"]) == ([2, 0, 1], [1, 2, 0])
    assert volumes["mirroring_axes"] == [0, 2]
    assert volumes["labels"] == {"background": 0, "LV": 1, "MYO": 2}
    assert volumes["colors"] == {"LV": "#56B4E9", "MYO": "#E69F00"}
    (normalization,) = volumes["normalization"]
    assert (normalization["scheme"], normalization["inside_mask_only"]) == ("ZScoreNormalization", False)
    assert normalization["intensities"]["mean"] == 100.0
    assert [given["background_logit_is_zero"] for given in content.values()] == [True, False, False]
    assert content["regions"]["regions"] == [{"name": "heart", "value": 2}, {"name": "LV", "value": 1}]
    assert volumes["regions"] is None


def test_onnx_runtime_sends_nothing() -> None:
    """The builds that setup.py allows hold no address to send events to; others are told not to."""
    libraries = list(Path(onnxruntime.__file__).parent.glob("capi/*onnxruntime*"))
    libraries = [file for file in libraries if file.suffix != ".py" and file.is_file()]
    assert sum(file.stat().st_size for file in libraries) > 10_000_000
    assert [file.name for file in libraries if b"events.data.microsoft" in file.read_bytes()] == []
    for source in (EXAMPLE, Path(onnx_export.__file__)):
        before, _, after = source.read_text().partition("import onnxruntime")
        assert 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in before
        assert "disable_telemetry_events()" in after


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_without_onnx_the_message_names_the_extra(
    models: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    with pytest.raises(PartialLabelError, match=r"'onnxscript'.*\.\[onnx\]"):
        export_onnx(models["marginal"].folder, [0], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(models: dict[str, Model], tmp_path: Path) -> None:
    with pytest.raises(PartialLabelError, match=f"{tmp_path.name} exists"):
        export_onnx(models["marginal"].folder, [0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_other_logits_is_not_written(
    models: dict[str, Model], tmp_path: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "apply_weights", lambda _: None)  # as if those of another fold stayed
    with pytest.raises(PartialLabelError, match="differs from PyTorch"):
        export_onnx(models["abce"].folder, [0, 1], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- the example -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_example_predicts_what_nnunets_command_does(
    models: dict[str, Model], exported: dict[str, Path], name: str
) -> None:
    model, sessions = example.load(exported[name])
    for image in models[name].images:
        labels, reference = example.predict(model, sessions, *read(image)), models[name].reference(image)
        assert (labels.dtype, labels.shape) == (np.uint8, reference.shape)
        assert [dice(labels, reference, value) >= 0.99 for value in (1, 2)] == [True, True]


def test_the_example_runs_without_pytorch_and_nnunet(
    models: dict[str, Model], exported: dict[str, Path], tmp_path: Path
) -> None:
    tree = ast.parse(EXAMPLE.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"numpy", "scipy", "onnxruntime"}

    image = models["abce"].images[1]
    array, spacing = read(image)
    np.save(tmp_path / "image.npy", array)
    code = f"""
        import runpy, sys
        for name in ("torch", "nnunetv2", "nnunet_partial", "skimage", "SimpleITK", "onnx"):
            sys.modules[name] = None
        runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
    """
    arguments = [exported["abce"], tmp_path / "image.npy", tmp_path / "labels.npy", "--spacing", *map(str, spacing)]
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], check=True, cwd=tmp_path, timeout=300)
    labels, reference = np.load(tmp_path / "labels.npy"), models["abce"].reference(image)
    assert min(dice(labels, reference, value) for value in (1, 2)) >= 0.99


def test_the_example_refuses_images_that_do_not_fit(exported: dict[str, Path]) -> None:
    model, sessions = example.load(exported["abce"])
    with pytest.raises(ValueError, match=r"\(2, 1, 32, 32\)"):
        example.predict(model, sessions, np.zeros((2, 32, 32)), (1, 1))


INTENSITIES = {"mean": 90.0, "std": 30.0, "percentile_00_5": 20.0, "percentile_99_5": 180.0}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "scheme",
    ["ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization"],
)
def test_the_example_normalizes_as_nnunet(scheme: str, inside: bool) -> None:
    image = np.zeros((1, 6, 20, 20), np.float32)
    image[:, 1:5, 3:15, 2:18] = RNG.integers(0, 200, (1, 4, 12, 16))
    image[:, :, 8, 8] = 0  # a hole
    cropped, seg, box = crop_to_nonzero(image.copy())
    expected = getattr(schemes, scheme)(inside, INTENSITIES).run(cropped[0].copy(), seg[0])
    found, mask = example.bounding_box(image)
    assert [[side.start, side.stop] for side in found] == box
    np.testing.assert_array_equal(mask, seg[0] >= 0)
    how = {"scheme": scheme, "inside_mask_only": inside, "intensities": INTENSITIES}
    np.testing.assert_array_equal(example.normalize(image[(0, *found)], mask, how), expected)


def test_the_example_takes_an_image_of_zeros_whole() -> None:
    box, mask = example.bounding_box(np.zeros((2, 3, 4, 5)))
    assert box == (slice(0, 3), slice(0, 4), slice(0, 5))
    assert not mask.any()


@pytest.mark.parametrize(
    ("spacing", "target"),
    [
        ((1.0, 1.0, 1.0), (0.8, 1.5, 1.1)),  # all axes at once
        ((4.0, 1.0, 1.0), (3.0, 0.8, 1.2)),  # the first axis by itself
        ((1.0, 1.0, 1.0), (1.0, 1.3, 5.0)),  # the last, as the target is coarse there
        ((4.0, 4.0, 1.0), (3.0, 3.0, 1.5)),  # two coarse axes: all at once
        ((999.0, 1.0, 1.0), (999.0, 0.7, 1.6)),  # a slice
    ],
)
@pytest.mark.parametrize("order", [3, 1])
def test_the_example_resamples_as_nnunet(spacing: Any, target: Any, order: int) -> None:
    image = RNG.normal(size=(2, 1 if spacing[0] == 999 else 9, 14, 12)).astype(np.float32)
    shape = [round(old / new * size) for old, new, size in zip(spacing, target, image.shape[1:], strict=True)]
    options = {"order": order, "order_z": 0, "force_separate_z": None}
    expected = resample_data_or_seg_to_shape(image.copy(), shape, spacing, target, is_seg=False, **options)
    how = {"function": "resample_data_or_seg_to_shape", "is_seg": False, **options}
    np.testing.assert_allclose(example.resample(image, shape, spacing, target, how), expected, atol=1e-6)


def test_the_example_does_not_guess_at_other_functions() -> None:
    how = {"function": "resample_torch_fornnunet", "order": 3, "order_z": 0, "force_separate_z": None}
    with pytest.raises(ValueError, match="resample_torch_fornnunet"):
        example.resample(np.zeros((1, 2, 2, 2)), (2, 2, 2), (1, 1, 1), (1, 1, 1), how)
    with pytest.raises(ValueError, match="MyNormalization"):
        example.normalize(np.zeros((2, 2)), np.ones((2, 2), bool), {"scheme": "MyNormalization", "intensities": {}})


def test_the_example_weighs_and_places_windows_as_nnunet() -> None:
    for patch in ((32, 32), (24, 8, 40), (5, 3, 128)):
        weights = compute_gaussian(patch, 1 / 8, 10, device=torch.device("cpu")).numpy().astype(np.float32)
        np.testing.assert_array_equal(example.gaussian_weights(patch), weights)
        for size in ((128, 128, 128), (129, 200, 131), (137, 145, 333)):
            expected = compute_steps_for_sliding_window(size[-len(patch) :], patch, 0.5)
            assert [example.window_starts(*pair) for pair in zip(size[-len(patch) :], patch, strict=True)] == expected
