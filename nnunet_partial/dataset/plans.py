"""Shrink the network of nnU-Net's plans for computers without a GPU: fewer stages, features and images per batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import format_names

#: Stages that a network needs under deep supervision: nnU-Net gives its lowest output the weight 0, and the sum of the
#: weights must not be 0.
MIN_STAGES = 3


def add_small_configuration(
    plans_file: Path,
    name: str,
    *,
    base: str = "2d",
    features: Sequence[int] = (16, 32, 64, 64),
    batch_size: int = 8,
    patch_size: Sequence[int] | None = None,
) -> None:
    """Add a configuration to a plans file: that of `base`, on the same preprocessed data, with a small network.

    Args:
        plans_file: The file, which is changed.
        name: Name of the new configuration.
        base: The configuration that it inherits from.
        features: Number of features of each stage; a network planned with fewer stages keeps their number.
        batch_size: Images per batch.
        patch_size: Patch size in pixels, as many numbers as the base has; 96 along each axis unless given.

    Raises:
        PartialLabelError: The file has no `base`, a size is below 1, the network has fewer than `MIN_STAGES` stages, or
            the patch has another number of axes or is not divisible by the network's downsampling.

    References:
        nnU-Net's documentation/explanation_plans_files.md: plans are made to be edited.
    """
    plans = read_json(plans_file)
    configurations = plans.get("configurations", {}) if isinstance(plans, dict) else {}
    if base not in configurations:
        raise PartialLabelError(
            f"{plans_file} has no configuration {base!r}; there: {format_names(set(configurations))}."
        )
    architecture = inherited(plans, base, "architecture")
    axes = len(inherited(plans, base, "patch_size"))
    patch_size = [96] * axes if patch_size is None else patch_size
    _require_sizes(features, batch_size, patch_size, axes)
    network = shrink_network(architecture["arch_kwargs"], features)
    if network["n_stages"] < MIN_STAGES:
        raise PartialLabelError(
            f"the network has {network['n_stages']} stage(s); expected at least {MIN_STAGES}: with fewer, nnU-Net's "
            "weights of deep supervision are 0 / 0 and the loss is NaN. Give more features, or plan larger patches."
        )
    _require_divisible(patch_size, network["strides"])
    configurations[name] = {
        "inherits_from": base,
        "batch_size": batch_size,
        "patch_size": list(patch_size),
        "architecture": {**architecture, "arch_kwargs": network},
    }
    write_json(plans_file, plans, ascii_only=True)


def inherited(plans: Mapping[str, Any], configuration: str, key: str) -> Any:
    """Look up an entry of a configuration, or of the one it inherits from.

    Args:
        plans: Content of the plans file.
        configuration: Name of the configuration.
        key: Key of the entry.

    Returns:
        The entry. KeyError where no configuration has it.
    """
    return configuration_settings(plans["configurations"], configuration)[key]


def configuration_settings(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Read a configuration of the plans with what it inherits.

    Args:
        configurations: Those of the plans.
        name: Name of the configuration.

    Returns:
        Its settings; empty where there is no such configuration.
    """
    own = configurations.get(name, {})
    base = configuration_settings(configurations, own["inherits_from"]) if "inherits_from" in own else {}
    return {**base, **own}


def shrink_network(network: Mapping[str, Any], features: Sequence[int]) -> dict[str, Any]:
    """Cut a network down to fewer stages and features.

    Args:
        network: nnU-Net's `arch_kwargs`.
        features: Number of features of each stage that stays.

    Returns:
        The `arch_kwargs` of the first len(features) stages.
    """
    stages = min(len(features), network["n_stages"])
    small = {key: _cut(value, network["n_stages"], stages) for key, value in network.items()}
    return {**small, "n_stages": stages, "features_per_stage": list(features[:stages])}


def _cut(value: Any, before: int, after: int) -> Any:
    """Cut a list with one entry per stage, or per step between stages; return other values as they are."""
    if not isinstance(value, (list, tuple)) or len(value) not in (before, before - 1):
        return value
    return list(value[: after - (before - len(value))])


def _require_sizes(features: Sequence[int], batch_size: int, patch_size: Sequence[int], axes: int) -> None:
    for what, sizes in (("features", features), ("batch", [batch_size]), ("patch", patch_size)):
        if min(sizes) < 1:
            raise PartialLabelError(f"{what}: {' '.join(map(str, sizes))}; expected integers above 0")
    if len(patch_size) != axes:
        raise PartialLabelError(
            f"patch size {' '.join(map(str, patch_size))}: expected {axes} numbers, one for each axis"
        )


def _require_divisible(patch_size: Sequence[int], strides: Sequence[Any]) -> None:
    for axis, size in enumerate(patch_size):
        divisor = math.prod(stride[axis] if isinstance(stride, (list, tuple)) else stride for stride in strides)
        if size % divisor:
            raise PartialLabelError(
                f"patch size {size} along axis {axis} must be divisible by {divisor} (total downsampling)"
            )
