"""Labels hidden on purpose: small stories with four patients of one scanner and two of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.facts import says
from helpers.raw_datasets import Drawn, list_files, read_values, snapshot, write_dataset, write_image
from nnunet_partial.dataset_conversion.derived import files as files_module
from nnunet_partial.dataset_conversion.derived.scenario import ScenarioResult, scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions, chosen_patients, hidden_classes

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import SPLITS_NAME, make_splits
from nnunet_partial.errors import DatasetError, PartialLabelError, SplitError
from nnunet_partial.labels import CaseLabels, Manifest

CAMUS = {"LV": 1, "MYO": 2, "LA": 3}
ECHO = {"LV": 1, "MYO": 2, "LA": 3, "RV": 4}
SHAPE = (8, 6)


def camus_cases(patients: int = 4, tests: int = 1, **more: Any) -> list[Drawn]:
    """Patients p1, p2, ... in two views, each with LV, MYO, LA in the first three rows; the last are test cases."""
    cases = []
    for number in range(1, patients + tests + 1):
        part, split = ("Tr", "train") if number <= patients else ("Ts", "test")
        about = {"annotated": ["LV", "MYO", "LA"], "domain": "camus", "patient": f"camus_p{number}", "split": split}
        cases += [Drawn(f"camus_p{number}_{view}", [1, 2, 3], {**about, **more}, part) for view in ("2CH", "4CH")]
    return cases


def uda_cases() -> list[Drawn]:
    """Two training patients and a test patient of another scanner: LV, LA, RV drawn, the wall unknown."""
    about = {"annotated": ["LV", "LA", "RV"], "domain": "uda"}
    return [Drawn(f"uda_{n}", [1, 3, 4], {**about, "patient": f"uda_{n}"}, "Tr" if n < 3 else "Ts") for n in (1, 2, 3)]


def camus(raw: Path, **changes: Any) -> RawDataset:
    cases = camus_cases(**changes)
    return with_splits(write_dataset(raw, "Dataset501_CAMUS", CAMUS, cases, licence="non-commercial", release="1.0"))


def both(raw: Path) -> RawDataset:
    """Two scanners merged. In two-chamber views of CAMUS the right ventricle is not in the picture."""
    cases = [*camus_cases(absent=["RV"]), *uda_cases()]
    return with_splits(write_dataset(raw, "Dataset511_Echo", ECHO, cases))


def with_splits(dataset: RawDataset) -> RawDataset:
    splits, _ = make_splits(dataset.manifest, list(dataset.label_files()))
    (dataset.folder / SPLITS_NAME).write_text(json.dumps(splits))
    return dataset


def make(source: RawDataset, *missing: str, name: str = "Dataset601_Test", **options: Any) -> ScenarioResult:
    overwrite = options.pop("overwrite", False)
    return scenario(source.folder, name, ScenarioOptions(missing, **options), overwrite=overwrite)


def made(source: RawDataset, *missing: str, **options: Any) -> RawDataset:
    return RawDataset(make(source, *missing, **options).folder)


def refused(source: RawDataset, *missing: str, error: type[PartialLabelError] = DatasetError, **options: Any) -> str:
    """The message; nothing may have been written."""
    raw = source.folder.parent
    before = snapshot(raw)
    with pytest.raises(error, match=r"\w") as caught:
        make(source, *missing, **options)
    assert snapshot(raw) == before
    return str(caught.value)


def losers(dataset: RawDataset, name: str = "LA") -> set[str]:
    """The training patients with a case that is not annotated for the class."""
    manifest = dataset.manifest
    return {manifest.patient_of(c) for c in dataset.image_files() if name not in manifest.labels_of(c).annotated}


# What comes out


def test_one_label_missing_in_half_of_the_patients(raw: Path) -> None:
    source = camus(raw)
    out = made(source, "LA", fraction=0.5)
    without = losers(out)
    assert len(without) == 2  # of four
    for case, path in out.label_files().items():
        lost = out.manifest.patient_of(case) in without
        assert read_values(path)[:4] == ([1, 2, 0, 0] if lost else [1, 2, 3, 0])
        assert out.manifest.labels_of(case).annotated == (("LV", "MYO") if lost else ("LV", "MYO", "LA"))
        assert "LA" not in out.manifest.labels_of(case).known or not lost
    assert out.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2, "LA": 3}


def test_several_labels_missing_in_three_quarters(raw: Path) -> None:
    out = made(camus(raw), "LA", "MYO", fraction=0.75)
    assert losers(out) == losers(out, "MYO")
    assert len(losers(out)) == 3
    values = sorted(read_values(path)[:3] for path in out.label_files().values())
    assert values == [[1, 0, 0]] * 6 + [[1, 2, 3]] * 2


def test_one_whole_domain_loses_a_label(raw: Path) -> None:
    out = made(both(raw), "LA", domain="uda")
    assert losers(out) == {"uda_1", "uda_2"}
    assert out.manifest.labels_of("uda_1").annotated == ("LV", "RV")
    assert read_values(out.label_files()["uda_1"])[:3] == [1, 0, 4]
    assert read_values(out.label_files()["camus_p1_2CH"])[:3] == [1, 2, 3]


def test_images_and_unchanged_labels_are_hard_links_and_only_changed_labels_are_written(raw: Path) -> None:
    source = camus(raw)
    before = snapshot(source.folder)
    out = made(source, "LA", fraction=0.5)
    without = losers(out)
    for part, number in (("Tr", 8), ("Ts", 2)):
        theirs, ours = source.image_files(part), out.image_files(part)
        assert len(ours) == number
        assert all(ours[case][0].samefile(theirs[case][0]) for case in theirs)
    for case, path in source.label_files().items():
        assert path.samefile(out.label_files()[case]) == (out.manifest.patient_of(case) not in without)
    assert snapshot(source.folder) == before


def test_a_label_file_without_the_hidden_class_stays_a_link(raw: Path) -> None:
    empty = Drawn("camus_p0_2CH", [1, 2], {"annotated": ["LV", "MYO", "LA"], "patient": "camus_p0", "domain": "empty"})
    cases = [*camus_cases(), empty]
    source = write_dataset(raw, "Dataset501_CAMUS", CAMUS, cases)
    out = made(source, "LA", domain="empty")
    assert out.label_files()["camus_p0_2CH"].samefile(source.label_files()["camus_p0_2CH"])
    assert out.manifest.labels_of("camus_p0_2CH").annotated == ("LV", "MYO")
    assert out.manifest.scenario is not None
    assert out.manifest.scenario["counts"]["label_files_changed"] == 0


def test_what_was_hidden_stays_available_beside_it(raw: Path) -> None:
    source = camus(raw)
    out = made(source, "LA", fraction=0.5)
    full = out.label_files("Tr_full")
    assert len(full) == 8
    assert all(read_values(path)[:3] == [1, 2, 3] for path in full.values())
    assert all(path.samefile(source.label_files()[case]) for case, path in full.items())
    manifest = Manifest.read(out.folder / "partial_labels_full.json")
    assert manifest.cases == source.manifest.cases
    assert manifest.scenario is None


def test_test_cases_keep_what_they_knew(raw: Path) -> None:
    source = both(raw)
    out = made(source, "LA", domain="uda")
    assert out.manifest.labels_of("uda_3") == source.manifest.labels_of("uda_3")
    assert {case: read_values(path)[:3] for case, path in out.label_files("Ts").items()} == {
        "camus_p5_2CH": [1, 2, 3],
        "camus_p5_4CH": [1, 2, 3],
        "uda_3": [1, 3, 4],
    }


def test_absent_classes_stay_absent(raw: Path) -> None:
    """That the right ventricle is not in the picture is known by the view; nobody's drawing is taken back."""
    source = both(raw)
    out = made(source, "RV", domain="uda", fraction=0.5)
    assert out.manifest.labels_of("camus_p1_2CH").absent == ("RV",)
    assert out.manifest.labels_of("camus_p1_2CH").known == {"LV", "MYO", "LA", "RV"}


