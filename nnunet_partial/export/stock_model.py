"""Turn a trained model into one of nnU-Net's own trainers, which gives the same logits.

Most networks of this package's trainers are nnU-Net's already. The exception is the background logit of 0 with which
aBCE trains: here output channel 0 of every segmentation layer becomes 0 instead, weights and bias.

Nothing is taken on trust: both networks are run with the weights of each fold, and must give the same logits bit by
bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.inference.model import load_predictor
from nnunet_partial.model_selection.candidates import TrainedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Packages that stock nnU-Net takes its networks from.
STOCK_PACKAGES = ("nnunetv2", "dynamic_network_architectures")


@dataclass(frozen=True)
class StockModel:
    """Hold what stock nnU-Net needs to predict as a model does.

    Attributes:
        trainer: Name of nnU-Net's trainer.
        weights: By fold; tensors that two names share stay shared.
        mirroring_axes: Axes along which images are mirrored at prediction; None for none.
        plans: Content of the model's plans.json.
        dataset_json: Content of its dataset.json.
    """

    trainer: str
    weights: Mapping[int | str, Mapping[str, Tensor]]
    mirroring_axes: tuple[int, ...] | None
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]


def stock_model(model: TrainedModel, folds: Sequence[int | str]) -> StockModel:
    """Load a model as nnU-Net's prediction does, and find the stock model that gives the same logits.

    Args:
        model: With its checkpoint.
        folds: That have this checkpoint.

    Returns:
        The stock model.

    Raises:
        PartialLabelError: There is none: another network (SwinUNETR), or weights that do not fit; or the trainer's
            class is not found.
    """
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

    trainer_class = _find_trainer(model)
    predictor = _load(model, folds)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    stock_class = find_stock_trainer(trainer_class)
    channels = determine_num_input_channels(plans, configuration, predictor.dataset_json)
    stock = stock_class.build_network_architecture(
        plans, configuration, channels, predictor.label_manager.num_segmentation_heads, enable_deep_supervision=False
    )
    if type(stock).__module__.partition(".")[0] not in STOCK_PACKAGES:
        raise PartialLabelError(_refusal(model, f"stock nnU-Net does not have its network, {type(stock).__name__}"))
    original = getattr(predictor.network, "_orig_mod", predictor.network)  # inside of what torch.compile gives
    image = _probe(stock, configuration, channels)
    weights = {}
    for fold, parameters in zip(folds, predictor.list_of_parameters, strict=True):
        original.load_state_dict(parameters)
        try:
            stock.load_state_dict(parameters)
        except RuntimeError as problem:
            raise PartialLabelError(
                _refusal(model, f"its weights do not fit into the network of {stock_class.__name__}")
            ) from problem
        if not match_logits(original, stock, image):
            raise PartialLabelError(_refusal(model, "stock nnU-Net computes other logits from its weights"))
        weights[fold] = _copy(stock)
    axes = predictor.allowed_mirroring_axes
    return StockModel(
        stock_class.__name__,
        weights,
        None if axes is None else tuple(map(int, axes)),
        plans.plans,
        predictor.dataset_json,
    )


def find_stock_trainer(trainer_class: type[Any]) -> type[Any]:
    """Find the trainer of nnU-Net that builds the same network.

    Args:
        trainer_class: Any trainer.

    Returns:
        nnUNetTrainer if its network is the one that the trainer's class rests on, else the class that has another.
    """
    stock: list[Any] = [base for base in trainer_class.__mro__ if base.__module__.partition(".")[0] == "nnunetv2"]
    nearest, plain = stock[0], stock[-1]
    found: type[Any] = plain if nearest.build_network_architecture is plain.build_network_architecture else nearest
    return found


def _find_trainer(model: TrainedModel) -> type[Any]:
    """Return the class of the model's trainer, unless its network is known not to be nnU-Net's."""
    from nnunet_partial.training.architectures import SwinUNETRMixin
    from nnunet_partial.training.trainer_class import find_trainer_class

    trainer_class = find_trainer_class(model.trainer)
    if issubclass(trainer_class, SwinUNETRMixin):
        raise PartialLabelError(_refusal(model, "SwinUNETR is MONAI's network, which stock nnU-Net does not have"))
    return trainer_class


def _load(model: TrainedModel, folds: Sequence[int | str]) -> Any:
    """Return nnU-Net's predictor with the model, on the CPU."""
    predictor = load_predictor(model.folder, model.folder, folds, model.checkpoint, "cpu")
    expected = predictor.plans_manager.get_configuration(model.configuration).configuration
    if predictor.trainer_name != model.trainer or predictor.configuration_manager.configuration != expected:
        raise PartialLabelError(
            f"The checkpoint of {model.folder} is of {predictor.trainer_name}, or of another configuration than the "
            "name of the folder says. Give the folder back the name that nnU-Net gave it."
        )
    return predictor


