"""The comparison that other tests state their facts with can fail."""

import pytest
from helpers.facts import says


def test_every_fact_counts_in_any_order() -> None:
    assert says("12 pixels", "case_1", "fold 3") == "fold 3 of case_1: 12 pixels"
    assert {"a": [says("x", "5 mm")]} == {"a": ["x: 5 mm"]}
    assert says("a.nii.gz", "--overwrite") in ("nothing", "a.nii.gz exists (--overwrite)")


@pytest.mark.parametrize("text", ["5 frames", "case_12: 5 frames", "case_1: 15 frames", "case_1: 5 framesets", None])
def test_a_missing_fact_or_a_part_of_a_word_is_not_enough(text: str | None) -> None:
    assert text != says("case_1", "5 frames")
