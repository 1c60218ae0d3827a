"""The manifest: what a case knows, what is read and written, and which mistakes are caught with which words.

Patterns and entries of a manifest that speak of no case, where the first pattern that matches counts.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.facts import says
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_partial.errors import ManifestError
from nnunet_partial.labels import CaseLabels, Manifest, unused_cases, unused_groups

#: The same examples in every run, however busy the machine.
CALM = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

CLASSES = ("LV", "MYO", "LA")

EXAMPLE: dict[str, Any] = {
    "version": 1,
    "groups": [{"match": "echonet_*", "annotated": ["LV"], "domain": "echonet"}],
    "cases": {
        "camus_1": {
            "annotated": ["LV", "MYO", "LA"],
            "absent": ["RV", "RA"],
            "domain": "camus",
            "patient": "camus_patient1",
            "split": "train",
            "view": "2CH",
            "ef": 54.0,
        },
        "echonet_special": {"annotated": []},
    },
    "scenario": {"missing": "LA", "seed": 0},
    "domain_weights": {"camus": 2.0, "echonet": 1},
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(EXAMPLE), **changes}


def with_case(entry: Any) -> dict[str, Any]:
    return changed(cases={"c1": entry})


# What a case knows


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("camus_1", [True, True, True, True]),
        ("echonet_7", [True, True, False, False]),
        ("echonet_special", [True, False, False, False]),  # its entry wins over the group
    ],
)
def test_known_is_background_and_what_is_annotated_or_absent(case: str, expected: list[bool]) -> None:
    known = Manifest.from_json(EXAMPLE).known(case, CLASSES)
    assert known.dtype == bool
    assert known.tolist() == expected


def test_absent_classes_are_known() -> None:
    assert CaseLabels(("LV",), ("LA",)).known == {"LV", "LA"}
    assert Manifest({"a": CaseLabels(("LV",), ("LA",))}).known("a", CLASSES).tolist() == [True, True, False, True]


def test_known_follows_the_order_of_the_classes() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",))})
    assert manifest.known("a", ("LA", "LV")).tolist() == [True, False, True]
    assert manifest.known("a", ()).tolist() == [True]


def test_a_case_that_nobody_names_is_an_error_and_never_fully_labeled() -> None:
    manifest = Manifest.from_json(EXAMPLE)
    assert manifest.find("other") is None
    for ask in (manifest.labels_of, manifest.patient_of, lambda case: manifest.known(case, CLASSES)):
        with pytest.raises(ManifestError, match="other"):
            ask("other")


def test_the_first_matching_group_wins() -> None:
    manifest = Manifest({}, (("a_*", CaseLabels(("LV",))), ("*", CaseLabels(("LA",)))))
    assert manifest.labels_of("a_1").annotated == ("LV",)
    assert manifest.labels_of("b_1").annotated == ("LA",)
    assert manifest.labels_of("A_1").annotated == ("LA",)  # upper and lower case differ


def test_entries_of_cases_come_in_the_order_given_without_cases_that_nobody_names() -> None:
    manifest = Manifest.from_json(EXAMPLE)
    found = manifest.entries_of(["echonet_1", "nobody", "camus_1"])
    assert list(found.items()) == [(case, manifest.labels_of(case)) for case in ("echonet_1", "camus_1")]


def test_the_patient_is_the_case_where_none_is_given() -> None:
    manifest = Manifest.from_json(EXAMPLE)
    assert manifest.patient_of("camus_1") == "camus_patient1"
    assert manifest.patient_of("echonet_special") == "echonet_special"
    assert manifest.patient_of("echonet_7") == "echonet_7"


def test_a_manifest_shows_no_patient_in_logs() -> None:
    assert repr(Manifest.from_json(EXAMPLE)) == "Manifest(2 cases, 1 groups)"


# Reading and writing


def test_written_and_read_again_it_is_the_same(tmp_path: Path) -> None:
    manifest = Manifest.from_json(EXAMPLE)
    manifest.write(tmp_path / "partial_labels.json")
    assert Manifest.read(tmp_path / "partial_labels.json") == manifest
    assert json.loads((tmp_path / "partial_labels.json").read_text()) == EXAMPLE


def test_only_annotated_is_needed() -> None:
    manifest = Manifest.from_json({"version": 1, "cases": {"a": {"annotated": ["LV"]}}})
    assert manifest.cases["a"] == CaseLabels(("LV",))
    assert manifest.cases["a"].split is None
    assert manifest.scenario is None
    assert manifest.domain_weights is None


def test_other_entries_are_kept() -> None:
    labels = Manifest.from_json(EXAMPLE).cases["camus_1"]
    assert labels.info == {"split": "train", "view": "2CH", "ef": 54.0}
    assert labels.split == "train"


names = st.lists(st.sampled_from(["LV", "MYO", "LA", "RV", "Käse", "a b"]), unique=True, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def case_labels(draw: st.DrawFn) -> CaseLabels:
    known = draw(names)
    cut = draw(st.integers(0, len(known)))
    info: dict[str, Any] = draw(st.dictionaries(st.sampled_from(["view", "frame"]), st.one_of(texts, st.booleans())))
    info |= draw(st.dictionaries(st.sampled_from(["spacing_known", "interpolated"]), st.booleans()))
    side = draw(st.sampled_from([None, "train", "val", "test"]))
    return CaseLabels(
        tuple(known[:cut]),
        tuple(known[cut:]),
        draw(texts),
        draw(texts) or None,
        {**info, **({"split": side} if side else {})},
    )


@pytest.mark.slow
@pytest.mark.no_cover
@CALM
@given(st.dictionaries(texts, case_labels(), max_size=4), st.lists(st.tuples(texts.filter(bool), case_labels())))
def test_any_manifest_survives_the_file(
    tmp_path: Path, cases: dict[str, CaseLabels], groups: list[tuple[str, CaseLabels]]
) -> None:
    manifest = Manifest(cases, tuple(groups))
    manifest.write(tmp_path / "partial_labels.json")
    assert Manifest.read(tmp_path / "partial_labels.json") == manifest


# Mistakes


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([], "must hold one JSON object"),
        (None, "must hold one JSON object"),
        (changed(version=2), "has version 2; this program reads version 1"),
        (changed(version="1"), "has version '1'"),
        (changed(version=True), "has version True"),
        ({"cases": {}}, "has version None"),
        (changed(case={}), r"unknown key\(s\) case"),
        (changed(cases=["a"]), "'cases' = .*expected an object"),
        (changed(groups={"match": "*"}), "'groups' = .*expected a list"),
        (changed(groups=[{"annotated": []}]), "group 0 .*expected a pattern"),
        (changed(groups=[{"match": 1, "annotated": []}]), "group 0 .*expected a pattern"),
        (changed(groups=["*"]), "group 0 "),
        (changed(scenario="x"), "'scenario' = 'x'; expected an object"),
        (changed(domain_weights={"camus": 0}), "weight 0 for domain 'camus'; expected a number above 0"),
        (changed(domain_weights={"camus": float("nan")}), "weight nan"),
        (changed(domain_weights={"camus": True}), "weight True"),
        (with_case(None), "case 'c1' must be an object with 'annotated'"),
        (with_case({}), "case 'c1' has no 'annotated'"),
        (with_case({"annotated": "LV"}), "case 'c1' has 'annotated' = 'LV'; expected a list"),
        (with_case({"annotated": [1]}), "expected a list of class names"),
        (with_case({"annotated": None}), "expected a list of class names"),
        (with_case({"annotated": ["LV", "LV"]}), "names a class twice in 'annotated'"),
        (with_case({"annotated": ["LV"], "absent": ["LV"]}), "declares LV both annotated and absent"),
        (with_case({"annotated": [], "patient": 7}), "'patient' = 7; expected text"),
        (with_case({"annotated": [], "domain": ["a"]}), "'domain' = .*expected text"),
        (with_case({"annotated": [], "domain": "(all)"}), r"case 'c1' has the domain '\(all\)'"),
        (with_case({"annotated": [], "split": "training"}), "split 'training'; .*train, val, test"),
        (with_case({"annotated": [], "spacing_known": "false"}), "spacing_known 'false'; expected true, false"),
        (with_case({"annotated": [], "interpolated": 1}), "interpolated 1; expected true, false"),
        (with_case({"annotated": [], "same_people_as": ["camus"]}), "'same_people_as' = .*expected text"),
    ],
)
def test_mistakes_are_named(content: Any, match: str) -> None:
    with pytest.raises(ManifestError, match=match):
        Manifest.from_json(content)


def test_all_wrong_cases_are_named_up_to_ten() -> None:
    content = changed(cases={f"c{n:02d}": {} for n in range(12)})
    with pytest.raises(ManifestError, match=r"c00(.|\n)*c09(.|\n)*and 2 more") as caught:
        Manifest.from_json(content)
    assert "c10" not in str(caught.value)


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"does not exist(.|\n)*\"annotated\": \[\"LV\"\]"):
        Manifest.read(tmp_path / "partial_labels.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'{"version": 1, "version": 1}',
        b'{"version": 1, "cases": {"a": {"annotated": []}, "a": {"annotated": ["LV"]}}}',
        b'{"version": ' + b"9" * 5000 + b"}",  # more digits than Python converts
        b"[" * 200_000,
        b'{"version": 1, "cases": {"a": {"annotated": ' + b"[" * 500 + b"]" * 500 + b"}}}",
        b'{"version": 1, "cases": {"a": {"annotated": ["\\ud800", "\\ud800"]}}}',
    ],
)
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "partial_labels.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"partial_labels\.json"):
        Manifest.read(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "partial_labels.json"
    path.write_text(json.dumps(EXAMPLE), encoding="utf-8-sig")
    assert Manifest.read(path) == Manifest.from_json(EXAMPLE)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        Manifest.read(tmp_path)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value, at any depth."""
    items = list(content.items() if isinstance(content, dict) else enumerate(content))
    below = [place for _, value in items if isinstance(value, (dict, list)) for place in places(value)]
    return [(content, key) for key, _ in items] + below


