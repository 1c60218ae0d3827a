"""Folds by patient: stories with a few patients, and what must hold for any data set."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.facts import says
from helpers.raw_datasets import Drawn, snapshot, write_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_partial.cli import main
from nnunet_partial.dataset.splits import (
    N_FOLDS,
    SPLITS_NAME,
    Split,
    check_splits,
    make_splits,
    patient_warnings,
    similar_patients,
    training_cases_for_test,
)
from nnunet_partial.errors import SplitError
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest

#: The same examples in every run, however busy the machine.
CALM = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

NAMES = ("LV", "MYO", "LA")


def manifest_of(*patients: tuple[str, Sequence[str], int]) -> Manifest:
    """Patients as (name, annotated, number of cases); the cases of p are p_0, p_1, ..."""
    return Manifest(
        {f"{name}_{n}": CaseLabels(tuple(known), patient=name) for name, known, count in patients for n in range(count)}
    )


def patients(manifest: Manifest, cases: Sequence[str]) -> set[str]:
    return {manifest.patient_of(case) for case in cases}


def annotated(manifest: Manifest, cases: Sequence[str]) -> set[str]:
    return {name for case in cases for name in manifest.labels_of(case).annotated}


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Up to 14 patients in two domains, each with up to three cases; a case without patient stands for itself."""
    cases = {}
    for number in range(draw(st.integers(1, 14))):
        domain = draw(st.sampled_from(["", "a", "b"]))
        official = draw(st.sampled_from([None, "train", "val"]))
        alone = draw(st.integers(0, 4)) == 0
        for frame in range(1 if alone else draw(st.integers(1, 3))):
            # seldom, one patient's cases lie on different sides of the official split
            side = draw(st.sampled_from([official] * 9 + ["val"]))
            cases[f"c{number}_{frame}"] = CaseLabels(
                tuple(sorted(draw(st.sets(st.sampled_from(NAMES))))),
                domain=domain,
                patient=None if alone else f"p{number}",
                info={"split": side} if side else {},
            )
    return Manifest(cases)


def official_fold(manifest: Manifest) -> Split | None:
    """The official validation part, written down a second time: None where there is none or it would leak."""
    val = [case for case, labels in manifest.cases.items() if labels.split == "val"]
    train = [case for case in manifest.cases if case not in val]
    if not val or not train or patients(manifest, val) & patients(manifest, train):
        return None
    return {"train": sorted(train), "val": sorted(val)}


@pytest.mark.slow
@CALM
@given(manifests())
def test_what_holds_for_any_data_set(manifest: Manifest) -> None:
    cases = list(manifest.cases)
    splits, warnings = make_splits(manifest, cases)
    official = official_fold(manifest)
    if official is not None:
        assert splits[-1] == official
    folds = splits if official is None else splits[:-1]
    assert len(folds) <= N_FOLDS
    for fold in folds:
        assert not patients(manifest, fold["train"]) & patients(manifest, fold["val"])
        assert sorted(fold["train"] + fold["val"]) == sorted(cases)
        assert fold["train"]
        assert fold["val"]
        assert annotated(manifest, fold["train"]) == annotated(manifest, cases)
    validated = [case for fold in folds for case in fold["val"]]
    assert len(validated) == len(set(validated))
    if splits:
        check_splits(splits, manifest, cases)
    if not folds:
        assert any("only fold 'all' can be trained" in warning for warning in warnings)


