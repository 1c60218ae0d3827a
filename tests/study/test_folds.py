"""A study whose folds leave a domain out each: what is trained, which test cases count, and what is named."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.raw_datasets import Drawn, write_dataset

from nnunet_partial.cli import main
from nnunet_partial.errors import PartialLabelError, SplitError
from nnunet_partial.study import workflow
from nnunet_partial.study.config import Scenario, Study
from nnunet_partial.study.folder import StudyFolder
from nnunet_partial.study.folds import link_test_cases
from nnunet_partial.study.steps import folds_of, left_out_domains, models
from nnunet_partial.study.steps import steps as all_steps
from nnunet_partial.study.tables import is_hidden
from nnunet_partial.study.workflow import prepare_workflow

STUDY = """\
name: small
datasets: {toy: 701}
scenarios:
  - {from: toy, domain: a, missing: [LA]}
losses: [naive, complete-cases]
folds: by-domain
device: cpu
"""
NAME = "toy-a-without-LA"


def write(root: Path, domains: str, tested: str) -> None:
    """Two training patients of each domain, and a test patient of each that is tested."""
    known = {"annotated": ["LV", "LA"]}
    cases = [Drawn(f"{d}{n}", [1, 2], {**known, "domain": d, "patient": f"{d}{n}"}) for d in domains for n in (1, 2)]
    cases += [Drawn(f"{d}3", [1, 2], {**known, "domain": d, "patient": f"{d}3"}, "Ts") for d in tested]
    write_dataset(root / "raw", "Dataset701_Toy", {"LV": 1, "LA": 2}, cases)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    write(tmp_path, "abc", "abcd")
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def test_a_fold_for_each_domain(file: Path) -> None:
    study = Study.read(file)
    assert (study.by_domain, study.folds) == (True, ())
    assert left_out_domains(study, NAME) == ("a", "b", "c")
    assert folds_of(study, NAME) == (0, 1, 2)
    # domain a loses all its cases where only complete ones train, so that it cannot be left out
    assert left_out_domains(study, f"{NAME}-complete") == ("b", "c")
    prepare_workflow(study, file, assign_devices=False, save=False)
    planned = json.loads(StudyFolder(study.folder).workflow.read_text())
    assert planned["domains"] == {NAME: ["a", "b", "c"], f"{NAME}-complete": ["b", "c"]}
    of_naive, of_complete = planned["models"].values()
    assert (of_naive["folds"], of_naive["measured"]) == ([0, 1, 2], [0, 1, 2])
    assert (of_complete["folds"], of_complete["measured"]) == ([0, 1], [0, 1])
    assert planned["datasets"][NAME]["commands"].split("; ")[1] == "nnunet_partial splits -d 601 --leave-domain-out"
    trainings = [step for step in all_steps(study) if step.startswith("train/")]
    assert [step.rpartition("/")[2] for step in trainings] == ["fold0", "fold1", "fold2", "fold0", "fold1"]


@pytest.mark.slow
def test_a_domain_without_which_a_class_has_no_teacher_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_to = file.parent / "two"
    write(write_to, "ab", "ab")
    file.write_text(STUDY.replace("naive, complete-cases", "naive"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(write_to / "raw"))
        study = Study.read(file)
        assert left_out_domains(study, NAME) == ("a",)  # only b is annotated for LA
        assert main(["study", "run", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"{NAME}: no fold leaves out b" in said
    assert "LA" in said
    assert json.loads(StudyFolder(study.folder).workflow.read_text())["models"][f"{NAME}/naive/plain"]["folds"] == [0]


@pytest.mark.parametrize(
    ("domains", "tested", "said"),
    [("a", "a", "All training cases are of one domain"), ("ab", "b", "nothing could be measured")],
)
def test_no_fold_that_could_be_measured(
    file: Path, domains: str, tested: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file.parent / "other", domains, tested)
    text = STUDY.replace("naive, complete-cases", "naive")
    file.write_text(text.replace("domain: a, ", "fraction: 0.5, ") if domains == "a" else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(file.parent / "other" / "raw"))
        assert main(["study", "run", str(file), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert "line 4" in error
    assert said in error
    assert not (file.parent / "small").exists()


def edit(file: Path, **changed: dict[str, Any]) -> None:
    """Change entries of the manifest of the dataset."""
    manifest = file.parent / "raw" / "Dataset701_Toy" / "partial_labels.json"
    content = json.loads(manifest.read_text())
    for case, entry in changed.items():
        content["cases"][case].update(entry)
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"b1": {"annotated": ["LV"], "pseudo": ["LA"]}}, "filled"),
        ({"a3": {"patient": "b2"}}, "1 patient(s) have cases in imagesTr and in imagesTs: b2"),
        # without b nobody teaches LA; the folds that leave out a and c train on no other case of their patient p
        (
            {
                "a1": {"patient": "p"},
                "b1": {"patient": "p"},
                "c1": {"patient": "p", "annotated": ["LV"]},
                "c2": {"annotated": ["LV"]},
            },
            "in no fold: b1",
        ),
    ],
    ids=["filled", "test patient in training", "a case in no fold"],
)
def test_what_splits_would_refuse_or_what_leaks_stops_it_before_anything_runs(
    file: Path, changed: dict[str, dict[str, Any]], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(STUDY.replace("naive, complete-cases", "naive"))
    edit(file, **changed)
    assert main(["study", "run", str(file), "--dry-run"]) == 1
    assert said in capsys.readouterr().err
    assert not (file.parent / "small").exists()


def test_a_domain_whose_test_cases_have_no_labels_is_not_measured(file: Path) -> None:
    (file.parent / "raw" / "Dataset701_Toy" / "labelsTs" / "b3.nii.gz").unlink()
    study = Study.read(file)
    prepare_workflow(study, file, assign_devices=False, save=False)
    planned = json.loads(StudyFolder(study.folder).workflow.read_text())
    assert [of_model["measured"] for of_model in planned["models"].values()] == [[0, 2], [1]]  # a and c; c


def test_a_study_does_not_change_how_its_folds_go(file: Path) -> None:
    study = Study.read(file)
    folder = prepare_workflow(study, file, assign_devices=False, save=True)
    step = next(models(study)).train_step(0)
    folder.done(step).parent.mkdir(parents=True)
    folder.done(step).touch()
    file.write_text(STUDY.replace("by-domain", "[0]"))
    with pytest.raises(PartialLabelError, match=r"folds go.*by domain.*by patient"):
        prepare_workflow(Study.read(file), file, assign_devices=False, save=True)


def test_a_fold_that_leaves_no_domain_out_predicts_nothing(file: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "Dataset701_Toy"
    assert main(["splits", "-d", "701", "--by-patient", "--folds", "2"]) == 0
    with pytest.raises(SplitError, match="fold 0"):
        link_test_cases(raw, tmp_path / "linked", raw)
    assert not (tmp_path / "linked").exists()
    assert main(["splits", "-d", "701", "--leave-domain-out"]) == 0
    link_test_cases(raw, tmp_path / "linked", raw)
    made = {str(path.relative_to(tmp_path / "linked")) for path in (tmp_path / "linked").rglob("*.nii.gz")}
    assert made == {f"fold{k}/{d}3_0000.nii.gz" for k, d in enumerate("abc")} | {f"labelsTs/{d}3.nii.gz" for d in "abc"}


def test_what_was_hidden_from_a_fold() -> None:
    """By domain, what predicts domain a was trained on the others."""
    of_a, of_all = Scenario("toy", ("LA",), domain="a"), Scenario("toy", ("LA",))
    assert [is_hidden(of_a, domain, "LA") for domain in "ab"] == [True, False]
    assert [is_hidden(of_a, domain, "LA", by_domain=True) for domain in "ab"] == [False, True]
    assert is_hidden(of_all, "a", "LA", by_domain=True)
    assert not is_hidden(of_all, "a", "LV", by_domain=True)


#: In place of nnUNetv2_predict: the reference as prediction, and a line for each case with the fold that predicts it.
PREDICT = """\
import shutil, sys
from pathlib import Path
given = dict(zip(sys.argv[1:], sys.argv[2:]))
output = Path(given["-o"])
output.mkdir(parents=True, exist_ok=True)
for image in sorted(Path(given["-i"]).glob("*_0000.nii.gz")):
    case = image.name.removesuffix("_0000.nii.gz")
    shutil.copyfile(f"{labels}/{case}.nii.gz", output / f"{case}.nii.gz")
    with open(f"{calls}", "a") as lines:
        print(given["-d"], given["-f"], case, file=lines)
