"""`nnunet_partial card`: what a model was trained on and how good it is, from files that exist, without names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.exported_models import CASE, HOST, PLACE, USER
from helpers.trained_models import BEST, FINAL, Place, draw, record_checkpoint, write_plans

from nnunet_partial.cli import main
from nnunet_partial.labels import Manifest

TRAINER = "nnUNetTrainerMarginal"
#: LV right everywhere; MYO: 6 of 12 pixels right in a1, all in a2, twice its size in b, where it is not annotated.
ROWS = {"a1": [1, 1, 2, 2], "a2": [1, 1, 2], "b3": [1, 1, 2, 2], "b4": [1, 1, 2, 2]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for folder in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    place = draw(tmp_path)
    (place.preprocessed / "partial_labels.json").write_text((place.raw / "partial_labels.json").read_text())
    model = place.train(TRAINER, ROWS)
    dataset_json = json.loads((model / "dataset.json").read_text())
    (model / "dataset.json").write_text(json.dumps({**dataset_json, "reference": f"{USER} {HOST} {PLACE} {CASE}"}))
    return place


def card(place: Place, *more: str) -> str:
    file = place.root / f"card{len(list(place.root.glob('card*')))}.md"
    assert main(["card", "-d", "510", "-tr", TRAINER, "-f", "0", "1", "-np", "1", "-o", str(file), *more]) == 0
    return file.read_text()


def row(text: str, *start: str) -> list[str]:
    """The cells of the only row that begins so."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    (found,) = [cells for cells in rows if cells[: len(start)] == list(start)]
    return found


def test_who_annotated_what(place: Place) -> None:
    text = card(place)
    assert row(text, "a", "2") == ["a", "2", "2 annotated", "2 annotated"]
    assert row(text, "b", "2") == ["b", "2", "2 annotated", "2 unknown"]
    assert "In no case of `b` is annotated: `MYO`." in text


def test_scores_are_over_what_is_known(place: Place) -> None:
    """MYO: 2 * 6 / (12 + 6) = 2 / 3 in a1 and 1 in a2, so 5 / 6; b does not count, but is twice too large."""
    text = card(place)
    domain_a = text.partition("Domain a")[2].partition("Domain b")[0]
    assert row(domain_a, "MYO", "2d")[2:4] == ["2 (2)", "0.833"]
    assert row(domain_a, "LV", "2d")[2:4] == ["2 (2)", "1.000"]
    domain_b = text.partition("Domain b")[2].partition("All domains")[0]
    assert "MYO" not in domain_b
    signs = text.partition("Warning signs of")[2]
    assert row(signs, "b", "MYO", "2d")[-2:] == ["2.00", "too large"]


def test_scores_of_a_filled_model_are_not_independent(place: Place) -> None:
    """The filling model was trained on a1 and b3, two of the four validated cases."""
    assert "not independent" not in card(place).lower()
    for folder in (place.raw, place.preprocessed):
        content = json.loads((folder / "partial_labels.json").read_text())
        for case in ("a1", "b3"):
            content["cases"][case]["seen_by_filling_model"] = True
        (folder / "partial_labels.json").write_text(json.dumps({**content, "fill": {"source": "Dataset509"}}))
    file = place.results / f"{TRAINER}__nnUNetPlans__2d" / "dataset.json"
    filled = {"dataset": place.raw.name, "hash": Manifest.read(place.raw / "partial_labels.json").fill_hash}
    file.write_text(json.dumps({**json.loads(file.read_text()), "pseudo_labels": filled}))
    text = card(place)
    assert "on 2 of" in text.partition("Not independent")[2].partition("Domain a")[0]


def test_scores_of_a_widened_model_are_not_independent(place: Place) -> None:
    fold = place.results / f"{TRAINER}__nnUNetPlans__2d" / "fold_0"  # validates two cases
    (fold / "partial_label_widened.json").write_text('{"seen": null}')
    text = card(place)
    assert "on 2 of" in text.partition("Not independent")[2].partition("Domain a")[0]
    assert "1 of 2 fold(s) started" in text
    assert "not known" in text.partition("(`widen`)")[2].partition("\n")[0]
    (fold / "partial_label_widened.json").write_text('{"seen": []}')
    assert "Not independent" not in card(place)


