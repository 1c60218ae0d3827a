"""Regions, which overlap, from `check` to the tables and contours of a report."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.reference_ece import plain_ece
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_partial.cli import main
from nnunet_partial.dataset.check import check
from nnunet_partial.dataset.label_check import LabelFile
from nnunet_partial.dataset.mirrored_classes import mirrored_pairs
from nnunet_partial.errors import PartialLabelError
from nnunet_partial.evaluation.evaluate import find_reference, require_same_classes
from nnunet_partial.labels import MANIFEST_NAME, CaseLabels, Manifest
from nnunet_partial.report import overlays
from nnunet_partial.utils.colors import class_colors

NAME = "Dataset705_Regions"

#: Values of one row of eight pixels: of the epicardium (1, 2) and the ventricle in it (1).
TRUE = {"a": [0, 2, 1, 1, 1, 2, 2, 0], "b": [0, 2, 2, 2, 1, 2, 0, 0]}
PREDICTED = {"a": [0, 0, 1, 1, 2, 2, 2, 2], "b": [0, 2, 2, 1, 1, 1, 1, 0]}


def write(path: Path, row: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.array([row] * 4, dtype=np.uint8)), str(path))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "raw" / NAME
    for case, row in TRUE.items():
        write(folder / "imagesTr" / f"{case}_0000.nii.gz", [10 * value for value in row])
        write(folder / "labelsTr" / f"{case}.nii.gz", row)
        write(tmp_path / "predicted" / f"{case}.nii.gz", PREDICTED[case])
    content = {
        "channel_names": {"0": "ultrasound"},
        "labels": {"background": 0, "EPI": [1, 2], "LV": 1},
        "regions_class_order": [2, 1],
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    manifest(folder, b=CaseLabels(("EPI",), domain="b", patient="b"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    return folder


def manifest(folder: Path, **changed: CaseLabels) -> None:
    cases = {"a": CaseLabels(("EPI", "LV"), domain="a", patient="a"), **changed}
    Manifest(cases).write(folder / MANIFEST_NAME)


def test_evaluate(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    given = ["--pred", f"m={tmp_path / 'predicted'}", "--ref", "labelsTr", "-o", str(output), "-np", "1"]
    assert main(["evaluate", "-d", "705", *given]) == 0
    with (output / "per_case.csv").open(encoding="utf-8") as file:
        dice = {(row["case"], row["class"]): float(row["dice"]) for row in csv.DictReader(file)}
    # EPI: pixels 1 to 6 against 2 to 7, five in common; pixels 1 to 5 against 1 to 6. LV: pixels 2 to 4 against 2, 3.
    # In b the ventricle is stored, but not known.
    assert dice == {
        ("a", "EPI"): pytest.approx(2 * 5 / 12),
        ("a", "LV"): pytest.approx(2 * 2 / 5),
        ("b", "EPI"): pytest.approx(2 * 5 / 11),
    }
    summary = json.loads((output / "m" / "summary.json").read_text())
    assert summary["mean"]["(1, 2)"]["Dice"] == pytest.approx((10 / 12 + 10 / 11) / 2)
    assert summary["mean"]["1"]["Dice"] == pytest.approx(4 / 5)
    assert math.isnan(summary["metric_per_case"][1]["metrics"]["1"]["Dice"])
    assert json.loads((output / "evaluation.json").read_text())["regions"] == [[1, 2], [1]]


@pytest.mark.slow
def test_report(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, file = tmp_path / "out", tmp_path / "report.html"
    given = ["--pred", f"m={tmp_path / 'predicted'}", "--ref", "labelsTr", "-o", str(output), "-np", "1"]
    assert main(["evaluate", "-d", "705", *given]) == 0
    drawn = []
    draw = overlays.draw_contour

    def draw_and_note(axes: Any, mask: Any, look: Any, line_style: str) -> None:
        drawn.append((look.color, line_style, "".join(map(str, mask[0].astype(int)))))
        draw(axes, mask, look, line_style)

    monkeypatch.setattr(overlays, "draw_contour", draw_and_note)
    assert main(["report", str(output), "-o", str(file)]) == 0
    page = file.read_text(encoding="utf-8")
    assert "0.909" in page  # EPI in domain b, 10 / 11
    colors = class_colors(["EPI", "LV"])
    # a region is all of its values: in a the epicardium is pixels 1 to 6 and, predicted, 2 to 7
    assert {one for one in drawn if one[0] == colors["EPI"]} == {
        (colors["EPI"], "dashed", "01111110"),
        (colors["EPI"], "solid", "00111111"),
        (colors["EPI"], "dashed", "01111100"),
        (colors["EPI"], "solid", "01111110"),
    }
    # the ventricle of b is not known: predicted only
    assert {one for one in drawn if one[0] == colors["LV"]} == {
        (colors["LV"], "dashed", "00111000"),
        (colors["LV"], "solid", "00110000"),
        (colors["LV"], "solid", "00011110"),
    }
    assert len([*(output / "figures").glob("overlay*.png")]) == 3  # of a both regions, of b the epicardium
    assert [*(output / "figures").glob("annotations*.png")]
    for form in ("md", "latex"):
        assert main(["report", str(output), "-o", str(tmp_path / f"report.{form}"), "--format", form]) == 0
    about = json.loads((output / "evaluation.json").read_text())
    (output / "evaluation.json").write_text(json.dumps({**about, "regions": [[1, 2]]}))
    assert main(["report", str(output), "-o", str(tmp_path / "other.html")]) == 1
    assert not (tmp_path / "other.html").exists()


def test_a_region_of_one_value_has_the_key_that_nnunet_gives_it(raw: Path, tmp_path: Path) -> None:
    content = json.loads((raw / "dataset.json").read_text())
    content["labels"] = {"background": 0, "EPI": [1, 2], "LV": [1]}
    (raw / "dataset.json").write_text(json.dumps(content))
    given = ["--pred", f"m={tmp_path / 'predicted'}", "--ref", "labelsTr", "-o", str(tmp_path / "out"), "-np", "1"]
    assert main(["evaluate", "-d", "705", *given]) == 0
    summary = json.loads((tmp_path / "out" / "m" / "summary.json").read_text())
    assert {key: of_key["Dice"] for key, of_key in summary["mean"].items()} == {
        "(1, 2)": pytest.approx((10 / 12 + 10 / 11) / 2),
        "(1,)": pytest.approx(4 / 5),
    }


def test_a_model_of_other_regions_is_refused(raw: Path, tmp_path: Path) -> None:
    models = {"m": {"a": tmp_path / "predicted" / "a.nii.gz"}}
    content = json.loads((raw / "dataset.json").read_text())
    reference = find_reference(raw, "labelsTr")
    require_same_classes(models, reference.classes, reference.regions)
    for labels, order in (
        ({"background": 0, "EPI": [1, 2], "LV": 2}, [1, 2]),
        ({"background": 0, "EPI": 1, "LV": 2}, None),
    ):
        text = json.dumps({**content, "labels": labels, "regions_class_order": order})
        (tmp_path / "predicted" / "dataset.json").write_text(text)
        with pytest.raises(PartialLabelError, match=r"m: .*EPI, LV.*other values"):
            require_same_classes(models, reference.classes, reference.regions)


def test_check_finds_what_does_not_fit(raw: Path) -> None:
    assert "content of the labels" not in check(raw).findings
    manifest(raw, b=CaseLabels(("LV",), domain="b", patient="b"))
    assert check(raw).findings["content of the labels"] == [
        "b: holds 2, in none of the regions declared as annotated: LV"
    ]
    manifest(raw, b=CaseLabels(("EPI",), absent=("LV",), domain="b", patient="b"))
    assert check(raw).findings["content of the labels"] == ["b: holds 1, but LV is declared absent"]
    write(raw / "labelsTr" / "b.nii.gz", [0, 3, 2, 2, 2, 2, 0, 0])
    (line,) = check(raw).findings["content of the labels"]
    assert line.startswith("b: the label file holds 3,")


def test_regions_that_overlap_are_no_mirror_images(raw: Path) -> None:
    files = []
    for number in range(6):
        path = raw / f"{number}.nii.gz"
        write(path, [0, 2, 1, 1, 1, 1, 2, 0])
        files.append(LabelFile(str(number), path, CaseLabels(("EPI", "LV")), ("EPI", "LV"), None, ((1, 2), (1,))))
    assert mirrored_pairs(files) == []


# Probabilities: nnU-Net's own label manager makes them, and the prediction, from drawn logits

KIND = ["--probabilities", "sigmoid"]


def predict(raw: Path, folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Logits of each case, (regions, y, x), and what nnU-Net saves of them."""
    content = json.loads((raw / "dataset.json").read_text())
    manager = LabelManager(content["labels"], content["regions_class_order"])
    logits = {}
    for number, case in enumerate(TRUE):
        logits[case] = np.random.default_rng(seed + number).normal(0, 2, (2, 4, 8)).astype(np.float32)
        probabilities = manager.apply_inference_nonlin(torch.from_numpy(logits[case][:, None]))
        values = manager.convert_probabilities_to_segmentation(probabilities).numpy()[0].astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / f"{case}.nii.gz"))
        np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities.numpy())
    return logits