"""


def replace_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of nnU-Net's programs and our preprocessing, ones that do next to nothing; gives the file of PREDICT."""
    programs, calls = tmp_path / "bin", tmp_path / "calls.txt"
    programs.mkdir()
    script = PREDICT.replace("{labels}", str(tmp_path / "raw" / "Dataset701_Toy" / "labelsTs"))
    (programs / "predict.py").write_text(script.replace("{calls}", str(calls)))
    ours = Path(sys.executable).with_name("nnunet_partial")
    others = ("extract_fingerprint", "plan_experiment", "preprocess", "train")
    scripts = {
        "nnUNetv2_predict": f'exec {sys.executable} {programs / "predict.py"} "$@"',
        "nnunet_partial": f'case $1 in preprocess) exit 0;; esac; exec {ours} "$@"',
        **dict.fromkeys([f"nnUNetv2_{name}" for name in others], ":"),
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    exports: Any = workflow._exports
    monkeypatch.setattr(workflow, "_exports", lambda *given: f'{exports(*given)} export PATH={programs}:"$PATH"; ')
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("unlabeled", [False, True])
def test_each_test_case_is_predicted_by_the_fold_that_never_saw_its_domain(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlabeled: bool
) -> None:
    """Domain c may have no test case with a label: then nothing of it is measured, and it is named."""
    pytest.importorskip("snakemake", reason="Snakemake is not installed")
    if unlabeled:
        (tmp_path / "raw" / "Dataset701_Toy" / "labelsTs" / "c3.nii.gz").unlink()
    tested = "ab" if unlabeled else "abc"
    calls = replace_programs(tmp_path, monkeypatch)
    assert main(["study", "run", str(file), "-j", "1"]) == 0
    # trained on a, b, c: folds 0, 1, 2; on the complete cases, which are of b and c: folds 0, 1. No fold leaves out d.
    said = ["601 0 a3", "601 1 b3", "601 2 c3", "602 0 b3", "602 1 c3"]
    assert sorted(calls.read_text().splitlines()) == [line for line in said if line[-2] in tested]
    for method, domains in (("naive", "abc"), ("complete-cases", "bc")):
        table = file.parent / "small" / "evaluations" / NAME / method / "plain" / "seed0" / "per_case.csv"
        with table.open(encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        assert {row["domain"] for row in rows} == {*domains} & {*tested}
        assert {float(row["dice"]) for row in rows} == {1}
        done = StudyFolder(file.parent / "small").predicted_folds(f"predict/{NAME}/{method}/plain/seed0")
        assert done == {*range(len(domains))}
    page = (file.parent / "small" / "report.html").read_text(encoding="utf-8")
    assert "by domain" in page
    assert "b LA (hidden)" in page
    assert "a LA (hidden)" not in page
    assert ("toy: 1 test case(s) " in page) == unlabeled


@pytest.mark.slow
def test_test_cases_without_a_label_are_named_and_not_predicted(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("snakemake", reason="Snakemake is not installed")
    raw = tmp_path / "raw" / "Dataset701_Toy"
    for case in ("b3", "d3"):
        (raw / "labelsTs" / f"{case}.nii.gz").unlink()
    file.write_text(STUDY.replace("by-domain", "[0]").replace("naive, complete-cases", "naive"))
    calls = replace_programs(tmp_path, monkeypatch)
    assert main(["study", "run", str(file), "-j", "1"]) == 0
    assert re.search("NOTE: toy: 2 .*b3, d3", capfd.readouterr().out)
    assert calls.read_text().splitlines() == ["601 0 a3", "601 0 c3"]
    assert "b3, d3" in (file.parent / "small" / "report.html").read_text(encoding="utf-8")
    for label in (raw / "labelsTs").glob("*.gz"):
        label.unlink()
    assert main(["study", "run", str(file), "--dry-run"]) == 1
    assert "line 2: toy: Dataset701_Toy has no test cases" in capfd.readouterr().err
