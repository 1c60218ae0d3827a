"""Read what dataset.json says of the labels: classes or regions, ignore label, channels, pseudo-labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_partial.errors import DatasetError
from nnunet_partial.utils.text import ALL, short_repr

#: Key in dataset.json of a filled dataset, which nnU-Net puts beside models and predictions; it names no case.
PSEUDO_LABELS_KEY = "pseudo_labels"

#: Key in dataset.json beside a model with a widened fold, and beside its predictions: the folder of the model.
WIDENED_KEY = "widened"


def is_filled(dataset_json: Mapping[str, Any]) -> bool:
    """Tell whether a dataset has pseudo-labels.

    Args:
        dataset_json: The content of its dataset.json.

    Returns:
        Whether it says so.
    """
    return bool(dataset_json.get(PSEUDO_LABELS_KEY))


def has_regions(dataset_json: Mapping[str, Any]) -> bool:
    """Tell whether a dataset is region-based.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        Whether a label is a list of several values.
    """
    labels = dataset_json.get("labels")
    return isinstance(labels, dict) and any(isinstance(v, (list, tuple)) and len(v) > 1 for v in labels.values())


def class_names(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the foreground classes of a dataset.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        Their names in the order of their values 1, 2, ...; without background and ignore.

    Raises:
        DatasetError: The labels are missing, region-based or not consecutive.
    """
    labels = dataset_json.get("labels")
    if not isinstance(labels, dict) or str(labels.get("background")) not in ("0", "0.0"):
        raise DatasetError(f'dataset.json has labels {short_repr(labels)}; expected an object with "background": 0.')
    if has_regions(dataset_json):
        raise DatasetError("dataset.json is region-based (a label is a list of values); expected one value per class.")
    try:
        values = {name: _integer(value) for name, value in labels.items() if name != "background"}
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"dataset.json has labels {short_repr(labels)}; expected integers.") from None
    ordered = sorted(values, key=values.__getitem__)
    if [values[name] for name in ordered] != list(range(1, len(values) + 1)):
        raise DatasetError(f"dataset.json has label values {sorted(values.values())}; expected 1 to {len(values)}.")
    if "ignore" in values and ordered[-1] != "ignore":
        raise DatasetError("dataset.json: the label 'ignore' must have the highest value.")
    return tuple(name for name in ordered if name != "ignore")