@pytest.mark.no_cover
@pytest.mark.slow
@CALM
@given(manifests(), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(manifest: Manifest, shuffler: Any) -> None:
    cases = list(manifest.cases)
    expected = make_splits(manifest, cases)
    shuffler.shuffle(cases)
    assert make_splits(manifest, cases) == expected


@pytest.mark.no_cover
@pytest.mark.slow
@CALM
@given(manifests(), st.data())
def test_a_patient_moved_to_the_other_side_is_found(manifest: Manifest, data: st.DataObject) -> None:
    cases = list(manifest.cases)
    splits, _ = make_splits(manifest, cases)
    several = [fold for fold in splits if any(manifest.cases[case].patient for case in fold["val"])]
    if not several:
        return
    fold = data.draw(st.sampled_from(several))
    case = data.draw(st.sampled_from([case for case in fold["val"] if manifest.cases[case].patient]))
    fold["train"].append(case)
    with pytest.raises(SplitError, match="on both sides"):
        check_splits(splits, manifest, cases)


def test_ten_patients_give_five_folds_of_two() -> None:
    manifest = manifest_of(*((f"p{n}", ["LV"], 2) for n in range(10)))
    splits, warnings = make_splits(manifest, list(manifest.cases))
    assert [len(split["val"]) for split in splits] == [4] * 5  # two patients of two cases
    assert [len(split["train"]) for split in splits] == [16] * 5
    assert sorted(case for split in splits for case in split["val"]) == sorted(manifest.cases)
    assert warnings == []


def test_every_fold_validates_every_domain() -> None:
    cases = {
        f"{domain}{n}": CaseLabels(("LV",) if domain == "echonet" else ("LV", "LA"), domain=domain)
        for domain in ("camus", "echonet")
        for n in range(10)
    }
    manifest = Manifest(cases)
    splits, _ = make_splits(manifest, list(cases))
    for split in splits:
        assert sorted(manifest.labels_of(case).domain for case in split["val"]) == ["camus"] * 2 + ["echonet"] * 2


def test_three_patients_give_three_folds() -> None:
    manifest = manifest_of(("p0", ["LV"], 1), ("p1", ["LV"], 2), ("p2", ["LV"], 3))
    splits, warnings = make_splits(manifest, list(manifest.cases))
    assert sorted(len(split["val"]) for split in splits) == [1, 2, 3]
    assert warnings == []


def test_another_seed_deals_otherwise() -> None:
    manifest = manifest_of(*((f"p{n}", ["LV"], 1) for n in range(20)))
    cases = list(manifest.cases)
    assert make_splits(manifest, cases, seed=1) == make_splits(manifest, cases, seed=1)
    assert make_splits(manifest, cases, seed=1) != make_splits(manifest, cases, seed=2)


def test_the_only_patient_who_knows_a_class_always_trains() -> None:
    manifest = manifest_of(("p0", ["LV", "LA"], 1), *((f"p{n}", ["LV"], 1) for n in range(1, 4)))
    splits, warnings = make_splits(manifest, list(manifest.cases))
    assert len(splits) == 3
    assert all("p0_0" in split["train"] for split in splits)
    assert warnings == [says("patient p0", "annotated for LA", "in training in every fold")]


def test_when_all_experts_would_validate_at_once_one_stays_in_training() -> None:
    # dealt out like cards to five folds, by domain: a0 and c0, the only ones who know LA, both get fold 0
    cases = {f"b{n}": CaseLabels(("LV",), domain="b") for n in range(4)}
    cases |= {"a0": CaseLabels(("LA",), domain="a"), "c0": CaseLabels(("LA",), domain="c")}
    splits, warnings = make_splits(Manifest(cases), list(cases))
    assert len(splits) == 5
    assert splits[0] == {"train": ["a0", "b0", "b1", "b2", "b3"], "val": ["c0"]}
    assert warnings == [says("patient a0", "training in one more fold", "LA")]


def test_a_single_patient_cannot_be_split() -> None:
    manifest = manifest_of(("p0", ["LV"], 4))
    splits, warnings = make_splits(manifest, list(manifest.cases))
    assert splits == []
    assert warnings[-1] == says("1 patient(s)", "only fold 'all'")


def test_no_case_at_all() -> None:
    splits, warnings = make_splits(Manifest({}), [])
    assert splits == []
    assert warnings == [says("0 patient(s)", "only fold 'all'")]


def official(*sides: str | None) -> Manifest:
    return Manifest(
        {f"c{n}": CaseLabels(("LV",), patient=f"p{n}", info={"split": side}) for n, side in enumerate(sides)}
    )


def test_the_official_split_comes_last() -> None:
    manifest = official("train", "val", "train", None, "val", "train")
    splits, warnings = make_splits(manifest, list(manifest.cases))
    assert len(splits) == 6
    assert splits[-1] == {"train": ["c0", "c2", "c3", "c5"], "val": ["c1", "c4"]}
    assert warnings == []


def test_an_official_split_that_leaks_is_left_out_and_named() -> None:
    manifest = Manifest(
        {
            "a1": CaseLabels(("LV",), patient="a", info={"split": "val"}),
            "a2": CaseLabels(("LV",), patient="a", info={"split": "train"}),
            "b": CaseLabels(("LV",), patient="b", info={"split": "train"}),
        }
    )
    splits, warnings = make_splits(manifest, list(manifest.cases))
    assert len(splits) == 2
    assert warnings == [says("official split", "1 patient(s) on both sides: a")]


def test_an_official_split_that_takes_a_class_from_training_is_said() -> None:
    cases = {
        **{f"v{n}": CaseLabels(("LV", "LA"), info={"split": "val"}) for n in range(2)},
        **{f"t{n}": CaseLabels(("LV",), info={"split": "train"}) for n in range(3)},
    }
    splits, warnings = make_splits(Manifest(cases), list(cases))
    assert splits[-1]["train"] == ["t0", "t1", "t2"]
    assert warnings == [says("official split", "last fold", "annotated for LA", "cannot be trained")]


TWO = manifest_of(("p", ["LV"], 2), ("q", ["LV"], 1))
GOOD: list[Split] = [{"train": ["p_0", "p_1"], "val": ["q_0"]}]


def test_good_splits_are_accepted() -> None:
    check_splits(GOOD, TWO, ["p_0", "p_1", "q_0"])


@pytest.mark.parametrize(
    ("splits", "match"),
    [
        ([{"train": ["p_0"], "val": ["p_1", "q_0"]}], r"fold 0 has 1 patient\(s\) on both sides: p\."),
        ([*GOOD, {"train": ["q_0", "p_0"], "val": ["p_1"]}], r"fold 1 has 1 patient\(s\) on both sides: p\."),
        ([{"train": ["p_0"], "val": ["q_0"]}], r"1 case\(s\) .*in no fold: p_1"),
        ([{"train": ["p_0", "p_1", "x"], "val": ["q_0"]}], r"fold 0 names 1 case\(s\) .*not in the .*: x"),
        ([{"train": ["p_0", "p_1", "p_0"], "val": ["q_0"]}], r"fold 0 names 1 case\(s\) twice in 'train': p_0"),
        ([{"train": [], "val": ["p_0", "p_1", "q_0"]}], "fold 0 has no case in 'train'"),
        ([{"train": ["p_0", "p_1", "q_0"], "val": []}], "fold 0 has no case in 'val'"),
        ([], r"3 case\(s\) .*in no fold"),
        ({}, "must be a list"),
        (None, "must be a list"),
        ([{"train": ["p_0"]}], "must be a list"),
        ([{"train": "p_0", "val": []}], "must be a list"),
        ([{"train": [1], "val": []}], "must be a list"),
        ([["p_0"]], "must be a list"),
    ],
)
def test_bad_splits_are_refused(splits: Any, match: str) -> None:
    before = copy.deepcopy(splits)
    with pytest.raises(SplitError, match=match):
        check_splits(splits, TWO, ["p_0", "p_1", "q_0"])
    assert splits == before


def test_a_case_without_entry_is_a_case_of_the_data_set_all_the_same() -> None:
    """Deleting a good split would not help; who calls this names the missing entry."""
    splits: list[Split] = [{"train": ["p_0", "p_1", "x"], "val": ["q_0"]}]
    check_splits(splits, TWO, ["p_0", "p_1", "q_0", "x"])


def test_training_cases_that_are_for_testing() -> None:
    entries = {name: CaseLabels(("LV",), info={"split": name}) for name in ("train", "val", "test")}
    assert training_cases_for_test(Manifest(entries), ["val", "test", "train", "nobody's"]) == ["test"]


def test_the_way_out_is_said() -> None:
    with pytest.raises(SplitError, match=r"Delete .* raw .*preprocessed"):
        check_splits([], TWO, ["p_0"])


def test_a_case_that_is_left_out_is_in_no_fold_and_not_missing() -> None:
    cases = {f"p{n}": CaseLabels(("LV",), info={"left_out": n == 3}) for n in range(4)}
    splits, _ = make_splits(Manifest(cases), list(cases))
    assert sorted(case for split in splits for case in split["val"]) == ["p0", "p1", "p2"]
    check_splits(splits, Manifest(cases), list(cases))
    with pytest.raises(SplitError, match=r"left_out: p3"):
        check_splits([{"train": ["p0", "p1"], "val": ["p2", "p3"]}], Manifest(cases), list(cases))


def test_patients_who_may_be_parted_are_warned_of() -> None:
    named = {case: CaseLabels(("LV",), patient=patient) for case, patient in (("a", "P01"), ("b", "p1"), ("c", "P10"))}
    assert patient_warnings(Manifest(named), ["a", "c"]) == []
    assert patient_warnings(Manifest(named), ["a", "c"], ["b"]) == [says("1 patient(s)", "'P01' = 'p1'")]
    some = Manifest({**named, "d": CaseLabels(("LV",))})
    assert patient_warnings(some, ["a", "c", "d"]) == [says("1 case(s)", "(d)", "each counts as a patient of its own")]
    assert patient_warnings(some, ["d"]) == [says("no case names a patient")]
    assert patient_warnings(some, ["a", "c"], ["d"]) == []


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["Mu\u0308ller", "M\u00fcller"], True),
        (["site 1", "Site1"], True),
        (["A-007", "A-7", "A-7"], True),
        (["1-12", "11-2"], False),
        (["ES0001", "ES00010", "ES000100"], False),
        (["0", "00"], True),
        (["7", "7.0"], True),
        (["100", "1"], False),
        ([], False),
    ],
)
def test_names_that_may_be_of_one_patient(names: list[str], alike: bool) -> None:
    assert bool(similar_patients(names)) == alike