def test_other_entries_of_a_case_and_of_dataset_json_come_along(raw: Path) -> None:
    out = made(camus(raw, ef=54.0), "LA", fraction=0.5)
    labels = out.manifest.labels_of("camus_p1_2CH")
    assert (labels.domain, labels.patient, labels.info) == ("camus", "camus_p1", {"split": "train", "ef": 54.0})
    assert out.dataset_json["licence"] == "non-commercial"
    assert out.dataset_json["release"] == "1.0"
    assert out.dataset_json["numTraining"] == 8
    assert out.dataset_json["name"] == "Test"


def test_the_manifest_says_what_was_done(raw: Path) -> None:
    out = made(camus(raw), "LA", fraction=0.5, seed=3)
    assert out.manifest.scenario == {
        "source": "Dataset501_CAMUS",
        "missing": ["LA"],
        "fraction": 0.5,
        "seed": 3,
        "domain": None,
        "keep_only_complete": False,
        "unknown_as_ignore": False,
        "counts": {
            "patients": 4,
            "patients_chosen": 2,
            "training_cases": 8,
            "test_cases": 2,
            "cases_hidden_from": 4,
            "cases_left_out": 0,
            "hidden": {"LA": 4},
            "label_files_changed": 4,
        },
    }


def test_the_result_is_a_sound_data_set(raw: Path) -> None:
    for number, (missing, options) in enumerate(
        [
            (["LA"], {"domain": "uda"}),
            (["LA"], {"domain": "uda", "keep_only_complete": True}),
            (["LA", "LV"], {"fraction": 0.5}),
            (["random"], {"fraction": 0.5}),
            (["LA"], {"fraction": 0.5, "unknown_as_ignore": True}),
        ]
    ):
        source = both(raw)
        out = made(source, *missing, name=f"Dataset60{number}_Test", **options)
        assert check(out.folder).findings == {}