def evaluate(tmp_path: Path, *options: str) -> int:
    given = ["--pred", f"m={tmp_path / 'predicted'}", "--ref", "labelsTr", "-o", str(tmp_path / "out"), "-np", "1"]
    return main(["evaluate", "-d", "705", *given, *options])


def test_calibration_is_that_of_the_sigmoids_over_what_is_known(raw: Path, tmp_path: Path) -> None:
    logits = predict(raw, tmp_path / "predicted")
    manifest(raw, b=CaseLabels(("EPI",), domain="a", patient="b"))
    assert evaluate(tmp_path, *KIND) == 0
    with (tmp_path / "out" / "calibration.csv").open(encoding="utf-8") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    known = {"EPI": (["a", "b"], {1, 2}), "LV": (["a"], {1})}
    for channel, (name, (cases, values)) in enumerate(known.items()):
        p = [1 / (1 + math.exp(-z)) for case in cases for z in logits[case][channel].ravel().tolist()]
        there = [value in values for case in cases for value in [*TRUE[case]] * 4]
        assert float(rows[name]["ece"]) == pytest.approx(plain_ece(p, there), abs=1e-6)
        assert (rows[name]["n_cases"], rows[name]["n_voxels"]) == (str(len(cases)), str(len(p)))
        assert float(rows[name]["frequency"]) == pytest.approx(sum(there) / len(there))


def test_probabilities_that_do_not_give_the_predicted_regions_are_named(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "predicted"
    predict(raw, folder)
    assert evaluate(tmp_path, "--probabilities", "softmax") == 1
    assert "Say sigmoid" in capsys.readouterr().err
    (folder / "b.npz").write_bytes((folder / "a.npz").read_bytes())  # of another case
    assert evaluate(tmp_path, *KIND) == 1
    assert "b: the probabilities of m are not" in "".join(capsys.readouterr())
    np.savez_compressed(folder / "b.npz", probabilities=np.zeros((3, 1, 4, 8), np.float32))  # a softmax over classes
    assert evaluate(tmp_path, *KIND) == 1
    assert "expected 2 channels" in "".join(capsys.readouterr())