# ---- the command -----------------------------------------------------------------------------------------------------


def two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **entries: dict[str, Any]) -> list[Path]:
    """The raw and the preprocessed folder of a dataset with a case per entry; LV is 1, LA is 2."""
    for variable in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    cases = [Drawn(case, [1], entry) for case, entry in entries.items()]
    raw = write_dataset(tmp_path / "raw", "Dataset520_Sites", {"LV": 1, "LA": 2}, cases).folder
    preprocessed = tmp_path / "preprocessed" / raw.name
    preprocessed.mkdir(parents=True)
    shutil.copy(raw / MANIFEST_NAME, preprocessed)
    return [raw, preprocessed]


def entry(domain: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"annotated": list(names), "domain": domain, **more}


def folds(folders: Sequence[Path]) -> list[Split]:
    (first, second) = (json.loads((folder / SPLITS_NAME).read_text()) for folder in folders)
    assert first == second
    return list(first)


def test_a_fold_leaves_out_a_domain_unless_a_class_would_have_no_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = two_places(
        tmp_path,
        monkeypatch,
        a0=entry("a", "LV", "LA"),
        a1=entry("a", "LV"),
        b0=entry("b", "LV"),
        c0=entry("c", "LV", patient="p"),
        b1=entry("b", "LV", patient="p"),
        kept=entry("b", "LV", left_out=True),
    )
    assert main(["splits", "-d", "520", "--leave-domain-out"]) == 0
    assert folds(folders) == [
        {"train": ["a0", "a1"], "val": ["b0", "b1"]},  # not c0, a case of b's patient p
        {"train": ["a0", "a1", "b0"], "val": ["c0"]},
    ]
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[2:4]] == [["0", "2", "2", "b"], ["1", "3", "1", "c"]]
    assert "leaves out a: no other domain is annotated for LA" in said
    assert "its patients: c0" in said
    assert "its patients: b1" in said
    assert main(["splits", "-d", "520", "--by-patient"]) == 0
    expected, _ = make_splits(Manifest.read(folders[0] / MANIFEST_NAME), ["a0", "a1", "b0", "b1", "c0", "kept"])
    assert folds(folders) == expected
    assert main(["splits", "-d", "520", "--by-patient", "--folds", "2"]) == 0
    assert len(folds(folders)) == 2


