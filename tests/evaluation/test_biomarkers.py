"""Biomarkers out of `nnunet_partial evaluate`: who counts, by which method, and what is named instead.

Bland-Altman, mean error and correlations, by hand.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.synthetic_hearts import CLASSES, Bullet

from nnunet_partial.cli import main
from nnunet_partial.evaluation.biomarker_agreement import agreement, agreement_rows
from nnunet_partial.evaluation.records import Row

SHAPE, PIXEL, CENTER = (150, 120), (1.0, 1.0), (60.0, 60.0)
ALL = ["LV", "MYO", "LA"]

#: Half axes of the ventricle, all whole but for the base at half of the long one, by view and phase.
BIG, SMALL = (44.0, 22.0), (40.0, 16.0)


def heart(size: tuple[float, float], tilt: float = 10) -> Bullet:
    long, wide = size
    return Bullet(long, wide, long / 2, wall=8, atrium=(28, 16), tilt_deg=tilt)


@dataclass
class Clinic:
    """A data set of drawn hearts. `cases`: what is drawn; `entries`: what the manifest says."""

    root: Path
    cases: dict[str, Bullet] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: tuple[str, ...] = CLASSES

    def add(self, patient: str, view: str, phase: str, drawn: Bullet, **entry: Any) -> str:
        case = f"{patient}_{view}_{phase}{entry.pop('again', '')}"
        self.cases[case] = drawn
        known = {"annotated": ALL, "domain": "camus", "patient": patient, "view": view, "phase": phase}
        self.entries[case] = {**known, **entry}
        return case

    def add_patient(self, patient: str, views: tuple[str, ...] = ("2CH", "4CH"), **entry: Any) -> None:
        for view in views:
            self.add(patient, view, "ED", heart(BIG), **entry)
            self.add(patient, view, "ES", heart(SMALL), **entry)

    def write(self) -> None:
        for case, drawn in self.cases.items():
            labels = drawn.labels(SHAPE, PIXEL, CENTER)
            for value, name in enumerate(self.classes, start=1):
                if name not in self.entries[case]["annotated"]:
                    labels[labels == value] = 0
            self.save(self.root / "Dataset510_Echo" / "labelsTs" / f"{case}.nii.gz", labels)
        folder = self.root / "Dataset510_Echo"
        names = {name: value for value, name in enumerate(("background", *self.classes))}
        (folder / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz"}))
        (folder / "partial_labels.json").write_text(json.dumps({"version": 1, "cases": self.entries}))

    def predict(self, changed: Mapping[str, Bullet | None] | None = None, name: str = "m") -> None:
        """What is drawn, whether or not it is annotated; some hearts otherwise, or (None) not at all."""
        for case, drawn in {**self.cases, **(changed or {})}.items():
            if drawn is not None:
                self.save(self.root / name / f"{case}.nii.gz", drawn.labels(SHAPE, PIXEL, CENTER))

    def save(self, path: Path, labels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(path))

    def evaluate(self, *models: str) -> int:
        chosen = [word for name in models or ("m",) for word in ("--pred", str(self.root / name))]
        return main(["evaluate", "-d", "510", *chosen, "-o", str(self.root / "out"), "-np", "1"])

    def table(self, name: str = "biomarkers", **wanted: str) -> list[dict[str, str]]:
        with (self.root / "out" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [row for row in rows if all(row[key] == value for key, value in wanted.items())]

    def only(self, name: str = "biomarkers", **wanted: str) -> dict[str, str]:
        (row,) = self.table(name, **wanted)
        return row


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    return Clinic(tmp_path)


# ---- values ----------------------------------------------------------------------------------------------------------


def test_every_biomarker_of_a_whole_patient(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """EDV: half axes 44, 22, cut 22 below the center: pi 2.2^2 (6.6 - (2.2^3 + 4.4^3) / (3 x 4.4^2)) = 75.3 mL."""
    clinic.add_patient("p1", ef=57)
    clinic.write()
    clinic.predict()
    assert clinic.evaluate() == 0
    edv, esv = (Bullet(long, wide, long / 2).cavity_ml for long, wide in (BIG, SMALL))
    assert edv == pytest.approx(75.3, abs=0.1)
    wall = heart(BIG).outer_ml - heart(BIG).cavity_ml
    expected = {
        ("EDV", "mL", "biplane"): edv,
        ("ESV", "mL", "biplane"): esv,
        ("EF", "%", "biplane"): 100 * (1 - esv / edv),
        ("EF", "%", "reported by dataset"): 57,
        **{("LV length ED", "mm", view): 66 for view in ("2CH", "4CH")},
        **{("LV length ES", "mm", view): 60 for view in ("2CH", "4CH")},
        **{("LA area", "cm2", view): math.pi / 2 * 2.8 * 1.6 for view in ("2CH", "4CH")},
        ("LA volume", "mL", "biplane"): 2 / 3 * math.pi * 2.8 * 1.6**2,
        ("LV mass", "g", "biplane"): 1.05 * wall,
    }
    rows = clinic.table(model="m", domain="camus", patient="p1")
    found = {(row["biomarker"], row["unit"], row["method"]): row for row in rows}
    assert set(found) == {*expected, ("MYO area", "cm2", "2CH"), ("MYO area", "cm2", "4CH")}
    for what, value in expected.items():
        assert float(found[what]["reference"]) == pytest.approx(value, rel=0.025), what
    for what, row in found.items():
        assert row["problem"] == ""
        if what[2] != "reported by dataset":
            assert row["prediction"] == row["reference"]
    assert found["EF", "%", "reported by dataset"]["prediction"] == found["EF", "%", "biplane"]["prediction"]
    shown = capsys.readouterr().out
    assert "Biomarkers of patients, prediction against reference" in shown
    assert "LV length" not in shown
    assert re.search(r"m +camus +EDV +biplane +1 +7\d\.\d +7\d\.\d +mL +0\.0 +0\.0 +- +0\n", shown)


def test_one_view_makes_a_single_plane_and_says_so(clinic: Clinic) -> None:
    clinic.add_patient("p1", views=("4CH",))
    clinic.add_patient("p2", views=("2CH",))
    clinic.add("p2", "4CH", "ED", heart(BIG))  # ED alone gives a biplane EDV, but no biplane EF
    clinic.write()
    clinic.predict()
    assert clinic.evaluate() == 0
    assert {row["method"] for row in clinic.table(patient="p1", biomarker="EF")} == {"single-plane 4CH"}
    assert clinic.only(patient="p2", biomarker="EDV")["method"] == "biplane"
    assert clinic.only(patient="p2", biomarker="ESV")["method"] == "single-plane 2CH"
    assert clinic.only(patient="p2", biomarker="EF")["method"] == "single-plane 2CH"
    for method in ("single-plane 4CH", "single-plane 2CH"):
        assert clinic.only("biomarker_agreement", domain="(all)", biomarker="EF", method=method)["n"] == "1"


@pytest.mark.slow
def test_agreement_of_a_model_that_sees_too_little(clinic: Clinic) -> None:
    """ES of 40 x 19 instead of 40 x 16 mm: ESV too large by (19 / 16)^2, EF too small by the same part of 1 - EF."""
    for patient in ("p1", "p2", "p3"):
        clinic.add_patient(patient)
    clinic.write()
    larger = {case: heart((40, 19)) for case in clinic.cases if case.endswith("ES") and case[:2] != "p3"}
    clinic.predict(larger)
    clinic.predict(name="perfect")
    assert clinic.evaluate("m", "perfect") == 0
    esv = clinic.only("biomarker_agreement", model="m", domain="camus", biomarker="ESV")
    truth = Bullet(40, 16, 20).cavity_ml
    per_patient = truth * ((19 / 16) ** 2 - 1)
    assert (esv["n"], esv["n_reference"], esv["n_no_prediction"]) == ("3", "3", "0")
    assert float(esv["bias"]) == pytest.approx(2 / 3 * per_patient, rel=0.1)
    assert float(esv["mae"]) == float(esv["bias"])
    assert float(clinic.only("biomarker_agreement", model="m", domain="camus", biomarker="EF")["bias"]) < -5
    perfect = clinic.only("biomarker_agreement", model="perfect", domain="camus", biomarker="ESV")
    assert (perfect["bias"], perfect["sd"]) == ("0", "0")


# ---- known, unknown, absent ------------------------------------------------------------------------------------------


def test_unknown_structures_have_a_prediction_but_never_a_reference(clinic: Clinic) -> None:
    clinic.add_patient("p1", annotated=["LV"])
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    for biomarker in ("LA area", "LA volume", "MYO area", "LV mass"):
        for row in clinic.table(biomarker=biomarker):
            assert row["reference"] == ""
            assert float(row["prediction"]) > 0
    assert {row["biomarker"] for row in clinic.table("biomarker_agreement")} == {
        *("EDV", "ESV", "EF", "LV length ED", "LV length ES"),
    }


def test_one_unknown_picture_is_enough(clinic: Clinic) -> None:
    """The wall is not annotated in one of two views: the mass is of the other view alone, for both sides."""
    clinic.add_patient("p1")
    clinic.entries["p1_2CH_ED"]["annotated"] = ["LV", "LA"]
    clinic.entries["p1_4CH_ES"]["annotated"] = ["MYO", "LA"]
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    assert clinic.only(biomarker="LV mass")["method"] == "single-plane 4CH"
    assert clinic.only(biomarker="MYO area", method="2CH")["reference"] == ""
    assert clinic.only(biomarker="EF")["method"] == "single-plane 2CH"
    assert clinic.only(biomarker="EDV")["method"] == "biplane"
    assert clinic.only(biomarker="LA volume")["method"] == "single-plane 2CH"


def test_what_is_known_not_to_be_there_is_not_measured(clinic: Clinic) -> None:
    clinic.add_patient("p1", annotated=["LV"], absent=["LA"])
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    assert not clinic.table(biomarker="LA area")
    assert not clinic.table(biomarker="LA volume")


def test_unknown_pixel_size_gives_an_ef_of_one_view_and_nothing_in_ml(clinic: Clinic) -> None:
    clinic.add_patient("p1", annotated=["LV"], domain="echonet", spacing_known=False, ef=60.0)
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    edv, esv = (Bullet(long, wide, long / 2).cavity_ml for long, wide in (BIG, SMALL))
    ef = clinic.only(biomarker="EF", method="single-plane 4CH")
    assert float(ef["reference"]) == pytest.approx(100 * (1 - esv / edv), rel=0.02)
    assert clinic.only(biomarker="EF", method="reported by dataset")["reference"] == "60"
    volume = clinic.only(biomarker="EDV")
    assert (volume["reference"], volume["prediction"], volume["problem"]) == ("", "", "the spacing is not known")
    assert not clinic.table(biomarker="LA area")  # nobody drew it, and there is no unit for it
    assert {row["biomarker"] for row in clinic.table("biomarker_agreement")} == {"EF"}


def test_an_ef_is_not_of_mm_and_of_pixels(clinic: Clinic) -> None:
    """p1: the pixels of ES may be of any size beside those of ED; the other view, with no known size at all, counts."""
    for patient, views in (("p1", ("4CH",)), ("p2", ("4CH", "2CH"))):
        clinic.add_patient(patient, views)
        clinic.entries[f"{patient}_4CH_ES"]["spacing_known"] = False
    for phase in ("ED", "ES"):
        clinic.entries[f"p2_2CH_{phase}"]["spacing_known"] = False
    clinic.write()
    clinic.predict()
    assert clinic.evaluate() == 0
    row = clinic.only(patient="p1", biomarker="EF")
    assert (row["reference"], row["prediction"]) == ("", "")
    assert "spacing" in row["problem"]
    edv, esv = (Bullet(long, wide, long / 2).cavity_ml for long, wide in (BIG, SMALL))
    other = clinic.only(patient="p2", biomarker="EF", method="single-plane 2CH")
    assert float(other["reference"]) == pytest.approx(100 * (1 - esv / edv), rel=0.02)
    assert clinic.only("biomarker_agreement", domain="camus", biomarker="EF")["n"] == "1"


def test_an_ef_below_0_is_named(clinic: Clinic) -> None:
    """ED and ES exchanged: EF = 100 (small - big) / small = -108. The number stays; a model may be that wrong."""
    clinic.add("p1", "4CH", "ED", heart(SMALL))
    clinic.add("p1", "4CH", "ES", heart(BIG))
    clinic.write()
    clinic.predict({"p1_4CH_ES": heart(SMALL)})
    assert clinic.evaluate() == 0
    edv, esv = (Bullet(long, wide, long / 2).cavity_ml for long, wide in (SMALL, BIG))
    row = clinic.only(biomarker="EF")
    assert float(row["reference"]) == pytest.approx(100 * (1 - esv / edv), abs=208 * 0.02)  # of the quotient, 2 %
    assert (row["prediction"], row["problem"].count("exchanged")) == ("0", 1)
    assert row["problem"].startswith("reference: ESV")


def test_a_patient_seen_in_two_domains_is_one_patient(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """p1 and p2 were seen in both hospitals: four rows, two patients. In "(all)" each counts by the means of both."""
    for domain in ("a", "b"):
        for patient in ("p1", "p2"):
            for phase, size in (("ED", BIG), ("ES", SMALL)):
                clinic.add(patient, "4CH", phase, heart(size), domain=domain, again=f"_{domain}")
    clinic.write()
    clinic.predict({"p1_4CH_ES_a": heart((40, 19))})
    assert clinic.evaluate() == 0
    of_p1 = [float(row["prediction"]) - float(row["reference"]) for row in clinic.table(patient="p1", biomarker="ESV")]
    row = clinic.only("biomarker_agreement", domain="(all)", biomarker="ESV")
    assert (row["n"], row["n_reference"], row["n_no_prediction"]) == ("2", "2", "0")
    assert float(row["bias"]) == pytest.approx(sum(of_p1) / 4, rel=1e-4)  # p2: 0
    assert clinic.only("biomarker_agreement", domain="a", biomarker="ESV")["n"] == "2"
    assert re.search(r"m +\(all\) +ESV +single-plane 4CH +2 ", capsys.readouterr().out)


# ---- what goes wrong is named ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_missing_prediction_takes_the_value_not_the_method(clinic: Clinic) -> None:
    clinic.add_patient("p1")
    clinic.add_patient("p2")
    clinic.write()
    clinic.predict({"p1_2CH_ES": None})
    clinic.predict(name="whole")
    assert clinic.evaluate("m", "whole") == 1
    esv = clinic.only(model="m", patient="p1", biomarker="ESV")
    assert (esv["method"], esv["prediction"]) == ("biplane", "")
    assert esv["problem"].startswith("prediction 2CH ES: there is none")
    assert float(esv["reference"]) > 0
    row = clinic.only("biomarker_agreement", model="m", domain="camus", biomarker="ESV")
    assert (row["n"], row["n_reference"], row["n_no_prediction"]) == ("1", "2", "1")
    assert clinic.evaluate("m") == 1  # now nobody predicted it; the truth is the same
    assert clinic.only(patient="p1", biomarker="ESV") == esv
    assert clinic.only("biomarker_agreement", domain="camus", biomarker="ESV") == row


def test_a_reference_that_nobody_predicted_and_nobody_can_read_is_named(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic.add_patient("p1")
    clinic.write()
    clinic.predict({"p1_2CH_ES": None})
    (clinic.root / "Dataset510_Echo" / "labelsTs" / "p1_2CH_ES.nii.gz").write_text("no image")
    assert clinic.evaluate() == 1
    assert "p1_2CH_ES: the reference cannot be read" in capsys.readouterr().out
    esv = clinic.only(biomarker="ESV")
    assert (esv["method"], esv["reference"], esv["prediction"]) == ("biplane", "", "")
    assert re.search("reference 2CH ES: .*not be evaluated", esv["problem"])


def test_a_patient_without_any_prediction_has_no_row(clinic: Clinic) -> None:
    clinic.add_patient("p1")
    clinic.add_patient("p2")
    clinic.write()
    clinic.predict({case: None for case in clinic.cases if case.startswith("p2")})
    clinic.evaluate()
    assert {row["patient"] for row in clinic.table()} == {"p1"}


def test_an_empty_prediction_is_named(clinic: Clinic) -> None:
    clinic.add_patient("p1", ef=55)
    clinic.write()
    clinic.predict()
    clinic.save(clinic.root / "m" / "p1_4CH_ES.nii.gz", np.zeros(SHAPE, np.uint8))
    assert clinic.evaluate() == 0
    for method in ("biplane", "reported by dataset"):
        row = clinic.only(biomarker="EF", method=method)
        assert (row["prediction"], row["problem"]) == ("", "prediction 4CH ES: LV is empty")
    assert clinic.only(biomarker="LA area", method="4CH")["problem"] == "prediction 4CH ES: LA is empty"


def test_an_empty_prediction_is_named_also_where_nobody_drew_the_ventricle(clinic: Clinic) -> None:
    clinic.add_patient("p1", views=("4CH",), annotated=["LA"], ef=55)
    clinic.write()
    clinic.predict()
    clinic.save(clinic.root / "m" / "p1_4CH_ES.nii.gz", np.zeros(SHAPE, np.uint8))
    assert clinic.evaluate() == 0
    row = clinic.only(biomarker="EF")
    assert (row["method"], row["reference"], row["prediction"]) == ("reported by dataset", "55", "")
    assert row["problem"] == "prediction 4CH ES: LV is empty"


def test_two_pictures_of_one_kind_are_not_chosen_from(clinic: Clinic) -> None:
    clinic.add_patient("p1", views=("4CH",))
    clinic.add("p1", "4CH", "ED", heart(BIG), again="_b")
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    row = clinic.only(biomarker="EDV")
    assert (row["reference"], row["prediction"]) == ("", "")
    assert re.fullmatch("2 .* 4CH ED: p1_4CH_ED, p1_4CH_ED_b", row["problem"])
    assert clinic.only(biomarker="ESV")["problem"] == ""


@pytest.mark.parametrize(
    ("given", "found"),
    [((54, 55), "54, 55"), ((540, 540), "540"), (("x", "x"), "x")],
)
def test_an_ef_that_contradicts_itself_is_none(clinic: Clinic, given: tuple[object, object], found: str) -> None:
    clinic.add_patient("p1", views=("4CH",))
    for case, ef in zip(clinic.cases, given, strict=True):
        clinic.entries[case]["ef"] = ef
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    row = clinic.only(biomarker="EF", method="reported by dataset")
    assert row["reference"] == ""
    assert re.fullmatch(f"'ef' .* is {found}; expected .* 0 to 100", row["problem"])
    assert float(row["prediction"]) > 0


def test_an_ef_without_both_phases_is_named(clinic: Clinic) -> None:
    clinic.add("p1", "4CH", "ED", heart(BIG), ef=60)
    clinic.add("p1", "2CH", "ES", heart(SMALL), ef=60)
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    row = clinic.only(biomarker="EF")
    assert (row["method"], row["reference"], row["prediction"]) == ("reported by dataset", "60", "")
    assert re.fullmatch("no view .* both ED and ES", row["problem"])


def test_pixels_of_the_ignore_label_leave_no_reference(clinic: Clinic) -> None:
    clinic.add_patient("p1", views=("4CH",))
    clinic.write()
    file = clinic.root / "Dataset510_Echo" / "dataset.json"
    content = json.loads(file.read_text())
    content["labels"]["ignore"] = 4
    file.write_text(json.dumps(content))
    path = clinic.root / "Dataset510_Echo" / "labelsTs" / "p1_4CH_ED.nii.gz"
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    labels[:5] = 4
    clinic.save(path, labels)
    clinic.predict()
    clinic.evaluate()
    row = clinic.only(biomarker="EDV")
    assert row["reference"] == ""
    assert re.fullmatch("reference 4CH ED: .* ignore label", row["problem"])
    assert float(row["prediction"]) > 0
    assert clinic.only(biomarker="ESV")["problem"] == ""


# ---- nothing to measure ----------------------------------------------------------------------------------------------


def other_classes(clinic: Clinic) -> None:
    clinic.classes = ("A", "B", "C")
    for entry in clinic.entries.values():
        entry["annotated"] = ["A", "B", "C"]


def other_view(clinic: Clinic) -> None:
    for entry in clinic.entries.values():
        entry["view"] = "PSAX"


def only_an_atrium_at_the_wrong_time(clinic: Clinic) -> None:
    for entry in clinic.entries.values():
        entry.update(annotated=["LA"], absent=["LV", "MYO"], phase="ED")


def the_one_picture_was_not_predicted(clinic: Clinic) -> None:
    other_view(clinic)
    clinic.entries["p1_4CH_ED"]["view"] = "4CH"
    (clinic.root / "m" / "p1_4CH_ED.nii.gz").unlink()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (other_classes, "classes A, B, C .* LV, MYO or LA"),
        (other_view, "'view' 2CH or 4CH and 'phase' ED"),
        (only_an_atrium_at_the_wrong_time, "no patient has"),
        (the_one_picture_was_not_predicted, "apical view .* could be evaluated"),
    ],
)
def test_without_biomarkers_old_tables_go_and_it_is_said_why(
    clinic: Clinic, change: Callable[[Clinic], None], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic.add_patient("p1")
    clinic.write()
    clinic.predict()
    clinic.evaluate()
    assert clinic.table()
    assert clinic.table("biomarker_agreement")
    change(clinic)
    clinic.write()
    clinic.evaluate()
    assert re.search(f"No biomarkers: .*{why}", capsys.readouterr().out)
    assert not (clinic.root / "out" / "biomarkers.csv").exists()
    assert not (clinic.root / "out" / "biomarker_agreement.csv").exists()


def test_by_hand() -> None:
    """Differences 2, -1, 3, 0, 1: mean 1, squares of deviations 1 + 4 + 4 + 1 + 0 = 10, SD sqrt(10 / 4) = 1.5811.

    t of 4 degrees of freedom at 97.5 %: 2.7764. Bias: 1 -+ 2.7764 x 1.5811 / sqrt(5). Limits: 1 -+ 1.96 x 1.5811, each
    -+ 2.7764 x 1.5811 x sqrt(1 / 5 + 1.96^2 / 8) = 3.6205.
    """
    found = agreement([50, 60, 70, 80, 65], [52, 59, 73, 80, 66])
    assert (found.n, found.mean_reference, found.mean_prediction, found.bias, found.mae) == (5, 65, 66, 1, 1.4)
    assert found.sd == pytest.approx(1.5811, abs=1e-4)
    assert (found.bias_ci95_low, found.bias_ci95_high) == pytest.approx((1 - 1.9632, 1 + 1.9632), abs=1e-3)
    assert (found.loa_low, found.loa_high) == pytest.approx((1 - 3.0990, 1 + 3.0990), abs=1e-3)
    assert found.loa_low_ci95_low == pytest.approx(1 - 3.0990 - 3.6205, abs=2e-3)
    assert found.loa_low_ci95_high == pytest.approx(1 - 3.0990 + 3.6205, abs=2e-3)
    assert found.loa_high_ci95_low == pytest.approx(1 + 3.0990 - 3.6205, abs=2e-3)
    assert found.loa_high_ci95_high == pytest.approx(1 + 3.0990 + 3.6205, abs=2e-3)


def test_correlation_and_concordance_by_hand() -> None:
    """x deviates by -15, -5, 5, 15, 0 (squares 500), y by -14, -7, 7, 14, 0 (490), products 210 + 35 + 35 + 210 = 490.

    r = 490 / sqrt(500 x 490); Lin: 2 x 490 / 5 / (500 / 5 + 490 / 5 + 1^2). Fisher: tanh(atanh(r) -+ 1.96 / sqrt(2)).
    """
    found = agreement([50, 60, 70, 80, 65], [52, 59, 73, 80, 66])
    r = 490 / math.sqrt(500 * 490)
    assert found.pearson_r == pytest.approx(r)
    assert found.pearson_r_ci95_low == pytest.approx(math.tanh(math.atanh(r) - 1.96 / math.sqrt(2)), abs=1e-3)
    assert found.pearson_r_ci95_high == pytest.approx(math.tanh(math.atanh(r) + 1.96 / math.sqrt(2)), abs=1e-3)
    assert found.ccc == pytest.approx(196 / (100 + 98 + 1))


def test_of_four_patients_no_interval_and_no_limits() -> None:
    found = asdict(agreement([50, 60, 70, 80], [52, 59, 73, 80]))
    assert (found["n"], found["bias"], found["mae"]) == (4, 1, 1.5)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        *(name for name in found if "loa" in name or "ci95" in name),
    }
    assert found["pearson_r"] == pytest.approx(490 / math.sqrt(500 * 490))


def test_a_constant_offset_correlates_but_does_not_agree() -> None:
    found = agreement([40, 50, 60], [50, 60, 70])
    assert (found.bias, found.sd, found.pearson_r) == (10, 0, pytest.approx(1))
    assert found.ccc == pytest.approx(2 * 200 / 3 / (200 / 3 + 200 / 3 + 100))


def test_few_or_equal_numbers() -> None:
    nothing = asdict(agreement([], []))
    assert nothing.pop("n") == 0
    assert all(math.isnan(value) for value in nothing.values())
    one = agreement([50], [55])
    assert (one.n, one.bias, one.mae) == (1, 5, 5)
    assert all(math.isnan(value) for value in (one.sd, one.loa_low, one.bias_ci95_low, one.pearson_r, one.ccc))
    two = agreement([50, 60], [50, 62])
    assert (two.bias, two.sd) == (1, pytest.approx(math.sqrt(2)))
    assert math.isnan(two.pearson_r)
    flat = agreement([50, 50, 50], [49, 50, 51])
    assert math.isnan(flat.pearson_r)
    assert math.isnan(flat.ccc)


def row(domain: str, patient: str, reference: float, prediction: float, **other: str) -> Row:
    what: Row = {"model": "m", "biomarker": "EF", "unit": "%", "method": "biplane", **other}
    return {**what, "domain": domain, "patient": patient, "reference": reference, "prediction": prediction}


def test_rows_by_domain_and_method_and_who_is_left_out() -> None:
    nan = math.nan
    rows = agreement_rows(
        [
            row("a", "1", 50, 52),
            row("a", "2", 60, nan),  # no prediction: counted as such
            row("a", "3", nan, 70),  # no reference: nowhere
            row("b", "4", 40, 40),
            row("b", "4", 44, 40, method="reported by dataset"),
            row("b", "4", 90, 95, biomarker="EDV", unit="mL"),
        ]
    )
    shown = [(r["domain"], r["biomarker"], r["method"], r["n"], r["n_reference"], r["n_no_prediction"]) for r in rows]
    assert shown == [
        ("a", "EF", "biplane", 1, 2, 1),
        ("b", "EDV", "biplane", 1, 1, 0),
        ("b", "EF", "biplane", 1, 1, 0),
        ("b", "EF", "reported by dataset", 1, 1, 0),
        ("(all)", "EDV", "biplane", 1, 1, 0),
        ("(all)", "EF", "biplane", 2, 3, 1),
        ("(all)", "EF", "reported by dataset", 1, 1, 0),
    ]
    assert (rows[5]["mean_reference"], rows[5]["bias"]) == (45, 1)


def test_in_all_domains_a_patient_counts_once() -> None:
    """Patient 1: 50 / 54 and 60 / 60, so 55 / 57; 2: 40 / 40 and no prediction, so 40 / 40; 3: none at all."""
    rows = agreement_rows(
        [
            *(row("a", "1", 50, 54), row("b", "1", 60, 60), row("a", "2", 40, 40), row("b", "2", 44, math.nan)),
            *(row("a", "3", 30, math.nan), row("b", "3", 32, math.nan)),
        ]
    )
    every = {str(r["domain"]): (r["n"], r["n_reference"], r["n_no_prediction"]) for r in rows}
    assert every == {"a": (2, 3, 1), "b": (1, 3, 2), "(all)": (2, 3, 1)}
    whole = rows[-1]
    assert (whole["mean_reference"], whole["mean_prediction"], whole["bias"]) == (47.5, 48.5, 1)
