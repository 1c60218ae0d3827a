"""Export the network of a trained model to ONNX, with all that a program needs to predict with it.

A folder with `fold_N.onnx` for each fold and one `model.json`. `examples/onnx_prediction.py` predicts with them without
PyTorch and nnU-Net. Needs the extra `onnx`.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.errors import PartialLabelError, install_hint
from nnunet_partial.inference.model import SegmentationModel, load_model
from nnunet_partial.utils.colors import class_colors
from nnunet_partial.utils.files import write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Name of the description beside the networks.
DESCRIPTION_NAME = "model.json"
#: Bytes of weights from which on they go into a file of their own: an ONNX file holds 2 GB at most.
_MOST_BYTES = 1_900_000_000
#: How far the logits of ONNX Runtime may be from PyTorch's, as a share of the largest logit (of 1 where that is less).
_TOLERANCE = 1e-4


def export_onnx(
    model_folder: Path,
    folds: Sequence[int | str] | None,
    output: Path,
    checkpoint_name: str = "checkpoint_final.pth",
) -> list[Path]:
    """Export a trained model to a new folder: a network for each fold, and `model.json`.

    Each network takes `image`, preprocessed patches (B, C, *patch), float32, with any B, and gives `logits`
    (B, K, *patch). Before the folder appears, each was run by ONNX Runtime and compared with PyTorch.

    Args:
        model_folder: Folder of a trained model, .../TRAINER__PLANS__CONFIGURATION, or a zip.
        folds: Numbers of folds, or "all"; None: all that are there.
        output: The folder to make.
        checkpoint_name: File name of the checkpoint in each fold.

    Returns:
        The files, in alphabetical order; weights of 2 GB or more lie in a file of their own.

    Raises:
        PartialLabelError: ONNX is not installed, `output` exists, there is no such model, or its network cannot be
            exported, or gives other logits when exported.
    """
    _require_onnx()
    if output.exists():
        raise PartialLabelError(f"{output} exists; expected the name of a new folder. Remove it, or give another one.")
    model = load_model(model_folder, folds, checkpoint_name, device="cpu")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp_", dir=output.parent) as temporary:
        folder = Path(temporary, "model")
        folder.mkdir()
        names = [f"fold_{fold}.onnx" for fold in model.folds]
        background_logit_is_zero = _write_networks(model, [folder / name for name in names])
        write_json(folder / DESCRIPTION_NAME, {"networks": names, **describe_model(model, background_logit_is_zero)})
        folder.rename(output)
    return sorted(output.iterdir())


def describe_model(model: SegmentationModel, background_logit_is_zero: bool) -> dict[str, Any]:
    """Describe what a program needs to know to predict with a network.

    Args:
        model: The model.
        background_logit_is_zero: Whether the logit of the background is 0 everywhere, as in aBCE models.

    Returns:
        JSON: axes are those of the network, after `transpose_forward`, for `spacing_mm`, `patch_size` and
        `mirroring_axes`; no names of cases, and no paths.
    """
    predictor = model.predictor
    plans, chosen = predictor.plans_manager, predictor.configuration_manager
    intensities = plans.foreground_intensity_properties_per_channel
    schemes = zip(chosen.normalization_schemes, chosen.use_mask_for_norm, strict=True)
    structures = [name for name in model.labels if name not in ("background", "ignore")]
    return {
        "trainer": predictor.trainer_name,
        "channels": list(model.channel_names),
        "normalization": [
            {"scheme": scheme, "inside_mask_only": bool(masked), "intensities": intensities.get(str(channel))}
            for channel, (scheme, masked) in enumerate(schemes)
        ],
        "transpose_forward": list(plans.transpose_forward),
        "transpose_backward": list(plans.transpose_backward),
        "spacing_mm": list(chosen.spacing),
        "patch_size": list(chosen.patch_size),
        "mirroring_axes": list(predictor.allowed_mirroring_axes or ()),
        "resampling_image": _resampling(chosen.configuration, "data"),
        "resampling_logits": _resampling(chosen.configuration, "probabilities"),
        "labels": model.labels,
        "regions": _regions(model),
        "background_logit_is_zero": background_logit_is_zero and not predictor.label_manager.has_regions,
        "colors": class_colors(structures),
    }


def _resampling(configuration: dict[str, Any], what: str) -> dict[str, Any]:
    return {"function": configuration[f"resampling_fn_{what}"], **configuration[f"resampling_fn_{what}_kwargs"]}


def _regions(model: SegmentationModel) -> list[dict[str, Any]] | None:
    """Return, in the order of the logits, the regions and the label value that each writes; None without regions."""
    manager = model.predictor.label_manager
    if not manager.has_regions:
        return None
    names = [name for name, values in model.labels.items() if name != "ignore" and values not in (0, [0])]
    return [{"name": name, "value": value} for name, value in zip(names, manager.regions_class_order, strict=True)]


def _require_onnx() -> None:
    """Raise PartialLabelError unless the packages of the extra are installed; switch off what ONNX Runtime reports."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # official builds from 1.29 on, which the extra leaves out; before import
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ModuleNotFoundError as error:
        raise PartialLabelError(
            f"The export needs ONNX, and {error.name!r} is missing: {install_hint('onnx')}."
        ) from error
    del onnx, onnxscript
    onnxruntime.disable_telemetry_events()  # official builds for Windows


def _write_networks(model: SegmentationModel, files: Sequence[Path]) -> bool:
    """Write and check the network of each fold; return whether channel 0 of the logits is 0 in all of them."""
    import torch

    predictor = model.predictor
    network = torch.nn.Sequential(predictor.network).eval()  # calls it with its hooks, as aBCE's has one
    n_bytes = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    size = (2, len(model.channel_names), *predictor.configuration_manager.patch_size)
    patches = torch.randn(size, generator=torch.Generator().manual_seed(0))
    program, is_zero = _convert(network, patches), True
    for weights, file in zip(predictor.list_of_parameters, files, strict=True):
        predictor.network.load_state_dict(weights)
        names = program.model.graph.initializers  # of a tensor with several names one; _compare sees where that fails
        program.apply_weights({name: value for name, value in network.state_dict().items() if name in names})
        program.save(str(file), external_data=n_bytes > _MOST_BYTES)
        is_zero &= _compare(network, patches, file)
    return is_zero


def _convert(network: nn.Module, patches: Tensor) -> Any:
    """Convert a network, whatever its weights, to PyTorch's ONNXProgram."""
    import torch

    try:
        program: Any = torch.onnx.export(
            network,
            (patches,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    except Exception as problem:  # the exporter's errors have no class in common
        raise PartialLabelError(f"This network cannot be exported to ONNX: {problem}") from problem
    # traces of the source code, which name folders of this computer
    program.model.metadata_props.clear()
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    return program


def _compare(network: nn.Module, patches: Tensor, file: Path) -> bool:
    """Run an ONNX file with batches of one and two; return whether channel 0 of the logits is 0."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(patches)  # (2, K, *patch)
    largest = max(1.0, float(expected.abs().max()))
    for batch in (1, 2):
        (logits,) = session.run(["logits"], {"image": patches[:batch].numpy()})
        difference = float((torch.from_numpy(logits) - expected[:batch]).abs().max())
        if not math.isfinite(difference) or difference > _TOLERANCE * largest:
            raise PartialLabelError(
                f"The exported network differs from PyTorch's by {difference:.2g} at logits up to {largest:.2g}; "
                f"expected at most {_TOLERANCE * largest:.2g}. Nothing was written."
            )
    return not bool(expected[:, 0].any())