@pytest.mark.no_cover
@pytest.mark.slow
@settings(CALM)
@given(st.data())
def test_a_mutated_manifest_is_read_or_refused_but_never_crashes(tmp_path: Path, data: st.DataObject) -> None:
    content = copy.deepcopy(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(content)))
        change = data.draw(st.sampled_from(["replace", "delete", "add"]))
        if change == "delete":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[data.draw(st.text(max_size=5))] = data.draw(anything)
        else:
            container[key] = data.draw(anything)
        if not places(content):
            break
    path = tmp_path / "partial_labels.json"
    path.write_text(json.dumps(content))
    try:
        manifest = Manifest.read(path)
    except ManifestError:
        return
    for case in [*manifest.cases, "echonet_7", "other"]:
        assert manifest.find(case) is None or len(manifest.known(case, CLASSES)) == 4
        manifest.problems([case], CLASSES)


@pytest.mark.no_cover
@pytest.mark.slow
@settings(CALM)
@given(st.data())
def test_flipped_and_lost_bytes_never_crash_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(EXAMPLE).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    path = tmp_path / "partial_labels.json"
    path.write_bytes(content)
    with contextlib.suppress(ManifestError):
        Manifest.read(path)


def test_a_value_is_shown_as_it_stands_and_cut_where_it_is_long() -> None:
    # as repr() writes it, 60 characters are shown whole, of longer ones the first 57
    for length in (58, 59):
        text = "x" * length
        shown = repr(text) if length == 58 else repr(text)[:57] + "..."
        with pytest.raises(ManifestError) as caught:
            Manifest.from_json(text)
        assert str(caught.value) == f"must hold one JSON object, not {shown}."