@pytest.mark.parametrize("how", ["--leave-domain-out", "--by-patient"])
def test_names_that_differ_in_spelling_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """The domain a is not left out where A trains, and p01 of domain c may be P1 of a."""
    patients = {"a0": ("a", "P1"), "a1": ("A", "x"), "c0": ("c", "p01"), "c1": ("c", "y")}
    entries = {case: entry(domain, "LV", "LA", patient=patient) for case, (domain, patient) in patients.items()}
    two_places(tmp_path, monkeypatch, **entries)
    assert main(["splits", "-d", "520", how]) == 0
    said = capsys.readouterr().out
    assert "'P1' = 'p01'" in said
    assert ("'A' = 'a'" in said) == (how == "--leave-domain-out")


def test_folds_by_domain_of_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LV knows nothing of the heart around it: without a there is no teacher of the heart."""
    cases = {"a0": entry("a", "LV", "heart"), "b0": entry("b", "LV"), "c0": entry("c", "LV")}
    folders = two_places(tmp_path, monkeypatch, **cases)
    content = json.loads((folders[0] / "dataset.json").read_text())
    regions = {"labels": {"background": 0, "heart": [1, 2], "LV": 1}, "regions_class_order": [2, 1]}
    (folders[0] / "dataset.json").write_text(json.dumps({**content, **regions}))
    assert main(["splits", "-d", "520", "--leave-domain-out"]) == 0
    assert [fold["val"] for fold in folds(folders)] == [["b0"], ["c0"]]
    assert "leaves out a: no other domain is annotated for heart" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entries", "options", "named"),
    [
        ({"a0": entry("a", "LV", "LA"), "a1": entry("a", "LV")}, ["--leave-domain-out"], "of one domain (a)"),
        ({"a0": entry("a", "LA"), "b0": entry("b", "LV")}, ["--leave-domain-out"], "leaves out b: no other"),
        ({"a0": entry("a", "LV", "LA"), "b0": entry("b", "LV", "LA")}, ["--by-patient", "--folds", "3"], "of 2 pat"),
        ({"a0": entry("a", "LV", "LA"), "b0": entry("b", "LV", "LA")}, ["--by-patient", "--folds", "1"], "--folds 1"),
        ({"a0": entry("a", "LV"), "b0": entry("b", "LV")}, ["--leave-domain-out", "--folds", "2"], "--folds 2"),
        (
            {"patient1": entry("a", "LV", "LA"), "subject1": entry("b", "LV", "LA", same_people_as="a")},
            ["--leave-domain-out"],
            "people of a under other names",
        ),
        ({"a0": entry("a", "LV"), "b0": {"annotated": ["RV"]}}, ["--by-patient"], "'RV'"),
        ({"a0": entry("a", "LV", "LA"), "b0": entry("b", "LV", pseudo=["LA"])}, ["--by-patient"], "filled"),
        ({"a0": entry("a", "LV", "LA"), "b0": entry("b", "LV", pseudo=["LA"])}, ["--leave-domain-out"], "filled"),
    ],
    ids=[
        *("one domain", "no teacher", "too many folds", "one fold", "folds of domains", "other names", "class"),
        *("filled", "filled, by domain"),
    ],
)
def test_what_cannot_be_split_is_said_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    entries: dict[str, Any],
    options: list[str],
    named: str,
) -> None:
    two_places(tmp_path, monkeypatch, **entries)
    before = snapshot(tmp_path)
    assert main(["splits", "-d", "520", *options]) == 1
    assert named in capsys.readouterr().err
    assert snapshot(tmp_path) == before


def test_a_preprocessed_manifest_that_says_something_else_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = two_places(tmp_path, monkeypatch, a0=entry("a", "LV", "LA"), b0=entry("b", "LV", "LA"))
    Manifest({"a0": CaseLabels(("LV",))}).write(folders[1] / MANIFEST_NAME)
    before = snapshot(tmp_path)
    assert main(["splits", "-d", "520", "--leave-domain-out"]) == 1
    assert "--update-preprocessed" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


def test_a_case_that_is_in_no_fold_is_to_be_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patient p has a case in a and b. The fold without b has no teacher of LA, and the other does not train on b1."""
    case = {"a0": entry("a", "LV", patient="p"), "b0": entry("b", "LV", "LA"), "b1": entry("b", "LV", patient="p")}
    folders = two_places(tmp_path, monkeypatch, **case)
    assert main(["splits", "-d", "520", "--leave-domain-out"]) == 1
    assert "in no fold: b1" in capsys.readouterr().err
    content = json.loads((folders[0] / MANIFEST_NAME).read_text())
    content["cases"]["b1"]["left_out"] = True
    for folder in folders:
        (folder / MANIFEST_NAME).write_text(json.dumps(content))
    assert main(["splits", "-d", "520", "--leave-domain-out"]) == 0
    assert folds(folders) == [{"train": ["b0"], "val": ["a0"]}]


def test_what_only_a_left_out_case_is_annotated_for_cannot_be_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = {"a0": entry("a", "LV"), "a1": entry("a", "LV", "LA", left_out=True), "b0": entry("b", "LV")}
    two_places(tmp_path, monkeypatch, **case)
    assert main(["check", "-d", "520", "-np", "1"]) == 1
    assert "the class LA is" in capsys.readouterr().out
    assert main(["balance", "-d", "520"]) == 0
    # one case of a and one of b
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[2:4]] == [
        ["a", "1", "0.5"],
        ["b", "1", "0.5"],
    ]