def structure_names(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the foreground classes or regions of a dataset.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        Their names in the order of the network's outputs; without background and ignore.

    Raises:
        DatasetError: The labels are missing or wrong.
    """
    names = tuple(_regions(dataset_json)) if has_regions(dataset_json) else class_names(dataset_json)
    if ALL in names:
        raise DatasetError(f"dataset.json has the label {ALL!r}, which stands for all in tables; call it otherwise.")
    return names


def region_values(dataset_json: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Read which stored values make up each region of a dataset.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        The values of each region in the order of `structure_names`; empty where the dataset has classes.

    Raises:
        DatasetError: The labels are missing or wrong.
    """
    return tuple(_regions(dataset_json).values()) if has_regions(dataset_json) else ()


def stored_values(classes: Sequence[str], regions: Sequence[Sequence[int]] = ()) -> dict[str, tuple[int, ...]]:
    """Give each class its value, or each region its values.

    Args:
        classes: Names in the order of the network's outputs.
        regions: Stored values of each, as `region_values` gives them; empty where these are classes.

    Returns:
        The stored values by name.
    """
    values = [tuple(region) for region in regions] or [(value,) for value in range(1, len(classes) + 1)]
    return dict(zip(classes, values, strict=True))


def metric_keys(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the classes or regions as nnU-Net does in the metrics of summary.json.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        The key of each in the order of `structure_names`: "1" for a value, "(1, 2)" for the list [1, 2], "(3,)" for
        [3].

    Raises:
        DatasetError: The labels are missing or wrong.
    """
    if not has_regions(dataset_json):
        return tuple(str(value) for value in range(1, len(class_names(dataset_json)) + 1))
    return tuple(
        str(stored) if isinstance(dataset_json["labels"][name], (list, tuple)) else str(stored[0])
        for name, stored in _regions(dataset_json).items()
    )


def nested_regions(regions: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Find the regions that lie inside others.

    Args:
        regions: The stored values of each region.

    Returns:
        Pairs of indices (S, R) such that every value of S is one of R; empty where there is none.
    """
    return [
        (s, r)
        for s, inner in enumerate(regions)
        for r, outer in enumerate(regions)
        if s != r and set(inner) <= set(outer)
    ]


def _regions(dataset_json: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the stored values of each region, in the order of dataset.json, as nnU-Net takes them.

    Raises:
        DatasetError: They are not integers above 0, two regions are the same, the ignore label is not the highest
            value, or `regions_class_order` does not fit.
    """
    labels = dataset_json["labels"]
    if str(labels.get("background")) not in ("0", "0.0"):
        raise DatasetError(f'dataset.json has labels {short_repr(labels)}; expected an object with "background": 0.')
    regions: dict[str, tuple[int, ...]] = {}
    for name, values in labels.items():
        if name in ("background", "ignore"):
            continue
        try:
            stored = tuple(_integer(value) for value in (values if isinstance(values, (list, tuple)) else [values]))
        except (TypeError, ValueError, OverflowError):
            stored = ()
        if not stored or min(stored) < 1 or len(set(stored)) < len(stored):
            raise DatasetError(f"dataset.json has the region {name!r}: {short_repr(values)}; expected values above 0.")
        regions[name] = stored
    highest = max((value for stored in regions.values() for value in stored), default=0)
    ignored = labels.get("ignore")
    if ignored is not None and ignored != highest + 1:
        raise DatasetError(
            f"dataset.json: 'ignore' has the value {short_repr(ignored)}; expected {highest + 1}, the highest one."
        )
    if len({frozenset(stored) for stored in regions.values()}) < len(regions):
        raise DatasetError(f"dataset.json has two regions of the same values: {short_repr(labels)}.")
    order = dataset_json.get("regions_class_order")
    fits = (
        isinstance(order, (list, tuple))
        and len(order) == len(regions)
        and all(value in stored for value, stored in zip(order, regions.values(), strict=True))
    )
    if not fits:
        raise DatasetError(
            f"dataset.json has regions_class_order {short_repr(order)}; expected a list of {len(regions)} values: "
            f"which of its values a prediction stores for each of {', '.join(regions)}. A later one overwrites an "
            "earlier one."
        )
    _require_stored(regions, order)
    return regions


def _require_stored(regions: Mapping[str, Sequence[int]], order: Any) -> None:
    """Raise DatasetError unless a prediction that is right in every region is stored with these regions."""
    for value in sorted({value for stored in regions.values() for value in stored}):
        inside = [name for name, stored in regions.items() if value in stored]
        written = order[list(regions).index(inside[-1])]  # the last of them overwrites the others
        read = [name for name, stored in regions.items() if written in stored]
        if read != inside:
            raise DatasetError(
                f"dataset.json has regions_class_order {short_repr(order)}: where {' and '.join(inside)} is predicted, "
                f"{written} is written last, which is {' and '.join(read)}. Name larger regions before those inside "
                "them, under labels and in regions_class_order alike, and give each the value that is its alone."
            )


def channel_names(dataset_json: Mapping[str, Any]) -> dict[str, str]:
    """Read the channels of a dataset; older tools call them 'modality', which nnU-Net takes too.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        Their names by their numbers, in numeric order.

    Raises:
        DatasetError: There are none, or their keys are not numbers, as where name and number are exchanged.
    """
    names = dataset_json.get("channel_names", dataset_json.get("modality"))
    if not isinstance(names, dict) or not names:
        raise DatasetError('dataset.json has no \'channel_names\'; expected an object such as {"0": "ultrasound"}.')
    if not all(key.isdecimal() for key in names):
        exchanged = {str(value): key for key, value in names.items()}
        wanted = exchanged if all(map(str.isdecimal, exchanged)) else {"0": "ultrasound"}
        raise DatasetError(
            f"dataset.json has the 'channel_names' {short_repr(names)}; expected numbers as keys, as in "
            f"{json.dumps(wanted, ensure_ascii=False)}. nnU-Net takes the values for the names, by which it chooses "
            "the normalization."
        )
    return {key: str(names[key]) for key in sorted(names, key=int)}


def ignore_label(dataset_json: Mapping[str, Any]) -> int | None:
    """Read the value of nnU-Net's ignore label.

    Args:
        dataset_json: The content of dataset.json.

    Returns:
        The value; None where the dataset has no ignore label.
    """
    value = dataset_json["labels"].get("ignore")
    return None if value is None else int(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(f"{value} is not an integer")
    return int(value)
