"""Makes a small network of nnU-Net's plan, for computers without a graphics card: fewer stages, features and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError, some
from nnunet_partial.files import read_json, write_json


def add_small_configuration(
    plans_file: Path,
    name: str,
    *,
    base: str = "2d",
    features: Sequence[int] = (16, 32, 64, 64),
    batch_size: int = 8,
    patch_size: Sequence[int] = (96, 96),
) -> None:
    """Adds the configuration `name` to a plans file: `base`, and its preprocessed data, with a small network.

    `features`: of each stage; a network planned with fewer stages keeps its number. `patch_size` in pixels.
    Plans are made to be edited, see nnU-Net's documentation/explanation_plans_files.md.
    Raises PartialLabelError where the file has no `base`, or the patch cannot be halved as often as the network does.
    """
    plans = read_json(plans_file)
    configurations = plans.get("configurations", {}) if isinstance(plans, dict) else {}
    if base not in configurations:
        raise PartialLabelError(f"{plans_file} has no configuration {base!r}; there: {some(set(configurations))}.")
    architecture = configurations[base]["architecture"]
    network = shrink_network(architecture["arch_kwargs"], features)
    _require_divisible(patch_size, network["strides"])
    configurations[name] = {
        "inherits_from": base,
        "batch_size": batch_size,
        "patch_size": list(patch_size),
        "architecture": {**architecture, "arch_kwargs": network},
    }
    write_json(plans_file, plans)


def shrink_network(network: Mapping[str, Any], features: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's `arch_kwargs` cut down to the first len(features) stages, with so many features each."""
    stages = min(len(features), network["n_stages"])
    small = {key: _cut(value, network["n_stages"], stages) for key, value in network.items()}
    return {**small, "n_stages": stages, "features_per_stage": list(features[:stages])}


def _cut(value: Any, before: int, after: int) -> Any:
    """A list with one entry per stage, or per step between stages, loses those of the last stages."""
    if not isinstance(value, (list, tuple)) or len(value) not in (before, before - 1):
        return value
    return list(value[: after - (before - len(value))])


def _require_divisible(patch_size: Sequence[int], strides: Sequence[Any]) -> None:
    for axis, size in enumerate(patch_size):
        shrunk = 1
        for stride in strides:
            shrunk *= stride[axis] if isinstance(stride, (list, tuple)) else stride
        if size % shrunk:
            raise PartialLabelError(
                f"the patch is {size} pixels along axis {axis}; expected a multiple of {shrunk}, by which the network "
                "shrinks it"
            )