def test_the_preprocessed_folder_gets_the_hidden_manifest_only(raw: Path) -> None:
    out = made(camus(raw), "LA", fraction=0.5)
    preprocessed = raw.parent / "preprocessed" / out.folder.name
    assert sorted(path.name for path in preprocessed.iterdir()) == ["partial_labels.json", SPLITS_NAME]
    assert Manifest.read(preprocessed / "partial_labels.json") == out.manifest


# Who is chosen


def hundred() -> tuple[Manifest, list[str]]:
    cases = {
        f"p{number:02d}_{view}": CaseLabels(("LV", "MYO", "LA"), domain="camus", patient=f"p{number:02d}")
        for number in range(100)
        for view in ("2CH", "4CH")
    }
    return Manifest(cases), list(cases)


def test_patients_are_chosen_and_nested() -> None:
    manifest, cases = hundred()
    quarter, half, most = (set(chosen_patients(manifest, cases, fraction, 0)) for fraction in (0.25, 0.5, 0.75))
    assert (len(quarter), len(half), len(most)) == (25, 50, 75)
    assert quarter < half < most
    assert len(chosen_patients(manifest, cases, 1.0, 0)) == 100


def test_the_choice_depends_on_the_seed_alone() -> None:
    manifest, cases = hundred()
    half = chosen_patients(manifest, cases, 0.5, 0)
    assert chosen_patients(manifest, cases[::-1], 0.5, 0) == half
    assert 10 < len(set(half) & set(chosen_patients(manifest, cases, 0.5, 1))) < 40  # 25 by chance
    # more patients in the data set: nobody changes places with another
    fewer = [case for case in cases if case < "p50"]
    place = set(chosen_patients(manifest, fewer, 0.5, 0))
    assert len(place) == 25
    assert set(chosen_patients(manifest, fewer, 0.1, 0)) < place
    one, other = (set(hidden_classes(manifest, cases, half, m, 0)) for m in (["LA"], ["MYO", "LA"]))
    assert one == other
    assert len(one) == 100


def test_a_half_patient_is_rounded_up_and_the_fraction_holds_within_each_domain() -> None:
    cases = {f"a{n}": CaseLabels(("LV",), domain="a") for n in range(10)}
    cases |= {f"b{n}": CaseLabels(("LV",), domain="b") for n in range(3)}
    chosen = chosen_patients(Manifest(cases), list(cases), 0.5, 0)
    assert (sum(p[0] == "a" for p in chosen), sum(p[0] == "b" for p in chosen)) == (5, 2)


def test_random_takes_a_proper_subset_of_each_patient_and_each_subset_comes_up() -> None:
    manifest, cases = hundred()
    patients = chosen_patients(manifest, cases, 1.0, 0)
    hidden = hidden_classes(manifest, cases, patients, ["random"], 0)
    by_patient: dict[str, set[frozenset[str]]] = {}
    for case, names in hidden.items():
        by_patient.setdefault(manifest.patient_of(case), set()).add(frozenset(names))
    assert len(by_patient) == 100
    assert all(len(subsets) == 1 for subsets in by_patient.values())  # both views alike
    counted = [next(iter(subsets)) for subsets in by_patient.values()]
    times = {subset: counted.count(subset) for subset in set(counted)}
    assert set(map(len, times)) == {1, 2}
    assert len(times) == 6  # of three classes: three single ones, three pairs
    assert min(times.values()) >= 5  # 16.7 each by chance
    half = chosen_patients(manifest, cases, 0.5, 0)
    nested = hidden_classes(manifest, cases, half, ["random"], 0)
    assert nested == {case: names for case, names in hidden.items() if case in nested}
    assert len(nested) == 100


