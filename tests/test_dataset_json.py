"""Classes, regions and channels as dataset.json has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_partial.dataset_json import (
    class_names,
    has_regions,
    ignore_label,
    metric_keys,
    nested_regions,
    region_values,
    structure_names,
)
from nnunet_partial.errors import DatasetError, PartialLabelError

#: The same examples in every run, however busy the machine.
CALM = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
REGIONS = {"background": 0, "EPI": [1, 2], "LV": 1}


def labels(**values: Any) -> dict[str, Any]:
    return {"labels": {"background": 0, **values}}


def test_a_list_of_one_value_is_no_region() -> None:
    assert not has_regions({"labels": {"background": 0, "LV": [1]}})
    assert has_regions({"labels": {"background": 0, "heart": [1, 2]}})


def test_class_names_go_by_value() -> None:
    assert class_names(labels(MYO=2, LV=1)) == ("LV", "MYO")
    assert class_names(labels(ignore=3, MYO=2, LV=1)) == ("LV", "MYO")
    assert class_names(labels()) == ()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({}, "labels None"),
        ({"labels": []}, "labels"),
        ({"labels": {"LV": 1}}, '"background": 0'),
        (labels(LV=2), r"label values \[2\]; expected 1 to 1"),
        (labels(LV=1, MYO=1), r"label values \[1, 1\]"),
        (labels(LV=1, MYO=3), r"label values \[1, 3\]"),
        (labels(LV="x"), "expected integers"),
        (labels(LV=None), "expected integers"),
        (labels(LV=1.5), "expected integers"),
        (labels(LV=float("inf")), "expected integers"),
        (labels(LV=float("nan")), "expected integers"),
        (labels(whole=[1, 2]), "region-based"),
        (labels(ignore=1, LV=2), "'ignore' must have the highest value"),
    ],
)
def test_labels_that_cannot_be_used(content: dict[str, Any], match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        class_names(content)


def test_no_structure_is_called_as_all_of_them() -> None:
    for content in (labels(**{"(all)": 1}), labels(**{"(all)": [1, 2], "LV": [2]}) | {"regions_class_order": [1, 2]}):
        with pytest.raises(DatasetError, match=r"label '\(all\)'"):
            structure_names(content)


@CALM
@given(st.dictionaries(st.sampled_from(["LV", "MYO", "ignore", "background", ""]), anything))
def test_class_names_never_crash(values: dict[str, Any]) -> None:
    try:
        found = class_names({"labels": {"background": 0, **values}})
    except PartialLabelError:
        return
    assert len(found) == len(set(values) - {"ignore", "background"})


def test_regions_and_ignore() -> None:
    assert has_regions(labels(whole=[1, 2]))
    assert not has_regions(labels(LV=1))
    assert not has_regions({})
    assert ignore_label(labels(LV=1, ignore=2)) == 2
    assert ignore_label(labels(LV=1)) is None


def test_names_and_values_of_regions() -> None:
    content = {"labels": {**REGIONS, "ignore": 3}, "regions_class_order": [2, 1]}
    assert structure_names(content) == ("EPI", "LV")
    assert region_values(content) == ((1, 2), (1,))
    assert nested_regions(((1, 2, 3), (2, 3), (3,), (1,))) == [(1, 0), (2, 0), (2, 1), (3, 0)]
    with pytest.raises(DatasetError, match="region-based"):
        class_names(content)
    classes = {"labels": {"background": 0, "LV": 1}}
    assert (structure_names(classes), region_values(classes)) == (("LV",), ())


def test_a_region_that_its_outer_one_overwrites_is_refused() -> None:
    """nnU-Net writes regions in the order of dataset.json: here the whole epicardium over the ventricle in it."""
    with pytest.raises(DatasetError, match="LV and EPI"):
        structure_names({"labels": {"background": 0, "LV": 1, "EPI": [1, 2]}, "regions_class_order": [1, 2]})


def test_keys_of_the_metrics_are_those_of_nnunet() -> None:
    from nnunetv2.evaluation.evaluate_predictions import label_or_region_to_key
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    labels = {"background": 0, "whole": [1, 2, 3], "core": 2, "enhancing": [3], "ignore": 4}
    manager = LabelManager(labels, [1, 2, 3])
    keys = metric_keys({"labels": labels, "regions_class_order": [1, 2, 3]})
    assert keys == ("(1, 2, 3)", "2", "(3,)")
    assert keys == tuple(label_or_region_to_key(region) for region in manager.foreground_regions)
    assert metric_keys({"labels": {"background": 0, "MYO": 2, "LV": 1, "ignore": 3}}) == ("1", "2")


@pytest.mark.parametrize(
    ("labels", "order", "culprit"),
    [
        ({"EPI": [0, 2]}, [2, 1], "'EPI'"),
        ({"EPI": [1, 2.5]}, [2, 1], "'EPI'"),
        ({"EPI": [1, 1, 2]}, [2, 1], "'EPI'"),
        ({"ignore": 5}, [2, 1], "'ignore'.*5"),
        ({"ignore": [3, 4]}, [2, 1], "'ignore'"),
        ({"again": [2, 1]}, [2, 1, 1], "same values"),
        ({}, None, "regions_class_order None"),
        ({}, [2], "regions_class_order"),
        ({}, [2, 2], "regions_class_order"),
        ({}, [1, 1], "where EPI is predicted, 1 is written last"),  # EPI alone would be stored as 1, which is LV, too
        ({"ES": [2, 3]}, [1, 1, 2], "where ES is predicted, 2 is"),  # of two that cross nothing tells 2 from 3
        ({"background": 1}, [2, 1], '"background": 0'),
    ],
)
def test_regions_that_cannot_be(labels: dict[str, Any], order: Any, culprit: str) -> None:
    with pytest.raises(DatasetError, match=culprit):
        structure_names({"labels": {**REGIONS, **labels}, "regions_class_order": order})
