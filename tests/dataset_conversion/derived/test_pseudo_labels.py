"""Who reads a pseudo-label as known, and who as unknown: a dataset in which a model filled LA in half of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.raw_datasets import Drawn, label_array, read_values, snapshot, write_dataset, write_image
from nnunet_partial.dataset_conversion.derived.fill import FillingModel, FillOptions, fill
from nnunet_partial.dataset_conversion.derived.merge import merge
from nnunet_partial.dataset_conversion.derived.scenario import scenario
from nnunet_partial.dataset_conversion.derived.scenario_plan import ScenarioOptions

from nnunet_partial.biomarkers.measure import LA_AREA, CaseMeasurements
from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.raw import RawDataset
from nnunet_partial.dataset.splits import make_splits
from nnunet_partial.dataset.summary import annotation_counts, annotation_states, annotation_table
from nnunet_partial.errors import DatasetError
from nnunet_partial.evaluation.evaluate import evaluate_folders, find_reference
from nnunet_partial.evaluation.warning_signs import warning_signs
from nnunet_partial.export.allow_list import clean_dataset_json
from nnunet_partial.labels import FULL_MANIFEST_NAME, Manifest
from nnunet_partial.report.annotation_matrix import annotation_matrix_table, draw_annotation_matrix
from nnunet_partial.training.loss_wrapper import AnnotatedClasses
from nnunet_partial.training.run_record import TrainedOn
from nnunet_partial.training.validation import SizeMonitor, mask_unknown
from nnunet_partial.utils.masks import Scale

CLASSES = ("LV", "MYO", "LA")
FILL = {"source": "Dataset510_Echo", "folds": [0, 1]}


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


def filled(raw: Path, name: str = "Dataset611_Filled", prefix: str = "") -> RawDataset:
    """a1, a2: all three annotated. b1, b2: LV annotated, LA filled."""
    human = {"annotated": [*CLASSES], "domain": "a", "seen_by_filling_model": True}
    model = {"annotated": ["LV"], "pseudo": ["LA"], "domain": "b", "seen_by_filling_model": True}
    cases = [Drawn(f"{prefix}a{n}", [1, 2, 3], human) for n in (1, 2)]
    cases += [Drawn(f"{prefix}b{n}", [1, 0, 3], model) for n in (1, 2)]
    dataset = write_dataset(raw, name, {"LV": 1, "MYO": 2, "LA": 3}, cases)
    file = dataset.folder / "partial_labels.json"
    file.write_text(file.read_text().removesuffix("}") + ', "fill": {"source": "Dataset510_Echo", "folds": [0, 1]}}')
    return RawDataset(dataset.folder)


def test_training_batches_know_it_and_validation_batches_do_not(raw: Path) -> None:
    known = AnnotatedClasses(filled(raw).manifest, CLASSES, ["a1", "b1"])
    assert known.for_cases(["a1", "b1"], in_training=True).tolist() == [[True] * 4, [True, True, False, True]]
    assert known.for_cases(["a1", "b1"]).tolist() == [[True] * 4, [True, True, False, False]]
    assert known.partial.tolist() == [False, False, True, False]  # LA is known everywhere, for the losses


def test_counts_and_tables_name_it(raw: Path) -> None:
    manifest = filled(raw).manifest
    counts = annotation_counts(manifest, CLASSES, manifest.cases)
    assert (counts["b"]["LA"].pseudo, counts["b"]["LA"].cases, counts["b"]["LA"].text) == (2, 2, "2 pseudo")
    assert annotation_states(manifest, ["a1", "b1"]) == "annotated / absent / pseudo / unknown"
    assert annotation_states(manifest, ["a1"]) == "annotated / absent / unknown"
    assert "0 / 0 / 1 / 0" in annotation_table(manifest, CLASSES, ["b1"])
    assert annotation_matrix_table(counts, CLASSES, "").rows[1][-1] == "2 pseudo"
    assert "LA 2 pseudo" in draw_annotation_matrix(counts, CLASSES, "x", "x").alt


def test_check_finds_nothing_wrong_and_counts_it(raw: Path) -> None:
    report = check(filled(raw).folder)
    assert report.findings == {}
    assert "pseudo" in report.overview


def test_evaluation_measures_none_of_it(raw: Path) -> None:
    dataset = filled(raw)
    reference = find_reference(dataset.folder, "labelsTr")
    evaluation = evaluate_folders(reference, {"m": dict(reference.files)}, 2.0)
    assert {(r.subject.case, r.structure) for r in evaluation.records} == {
        *((case, name) for case in ("a1", "a2") for name in CLASSES),
        *((case, "LV") for case in ("b1", "b2")),
    }
    sizes = {(s.subject.case, s.structure): s.reference for s in evaluation.sizes}
    assert sizes["b1", "LA"] is None  # no reference size; the usual one is of a1 and a2
    (row,) = [r for r in warning_signs(evaluation.sizes, CLASSES) if (r["domain"], r["class"]) == ("b", "LA")]
    assert (row["reference_source"], row["n_unannotated"]) == ("a", 2)


def test_biomarkers_have_no_reference_from_it(raw: Path) -> None:
    manifest = filled(raw).manifest
    measured = {}
    for case in ("a1", "b1"):
        labels = type(manifest.cases[case])(
            manifest.cases[case].annotated,
            pseudo=manifest.cases[case].pseudo,
            info={"view": "4CH", "phase": "ES"},
        )
        values = np.zeros((40, 40), np.uint8)
        values[5:30, 5:20] = 1
        values[25:38, 22:36] = 3
        heart = CaseMeasurements.from_reference(case, labels, CLASSES, values, Scale.from_spacing((1.0, 1.0)), None)
        assert heart is not None
        measured[case] = {*heart.reference.areas, *heart.reference.discs}
    assert measured["a1"] - measured["b1"] == {LA_AREA}


def test_validation_counts_none_of_it(raw: Path) -> None:
    manifest = filled(raw).manifest
    summary: dict[str, Any] = {
        "metric_per_case": [
            {"prediction_file": "b1.nii.gz", "metrics": {value: {"Dice": 0.5} for value in (1, 2, 3)}},
        ],
        "mean": {value: {"Dice": 0.5} for value in (1, 2, 3)},
        "foreground_mean": {"Dice": 0.5},
    }
    mask_unknown(summary, manifest, dict(enumerate(CLASSES, 1)), ".nii.gz", {"b1"})
    dice = [summary["metric_per_case"][0]["metrics"][value]["Dice"] for value in (1, 2, 3)]
    assert np.isnan(dice).tolist() == [False, True, True]
    monitor = SizeMonitor(manifest, CLASSES, ["b1"])
    # all four counts of LV, MYO, LA: (tp, fp, fn, tn) x (sample) x (class)
    monitor.add(["b1"], np.array([[[5, 0, 5]], [[0, 0, 0]], [[0, 0, 0]], [[5, 10, 5]]], float))
    sums = monitor._pop_sums(False)[0]
    assert sums[:, 0].tolist() == [0, 1, 1]  # samples in which it is unknown
    assert sums[:, 3].tolist() == [1, 0, 0]  # samples in which it is annotated


def test_folds_take_no_pseudo_label_for_a_teacher(raw: Path) -> None:
    """MYO and LA are annotated in a1 alone: it stays in training, though b1 and b2 are filled with LA."""
    dataset = filled(raw)
    manifest, cases = dataset.manifest, ["a1", "b1", "b2"]
    folds, warnings = make_splits(manifest, cases)
    assert all("a1" in fold["train"] for fold in folds)
    assert "a1" in warnings[0]


def test_the_record_of_a_training_counts_it(raw: Path) -> None:
    old = TrainedOn.from_json({"cases": "x", "manifest": "y", "annotated": {"LA": 2}, "absent": {}})
    now = TrainedOn("x", "z", {"LA": 2}, {}, None, {"LA": 3})
    assert old.pseudo == {}
    (difference,) = old.differences(now)
    assert difference.startswith("LA pseudo in 0 -> 3")


def test_a_scenario_hides_it_as_it_hides_what_is_annotated(raw: Path) -> None:
    source = filled(raw)
    made = scenario(source.folder, "Dataset612_Less", ScenarioOptions(("LA",), domain="b"))
    out = RawDataset(made.folder)
    assert {case: read_values(path)[:3] for case, path in out.label_files().items()} == {
        "a1": [1, 2, 3],
        "a2": [1, 2, 3],
        "b1": [1, 0, 0],
        "b2": [1, 0, 0],
    }
    assert out.manifest.cases["b1"].pseudo == ()
    assert out.manifest.cases["a1"].seen_by_filling_model
    assert out.manifest.fill == FILL
    half = RawDataset(
        scenario(source.folder, "Dataset613_Half", ScenarioOptions(("LA",), 0.5, domain="b")).folder
    ).manifest
    assert sorted(half.cases[case].pseudo for case in ("b1", "b2")) == [(), ("LA",)]


def test_a_scenario_that_hides_myo_beside_it_keeps_it(raw: Path) -> None:
    source = filled(raw)
    file = source.folder / "partial_labels.json"
    content = json.loads(file.read_text())
    content["cases"]["b1"]["annotated"] = ["LV", "MYO"]  # b1 alone of domain b knows MYO
    write_image(source.label_files()["b1"], label_array(Drawn("b1", [1, 2, 3])))
    file.write_text(json.dumps(content))
    made = scenario(source.folder, "Dataset612_Less", ScenarioOptions(("MYO",), domain="b"))
    out = RawDataset(made.folder)
    assert (out.manifest.cases["b1"].annotated, out.manifest.cases["b1"].pseudo) == (("LV",), ("LA",))
    assert read_values(out.label_files()["b1"])[:3] == [1, 0, 3]
    assert read_values(out.label_files("Tr_full")["b1"])[:3] == [1, 2, 3]


def test_a_scenario_leaves_it_where_something_else_is_hidden(raw: Path) -> None:
    out = RawDataset(scenario(filled(raw).folder, "Dataset612_Less", ScenarioOptions(("LV",), domain="b")).folder)
    assert (out.manifest.cases["b1"].annotated, out.manifest.cases["b1"].pseudo) == ((), ("LA",))
    assert {case: read_values(path)[:3] for case, path in out.label_files().items()} == {
        **{key: [1, 2, 3] for key in ("a1", "a2")},
        **{key: [0, 0, 3] for key in ("b1", "b2")},
    }


def test_a_class_that_it_alone_teaches_is_not_hidden_everywhere(raw: Path) -> None:
    source = filled(raw)
    file = source.folder / "partial_labels.json"
    only_filled = json.loads(file.read_text())
    for case, path in source.label_files().items():
        if case < "b":
            only_filled["cases"][case]["annotated"] = ["LV", "MYO"]
            write_image(path, label_array(Drawn(case, [1, 2])))
    file.write_text(json.dumps(only_filled))
    with pytest.raises(DatasetError, match="LA"):
        scenario(source.folder, "Dataset612_Less", ScenarioOptions(("LA",), domain="b"))
    # half of the patients of domain b lose it, one of two: the other teaches it, in the one fold that trains on it
    splits = [{"train": ["a2", case], "val": ["a1", "b1" if case == "b2" else "b2"]} for case in ("b1", "b2")]
    (source.folder / "splits_final.json").write_text(json.dumps(splits))
    made = scenario(source.folder, "Dataset612_Less", ScenarioOptions(("LA",), 0.5, domain="b"))
    cases = RawDataset(made.folder).manifest.cases
    (hidden,) = [index for index, split in enumerate(splits) if not cases[split["train"][1]].pseudo]
    assert (
        [line for line in made.warnings if line.startswith("in fold") and "LA" in line]
        == [line for line in made.warnings if line.startswith(f"in fold {hidden} ")]
        != []
    )
    assert any(line.startswith("LA ") and line.endswith("pseudo-labels") for line in made.warnings)


def test_a_class_that_it_still_teaches_may_be_hidden_where_it_is_annotated(raw: Path) -> None:
    out = scenario(filled(raw).folder, "Dataset612_Less", ScenarioOptions(("LA",), domain="a"))
    manifest = RawDataset(out.folder).manifest
    assert manifest.annotated_classes(manifest.cases, with_pseudo=True) == {*CLASSES}
    assert manifest.annotated_classes(manifest.cases) == {"LV", "MYO"}
    assert any(line.startswith("LA ") and line.endswith("pseudo-labels") for line in out.warnings)


def test_complete_cases_keep_a_class_that_it_teaches(raw: Path) -> None:
    """MYO is hidden in domain a, whose cases are left out; LA, annotated there alone, is filled in what is kept."""
    source = filled(raw)
    file = source.folder / "partial_labels.json"
    content = json.loads(file.read_text())
    content["cases"]["b1"] = {**content["cases"]["b1"], "absent": ["MYO"]}
    content["cases"]["a2"] = {**content["cases"]["a2"], "domain": "c", "annotated": ["LV", "MYO"]}
    write_image(source.label_files()["a2"], label_array(Drawn("a2", [1, 2])))
    file.write_text(json.dumps(content))
    made = scenario(source.folder, "Dataset612_Less", ScenarioOptions(("MYO",), domain="a", keep_only_complete=True))
    out = RawDataset(made.folder)
    assert {
        case: (read_values(path)[:3], out.manifest.cases[case].pseudo) for case, path in out.label_files().items()
    } == {
        "a2": ([1, 2, 0], ()),
        "b1": ([1, 0, 3], ("LA",)),
        "b2": ([1, 0, 3], ("LA",)),
    }
    assert out.classes == CLASSES


def test_who_was_seen_stays_known_where_the_case_is_left_out(raw: Path) -> None:
    """The models that filled b were trained on a1 and a2; one of these is left out, with b1 or b2 of its patient kept.

    It stays known through a scenario, a merge with a prefix, and a later fill.
    """
    source = filled(raw)
    file = source.folder / "partial_labels.json"
    content = json.loads(file.read_text())
    for case, entry in content["cases"].items():
        entry |= {"patient": f"p{case[1]}", "seen_by_filling_model": case < "b"}
    file.write_text(json.dumps(content))
    everyone = ["a1", "a2", "b1", "b2"]
    options = ScenarioOptions(("MYO",), 0.5, domain="a", keep_only_complete=True)
    made = scenario(source.folder, "Dataset612_Less", options)
    less = RawDataset(made.folder)
    assert len(less.image_files()) == 3
    assert less.manifest.seen_by_filling_model(everyone, source.manifest) == everyone
    assert less.manifest.seen_by_filling_model([*less.image_files()]) == [*less.image_files()]
    assert check(less.folder).findings == {}

    other = write_dataset(raw, "Dataset614_Other", {"LV": 1}, [Drawn("a1", [1], {"annotated": ["LV"]})])
    prefixes = {less.folder: "F_"}
    both = RawDataset(merge([less.folder, other.folder], "Dataset620_Both", prefixes=prefixes).folder)
    assert both.manifest.seen_by_filling_model(everyone, source.manifest) == everyone
    assert len(both.manifest.seen_by_filling_model(both.image_files())) == 3  # those of the scenario
    (left_out,) = {*everyone} - {*less.image_files()}
    same = write_dataset(raw, "Dataset615_Same", {"LV": 1}, [Drawn(left_out, [1], {"annotated": ["LV"]})])
    with pytest.raises(DatasetError, match=left_out):
        merge([less.folder, same.folder], "Dataset621_Both")

    split = {"train": [case for case in both.image_files() if case != "a1"], "val": ["a1"]}
    again = FillingModel("nnUNetTrainerMarginal", "nnUNetPlans", "2d", (0,), frozenset({"F_b1"}), (split,))
    out = RawDataset(fill(both.folder, "Dataset630_Again", again, lambda cases: (), FillOptions()).folder)
    assert out.manifest.seen_by_filling_model(everyone, source.manifest) == everyone
    assert Manifest.read(out.folder / FULL_MANIFEST_NAME).fill_hash == out.manifest.fill_hash


def test_a_merge_keeps_it_under_its_new_name(raw: Path) -> None:
    one, other = filled(raw), filled(raw, "Dataset612_Other", "o_")
    made = merge([one.folder, other.folder], "Dataset620_Both", renames={other.folder: {"LA": "LA_2"}})
    out = RawDataset(made.folder)
    assert (out.manifest.cases["b1"].pseudo, out.manifest.cases["o_b1"].pseudo) == (("LA",), ("LA_2",))
    assert read_values(out.label_files()["o_b1"])[:3] == [1, 0, out.classes.index("LA_2") + 1]
    assert out.manifest.cases["o_b1"].seen_by_filling_model
    assert out.manifest.fill == {"Dataset611_Filled": FILL, "Dataset612_Other": FILL}
    assert any("Dataset611_Filled" in line for line in made.warnings)


def test_a_filled_class_is_none_that_a_case_lacks(raw: Path) -> None:
    """With the ignore label in the background of partially labeled cases: b lacks MYO until MYO is filled, too."""
    one = filled(raw)
    other = write_dataset(raw, "Dataset612_Other", {"LV": 1}, [Drawn("c1", [1], {"annotated": ["LV"]})])
    file = one.folder / "partial_labels.json"
    file.write_text(file.read_text().replace('"pseudo": ["LA"]', '"pseudo": ["MYO", "LA"]'))
    out = RawDataset(merge([one.folder, other.folder], "Dataset620_Both", unknown_as_ignore=True).folder)
    assert {case: read_values(path)[1] for case, path in out.label_files().items()} == {
        **{"a1": 2, "a2": 2, "b1": 0, "b2": 0},
        "c1": 4,
    }


def test_a_filled_dataset_is_not_declared_anew(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From its masks each pseudo-label would be taken for an annotation."""
    dataset = filled(raw)
    file = dataset.folder / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pseudo_labels": {"dataset": dataset.folder.name}}))
    before = snapshot(raw)
    assert main(["declare", "-d", "611", "--from-masks", "--overwrite", "--yes"]) == 1
    assert "Dataset611_Filled" in capsys.readouterr().err
    assert snapshot(raw) == before


def test_an_exported_model_still_says_that_it_learned_from_pseudo_labels() -> None:
    content = {"labels": {"background": 0}, "pseudo_labels": {"dataset": "Dataset611_F", "source": "Dataset510_Echo"}}
    assert clean_dataset_json(content) == {"labels": {"background": 0}, "pseudo_labels": True}
    assert clean_dataset_json({"labels": {"background": 0}}) == {"labels": {"background": 0}}