def test_a_patient_with_a_single_class_keeps_it_when_subsets_are_drawn(raw: Path) -> None:
    poor = Drawn("poor_1", [1], {"annotated": ["LV"], "domain": "poor", "patient": "poor_1"})
    source = write_dataset(raw, "Dataset501_CAMUS", CAMUS, [*camus_cases(8), poor])
    result = make(source, "random", fraction=0.5)
    assert RawDataset(result.folder).manifest.labels_of("poor_1").annotated == ("LV",)
    assert says("1 of the chosen patient(s)", "single class", "poor_1") in result.warnings


# Baseline: only what is complete


def test_keep_only_complete_leaves_the_cases_out(raw: Path) -> None:
    source = camus(raw)
    hidden = losers(made(source, "LA", fraction=0.5))
    out = made(source, "LA", fraction=0.5, keep_only_complete=True, name="Dataset602_Complete")
    kept = {out.manifest.patient_of(case) for case in out.image_files()}
    assert kept == {"camus_p1", "camus_p2", "camus_p3", "camus_p4"} - hidden
    assert sorted(out.label_files()) == sorted(out.label_files("Tr_full")) == sorted(out.image_files())
    assert len(out.label_files()) == 4
    assert losers(out) == set()
    assert all(path.samefile(source.label_files()[case]) for case, path in out.label_files().items())
    assert sorted(out.manifest.cases) == sorted([*out.image_files(), *out.image_files("Ts")])
    assert len(out.image_files("Ts")) == 2
    assert out.manifest.scenario is not None
    assert out.manifest.scenario["counts"]["cases_left_out"] == 4
    assert out.manifest.scenario["counts"]["cases_hidden_from"] == 0


def test_a_class_that_only_left_out_cases_had_goes_with_them(raw: Path) -> None:
    """Without uda nobody teaches the RV: no training could start with it."""
    result = make(both(raw), "LA", domain="uda", keep_only_complete=True)
    out = RawDataset(result.folder)
    assert out.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2, "LA": 3}
    assert read_values(out.label_files("Ts")["uda_3"])[:3] == [1, 3, 0]
    assert out.manifest.labels_of("uda_3").annotated == ("LV", "LA")
    assert says("left out", "annotated for RV") in result.warnings


def test_the_numbers_behind_a_class_that_goes_move_up(raw: Path) -> None:
    """Without camus nobody teaches the MYO (2): LA becomes 2, RV 3."""
    out = made(both(raw), "LA", domain="camus", keep_only_complete=True)
    assert out.dataset_json["labels"] == {"background": 0, "LV": 1, "LA": 2, "RV": 3}
    for part in ("Tr", "Tr_full"):
        assert read_values(out.label_files(part)["uda_1"])[:3] == [1, 2, 3]
    assert read_values(out.label_files("Ts")["camus_p5_2CH"])[:3] == [1, 0, 2]
    full = Manifest.read(out.folder / "partial_labels_full.json")
    assert full.labels_of("camus_p5_2CH").annotated == ("LV", "LA")


# What speaks against it


def test_a_class_that_a_domain_does_not_know_cannot_be_removed_there(raw: Path) -> None:
    said = refused(both(raw), "MYO", domain="uda")
    assert said == says("domain uda", "MYO (only for LA, LV, RV)")
    said = refused(both(raw), "MYO", fraction=0.5)
    assert "of the domain uda" in said
    assert "--domain" in said


def test_a_class_that_nobody_would_be_annotated_for_any_more(raw: Path) -> None:
    assert refused(camus(raw), "LA") == says("No training case", "annotated for LA")
    assert refused(both(raw), "RV", domain="uda") == says("No training case", "annotated for RV")
    assert "No training case would be left" in refused(camus(raw), "LA", keep_only_complete=True)