@pytest.mark.parametrize("number", [10, 11])
def test_ten_wrong_entries_are_named_and_the_others_counted(number: int) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(changed(cases={f"c{n:02d}": None for n in range(number)}))
    lines = str(caught.value).split("\n")
    assert lines[:10] == [says(f"case 'c{n:02d}'", "'annotated'", "not None") for n in range(10)]
    assert lines[10:] == ["... and 1 more"] * (number - 10)


# Against a data set


def test_problems_are_all_found_and_stand_on_lines_of_their_own() -> None:
    manifest = Manifest({"b": CaseLabels(("Aorta",))})
    without, strange = manifest.problems(["a", "b"], ["LV", "LA"])  # the case without entry comes first
    assert without.startswith("1 case(s) have no entry: a")
    assert strange == says("class 'Aorta'", "1 case(s) (b)", "dataset.json (LV, LA)")
    with pytest.raises(ManifestError) as caught:
        manifest.require(["a", "b"], ["LV", "LA"])
    assert str(caught.value) == f"partial_labels.json: {without}\n{strange}"


def test_cases_without_entry_and_strange_classes_are_problems() -> None:
    manifest = Manifest({"a": CaseLabels(("LV", "Aorta")), "b": CaseLabels((), ("Aorta",))})
    first, second = manifest.problems(["a", "b", "c"], CLASSES)
    assert "c" in first
    assert second == says("class 'Aorta'", "1 case(s) (a)", "not one of the classes")
    with pytest.raises(ManifestError, match=r"partial_labels\.json: (.|\n)*Aorta"):
        manifest.require(["a", "b", "c"], CLASSES)


def test_an_absent_class_that_is_spelled_otherwise_is_a_problem() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",), ("rv",)), "b": CaseLabels(("LV",), ("Aorta",))})
    assert manifest.problems(["a", "b"], ["LV", "RV"]) == [says("class 'rv'", "1 case(s) (a)", "'RV'")]


def test_no_problems() -> None:
    manifest = Manifest({"a": CaseLabels(("LV",), ("RV",)), "unused": CaseLabels(("Aorta",))})
    assert manifest.problems(["a"], CLASSES) == []
    manifest.require(["a"], CLASSES)


def test_classes_that_no_case_is_annotated_for() -> None:
    manifest = Manifest(
        {"a": CaseLabels(("LV",), absent=("RV",)), "b": CaseLabels(("MYO",))}, (("c_*", CaseLabels(())),)
    )
    assert manifest.annotated_classes(["a", "b", "c_1", "not there"]) == {"LV", "MYO"}
    assert manifest.classes_without_annotation(["a", "c_1"], ("RV", "LV", "MYO")) == ["RV", "MYO"]  # absent is no label
    assert manifest.classes_without_annotation([], ("LV",)) == ["LV"]


