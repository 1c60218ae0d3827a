"""Makes a small network of nnU-Net's plan, for computers without a graphics card: fewer stages, features and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.errors import PartialLabelError
from nnunet_partial.utils.files import read_json, write_json
from nnunet_partial.utils.text import format_names


def add_small_configuration(
    plans_file: Path,
    name: str,
    *,
    base: str = "2d",
    features: Sequence[int] = (16, 32, 64, 64),
    batch_size: int = 8,
    patch_size: Sequence[int] | None = None,
) -> None:
    """Adds the configuration `name` to a plans file: `base`, and its preprocessed data, with a small network.

    `features`: of each stage; a network planned with fewer stages keeps its number. `patch_size` in pixels, 96 along
    each axis unless given. Plans are made to be edited, see nnU-Net's documentation/explanation_plans_files.md.
    Raises PartialLabelError where the file has no `base`, for sizes below 1, and where the patch has another number of
    axes, or cannot be halved as often as the network does.
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
    _require_divisible(patch_size, network["strides"])
    configurations[name] = {
        "inherits_from": base,
        "batch_size": batch_size,
        "patch_size": list(patch_size),
        "architecture": {**architecture, "arch_kwargs": network},
    }
    write_json(plans_file, plans)


def inherited(plans: Mapping[str, Any], configuration: str, key: str) -> Any:
    """An entry of a configuration in a plans file, or of the one it inherits from. KeyError where none has it."""
    entry = plans["configurations"][configuration]
    return entry[key] if key in entry else inherited(plans, entry["inherits_from"], key)


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


def _require_sizes(features: Sequence[int], batch_size: int, patch_size: Sequence[int], axes: int) -> None:
    for what, sizes in (("features", features), ("batch", [batch_size]), ("patch", patch_size)):
        if min(sizes) < 1:
            raise PartialLabelError(f"{what}: {_listed(sizes)}; expected whole numbers above 0")
    if len(patch_size) != axes:
        raise PartialLabelError(f"the patch is {_listed(patch_size)}; expected {axes} numbers, one for each axis")


def _listed(sizes: Sequence[int]) -> str:
    return " ".join(map(str, sizes))


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
