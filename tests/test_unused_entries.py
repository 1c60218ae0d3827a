"""Patterns and entries of a manifest that speak of no case, where the first pattern that matches counts."""

from __future__ import annotations

import pytest
from facts import says

from nnunet_partial.labels import CaseLabels, Manifest, unused_cases, unused_groups

ALL, LV, TEST = CaseLabels(("LV", "LA")), CaseLabels(("LV",)), CaseLabels(("LV",), info={"split": "test"})
CASES = ["siteA_0", "siteB_0", "siteB_1"]


@pytest.mark.parametrize(
    ("groups", "lines"),
    [
        ((), []),
        ((("siteB_*", LV), ("*", ALL)), []),
        # '*' wins siteA_0 although it stands last; the mistyped pattern would leave site B to it
        ((("siteB-*", LV), ("*", ALL)), ["the group 'siteB-*' matches no case"]),
        (
            (("*", ALL), ("siteB_*", LV)),
            [says("group 'siteB_*'", "'*' stands before it", "Put it first")],
        ),
        (
            (("site?_0", ALL), ("*_1", ALL), ("siteB_*", LV), ("*", ALL)),
            [says("group 'siteB_*'", "'site?_0', '*_1' stands before it", "Put it first"),
             says("group '*'", "'site?_0', '*_1' stands before it", "Put it first")],
        ),
    ],
)  # fmt: skip
def test_the_first_pattern_counts(groups: tuple[tuple[str, CaseLabels], ...], lines: list[object]) -> None:
    assert unused_groups(Manifest({}, groups), CASES) == lines


def test_a_pattern_whose_cases_have_entries_of_their_own_is_used() -> None:
    manifest = Manifest(dict.fromkeys(CASES, LV), (("site*", ALL),))
    assert unused_groups(manifest, CASES) == []


def test_entries_that_name_no_case() -> None:
    manifest = Manifest({"siteB_1.nii.gz": LV, "siteA_0": ALL, "siteB_0.nii.gz": LV, "new": TEST})
    assert unused_cases(manifest, CASES) == ["new", "siteB_0.nii.gz", "siteB_1.nii.gz"]
    assert unused_cases(manifest, CASES, with_test=False) == ["siteB_0.nii.gz", "siteB_1.nii.gz"]


def test_what_is_declared_to_be_of_test_cases_can_be_left_out() -> None:
    manifest = Manifest({}, (("new_*", TEST), ("*", ALL)))
    assert unused_groups(manifest, CASES) == ["the group 'new_*' matches no case"]
    assert unused_groups(manifest, CASES, with_test=False) == []