def test_an_entry_of_a_converted_case_leaves_out_what_is_not_given() -> None:
    labels = CaseLabels.from_fields(["LV"], domain="x", patient="p", info={"ef": None, "frame": 0, "split": None})
    assert labels.to_json() == {"annotated": ["LV"], "domain": "x", "patient": "p", "frame": 0}


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


# ---- pseudo-labels ---------------------------------------------------------------------------------------------------

FILLED = CaseLabels(("LV",), ("RV",), pseudo=("LA",))


def test_a_pseudo_label_is_known_in_training_alone() -> None:
    assert FILLED.known == {"LV", "RV"}
    assert FILLED.known_in_training == {"LV", "RV", "LA"}
    assert [FILLED.state(name) for name in ("LV", "RV", "LA", "MYO")] == ["annotated", "absent", "pseudo", "unknown"]
    manifest = Manifest({"a": FILLED})
    assert manifest.known("a", CLASSES).tolist() == [True, True, False, False]
    assert manifest.known("a", CLASSES, in_training=True).tolist() == [True, True, False, True]
    assert manifest.annotated_classes(["a"]) == {"LV"}
    assert manifest.classes_without_annotation(["a"], CLASSES) == ["MYO", "LA"]
    assert manifest.classes_without_annotation(["a"], CLASSES, with_pseudo=True) == ["MYO"]


@pytest.mark.parametrize("state", ["annotated", "absent"])
def test_what_a_human_says_cannot_be_pseudo_too(state: str) -> None:
    entry = {"annotated": [], state: ["LA"], "pseudo": ["LA"]}
    with pytest.raises(ManifestError, match=r"case 'a7' .*LA"):
        Manifest.from_json({"version": 1, "cases": {"a7": entry}})


def test_a_pseudo_class_must_be_one_of_the_dataset() -> None:
    with pytest.raises(ManifestError, match="LAA"):
        Manifest({"a": CaseLabels(("LV",), pseudo=("LAA",))}).require(["a"], CLASSES)


def test_a_filled_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    fill = {"source": "Dataset510", "folds": [0]}
    seen = CaseLabels(("LV",), info={"seen_by_filling_model": True})
    manifest = Manifest({"a": FILLED, "b": seen}, fill=fill)
    manifest.write(tmp_path / "m.json")
    read = Manifest.read(tmp_path / "m.json")
    assert read == manifest
    assert (read.cases["a"].pseudo, read.cases["b"].seen_by_filling_model, read.fill) == (("LA",), True, fill)
    with pytest.raises(ManifestError, match="seen_by_filling_model"):
        CaseLabels.from_json({"annotated": [], "seen_by_filling_model": "yes"})


def test_a_manifest_without_pseudo_labels_keeps_its_hash() -> None:
    """A training goes on only under the manifest that it began with; this is the hash before there was `fill`."""
    content = {"version": 1, "groups": [], "cases": {"a": {"annotated": ["LV"]}}, "scenario": None}
    before = hashlib.sha256(json.dumps({**content, "domain_weights": None}, sort_keys=True).encode()).hexdigest()
    assert Manifest.from_json(content).content_hash == before
    assert Manifest({"a": CaseLabels(("LV",), pseudo=("LA",))}).content_hash != before


def test_a_patient_was_seen_with_any_of_the_cases() -> None:
    seen = {"seen_by_filling_model": True}
    manifest = Manifest(
        {
            "p1_ed": CaseLabels(("LV",), patient="p1", info=seen),
            "p1_es": CaseLabels(("LV",), patient="p1"),
            "p2": CaseLabels(("LV",)),
            "p3": CaseLabels(("LV",), info=seen),
        }
    )
    assert manifest.seen_by_filling_model(["p2", "p3", "p1_es", "nowhere"]) == ["p3", "p1_es"]
    kept = manifest.seen_without_image(["p1_es", "p2", "p3"])
    assert kept == {"p1_ed": CaseLabels((), patient="p1", info=seen)}
    assert unused_cases(Manifest(kept), ["p1_es"]) == []  # needed, though there is no image


def test_a_pattern_says_that_its_cases_are_filled_and_were_seen() -> None:
    group = {"match": "A_*", "annotated": ["LV"], "pseudo": ["LA"], "patient": "p1", "seen_by_filling_model": True}
    manifest = Manifest.from_json({"version": 1, "groups": [group], "cases": {"b": {"annotated": [], "patient": "p1"}}})
    assert manifest.has_pseudo
    assert manifest.seen_by_filling_model(iter(["A_1", "b", "c"])) == ["A_1", "b"]
    assert manifest.seen_by_filling_model(["b", "c"]) == ["b"]