@pytest.mark.parametrize(
    ("missing", "options", "said"),
    [
        (["RA"], {}, "no class RA; its classes: LV, MYO, LA"),
        (["LA"], {"domain": "uda"}, "of the domain 'uda'. Its domains: camus"),
        (["LA"], {"fraction": 0.0}, "fraction of patients is 0.0; expected more than 0"),
        (["LA"], {"fraction": 1.5}, "fraction of patients is 1.5"),
        (["LA"], {"fraction": float("nan")}, "fraction of patients is nan"),
        (["LA", "LA"], {}, "expected one or more, each named once"),
        (["random", "LA"], {}, "expected no other class"),
        (["LA"], {"fraction": 0.1}, "Nothing would be hidden: 0 of 4 patient"),
        (["LA"], {"name": "Dataset501_CAMUS", "overwrite": True}, "is the source dataset of the scenario"),
    ],
)
def test_calls_that_make_no_sense(raw: Path, missing: list[str], options: dict[str, Any], said: str) -> None:
    assert said in refused(camus(raw), *missing, **options)


def test_a_label_file_that_contradicts_the_manifest_stops_it(raw: Path) -> None:
    source = camus(raw)
    for path in source.label_files().values():
        write_image(path, np.full(SHAPE, 7, np.uint8))
    assert refused(source, "LA", fraction=0.5) == says("holds 7", "dataset.json")


def test_an_existing_data_set_stays_without_overwrite(raw: Path) -> None:
    source = camus(raw)
    make(source, "LA", fraction=0.5)
    assert "Dataset601_Test exists" in refused(source, "LA", fraction=0.25)
    assert "Dataset601_Test exists" in refused(source, "no class")  # said before the source is looked at
    make(source, "LA", fraction=0.25, overwrite=True)
    assert len(losers(RawDataset(raw / "Dataset601_Test"))) == 1


# What the user should know


def test_what_no_test_case_knows_is_not_measurable(raw: Path) -> None:
    result = make(both(raw), "LA", domain="uda")
    line = says("not measurable", "test cases of uda", "MYO")
    assert line in result.warnings
    assert not any("not measurable on test cases of camus" in warning for warning in result.warnings)
    scenario_entry = RawDataset(result.folder).manifest.scenario
    assert scenario_entry is not None
    assert scenario_entry["not_measurable"] == {"uda": ["MYO"]}


def test_without_test_cases_it_says_so(raw: Path) -> None:
    result = make(camus(raw, tests=0), "LA", fraction=0.5)
    assert any("there are no test cases" in warning for warning in result.warnings)


def test_cases_that_lost_everything_are_named(raw: Path) -> None:
    result = make(camus(raw), "LV", "MYO", "LA", fraction=0.25)
    (lost,) = losers(RawDataset(result.folder))
    assert says("2 training case(s)", "for nothing", f"{lost}_2CH, {lost}_4CH") in result.warnings


# Folds


def test_the_folds_are_those_of_the_source(raw: Path) -> None:
    source = camus(raw)
    folds = [
        {"train": ["camus_p1_2CH", "camus_p1_4CH", "camus_p2_2CH", "camus_p2_4CH"], "val": ["camus_p3_2CH"]},
        {"train": ["camus_p3_2CH", "camus_p3_4CH"], "val": ["camus_p4_2CH", "camus_p4_4CH"]},
    ]
    (source.folder / SPLITS_NAME).write_text(json.dumps(folds))
    for seed in (0, 1):
        out = made(source, "LA", fraction=0.25, seed=seed, name=f"Dataset60{seed}_Test")
        assert json.loads((out.folder / SPLITS_NAME).read_text()) == folds


def test_the_folds_a_training_of_the_source_goes_by_win(raw: Path) -> None:
    source = camus(raw)
    folds = json.loads((source.folder / SPLITS_NAME).read_text())
    theirs = raw.parent / "preprocessed" / "Dataset501_CAMUS" / SPLITS_NAME
    theirs.parent.mkdir(parents=True)
    theirs.write_text(json.dumps(folds[::-1]))
    out = made(source, "LA", fraction=0.25)
    assert json.loads((out.folder / SPLITS_NAME).read_text()) == folds[::-1] != folds


def test_left_out_cases_leave_the_folds_as_well(raw: Path) -> None:
    source = camus(raw, patients=10)
    out = made(source, "LA", fraction=0.2, keep_only_complete=True)
    kept = set(out.image_files())
    assert len(kept) == 16
    theirs, ours = (json.loads((dataset.folder / SPLITS_NAME).read_text()) for dataset in (source, out))
    assert ours == [{side: [case for case in fold[side] if case in kept] for side in fold} for fold in theirs]