def _probe(network: nn.Module, configuration: Any, channels: int) -> Tensor:
    """Return noise to run a network on, (1, channels, *S): of two voxels after all downsampling, or of a patch."""
    import torch

    size = [int(length) for length in configuration.patch_size]
    if _is_unet(network):  # takes images of other sizes
        smallest = 2 * np.prod(configuration.pool_op_kernel_sizes, axis=0)
        size = [min(length, int(least)) for length, least in zip(size, smallest, strict=True)]
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))


def match_logits(original: nn.Module, stock: nn.Module, image: Tensor) -> bool:
    """Make a stock network give the logits of another one with the same weights, at every resolution.

    Args:
        original: Whose background logit may be 0.
        stock: Its segmentation layers are changed in place, if that is the only difference.
        image: (1, channels, *S), of a size that both take.

    Returns:
        Whether the logits are the same, bit by bit.
    """
    import torch

    expected, given = (_logits(network, image) for network in (original, stock))
    if _equal(expected, given):
        return True
    if any(logits[:, 0].any() for logits in expected):
        return False
    with torch.no_grad():
        for layer in _segmentation_layers(stock):
            is_transposed = isinstance(layer, torch.nn.modules.conv._ConvTransposeNd)
            (layer.weight[:, 0] if is_transposed else layer.weight[0]).zero_()
            if layer.bias is not None:
                layer.bias[0] = 0
    return _equal(expected, _logits(stock, image))


def _logits(network: Any, image: Tensor) -> list[Tensor]:
    """Run a network.

    Returns:
        Logits of each resolution, (1, C, *S) each.
    """
    import torch

    if _is_unet(network):
        network.decoder.deep_supervision = True
    with torch.inference_mode():
        output = network.eval()(image)
    return list(output) if isinstance(output, list | tuple) else [output]


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    import torch

    return len(first) == len(second) and all(map(torch.equal, first, second))


def _is_unet(network: Any) -> bool:
    return hasattr(getattr(network, "decoder", None), "seg_layers")


def _segmentation_layers(network: Any) -> list[Any]:
    """Return the layers that give the logits, one per resolution; empty for an unknown network."""
    if _is_unet(network):
        return list(network.decoder.seg_layers)
    return [network.up_projection.decode[-1]] if hasattr(network, "up_projection") else []  # Primus


def _copy(network: nn.Module) -> dict[str, Tensor]:
    """Copy the weights, each tensor once: a U-Net's decoder names those of the encoder again."""
    copies: dict[tuple[int, ...], Tensor] = {}
    weights = {}
    for name, tensor in network.state_dict().items():
        key = (tensor.data_ptr(), *tensor.shape)
        if key not in copies:
            copies[key] = tensor.clone()
        weights[name] = copies[key]
    return weights


def _refusal(model: TrainedModel, reason: str) -> str:
    return (
        f"{model.name} cannot be exported: {reason}. Whoever predicts with it needs this package, nnunet-partial, too."
    )