def test_length_and_hardware_come_from_record_log_and_nnunets_debug_file(place: Place) -> None:
    fold = place.results / f"{TRAINER}__nnUNetPlans__2d" / "fold_0"
    first = {"from_epoch": 0, "epochs": 5, "iterations": 25, "val_iterations": 2, "seed": None}
    record = [first, {**first, "from_epoch": 5, "epochs": 7, "seed": 3}]
    (fold / "partial_label_run.json").write_text(json.dumps(record))
    log = "\n".join([*(f"Epoch time: {seconds} s" for seconds in (9.0, 2.0, 4.0)), "Peak memory of the GPU: 1.50 GiB"])
    (fold / "training_log_2026_1_1.txt").write_text(f"{PLACE}/{CASE}\n{log}")
    debug = {"hostname": HOST, "gpu_name": "NVIDIA X", "torch_version": "2.8", "device": "cuda:0", "log_file": PLACE}
    (fold / "debug.json").write_text(json.dumps(debug))
    text = card(place)
    assert row(text, "0", "5, then 7") == ["0", "5, then 7", "25", "3", "yes", "4.0", "NVIDIA X", "1.50", "2.8"]
    assert row(text, "1", "not recorded")[2:4] == ["not recorded", "not recorded"]


def test_it_names_nobody(place: Place) -> None:
    test_length_and_hardware_come_from_record_log_and_nnunets_debug_file(place)
    text = card(place)
    assert [name for name in (CASE, HOST, USER, PLACE, str(place.root)) if name in text] == []
    assert re.findall(r"\b(?:a1|a2|b3|b4)\b", text) == []


def test_what_cannot_be_measured_is_said_without_names(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.results / f"{TRAINER}__nnUNetPlans__2d" / "fold_0" / "validation" / "a1.nii.gz").unlink()
    text = card(place)
    assert "Not measured" in text
    assert re.findall(r"\b(?:a1|a2|b3|b4)\b", text) == []
    assert "have no prediction: a1" in capsys.readouterr().out  # for the user alone
    for folder in (place.raw, place.preprocessed):
        (folder / "partial_labels.json").unlink()
    assert "manifest (who annotated which structure) was not available" in card(place)
    assert "partial_labels.json was not found" in capsys.readouterr().out


def test_a_model_of_other_classes_is_not_measured(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Its values 1 and 2 are the classes of the dataset in the other order."""
    file = place.results / f"{TRAINER}__nnUNetPlans__2d" / "dataset.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "labels": {"background": 0, "MYO": 1, "LV": 2}}))
    assert "Not measured" in card(place)
    assert "trained with labels" in capsys.readouterr().out


def test_fold_all_is_not_measured(place: Place) -> None:
    model = place.results / f"{TRAINER}__nnUNetPlans__2d"
    (model / "fold_0").rename(model / "fold_all")
    assert "trained on the very cases that it validates" in card(place, "-f", "all")


def test_a_manifest_that_was_edited_after_the_training_is_pointed_out(place: Place) -> None:
    record = place.results / f"{TRAINER}__nnUNetPlans__2d" / "fold_1" / "partial_label_folds.json"
    now = Manifest.read(place.raw / "partial_labels.json").content_hash
    for manifest, expected in ((now, False), (None, False), ("0" * 64, True)):
        record.write_text(json.dumps({FINAL: {"cases": "c", "manifest": manifest}}))
        assert ("manifest was edited" in card(place)) == expected


def test_the_checkpoint_is_the_one_that_was_validated(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    model = place.results / f"{TRAINER}__nnUNetPlans__2d"
    record_checkpoint(model / "fold_0", BEST)
    record_checkpoint(model / "fold_1", BEST)
    assert row(card(place), "folds, checkpoint")[1] == f"0, 1; {BEST.replace('_', chr(92) + '_')}"
    record_checkpoint(model / "fold_1", FINAL)
    file = place.root / "other.md"
    assert main(["card", "-d", "510", "-tr", TRAINER, "-f", "0", "1", "-o", str(file)]) == 1
    assert "fold 0: checkpoint_best.pth" in capsys.readouterr().err
    assert not file.exists()


def test_a_configuration_inherits_from_another(place: Place) -> None:
    base = {"patch_size": [64, 48], "batch_size": 4, "architecture": {"network_class_name": "a.b.PlainConvUNet"}}
    configurations = {"base": base, "2d": {"inherits_from": "base", "batch_size": 9}}
    write_plans(place.results / f"{TRAINER}__nnUNetPlans__2d" / "plans.json", configurations=configurations)
    text = card(place)
    assert row(text, "patch size (voxels)")[1] == "64 x 48"
    assert row(text, "batch size")[1] == "9"
    assert row(text, "planned network")[1] == "PlainConvUNet"


def test_a_card_that_people_filled_in_is_kept(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    file = place.root / "MODEL_CARD.md"
    file.write_text("ours")
    assert main(["card", "-d", "510", "-tr", TRAINER, "-o", str(file)]) == 1
    assert "MODEL_CARD.md exists" in capsys.readouterr().err
    assert file.read_text() == "ours"