def test_a_fold_that_would_be_empty_makes_new_folds(raw: Path) -> None:
    """Four patients, a fold each: with two left, two folds are left, and they are new ones."""
    result = make(camus(raw), "LA", fraction=0.5, keep_only_complete=True)
    folds = json.loads((result.folder / SPLITS_NAME).read_text())
    assert len(folds) == 2
    assert says("no case left", "new folds") in result.warnings


def test_a_source_without_folds_lends_those_it_would_get(raw: Path) -> None:
    source = camus(raw)
    folds = json.loads((source.folder / SPLITS_NAME).read_text())
    (source.folder / SPLITS_NAME).unlink()
    out = made(source, "LA", fraction=0.5)
    assert json.loads((out.folder / SPLITS_NAME).read_text()) == folds


def test_leaking_folds_of_the_source_stop_it(raw: Path) -> None:
    source = camus(raw)
    cases = sorted(source.label_files())
    (source.folder / SPLITS_NAME).write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]))
    said = refused(source, "LA", fraction=0.5, error=SplitError)
    assert said == says("Dataset501_CAMUS: splits_final.json: fold 0", "1 patient(s)", "camus_p1")


def test_a_fold_that_cannot_learn_a_class_is_said(raw: Path) -> None:
    """One patient keeps the LA; in the fold that validates on that patient nobody teaches it."""
    result = make(camus(raw), "LA", fraction=0.75)
    out = RawDataset(result.folder)
    (keeper,) = {f"camus_p{n}" for n in range(1, 5)} - losers(out)
    folds = json.loads((out.folder / SPLITS_NAME).read_text())
    (index,) = [i for i, fold in enumerate(folds) if f"{keeper}_2CH" in fold["val"]]
    assert says(f"fold {index}", "annotated for LA", "cannot be learned") in result.warnings


# Unknown as ignore


def test_unknown_as_ignore_leaves_only_what_was_drawn(raw: Path) -> None:
    source = camus(raw)
    out = made(source, "LA", fraction=0.5, unknown_as_ignore=True)
    assert out.dataset_json["labels"] == {"background": 0, "LV": 1, "MYO": 2, "LA": 3, "ignore": 4}
    for case, path in out.label_files().items():
        lost = out.manifest.patient_of(case) in losers(out)
        assert read_values(path) == ([1, 2, 4, 4, 4, 4, 4, 4] if lost else [1, 2, 3, 0, 0, 0, 0, 0])
        assert path.samefile(source.label_files()[case]) != lost
    assert all(path.samefile(source.label_files()[c]) for c, path in out.label_files("Tr_full").items())
    assert all(path.samefile(source.label_files("Ts")[c]) for c, path in out.label_files("Ts").items())


def test_unknown_as_ignore_says_when_no_background_is_left(raw: Path) -> None:
    cases = [*camus_cases(), *uda_cases()]  # camus does not know the RV, uda not the MYO
    result = make(write_dataset(raw, "Dataset511_Echo", ECHO, cases), "LA", fraction=0.5, unknown_as_ignore=True)
    assert any("the ignore label has replaced all background" in warning for warning in result.warnings)
    result = make(both(raw), "LA", fraction=0.5, unknown_as_ignore=True, name="Dataset602_Test")
    assert not any("ignore label has replaced" in warning for warning in result.warnings)


# A scenario of a scenario


def test_of_a_scenario_the_first_labels_are_kept(raw: Path) -> None:
    first = made(camus(raw), "LA", fraction=0.5)
    out = made(first, "MYO", fraction=0.5, name="Dataset602_Test")
    assert losers(out) == losers(out, "MYO") == losers(first)
    assert all(read_values(path)[:3] == [1, 2, 3] for path in out.label_files("Tr_full").values())
    full = Manifest.read(out.folder / "partial_labels_full.json")
    assert {labels.annotated for labels in full.cases.values()} == {("LV", "MYO", "LA")}
    assert out.manifest.scenario is not None
    assert out.manifest.scenario["source_scenario"]["missing"] == ["LA"]


# Interrupted, three dimensions, the command


def test_interrupted_and_resumed_gives_the_same_files(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = camus(raw)
    whole = {name: content for name, (_, content) in snapshot(made(source, "LA", fraction=0.5).folder).items()}
    link_or_relabel, written = files_module._link_or_relabel, []

    def stop_after_twelve(file: Any) -> None:
        if len(written) == 12:
            raise KeyboardInterrupt
        written.append(file)
        link_or_relabel(file)

    with monkeypatch.context() as patched:
        patched.setattr(files_module, "_link_or_relabel", stop_after_twelve)
        with pytest.raises(KeyboardInterrupt):
            make(source, "LA", fraction=0.5, overwrite=True)
    resumed = snapshot(made(source, "LA", fraction=0.5, overwrite=True).folder)
    assert {name: content for name, (_, content) in resumed.items()} == whole
    assert not list(raw.glob(".*"))


def test_volumes_of_any_modality(raw: Path) -> None:
    cases = [
        Drawn(f"ct_{number}", [1, 2], {"annotated": ["liver", "kidney"]}, shape=(4, 5, 6), spacing_mm=1.5)
        for number in range(4)
    ]
    source = write_dataset(raw, "Dataset220_CT", {"liver": 1, "kidney": 2}, cases, channels=("CT",))
    out = made(source, "kidney", fraction=0.5)
    assert len(losers(out, "kidney")) == 2
    for case, path in out.label_files().items():
        image = sitk.ReadImage(str(path))
        assert image.GetSpacing() == (1.5, 1.5, 1.5)
        voxels = np.bincount(sitk.GetArrayFromImage(image).ravel(), minlength=3).tolist()
        assert voxels == ([90, 30, 0] if case in losers(out, "kidney") else [60, 30, 30])


def test_the_five_command_lines(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camus(raw), both(raw)
    for line in (
        "-i 501 -d 601 --missing LA --fraction 0.5 --seed 0",
        "-i 501 -d 602 --missing MYO LA --fraction 0.75",
        "-i 511 -d 603 --domain uda --missing LA",
        "-i 511 -d 604 --domain uda --missing LA --keep-only-complete",
        "-i 501 -d 605 --missing random --fraction 0.5",
    ):
        assert main(["scenario", *line.split()]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert sorted(path.name for path in raw.glob("Dataset60*")) == [
        "Dataset601_CAMUS_without_LA",
        "Dataset602_CAMUS_without_MYO_LA",
        "Dataset603_Echo_without_LA",
        "Dataset604_Echo_without_LA",
        "Dataset605_CAMUS_without_random",
    ]
    lines = shown.splitlines()
    assert says("2 of 4 patients", "seed 0") in lines
    assert says("Hidden: LA", "4 training cases") in lines
    assert says("2 of 2 patients of uda", "seed 0") in lines
    assert says("2 of their training cases", "8 kept") in lines
    assert says("Warning", "test cases of uda", "MYO") in lines
    assert [len(RawDataset(raw / "Dataset604_Echo_without_LA").image_files(part)) for part in ("Tr", "Ts")] == [8, 3]


def test_a_refusal_exits_1(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camus(raw)
    assert main(["scenario", "-i", "501", "-d", "601", "--missing", "RA"]) == 1
    assert capsys.readouterr().err == says("nnunet_partial scenario:", "Dataset501_CAMUS")


def test_the_weights_of_domains_stay_as_they_are_so_that_scenarios_compare(raw: Path) -> None:
    source = both(raw)
    path = source.folder / "partial_labels.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "domain_weights": {"camus": 0.6, "uda": 0.4}}))
    out = made(RawDataset(source.folder), "LA", fraction=0.5, domain="camus")
    assert out.manifest.domain_weights == {"camus": 0.6, "uda": 0.4}
    alone = made(RawDataset(source.folder), "LA", domain="uda", keep_only_complete=True, name="Dataset602_CAMUS")
    assert alone.manifest.domain_weights == {"camus": 0.6}  # no training case of uda is left


def test_files_that_dataset_json_lists_get_the_names_of_their_cases(raw: Path, tmp_path: Path) -> None:
    """And the list does not lead nnU-Net back to the hidden labels."""
    source = camus(raw)
    plain = {case: path.name for case, path in source.label_files().items()}
    list_files(source, tmp_path / "elsewhere")
    hidden = made(RawDataset(source.folder), "LA", fraction=0.5)
    assert {case: path.name for case, path in hidden.label_files().items()} == plain
    assert "dataset" not in hidden.dataset_json
    assert len(losers(hidden)) == 2  # of four patients
